// The kernels of every rule, compiled once for each instruction set.
#pragma once
#include <string_view>

#include "measure.h"

// From the numbers of a step to a rule's coefficients.
using Fold = void (*)(const double* numbers, double* coefficients);

struct KernelEntry {
    const char* key;
    int buffers, numbers, coefficients;
    bool timed;  // whether the coefficients differ from one step to the next
    Fold fold;
    Kernel float32, float64;
    // Of the size of an update; null where the rule has none.
    int size_coefficients;
    Fold fold_size;
    Measure size32, size64;
};

struct InstructionSet {
    const char *name, *flags;  // of the compiler
    bool (*usable)();
    const KernelEntry* kernels;
    size_t count;
    Measure squares32, squares64;
};

namespace MEANSQUARE_ISA {
namespace {

template <class Rule>
constexpr KernelEntry entry(const char* key) {
    KernelEntry e{key, Rule::buffers, Rule::numbers, Rule::coefficients, Rule::timed, Rule::fold,
                  step<Rule, float>, step<Rule, double>, 0, nullptr, nullptr, nullptr};
    if constexpr (requires { Rule::second_moment; }) {
        using UpdateSize = typename Rule::update_size;
        e.size_coefficients = UpdateSize::coefficients;
        e.fold_size = UpdateSize::fold;
        e.size32 = update_squares<UpdateSize, float, Stream(S0 + Rule::second_moment)>;
        e.size64 = update_squares<UpdateSize, double, Stream(S0 + Rule::second_moment)>;
    }
    return e;
}

}  // namespace
}  // namespace MEANSQUARE_ISA

#define MEANSQUARE_DECLARE(isa) \
    namespace isa {             \
    extern const InstructionSet instruction_set; \
    }
MEANSQUARE_DECLARE(baseline)
#ifdef MEANSQUARE_X86
MEANSQUARE_DECLARE(avx2)
MEANSQUARE_DECLARE(avx512)
#endif
