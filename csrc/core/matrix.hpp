// Matrices in device memory, and views of rows in memory that the caller owns.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>
#include <variant>
#include <vector>

namespace fidfast {

using Index = std::int64_t;

/// Bits of an IEEE 754 binary16.
struct Float16 {
  std::uint16_t bits;
};

/// Upper 16 bits of an IEEE 754 binary32.
struct BFloat16 {
  std::uint16_t bits;
};

// A Device is a type with these members, besides the operations of core/backend.hpp:
//   allocate, release, copy, clear    its memory; from_host, to_host: copies that are complete on return
//   synchronize()                     waits for all work enqueued so far
//   current_device()                  index of the device on which this thread allocates
//   kAsynchronous                     calls may return before their work is done. Then no update of Moments may
//   allocate
//                                     or wait, and any call may fail
//   kFloatProducts                    rows of float32 and narrower are multiplied in float32
//   multiplies_in_float(all_16_bit)   whether moments may use such products; all_16_bit: all rows are 16-bit numbers
//   Watch                             keeps NaN and infinity out of Moments, see core/moments/moments.hpp

/// Column-major (rows, cols) matrix, owned, in the memory of `Device`.
template <class Device, class T = double>
class Matrix {
 public:
  Matrix() = default;
  /// Uninitialised.
  Matrix(Index rows, Index cols) : rows_(rows), cols_(cols), data_(static_cast<T*>(Device::allocate(bytes()))) {}
  Matrix(const Matrix& other) : Matrix(other.rows_, other.cols_) { Device::copy(data_, other.data_, bytes()); }
  Matrix(Matrix&& other) noexcept { swap(other); }
  Matrix& operator=(const Matrix& other) {
    Matrix copy(other);
    swap(copy);
    return *this;
  }
  Matrix& operator=(Matrix&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Matrix() { Device::release(data_); }

  static Matrix zeros(Index rows, Index cols) {
    Matrix result(rows, cols);
    Device::clear(result.data_, result.bytes());
    return result;
  }

  /// Copies a matrix of the same shape into the existing memory.
  void copy_numbers(const Matrix& other) { Device::copy(data_, other.data_, bytes()); }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index size() const { return rows_ * cols_; }
  bool empty() const { return size() == 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T* column(Index j) { return data_ + j * rows_; }
  const T* column(Index j) const { return data_ + j * rows_; }

 private:
  std::size_t bytes() const { return static_cast<std::size_t>(size()) * sizeof(T); }
  void swap(Matrix& other) noexcept {
    std::swap(rows_, other.rows_);
    std::swap(cols_, other.cols_);
    std::swap(data_, other.data_);
  }

  Index rows_ = 0;
  Index cols_ = 0;
  T* data_ = nullptr;
};

/// A matrix of one column, (size, 1).
template <class Device, class T = double>
class Vector : public Matrix<Device, T> {
 public:
  Vector() = default;
  explicit Vector(Index size) : Matrix<Device, T>(size, 1) {}
  static Vector zeros(Index size) {
    Vector result;
    result.Matrix<Device, T>::operator=(Matrix<Device, T>::zeros(size, 1));
    return result;
  }
};

/// Features (n, dim) in memory that the caller owns. Strides are in elements and may be negative or 0.
template <class T>
struct FeatureView {
  const T* data;
  Index n;
  Index dim;
  Index row_stride;
  Index column_stride;

  const T* row(Index i) const { return data + i * row_stride; }
  FeatureView rows(Index first, Index count) const { return {row(first), count, dim, row_stride, column_stride}; }
};

/// Features of any supported type.
using AnyFeatures = std::variant<FeatureView<Float16>, FeatureView<BFloat16>, FeatureView<float>, FeatureView<double>>;

/// All elements on the host, column after column.
template <class Device>
std::vector<double> host_copy(const Matrix<Device>& a) {
  std::vector<double> result(static_cast<std::size_t>(a.size()));
  if (!result.empty()) Device::to_host(result.data(), a.data(), result.size() * sizeof(double));
  return result;
}

/// Columns [first, first + count) of a (dim, n) matrix as features (count, dim).
template <class Device, class T>
FeatureView<T> columns_as_features(const Matrix<Device, T>& matrix, Index first, Index count) {
  return {matrix.column(first), count, matrix.rows(), matrix.rows(), 1};
}

}  // namespace fidfast
