// Checks what is left of a scatter after the rows of a part are removed.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/matrix.hpp"
#include "core/moments/state.hpp"
#include "core/moments/workspace.hpp"

namespace fidfast {

/// Throws unless `rest`, of n rows less those of a part, is a scatter up to rounding; `before` (dim,) is the diagonal
/// with the part, and `weight` the factor of the squared difference of the means. Rows and columns of units whose
/// scatter is within rounding of 0 become 0.
template <class Device>
void require_remainder(MomentsState<Device>& rest, const std::vector<double>& before, Index n, double weight) {
  constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
  // Sums over the rows of a block and over the blocks, in float64, of the sum and of the part.
  const Index additions = kMomentsBlock + n / kMomentsBlock;
  const double rounding = 2 * kEpsilon * static_cast<double>(additions);
  // The means have errors of sqrt(1024) roundings of at most the largest deviation, sqrt(before).
  const double of_means = 128 * kEpsilon * std::sqrt(weight);
  const std::vector<double> after = MatrixOps<Device>::diagonal(rest.scatter);
  const std::vector<double> products = rest.product_errors(1.0);
  std::vector<double> kept(after.size(), 1.0);
  std::vector<double> scale(after.size());
  for (std::size_t j = 0; j < after.size(); ++j) {
    const double change = std::abs(before[j] - after[j]);
    const double error = rounding * (before[j] + change) + of_means * std::sqrt(change) * std::sqrt(before[j]);
    if (!(after[j] >= -error) || (rest.count < 2 && after[j] > error)) {
      throw InvalidInput("cannot unmerge samples that were never merged: column " + std::to_string(j) +
                         " would be left with the scatter " + std::to_string(after[j]) + " of " +
                         std::to_string(rest.count) + " samples");
    }
    if (after[j] <= error) kept[j] = 0;
    // By Cauchy-Schwarz |S_ij| <= sqrt(S_ii S_jj), plus errors of at most sqrt(e_i e_j): 8 deviations for products.
    const double bound = kept[j] * after[j] + error + (products.empty() ? 0.0 : 8 * products[j]);
    scale[j] = bound > 0 ? 1 / std::sqrt(bound) : 0.0;
  }
  Matrix<Device> correlations = rest.scatter;
  MatrixOps<Device>::scale_both_sides(correlations, scale);
  if (!(MatrixOps<Device>::max_magnitude(correlations) <= 1 + 1e-9)) {
    throw InvalidInput("cannot unmerge samples that were never merged: a covariance would exceed the variances");
  }
  MatrixOps<Device>::scale_both_sides(rest.scatter, kept);
}

}  // namespace fidfast
