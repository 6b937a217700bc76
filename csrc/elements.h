// The elements of a tensor in the order of their indices, however it lies: to pick some, to count some.
#pragma once
#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "layout.h"
#include "probes.h"

// Elements of a tensor, in its own memory or in theirs.
struct Picked {
    Words words;
    int64_t count = 0;
    std::vector<char> own;
};

inline bool is_addressable(const Placement& at) {
    if (at.format == Format::unsupported || at.complex || !at.data) return false;
    return reinterpret_cast<uintptr_t>(at.data) % size_t(size_of(at.format)) == 0;
}

// The elements of a tensor by their indices.
class Elements {
public:
    explicit Elements(const Placement& at) : data_(at.data), format_(at.format) {
        for (int d = 0; d < at.ndim; ++d) {
            count_ *= at.shape[d];
            if (at.shape[d] != 1) digits_.push_back({at.shape[d], at.strides[d]});
        }
        join();
    }
    int64_t count() const { return count_; }

    // How far apart elements are picked, so that no column of a matrix is left out.
    int64_t spacing(int64_t most) const {
        int64_t apart = (count_ - 1) / most + 1;
        while (apart > 1 && std::gcd(apart, count_) > 1) ++apart;
        return apart;
    }
    // Every `apart`-th; a line is left where it is, unless they are to be kept.
    Picked pick(int64_t apart, bool keep) const {
        Picked picked{{format_, data_}, (count_ + apart - 1) / apart, {}};
        if (apart == 1 && is_line() && !keep) return picked;
        picked.own.resize(size_t(picked.count * size_of(format_)));
        picked.words.data = picked.own.data();
        if (apart == 1 && is_line())
            std::memcpy(picked.own.data(), data_, picked.own.size());
        else
            size_of(format_) == 2   ? copy<uint16_t>(apart, picked.own.data())
            : size_of(format_) == 4 ? copy<uint32_t>(apart, picked.own.data())
                                    : copy<uint64_t>(apart, picked.own.data());
        return picked;
    }
    // How many are NaN or infinite: all bits of the exponent are set.
    int64_t nonfinite() {
        std::sort(digits_.begin(), digits_.end(), [](Digit a, Digit b) { return a.stride > b.stride; });
        join();
        switch (format_) {
            case Format::float16: return count_words<uint16_t>(0x7c00u);
            case Format::bfloat16: return count_words<uint16_t>(0x7f80u);
            case Format::float32: return count_words<uint32_t>(0x7f800000u);
            default: return count_words<uint64_t>(0x7ff0000000000000u);
        }
    }

private:
    struct Digit {
        int64_t size, stride;
    };

    bool is_line() const { return digits_.empty() || (digits_.size() == 1 && digits_[0].stride == 1); }

    // Neighbouring dimensions that lie one behind the other become one.
    void join() {
        std::vector<Digit> joined;
        for (const Digit& d : digits_) {
            if (!joined.empty() && joined.back().stride == d.stride * d.size)
                joined.back() = {joined.back().size * d.size, d.stride};
            else
                joined.push_back(d);
        }
        digits_ = std::move(joined);
    }

    // Visits the offset of every `apart`-th element; that is added to the index as to a number whose
    // digits are the places along each dimension.
    template <class Visit>
    void visit(int64_t apart, Visit each) const {
        const size_t digits = digits_.size();
        std::vector<int64_t> at(digits), step(digits);
        int64_t rest = apart, offset = 0;
        for (size_t d = digits; d-- > 0; rest /= digits_[d].size) step[d] = rest % digits_[d].size;
        for (int64_t element = 0; element < count_; element += apart) {
            each(offset);
            for (size_t d = digits, carry = 0; d-- > 0;) {
                int64_t moved = step[d] + int64_t(carry);
                carry = at[d] + moved >= digits_[d].size;
                if (carry) moved -= digits_[d].size;
                at[d] += moved;
                offset += moved * digits_[d].stride;
            }
        }
    }

    template <class Word>
    void copy(int64_t apart, void* to) const {
        const auto* from = reinterpret_cast<const Word*>(data_);
        auto* next = static_cast<Word*>(to);
        visit(apart, [&](int64_t offset) { *next++ = from[offset]; });
    }

    template <class Word>
    int64_t count_words(Word exponent) const {
        const auto* from = reinterpret_cast<const Word*>(data_);
        const auto is_found = [exponent](Word word) { return Word((word & exponent) == exponent); };
        int64_t found = 0;
        if (!is_line()) {
            visit(1, [&](int64_t offset) { found += is_found(from[offset]); });
            return found;
        }
        constexpr int64_t block = 4096;  // counted in words of their size
        for (int64_t begin = 0; begin < count_; begin += block) {
            Word some = 0;
            for (int64_t i = begin; i < std::min(begin + block, count_); ++i) some = Word(some + is_found(from[i]));
            found += some;
        }
        return found;
    }

    char* data_;
    Format format_;
    int64_t count_ = 1;
    std::vector<Digit> digits_;  // from the slowest dimension to the fastest
};
