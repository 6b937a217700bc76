// A row of the plan: one parameter, its tensors in this step, and what steps them.
#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "groups.h"
#include "tensors.h"

struct PlanRow : Row {
    PyObject* parameter = nullptr;  // borrowed: compared with the group's list before it is followed
    Group* group = nullptr;
    size_t ordinal = 0;             // its number among all parameters
    bool native = true;             // false: the reference backend has it
    bool complex = false;
    bool tangled = false;           // its parameter or state shares memory with another row's
    bool in_order = false;          // so does its gradient or itself: one after the other
    Laid laid = Laid::refused;
    const void* coefficients = nullptr;
    double* step = nullptr;
    double t = 0;                   // number of this step, 1 for the first
    double measured = 0;            // the sum over its elements, where its group measures updates
    int64_t whole = 0;              // elements of the tensor of which this is a part, or 0 for all of it
    PyObject *tensor[STREAMS] = {}, *step_tensor = nullptr;  // of this step
    const void* shape[STREAMS] = {};  // a place inside each tensor's own memory, to fetch it early
    std::pair<char*, char*> gradient;  // where it lay when it was last found apart from all writes
    std::unique_ptr<Folded> own;    // coefficients of this tensor alone

    bool wide() const { return precision() == Format::float64; }
    Kernel kernel() const { return wide() ? group->kernel->float64 : group->kernel->float32; }
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
