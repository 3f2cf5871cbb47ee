// Arrays between Python and the core, and the lock of the interpreter around its work.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <utility>
#include <vector>

#include "bindings/dlpack.hpp"
#include "core/matrix.hpp"
#include "core/moments/state.hpp"

namespace fidfast::bindings {

/// Row-major arrays, converted to T where they are not.
template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

// A door is where a device meets Python, a type with
//   Device
//   prepare()                            what the device needs before its first verb; called with the GIL held
//   Session(place)                       while it lives, this thread works at that place
//   place_of(number), number_of(place)   places as Python counts them
//   Features(array, place, stream)       features in: borrowed where they can be, `view()` while it lives; done() when
//                                        all work that reads them was given to the device, without the GIL. Where it
//                                        throws, that work is lost
//   look(matrix, shape, owner)           a read-only array of numbers that `owner` holds

/// Runs work() without the GIL.
template <class Work>
auto without_gil(void (*prepare)(), Work work) {
  prepare();
  const py::gil_scoped_release release;
  return work();
}

template <class Door, class Work>
auto at_place(const typename Door::Device::Place& place, Work work) {
  const typename Door::Session session(place);
  return without_gil(&Door::prepare, work);
}

template <class Door, class Thing>
void require_same_place(const Thing& one, const Thing& other) {
  if (Door::number_of(one.place()) != Door::number_of(other.place())) {
    throw py::value_error("they lie on the devices " + std::to_string(Door::number_of(one.place())) + " and " +
                          std::to_string(Door::number_of(other.place())));
  }
}

/// A row-major (n, m) array as the column-major (m, n) matrix of the same bytes.
template <class Device, class T>
Matrix<Device, T> matrix_of(const Array<T>& array) {
  Matrix<Device, T> result(array.ndim() > 1 ? array.shape(1) : array.shape(0), array.ndim() > 1 ? array.shape(0) : 1);
  Device::from_host(result.data(), array.data(), static_cast<std::size_t>(result.size()) * sizeof(T));
  return result;
}

template <class Device>
Vector<Device> vector_of(const Array<double>& array) {
  Vector<Device> result;
  result.Matrix<Device>::operator=(matrix_of<Device, double>(array));
  return result;
}

/// The bytes of a matrix as a row-major array of this shape.
template <class Device, class T>
py::array array_of(const Matrix<Device, T>& matrix, std::vector<Index> shape) {
  Array<T> result(std::move(shape));
  Device::to_host(result.mutable_data(), matrix.data(), static_cast<std::size_t>(result.nbytes()));
  return std::move(result);
}

/// A read-only array that looks at memory which `owner` holds.
inline py::array look_at(const double* data, std::vector<Index> shape, const py::handle& owner) {
  py::array_t<double> result(std::move(shape), data, owner);
  result.attr("setflags")(py::arg("write") = false);
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

}  // namespace fidfast::bindings
