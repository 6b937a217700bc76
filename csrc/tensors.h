// Where a tensor lies, read from the Python object without a torch header: through torch's C
// interface for compiled models; where that does not serve, through its DLPack exchange interface;
// and where torch is too old for that, through a Python function.
#pragma once
#include <Python.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "stable.h"

// An owned reference to a Python object.
struct Ref {
    PyObject* object = nullptr;
    Ref() = default;
    explicit Ref(PyObject* owned) : object(owned) {}
    Ref(Ref&& other) noexcept : object(std::exchange(other.object, nullptr)) {}
    Ref& operator=(Ref&& other) noexcept {
        std::swap(object, other.object);
        return *this;
    }
    ~Ref() { Py_XDECREF(object); }
};

// The non-owning view of DLPack 1.x (dlpack.h, DLTensor), fixed by its major version.
struct DLTensor {
    void* data;
    struct { int32_t type, id; } device;
    int32_t ndim;
    struct { uint8_t code, bits; uint16_t lanes; } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};

struct DLPackExchangeAPI {
    struct { uint32_t major, minor; } version;
    void *prev, *allocate, *from_object, *to_object;
    int (*view)(void* object, DLTensor* out);
    void* stream;
};

// Returns a Placement on the CPU, with the format `unsupported` for anything else.
class TensorReader {
public:
    // `capsule` is torch.Tensor.__dlpack_c_exchange_api__ or None, `describe` the Python function.
    void use(PyObject* capsule, PyObject* describe) {
        stable_.reset();
        const auto* api = capsule == Py_None ? nullptr : static_cast<const DLPackExchangeAPI*>(
            PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
        PyErr_Clear();
        view_ = api && api->version.major == 1 ? api->view : nullptr;
        Py_XDECREF(describe_);
        describe_ = Py_NewRef(describe);
    }
    bool direct() const { return view_ != nullptr; }
    // Reads through torch's C interface from now on where that tells the same of every sample.
    bool use_stable(const char* library, const std::vector<PyObject*>& samples) {
        stable_.reset();
        StableReader stable;
        std::optional<size_t> offset;
        if (!stable.find_functions(library)) return false;
        for (PyObject* sample : samples) {
            const Ref inside(PyObject_GetAttrString(sample, "_cdata"));
            void* address = inside.object ? PyLong_AsVoidPtr(inside.object) : nullptr;
            const auto found = address ? StableReader::find_offset(sample, address) : std::nullopt;
            if (!found || (offset && offset != found)) return PyErr_Clear(), false;
            offset = found;
            stable.use_offset(*offset);
            if (!stable.read(sample).same(read(sample))) return false;
        }
        if (offset) stable_ = stable;
        return offset.has_value();
    }
    // Whether a tensor is read without Python, also by threads that do not have the GIL.
    bool without_python() const { return stable_.has_value(); }

    Placement read(PyObject* tensor) {
        if (stable_) return stable_->read(tensor);
        DLTensor t{};
        if (view_ ? view_(tensor, &t) != 0 : !describe(tensor, t)) {
            PyErr_Clear();
            return {};
        }
        constexpr int32_t cpu = 1;
        if (t.device.type != cpu || t.dtype.lanes != 1) return {};
        Placement p{static_cast<char*>(t.data) + t.byte_offset, format_of(t), t.dtype.code == COMPLEX,
                    t.ndim, t.shape, t.strides};
        return p;
    }

private:
    static constexpr uint8_t FLOAT = 2, BFLOAT = 4, COMPLEX = 5;  // DLDataTypeCode

    static Format format_of(const DLTensor& t) {
        const int bits = t.dtype.code == COMPLEX ? t.dtype.bits / 2 : t.dtype.bits;
        if (t.dtype.code == BFLOAT && bits == 16) return Format::bfloat16;
        if (t.dtype.code != FLOAT && t.dtype.code != COMPLEX) return Format::unsupported;
        if (bits == 32) return Format::float32;
        if (bits == 64) return Format::float64;
        return bits == 16 && t.dtype.code == FLOAT ? Format::float16 : Format::unsupported;
    }

    // describe(tensor) -> (pointer, device type, dtype code, bits, *shape, *strides)
    bool describe(PyObject* tensor, DLTensor& t) {
        const Ref row(PyObject_CallOneArg(describe_, tensor));
        if (!row.object) return false;
        const Py_ssize_t n = PyTuple_GET_SIZE(row.object);
        // For as many tensors as one row has, and its step count.
        static thread_local std::vector<int64_t> shapes[STREAMS + 1];
        static thread_local size_t turn = 0;
        std::vector<int64_t>& kept = shapes[turn++ % (STREAMS + 1)];
        kept.assign(size_t(n), 0);
        for (Py_ssize_t i = 0; i < n; ++i)
            kept[size_t(i)] = PyLong_AsLongLong(PyTuple_GET_ITEM(row.object, i));
        t.data = reinterpret_cast<void*>(kept[0]);
        t.device.type = int32_t(kept[1]);
        t.dtype = {uint8_t(kept[2]), uint8_t(kept[3]), 1};
        t.ndim = int32_t((n - 4) / 2);
        t.shape = kept.data() + 4;
        t.strides = t.shape + t.ndim;
        return !PyErr_Occurred();
    }

    std::optional<StableReader> stable_;
    int (*view_)(void*, DLTensor*) = nullptr;
    PyObject* describe_ = nullptr;
};

inline TensorReader& reader() {
    static TensorReader instance;
    return instance;
}

// What the kernels need to know of torch's Python types.
class TorchTypes {
public:
    void connect(PyObject* tensor, PyObject* parameter) {
        tensor_ = tensor;
        parameter_ = parameter;
        grad_ = PyObject_GetAttrString(tensor, "grad");
    }
    // `kind` is the type of tensors that lie on several ranks, `part` what tells of one its part here.
    void connect_distributed(PyObject* kind, PyObject* part) {
        distributed_ = kind;
        part_ = part;
    }
    // Of the exact types that the kernels take: torch.Tensor and torch.nn.Parameter.
    bool is_plain(PyObject* tensor) const {
        const auto* type = reinterpret_cast<PyObject*>(Py_TYPE(tensor));
        return type == tensor_ || type == parameter_;
    }
    bool is_tensor(PyObject* object) const {
        return PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(tensor_));
    }
    // The tensor itself, or its part on this rank, which `held` keeps. Null where neither is plain.
    PyObject* plain(PyObject* tensor, std::vector<Ref>& held) const {
        if (is_plain(tensor)) return tensor;
        if (!distributed_ || reinterpret_cast<PyObject*>(Py_TYPE(tensor)) != distributed_) return nullptr;
        Ref part(Py_TYPE(part_)->tp_descr_get(part_, tensor, distributed_));
        if (!part.object) PyErr_Clear();
        if (!part.object || !is_plain(part.object)) return nullptr;
        held.push_back(std::move(part));
        return held.back().object;
    }
    // A new reference, or null.
    PyObject* gradient_of(PyObject* parameter) const {
        return Py_TYPE(grad_)->tp_descr_get(grad_, parameter, tensor_);
    }

private:
    PyObject *tensor_ = nullptr, *parameter_ = nullptr, *grad_ = nullptr;
    PyObject *distributed_ = nullptr, *part_ = nullptr;
};
inline TorchTypes torch_types;
