// What the parameter groups held when their settings were last checked, to see at once that they
// hold the same objects still.
#pragma once
#include <vector>

#include "tensors.h"

class Settings {
public:
    Settings() = default;
    Settings(const Settings&) = delete;
    // Of group i, every value under one of these names.
    void remember(size_t i, PyObject* group, PyObject* names) {
        if (groups_.size() <= i) groups_.resize(i + 1);
        groups_[i] = {};
        PyObject *key, *value;
        for (Py_ssize_t at = 0; PyDict_Next(group, &at, &key, &value);) {
            const bool counts = PyUnicode_CheckExact(key) && PySequence_Contains(names, key) == 1;
            groups_[i].settled = groups_[i].settled && (!counts || cannot_change(value));
            groups_[i].entries.push_back({Ref(Py_NewRef(key)), Ref(counts ? Py_NewRef(value) : nullptr)});
        }
        PyErr_Clear();
    }
    // Whether all groups are as they were, but perhaps for a learning rate that a step reads itself.
    // With `whole`, for that too.
    bool unchanged(PyObject* groups, bool whole) const {
        if (size_t(PyList_GET_SIZE(groups)) != groups_.size()) return false;
        for (size_t i = 0; i < groups_.size(); ++i)
            if (!unchanged_group(i, PyList_GET_ITEM(groups, Py_ssize_t(i)), whole)) return false;
        return true;
    }
    bool unchanged_group(size_t i, PyObject* group, bool whole) const {
        if (i >= groups_.size() || !groups_[i].settled) return false;
        PyObject *key, *value;
        auto entry = groups_[i].entries.begin();
        const auto end = groups_[i].entries.end();
        for (Py_ssize_t at = 0; PyDict_Next(group, &at, &key, &value); ++entry) {
            if (entry == end || entry->key.object != key) return false;
            if (!entry->value.object || entry->value.object == value) continue;
            if (whole || !is_rate(key, entry->value.object) || !is_rate(key, value)) return false;
        }
        return entry == end;
    }

private:
    struct Entry {
        Ref key, value;  // no value: it does not count
    };
    struct Group {
        std::vector<Entry> entries;
        bool settled = true;  // none of its values can change in place
    };

    static bool cannot_change(PyObject* value) {
        if (PyTuple_CheckExact(value)) {
            for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); ++i)
                if (!cannot_change(PyTuple_GET_ITEM(value, i))) return false;
            return true;
        }
        return value == Py_None || PyBool_Check(value) || PyFloat_Check(value) || PyLong_CheckExact(value) ||
               PyUnicode_CheckExact(value);
    }
    static bool is_rate(PyObject* key, PyObject* value) {
        static PyObject* const lr = PyUnicode_InternFromString("lr");
        return key == lr && PyFloat_Check(value) && PyFloat_AS_DOUBLE(value) >= 0 &&
               PyFloat_AS_DOUBLE(value) < HUGE_VAL;
    }

    std::vector<Group> groups_;
};
