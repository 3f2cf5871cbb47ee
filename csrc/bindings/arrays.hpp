// Conversions between arrays and matrices.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "bindings/dlpack.hpp"
#include "bindings/gil.hpp"
#include "core/matrix.hpp"
#include "core/moments/state.hpp"

namespace fidfast::bindings {

/// pybind11 looks up NumPy now; later it would release the GIL by its own guards. Call when a module is imported.
inline void look_up_numpy() { py::dtype::of<double>(); }

/// Row-major arrays of T; other arrays are converted.
template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

// A Binding describes how one backend is used from Python. Its members:
//   Device
//   prepare()                         called with the GIL held, before the device's first operation
//   Session(device)                   while it exists, this thread works on that device
//   Features(array, device, stream)   features on the device, borrowed if possible; view() returns them. Call done(),
//                                     without the GIL, when all work that reads them is enqueued. If it throws, that
//                                     work is lost
//   read_only_array(matrix, shape, owner)   a matrix that `owner` keeps alive, as a read-only array

template <class Binding, class Work>
auto run_on(int device, Work work) {
  const typename Binding::Session session(device);
  return without_gil(&Binding::prepare, work);
}

template <class T>
void require_same_device(const T& a, const T& b) {
  if (a.device() != b.device()) {
    throw py::value_error("both must be on one device, got devices " + std::to_string(a.device()) + " and " +
                          std::to_string(b.device()));
  }
}

/// Copies a row-major (n, m) array to a column-major (m, n) matrix.
template <class Device, class T>
Matrix<Device, T> matrix_of(const Array<T>& array) {
  Matrix<Device, T> result(array.ndim() > 1 ? array.shape(1) : array.shape(0), array.ndim() > 1 ? array.shape(0) : 1);
  const T* const from = array.data();
  without_gil([] {},
              [&] { Device::from_host(result.data(), from, static_cast<std::size_t>(result.size()) * sizeof(T)); });
  return result;
}

template <class Device>
Vector<Device> vector_of(const Array<double>& array) {
  Vector<Device> result;
  result.Matrix<Device>::operator=(matrix_of<Device, double>(array));
  return result;
}

/// Copies a matrix to a row-major array with the given shape.
template <class Device, class T>
py::array array_of(const Matrix<Device, T>& matrix, std::vector<Index> shape) {
  Array<T> result(std::move(shape));
  const auto bytes = static_cast<std::size_t>(result.nbytes());
  T* const to = result.mutable_data();
  without_gil([] {}, [&] { Device::to_host(to, matrix.data(), bytes); });
  return std::move(result);
}

inline Precision precision_of(const std::string& name) {
  if (name == "float32") return Precision::kFloat32;
  if (name == "float64") return Precision::kFloat64;
  throw py::value_error("precision must be 'float32' or 'float64', got '" + name + "'");
}

inline const char* name_of(Precision precision) { return precision == Precision::kFloat32 ? "float32" : "float64"; }

inline py::array_t<double> array_of_numbers(const std::vector<double>& numbers) {
  return py::array_t<double>(static_cast<py::ssize_t>(numbers.size()), numbers.data());
}

/// Whether the numbers may be `product_errors`: finite and not negative.
inline bool all_errors(const double* errors, Index n) {
  return std::all_of(errors, errors + n, [](double error) { return error >= 0 && std::isfinite(error); });
}

}  // namespace fidfast::bindings
