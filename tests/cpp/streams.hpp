// Moments of rows, whole or in batches, in several types.
#pragma once

#include <algorithm>
#include <vector>

#include "oracle.hpp"

namespace fidfast::oracle {

using CpuMoments = Moments<Cpu>;

/// The columns of a (dim, n) matrix as features (n, dim).
template <class T>
FeatureView<T> view(const Matrix<Cpu, T>& rows) {
  return columns_as_features(rows, 0, rows.cols());
}

template <class T>
CpuMoments moments_of(const Matrix<Cpu, T>& rows, Precision precision = Precision::kFloat32) {
  CpuMoments result(rows.rows(), precision);
  result.update(view(rows));
  return result;
}

/// The same rows rounded to float.
inline Matrix<Cpu, float> narrowed(const M& rows) {
  Matrix<Cpu, float> result(rows.rows(), rows.cols());
  std::transform(rows.data(), rows.data() + rows.size(), result.data(), [](double v) { return static_cast<float>(v); });
  return result;
}

inline M widened(const Matrix<Cpu, float>& rows) {
  M result(rows.rows(), rows.cols());
  std::transform(rows.data(), rows.data() + rows.size(), result.data(), [](float v) { return static_cast<double>(v); });
  return result;
}

/// The rows of a, then those of b.
inline M joined(const M& a, const M& b) {
  M result(a.rows(), a.cols() + b.cols());
  std::copy_n(a.data(), a.size(), result.data());
  std::copy_n(b.data(), b.size(), result.column(a.cols()));
  return result;
}

/// Splits the rows at up to `most` random positions; parts may be empty.
inline std::vector<M> cut(const M& rows, Index most, Random& random) {
  std::vector<Index> places{0, rows.cols()};
  for (Index i = random.below(most + 1); i > 0; --i) places.push_back(random.below(rows.cols() + 1));
  std::sort(places.begin(), places.end());
  std::vector<M> parts;
  for (std::size_t i = 1; i < places.size(); ++i)
    parts.push_back(columns(rows, places[i - 1], places[i] - places[i - 1]));
  return parts;
}

/// sigma (n - 1).
inline M scatter_of(const Gaussian<Cpu>& stats) {
  const auto divisor = static_cast<double>(stats.num_samples() - 1);
  return map(stats.sigma(), [divisor](double value) { return value * divisor; });
}

/// Worst-case relative error of a scatter: three roundings for each product, sums of 1,024 of them, and a few for the
/// blocks. By Cauchy-Schwarz a sum of n products is at most n times the standard deviations: (1024 + 20) eps = 2.4e-13.
constexpr double kScatterError = 1044 * kEpsilon;

}  // namespace fidfast::oracle
