#include "looks.h"

#include <algorithm>
#include <cmath>

#include "elements.h"
#include "tensors.h"

namespace {

constexpr int64_t RANKED = 256;  // as meansquare.watching.probes has them
constexpr double QUANTILES[] = {0.05, 0.25, 0.5, 0.75, 0.95};

// Whether torch does not mark it lazily as negated, as only a view into complex numbers can be: such
// a view has gaps, or one element. Runs Python where it might be one.
bool shows_what_it_holds(PyObject* tensor, const Placement& at) {
    static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
    int64_t expected = 1;
    bool contiguous = true;
    for (int d = at.ndim - 1; d >= 0; expected *= at.shape[d--])
        contiguous = contiguous && (at.shape[d] == 1 || at.strides[d] == expected);
    if (contiguous && expected != 1) return true;
    return Ref(PyObject_CallMethodNoArgs(tensor, is_neg)).object == Py_False;
}

bool is_read_here(PyObject* tensor) {
    if (!torch_types.is_plain(tensor)) return false;
    const Placement at = reader().read(tensor);
    return is_addressable(at) && shows_what_it_holds(tensor, at);
}

// Of rate/divisor, by the nearest rank, of divisors that are put in order; those that are NaN come last.
void take_quantiles(double rate, std::vector<double>& divisors, double* quantiles) {
    const auto numbers = std::partition(divisors.begin(), divisors.end(), [](double x) { return !std::isnan(x); });
    auto from = divisors.begin();
#pragma GCC unroll 1
    for (size_t k = std::size(QUANTILES); k-- > 0;) {  // a small rate has a large divisor
        const double last = double(divisors.size() - 1);
        const auto rank = divisors.begin() + std::ptrdiff_t(std::nearbyint((1 - QUANTILES[k]) * last));
        if (rank >= from && rank < numbers) {
            std::nth_element(from, rank, numbers);
            from = rank + 1;
        }
        quantiles[k] = rate / *rank;
    }
}

// What a look collects before it makes a dict of it.
struct Numbers {
    Means means;
    double rates[std::size(QUANTILES)];
    int64_t nonfinite = 0;
    bool divides = false;
};

// The keys of the dict that a look tells of one tensor.
struct Names {
    static constexpr const char* texts[] = {"rate", "eps_rules", "gradient", "update", "relative_update",
                                            "precursor", "dead", "stale", "nonfinite"};
    PyObject *names[std::size(texts)], *none;  // with None for each, to be copied: faster than to grow

    Names() : none(PyDict_New()) {
        for (size_t k = 0; k < std::size(texts); ++k) {
            names[k] = PyUnicode_InternFromString(texts[k]);
            PyDict_SetItem(none, names[k], Py_None);
        }
    }
};

PyObject* dict_of(const Numbers& numbers) {
    static const Names keys;
    const auto number = [](double x) { return Ref(PyFloat_FromDouble(x)); };
    const auto if_divides = [&](double x) { return numbers.divides ? number(x) : Ref(Py_NewRef(Py_None)); };
    const Means& x = numbers.means;
    Ref rates(numbers.divides ? PyList_New(std::size(QUANTILES)) : Py_NewRef(Py_None));
    for (size_t k = 0; numbers.divides && rates.object && k < std::size(QUANTILES); ++k)
        PyList_SET_ITEM(rates.object, Py_ssize_t(k), PyFloat_FromDouble(numbers.rates[k]));
    const double update = std::sqrt(x.update), weights = std::sqrt(x.weights);
    const Ref values[] = {std::move(rates),
                          if_divides(x.eps_rules),
                          number(std::sqrt(x.gradient)),
                          number(update),
                          weights != 0 ? number(update / weights) : Ref(Py_NewRef(Py_None)),
                          if_divides(std::sqrt(x.precursor)),
                          number(x.dead),
                          if_divides(x.stale),
                          Ref(PyLong_FromLongLong(numbers.nonfinite))};
    Ref dict(PyDict_Copy(keys.none));
    for (size_t k = 0; dict.object && k < std::size(values); ++k)
        if (!values[k].object || PyDict_SetItem(dict.object, keys.names[k], values[k].object) < 0) return nullptr;
    return std::exchange(dict.object, nullptr);
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
        if (!gradient || gradient == Py_None) return;
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
    int64_t nonfinite() const {
        int64_t count = 0;
        for (const Ref& tensor : kept) {
            const Placement at = reader().read(tensor.object);
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
    numbers.nonfinite = tensors.nonfinite();
    return true;
}

}  // namespace

Before::Before(const std::vector<PyObject*>& tensors, int64_t most) : most_(most) {
    for (PyObject* tensor : tensors) {
        Picked& weights = weights_.emplace_back();
        if (!is_read_here(tensor)) {
            PyErr_Clear();
            continue;
        }
        const Elements elements(reader().read(tensor));
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

PyObject* look(const Before& before, const std::vector<Stepped>& rows, double scale, Probe probe) {
    std::vector<Tensors> tensors;
    for (const Stepped& row : rows) tensors.emplace_back(row);
    for (Tensors& own : tensors) own.ask();
    PyErr_Clear();
    std::vector<Numbers> numbers(rows.size());
    std::vector<bool> measured(rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
        const Picked& was = before.at(i);
        measured[i] = was.count > 0 && tensors[i].all_here &&
                      measure(was, before.most(), rows[i], tensors[i], scale, probe, numbers[i]);
    }
    Ref list(PyList_New(Py_ssize_t(rows.size())));
    for (size_t i = 0; list.object && i < rows.size(); ++i) {
        const bool none = tensors[i].gradient == Py_None;
        PyObject* told = measured[i] ? dict_of(numbers[i]) : Py_NewRef(none ? Py_None : Py_False);
        if (!told) return nullptr;
        PyList_SET_ITEM(list.object, Py_ssize_t(i), told);
    }
    return std::exchange(list.object, nullptr);
}
