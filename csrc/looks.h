// A look at an optimizer: what meansquare.watching measures, of plain tensors on the CPU.
#pragma once
#include <Python.h>

#include <optional>
#include <string>
#include <vector>

#include "elements.h"
#include "kernels.h"
#include "tensors.h"

// A parameter and its group.
struct Member {
    Ref group, parameter;
};

// Weights of several parameters as they were before a step.
class Before {
public:
    Before(const Before&) = delete;
    // At most `most` weights of each, as meansquare.watching.sampled picks them; none of a parameter
    // that cannot be read from here.
    Before(std::vector<Member> members, int64_t most);
    size_t size() const { return members_.size(); }
    PyObject* group(size_t i) const { return members_[i].group.object; }
    PyObject* parameter(size_t i) const { return members_[i].parameter.object; }
    std::vector<size_t> not_taken() const;
    std::vector<double> of(size_t i) const;
    const Picked& at(size_t i) const { return weights_.at(i); }
    int64_t most() const { return most_; }

private:
    std::vector<Member> members_;
    int64_t most_;
    std::vector<Picked> weights_;
};

// How an optimizer stepped a parameter: the names of buffers in its state, or null, and its rate.
struct Kind {
    PyObject *square, *mean;
    double rate;
    Division division;
};

// What there was in a step of one parameter; `state` is null where it is no dict.
struct Stepped {
    PyObject *parameter, *state;
    Kind kind;
};

// What was seen of one parameter.
struct Numbers {
    enum { no_gradient, elsewhere, here } found;  // elsewhere: it cannot be read from here
    bool divides;
    Means means;
    double rates[5];
    int64_t nonfinite;
};

// The numbers of each parameter, which nobody can change.
class Look {
public:
    // `scale` is that of the loss. Throws what Python raised.
    Look(const Before& before, const std::vector<Stepped>& rows, double scale, Probe probe);
    std::vector<size_t> elsewhere() const;
    // A list of dicts, None where there is no gradient or it is elsewhere; null for a Python error.
    PyObject* told() const;
    // The same as strict JSON: null for what is not finite.
    std::string text() const;

private:
    std::vector<Numbers> numbers_;
};

// That of a tensor with one, where it can be read from here.
std::optional<double> number_in(PyObject* tensor);

// Numbers as strict JSON.
std::string text_of(const std::vector<double>& numbers);
