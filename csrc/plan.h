// The table of tensors that one call of the kernels works through, checked anew in each step.
#pragma once
#include "interpreter.h"
#include "rows.h"
#include "sharing.h"
#include "work.h"

class Plan {
public:
    // rows[i][j] is parameter j of group i, and whether it is ours.
    explicit Plan(const std::vector<std::vector<std::pair<PyObject*, bool>>>& rows);
    Plan(const Plan&) = delete;

    // Of the row with this number: its elements among those of a tensor of `whole` elements.
    void set_part(size_t ordinal, int64_t whole, Numbering numbering);
    void set_group(size_t i, Group group) { groups_.at(i) = std::move(group); }
    // Memory, from where to where in rising order, that is stepped elsewhere: rows in it are refused.
    void set_elsewhere(std::vector<std::pair<uintptr_t, uintptr_t>> spans) { elsewhere_ = std::move(spans); }
    static constexpr int64_t fine = -1, other_groups = -2, raised = -3;
    // `fine` when every native row can be stepped as it is now; else the number of the first that
    // cannot, `other_groups` when these are not the groups of the plan, or
    // `raised` with a Python error. Nothing is written.
    int64_t check(PyObject* param_groups, PyObject* state, PyObject* gradients);
    // Checks and, where all is `fine`, steps every row and counts one step. Null for a Python error.
    struct How {
        int threads;
        PyObject* increment_version;  // torch.autograd.graph's, told which parameters are written
        PyObject* gradients;          // a list by the rows' numbers, or empty: the parameters have them
        double squares;               // of gradients, for the norm
        bool squares_are_all;         // with those of the rows themselves
        double unscale;               // the factor on every gradient, where the loss was scaled
        int64_t only;                 // the number of the one row to step, or `fine` for all
        std::vector<double> measured; // by the rows' numbers, where updates were measured before
    };
    // What a step sums over its rows before it writes, by their numbers; as `step` does, it refuses.
    enum class Sum { squares, updates };
    int64_t sums(PyObject* param_groups, PyObject* state, const How& how, Sum sum, std::vector<double>& by_row);
    PyObject* step(PyObject* param_groups, PyObject* state, const How& how);
    // Of the gradients of the last step, where a group limits it.
    double norm() const { return norm_; }

private:
    class Turn;

    int64_t check_until_answered(PyObject* param_groups, PyObject* state, int threads, int64_t only);
    int64_t check_rows(PyObject* param_groups, PyObject* state, int threads, int64_t only);
    int64_t collect_and_place(PyObject* param_groups, PyObject* state, int threads, int64_t only);
    int64_t collect_rows(PyObject* param_groups, PyObject* state, int64_t only, std::atomic<int64_t>& collected);
    bool collect(PlanRow& row, PyObject* own);
    Ref gradient_of(const PlanRow& row) const;
    static void place(PlanRow& row);
    bool accept(PlanRow& row);
    bool is_elsewhere(const PlanRow& row, Stream s) const;
    static bool read_lr(PyObject* settings, Group& group);
    void execute(const How& how, WithoutCollection& atomic, const Pool::Lead& lead);
    bool limits_norm() const;
    PyObject* parameters();
    void hold();

    std::vector<Group> groups_;
    std::vector<std::vector<PlanRow>> rows_;
    std::vector<PlanRow*> active_;     // those with a gradient in this step
    PyObject* gradients_ = nullptr;    // a list of them, empty where the parameters have them
    size_t row_count_ = 0;
    PyObject* first_list_ = nullptr;   // of the first group's parameters, in this step
    int64_t total_ = 0;                // elements of this step, or the last
    double norm_ = 0;
    std::vector<std::pair<uintptr_t, uintptr_t>> elsewhere_;
    bool stepping_ = false;
    std::vector<Ref> held_;            // what has to stay alive until the end of the step
    LazyViews lazy_;
    SharedMemory shared_;
};
