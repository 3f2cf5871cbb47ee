// What a stream of features has left behind: folded moments, and the rows that still wait.
#pragma once

#include <algorithm>
#include <utility>

#include "core/backend.hpp"
#include "core/matrix.hpp"

namespace fidfast {

/// The arithmetic in which rows of float32 and narrower may be multiplied within a block. Sums over blocks, and rows
/// of float64, are always float64.
enum class Precision { kFloat32, kFloat64 };

/// Whether they are. The rounding of float32 sums, 1e-6 of a variance, averages out over the units: the distance moves
/// by about 3e-5 / dim relative, measured from dim 8 to 2048 and independent of n. In small dims float64 costs little.
inline bool products_in_float(Precision precision, Index dim) {
  constexpr Index kFloatDim = 512;
  return precision == Precision::kFloat32 && dim >= kFloatDim;
}

/// Rows that wait, as the first `count` columns of a (dim, capacity) matrix.
template <class Device, class T>
struct PendingRows {
  Matrix<Device, T> columns;
  Index count = 0;
  bool halves = false;  // whether all of them came as numbers of 16 bits

  PendingRows() = default;
  PendingRows(Matrix<Device, T> rows, Index number) : columns(std::move(rows)), count(number) {}
  /// As much memory; of what is in it, the rows that wait.
  PendingRows(const PendingRows& other)
      : columns(other.columns.rows(), other.columns.cols()), count(other.count), halves(other.halves) {
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
    halves = (count == 0 || halves) && sizeof(S) == 2;
    count += rows.n;
  }

  /// Where `part` stands in here as one run of rows, or -1.
  Index find(const PendingRows& part) const {
    for (Index first = 0; first + part.count <= count; ++first) {
      if (RowOps<Device>::same_columns(columns, first, part.columns, 0, part.count)) return first;
    }
    return -1;
  }

  /// A copy in which the rows [first, first + n) are left out.
  PendingRows without(Index first, Index n) const {
    PendingRows rest;
    // A device that must not allocate later keeps what it has.
    rest.reserve(columns.rows(), Device::kAsynchronous ? columns.cols() : count - n);
    rest.append(features(0, first));
    rest.append(features(first + n, count - first - n));
    return rest;
  }
};

/// How many rows are folded, and how many wait: by these, rows that came last are taken out again.
struct RowCounts {
  Index folded = 0;
  Index narrow = 0;
  Index wide = 0;
  bool halves = false;  // of the narrow ones
};

/// All that the moments of a stream are. The rows seen are `count` folded ones and those that wait.
template <class Device>
struct MomentsState {
  Index dim = 0;
  Precision precision = Precision::kFloat32;
  Index count = 0;         // rows folded into mean and scatter
  Mean<Device> mean;       // (dim,)
  Matrix<Device> scatter;  // (dim, dim), lower triangle; empty until the first fold
  PendingRows<Device, float> narrow;
  PendingRows<Device, double> wide;

  Index num_samples() const { return count + narrow.count + wide.count; }
  RowCounts counts() const { return {count, narrow.count, wide.count, narrow.halves}; }
  void set_counts(const RowCounts& counts) {
    count = counts.folded;
    narrow.count = counts.narrow;
    wide.count = counts.wide;
    narrow.halves = counts.halves;
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
                           same(scatter, other.scatter, dim)));
  }
};

}  // namespace fidfast
