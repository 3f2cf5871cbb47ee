// Features from NumPy arrays and anything with __dlpack__, without copying.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

#include "bindings/gil.hpp"
#include "core/matrix.hpp"

namespace fidfast::bindings {

namespace py = pybind11;

/// A borrowed array, and the object that keeps it alive.
struct Features {
  AnyFeatures view;
  py::object owner;
};

namespace dlpack {

// C structures of DLPack 1.0.
struct Device {
  std::int32_t type;
  std::int32_t id;
};
struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};
struct ManagedTensor {
  Tensor tensor;
  void* manager;
  void (*deleter)(ManagedTensor*);
};
struct ManagedTensorVersioned {
  std::uint32_t major;
  std::uint32_t minor;
  void* manager;
  void (*deleter)(ManagedTensorVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};

constexpr std::int32_t kCpu = 1;
constexpr std::int32_t kCuda = 2;
constexpr std::int32_t kCudaHost = 3;
constexpr std::int32_t kCudaManaged = 13;
constexpr std::uint8_t kFloat = 2;
constexpr std::uint8_t kBFloat = 4;

/// Takes over the tensor of a capsule and renames the capsule, as DLPack requires of a consumer. The returned owner
/// frees the tensor.
template <class Managed>
std::pair<Tensor*, py::object> consume(const py::object& capsule, const char* name, const char* used_name) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (managed == nullptr) throw py::error_already_set();
  if (PyCapsule_SetName(capsule.ptr(), used_name) != 0) throw py::error_already_set();
  py::capsule owner(managed, [](void* memory) {
    auto* mine = static_cast<Managed*>(memory);
    if (mine->deleter != nullptr) mine->deleter(mine);
  });
  return {&managed->tensor, std::move(owner)};
}

}  // namespace dlpack

inline std::string shape_text(const std::int64_t* shape, std::int64_t ndim) {
  std::string text = "(";
  for (std::int64_t i = 0; i < ndim; ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + (ndim == 1 ? ",)" : ")");
}

[[noreturn]] inline void reject_dtype(const std::string& dtype) {
  throw py::type_error("features must be float16, bfloat16, float32 or float64, got " + dtype);
}

template <class T>
AnyFeatures view_of(const void* data, const std::int64_t* shape, std::int64_t row_stride, std::int64_t column_stride) {
  return FeatureView<T>{static_cast<const T*>(data), shape[0], shape[1], row_stride, column_stride};
}

/// Checks shape and dtype. kind is 'f' or 'b' (bfloat16); strides are in elements, null for a contiguous array.
inline AnyFeatures checked_view(const void* data, char kind, int bits, const std::string& dtype,
                                const std::int64_t* shape, const std::int64_t* strides, std::int64_t ndim) {
  if (ndim != 2) throw py::value_error("features must be 2-D (n, dim), got shape " + shape_text(shape, ndim));
  if (shape[1] == 0) throw py::value_error("features must have at least 1 column, got shape " + shape_text(shape, 2));
  const std::int64_t row_stride = strides != nullptr ? strides[0] : shape[1];
  const std::int64_t column_stride = strides != nullptr ? strides[1] : 1;
  if (kind == 'b' && bits == 16) return view_of<BFloat16>(data, shape, row_stride, column_stride);
  if (kind == 'f' && bits == 16) return view_of<Float16>(data, shape, row_stride, column_stride);
  if (kind == 'f' && bits == 32) return view_of<float>(data, shape, row_stride, column_stride);
  if (kind == 'f' && bits == 64) return view_of<double>(data, shape, row_stride, column_stride);
  reject_dtype(dtype);
}

inline Features features_of_numpy(py::array array) {
  PyObject* const name = run_python([&] { return PyObject_Str(array.dtype().ptr()); });
  if (name == nullptr) throw py::error_already_set();
  const std::string dtype = py::reinterpret_steal<py::str>(name);
  const bool bfloat16 = dtype == "bfloat16";
  if (!bfloat16 && (array.dtype().kind() != 'f' || array.itemsize() > 8)) reject_dtype(dtype);
  const bool swapped = !py::cast<bool>(array.dtype().attr("isnative"));
  bool whole = py::cast<bool>(array.attr("flags").attr("aligned"));
  for (py::ssize_t i = 0; i < array.ndim(); ++i) whole = whole && array.strides(i) % array.itemsize() == 0;
  if (swapped || !whole) {  // byte-swapped arrays and fields of structured arrays are copied
    array = py::module_::import("numpy").attr("asarray")(array.attr("astype")(array.dtype().attr("newbyteorder")("=")));
  }
  std::int64_t shape[32];
  std::int64_t strides[32];
  const std::int64_t ndim = std::min<py::ssize_t>(array.ndim(), 32);
  for (std::int64_t i = 0; i < ndim; ++i) {
    shape[i] = array.shape(i);
    strides[i] = array.strides(i) / array.itemsize();
  }
  const int bits = static_cast<int>(8 * array.itemsize());
  return {checked_view(array.data(), bfloat16 ? 'b' : 'f', bits, dtype, shape, strides, ndim), array};
}

inline std::string dtype_text(const dlpack::DataType& dtype) {
  static const char* const kinds[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
  const std::string bits = std::to_string(dtype.bits);
  if (dtype.code > 6) return bits + " bits of DLPack's type " + std::to_string(dtype.code);  // float8, for example
  return dtype.code == 6 ? kinds[6] : kinds[dtype.code] + bits;
}

/// The array, detached if it requires a gradient: autograd libraries do not export such tensors.
inline py::object exportable(const py::object& array) {
  const bool differentiable = py::cast<bool>(py::bool_(py::getattr(array, "requires_grad", py::bool_(false))));
  return differentiable ? call_python(array.attr("detach")) : array;
}

/// Calls read(), which calls methods of the array. Their errors, which may have any type, become a TypeError, except
/// ValueError, MemoryError and KeyboardInterrupt.
template <class Read>
auto reading(const py::object& array, Read read) {
  try {
    return read();
  } catch (py::error_already_set& error) {
    for (PyObject* const kept : {PyExc_ValueError, PyExc_MemoryError}) {
      if (error.matches(kept)) throw;
    }
    if (!error.matches(PyExc_Exception)) throw;
    throw py::type_error("features of type " + py::cast<std::string>(py::type::of(array).attr("__name__")) +
                         " cannot be read: " + py::cast<std::string>(py::str(error.value())));
  } catch (const py::cast_error&) {
    throw py::type_error("features must be an array or tensor (n, dim), got " +
                         py::cast<std::string>(py::type::of(array).attr("__name__")));
  }
}

/// Borrows a tensor through DLPack; stream is a stream number as DLPack defines it, or None for host memory.
inline Features borrow_by_dlpack(const py::object& array, const py::object& stream) {
  py::dict options;
  if (!stream.is_none()) options["stream"] = stream;
  py::dict latest = options.attr("copy")();
  latest["max_version"] = py::make_tuple(1, 0);
  const py::object exporter = array.attr("__dlpack__");
  py::object capsule;
  try {
    capsule = call_python(exporter, latest);
  } catch (py::error_already_set& error) {  // exporters before DLPack 1.0 have no max_version
    if (!error.matches(PyExc_TypeError)) throw;
    capsule = call_python(exporter, options);
  }
  const auto [tensor, owner] =
      PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned") != 0
          ? dlpack::consume<dlpack::ManagedTensorVersioned>(capsule, "dltensor_versioned", "used_dltensor_versioned")
          : dlpack::consume<dlpack::ManagedTensor>(capsule, "dltensor", "used_dltensor");
  std::int64_t size = 1;
  for (std::int32_t i = 0; i < tensor->ndim; ++i) size *= tensor->shape[i];
  if (tensor->data == nullptr && size != 0) {
    throw py::type_error("features have the shape " + shape_text(tensor->shape, tensor->ndim) + ", but no data");
  }
  const char kind = tensor->dtype.code == dlpack::kBFloat ? 'b' : tensor->dtype.code == dlpack::kFloat ? 'f' : '?';
  const void* const data = static_cast<const char*>(tensor->data) + tensor->byte_offset;
  return {checked_view(data, kind, tensor->dtype.bits, dtype_text(tensor->dtype), tensor->shape, tensor->strides,
                       tensor->ndim),
          owner};
}

inline Features features_of_dlpack(const py::object& array) {
  const auto device = py::cast<std::pair<int, int>>(call_python(array.attr("__dlpack_device__")));
  if (device.first != dlpack::kCpu && device.first != dlpack::kCudaHost) {
    throw py::value_error("features must be on the CPU or a CUDA GPU, got DLPack device type " +
                          std::to_string(device.first) + "; move them with .cpu()");
  }
  return borrow_by_dlpack(exportable(array), py::none());
}

/// Borrows an array of features (n, dim). Throws TypeError or ValueError if it is not one.
inline Features import_features(const py::object& array) {
  if (py::isinstance<py::array>(array)) return features_of_numpy(py::cast<py::array>(array));
  if (py::hasattr(array, "__dlpack__")) {
    return reading(array, [&] { return features_of_dlpack(array); });
  }
  if (py::hasattr(array, "__array__")) {
    return features_of_numpy(
        reading(array, [&] { return py::cast<py::array>(py::module_::import("numpy").attr("asarray")(array)); }));
  }
  throw py::type_error("features must be an array or tensor (n, dim), got " +
                       py::cast<std::string>(py::type::of(array).attr("__name__")));
}

/// import_features() with the name of the argument in error messages.
inline Features import_named(const py::object& array, const std::string& name) {
  try {
    return import_features(array);
  } catch (const py::type_error& error) {
    throw py::type_error(name + ": " + error.what());
  } catch (const py::value_error& error) {
    throw py::value_error(name + ": " + error.what());
  }
}

}  // namespace fidfast::bindings
