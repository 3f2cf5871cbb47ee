// Selected rows of a batch of features, copied, and the check that all features are finite.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <string>
#include <type_traits>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/matrix.hpp"

namespace fidfast {

/// The smaller of float and double that represents every S exactly.
template <class S>
using Widened = std::conditional_t<std::is_same_v<S, double>, double, float>;

/// Throws InvalidInput if features (n, dim) hold NaN or infinity. The error counts their rows from first_row.
template <class Device, class S>
void require_finite(const FeatureView<S>& features, Index first_row = 0) {
  const Index bad = RowOps<Device>::first_nonfinite_row(features);
  if (bad < 0) return;
  throw InvalidInput("features hold NaN or infinity; the first such row is " + std::to_string(first_row + bad));
}

/// The largest feature that moments accept. The sum of the squared deviations of 2^16 such numbers from their mean is
/// within the range of float64, and that of 2^20 numbers with a quarter of this standard deviation.
constexpr double kLargestFeature = 0x1p503;

/// Error text for a row with a number above kLargestFeature.
inline std::string overflow_text(double number, Index row) {
  char text[160];
  std::snprintf(text, sizeof text,
                "the squares of the features leave the range of float64: row %lld holds a magnitude of %.3g, and the "
                "largest that is accepted is %.3g",
                static_cast<long long>(row), number, kLargestFeature);
  return text;
}

/// Throws InvalidInput if features (n, dim) hold NaN, infinity or a magnitude above kLargestFeature.
template <class Device, class S>
void require_squarable(const FeatureView<S>& features, Index first_row = 0) {
  const Index bad = RowOps<Device>::first_nonfinite_row(features, kLargestFeature);
  if (bad < 0) return;
  const FeatureView<S> row = features.rows(bad, 1);
  require_finite<Device>(row, first_row + bad);
  Matrix<Device> column(features.dim, 1);
  RowOps<Device>::append(row, column, 0);
  double largest = 0;
  for (const double value : host_copy(column)) largest = std::max(largest, std::abs(value));
  throw InvalidInput(overflow_text(largest, first_row + bad));
}

/// features[rows] as the columns of a matrix (dim, rows).
template <class Device, class S>
Matrix<Device, Widened<S>> gather(const FeatureView<S>& features, const std::vector<Index>& rows) {
  for (const Index row : rows) {
    if (row < 0 || row >= features.n) {
      throw InvalidInput("row " + std::to_string(row) + " is out of range: features have " +
                         std::to_string(features.n) + " rows");
    }
  }
  Matrix<Device, Widened<S>> columns(features.dim, static_cast<Index>(rows.size()));
  for (std::size_t k = 0; k < rows.size(); ++k) {
    RowOps<Device>::append(features.rows(rows[k], 1), columns, static_cast<Index>(k));
  }
  return columns;
}

}  // namespace fidfast
