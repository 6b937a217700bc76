// How parameters were stepped, as meansquare.watching.measuring tells: it is asked for each group once,
// and again where the group or what the state has is another.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cmath>
#include <string>

#include "interpreter.h"
#include "looks.h"
#include "settings.h"

// What is looked at, and the Python objects that it refers to.
struct Rows {
    std::vector<Stepped> rows;
    std::vector<nanobind::object> kept;
};

class Kinds {
public:
    // `kind` tells the Kind of a group and a state; of the group it reads what has these names.
    Kinds(nanobind::callable kind, nanobind::tuple names) : ask_(std::move(kind)), names_(std::move(names)) {}

    Rows rows(const Before& before, const nanobind::dict& state) {
        Rows all;
        StateWalk walk(state.ptr());  // before any Python can change it
        for (size_t i = 0; i < before.size(); ++i) {
            PyObject* own = walk.of(before.parameter(i));
            all.kept.push_back(own ? nanobind::borrow(own) : nanobind::dict());
            PyObject* kept = all.kept.back().ptr();
            all.rows.push_back({before.parameter(i), PyDict_Check(kept) ? kept : nullptr, {}});
        }
        size_t group = 0;
        bool is_known = false;
        for (size_t i = 0; i < before.size(); ++i) {
            if (i == 0 || before.group(i) != before.group(i - 1)) {
                group += i > 0;
                is_known = settings_.unchanged_group(group, before.group(i), true);
            }
            if (all.rows[i].state) {
                const Known& known = known_for(group, is_known, before.group(i), all.rows[i].state);
                is_known = true;
                all.rows[i].kind = known.kind;
                all.kept.push_back(known.told);
            }
        }
        return all;
    }

private:
    struct Known {
        Kind kind;
        nanobind::object told;  // keeps the names in `kind`
        std::vector<nanobind::object> names;  // of what the state has
        bool is_timed;
        double steps;

        bool fits(PyObject* state) const {
            size_t i = 0;
            PyObject* name;
            for (Py_ssize_t at = 0; PyDict_Next(state, &at, &name, nullptr); ++i)
                if (i == names.size() || !names[i].is(name)) return false;
            return i == names.size() && (!is_timed || steps == steps_of(state));
        }
    };

    const Known& known_for(size_t group, bool is_known, PyObject* settings, PyObject* state) {
        if (is_known && group < known_.size() && known_[group].fits(state)) return known_[group];
        settings_.remember(group, settings, names_.ptr());
        const nanobind::object told = ask_(nanobind::handle(settings), nanobind::handle(state));
        if (known_.size() <= group) known_.resize(group + 1);
        Known& known = known_[group] = {kind_of(told), told, {}, nanobind::cast<bool>(told[3]), steps_of(state)};
        PyObject* name;
        for (Py_ssize_t at = 0; PyDict_Next(state, &at, &name, nullptr);) known.names.push_back(nanobind::borrow(name));
        return known;
    }

    static Kind kind_of(const nanobind::object& told) {
        const auto number = [](const nanobind::handle& x) { return nanobind::cast<double>(x); };
        const nanobind::object divisor = told[0];
        if (divisor.is_none()) return {nullptr, nullptr, number(told[2]), {1, 0, 0, Division::outside}};
        const nanobind::object mean = divisor[1];
        const double eps = number(divisor[3]);
        const auto place = nanobind::cast<std::string>(divisor[4]);
        Division division{number(told[1]), eps, eps, place == "max" ? Division::max : Division::outside};
        if (place == "inside") division.least = std::sqrt(eps), division.place = Division::inside;
        return {nanobind::object(divisor[0]).ptr(), mean.is_none() ? nullptr : mean.ptr(), number(told[2]), division};
    }

    // NaN where they cannot be read.
    static double steps_of(PyObject* state) {
        static PyObject* const step = PyUnicode_InternFromString("step");
        PyObject* steps = PyDict_GetItem(state, step);
        return steps ? number_in(steps).value_or(NAN) : 0.0;
    }

    nanobind::callable ask_;
    nanobind::tuple names_;
    Settings settings_;
    std::vector<Known> known_;
};
