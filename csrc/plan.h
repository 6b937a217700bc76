// The table of tensors that one call of the kernels works through, checked anew in each step.
#pragma once
#include <memory>
#include <utility>

#include "kernels.h"
#include "tensors.h"
#include "threads.h"

// What a parameter group asks for: its kernel, and the coefficients at both precisions.
struct Group {
    const KernelEntry* kernel = nullptr;
    bool centered = false, momentum = false, debias = false;
    double alpha = 0;
    uint64_t seed = 0;
    Coefficients<float> float32{};
    Coefficients<double> float64{};
};

// The tensors of a row as Python holds them (null where the rule has no such stream).
struct Streams {
    PyObject* tensor[STREAMS] = {};
    Placement at[STREAMS];
};

struct Corrected {
    Coefficients<float> float32;
    Coefficients<double> float64;
};

struct PlanRow : Row {
    PyObject* parameter = nullptr;  // borrowed: compared with the group's list, never followed
    bool native = true;             // false: the reference backend has it
    bool active = false;            // has a gradient in this step
    size_t ordinal = 0;             // its number among all parameters
    bool tangled = false;           // its parameter or state shares memory with another row's
    bool in_order = false;          // so does its gradient or itself: one after the other
    Kernel kernel = nullptr;
    const void* coefficients = nullptr;
    Ref step_tensor, step_memory;   // the count's tensor, and one that keeps its memory alive
    double* step = nullptr;
    PyObject* tensor[STREAMS] = {};  // borrowed: as of the check, which the same call steps
    const void* shape[STREAMS] = {};  // a place inside each tensor's own memory, to fetch it early
    std::pair<char*, char*> gradient;  // where it lay when it was last found apart from all writes
    std::unique_ptr<Corrected> own;  // coefficients for this tensor's step count
};

class Plan {
public:
    // rows[i][j] is parameter j of group i, and whether it is ours.
    explicit Plan(const std::vector<std::vector<std::pair<PyObject*, bool>>>& rows);
    Plan(const Plan&) = delete;

    void set_group(size_t i, const Group& group) { groups_.at(i) = group; }
    static constexpr int64_t fine = -1, other_groups = -2;
    // `fine` when every native row can be stepped as it is now; else the number of the first that
    // cannot, or `other_groups` when these are not the groups of the plan. Nothing is written.
    int64_t check(PyObject* param_groups, PyObject* state);
    // Checks and, where all is `fine`, steps every row and counts one step. `increment_version`
    // (torch.autograd.graph's) is told which parameters are written. Null for a Python error.
    PyObject* step(PyObject* param_groups, PyObject* state, int threads, PyObject* increment_version);

private:
    struct Write {
        char *begin, *end;
        PlanRow* row;
        bool operator==(const Write&) const = default;
    };

    bool check_row(PlanRow& row, PyObject* parameter, const Group& group, PyObject* own);
    int64_t find_shared_memory();
    void find_tangled();
    bool place_gradient(PlanRow& row);
    template <class Visit>
    void each_active(Visit visit);

    std::vector<Group> groups_;
    std::vector<std::vector<PlanRow>> rows_;
    void execute(int threads);
    PyObject* parameters();
    std::vector<Ref> hold();

    std::vector<Write> writes_;        // what this step writes, in the order of the rows
    std::vector<Write> known_;         // the same in the last step
    std::vector<Write> sorted_;        // the same, by address
    Py_ssize_t active_ = 0;
    bool any_tangled_ = false, gradients_apart_ = true;
};

TensorReader& reader();
PyObject* gradient_of(PyObject* parameter);  // a new reference, or null
// The exact Python types that the kernels take: torch.Tensor and torch.nn.Parameter.
bool is_plain(PyObject* tensor);
