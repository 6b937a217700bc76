// Compiled once for each instruction set, with MEANSQUARE_ISA naming it and its compiler flags.
#include "kernels.h"

#include "rules.gen.h"

namespace MEANSQUARE_ISA {
namespace {

// Moves what a rule of so many buffers moves and computes next to nothing: the floors of the benchmarks.
template <int n>
struct floor {
    static constexpr int buffers = n, numbers = 4, coefficients = 1;
    static constexpr bool timed = false;
    static void fold(const double* x, double* h) { h[0] = x[1]; }
    template <class T>
    static inline void step(const Coefficients<T, 1>& h, T& p, T g, T& s0, T& s1, T& s2) {
        if (n > 0) s0 += g;
        if (n > 1) s1 += g;
        if (n > 2) s2 += g;
        p -= h.x[0] * g;
    }
};

constexpr KernelEntry table[] = {
#define X(rule) entry<rule>(#rule),
    MEANSQUARE_RULES(X)
#undef X
    entry<floor<0>>("floor_0"), entry<floor<1>>("floor_1"), entry<floor<2>>("floor_2"), entry<floor<3>>("floor_3"),
};

bool usable() {
#if defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2");
#else
    return true;
#endif
}

}  // namespace

#define NAME_OF(isa) #isa
#define NAME(isa) NAME_OF(isa)
extern const InstructionSet instruction_set;
const InstructionSet instruction_set{NAME(MEANSQUARE_ISA), MEANSQUARE_FLAGS, usable,         table,
                                     std::size(table),     squares<float>,   squares<double>, probe};

}  // namespace MEANSQUARE_ISA
