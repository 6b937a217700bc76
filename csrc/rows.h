// A row of the plan: one parameter, its tensors in this step, and what steps them.
#pragma once
#include <memory>
#include <utility>

#include "kernels.h"
#include "tensors.h"

// What a parameter group asks for: its kernel, and the coefficients at both precisions.
struct Group {
    const KernelEntry* kernel = nullptr;
    bool centered = false, momentum = false, debias = false;
    double alpha = 0;
    uint64_t seed = 0;
    Coefficients<float> float32{};
    Coefficients<double> float64{};

    bool uses(Stream s) const { return s == M ? centered : s == B ? momentum : true; }
};

struct Corrected {
    Coefficients<float> float32;
    Coefficients<double> float64;
};

struct PlanRow : Row {
    PyObject* parameter = nullptr;  // borrowed: compared with the group's list before it is followed
    const Group* group = nullptr;
    size_t ordinal = 0;             // its number among all parameters
    bool native = true;             // false: the reference backend has it
    bool complex = false;
    bool tangled = false;           // its parameter or state shares memory with another row's
    bool in_order = false;          // so does its gradient or itself: one after the other
    Laid laid = Laid::refused;
    Kernel kernel = nullptr;
    const void* coefficients = nullptr;
    double* step = nullptr;
    PyObject *tensor[STREAMS] = {}, *step_tensor = nullptr;  // of this step
    const void* shape[STREAMS] = {};  // a place inside each tensor's own memory, to fetch it early
    std::pair<char*, char*> gradient;  // where it lay when it was last found apart from all writes
    std::unique_ptr<Corrected> own;  // coefficients for this tensor's step count
};

// torch keeps a tensor's shape within its own record, which the next rows' reads would wait for.
inline void fetch_early(const PlanRow& row) {
    constexpr int line = 64;
    for (const void* shape : row.shape)
        for (int offset = -line; shape && offset <= line; offset += line)
            __builtin_prefetch(static_cast<const char*>(shape) + offset);
}

// What the collecting of a later row will look at.
inline void fetch_objects(const PlanRow& row) {
    __builtin_prefetch(row.parameter);
    __builtin_prefetch(row.step_tensor);
    for (PyObject* tensor : row.tensor) __builtin_prefetch(tensor);
}
