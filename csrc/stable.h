// Reads tensors through torch's C interface for compiled models, whose functions keep their meaning
// from one release to the next (torch/csrc/inductor/aoti_torch/c/shim.h). They need no GIL and less
// time than DLPack, but a pointer to the at::Tensor, which lies within the Python object: always at
// the same place in one build of torch, which is looked for in samples when connecting.
#pragma once
#include <Python.h>
#include <dlfcn.h>

#include <optional>

#include "layout.h"

class StableReader {
public:
    // False where this torch has no such functions.
    bool find_functions(const char* library) {
        void* torch = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
        int32_t (*code)() = nullptr;
        bool all = torch;
        const auto find = [&](auto& function, const char* name) {
            function = all ? reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(torch, name)) : nullptr;
            all = all && function;
        };
        const auto find_code = [&](int32_t& value, const char* name) {
            find(code, name);
            if (code) value = code();
        };
        find(data_, "aoti_torch_get_data_ptr");
        find(dim_, "aoti_torch_get_dim");
        find(sizes_, "aoti_torch_get_sizes");
        find(strides_, "aoti_torch_get_strides");
        find(dtype_, "aoti_torch_get_dtype");
        find(device_, "aoti_torch_get_device_type");
        find(layout_, "aoti_torch_get_layout");
        find(storage_size_, "aoti_torch_get_storage_size");
        find(storage_offset_, "aoti_torch_get_storage_offset");
        find_code(cpu_, "aoti_torch_device_type_cpu");
        find_code(strided_, "aoti_torch_layout_strided");
        for (Kind& kind : kinds_) find_code(kind.code, kind.name);
        return all;
    }

    // Where the at::Tensor lies in the object of a tensor whose TensorImpl is at `inside`: the one
    // place with that address; none where there is none or several.
    static std::optional<size_t> find_offset(PyObject* tensor, void* inside) {
        std::optional<size_t> found;
        const auto size = size_t(Py_TYPE(tensor)->tp_basicsize);
        for (size_t at = sizeof(PyObject); at + sizeof(void*) <= size; at += sizeof(void*)) {
            if (inside_at(tensor, at) != inside) continue;
            if (found) return {};
            found = at;
        }
        return found;
    }

    void use_offset(size_t offset) { offset_ = offset; }

    Placement read(PyObject* tensor) const {
        if (!inside_at(tensor, offset_)) return {};
        void* handle = reinterpret_cast<char*>(tensor) + offset_;
        int32_t device, layout, dtype;
        if (device_(handle, &device) || device != cpu_) return {};
        if (layout_(handle, &layout) || layout != strided_ || dtype_(handle, &dtype)) return {};
        for (const Kind& kind : kinds_) {
            if (kind.code != dtype) continue;
            void* data;
            int64_t dim, *sizes, *strides;
            if (data_(handle, &data) || dim_(handle, &dim) || sizes_(handle, &sizes) || strides_(handle, &strides))
                return {};
            Placement p{static_cast<char*>(data), kind.format, kind.complex, int(dim), sizes, strides};
            return lies_within_storage(handle, p) ? p : Placement{};
        }
        return {};
    }

private:
    template <class T>
    using Get = int32_t (*)(void* tensor, T* value);  // 0 for success

    struct Kind {
        const char* name;
        Format format;
        bool complex;
        int32_t code = -1;
    };

    // A storage can be cut under its tensor, which torch does not look at either.
    bool lies_within_storage(void* handle, Placement& p) const {
        int64_t bytes, first, last = 0;
        if (storage_size_(handle, &bytes) || storage_offset_(handle, &first)) return false;
        for (int d = 0; d < p.ndim; ++d) {
            if (p.shape[d] == 0) return true;
            last += (p.shape[d] - 1) * p.strides[d];
        }
        p.is_alone = bytes == size_of(p.format);
        return (first + last + 1) * size_of(p.format) * (p.complex ? 2 : 1) <= bytes;
    }

    static void* inside_at(PyObject* tensor, size_t offset) {
        void* inside;
        std::memcpy(&inside, reinterpret_cast<char*>(tensor) + offset, sizeof inside);
        return inside;
    }

    Get<void*> data_ = nullptr;
    Get<int64_t> dim_ = nullptr, storage_size_ = nullptr, storage_offset_ = nullptr;
    Get<int64_t*> sizes_ = nullptr, strides_ = nullptr;
    Get<int32_t> dtype_ = nullptr, device_ = nullptr, layout_ = nullptr;
    int32_t cpu_ = 0, strided_ = 0;
    Kind kinds_[6] = {{"aoti_torch_dtype_float32", Format::float32, false},
                      {"aoti_torch_dtype_float64", Format::float64, false},
                      {"aoti_torch_dtype_bfloat16", Format::bfloat16, false},
                      {"aoti_torch_dtype_float16", Format::float16, false},
                      {"aoti_torch_dtype_complex64", Format::float32, true},
                      {"aoti_torch_dtype_complex128", Format::float64, true}};
    size_t offset_ = 0;
};
