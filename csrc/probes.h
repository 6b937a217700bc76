// What a step did to weights, as meansquare.watching.probes has it, in double precision.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>

#include "measure.h"

// How a gradient is divided: by the root of what `seen` corrects, with eps, which is the larger part
// below the root `least`.
struct Division {
    enum Place { outside, inside, max };
    double seen, eps, least;
    Place place;
};

// Elements one behind the other.
struct Words {
    Format format = Format::unsupported;
    const void* data = nullptr;
};

// Weights of one tensor. `square` is the second moment and `mean` that of the gradient; without data
// where the optimizer has none. `scale` is that of the loss.
struct Weights {
    int64_t count;
    Words before, after, gradient, square, mean;
    double scale;
};

// Over all of the weights: the mean square of the first four, the share of the others.
struct Means {
    double gradient = 0, update = 0, weights = 0, precursor = 0, eps_rules = 0, dead = 0, stale = 0;
    double square = 0;  // of the second moment, as it was corrected, itself

    // Then all weights, gradients and second moments are: that of a square would not be.
    bool all_finite() const {
        return std::isfinite(gradient) && std::isfinite(update) && std::isfinite(weights) && std::isfinite(square);
    }
};

// Every `apart`-th divisor is written, too.
using Probe = Means (*)(const Weights&, const Division&, int64_t apart, double* divisors);

namespace MEANSQUARE_ISA {
namespace {

constexpr double STALE = 1000;   // as meansquare.watching.probes has them
constexpr double LEAST = 1e-30;

inline double at_least(double x, double least) { return x < least ? least : x; }

inline void divide(int64_t n, double* x, double by) {
    if (by != 1)
        for (int64_t i = 0; i < n; ++i) x[i] /= by;
}

// Numbers of a tile, where it has any.
struct Tile {
    alignas(64) double x[TILE];

    bool take(const Words& from, int64_t begin, int64_t n) {
        if (from.data) load(from.format, static_cast<const char*>(from.data) + begin * size_of(from.format), x, size_t(n));
        return from.data;
    }
};

// Of second moments, in their place.
inline void correct(int64_t n, double* square, double* mean, double seen) {
    divide(n, square, seen);
    if (mean) {
        divide(n, mean, seen);
        for (int64_t i = 0; i < n; ++i) square[i] = at_least(square[i] - mean[i] * mean[i], square[i] * 0x1p-20);
    }
}

inline double divisor(double root, const Division& how) {
    if (how.place == Division::inside) return std::sqrt(root * root + how.eps);
    return how.place == Division::max ? at_least(root, how.eps) : root + how.eps;
}

inline Means probe(const Weights& all, const Division& how, int64_t apart, double* divisors) {
    Tile before, after, gradient, square, mean;
    // Squares are compared: roots take longer than all else.
    const double rules = how.least * how.least, least = std::max(rules, LEAST * LEAST);
    const double *p = before.x, *q = after.x, *g = gradient.x, *v = square.x;
    // Little code rather than fast code: it is seldom run, and then has to come from memory.
    constexpr int lanes = 8;
    double sums[8][lanes] = {};
    const auto add = [&](int64_t i, int lane) {
        const double moved = q[i] - p[i], squared = g[i] * g[i];
        sums[0][lane] += squared;
        sums[1][lane] += moved * moved;
        sums[2][lane] += p[i] * p[i];
        sums[3][lane] += squared / at_least(v[i], least);
        sums[4][lane] += v[i] < rules ? 1.0 : 0.0;
        sums[5][lane] += g[i] == 0 && v[i] == 0 ? 1.0 : 0.0;
        sums[6][lane] += squared * (STALE * STALE) < v[i] ? 1.0 : 0.0;
        sums[7][lane] += v[i];
    };
    for (int64_t begin = 0, next = 0; begin < all.count; begin += TILE) {
        const int64_t n = all.count - begin < TILE ? all.count - begin : TILE;
        before.take(all.before, begin, n);
        after.take(all.after, begin, n);
        gradient.take(all.gradient, begin, n);
        divide(n, gradient.x, all.scale);
        if (square.take(all.square, begin, n))
            correct(n, square.x, mean.take(all.mean, begin, n) ? mean.x : nullptr, how.seen);
        else
            std::fill(square.x, square.x + n, 0.0);
        int64_t i = 0;
        for (; i + lanes <= n; i += lanes)
            for (int lane = 0; lane < lanes; ++lane) add(i + lane, lane);
        for (int lane = 0; i < n; ++i, ++lane) add(i, lane);
        for (; all.square.data && next < begin + n; next += apart)
            *divisors++ = divisor(std::sqrt(v[next - begin]), how);
    }
    Means means;
    double* const to[] = {&means.gradient, &means.update, &means.weights, &means.precursor,
                          &means.eps_rules, &means.dead, &means.stale, &means.square};
    for (int k = 0; k < 8; ++k) *to[k] = std::accumulate(sums[k], sums[k] + lanes, 0.0) / double(all.count);
    return means;
}

}  // namespace
}  // namespace MEANSQUARE_ISA
