// The kernels of every rule, compiled once for each instruction set.
#pragma once
#include <string_view>

#include "step.h"

struct KernelEntry {
    std::string_view key;
    Kernel float32, float64;
};

struct InstructionSet {
    const char* name;
    bool (*usable)();
    const KernelEntry* kernels;
    size_t count;
};

#define MEANSQUARE_DECLARE(isa) \
    namespace isa {             \
    extern const InstructionSet instruction_set; \
    }
MEANSQUARE_DECLARE(baseline)
#ifdef MEANSQUARE_X86
MEANSQUARE_DECLARE(avx2)
MEANSQUARE_DECLARE(avx512)
#endif
