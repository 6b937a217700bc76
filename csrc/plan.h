// The table of tensors that one call of the kernels works through, checked anew in each step.
#pragma once
#include <memory>
#include <unordered_map>
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

class WithoutCollection;

// Which tensors torch marks lazily as negated or conjugated: they hold other numbers than they show,
// and DLPack does not tell. To ask torch lets other Python threads run, so it is not done while rows
// are checked, but afterwards, and then they are checked once more.
class LazyViews {
public:
    // Whether it is one, as far as known.
    bool has(PyObject* tensor, bool complex) {
        const auto [place, is_new] = known_.try_emplace(tensor, Answer{Ref(), complex, false, false});
        if (is_new) place->second.tensor = Ref(Py_NewRef(tensor));
        unanswered_ = unanswered_ || is_new;
        return place->second.lazy;
    }
    // Asks of every tensor that came up; false where there was none to ask of.
    bool ask();
    void forget() { known_.clear(); }

private:
    struct Answer {
        Ref tensor;
        bool complex, lazy, asked;
    };
    std::unordered_map<PyObject*, Answer> known_;
    bool unanswered_ = false;
};

class Plan {
public:
    // rows[i][j] is parameter j of group i, and whether it is ours.
    explicit Plan(const std::vector<std::vector<std::pair<PyObject*, bool>>>& rows);
    Plan(const Plan&) = delete;

    void set_group(size_t i, const Group& group) { groups_.at(i) = group; }
    // Memory, from where to where in rising order, that is stepped elsewhere: rows in it are refused.
    void set_elsewhere(std::vector<std::pair<uintptr_t, uintptr_t>> spans) { elsewhere_ = std::move(spans); }
    static constexpr int64_t fine = -1, other_groups = -2, raised = -3;
    // `fine` when every native row can be stepped as it is now; else the number of the first that
    // cannot, `other_groups` when these are not the groups of the plan, or
    // `raised` with a Python error. Nothing is written.
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

    class Turn;

    int64_t check_until_answered(PyObject* param_groups, PyObject* state, int threads);
    int64_t check_rows(PyObject* param_groups, PyObject* state, int threads);
    int64_t collect_and_place(PyObject* param_groups, PyObject* state, int threads);
    int64_t collect_rows(PyObject* param_groups, PyObject* state, std::atomic<int64_t>& collected);
    bool collect(PlanRow& row, PyObject* own);
    static void place(PlanRow& row);
    bool accept(PlanRow& row);
    bool is_elsewhere(const PlanRow& row, Stream s) const;
    int64_t find_shared_memory();
    int64_t find_tangled();
    bool place_gradient(PlanRow& row);
    void execute(int threads, WithoutCollection& atomic, const Pool::Lead& lead);
    PyObject* parameters();
    void hold();

    std::vector<Group> groups_;
    std::vector<std::vector<PlanRow>> rows_;
    std::vector<PlanRow*> active_;     // those with a gradient in this step
    size_t row_count_ = 0;
    int64_t total_ = 0;                // elements of this step, or the last
    std::vector<std::pair<uintptr_t, uintptr_t>> elsewhere_;
    bool stepping_ = false;
    std::vector<Ref> held_;            // what has to stay alive until the end of the step
    LazyViews lazy_;
    std::vector<Write> writes_;        // what this step writes, in the order of the rows
    std::vector<Write> known_;         // the same in the last step
    std::vector<Write> sorted_;        // the same, by address
    bool any_tangled_ = false, gradients_apart_ = true;
};
