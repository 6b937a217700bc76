// What the printed rules are made of.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

// The numbers of a step as elements meet them: folded in double precision, then rounded once.
template <class T, int N>
struct Coefficients {
    T x[N];
};

namespace MEANSQUARE_ISA {
namespace {

// On the bits, or the compiler would multiply first and choose afterwards.
template <class T>
inline T or_zero(T x, T least) {
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    return std::bit_cast<T>(std::bit_cast<Bits>(x) & (std::abs(x) < least ? Bits(0) : ~Bits(0)));
}

}  // namespace
}  // namespace MEANSQUARE_ISA
