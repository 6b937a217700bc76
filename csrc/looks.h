// A look at an optimizer: what meansquare.watching measures, of plain tensors on the CPU.
#pragma once
#include <Python.h>

#include <vector>

#include "elements.h"
#include "kernels.h"

// Weights of several tensors as they were before a step.
class Before {
public:
    // At most `most` weights of each, as meansquare.watching.sampled picks them; none of a tensor that
    // cannot be read from here.
    Before(const std::vector<PyObject*>& tensors, int64_t most);
    std::vector<size_t> not_taken() const;
    std::vector<double> of(size_t i) const;
    const Picked& at(size_t i) const { return weights_.at(i); }
    int64_t most() const { return most_; }

private:
    int64_t most_;
    std::vector<Picked> weights_;
};

// How an optimizer stepped a parameter: the names of buffers in its state, or null, and its rate.
struct Kind {
    PyObject *square, *mean;
    double rate;
    Division division;
};

// What there was in a step of one parameter.
struct Stepped {
    PyObject *parameter, *state;
    Kind kind;
};

// A list with the numbers of each parameter as a dict, None where it has no gradient, False where it
// cannot be read from here; null for a Python error. `scale` is that of the loss.
PyObject* look(const Before& before, const std::vector<Stepped>& rows, double scale, Probe probe);
