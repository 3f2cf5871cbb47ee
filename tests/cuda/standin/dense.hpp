// Column-major matrices of cuBLAS and cuSOLVER: arguments of calls, and copies on the host.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "calls.hpp"
#include "memory.hpp"

namespace standin {

// The part of a matrix that a routine reads or writes.
enum class Part { kAll, kLower, kUpper, kBelowDiagonal, kAboveDiagonal };

inline bool holds(Part part, std::int64_t row, std::int64_t column) {
  switch (part) {
    case Part::kAll:
      return true;
    case Part::kLower:
      return row >= column;
    case Part::kUpper:
      return row <= column;
    case Part::kBelowDiagonal:
      return row > column;
    case Part::kAboveDiagonal:
      return row < column;
  }
  return false;
}

// A copy on the host in float64. Elements that were not read are NaN, which shows if they are used.
class Dense {
 public:
  Dense(std::int64_t rows, std::int64_t columns, double value = std::numeric_limits<double>::quiet_NaN())
      : rows_(rows), columns_(columns), values_(static_cast<std::size_t>(rows * columns), value) {}

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  double& operator()(std::int64_t row, std::int64_t column) { return values_[index(row, column)]; }
  double operator()(std::int64_t row, std::int64_t column) const { return values_[index(row, column)]; }

 private:
  std::size_t index(std::int64_t row, std::int64_t column) const {
    return static_cast<std::size_t>(row + column * rows_);
  }
  std::int64_t rows_, columns_;
  std::vector<double> values_;
};

inline Dense identity(std::int64_t size) {
  Dense result(size, size, 0.0);
  for (std::int64_t i = 0; i < size; ++i) result(i, i) = 1.0;
  return result;
}

inline Dense transposed(const Dense& matrix) {
  Dense result(matrix.columns(), matrix.rows());
  for (std::int64_t j = 0; j < matrix.columns(); ++j)
    for (std::int64_t i = 0; i < matrix.rows(); ++i) result(j, i) = matrix(i, j);
  return result;
}

// A matrix argument in device memory: checked at the call, read and written when the work runs.
template <class Number>
class DeviceMatrix {
 public:
  DeviceMatrix() = default;
  DeviceMatrix(const Number* data, std::int64_t rows, std::int64_t columns, std::int64_t leading, int device,
               const std::string& what)
      : rows_(rows), columns_(columns), leading_(leading) {
    if (rows < 0 || columns < 0) throw Misuse(text(what, " has ", rows, " rows and ", columns, " columns"));
    if (leading < std::max<std::int64_t>(1, rows))
      throw Misuse(text(what, " has ", rows, " rows and the leading dimension ", leading));
    if (reinterpret_cast<std::uintptr_t>(data) % sizeof(Number) != 0)
      throw Misuse(text(what, " is not aligned to ", sizeof(Number), " bytes"));
    if (rows != 0 && columns != 0) region_ = region(data, offset(rows, columns - 1), device, what);
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::int64_t leading() const { return leading_; }
  const Region& memory() const { return region_; }

  Dense load(Part part = Part::kAll) const {
    Dense result(rows_, columns_);
    for_runs(part, [&](std::int64_t first, std::int64_t end, std::int64_t column) {
      std::vector<Number> run(static_cast<std::size_t>(end - first));
      standin::load(region_, offset(first, column), run.size() * sizeof(Number), run.data());
      for (std::int64_t i = first; i < end; ++i) result(i, column) = run[static_cast<std::size_t>(i - first)];
    });
    return result;
  }

  void store(const Dense& values, Part part = Part::kAll) const {
    for_runs(part, [&](std::int64_t first, std::int64_t end, std::int64_t column) {
      std::vector<Number> run;
      for (std::int64_t i = first; i < end; ++i) run.push_back(static_cast<Number>(values(i, column)));
      standin::store(region_, offset(first, column), run.size() * sizeof(Number), run.data());
    });
  }

  void spoil(Part part = Part::kAll) const {
    for_runs(part, [&](std::int64_t first, std::int64_t end, std::int64_t column) {
      standin::spoil(region_, offset(first, column), static_cast<std::size_t>(end - first) * sizeof(Number));
    });
  }

  // Whether the two share an element. Interleaved columns do not overlap.
  template <class Other>
  bool overlaps(const DeviceMatrix<Other>& other) const {
    bool found = false;
    for_runs(Part::kAll, [&](std::int64_t, std::int64_t end, std::int64_t column) {
      const char* begin = region_.data + offset(0, column);
      found = found || other.touches(begin, begin + static_cast<std::size_t>(end) * sizeof(Number));
    });
    return found;
  }

  bool touches(const char* begin, const char* end) const {
    bool found = false;
    for_runs(Part::kAll, [&](std::int64_t, std::int64_t rows, std::int64_t column) {
      const char* own = region_.data + offset(0, column);
      found = found || (begin < own + static_cast<std::size_t>(rows) * sizeof(Number) && own < end);
    });
    return found;
  }

  bool is(const DeviceMatrix& other) const { return region_.data == other.region_.data && leading_ == other.leading_; }

 private:
  std::size_t offset(std::int64_t row, std::int64_t column) const {
    return static_cast<std::size_t>(row + column * leading_) * sizeof(Number);
  }

  // Calls body(first row, end, column) for the rows of each column in the part.
  template <class Body>
  void for_runs(Part part, const Body& body) const {
    for (std::int64_t column = 0; column < columns_; ++column) {
      std::int64_t first = 0;
      std::int64_t end = rows_;
      while (first < end && !holds(part, first, column)) ++first;
      while (first < end && !holds(part, end - 1, column)) --end;
      if (first < end) body(first, end, column);
    }
  }

  Region region_;
  std::int64_t rows_ = 0, columns_ = 0, leading_ = 1;
};

}  // namespace standin
