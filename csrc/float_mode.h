// The floating-point mode of a thread (rounding, flushing of subnormals), which torch sets for the
// caller alone and every thread of a step must share.
#pragma once
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
inline uint64_t float_mode() { return _mm_getcsr(); }
inline void set_float_mode(uint64_t mode) { _mm_setcsr(uint32_t(mode)); }
inline void pause_thread() { _mm_pause(); }
#elif defined(__aarch64__)
inline uint64_t float_mode() {
    uint64_t mode;
    asm volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
inline void set_float_mode(uint64_t mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
inline void pause_thread() { asm volatile("yield"); }
#else
inline uint64_t float_mode() { return 0; }
inline void set_float_mode(uint64_t) {}
inline void pause_thread() {}
#endif

// Holds another thread's mode for as long as this lives.
class FloatMode {
public:
    explicit FloatMode(uint64_t mode) : own_(float_mode()) { set_float_mode(mode); }
    ~FloatMode() { set_float_mode(own_); }

private:
    uint64_t own_;
};
