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

// What a rule asks for before it scales an update. The parameter is read only where it decays the gradient.
template <class Measured, class T>
double measured(const Row& row, const void* coefficients, int64_t begin, int64_t end) {
    alignas(64) T tile[STREAMS][TILE];
    Coefficients<T, Measured::coefficients> h;
    std::memcpy(&h, coefficients, sizeof h);
    double total = 0;
    for (int64_t i = begin; i < end; i += TILE) {
        const int64_t n = end - i < TILE ? end - i : TILE;
        const T* g = tile_in<T>(row, G, i, n, tile[G]);
        const T* p = h.x[Measured::l2] > 0 ? tile_in<T>(row, P, i, n, tile[P]) : g;
        const T* s[BUFFERS] = {g, g, g};
        for (int slot : Measured::slots) s[slot] = tile_in<T>(row, Stream(S0 + slot), i, n, tile[S0 + slot]);
        const T *s0 = s[0], *s1 = s[1], *s2 = s[2];
        total += sum(n, [&](int64_t k) { return double(Measured::of(h, p[k], g[k], s0[k], s1[k], s2[k])); });
    }
    return total;
}

}  // namespace
}  // namespace MEANSQUARE_ISA
