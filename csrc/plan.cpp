#include "plan.h"

#include <cmath>
#include <stdexcept>
#include <unistd.h>

// Keeps garbage collection, which may run any Python code, from between a check and its step.
class WithoutCollection {
public:
    WithoutCollection() : enabled_(PyGC_Disable()) {}
    WithoutCollection(const WithoutCollection&) = delete;
    ~WithoutCollection() { end(); }
    void end() {
        if (std::exchange(enabled_, 0)) PyGC_Enable();
    }

private:
    int enabled_;
};

namespace {

constexpr int64_t JOB = 1 << 15;    // elements that a thread takes at a time
constexpr int64_t SMALL = 1 << 17;  // elements in a step that one thread does (some 0.05 ms)
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

// Lets other Python threads run while it lives.
class WithoutGil {
public:
    explicit WithoutGil(bool needed) : saved_(needed ? PyEval_SaveThread() : nullptr) {}
    WithoutGil(const WithoutGil&) = delete;
    ~WithoutGil() {
        if (!saved_) return;
        try {
            PyEval_RestoreThread(saved_);
        } catch (...) {  // Python has ended and takes its thread down: not through these frames
            for (;;) pause();
        }
    }

private:
    PyThreadState* saved_;
};

// One dimension for each of the parameter's, from its slowest to its fastest. A complex tensor has
// one more: a pair of real numbers.
std::vector<Dimension> dimensions_of(const Streams& streams) {
    const Placement& p = streams.at[P];
    std::vector<Dimension> dims;
    for (int d = 0; d < p.ndim; ++d) {
        if (p.shape[d] == 1) continue;
        Dimension& dimension = dims.emplace_back(Dimension{p.shape[d], {}});
        for (int s = P; s < STREAMS; ++s)
            if (streams.tensor[s]) dimension.stride[s] = streams.at[s].strides[d] * (p.complex ? 2 : 1);
    }
    std::stable_sort(dims.begin(), dims.end(), [](const Dimension& a, const Dimension& b) {
        return a.stride[P] > b.stride[P];
    });
    if (p.complex) dims.push_back({2, {1, 1, 1, 1, 1}});
    return dims;
}

bool overlaps_itself(const std::vector<Dimension>& dims, Stream s) {
    int64_t reach = 0;
    for (auto d = dims.rbegin(); d != dims.rend(); ++d) {
        if (d->stride[s] <= reach) return true;
        reach += (d->size - 1) * d->stride[s];
    }
    return false;
}

// Element after element, in the order of `dims`, without a gap.
bool is_dense(const std::vector<Dimension>& dims, Stream s) {
    int64_t expected = 1;
    for (auto d = dims.rbegin(); d != dims.rend(); expected *= d++->size)
        if (d->stride[s] != expected) return false;
    return true;
}

// Neighbouring dimensions that every stream walks as one become one.
void coalesce(std::vector<Dimension>& dims) {
    size_t kept = 0;
    for (size_t d = 1; d < dims.size(); ++d) {
        Dimension& outer = dims[kept];
        const auto joins = [&](int64_t far, int64_t near) { return far == near * dims[d].size; };
        if (std::equal(outer.stride, outer.stride + STREAMS, dims[d].stride, joins)) {
            const int64_t size = outer.size * dims[d].size;
            outer = dims[d];
            outer.size = size;
        } else {
            dims[++kept] = dims[d];
        }
    }
    if (!dims.empty()) dims.resize(kept + 1);
}

bool all_contiguous(const Streams& streams) {
    const Placement& p = streams.at[P];
    int64_t expected = 1;
    for (int d = p.ndim - 1; d >= 0; expected *= p.shape[d--])
        for (int s = P; s < STREAMS && p.shape[d] != 1; ++s)
            if (streams.tensor[s] && streams.at[s].strides[d] != expected) return false;
    return true;
}

bool is_addressable(const Row& row, Stream s) {
    const auto address = reinterpret_cast<uintptr_t>(row.data[s]);
    return address && address % size_t(size_of(row.format[s])) == 0;
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

// Looks up the state of one parameter after another; fast while they come in the order of the dict.
// By identity, as torch compares them, but without their hash, which is Python code.
class StateWalk {
public:
    explicit StateWalk(PyObject* state) : state_(state) { advance(); }

    PyObject* of(PyObject* parameter) {
        PyObject* own = value_;
        if (parameter != key_) return find(parameter);
        advance();
        return own;
    }

private:
    void advance() {
        if (!PyDict_Next(state_, &at_, &key_, &value_)) key_ = nullptr;
    }
    PyObject* find(PyObject* parameter) {
        PyObject *key, *value;
        for (Py_ssize_t at = 0; places_.empty() && PyDict_Next(state_, &at, &key, &value);) {
            do places_[key] = value;
            while (PyDict_Next(state_, &at, &key, &value));
        }
        const auto place = places_.find(parameter);
        return place == places_.end() ? nullptr : place->second;
    }

    PyObject *state_, *key_ = nullptr, *value_ = nullptr;
    Py_ssize_t at_ = 0;
    std::unordered_map<PyObject*, PyObject*> places_;
};

// torch keeps a tensor's shape within its own record, which the next rows' reads would wait for.
void fetch_early(const PlanRow& row) {
    constexpr int line = 64;
    for (const void* shape : row.shape)
        for (int offset = -line; shape && offset <= line; offset += line)
            __builtin_prefetch(static_cast<const char*>(shape) + offset);
}

std::pair<char*, char*> span(const PlanRow& row, Stream s) {
    int64_t last = row.dimensions.empty() ? row.count - 1 : 0;
    for (const Dimension& d : row.dimensions) last += (d.size - 1) * d.stride[s];
    return {row.data[s], row.data[s] + (last + 1) * size_of(row.format[s])};
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
        }
}

bool LazyViews::ask() {
    static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
    static PyObject* const is_conj = PyUnicode_InternFromString("is_conj");
    if (!std::exchange(unanswered_, false)) return false;
    for (auto& [tensor, answer] : known_) {
        if (std::exchange(answer.asked, true)) continue;
        const auto says = [of = tensor](PyObject* method) {
            return Ref(PyObject_CallMethodNoArgs(of, method)).object == Py_True;
        };
        answer.lazy = says(is_neg) || (answer.complex && says(is_conj));
    }
    return true;
}

int64_t Plan::check_until_answered(PyObject* param_groups, PyObject* state) {
    int64_t refused;
    do refused = check_rows(param_groups, state);
    while (lazy_.ask());
    PyErr_Clear();
    return refused;
}

int64_t Plan::check_rows(PyObject* param_groups, PyObject* state) {
    static PyObject* const params = PyUnicode_InternFromString("params");
    held_.clear();
    writes_.clear();
    active_ = 0;
    gradients_apart_ = true;
    if (size_t(PyList_GET_SIZE(param_groups)) != groups_.size()) return other_groups;
    StateWalk walk(state);
    for (size_t i = 0; i < groups_.size(); ++i) {
        PyObject* list = PyDict_GetItemWithError(PyList_GET_ITEM(param_groups, Py_ssize_t(i)), params);
        if (!list || !PyList_Check(list)) return other_groups;
        if (size_t(PyList_GET_SIZE(list)) != rows_[i].size()) return other_groups;
        for (size_t j = 0; j < rows_[i].size(); ++j) {
            PlanRow& row = rows_[i][j];
            PyObject* parameter = PyList_GET_ITEM(list, Py_ssize_t(j));
            if (parameter != row.parameter) return other_groups;
            if (j + 2 < rows_[i].size()) fetch_early(rows_[i][j + 2]);
            PyObject* own = walk.of(parameter);
            if (!row.native) continue;
            if (!check_row(row, parameter, groups_[i], own)) return int64_t(row.ordinal);
            if (row.active) prepare(row, groups_[i]);
        }
    }
    return find_shared_memory();
}

bool Plan::check_row(PlanRow& row, PyObject* parameter, const Group& group, PyObject* own) {
    row.active = false;
    if (!is_plain(parameter)) return false;
    Ref gradient(gradient_of(parameter));
    if (!gradient.object) return false;
    if (gradient.object == Py_None) return true;

    Streams streams;
    streams.tensor[G] = gradient.object;
    held_.push_back(std::move(gradient));
    if (!own || !PyDict_Check(own) || !read_step(row, own)) return false;
    if (!read_streams(row, streams, parameter, group, own) || !lay_out(row, streams)) return false;

    for (int s = P; s < STREAMS && !elsewhere_.empty(); ++s)
        if (streams.tensor[s] && is_elsewhere(row, Stream(s))) return false;

    row.active = true;
    ++active_;
    row.in_order = row.tangled;
    gradients_apart_ = gradients_apart_ && row.gradient == span(row, G);
    std::copy(streams.tensor, streams.tensor + STREAMS, row.tensor);
    for (Stream s : {P, V, M, B}) {
        if (!streams.tensor[s]) continue;
        const auto [begin, end] = span(row, s);
        if (row.count > 0) writes_.push_back({begin, end, &row});
    }
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

bool Plan::read_step(PlanRow& row, PyObject* own) {
    static PyObject* const step = PyUnicode_InternFromString("step");
    PyObject* count = PyDict_GetItemWithError(own, step);
    if (!count || !is_plain(count)) return false;
    const Placement at = reader().read(count);
    if (at.format != Format::float64 || at.ndim != 0 || at.complex || !at.data) return false;
    row.step = reinterpret_cast<double*>(at.data);
    return true;
}

// Where every tensor of a row lies; false for one that is missing, of another kind or shape.
bool Plan::read_streams(PlanRow& row, Streams& streams, PyObject* parameter, const Group& group, PyObject* own) {
    streams.tensor[P] = parameter;
    for (Stream s : {V, M, B})
        if (s == V || (s == M ? group.centered : group.momentum)) {
            streams.tensor[s] = PyDict_GetItemWithError(own, interned(s));
            if (!streams.tensor[s]) return false;
        }
    for (int s = P; s < STREAMS; ++s) {
        if (!streams.tensor[s]) continue;
        if (!is_plain(streams.tensor[s])) return false;
        streams.at[s] = reader().read(streams.tensor[s]);
        row.shape[s] = streams.at[s].shape;
        if (streams.at[s].format == Format::unsupported) return false;
        if (!streams.at[s].same_shape(streams.at[P])) return false;
    }
    return true;
}

// Fills the row's pointers, count and dimensions. False for what the kernels must not touch: no
// memory or an address between two elements, an element in two places, a lazy view, or state laid
// out otherwise than its parameter.
bool Plan::lay_out(PlanRow& row, const Streams& streams) {
    const Placement& p = streams.at[P];
    const Format precision = p.format == Format::float64 ? Format::float64 : Format::float32;
    row.count = p.complex ? 2 : 1;
    for (int d = 0; d < p.ndim; ++d) row.count *= p.shape[d];
    for (int s = P; s < STREAMS; ++s) {
        const bool used = streams.tensor[s];
        row.data[s] = streams.at[s].data;
        row.format[s] = streams.at[s].format;
        if (used && row.count > 0 && !is_addressable(row, Stream(s))) return false;
        if (used && s >= V && row.format[s] != precision) return false;
    }
    row.dimensions.clear();
    if (row.count == 0) return true;
    const bool contiguous = all_contiguous(streams);
    if (!contiguous || row.count == 1 || p.complex)
        for (int s = P; s < STREAMS; ++s)
            if (streams.tensor[s] && lazy_.has(streams.tensor[s], p.complex)) return false;
    if (contiguous) return true;

    row.dimensions = dimensions_of(streams);
    for (Stream s : {P, V, M, B}) {
        if (!streams.tensor[s]) continue;
        if (overlaps_itself(row.dimensions, s)) return false;
        if (is_dense(row.dimensions, P) && !is_dense(row.dimensions, s)) return false;
    }
    bool dense = true;
    for (int s = P; s < STREAMS; ++s)
        dense = dense && (!streams.tensor[s] || is_dense(row.dimensions, Stream(s)));
    dense ? row.dimensions.clear() : coalesce(row.dimensions);
    return true;
}

template <class Visit>
void Plan::each_active(Visit visit) {
    for (auto& rows : rows_)
        for (PlanRow& row : rows)
            if (row.native && row.active) visit(row);
}

// Marks the rows that must be stepped one after the other, because one writes what another reads
// or writes. Returns the row whose gradient lies across its own parameter or state, or `fine`.
int64_t Plan::find_shared_memory() {
    if (writes_ != known_) {
        find_tangled();
        gradients_apart_ = false;
    }
    if (gradients_apart_) return fine;
    int64_t crossed = fine;
    each_active([&](PlanRow& row) {
        if (!place_gradient(row)) crossed = int64_t(row.ordinal);
    });
    return crossed;
}

void Plan::find_tangled() {
    known_ = writes_;
    sorted_ = writes_;
    std::sort(sorted_.begin(), sorted_.end(), [](const Write& a, const Write& b) { return a.begin < b.begin; });
    any_tangled_ = false;
    each_active([](PlanRow& row) {
        row.tangled = false;
        row.gradient = {};
    });
    const Write* reach = nullptr;  // of the writes so far, the one that ends last
    for (const Write& next : sorted_) {
        if (reach && reach->end > next.begin)
            any_tangled_ = reach->row->tangled = next.row->tangled = true;
        if (!reach || next.end > reach->end) reach = &next;
    }
    each_active([](PlanRow& row) { row.in_order = row.tangled; });
}

// A gradient may be its own parameter, element by element. Where it touches memory that another
// row writes, both rows are stepped in order.
bool Plan::place_gradient(PlanRow& row) {
    const auto [begin, end] = span(row, G);
    if (row.gradient == std::pair(begin, end)) return true;
    row.gradient = {};
    auto next = std::upper_bound(sorted_.begin(), sorted_.end(), end - 1,
                                 [](const char* at, const Write& write) { return at < write.begin; });
    while (row.count > 0 && next != sorted_.begin()) {
        const Write& write = *--next;
        if (write.end > begin) {
            const bool itself = write.row == &row;
            if (itself && (row.data[G] != row.data[P] || !row.dimensions.empty())) return false;
            if (!itself) row.in_order = write.row->in_order = true;
        }
        if (!any_tangled_ && write.end <= begin) break;
    }
    if (!row.in_order) row.gradient = {begin, end};
    return true;
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
    return check_until_answered(param_groups, state);
}

PyObject* Plan::step(PyObject* param_groups, PyObject* state, int threads, PyObject* increment_version) {
    const Turn turn(*this);
    WithoutCollection atomic;
    const int64_t refused = check_until_answered(param_groups, state);
    if (refused == fine) {
        const Ref written(parameters());
        const Ref done(PyObject_CallOneArg(increment_version, written.object));
        if (!done.object) return nullptr;
        execute(threads, atomic);
    }
    return PyLong_FromLongLong(refused);
}

PyObject* Plan::parameters() {
    PyObject* list = PyList_New(active_);
    Py_ssize_t i = 0;
    each_active([&](PlanRow& row) { PyList_SET_ITEM(list, i++, Py_NewRef(row.tensor[P])); });
    return list;
}

void Plan::execute(int threads, WithoutCollection& atomic) {
    std::vector<Segment> segments, in_order;
    std::vector<size_t> jobs{0};
    segments.reserve(writes_.size());
    int64_t filled = 0, total = 0;
    each_active([&](PlanRow& row) {
        *row.step += 1;
        total += row.count;
        if (row.in_order) return in_order.push_back({&row, 0, row.count});
        for (int64_t begin = 0; begin < row.count;) {
            const int64_t n = std::min(row.count - begin, JOB - filled);
            segments.push_back({&row, begin, begin + n});
            begin += n;
            filled = (filled + n) % JOB;
            if (filled == 0) jobs.push_back(segments.size());
        }
    });
    if (jobs.back() != segments.size()) jobs.push_back(segments.size());

    const auto run = [](const Segment& s, const PlanRow* next) {
        s.row->kernel(*s.row, s.row->coefficients, s.begin, s.end, next);
    };
    const auto work = [&](int64_t job) {
        for (size_t i = jobs[size_t(job)]; i < jobs[size_t(job) + 1]; ++i)
            run(segments[i], i + 1 < segments.size() ? segments[i + 1].row : nullptr);
    };
    if (total > BRIEF) {
        hold();
        atomic.end();
    }
    const WithoutGil others(total > BRIEF);
    for (const Segment& segment : in_order) run(segment, nullptr);
    run_jobs(total > SMALL ? threads : 1, int64_t(jobs.size()) - 1, work);
}

// Keeps every tensor of this step alive to its end (of the gradients the check does).
void Plan::hold() {
    each_active([&](PlanRow& row) {
        for (PyObject* tensor : row.tensor) held_.emplace_back(Py_XNewRef(tensor));
    });
}
