// Formats of elements in memory: what turns a tile of them into numbers and back.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

enum class Format : uint8_t { float32, float64, bfloat16, float16, unsupported };

constexpr int64_t size_of(Format f) {
    return f == Format::float64 ? 8 : f == Format::float32 ? 4 : 2;
}

// A stream of random bits for one tensor in one step: the same bits for the same element, whichever
// thread asks. splitmix64 (Steele et al. 2014) makes the key, lowbias32 (Wellons 2018) the bits.
struct Dice {
    uint64_t key;

    static constexpr uint64_t mix(uint64_t x) {
        x += 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
    }
    static constexpr Dice of(uint64_t seed, uint64_t tensor, uint64_t step) {
        return {mix(mix(mix(seed) ^ tensor) ^ step)};
    }
    // The key of the 2^32 elements that `element` lies among.
    constexpr uint32_t page(uint64_t element) const { return uint32_t(mix(key ^ (element >> 32))); }
};

// The numbers that elements have in the whole tensor, of which a rank may have a part.
struct Numbering {
    struct Level {
        int64_t size, stride;  // the stride is that of the whole
    };
    int64_t first = 0;          // the number of the part's first element
    std::vector<Level> levels;  // from the slowest in memory to the fastest; none: they are their own

    int64_t of(int64_t element) const {
        int64_t number = first;
        for (auto level = levels.rbegin(); level != levels.rend(); element /= level++->size)
            number += element % level->size * level->stride;
        return number;
    }
    // How many from this one on are numbered one after the other.
    int64_t run(int64_t element) const {
        if (levels.empty()) return std::numeric_limits<int64_t>::max();
        return levels.back().stride == 1 ? levels.back().size - element % levels.back().size : 1;
    }
};

namespace MEANSQUARE_ISA {
namespace {

inline uint32_t bits16(uint32_t page, uint32_t element) {
    uint32_t x = element ^ page;
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return (x ^ (x >> 16)) & 0xffffu;
}

inline float from_bfloat16(uint16_t h) { return std::bit_cast<float>(uint32_t(h) << 16); }

inline float from_float16(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    const uint32_t normal = (magnitude << 13) + (magnitude >= 0x7c00u ? 224u << 23 : 112u << 23);
    const uint32_t tiny = std::bit_cast<uint32_t>(float(int32_t(magnitude)) * 0x1p-24f);
    return std::bit_cast<float>(sign | (magnitude < 0x400u ? tiny : normal));
}

// Stochastic rounding: random bits are added below the kept ones and the sum is cut off, so that a
// value between two neighbours goes up with a probability equal to its distance from the lower.
inline uint16_t to_bfloat16(float x, uint32_t random) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    const uint16_t nan = uint16_t((bits >> 16) | 0x40u), rounded = uint16_t((bits + random) >> 16);
    return (bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded;
}

inline uint16_t to_float16(float x, uint32_t random) {
    const uint32_t bits = std::bit_cast<uint32_t>(x), magnitude = bits & 0x7fffffffu;
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t normal = ((magnitude + (random >> 3)) >> 13) - (112u << 10);
    // Below 2^-14 neighbours lie 2^-24 apart; the scaled value has 16 bits below them.
    const float small = magnitude < 0x38800000u ? std::bit_cast<float>(magnitude) : 0.0f;
    const uint32_t tiny = (uint32_t(int32_t(small * 0x1p40f)) + random) >> 16;
    // Only values that round-to-nearest sends to infinity go there (65520 and above).
    const uint32_t top = magnitude > 0x7f800000u ? 0x7e00u : magnitude >= 0x477ff000u ? 0x7c00u : 0x7bffu;
    const uint32_t finite = magnitude < 0x38800000u ? tiny : normal;
    return uint16_t(sign | (magnitude >= 0x477fe000u ? top : finite));
}

template <class T>
void load(Format format, const void* from, T* to, size_t n) {
    if (format == Format::float32)
        for (size_t i = 0; i < n; ++i) to[i] = T(static_cast<const float*>(from)[i]);
    if (format == Format::float64)
        for (size_t i = 0; i < n; ++i) to[i] = T(static_cast<const double*>(from)[i]);
    if (format == Format::bfloat16)
        for (size_t i = 0; i < n; ++i) to[i] = T(from_bfloat16(static_cast<const uint16_t*>(from)[i]));
    if (format == Format::float16)
        for (size_t i = 0; i < n; ++i) to[i] = T(from_float16(static_cast<const uint16_t*>(from)[i]));
}

template <class T>
void store(Format format, const T* from, void* to, size_t n, Dice dice, uint64_t first) {
    const uint64_t turn = ((first >> 32) + 1) << 32;  // where the next page of random bits begins
    if (first + n > turn) {
        store(format, from, to, turn - first, dice, first);
        char* rest = static_cast<char*>(to) + int64_t(turn - first) * size_of(format);
        return store(format, from + (turn - first), rest, first + n - turn, dice, turn);
    }
    const uint32_t page = dice.page(first), start = uint32_t(first);
    if (format == Format::float32)
        for (size_t i = 0; i < n; ++i) static_cast<float*>(to)[i] = float(from[i]);
    if (format == Format::float64)
        for (size_t i = 0; i < n; ++i) static_cast<double*>(to)[i] = double(from[i]);
    if (format == Format::bfloat16)
        for (size_t i = 0; i < n; ++i)
            static_cast<uint16_t*>(to)[i] = to_bfloat16(float(from[i]), bits16(page, start + uint32_t(i)));
    if (format == Format::float16)
        for (size_t i = 0; i < n; ++i)
            static_cast<uint16_t*>(to)[i] = to_float16(float(from[i]), bits16(page, start + uint32_t(i)));
}

}  // namespace
}  // namespace MEANSQUARE_ISA
