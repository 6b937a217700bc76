#include "layout.h"

namespace {

bool is_used(const Placement& at) { return at.format != Format::unsupported; }

// One dimension for each of the parameter's, from its slowest to its fastest. A complex tensor has
// one more: a pair of real numbers.
std::vector<Dimension> dimensions_of(const Placement (&at)[STREAMS]) {
    const Placement& p = at[P];
    std::vector<Dimension> dims;
    for (int d = 0; d < p.ndim; ++d) {
        if (p.shape[d] == 1) continue;
        Dimension& dimension = dims.emplace_back(Dimension{p.shape[d], {}});
        for (int s = P; s < STREAMS; ++s)
            if (is_used(at[s])) dimension.stride[s] = at[s].strides[d] * (p.complex ? 2 : 1);
    }
    std::stable_sort(dims.begin(), dims.end(), [](const Dimension& a, const Dimension& b) {
        return a.stride[P] > b.stride[P];
    });
    if (p.complex) dims.push_back({2, {1, 1, 1, 1, 1}});
    return dims;
}

bool overlaps_itself(const std::vector<Dimension>& dims, Stream s) {
    int64_t reach = 0;
    for (auto d = dims.rbegin(); d != dims.rend(); ++d) {
        if (d->stride[s] <= reach) return true;
        reach += (d->size - 1) * d->stride[s];
    }
    return false;
}

// Element after element, in the order of `dims`, without a gap.
bool is_dense(const std::vector<Dimension>& dims, Stream s) {
    int64_t expected = 1;
    for (auto d = dims.rbegin(); d != dims.rend(); expected *= d++->size)
        if (d->stride[s] != expected) return false;
    return true;
}

// Neighbouring dimensions that every stream walks as one become one.
void coalesce(std::vector<Dimension>& dims) {
    size_t kept = 0;
    for (size_t d = 1; d < dims.size(); ++d) {
        Dimension& outer = dims[kept];
        const auto joins = [&](int64_t far, int64_t near) { return far == near * dims[d].size; };
        if (std::equal(outer.stride, outer.stride + STREAMS, dims[d].stride, joins)) {
            const int64_t size = outer.size * dims[d].size;
            outer = dims[d];
            outer.size = size;
        } else {
            dims[++kept] = dims[d];
        }
    }
    if (!dims.empty()) dims.resize(kept + 1);
}

bool all_contiguous(const Placement (&at)[STREAMS]) {
    const Placement& p = at[P];
    int64_t expected = 1;
    for (int d = p.ndim - 1; d >= 0; expected *= p.shape[d--])
        for (int s = P; s < STREAMS && p.shape[d] != 1; ++s)
            if (is_used(at[s]) && at[s].strides[d] != expected) return false;
    return true;
}

bool is_addressable(const Row& row, Stream s) {
    const auto address = reinterpret_cast<uintptr_t>(row.data[s]);
    return address && address % size_t(size_of(row.format[s])) == 0;
}

}  // namespace

Laid lay_out(Row& row, const Placement (&at)[STREAMS]) {
    const Placement& p = at[P];
    const Format precision = p.format == Format::float64 ? Format::float64 : Format::float32;
    row.count = p.complex ? 2 : 1;
    for (int d = 0; d < p.ndim; ++d) row.count *= p.shape[d];
    for (int s = P; s < STREAMS; ++s) {
        row.data[s] = at[s].data;
        row.format[s] = at[s].format;
        if (!is_used(at[s])) continue;
        if (!at[s].same_shape(p) || (s >= S0 && row.format[s] != precision)) return Laid::refused;
        if (row.count > 0 && !is_addressable(row, Stream(s))) return Laid::refused;
    }
    row.dimensions.clear();
    if (row.count == 0) return Laid::plainly;
    if (all_contiguous(at)) return row.count == 1 || p.complex ? Laid::otherwise : Laid::plainly;

    row.dimensions = dimensions_of(at);
    for (Stream s : {P, S0, S1, S2}) {
        if (!is_used(at[s])) continue;
        if (overlaps_itself(row.dimensions, s)) return Laid::refused;
        if (is_dense(row.dimensions, P) && !is_dense(row.dimensions, s)) return Laid::refused;
    }
    bool dense = true;
    for (int s = P; s < STREAMS; ++s)
        dense = dense && (!is_used(at[s]) || is_dense(row.dimensions, Stream(s)));
    dense ? row.dimensions.clear() : coalesce(row.dimensions);
    return Laid::otherwise;
}

std::pair<char*, char*> span(const Row& row, Stream s) {
    int64_t last = row.dimensions.empty() ? row.count - 1 : 0;
    for (const Dimension& d : row.dimensions) last += (d.size - 1) * d.stride[s];
    return {row.data[s], row.data[s] + (last + 1) * size_of(row.format[s])};
}
