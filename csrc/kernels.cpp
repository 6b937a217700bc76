// Compiled once for each instruction set, with MEANSQUARE_ISA naming it and its compiler flags.
#include "kernels.h"

namespace MEANSQUARE_ISA {
namespace {

// Moves what plain RMSProp moves and computes next to nothing: the floor of the benchmarks.
struct floor {
    static constexpr bool centered = false, momentum = false;
    template <class T>
    static inline void step(const Coefficients<T>& h, T& p, T g, T& v, T&, T&) {
        v += g;
        p -= h.lr * g;
    }
};

constexpr KernelEntry table[] = {
#define X(rule) {#rule, step<rule, float>, step<rule, double>},
    MEANSQUARE_RULES(X) X(floor)
#undef X
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
const InstructionSet instruction_set{NAME(MEANSQUARE_ISA), usable, table, std::size(table)};

}  // namespace MEANSQUARE_ISA
