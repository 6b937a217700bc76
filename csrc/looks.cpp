#include "looks.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace {

constexpr int64_t RANKED = 256;  // as meansquare.watching.probes has them
constexpr double QUANTILES[] = {0.05, 0.25, 0.5, 0.75, 0.95};
static_assert(std::size(QUANTILES) == std::size(Numbers{}.rates));

// Whether torch does not mark it lazily as negated, as only a view into complex numbers can be: such
// a view has gaps, or one element and another beside it. Runs Python where it might be one.
bool shows_what_it_holds(PyObject* tensor, const Placement& at) {
    static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
    int64_t expected = 1;
    bool contiguous = true;
    for (int d = at.ndim - 1; d >= 0; expected *= at.shape[d--])
        contiguous = contiguous && (at.shape[d] == 1 || at.strides[d] == expected);
    if (at.is_alone || (contiguous && expected != 1)) return true;
    return Ref(PyObject_CallMethodNoArgs(tensor, is_neg)).object == Py_False;
}

bool is_read_here(PyObject* tensor) {
    if (!torch_types.is_plain(tensor)) return false;
    const Placement at = reader().read(tensor);
    return is_addressable(at) && shows_what_it_holds(tensor, at);
}

// Those of the numbers from `first` on that have a rank (in ascending order) come to their places, as by
// std::nth_element for each, but whether a number is less is no branch: it would be guessed wrongly for
// every other one. `spare` has room for as many.
void select(double* numbers, size_t first, size_t count, const size_t* ranks, const size_t* end, double* spare) {
    double* const own = numbers + first;
    while (ranks < end && *ranks < first) ++ranks;
    while (ranks < end && end[-1] >= first + count) --end;
    if (ranks == end) return;
    if (count <= 16) return std::sort(own, own + count);
    const auto divide = [&](auto is_front) {
        size_t front = 0, back = 0;
        for (size_t i = 0; i < count; ++i) {
            const double x = own[i];
            const bool to_front = is_front(x);
            own[front] = spare[back] = x;
            front += to_front;
            back += !to_front;
        }
        std::copy(spare, spare + back, own + front);
        return front;
    };
    const double a = own[0], b = own[count / 2], c = own[count - 1];
    const double pivot = std::max(std::min(a, b), std::min(std::max(a, b), c));
    size_t front = divide([pivot](double x) { return x < pivot; });
    if (front > 0) select(numbers, first, front, ranks, end, spare);
    if (front == 0) front = divide([pivot](double x) { return x <= pivot; });  // these are equal
    select(numbers, first + front, count - front, ranks, end, spare);
}

// Of rate/divisor, by the nearest rank, of divisors that are put in order; those that are NaN come last.
void take_quantiles(double rate, std::vector<double>& divisors, double* quantiles) {
    const auto numbers = std::partition(divisors.begin(), divisors.end(), [](double x) { return !std::isnan(x); });
    constexpr size_t last = std::size(QUANTILES) - 1;
    size_t ranks[last + 1];
    for (size_t k = 0; k <= last; ++k)  // a small rate has a large divisor
        ranks[k] = size_t(std::nearbyint((1 - QUANTILES[last - k]) * double(divisors.size() - 1)));
    std::vector<double> spare(divisors.size());
    select(divisors.data(), 0, size_t(numbers - divisors.begin()), ranks, std::end(ranks), spare.data());
    for (size_t k = 0; k <= last; ++k) quantiles[last - k] = rate / divisors[ranks[k]];
}

// The figures of one tensor between its rates and its count of what is not finite.
constexpr const char* NAMES[] = {"eps_rules", "gradient", "update", "relative_update", "precursor", "dead", "stale"};
struct Figure {
    double value;
    bool is_told;
};
using Figures = std::array<Figure, std::size(NAMES)>;

Figures figures_of(const Numbers& numbers) {
    const Means& x = numbers.means;
    const double update = std::sqrt(x.update), weights = std::sqrt(x.weights);
    const bool divides = numbers.divides;
    return {{{x.eps_rules, divides}, {std::sqrt(x.gradient), true}, {update, true}, {update / weights, weights != 0},
             {std::sqrt(x.precursor), divides}, {x.dead, true}, {x.stale, divides}}};
}

// The numbers of one tensor as a dict; null for a Python error.
PyObject* dict_of(const Numbers& numbers) {
    Ref dict(PyDict_New());
    bool fine = dict.object;
    const auto put = [&](const char* name, PyObject* value) {
        const Ref kept(value), key(PyUnicode_InternFromString(name));
        fine = fine && value && key.object && PyDict_SetItem(dict.object, key.object, value) == 0;
    };
    const auto none = [] { return Py_NewRef(Py_None); };
    PyObject* rates = numbers.divides ? PyList_New(std::size(QUANTILES)) : none();
    for (size_t k = 0; numbers.divides && rates && k < std::size(QUANTILES); ++k)
        PyList_SET_ITEM(rates, Py_ssize_t(k), PyFloat_FromDouble(numbers.rates[k]));
    put("rate", rates);
    const Figures figures = figures_of(numbers);
    for (size_t k = 0; k < figures.size(); ++k)
        put(NAMES[k], figures[k].is_told ? PyFloat_FromDouble(figures[k].value) : none());
    put("nonfinite", PyLong_FromLongLong(numbers.nonfinite));
    return fine ? std::exchange(dict.object, nullptr) : nullptr;
}

// As strict JSON: null for what is not told and what is not finite.
void append(std::string& text, double number, bool is_told = true) {
    if (!is_told || !std::isfinite(number)) {
        text += "null";
        return;
    }
#ifdef __cpp_lib_to_chars
    char digits[32];
    text.append(digits, std::to_chars(digits, std::end(digits), number).ptr);
#else
    char* digits = PyOS_double_to_string(number, 'r', 0, 0, nullptr);
    text += digits ? digits : "null";
    PyMem_Free(digits);
#endif
}

void append(std::string& text, const double* numbers, size_t count) {
    text += '[';
    for (size_t k = 0; k < count; ++k) {
        if (k) text += ',';
        append(text, numbers[k]);
    }
    text += ']';
}

void append(std::string& text, const Numbers& numbers) {
    text += "{\"rate\":";
    numbers.divides ? append(text, numbers.rates, std::size(QUANTILES)) : append(text, 0, false);
    const Figures figures = figures_of(numbers);
    for (size_t k = 0; k < figures.size(); ++k) {
        text.append(",\"").append(NAMES[k]).append("\":");
        append(text, figures[k].value, figures[k].is_told);
    }
    text.append(",\"nonfinite\":").append(std::to_string(numbers.nonfinite)).append("}");
}

// The tensors of a row, kept for as long as they are read.
struct Tensors {
    std::vector<Ref> kept;
    PyObject *gradient = nullptr, *square = nullptr, *mean = nullptr;
    bool all_here = false;

    explicit Tensors(const Stepped& row) {
        Ref grad(torch_types.gradient_of(row.parameter));
        gradient = grad.object;
        kept.push_back(std::move(grad));
        if (!gradient || gradient == Py_None || !row.state) return;
        kept.emplace_back(Py_NewRef(row.parameter));
        PyObject *name, *value;
        for (Py_ssize_t at = 0; PyDict_Next(row.state, &at, &name, &value);) {
            if (!PyUnicode_Check(name)) return;
            if (!torch_types.is_tensor(value) || PyUnicode_CompareWithASCIIString(name, "step") == 0) continue;
            kept.emplace_back(Py_NewRef(value));
            if (row.kind.square && PyUnicode_Compare(name, row.kind.square) == 0) square = value;
            if (row.kind.mean && PyUnicode_Compare(name, row.kind.mean) == 0) mean = value;
        }
        all_here = !square == !row.kind.square && !mean == !row.kind.mean;
    }
    // Runs Python.
    void ask() {
        const auto here = [](const Ref& r) { return is_read_here(r.object); };
        all_here = all_here && std::all_of(kept.begin(), kept.end(), here);
    }
    // `known` tells that there is none in what the probes read, the mean apart.
    int64_t nonfinite(PyObject* parameter, bool known) const {
        int64_t count = 0;
        for (const Ref& tensor : kept) {
            PyObject* own = tensor.object;
            if (known && (own == parameter || own == gradient || own == square)) continue;
            const Placement at = reader().read(own);
            if (is_addressable(at)) count += Elements(at).nonfinite();
        }
        return count;
    }
};

// False where the tensors have not the form that the parameter had. Runs no Python.
bool measure(const Picked& was, int64_t most, const Stepped& row, const Tensors& tensors, double scale, Probe probe,
             Numbers& numbers) {
    const Placement form = reader().read(row.parameter);
    bool fits = true;
    const auto pick = [&](PyObject* tensor) {
        if (!tensor) return Picked{};
        const Placement at = reader().read(tensor);
        Picked picked;
        if (is_addressable(at) && at.same_shape(form)) picked = Elements(at).pick(Elements(at).spacing(most), false);
        fits = fits && picked.count == was.count;
        return picked;
    };
    const Picked after = pick(row.parameter), gradient = pick(tensors.gradient);
    const Picked square = pick(tensors.square), mean = pick(tensors.mean);
    if (!fits) return false;
    const Weights weights{was.count, was.words, after.words, gradient.words, square.words, mean.words, scale};
    const int64_t apart = (was.count - 1) / RANKED + 1;
    std::vector<double> divisors(square.count ? size_t((was.count - 1) / apart + 1) : 0);
    numbers.means = probe(weights, row.kind.division, apart, divisors.data());
    numbers.divides = square.count > 0;
    if (numbers.divides) take_quantiles(row.kind.rate, divisors, numbers.rates);
    const bool are_all = Elements(form).count() == was.count;
    numbers.nonfinite = tensors.nonfinite(row.parameter, are_all && numbers.means.all_finite());
    return true;
}

}  // namespace

Before::Before(std::vector<Member> members, int64_t most) : members_(std::move(members)), most_(most) {
    for (size_t i = 0; i < size(); ++i) {
        Picked& weights = weights_.emplace_back();
        if (!is_read_here(parameter(i))) {
            PyErr_Clear();
            continue;
        }
        const Elements elements(reader().read(parameter(i)));
        if (elements.count() > 0) weights = elements.pick(elements.spacing(most), true);
    }
}

std::vector<size_t> Before::not_taken() const {
    std::vector<size_t> none;
    for (size_t i = 0; i < weights_.size(); ++i)
        if (weights_[i].count == 0) none.push_back(i);
    return none;
}

std::vector<double> Before::of(size_t i) const {
    const Picked& picked = weights_.at(i);
    std::vector<double> numbers(size_t(picked.count));
    MEANSQUARE_ISA::load(picked.words.format, picked.words.data, numbers.data(), numbers.size());
    return numbers;
}

Look::Look(const Before& before, const std::vector<Stepped>& rows, double scale, Probe probe) : numbers_(rows.size()) {
    std::vector<Tensors> tensors;
    for (const Stepped& row : rows) tensors.emplace_back(row);
    for (Tensors& own : tensors) own.ask();
    PyErr_Clear();
    for (size_t i = 0; i < rows.size(); ++i) {
        const Picked& was = before.at(i);
        const bool is_here = was.count > 0 && tensors[i].all_here &&
                             measure(was, before.most(), rows[i], tensors[i], scale, probe, numbers_[i]);
        const auto otherwise = tensors[i].gradient == Py_None ? Numbers::no_gradient : Numbers::elsewhere;
        numbers_[i].found = is_here ? Numbers::here : otherwise;
    }
}

std::vector<size_t> Look::elsewhere() const {
    std::vector<size_t> rows;
    for (size_t i = 0; i < numbers_.size(); ++i)
        if (numbers_[i].found == Numbers::elsewhere) rows.push_back(i);
    return rows;
}

std::optional<double> number_in(PyObject* tensor) {
    const Placement at = torch_types.is_plain(tensor) ? reader().read(tensor) : Placement{};
    const bool is_one = std::all_of(at.shape, at.shape + at.ndim, [](int64_t size) { return size == 1; });
    if (!is_addressable(at) || !is_one || !shows_what_it_holds(tensor, at)) return PyErr_Clear(), std::nullopt;
    double number;
    MEANSQUARE_ISA::load(at.format, at.data, &number, 1);
    return number;
}

PyObject* Look::told() const {
    Ref list(PyList_New(Py_ssize_t(numbers_.size())));
    for (size_t i = 0; list.object && i < numbers_.size(); ++i) {
        PyObject* told = numbers_[i].found == Numbers::here ? dict_of(numbers_[i]) : Py_NewRef(Py_None);
        if (!told) return nullptr;
        PyList_SET_ITEM(list.object, Py_ssize_t(i), told);
    }
    return std::exchange(list.object, nullptr);
}

std::string Look::text() const {
    std::string text = "[";
    for (const Numbers& numbers : numbers_) {
        if (text.size() > 1) text += ',';
        numbers.found == Numbers::here ? append(text, numbers) : append(text, 0, false);
    }
    return text + ']';
}

std::string text_of(const std::vector<double>& numbers) {
    std::string text;
    append(text, numbers.data(), numbers.size());
    return text;
}
