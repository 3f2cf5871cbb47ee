// Factors of covariances, and what of a covariance they leave out.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "core/backend.hpp"
#include "core/matrix.hpp"

namespace fidfast {

/// Eigenvalues of sigma that its factor lacks because sigma is indefinite.
struct Clipped {
  double least = 0;    // the smallest eigenvalue if it is negative, else 0
  double largest = 0;  // the largest eigenvalue; 0 if least is 0
  double trace = 0;    // sum of the magnitudes of all eigenvalues that were dropped
};

/// F with F F^T = sigma[units][:, units] up to rounding. Units (columns of the features) are sorted by decreasing
/// variance: that makes the factor graded, so that small eigenvalues computed from it keep many more digits.
template <class Device>
struct Factor {
  std::vector<Index> units;
  Matrix<Device> f;         // (units, rank)
  bool triangular = false;  // lower triangular, (units, units)
  double dropped = 0;       // bound on the nuclear norm of sigma - F F^T, other than the rounding of a factorisation
  Clipped clipped;          // of an indefinite sigma
  Matrix<Device> negative;  // (units, any) columns N with N N^T = -(the negative part of an indefinite sigma)
  double inverse = 0;       // if not triangular: estimate of the norm of the pseudoinverse of the correlations

  Index rank() const { return f.cols(); }
};

namespace detail {

// A pivot below kPivot times the variance of its unit is rounding. Measured: with 2 eps, noise of rank-deficient
// covariances changes the trace of the root by 1e-8; with 32 eps, graded spectra lose 5e-8.
constexpr double kPivot = 8 * std::numeric_limits<double>::epsilon();

/// Fast path for full rank.
template <class Device>
bool try_cholesky(const Matrix<Device>& sigma, const std::vector<double>& variances, Factor<Device>& result) {
  Matrix<Device> l = MatrixOps<Device>::submatrix(1.0, sigma, result.units);
  if (!MatrixOps<Device>::cholesky(l)) return false;
  const std::vector<double> pivots = MatrixOps<Device>::diagonal(l);
  for (std::size_t j = 0; j < pivots.size(); ++j) {
    if (pivots[j] * pivots[j] < kPivot * variances[j]) return false;
  }
  result.f = std::move(l);
  result.triangular = true;
  return true;
}

/// Of D R D, R (n, n) symmetric: sqrt(n) times its Frobenius norm.
template <class Device>
double nuclear_norm_bound(Matrix<Device> r, std::vector<double> d) {
  const double largest = *std::max_element(d.begin(), d.end());
  for (double& value : d) value /= largest;  // so that squares do not overflow
  MatrixOps<Device>::scale_both_sides(r, d);
  MatrixOps<Device>::mirror_lower(r, 1.0);
  return largest * largest * std::sqrt(static_cast<double>(r.rows()) * MatrixOps<Device>::squared_norm(r));
}

/// For singular covariances: pivoted Cholesky of the correlation matrix, where all entries have the same rounding
/// error, until the pivots are rounding. At most `most` columns; returns false if sigma has a higher rank.
template <class Device>
bool try_pivoted_cholesky(const Matrix<Device>& sigma, const std::vector<double>& variances, Index most,
                          Factor<Device>& result) {
  const Index n = static_cast<Index>(variances.size());
  std::vector<double> deviation(variances.size());
  std::vector<double> inverse(variances.size());
  for (std::size_t j = 0; j < variances.size(); ++j) {
    deviation[j] = std::sqrt(variances[j]);
    inverse[j] = 1.0 / deviation[j];
  }
  Matrix<Device> residual = MatrixOps<Device>::submatrix(1.0, sigma, result.units);
  MatrixOps<Device>::scale_both_sides(residual, inverse);
  Matrix<Device> l = residual;
  std::vector<Index> order;
  const Index found = MatrixOps<Device>::pivoted_cholesky(l, kPivot, order);
  const Index rank = std::min(most, found);
  if (rank == 0) return false;
  if (found > most) {
    // Pivots descend. Those of a covariance of few rows are rounding of its sums (measured: below kPivot n / 2).
    const double root = MatrixOps<Device>::diagonal(l)[static_cast<std::size_t>(most)];
    if (root * root > kPivot * static_cast<double>(n)) return false;
  }

  const double inverse_of_correlations = MatrixOps<Device>::inverse_norm(l, rank);
  const std::vector<double> ones(static_cast<std::size_t>(rank), 1.0);
  l = MatrixOps<Device>::scaled_columns(l, 0, ones);
  const std::vector<double> all_ones(variances.size(), 1.0);
  l = MatrixOps<Device>::scatter_rows(l, n, order, all_ones);
  MatrixOps<Device>::subtract_outer_product(residual, l);
  // Otherwise sigma is indefinite, or has more noise than float64 rounding.
  constexpr double kNoise = 32 * std::numeric_limits<double>::epsilon();
  if (!(MatrixOps<Device>::max_magnitude(residual) <= kNoise * static_cast<double>(n))) return false;

  std::vector<Index> in_order(variances.size());
  std::iota(in_order.begin(), in_order.end(), Index{0});
  result.f = MatrixOps<Device>::scatter_rows(l, n, in_order, deviation);
  result.inverse = inverse_of_correlations;
  result.dropped = nuclear_norm_bound<Device>(std::move(residual), std::move(deviation));
  return true;
}

/// For indefinite matrices, for example by rounding to float32. Noise has eigenvalues of both signs and a trace near
/// 0: dropped are the negative eigenvalues and positive ones that are no larger, up to twice the sum of the negative
/// ones. If num_samples determines the rank, the others are dropped too if they are noise: at most twice as large.
template <class Device>
void factor_by_eigenvectors(const Matrix<Device>& sigma, Index most, Factor<Device>& result) {
  Matrix<Device> vectors = MatrixOps<Device>::submatrix(1.0, sigma, result.units);
  const std::vector<double> values = MatrixOps<Device>::eigenvectors(vectors);
  const std::size_t n = values.size();
  const double least = std::min(values.front(), 0.0);
  const double rounding = static_cast<double>(n) * std::numeric_limits<double>::epsilon() *
                          std::max(std::abs(values.front()), std::abs(values.back()));
  const double noise = std::max(-least, rounding);
  double budget = 0;
  for (const double value : values) budget -= 2 * std::min(value, 0.0);
  std::size_t first = 0;  // of the eigenvalues that are kept
  for (; first < n && values[first] <= noise; ++first) {
    budget -= std::max(values[first], 0.0);
    if (values[first] > rounding && budget < 0) break;
  }
  const std::size_t last_cut = n - static_cast<std::size_t>(most);
  if (last_cut > first && values[last_cut - 1] <= 2 * noise) first = last_cut;

  for (std::size_t j = 0; j < first; ++j) result.dropped += std::abs(values[j]);
  if (least < 0) result.clipped = {least, values.back(), result.dropped};
  std::vector<double> negative;
  for (const double value : values) {
    if (value < 0) negative.push_back(std::sqrt(-value));
  }
  result.negative = MatrixOps<Device>::scaled_columns(vectors, 0, negative);
  std::vector<double> kept;
  for (std::size_t j = first; j < n; ++j) kept.push_back(std::sqrt(values[j]));
  result.f = MatrixOps<Device>::scaled_columns(vectors, static_cast<Index>(first), kept);
  const std::vector<double> variances = MatrixOps<Device>::diagonal(sigma);
  const double largest = *std::max_element(variances.begin(), variances.end());
  result.inverse = kept.empty() ? 0 : largest / (kept.front() * kept.front());
}

}  // namespace detail

/// Factor of sigma (dim, dim), full, on `units` (ascending). num_samples is 0 if unknown.
template <class Device>
Factor<Device> factor_of_sigma(const Matrix<Device>& sigma, const std::vector<double>& variances_of_all,
                               Index num_samples, const std::vector<Index>& units) {
  const auto variance = [&](Index unit) { return variances_of_all[static_cast<std::size_t>(unit)]; };
  Factor<Device> result;
  result.units = units;
  std::stable_sort(result.units.begin(), result.units.end(),
                   [&](Index i, Index j) { return variance(i) > variance(j); });
  if (units.empty()) return result;
  const Index n = static_cast<Index>(units.size());
  const Index most = num_samples > 0 ? std::min(n, num_samples - 1) : n;
  std::vector<double> variances;
  for (const Index unit : result.units) variances.push_back(variance(unit));
  const bool regular = std::all_of(variances.begin(), variances.end(), [](double v) { return v > 0; });
  if (regular) {
    if (most < n && detail::try_pivoted_cholesky(sigma, variances, most, result)) return result;
    if (detail::try_cholesky(sigma, variances, result)) return result;
    if (detail::try_pivoted_cholesky(sigma, variances, n, result)) return result;
  }
  detail::factor_by_eigenvectors(sigma, most, result);
  return result;
}

}  // namespace fidfast
