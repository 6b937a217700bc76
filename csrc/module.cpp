// The Python face of the kernels: meansquare._native.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>

#include "plan.h"

namespace nb = nanobind;

namespace {

const InstructionSet* const instruction_sets[] = {
#ifdef MEANSQUARE_X86
    &avx512::instruction_set,
    &avx2::instruction_set,
#endif
    &baseline::instruction_set,
};
const InstructionSet* chosen = nullptr;

std::vector<std::string> usable_sets() {
    std::vector<std::string> names;
    for (const InstructionSet* set : instruction_sets)
        if (set->usable()) names.emplace_back(set->name);
    return names;
}

void use_set(const std::string& name) {
    for (const InstructionSet* set : instruction_sets)
        if (name == set->name && set->usable()) {
            chosen = set;
            return;
        }
    throw std::invalid_argument("this machine has no instruction set " + name);
}

const KernelEntry* kernel_of(const std::string& key) {
    for (size_t i = 0; i < chosen->count; ++i)
        if (chosen->kernels[i].key == key) return &chosen->kernels[i];
    throw std::invalid_argument("no kernel for the rule " + key);
}

template <class T>
Coefficients<T> coefficients(const std::vector<double>& x) {
    constexpr size_t n = sizeof(Coefficients<T>) / sizeof(T);
    if (x.size() != n) throw std::invalid_argument("a rule has another number of coefficients");
    T values[n];
    for (size_t i = 0; i < n; ++i) values[i] = T(x[i]);
    return std::bit_cast<Coefficients<T>>(values);
}

std::vector<std::string> rule_keys() {
    std::vector<std::string> keys;
    for (size_t i = 0; i < chosen->count; ++i) keys.emplace_back(chosen->kernels[i].key);
    return keys;
}

std::vector<std::vector<std::pair<PyObject*, bool>>> rows_of(const nb::list& groups) {
    std::vector<std::vector<std::pair<PyObject*, bool>>> rows;
    for (nb::handle group : groups) {
        auto& own = rows.emplace_back();
        for (nb::handle row : group)
            own.emplace_back(nb::handle(row[0]).ptr(), nb::cast<bool>(row[1]));
    }
    return rows;
}

}  // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // an optimizer alive at exit is no leak
    chosen = instruction_sets[0];
    for (size_t i = 0; !chosen->usable(); ++i) chosen = instruction_sets[i + 1];

    m.def("instruction_set", [] { return chosen->name; });
    m.def("instruction_sets", usable_sets);
    m.def("use_instruction_set", use_set);
    m.def("rule_keys", rule_keys);
    m.def("connect", [](nb::type_object tensor, nb::type_object parameter, nb::object capsule,
                        nb::object describe) {
        torch_types.connect(tensor.release().ptr(), parameter.release().ptr());
        reader().use(capsule.ptr(), describe.ptr());
        return reader().direct();
    }, nb::arg("tensor"), nb::arg("parameter"), nb::arg("capsule").none(), nb::arg("describe"));

    m.def("connect_stable", [](const std::string& library, const nb::list& samples) {
        std::vector<PyObject*> tensors;
        for (nb::handle sample : samples) tensors.push_back(sample.ptr());
        return reader().use_stable(library.c_str(), tensors);
    });
    m.def("borrow_threads", [](const std::string& library) {
        torch_threads().borrow(library.c_str());
        return torch_threads().usable();
    });

    // Functions rather than methods: torch.compile breaks its graph at a function and calls it as
    // it stands, where it loses the object of an extension's method.
    nb::class_<Plan>(m, "Plan").def("__init__", [](Plan* self, const nb::list& groups) {
        new (self) Plan(rows_of(groups));
    });
    m.def("set_group", [](Plan& plan, size_t i, const std::string& key, bool centered, bool momentum,
                          bool debias, uint64_t seed, double alpha,
                          const std::vector<double>& float32, const std::vector<double>& float64) {
        plan.set_group(i, {kernel_of(key), centered, momentum, debias, alpha, seed,
                           coefficients<float>(float32), coefficients<double>(float64)});
    });
    m.def("set_elsewhere", [](Plan& plan, std::vector<std::pair<uintptr_t, uintptr_t>> spans) {
        plan.set_elsewhere(std::move(spans));
    });
    m.def("check", [](Plan& plan, const nb::list& groups, const nb::dict& state) {
        const int64_t refused = plan.check(groups.ptr(), state.ptr());
        if (refused == Plan::raised) throw nb::python_error();
        return refused;
    });
    m.def("step", [](Plan& plan, const nb::list& groups, const nb::dict& state, int threads,
                     nb::handle increment_version) {
        PyObject* refused = plan.step(groups.ptr(), state.ptr(), threads, increment_version.ptr());
        if (!refused) throw nb::python_error();
        return nb::steal(refused);
    });
}
