// The Frechet distance between two Gaussians, and the transport map between them.
//
//   d^2 = |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)              Dowson & Landau (1982), equation 16
//   tr (S1 S2)^(1/2) = sum sqrt(eig(F1^T S2 F1)) = sum sv(F2^T F1)        for any F1 F1^T = S1, F2 F2^T = S2
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/gaussian.hpp"
#include "core/matrix.hpp"
#include "core/product_rounding.hpp"
#include "core/rounding.hpp"
#include "core/trace_of_root.hpp"

namespace fidfast {

struct FrechetTerms {
  double mean_term = 0;   // |mu1 - mu2|^2
  double trace1 = 0;      // tr S1
  double trace2 = 0;      // tr S2
  double trace_root = 0;  // tr (S1 S2)^(1/2)
  Index rank = 0;         // number of terms in the sum that is trace_root
  double rounding = 0;    // bound on the rounding error of distance(), see core/rounding.hpp
  double value = 0;

  /// mean_term + trace1 + trace2 - 2 trace_root, clipped at 0, since a negative value can only be rounding.
  double distance() const { return value; }
};

namespace detail {

/// A sum of numbers x 2^e, whose exponents may be outside of float64's range.
class ScaledSum {
 public:
  void add(double x, int exponent) { parts_.emplace_back(x, exponent); }
  /// The sum divided by 2^exponent().
  double scaled() const {
    double sum = 0;
    for (const auto& [x, exponent] : parts_) sum += std::ldexp(x, exponent - this->exponent());
    return sum;
  }
  int exponent() const {
    if (std::all_of(parts_.begin(), parts_.end(), [](const auto& part) { return part.second == 0; })) return 0;
    int largest = std::numeric_limits<int>::min() / 2;
    for (const auto& [x, exponent] : parts_) {
      if (x != 0 && std::isfinite(x)) largest = std::max(largest, std::ilogb(x) + exponent);
    }
    return largest;
  }
  double value() const { return std::ldexp(scaled(), exponent()); }

 private:
  std::vector<std::pair<double, int>> parts_;
};

/// |mu1 - mu2|^2, divided by 2^exponent, and its rounding error, divided by 2^rounding_exponent.
struct MeanTerm {
  double value = 0;
  int exponent = 0;
  double rounding = 0;
  int rounding_exponent = 0;
};

/// errors1, errors2 (dim,): bounds on the errors of the means, or empty.
inline MeanTerm mean_term(const std::vector<double>& mu1, const std::vector<double>& mu2,
                          const std::vector<double>& errors1, const std::vector<double>& errors2) {
  double largest = 0;  // half of it, so that it does not overflow
  for (std::size_t j = 0; j < mu1.size(); ++j) largest = std::max(largest, std::abs(mu1[j] / 2 - mu2[j] / 2));
  if (largest == 0) {
    for (std::size_t j = 0; j < mu1.size(); ++j) largest = std::max(largest, std::abs(mu1[j] - mu2[j]));
  }
  const auto exponent_of = [](double size) {
    return size == 0 || (size > 0x1p-200 && size < 0x1p200) ? 0 : std::ilogb(size);
  };
  const int exponent = exponent_of(largest);
  for (std::size_t j = 0; j < errors1.size(); ++j) largest = std::max(largest, errors1[j] + errors2[j]);
  const int of_errors = exponent_of(largest);  // errors may be far larger than the difference
  MeanTerm result;
  result.exponent = 2 * exponent;
  result.rounding_exponent = 2 * of_errors;
  double low = 0;  // of the sum
  for (std::size_t j = 0; j < mu1.size(); ++j) {
    const double d = exponent > 0 ? std::ldexp(mu1[j], -exponent) - std::ldexp(mu2[j], -exponent)
                                  : std::ldexp(mu1[j] - mu2[j], -exponent);
    const double square = d * d;
    const double sum = result.value + square;
    low += result.value >= square ? (result.value - sum) + square : (square - sum) + result.value;
    result.value = sum;
    if (errors1.empty()) continue;
    const double error = std::ldexp(errors1[j], -of_errors) + std::ldexp(errors2[j], -of_errors);
    result.rounding += (2 * std::abs(std::ldexp(d, exponent - of_errors)) + error) * error;
  }
  result.value += low;
  result.rounding += 6 * kUnit * std::ldexp(result.value, result.exponent - result.rounding_exponent);
  return result;
}

inline void require_same_dim(Index dim1, Index dim2) {
  if (dim1 != dim2) {
    throw InvalidInput("gaussian1 has dim " + std::to_string(dim1) + ", but gaussian2 has dim " + std::to_string(dim2));
  }
}

}  // namespace detail

namespace detail {

/// A Gaussian, and the bounds on what its statistics lost to rounding.
template <class Device>
struct RoundedGaussian {
  const Gaussian<Device>& gaussian;
  std::vector<double> mu;           // on the host
  std::vector<double> mean_errors;  // (dim,)
  RowsRounding rows;

  explicit RoundedGaussian(const Gaussian<Device>& of) : gaussian(of), mu(host_copy(of.mu())) {}

  void bound_errors() {
    const int exponent = gaussian.exponent();
    const std::vector<double> variances = gaussian.normalized().variances();
    std::vector<double> scaled = mu;
    for (double& value : scaled) value = std::ldexp(value, -exponent);
    rows = rows_rounding(gaussian, scaled, variances);
    rows.absolute = std::ldexp(rows.absolute, -2 * exponent);
    const bool of_rows = gaussian.num_samples() > 0;
    for (std::size_t j = 0; j < mu.size(); ++j) {
      const double deviation = std::ldexp(std::sqrt(std::max(variances[j], 0.0)), exponent);
      mean_errors.push_back(of_rows ? kUnit * std::abs(mu[j]) + rows.mean * deviation : 0.0);
    }
  }
  /// Bound on the error of the trace of normalized().
  double trace_error() const {
    const Gaussian<Device>& scaled = gaussian.normalized();
    const double dim = static_cast<double>(scaled.dim());
    if (!scaled.low_rank()) return (rows.covariance + sum_error(dim)) * scaled.trace() + dim * rows.absolute;
    const double rank = static_cast<double>(scaled.columns().cols());
    return (2 * rows.columns + sum_error(dim) + sum_error(rank)) * scaled.trace();
  }
};

/// The distance is not a number that float64 can represent.
[[noreturn]] inline void leave_range() {
  throw std::overflow_error("the distance, or one of its terms, is too large for float64");
}

}  // namespace detail

/// The terms of the distance, with a bound on its rounding error. Equal Gaussians have distance 0. Exchanging the
/// arguments exchanges the traces and changes no bit. Multiplying both sets of features by a power of 2 changes no
/// digit, unless a result or an intermediate covariance leaves the normal range of float64. Throws std::overflow_error
/// if the result is too large for float64.
template <class Device>
FrechetTerms frechet_terms(const Gaussian<Device>& a, const Gaussian<Device>& b,
                           detail::Bound bound = detail::Bound::kCompute) {
  detail::require_same_dim(a.dim(), b.dim());
  const bool with_bound = bound == detail::Bound::kCompute;
  FrechetTerms terms;
  if (a.equals(b)) {
    terms.trace1 = terms.trace2 = terms.trace_root = std::min(a.trace(), b.trace());  // they may differ by rounding
    terms.rounding = 16 * detail::kEpsilon * terms.trace_root;                        // of the traces
    if (with_bound) {
      const Gaussian<Device>& either = (b.precedes(a) ? b : a).normalized();
      terms.rank = either.factor(either.alive_units())->rank();
      if (!std::isfinite(terms.trace1)) detail::leave_range();
    }
    return terms;
  }
  if (b.precedes(a)) {
    terms = frechet_terms(b, a, bound);
    std::swap(terms.trace1, terms.trace2);
    return terms;
  }
  detail::RoundedGaussian<Device> first(a);
  detail::RoundedGaussian<Device> second(b);
  if (with_bound) {
    first.bound_errors();
    second.bound_errors();
  }
  const detail::MeanTerm mean = detail::mean_term(first.mu, second.mu, first.mean_errors, second.mean_errors);
  detail::FactoredPair<Device> pair(a.normalized(), b.normalized());
  pair.order_by_rank(a.exponent(), b.exponent());
  const bool in_order = pair.first == &a.normalized();
  const detail::RoundedGaussian<Device>& one = in_order ? first : second;
  const detail::RoundedGaussian<Device>& other = in_order ? second : first;
  terms.rank = pair.rank();
  detail::Root root;
  if (with_bound) {
    const detail::FactorError of_first = detail::factor_error(*pair.first, *pair.f1, one.rows);
    const detail::FactorError of_second = detail::factor_error(*pair.second, *pair.f2, other.rows);
    double s = 0;
    for (std::size_t j = 0; j < first.mu.size(); ++j) s += of_first.deviations[j] * of_second.deviations[j];
    if (terms.rank > 0) root = detail::trace_of_root(pair, bound, s);
    root.rounding += detail::factors_error<Device>(of_first, of_second, pair.units,
                                                   {one.rows.absolute, other.rows.absolute}, root.trace, root.rounding);
    // Traces of different exponents cannot be added.
    const double of_traces = a.exponent() == b.exponent() ? root.trace : -std::numeric_limits<double>::infinity();
    root.rounding += (detail::product_rounding(*pair.f1, *pair.first, *pair.second, of_traces) +
                      detail::product_rounding(*pair.f2, *pair.second, *pair.first, of_traces)) /
                     2;
  } else if (terms.rank > 0) {
    root = detail::trace_of_root(pair, bound, 0);
  }

  const int exponent = a.exponent() + b.exponent();
  const auto add_terms = [&](detail::ScaledSum& sum, double of_root) {
    sum.add(mean.value, mean.exponent);
    sum.add(a.normalized().trace(), 2 * a.exponent());
    sum.add(b.normalized().trace(), 2 * b.exponent());
    sum.add(of_root * root.trace, exponent);
  };
  detail::ScaledSum sum;
  add_terms(sum, -2);
  const double scaled = sum.scaled();
  if (std::isnan(scaled)) throw NumericalFailure("the distance is not a number");
  terms.value = std::ldexp(std::max(scaled, 0.0), sum.exponent());
  terms.mean_term = std::ldexp(mean.value, mean.exponent);
  terms.trace1 = std::ldexp(a.normalized().trace(), 2 * a.exponent());
  terms.trace2 = std::ldexp(b.normalized().trace(), 2 * b.exponent());
  terms.trace_root = std::ldexp(root.trace, exponent);
  if (!std::isfinite(terms.value)) detail::leave_range();
  if (!with_bound) return terms;

  detail::ScaledSum sums;  // of magnitudes: the additions round each of them at most three times
  add_terms(sums, 2);
  detail::ScaledSum rounding;
  rounding.add(4 * detail::kUnit * sums.scaled(), sums.exponent());
  rounding.add(mean.rounding, mean.rounding_exponent);
  rounding.add(first.trace_error(), 2 * a.exponent());
  rounding.add(second.trace_error(), 2 * b.exponent());
  rounding.add(2 * root.rounding, exponent);
  rounding.add(1, std::numeric_limits<double>::min_exponent - std::numeric_limits<double>::digits);  // subnormal result
  terms.rounding = rounding.value();
  const double all = terms.mean_term + terms.trace1 / 2 + terms.trace2 / 2 + terms.trace_root + terms.rounding;
  if (!std::isfinite(all)) detail::leave_range();
  return terms;
}

/// The distance alone, without the work for the bound.
template <class Device>
double frechet_distance(const Gaussian<Device>& a, const Gaussian<Device>& b) {
  return frechet_terms(a, b, detail::Bound::kSkip).distance();
}

/// The optimal transport map from Gaussian b to a (Olkin & Pukelsheim, 1982): symmetric positive semidefinite T
/// (dim, dim), full, with T Sb T = Sa on the directions in which both vary, zero on the others.
/// T = Fa V diag(l^(-1/2)) V^T Fa^T, where Fa^T Sb Fa = V diag(l) V^T.
template <class Device>
Matrix<Device> transport_map(const Gaussian<Device>& a, const Gaussian<Device>& b) {
  detail::require_same_dim(a.dim(), b.dim());
  const detail::FactoredPair<Device> pair(a.normalized(), b.normalized());
  if (pair.rank() == 0) return Matrix<Device>::zeros(a.dim(), a.dim());

  Matrix<Device> vectors;     // V, (rank of Fa, any)
  std::vector<double> roots;  // sqrt(l), in the order of the columns of V
  bool accurate = false;
  if (pair.second_is_full()) {
    vectors = pair.quadratic_form();
    roots = MatrixOps<Device>::eigenvectors(vectors);
    accurate = roots.front() > 1e-6 * roots.back();
    for (double& value : roots) value = pair.scaling() * std::sqrt(std::max(value, 0.0));
  }
  if (!accurate) {
    Matrix<Device> cross = pair.cross_product();
    roots = MatrixOps<Device>::right_singular_vectors(cross, vectors);
  }
  const double largest = *std::max_element(roots.begin(), roots.end());
  const double null = 8 * detail::kEpsilon * static_cast<double>(roots.size()) * largest;
  for (double& root : roots) root = root > null ? 1.0 / std::sqrt(root) : 0.0;
  const Matrix<Device> scaled = MatrixOps<Device>::scaled_columns(vectors, 0, roots);
  const Matrix<Device> half = MatrixOps<Device>::product(pair.f1->f, scaled);
  const std::vector<double> ones(pair.units.size(), 1.0);
  Matrix<Device> map =
      MatrixOps<Device>::outer_product(MatrixOps<Device>::scatter_rows(half, a.dim(), pair.f1->units, ones));
  if (const int exponent = a.exponent() - b.exponent(); exponent != 0) {
    for (const int part : {exponent / 2, exponent - exponent / 2}) MatrixOps<Device>::scale(map, std::ldexp(1.0, part));
    if (!std::isfinite(MatrixOps<Device>::max_magnitude(map))) {
      throw std::overflow_error("the transport map is too large for float64");
    }
  }
  return map;
}

}  // namespace fidfast
