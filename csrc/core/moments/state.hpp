// The state of Moments: the folded moments, and pending rows that are not folded yet.
#pragma once

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/backend.hpp"
#include "core/matrix.hpp"
#include "core/moments/float_products.hpp"

namespace fidfast {

/// Rows that are not folded yet: the first `count` columns of a (dim, capacity) matrix.
template <class Device, class T>
struct PendingRows {
  Matrix<Device, T> columns;
  Index count = 0;
  bool all_16_bit = false;  // whether all rows were float16 or bfloat16

  PendingRows() = default;
  PendingRows(Matrix<Device, T> rows, Index number) : columns(std::move(rows)), count(number) {}
  /// Same capacity; copies the `count` rows only.
  PendingRows(const PendingRows& other)
      : columns(other.columns.rows(), other.columns.cols()), count(other.count), all_16_bit(other.all_16_bit) {
    Device::copy(columns.data(), other.columns.data(), static_cast<std::size_t>(columns.rows() * count) * sizeof(T));
  }
  PendingRows(PendingRows&&) noexcept = default;
  PendingRows& operator=(const PendingRows& other) { return *this = PendingRows(other); }
  PendingRows& operator=(PendingRows&&) noexcept = default;
  ~PendingRows() = default;

  FeatureView<T> features(Index first, Index n) const { return columns_as_features(columns, first, n); }

  void reserve(Index dim, Index needed) {
    if (needed <= columns.cols()) return;
    Matrix<Device, T> larger(dim, std::max(needed, 2 * columns.cols()));
    if (count > 0) RowOps<Device>::append(features(0, count), larger, 0);
    columns = std::move(larger);
  }

  template <class S>
  void append(const FeatureView<S>& rows) {  // after reserve
    if (rows.n == 0) return;
    RowOps<Device>::append(rows, columns, count);
    all_16_bit = (count == 0 || all_16_bit) && sizeof(S) == 2;
    count += rows.n;
  }

  /// The rows on the host, as their bytes; 0 and -0 are equal.
  std::vector<std::string> bytes_of_rows() const {
    const auto dim = static_cast<std::size_t>(columns.rows());
    std::vector<T> numbers(dim * static_cast<std::size_t>(count));
    Device::to_host(numbers.data(), columns.data(), numbers.size() * sizeof(T));
    for (T& number : numbers) number += T{0};
    std::vector<std::string> rows;
    for (std::size_t i = 0; i < numbers.size(); i += dim) {
      rows.emplace_back(reinterpret_cast<const char*>(numbers.data() + i), dim * sizeof(T));
    }
    return rows;
  }

  /// Indices of the rows of `part` here, ascending, or none if one is missing. In sequence if possible.
  std::optional<std::vector<Index>> find(const PendingRows& part) const {
    std::vector<Index> found(static_cast<std::size_t>(part.count));
    if (part.count > count) return std::nullopt;
    if (part.count == 0) return found;
    const std::vector<std::string> mine = bytes_of_rows();
    const std::vector<std::string> theirs = part.bytes_of_rows();
    const auto sequence = std::search(mine.begin(), mine.end(), theirs.begin(), theirs.end());
    if (sequence != mine.end()) {
      std::iota(found.begin(), found.end(), static_cast<Index>(sequence - mine.begin()));
      return found;
    }
    std::unordered_map<std::string, std::vector<Index>> indices;  // of equal rows
    for (std::size_t i = mine.size(); i-- > 0;) indices[mine[i]].push_back(static_cast<Index>(i));
    for (std::size_t i = 0; i < theirs.size(); ++i) {
      const auto equal = indices.find(theirs[i]);
      if (equal == indices.end() || equal->second.empty()) return std::nullopt;
      found[i] = equal->second.back();
      equal->second.pop_back();
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  /// A copy without the rows of these ascending indices.
  PendingRows without(const std::vector<Index>& removed) const {
    PendingRows rest;
    // An asynchronous device must not allocate later, so it keeps its capacity.
    rest.reserve(columns.rows(), Device::kAsynchronous ? columns.cols() : count - static_cast<Index>(removed.size()));
    Index first = 0;
    for (const Index index : removed) {
      rest.append(features(first, index - first));
      first = index + 1;
    }
    rest.append(features(first, count - first));
    return rest;
  }
};

/// Numbers of folded and pending rows. Restoring them removes the rows appended last.
struct RowCounts {
  Index folded = 0;
  Index narrow = 0;
  Index wide = 0;
  bool all_16_bit = false;  // of the narrow rows
};

/// `count` folded rows, and pending rows: narrow ones (float32 and below) and wide ones (float64).
template <class Device>
struct MomentsState {
  Index dim = 0;
  Precision precision = Precision::kFloat32;
  Index count = 0;         // rows folded into mean and scatter
  Mean<Device> mean;       // (dim,)
  Matrix<Device> scatter;  // (dim, dim), lower triangle; empty until the first fold
  Vector<Device> errors;   // (dim,) or empty: scatter_ij has an error of float32 products with standard deviation at
                           // most sqrt(errors_i errors_j)
  PendingRows<Device, float> narrow;
  PendingRows<Device, double> wide;

  Index num_samples() const { return count + narrow.count + wide.count; }
  /// Allocates the errors if other has some.
  void reserve_errors(const MomentsState& other) {
    if (errors.empty() && !other.errors.empty()) errors = Vector<Device>::zeros(dim);
  }
  /// Adds the errors of other, which are independent. After reserve_errors().
  void add_errors(const MomentsState& other) {
    if (!other.errors.empty()) MatrixOps<Device>::add_in_quadrature(errors, 1.0, other.errors);
  }
  /// errors / divisor (dim,) on the host, or empty if all products were float64.
  std::vector<double> product_errors(double divisor) const {
    if (errors.empty()) return {};
    std::vector<double> result(static_cast<std::size_t>(dim));
    Device::to_host(result.data(), errors.data(), result.size() * sizeof(double));
    if (std::all_of(result.begin(), result.end(), [](double error) { return error == 0; })) return {};
    for (double& error : result) error /= divisor;
    return result;
  }

  RowCounts counts() const { return {count, narrow.count, wide.count, narrow.all_16_bit}; }
  void set_counts(const RowCounts& counts) {
    count = counts.folded;
    narrow.count = counts.narrow;
    wide.count = counts.wide;
    narrow.all_16_bit = counts.all_16_bit;
  }

  bool operator==(const MomentsState& other) const {
    const auto same = [](const auto& a, const auto& b, Index columns) {
      return RowOps<Device>::same_columns(a, 0, b, 0, columns);
    };
    return dim == other.dim && precision == other.precision && count == other.count &&
           narrow.count == other.narrow.count && wide.count == other.wide.count &&
           same(narrow.columns, other.narrow.columns, narrow.count) &&
           same(wide.columns, other.wide.columns, wide.count) &&
           (count == 0 || (same(mean.high, other.mean.high, 1) && same(mean.low, other.mean.low, 1) &&
                           same(scatter, other.scatter, dim) && errors.rows() == other.errors.rows() &&
                           same(errors, other.errors, errors.cols())));
  }
};

}  // namespace fidfast
