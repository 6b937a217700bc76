// What the plan has to do with Python's interpreter: keep it still, let it go, and ask it.
#pragma once
#include <unistd.h>

#include <unordered_map>
#include <utility>

#include "tensors.h"

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
    // Of one parameter only.
    static PyObject* alone(PyObject* state, PyObject* parameter) {
        PyObject *key, *value;
        for (Py_ssize_t at = 0; PyDict_Next(state, &at, &key, &value);)
            if (key == parameter) return value;
        return nullptr;
    }

private:
    void advance() {
        if (!PyDict_Next(state_, &at_, &key_, &value_)) key_ = nullptr;
    }
    PyObject* find(PyObject* parameter) {
        PyObject *key, *value;
        Py_ssize_t at = 0;
        if (places_.empty())
            while (PyDict_Next(state_, &at, &key, &value)) places_[key] = value;
        const auto place = places_.find(parameter);
        return place == places_.end() ? nullptr : place->second;
    }

    PyObject *state_, *key_ = nullptr, *value_ = nullptr;
    Py_ssize_t at_ = 0;
    std::unordered_map<PyObject*, PyObject*> places_;
};

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
    bool ask() {
        static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
        static PyObject* const is_conj = PyUnicode_InternFromString("is_conj");
        if (!std::exchange(unanswered_, false)) return false;
        for (auto& [tensor, answer] : known_) {
            if (std::exchange(answer.asked, true)) continue;
            const auto says = [of = tensor](PyObject* method) {  // an error is left for the caller
                return PyErr_Occurred() || Ref(PyObject_CallMethodNoArgs(of, method)).object != Py_False;
            };
            answer.lazy = says(is_neg) || (answer.complex && says(is_conj));
        }
        return !PyErr_Occurred();
    }
    void forget() { known_.clear(); }

private:
    struct Answer {
        Ref tensor;
        bool complex, lazy, asked;
    };
    std::unordered_map<PyObject*, Answer> known_;
    bool unanswered_ = false;
};
