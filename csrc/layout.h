// How the tensors of a row lie in memory, and in which order the kernels walk them. No Python here:
// rows are laid out on several threads.
#pragma once
#include <algorithm>
#include <utility>

#include "step.h"

// Where a tensor lies, as read from its Python object.
struct Placement {
    char* data = nullptr;
    Format format = Format::unsupported;  // of one real number
    bool complex = false;
    int ndim = 0;
    const int64_t *shape = nullptr, *strides = nullptr;  // the tensor's own: valid until torch runs
    bool is_alone = false;  // its storage is known to hold one number and nothing else

    bool same_shape(const Placement& other) const {
        return ndim == other.ndim && complex == other.complex &&
               std::equal(shape, shape + ndim, other.shape);
    }
    bool same(const Placement& other) const {
        return data == other.data && format == other.format && same_shape(other) &&
               std::equal(strides, strides + ndim, other.strides);
    }
};

enum class Laid : uint8_t { refused, plainly, otherwise };

// Fills the row's pointers, formats, count and dimensions from where its streams lie (without a
// format: not used). Refused is what the kernels must not touch: other shapes or formats, no memory
// or an address between two elements, an element in two places, state that is not laid out like its
// parameter. `otherwise` is what may be a lazily negated or conjugated view: torch makes them of
// complex numbers, so that they have strides, are complex or a single number (unless as_strided() or
// a private function has hidden it).
Laid lay_out(Row& row, const Placement (&at)[STREAMS]);

// From where to where a stream of the row reaches.
std::pair<char*, char*> span(const Row& row, Stream s);
