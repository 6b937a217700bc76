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
    int surprise_coefficients;
    Fold fold_surprise;
    Measure surprise32, surprise64;
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
    if constexpr (requires { Rule::surprised; }) {
        using Surprise = typename Rule::surprise;
        e.surprise_coefficients = Surprise::coefficients;
        e.fold_surprise = Surprise::fold;
        e.surprise32 = surprises<Surprise, float, Stream(S0 + Rule::surprised)>;
        e.surprise64 = surprises<Surprise, double, Stream(S0 + Rule::surprised)>;
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
