// What is measured of a row before it is stepped: sums over its elements, in double precision and
// in an order that neither threads nor instruction sets change.
#pragma once
#include "step.h"

// Over elements [begin, end) of a row.
using Measure = double (*)(const Row&, const void* coefficients, int64_t begin, int64_t end);

namespace MEANSQUARE_ISA {
namespace {

template <class Each>
double sum(int64_t n, Each each) {
    constexpr int lanes = 64;
    double total[lanes] = {};
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (int lane = 0; lane < lanes; ++lane) total[lane] += each(i + lane);
    for (int lane = 0; i < n; ++i, ++lane) total[lane] += each(i);
    for (int half = lanes / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) total[lane] += total[lane + half];
    return total[0];
}

// The squares of a gradient.
template <class T>
double squares(const Row& row, const void*, int64_t begin, int64_t end) {
    alignas(64) T tile[TILE];
    double total = 0;
    for (int64_t i = begin; i < end; i += TILE) {
        const int64_t n = end - i < TILE ? end - i : TILE;
        const T* g = tile_in<T>(row, G, i, n, tile);
        total += sum(n, [g](int64_t k) { return double(g[k]) * double(g[k]); });
    }
    return total;
}

// The squares of an update before it is scaled. The parameter is read only where it decays the gradient.
template <class UpdateSize, class T, Stream second_moment>
double update_squares(const Row& row, const void* coefficients, int64_t begin, int64_t end) {
    alignas(64) T tile[STREAMS][TILE];
    Coefficients<T, UpdateSize::coefficients> h;
    std::memcpy(&h, coefficients, sizeof h);
    double total = 0;
    for (int64_t i = begin; i < end; i += TILE) {
        const int64_t n = end - i < TILE ? end - i : TILE;
        const T* g = tile_in<T>(row, G, i, n, tile[G]);
        const T* p = h.x[UpdateSize::l2] > 0 ? tile_in<T>(row, P, i, n, tile[P]) : g;
        const T* v = tile_in<T>(row, second_moment, i, n, tile[S0]);
        total += sum(n, [&](int64_t k) { return double(UpdateSize::of(h, p[k], g[k], v[k])); });
    }
    return total;
}

}  // namespace
}  // namespace MEANSQUARE_ISA
