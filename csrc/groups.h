// A parameter group: its kernel, its numbers, and the coefficients that they come to in a step.
#pragma once
#include <Python.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels.h"

constexpr int MOST = 40;  // numbers or coefficients of a rule
constexpr double LEAST_SHARE = 1e-3;  // as meansquare.hyper has it

// The numbers that each step tells anew come first, as meansquare.trace.RUNTIME has them.
enum Runtime { STEP, LR, GRAD_SCALE, UPDATE_SCALE, RUNTIME };

// Coefficients at both precisions, where they have been asked for.
struct Folded {
    float float32[MOST];
    double float64[MOST];
    const void* of(bool wide) const { return wide ? static_cast<const void*>(float64) : float32; }
};

struct Group {
    static constexpr double none = std::numeric_limits<double>::infinity();

    const InstructionSet* set = nullptr;
    const KernelEntry* kernel = nullptr;
    std::vector<PyObject*> names;  // of its buffers in `opt.state[p]`; interned
    uint64_t seed = 0;
    double lr = 0, grad_scale = 1;
    double max_norm = none, norm_eps = 0, max_update = none;
    double numbers[2][MOST] = {};  // as a float32 and as a float64 parameter has them

    bool uses(Stream s) const { return s < S0 || size_t(s - S0) < names.size(); }

    // The coefficients of step t, or null where another step's are in use.
    const void* shared(bool wide, double t) {
        const State now{t, lr, grad_scale};
        State& folded = folded_[wide];
        const bool same = now.lr == folded.lr && now.grad_scale == folded.grad_scale &&
                          (now.t == folded.t || !kernel->timed);
        if (!same && in_use_[wide]) return nullptr;
        if (!same) fold(wide, t, 1, shared_);
        folded = now;
        in_use_[wide] = true;
        return shared_.of(wide);
    }
    // The factor on an update of which this is the mean.
    double update_scale(double mean) const {
        if (kernel->is_share) return 1 / std::max(mean, LEAST_SHARE);
        const double size = std::sqrt(mean);
        return size > max_update ? max_update / size : 1;
    }
    void begin_step() { in_use_[0] = in_use_[1] = false; }

    void fold(bool wide, double t, double update_scale, Folded& into) {
        double h[MOST];
        kernel->fold(of_step(wide, t, update_scale), h);
        for (int i = 0; i < kernel->coefficients; ++i) wide ? into.float64[i] = h[i] : into.float32[i] = float(h[i]);
    }
    bool measures() const { return kernel->is_share || max_update < none; }
    void fold_measure(bool wide, double t, Folded& into) {
        double h[MOST];
        kernel->fold_measure(of_step(wide, t, 1), h);
        for (int i = 0; i < kernel->measure_coefficients; ++i)
            wide ? into.float64[i] = h[i] : into.float32[i] = float(h[i]);
    }

private:
    struct State {
        double t = -1, lr = -1, grad_scale = -1;
    };

    const double* of_step(bool wide, double t, double update_scale) {
        double* x = numbers[wide];
        x[STEP] = t;
        x[LR] = lr;
        x[GRAD_SCALE] = grad_scale;
        x[UPDATE_SCALE] = update_scale;
        return x;
    }

    Folded shared_;
    State folded_[2];
    bool in_use_[2] = {};
};
