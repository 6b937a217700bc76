#include "plan.h"

#include <exception>
#include <limits>
#include <stdexcept>

Plan::Plan(const std::vector<std::vector<std::pair<PyObject*, bool>>>& rows)
    : groups_(rows.size()), rows_(rows.size()) {
    size_t ordinal = 0;
    for (size_t i = 0; i < rows.size(); ++i)
        for (const auto& [parameter, native] : rows[i]) {
            PlanRow& row = rows_[i].emplace_back();
            row.parameter = parameter;
            row.native = native;
            row.ordinal = ordinal++;
            row.group = &groups_[i];
            ++row_count_;
        }
}

int64_t Plan::check_until_answered(PyObject* param_groups, PyObject* state, int threads, int64_t only) {
    int64_t refused;
    do {
        refused = check_rows(param_groups, state, threads, only);
        PyErr_Clear();
    } while (lazy_.ask());
    return PyErr_Occurred() ? raised : refused;
}

int64_t Plan::check_rows(PyObject* param_groups, PyObject* state, int threads, int64_t only) {
    const int64_t refused = collect_and_place(param_groups, state, threads, only);
    if (refused != fine) return refused;
    total_ = 0;
    for (PlanRow* row : active_)
        if (!accept(*row)) return int64_t(row->ordinal);
    const int64_t crossed = shared_.find(active_);
    return crossed == SharedMemory::none ? fine : crossed;
}

// This thread collects rows while others, where that is worth it and tensors can be read without
// Python, already find out where they lie.
int64_t Plan::collect_and_place(PyObject* param_groups, PyObject* state, int threads, int64_t only) {
    constexpr int64_t chunk = 64, all = std::numeric_limits<int64_t>::max();
    held_.clear();
    active_.clear();
    active_.reserve(row_count_);  // so that no row moves while others read of it
    std::atomic<int64_t> collected{0};
    int64_t refused = other_groups;
    std::exception_ptr failed;
    const auto lead = [&] {
        try {
            refused = collect_rows(param_groups, state, only, collected);
        } catch (...) {
            failed = std::current_exception();
        }
        collected.store(all, std::memory_order_release);
    };
    const auto work = [&](int64_t job) {
        int64_t begin = job * chunk, end = begin + chunk, ready;
        for (int spin = 0; (ready = collected.load(std::memory_order_acquire)) < end; ++spin)
            spin < 1000 ? pause_thread() : std::this_thread::yield();
        if (ready == all) end = std::min(end, int64_t(active_.size()));
        for (PlanRow* const* row = active_.data() + begin; begin < end; ++begin, ++row) {
            if (begin + 2 < end) fetch_early(*row[2]);
            place(**row);
        }
    };
    const auto rows = int64_t(row_count_);
    const bool alone = rows < 4 * chunk || total_ <= SMALL || !reader().without_python();
    run_jobs(alone ? 1 : threads, (rows + chunk - 1) / chunk, work, lead);
    if (failed) std::rethrow_exception(failed);
    return refused;
}

// Python's part: which tensors there are, and that they are of the kinds the kernels take.
int64_t Plan::collect_rows(PyObject* param_groups, PyObject* state, int64_t only,
                           std::atomic<int64_t>& collected) {
    static PyObject* const params = PyUnicode_InternFromString("params");
    if (size_t(PyList_GET_SIZE(param_groups)) != groups_.size()) return other_groups;
    StateWalk walk(state);
    for (size_t i = 0; i < groups_.size(); ++i) {
        PyObject* settings = PyList_GET_ITEM(param_groups, Py_ssize_t(i));
        PyObject* list = PyDict_GetItemWithError(settings, params);
        if (!list || !PyList_Check(list) || !read_lr(settings, groups_[i])) return other_groups;
        if (size_t(PyList_GET_SIZE(list)) != rows_[i].size()) return other_groups;
        if (i == 0) first_list_ = list;
        for (size_t j = 0; j < rows_[i].size(); ++j) {
            PlanRow& row = rows_[i][j];
            if (PyList_GET_ITEM(list, Py_ssize_t(j)) != row.parameter) return other_groups;
            if (j + 3 < rows_[i].size()) fetch_objects(rows_[i][j + 3]);
            if (only != fine && only != int64_t(row.ordinal)) continue;
            PyObject* own = only == fine ? walk.of(row.parameter) : StateWalk::alone(state, row.parameter);
            if (row.native && !collect(row, own)) return int64_t(row.ordinal);
            collected.store(int64_t(active_.size()), std::memory_order_release);
        }
    }
    return fine;
}

// A learning rate that is a plain number is read in each step: schedules change it so often.
bool Plan::read_lr(PyObject* settings, Group& group) {
    static PyObject* const name = PyUnicode_InternFromString("lr");
    PyObject* lr = PyDict_GetItemWithError(settings, name);
    if (!lr || !PyFloat_Check(lr)) return lr;
    group.lr = PyFloat_AS_DOUBLE(lr);
    return group.lr >= 0 && group.lr < Group::none;
}

bool Plan::collect(PlanRow& row, PyObject* own) {
    static PyObject* const step = PyUnicode_InternFromString("step");
    PyObject* parameter = torch_types.plain(row.parameter, held_);
    // Only who gives the gradients knows that they are placed over the ranks as their parameters are.
    if (!parameter || (parameter != row.parameter && PyList_GET_SIZE(gradients_) == 0)) return false;
    Ref gradient = gradient_of(row);
    if (!gradient.object) return false;
    if (gradient.object == Py_None) return true;
    if (!own || !PyDict_Check(own)) return false;
    row.tensor[P] = parameter;
    row.tensor[G] = torch_types.plain(gradient.object, held_);
    if (!row.tensor[G]) return false;
    held_.push_back(std::move(gradient));
    for (Stream s : {S0, S1, S2}) {
        row.tensor[s] = row.group->uses(s) ? PyDict_GetItemWithError(own, row.group->names[size_t(s - S0)]) : nullptr;
        if (!row.group->uses(s)) continue;
        row.tensor[s] = row.tensor[s] ? torch_types.plain(row.tensor[s], held_) : nullptr;
        if (!row.tensor[s]) return false;
    }
    row.step_tensor = PyDict_GetItemWithError(own, step);
    if (!row.step_tensor || !torch_types.is_plain(row.step_tensor)) return false;
    if (!reader().without_python()) {
        for (Stream s : {S0, S1, S2}) held_.emplace_back(Py_XNewRef(row.tensor[s]));
        held_.emplace_back(Py_NewRef(row.step_tensor));
    }
    active_.push_back(&row);
    return true;
}

Ref Plan::gradient_of(const PlanRow& row) const {
    if (PyList_GET_SIZE(gradients_) == 0) return Ref(torch_types.gradient_of(row.parameter));
    PyObject* given = PyList_GetItem(gradients_, Py_ssize_t(row.ordinal));
    return Ref(Py_XNewRef(given));
}

// Where every tensor of a row lies. Without Python where the reader is.
void Plan::place(PlanRow& row) {
    row.laid = Laid::refused;
    const Placement count = reader().read(row.step_tensor);
    if (count.format != Format::float64 || count.ndim != 0 || count.complex || !count.data) return;
    row.step = reinterpret_cast<double*>(count.data);
    Placement at[STREAMS];
    for (int s = P; s < STREAMS; ++s) {
        if (!row.tensor[s]) continue;
        at[s] = reader().read(row.tensor[s]);
        row.shape[s] = at[s].shape;
        if (at[s].format == Format::unsupported) return;
    }
    row.laid = lay_out(row, at);
    row.complex = at[P].complex;
}

// Whether a row as it lies is the kernels' to step.
bool Plan::accept(PlanRow& row) {
    if (row.laid == Laid::refused) return false;
    for (int s = P; s < STREAMS; ++s) {
        if (!row.tensor[s]) continue;
        if (row.laid == Laid::otherwise && lazy_.has(row.tensor[s], row.complex)) return false;
        if (!elsewhere_.empty() && is_elsewhere(row, Stream(s))) return false;
    }
    total_ += row.count;
    return true;
}

bool Plan::is_elsewhere(const PlanRow& row, Stream s) const {
    const auto [begin, end] = span(row, s);
    const auto first = reinterpret_cast<uintptr_t>(begin), last = reinterpret_cast<uintptr_t>(end);
    const auto starts_before = [](uintptr_t at, const auto& other) { return at <= other.first; };
    const auto next = std::upper_bound(elsewhere_.begin(), elsewhere_.end(), last, starts_before);
    // Storages do not overlap each other, so that the last to begin before the end is the one.
    return row.count > 0 && next != elsewhere_.begin() && std::prev(next)->second > first;
}

// One check or step at a time; at its end what it held is let go.
class Plan::Turn {
public:
    Turn(Plan& plan, PyObject* gradients) : plan_(plan) {
        if (plan_.stepping_) throw std::runtime_error("a step began within another of the same optimizer");
        plan_.stepping_ = true;
        plan_.gradients_ = gradients;
    }
    Turn(const Turn&) = delete;
    ~Turn() {
        plan_.held_.clear();
        plan_.lazy_.forget();
        plan_.stepping_ = false;
    }

private:
    Plan& plan_;
};

int64_t Plan::check(PyObject* param_groups, PyObject* state, PyObject* gradients) {
    const Turn turn(*this, gradients);
    const WithoutCollection atomic;
    return check_until_answered(param_groups, state, 1, fine);
}

void Plan::set_part(size_t ordinal, int64_t whole, Numbering numbering) {
    for (auto& group : rows_) {
        if (ordinal < group.size()) {
            group[ordinal].whole = whole;
            group[ordinal].numbering = std::move(numbering);
            return;
        }
        ordinal -= group.size();
    }
}

int64_t Plan::sums(PyObject* param_groups, PyObject* state, const How& how, Sum sum, std::vector<double>& by_row) {
    const Turn turn(*this, how.gradients);
    const WithoutCollection atomic;
    const int64_t refused = check_until_answered(param_groups, state, how.threads, how.only);
    if (refused != fine) return refused;
    Work work(active_, total_, how.threads);
    for (Group& group : groups_) group.grad_scale = how.unscale;
    if (sum == Sum::updates && limits_norm()) work.limit_norm(std::sqrt(how.squares) * how.unscale, how.unscale);
    const std::vector<double> active = sum == Sum::squares ? work.squares_of_rows() : work.updates_of_rows();
    by_row.assign(row_count_, 0);
    for (size_t i = 0; i < active.size(); ++i) by_row[active_[i]->ordinal] = active[i];
    return fine;
}

PyObject* Plan::step(PyObject* param_groups, PyObject* state, const How& how) {
    const Turn turn(*this, how.gradients);
    WithoutCollection atomic;
    const int64_t refused = check_until_answered(param_groups, state, how.threads, how.only);
    if (refused == raised) return nullptr;
    if (refused != fine) return PyLong_FromLongLong(refused);
    Ref done;
    const auto raise_versions = [&] {
        const Ref written(parameters());
        done = Ref(PyObject_CallOneArg(how.increment_version, written.object));
    };
    // While others begin to step, where this thread keeps the GIL and torch's own C function does it,
    // which runs no Python and fails for no tensor.
    const bool meanwhile = total_ <= BRIEF && PyCFunction_Check(how.increment_version);
    if (!meanwhile) {
        raise_versions();
        if (!done.object) return nullptr;
    }
    execute(how, atomic, meanwhile ? Pool::Lead(raise_versions) : Pool::Lead());
    return done.object ? PyLong_FromLongLong(refused) : nullptr;
}

PyObject* Plan::parameters() {
    if (groups_.size() == 1 && active_.size() == row_count_) return Py_NewRef(first_list_);
    PyObject* list = PyList_New(Py_ssize_t(active_.size()));
    Py_ssize_t i = 0;
    for (PlanRow* row : active_) PyList_SET_ITEM(list, i++, Py_NewRef(row->parameter));
    return list;
}

void Plan::execute(const How& how, WithoutCollection& atomic, const Pool::Lead& lead) {
    Work work(active_, total_, how.threads);
    if (total_ > BRIEF) {
        hold();
        atomic.end();
    }
    const WithoutGil others(total_ > BRIEF);
    for (Group& group : groups_) group.grad_scale = how.unscale;
    if (limits_norm()) {
        const double squares = how.squares + (how.squares_are_all ? 0 : work.total_squares());
        norm_ = std::sqrt(squares) * how.unscale;
        work.limit_norm(norm_, how.unscale);
    }
    work.prepare(how.measured);
    work.run(lead);
}

bool Plan::limits_norm() const {
    return std::any_of(groups_.begin(), groups_.end(), [](const Group& g) { return g.max_norm < Group::none; });
}

// Keeps every tensor of this step alive to its end (of the gradients the check does).
void Plan::hold() {
    for (PlanRow* row : active_)
        for (PyObject* tensor : row->tensor) held_.emplace_back(Py_XNewRef(tensor));
}
