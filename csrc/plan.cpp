#include "plan.h"

#include <cmath>
#include <exception>
#include <limits>
#include <stdexcept>

namespace {

constexpr int64_t JOB = 1 << 15;    // elements that a thread takes at a time
constexpr int64_t SMALL = 1 << 17;  // elements in a step that one thread does: others would not wake sooner
constexpr int64_t BRIEF = 1 << 19;  // and that keeps the GIL

struct Segment {
    const PlanRow* row;
    int64_t begin, end;
};

// Key of a buffer in `opt.state[p]`.
PyObject* interned(Stream s) {
    static PyObject* const names[STREAMS] = {
        nullptr, nullptr, PyUnicode_InternFromString("square_avg"),
        PyUnicode_InternFromString("grad_avg"), PyUnicode_InternFromString("momentum_buffer")};
    return names[s];
}

void prepare(PlanRow& row, const Group& group) {
    const bool wide = row.precision() == Format::float64;
    const double t = *row.step + 1;
    row.kernel = wide ? group.kernel->float64 : group.kernel->float32;
    row.coefficients = wide ? static_cast<const void*>(&group.float64) : &group.float32;
    if (row.format[P] != row.precision()) row.dice = Dice::of(group.seed, row.ordinal, uint64_t(t));
    if (!group.debias) return;
    const double debias = 1.0 / (1.0 - std::pow(group.alpha, t));
    if (!row.own) row.own.reset(new Corrected);
    *row.own = {group.float32, group.float64};
    row.own->float32.debias = float(debias);
    row.own->float64.debias = debias;
    row.coefficients = wide ? static_cast<const void*>(&row.own->float64) : &row.own->float32;
}

}  // namespace

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

int64_t Plan::check_until_answered(PyObject* param_groups, PyObject* state, int threads) {
    int64_t refused;
    do {
        refused = check_rows(param_groups, state, threads);
        PyErr_Clear();
    } while (lazy_.ask());
    return PyErr_Occurred() ? raised : refused;
}

int64_t Plan::check_rows(PyObject* param_groups, PyObject* state, int threads) {
    const int64_t refused = collect_and_place(param_groups, state, threads);
    if (refused != fine) return refused;
    total_ = 0;
    for (PlanRow* row : active_)
        if (!accept(*row)) return int64_t(row->ordinal);
    const int64_t crossed = shared_.find(active_);
    return crossed == SharedMemory::none ? fine : crossed;
}

// This thread collects rows while others, where that is worth it and tensors can be read without
// Python, already find out where they lie.
int64_t Plan::collect_and_place(PyObject* param_groups, PyObject* state, int threads) {
    constexpr int64_t chunk = 64, all = std::numeric_limits<int64_t>::max();
    held_.clear();
    active_.clear();
    active_.reserve(row_count_);  // so that no row moves while others read of it
    std::atomic<int64_t> collected{0};
    int64_t refused = other_groups;
    std::exception_ptr failed;
    const auto lead = [&] {
        try {
            refused = collect_rows(param_groups, state, collected);
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
int64_t Plan::collect_rows(PyObject* param_groups, PyObject* state, std::atomic<int64_t>& collected) {
    static PyObject* const params = PyUnicode_InternFromString("params");
    if (size_t(PyList_GET_SIZE(param_groups)) != groups_.size()) return other_groups;
    StateWalk walk(state);
    for (size_t i = 0; i < groups_.size(); ++i) {
        PyObject* list = PyDict_GetItemWithError(PyList_GET_ITEM(param_groups, Py_ssize_t(i)), params);
        if (!list || !PyList_Check(list)) return other_groups;
        if (size_t(PyList_GET_SIZE(list)) != rows_[i].size()) return other_groups;
        for (size_t j = 0; j < rows_[i].size(); ++j) {
            PlanRow& row = rows_[i][j];
            if (PyList_GET_ITEM(list, Py_ssize_t(j)) != row.parameter) return other_groups;
            if (j + 3 < rows_[i].size()) fetch_objects(rows_[i][j + 3]);
            PyObject* own = walk.of(row.parameter);
            if (row.native && !collect(row, own)) return int64_t(row.ordinal);
            collected.store(int64_t(active_.size()), std::memory_order_release);
        }
    }
    return fine;
}

bool Plan::collect(PlanRow& row, PyObject* own) {
    static PyObject* const step = PyUnicode_InternFromString("step");
    if (!torch_types.is_plain(row.parameter)) return false;
    Ref gradient(torch_types.gradient_of(row.parameter));
    if (!gradient.object) return false;
    if (gradient.object == Py_None) return true;
    if (!own || !PyDict_Check(own) || !torch_types.is_plain(gradient.object)) return false;
    row.tensor[P] = row.parameter;
    row.tensor[G] = gradient.object;
    held_.push_back(std::move(gradient));
    for (Stream s : {V, M, B}) {
        row.tensor[s] = row.group->uses(s) ? PyDict_GetItemWithError(own, interned(s)) : nullptr;
        if (row.group->uses(s) && (!row.tensor[s] || !torch_types.is_plain(row.tensor[s]))) return false;
    }
    row.step_tensor = PyDict_GetItemWithError(own, step);
    if (!row.step_tensor || !torch_types.is_plain(row.step_tensor)) return false;
    if (!reader().without_python()) {
        for (Stream s : {V, M, B}) held_.emplace_back(Py_XNewRef(row.tensor[s]));
        held_.emplace_back(Py_NewRef(row.step_tensor));
    }
    active_.push_back(&row);
    return true;
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
    if (row.laid != Laid::refused) prepare(row, *row.group);
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
    explicit Turn(Plan& plan) : plan_(plan) {
        if (plan_.stepping_) throw std::runtime_error("RMSProp: a step began within another of the same optimizer");
        plan_.stepping_ = true;
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

int64_t Plan::check(PyObject* param_groups, PyObject* state) {
    const Turn turn(*this);
    const WithoutCollection atomic;
    return check_until_answered(param_groups, state, 1);
}

PyObject* Plan::step(PyObject* param_groups, PyObject* state, int threads, PyObject* increment_version) {
    const Turn turn(*this);
    WithoutCollection atomic;
    const int64_t refused = check_until_answered(param_groups, state, threads);
    if (refused == raised) return nullptr;
    if (refused != fine) return PyLong_FromLongLong(refused);
    Ref done;
    const auto raise_versions = [&] {
        const Ref written(parameters());
        done = Ref(PyObject_CallOneArg(increment_version, written.object));
    };
    // While others begin to step, where this thread keeps the GIL and torch's own C function does it,
    // which runs no Python and fails for no tensor.
    const bool meanwhile = total_ <= BRIEF && PyCFunction_Check(increment_version);
    if (!meanwhile) {
        raise_versions();
        if (!done.object) return nullptr;
    }
    execute(threads, atomic, meanwhile ? Pool::Lead(raise_versions) : Pool::Lead());
    return done.object ? PyLong_FromLongLong(refused) : nullptr;
}

PyObject* Plan::parameters() {
    PyObject* list = PyList_New(Py_ssize_t(active_.size()));
    Py_ssize_t i = 0;
    for (PlanRow* row : active_) PyList_SET_ITEM(list, i++, Py_NewRef(row->tensor[P]));
    return list;
}

// `lead` is what this thread has to do besides, while others begin to step.
void Plan::execute(int threads, WithoutCollection& atomic, const Pool::Lead& lead) {
    std::vector<Segment> segments, in_order;
    std::vector<size_t> jobs{0};
    segments.reserve(active_.size());
    int64_t filled = 0;
    for (PlanRow* row : active_) {
        if (row->in_order) prepare(*row, *row->group);  // it may share its count with one before
        *row->step += 1;
        if (row->in_order) {
            in_order.push_back({row, 0, row->count});
            continue;
        }
        for (int64_t begin = 0; begin < row->count;) {
            const int64_t n = std::min(row->count - begin, JOB - filled);
            segments.push_back({row, begin, begin + n});
            begin += n;
            filled = (filled + n) % JOB;
            if (filled == 0) jobs.push_back(segments.size());
        }
    }
    if (jobs.back() != segments.size()) jobs.push_back(segments.size());

    const auto run = [](const Segment& s, const PlanRow* next) {
        s.row->kernel(*s.row, s.row->coefficients, s.begin, s.end, next);
    };
    const auto work = [&](int64_t job) {
        for (size_t i = jobs[size_t(job)]; i < jobs[size_t(job) + 1]; ++i)
            run(segments[i], i + 1 < segments.size() ? segments[i + 1].row : nullptr);
    };
    if (total_ > BRIEF) {
        hold();
        atomic.end();
    }
    const WithoutGil others(total_ > BRIEF);
    for (const Segment& segment : in_order) run(segment, nullptr);
    run_jobs(total_ > SMALL ? threads : 1, int64_t(jobs.size()) - 1, work, lead);
}

// Keeps every tensor of this step alive to its end (of the gradients the check does).
void Plan::hold() {
    for (PlanRow* row : active_)
        for (PyObject* tensor : row->tensor) held_.emplace_back(Py_XNewRef(tensor));
}
