// Selected rows of a batch of features, copied, and the check that all features are finite.
#pragma once

#include <cstddef>
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
