// One row of a plan: where a tensor and its buffers lie, and the loop that a rule runs in.
#pragma once
#include <cstring>
#include <vector>

#include "numbers.h"
#include "storage.h"

// The parameter, its gradient, and the buffers of its rule.
enum Stream { P, G, S0, S1, S2, STREAMS };
constexpr int BUFFERS = STREAMS - S0;

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
    Numbering numbering;

    Format precision() const { return format[P] == Format::float64 ? Format::float64 : Format::float32; }
    bool in_place(Stream s) const { return dimensions.empty() && format[s] == precision(); }
};

// The kernel of one rule at one precision: elements [begin, end) of a row. `coefficients` are as many
// floats or doubles as the rule has; `next` is the row that this thread steps afterwards, or null.
using Kernel = void (*)(const Row&, const void* coefficients, int64_t begin, int64_t end, const Row* next);

namespace MEANSQUARE_ISA {
namespace {

constexpr int64_t LINE = 64;    // bytes of a cache line
constexpr int64_t AHEAD = 4096;  // bytes by which the lines that come are asked for early
constexpr int64_t TILE = 1024;  // elements; five streams of doubles and raw copies stay in L1 and L2

template <class T>
using Buffers = T* [BUFFERS];

template <class Rule, class T>
void run_elements(const Coefficients<T, Rule::coefficients> h, int64_t n, T* p, const T* g, const Buffers<T>& s) {
    T *s0 = s[0], *s1 = s[1], *s2 = s[2];
    // An element depends on its own index alone, also where the gradient is the parameter itself.
#if defined(__clang__)
#pragma clang loop vectorize(assume_safety)
#else
#pragma GCC ivdep
#endif
    for (int64_t i = 0; i < n; ++i) {
        T pi = p[i], x0{}, x1{}, x2{};
        if constexpr (Rule::buffers > 0) x0 = s0[i];
        if constexpr (Rule::buffers > 1) x1 = s1[i];
        if constexpr (Rule::buffers > 2) x2 = s2[i];
        Rule::step(h, pi, g[i], x0, x1, x2);
        p[i] = pi;
        if constexpr (Rule::buffers > 0) s0[i] = x0;
        if constexpr (Rule::buffers > 1) s1[i] = x1;
        if constexpr (Rule::buffers > 2) s2[i] = x2;
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
void run(const Coefficients<T, Rule::coefficients>& h, int64_t n, const Ahead& ahead, T* p, const T* g,
         const Buffers<T>& s) {
    constexpr int64_t size = sizeof(T), line = LINE / size, block = 4 * line;
    const auto elements = [&](int64_t from, int64_t count) {
        Buffers<T> at = {};
        for (int k = 0; k < Rule::buffers; ++k) at[k] = s[k] + from;
        run_elements<Rule, T>(h, count, p + from, g + from, at);
    };
    int64_t i = 0;
    for (; i + block <= n; i += block) {
        for (int64_t k = i; k < i + block; k += line)
            for (int stream = P; stream < S0 + Rule::buffers; ++stream) ahead.fetch(Stream(stream), k * size);
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

// As store() does, each element with the random bits of its number in the whole tensor.
template <class T>
void store_numbered(const Row& row, Stream s, const T* from, void* to, int64_t n, int64_t begin) {
    const Format format = row.format[s];
    if (row.numbering.levels.empty()) return store(format, from, to, n, row.dice, begin);
    for (int64_t i = 0; i < n;) {
        const int64_t run = row.numbering.run(begin + i), count = run < n - i ? run : n - i;
        char* there = static_cast<char*>(to) + i * size_of(format);
        store(format, from + i, there, count, row.dice, row.numbering.of(begin + i));
        i += count;
    }
}

template <class T>
void tile_out(const Row& row, Stream s, int64_t begin, int64_t n, const T* tile) {
    if (row.in_place(s)) return;
    const int64_t size = size_of(row.format[s]);
    if (row.dimensions.empty())
        return store_numbered(row, s, tile, row.data[s] + begin * size, n, begin);
    alignas(64) char line[TILE * sizeof(double)];
    store_numbered(row, s, tile, line, n, begin);
    walk(row, s, begin, n, [&](int64_t i, int64_t offset) {
        std::memcpy(row.data[s] + offset * size, line + i * size, size);
    });
}

template <class Rule, class T>
void step_tiles(const Row& row, const Coefficients<T, Rule::coefficients>& h, int64_t begin, int64_t end) {
    alignas(64) T tile[STREAMS][TILE];
    for (int64_t i = begin; i < end; i += TILE) {
        const int64_t n = end - i < TILE ? end - i : TILE;
        T* at[STREAMS] = {};
        for (int s = P; s < S0 + Rule::buffers; ++s) at[s] = tile_in<T>(row, Stream(s), i, n, tile[s]);
        run_elements<Rule, T>(h, n, at[P], at[G], {at[S0], at[S1], at[S2]});
        for (int s = P; s < S0 + Rule::buffers; ++s)
            if (s != G) tile_out(row, Stream(s), i, n, at[s]);
    }
}

template <class Rule, class T>
void step(const Row& row, const void* coefficients, int64_t begin, int64_t end, const Row* next) {
    Coefficients<T, Rule::coefficients> h;
    std::memcpy(&h, coefficients, sizeof h);
    if (!row.in_place(P) || !row.in_place(G)) return step_tiles<Rule, T>(row, h, begin, end);
    const auto line = [&](Stream s) {
        return s < S0 + Rule::buffers ? reinterpret_cast<T*>(row.data[s]) + begin : nullptr;
    };
    const Ahead ahead(row, begin, end, next);
    run<Rule, T>(h, end - begin, ahead, line(P), line(G), {line(S0), line(S1), line(S2)});
}

}  // namespace
}  // namespace MEANSQUARE_ISA
