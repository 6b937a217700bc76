// The kernels of every rule, compiled once for each instruction set.
#pragma once
#include <string_view>

#include "probes.h"

// From the numbers of a step to a rule's coefficients.
using Fold = void (*)(const double* numbers, double* coefficients);

struct KernelEntry {
    const char* key;
    int buffers, numbers, coefficients;
    bool timed;  // whether the coefficients differ from one step to the next
    Fold fold;
    Kernel float32, float64;
    // Of what scales an update; null where the rule has no such measure.
    bool is_share;  // of the weights that move; else it is the square of the update's size
    int measure_coefficients;
    Fold fold_measure;
    Measure measure32, measure64;
};

struct InstructionSet {
    const char *name, *flags;  // of the compiler
    bool (*usable)();
    const KernelEntry* kernels;
    size_t count;
    Measure squares32, squares64;
    Probe probe;
};

namespace MEANSQUARE_ISA {
namespace {

template <class Rule>
constexpr KernelEntry entry(const char* key) {
    KernelEntry e{key, Rule::buffers, Rule::numbers, Rule::coefficients, Rule::timed, Rule::fold,
                  step<Rule, float>, step<Rule, double>, false, 0, nullptr, nullptr, nullptr};
    if constexpr (requires { typename Rule::measure; }) {
        using Measured = typename Rule::measure;
        e.is_share = Measured::is_share;
        e.measure_coefficients = Measured::coefficients;
        e.fold_measure = Measured::fold;
        e.measure32 = measured<Measured, float>;
        e.measure64 = measured<Measured, double>;
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
