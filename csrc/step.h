// One row of a plan: where a tensor and its buffers lie, and the loop that a rule runs in.
#pragma once
#include <cstring>
#include <vector>

#include "rules.gen.h"
#include "storage.h"

enum Stream { P, G, V, M, B, STREAMS };

// Streams that do not lie element by element in one line are walked dimension by dimension,
// from the slowest in the parameter's own memory to the fastest.
struct Dimension {
    int64_t size;
    int64_t stride[STREAMS];
};

struct Row {
    char* data[STREAMS] = {};
    Format format[STREAMS] = {};
    int64_t count = 0;
    std::vector<Dimension> dimensions;  // empty: every stream is one line
    Dice dice{};

    Format precision() const { return format[V]; }
    bool in_place(Stream s) const { return dimensions.empty() && format[s] == precision(); }
};

// The kernel of one rule at one precision: elements [begin, end) of a row. `next` is the row that
// this thread steps afterwards, or null.
using Kernel = void (*)(const Row&, const void* coefficients, int64_t begin, int64_t end, const Row* next);

namespace MEANSQUARE_ISA {
namespace {

constexpr int64_t LINE = 64;    // bytes of a cache line
constexpr int64_t AHEAD = 4096;  // bytes by which the lines that come are asked for early
constexpr int64_t TILE = 1024;  // elements; five streams of doubles and raw copies stay in L1 and L2

template <class Rule, class T>
void run_elements(const Coefficients<T> h, int64_t n, T* p, const T* g, T* v, T* m, T* b) {
    // An element depends on its own index alone, also where the gradient is the parameter itself.
#if defined(__clang__)
#pragma clang loop vectorize(assume_safety)
#else
#pragma GCC ivdep
#endif
    for (int64_t i = 0; i < n; ++i) {
        T pi = p[i], vi = v[i], mi{}, bi{};
        if constexpr (Rule::centered) mi = m[i];
        if constexpr (Rule::momentum) bi = b[i];
        Rule::step(h, pi, g[i], vi, mi, bi);
        p[i] = pi;
        v[i] = vi;
        if constexpr (Rule::centered) m[i] = mi;
        if constexpr (Rule::momentum) b[i] = bi;
    }
}

// Where the lines lie that are asked for while the first ones of a row are worked on.
struct Ahead {
    const char* line[STREAMS];

    // Some way ahead in the same streams, or, in a short row, at the start of the next one.
    Ahead(const Row& row, int64_t begin, int64_t end, const Row* next) {
        for (int s = P; s < STREAMS; ++s) {
            const int64_t size = size_of(row.format[s]);
            const bool is_short = (end - begin) * size <= AHEAD && next && next->data[s];
            line[s] = is_short ? next->data[s] : row.data[s] + begin * size + AHEAD;
        }
    }
    void fetch(Stream s, int64_t offset) const { __builtin_prefetch(line[s] + offset); }
};

// The divisions of one block are done while the lines of a later one are on their way. Without
// asking, the processor's own prefetching stops at every page.
template <class Rule, class T>
void run(const Coefficients<T>& h, int64_t n, const Ahead& ahead, T* p, const T* g, T* v, T* m, T* b) {
    constexpr int64_t size = sizeof(T), line = LINE / size, block = 4 * line;
    const auto elements = [&](int64_t from, int64_t count) {
        run_elements<Rule, T>(h, count, p + from, g + from, v + from,
                              Rule::centered ? m + from : nullptr, Rule::momentum ? b + from : nullptr);
    };
    int64_t i = 0;
    for (; i + block <= n; i += block) {
        for (int64_t k = i; k < i + block; k += line) {
            ahead.fetch(P, k * size);
            ahead.fetch(G, k * size);
            ahead.fetch(V, k * size);
            if constexpr (Rule::centered) ahead.fetch(M, k * size);
            if constexpr (Rule::momentum) ahead.fetch(B, k * size);
        }
        elements(i, block);
    }
    elements(i, n - i);
}

// Visits the n elements from `begin`, each with its offset in the memory of one stream.
template <class Visit>
void walk(const Row& row, Stream s, int64_t begin, int64_t n, Visit visit) {
    const auto& dims = row.dimensions;
    std::vector<int64_t> at(dims.size());
    int64_t offset = 0, rest = begin;
    for (size_t d = dims.size(); d-- > 0; rest /= dims[d].size) {
        at[d] = rest % dims[d].size;
        offset += at[d] * dims[d].stride[s];
    }
    for (int64_t i = 0; i < n; ++i) {
        visit(i, offset);
        for (size_t d = dims.size(); d-- > 0;) {
            offset += dims[d].stride[s];
            if (++at[d] < dims[d].size) break;
            offset -= at[d] * dims[d].stride[s];
            at[d] = 0;
        }
    }
}

template <class T>
T* tile_in(const Row& row, Stream s, int64_t begin, int64_t n, T* tile) {
    if (row.in_place(s)) return reinterpret_cast<T*>(row.data[s]) + begin;
    const int64_t size = size_of(row.format[s]);
    const char* from = row.data[s] + (row.dimensions.empty() ? begin * size : 0);
    alignas(64) char line[TILE * sizeof(double)];
    if (!row.dimensions.empty()) {
        walk(row, s, begin, n, [&](int64_t i, int64_t offset) {
            std::memcpy(line + i * size, from + offset * size, size);
        });
        from = line;
    }
    load(row.format[s], from, tile, n);
    return tile;
}

template <class T>
void tile_out(const Row& row, Stream s, int64_t begin, int64_t n, const T* tile) {
    if (row.in_place(s)) return;
    const int64_t size = size_of(row.format[s]);
    if (row.dimensions.empty())
        return store(row.format[s], tile, row.data[s] + begin * size, n, row.dice, begin);
    alignas(64) char line[TILE * sizeof(double)];
    store(row.format[s], tile, line, n, row.dice, begin);
    walk(row, s, begin, n, [&](int64_t i, int64_t offset) {
        std::memcpy(row.data[s] + offset * size, line + i * size, size);
    });
}

template <class Rule, class T>
void step_tiles(const Row& row, const Coefficients<T>& h, int64_t begin, int64_t end) {
    alignas(64) T tile[STREAMS][TILE];
    for (int64_t i = begin; i < end; i += TILE) {
        const int64_t n = end - i < TILE ? end - i : TILE;
        const auto in = [&](Stream s) { return tile_in<T>(row, s, i, n, tile[s]); };
        T *p = in(P), *g = in(G), *v = in(V);
        T* m = Rule::centered ? in(M) : nullptr;
        T* b = Rule::momentum ? in(B) : nullptr;
        run_elements<Rule, T>(h, n, p, g, v, m, b);
        tile_out(row, P, i, n, p);
        tile_out(row, V, i, n, v);
        if (Rule::centered) tile_out(row, M, i, n, m);
        if (Rule::momentum) tile_out(row, B, i, n, b);
    }
}

template <class Rule, class T>
void step(const Row& row, const void* coefficients, int64_t begin, int64_t end, const Row* next) {
    const auto& h = *static_cast<const Coefficients<T>*>(coefficients);
    if (!row.in_place(P) || !row.in_place(G)) return step_tiles<Rule, T>(row, h, begin, end);
    const auto line = [&](Stream s) {
        return row.data[s] ? reinterpret_cast<T*>(row.data[s]) + begin : nullptr;
    };
    const Ahead ahead(row, begin, end, next);
    run<Rule, T>(h, end - begin, ahead, line(P), line(G), line(V), line(M), line(B));
}

}  // namespace
}  // namespace MEANSQUARE_ISA
