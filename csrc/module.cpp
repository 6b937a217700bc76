// The Python face of the kernels: meansquare._native.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <stdexcept>
#include <string>

#include "kinds.h"
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

// Rules that users wrote, each from a library of its own.
std::map<std::string, const KernelEntry*, std::less<>> loaded;

const KernelEntry* find_kernel(const std::string& key) {
    for (size_t i = 0; i < chosen->count; ++i)
        if (key == chosen->kernels[i].key) return &chosen->kernels[i];
    const auto own = loaded.find(key);
    return own == loaded.end() ? nullptr : own->second;
}

// Takes a rule that was compiled with these headers; empty, or why it cannot be had.
std::string load_rule(const std::string& key, const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    const auto* entry = library ? static_cast<const KernelEntry*>(dlsym(library, "meansquare_rule")) : nullptr;
    if (!entry || entry->coefficients > MOST || entry->numbers > MOST || entry->measure_coefficients > MOST) {
        const std::string why = entry ? "the rule has too many numbers" : dlerror();
        if (library) dlclose(library);
        return why;
    }
    loaded[key] = entry;
    return "";
}

Group group_of(const std::string& key, const std::vector<std::string>& names, uint64_t seed, double lr,
               double max_norm, double norm_eps, double max_update, const std::vector<double>& float32,
               const std::vector<double>& float64) {
    Group group;
    group.set = chosen;
    group.kernel = find_kernel(key);
    if (!group.kernel) throw std::invalid_argument("no kernel for the rule " + key);
    const size_t wanted = size_t(group.kernel->numbers - RUNTIME), buffers = size_t(group.kernel->buffers);
    if (float32.size() != wanted || float64.size() != wanted || names.size() != buffers)
        throw std::invalid_argument("the rule " + key + " has other numbers or buffers");
    if (max_update < Group::none && !group.kernel->fold_measure)
        throw std::invalid_argument("the rule " + key + " has no size of an update");
    for (const std::string& name : names) group.names.push_back(PyUnicode_InternFromString(name.c_str()));
    group.seed = seed;
    group.lr = lr;
    group.max_norm = max_norm;
    group.norm_eps = norm_eps;
    group.max_update = max_update;
    std::copy(float32.begin(), float32.end(), group.numbers[0] + RUNTIME);
    std::copy(float64.begin(), float64.end(), group.numbers[1] + RUNTIME);
    return group;
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
    m.def("compile_flags", [] { return chosen->flags; });
    m.def("headers", [] { return MEANSQUARE_HEADERS; });
    m.def("connect", [](nb::type_object tensor, nb::type_object parameter, nb::object capsule,
                        nb::object describe) {
        torch_types.connect(tensor.release().ptr(), parameter.release().ptr());
        reader().use(capsule.ptr(), describe.ptr());
        return reader().direct();
    }, nb::arg("tensor"), nb::arg("parameter"), nb::arg("capsule").none(), nb::arg("describe"));

    m.def("connect_distributed", [](nb::type_object kind, nb::object part) {
        torch_types.connect_distributed(kind.release().ptr(), part.release().ptr());
    });
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
    m.def("has_rule", [](const std::string& key) { return find_kernel(key) != nullptr; });
    m.def("load_rule", load_rule);
    m.def("set_group", [](Plan& plan, size_t i, const std::string& key, const std::vector<std::string>& names,
                          uint64_t seed, double lr, double max_norm, double norm_eps, double max_update,
                          const std::vector<double>& float32, const std::vector<double>& float64) {
        plan.set_group(i, group_of(key, names, seed, lr, max_norm, norm_eps, max_update, float32, float64));
    });
    m.def("set_elsewhere", [](Plan& plan, std::vector<std::pair<uintptr_t, uintptr_t>> spans) {
        plan.set_elsewhere(std::move(spans));
    });
    m.def("set_part", [](Plan& plan, size_t ordinal, int64_t whole, int64_t first,
                         const std::vector<std::pair<int64_t, int64_t>>& levels) {
        Numbering numbering{first, {}};
        for (const auto& [size, stride] : levels) numbering.levels.push_back({size, stride});
        plan.set_part(ordinal, whole, std::move(numbering));
    });
    m.def("check", [](Plan& plan, const nb::list& groups, const nb::dict& state, const nb::list& gradients) {
        const int64_t refused = plan.check(groups.ptr(), state.ptr(), gradients.ptr());
        if (refused == Plan::raised) throw nb::python_error();
        return refused;
    });
    // The sums, or the number that `check` returns for what it refuses.
    const auto sums = [](Plan& plan, const nb::list& groups, const nb::dict& state, const Plan::How& how,
                         Plan::Sum sum) -> nb::object {
        std::vector<double> by_row;
        const int64_t refused = plan.sums(groups.ptr(), state.ptr(), how, sum, by_row);
        if (refused == Plan::raised) throw nb::python_error();
        return refused == Plan::fine ? nb::cast(by_row) : nb::cast(refused);
    };
    m.def("squares", [sums](Plan& plan, const nb::list& groups, const nb::dict& state, int threads,
                            const nb::list& gradients) {
        const Plan::How how{threads, nullptr, gradients.ptr(), 0, false, 1, Plan::fine, {}};
        return sums(plan, groups, state, how, Plan::Sum::squares);
    });
    m.def("updates", [sums](Plan& plan, const nb::list& groups, const nb::dict& state, int threads,
                            const nb::list& gradients, double squares, double unscale, int64_t only) {
        const Plan::How how{threads, nullptr, gradients.ptr(), squares, true, unscale, only, {}};
        return sums(plan, groups, state, how, Plan::Sum::updates);
    });
    m.def("step", [](Plan& plan, const nb::list& groups, const nb::dict& state, int threads,
                     nb::handle increment_version, const nb::list& gradients, double squares, bool squares_are_all,
                     double unscale, int64_t only, std::vector<double> measured) {
        const Plan::How how{threads, increment_version.ptr(), gradients.ptr(), squares, squares_are_all,
                            unscale, only, std::move(measured)};
        PyObject* refused = plan.step(groups.ptr(), state.ptr(), how);
        if (!refused) throw nb::python_error();
        return nb::steal(refused);
    });
    m.def("norm", [](const Plan& plan) { return plan.norm(); });

    nb::class_<Before>(m, "Before").def("__init__", [](Before* self, const nb::list& groups, int64_t most) {
        std::vector<Member> members;
        for (nb::handle group : groups)
            for (nb::handle parameter : group["params"])
                members.push_back({Ref(group.inc_ref().ptr()), Ref(parameter.inc_ref().ptr())});
        new (self) Before(std::move(members), most);
    });
    m.def("not_taken", [](const Before& before) { return before.not_taken(); });
    m.def("members", [](const Before& before) {
        nb::list members;
        for (size_t i = 0; i < before.size(); ++i)
            members.append(nb::make_tuple(nb::handle(before.group(i)), nb::handle(before.parameter(i))));
        return members;
    });
    m.def("weights", [](const Before& before, size_t i) { return before.of(i); });
    m.def("are_those", [](const Before& before, const nb::list& parameters) {
        bool same = parameters.size() == before.size();
        for (size_t i = 0; same && i < before.size(); ++i) same = parameters[i].is(before.parameter(i));
        return same;
    });
    nb::class_<Kinds>(m, "Kinds").def(nb::init<nb::callable, nb::tuple>());
    nb::class_<Look>(m, "Look").def("__init__", [](Look* self, const Before& before, const nb::dict& state,
                                                   Kinds& kinds, double scale) {
        const Rows all = kinds.rows(before, state);
        new (self) Look(before, all.rows, scale, chosen->probe);
    });
    m.def("elsewhere", [](const Look& look) { return look.elsewhere(); });
    m.def("told", [](const Look& look) {
        PyObject* numbers = look.told();
        if (!numbers) throw nb::python_error();
        return nb::steal(numbers);
    });
    m.def("text", [](const Look& look) { return look.text(); });
    m.def("text_of", text_of);
    m.def("number_in", [](nb::handle tensor) { return number_in(tensor.ptr()); });

    nb::class_<Settings>(m, "Settings").def(nb::init<>());
    m.def("remember", [](Settings& settings, size_t i, const nb::dict& group, nb::handle names) {
        settings.remember(i, group.ptr(), names.ptr());
    });
    m.def("unchanged", [](const Settings& settings, const nb::list& groups, bool whole) {
        return settings.unchanged(groups.ptr(), whole);
    });
    m.def("unchanged_group", [](const Settings& settings, size_t i, const nb::dict& group, bool whole) {
        return settings.unchanged_group(i, group.ptr(), whole);
    });
}
