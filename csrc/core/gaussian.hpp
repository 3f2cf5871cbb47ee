// A Gaussian: mean, covariance, and a factor of the covariance, which is computed when needed and kept.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/interrupt.hpp"
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
  Matrix<Device> f;           // (units, rank)
  bool triangular = false;    // lower triangular, (units, units)
  double dropped = 0;         // bound on the nuclear norm of sigma - F F^T, other than the rounding of a factorisation
  Clipped clipped;            // of an indefinite sigma
  double stored_inverse = 0;  // inverse() if not triangular; 0 if the factor has no rounding error of a factorisation

  Index rank() const { return f.cols(); }
  /// Estimate of the norm of the pseudoinverse of F F^T.
  double inverse() const { return triangular ? MatrixOps<Device>::inverse_norm(f, rank()) : stored_inverse; }
};

template <class Device>
class Gaussian {
 public:
  /// Relative to the largest eigenvalue; above what rounding to float32 makes negative.
  static constexpr double kNegativeTolerance = 1e-6;

  /// mu (dim,), sigma (dim, dim) full and symmetric; num_samples is 0 if unknown; product_errors (dim,) or empty.
  Gaussian(Vector<Device> mu, Matrix<Device> sigma, Index num_samples, std::vector<double> product_errors = {})
      : mu_(std::move(mu)),
        num_samples_(num_samples),
        product_errors_(std::move(product_errors)),
        sigma_(std::move(sigma)) {
    variances_ = MatrixOps<Device>::diagonal(sigma_);
    alive_ = MatrixOps<Device>::nonzero_columns(sigma_);
    trace_ = std::accumulate(variances_.begin(), variances_.end(), 0.0);
  }

  /// The same for unchecked input. Throws InvalidInput if the shapes of mu and sigma do not match, they hold NaN or
  /// infinity, or sigma is not symmetric and positive semidefinite. Negative eigenvalues of at most negative_tolerance
  /// times the largest eigenvalue are dropped, and asymmetries of at most negative_tolerance (or kAsymmetry, if that is
  /// larger) times the largest entry are averaged.
  static Gaussian checked(Vector<Device> mu, Matrix<Device> sigma, Index num_samples,
                          double negative_tolerance = kNegativeTolerance, std::vector<double> product_errors = {}) {
    if (!(negative_tolerance >= 0 && negative_tolerance < 1)) {
      throw InvalidInput("negative_tolerance must be at least 0 and below 1, got " + text(negative_tolerance));
    }
    require_shapes(mu, sigma);
    require_finite(mu, "mu");
    require_finite(sigma, "sigma");
    const Asymmetry asymmetry = MatrixOps<Device>::symmetrize(sigma);
    const double entry = MatrixOps<Device>::max_magnitude(sigma);
    if (asymmetry.difference > std::max(kAsymmetry, negative_tolerance) * entry) {
      const std::string i = std::to_string(asymmetry.i);
      const std::string j = std::to_string(asymmetry.j);
      throw InvalidInput("sigma is not symmetric: sigma[" + i + ", " + j + "] and sigma[" + j + ", " + i +
                         "] differ by " + text(asymmetry.difference) + accepting(asymmetry.difference / entry));
    }
    Gaussian result(std::move(mu), std::move(sigma), num_samples, std::move(product_errors));
    result.clipped_ = result.factor(result.alive_units())->clipped;
    const double least = result.clipped_.least;
    const double largest = result.clipped_.largest;
    if (!(least >= -negative_tolerance * largest) || (least < 0 && result.trace_ <= 0)) {
      throw InvalidInput("sigma is not positive semidefinite: its smallest eigenvalue is " + text(least) +
                         ", its largest " + text(largest) + accepting(result.trace_ > 0 ? -least / largest : 1));
    }
    return result;
  }

  /// sigma = columns columns^T with columns (dim, rank).
  static Gaussian from_factor(Vector<Device> mu, Matrix<Device> columns, Index num_samples) {
    Gaussian result;
    result.mu_ = std::move(mu);
    result.num_samples_ = num_samples;
    result.trace_ = MatrixOps<Device>::squared_norm(columns);
    result.columns_ = std::move(columns);
    return result;
  }

  Gaussian(Gaussian&& other) noexcept
      : device_(other.device_),
        mu_(std::move(other.mu_)),
        num_samples_(other.num_samples_),
        product_errors_(std::move(other.product_errors_)),
        trace_(other.trace_),
        clipped_(other.clipped_),
        columns_(std::move(other.columns_)),
        sigma_(std::move(other.sigma_)),
        variances_(std::move(other.variances_)),
        alive_(std::move(other.alive_)),
        factor_(std::move(other.factor_)),
        factor_units_(std::move(other.factor_units_)) {}

  int device() const { return device_; }
  Index dim() const { return mu_.rows(); }
  Index num_samples() const { return num_samples_; }
  /// p (dim,) such that products in float32 gave sigma_ij, i != j, an error with a standard deviation of at most
  /// sqrt(p_i p_j); empty for products in float64. See core/moments/float_products.hpp.
  const std::vector<double>& product_errors() const { return product_errors_; }
  double trace() const { return trace_; }
  /// What checked() accepted.
  const Clipped& clipped() const { return clipped_; }
  const Vector<Device>& mu() const { return mu_; }
  /// Whether sigma is given by columns (dim, rank), sigma = columns columns^T.
  bool low_rank() const { return !columns_.empty(); }
  const Matrix<Device>& columns() const { return columns_; }

  /// sigma (dim, dim), full.
  const Matrix<Device>& sigma() const {
    const std::lock_guard<ObjectMutex> lock(mutex_);
    if (sigma_.empty()) {
      Matrix<Device> product = MatrixOps<Device>::outer_product(columns_);
      Device::synchronize();
      sigma_ = std::move(product);
    }
    return sigma_;
  }

  /// Whether the unit may vary; the row of sigma of a dead unit is zero.
  bool alive(Index unit) const { return low_rank() || alive_[static_cast<std::size_t>(unit)]; }

  /// Whether mu and sigma are equal bit by bit. Both have the same dim.
  bool equals(const Gaussian& other) const {
    if (this == &other) return true;
    if (!RowOps<Device>::same_columns(mu_, 0, other.mu_, 0, 1)) return false;
    if (low_rank() && other.low_rank()) {
      return columns_.cols() == other.columns_.cols() &&
             RowOps<Device>::same_columns(columns_, 0, other.columns_, 0, columns_.cols());
    }
    // Traces of equal covariances differ by rounding only. This often avoids the product of the columns.
    constexpr double kTraces = 1e-9;
    if (!(std::abs(trace_ - other.trace_) <= kTraces * std::abs(trace_))) return false;
    return RowOps<Device>::same_columns(sigma(), 0, other.sigma(), 0, dim());
  }

  /// Factor of sigma on `units` (ascending), kept until other units are requested.
  std::shared_ptr<const Factor<Device>> factor(const std::vector<Index>& units) const {
    const std::lock_guard<ObjectMutex> lock(mutex_);
    if (!factor_ || factor_units_ != units) {
      auto made =
          std::make_shared<const Factor<Device>>(low_rank() ? factor_of_columns(units) : factor_of_sigma(units));
      Device::synchronize();
      factor_ = std::move(made);
      factor_units_ = units;
    }
    return factor_;
  }

  /// F (dim, rank) with F F^T = sigma, units in their original order; rows of dead units are zero.
  Matrix<Device> factor_of_all_units() const {
    const std::shared_ptr<const Factor<Device>> kept = factor(alive_units());
    const std::vector<double> ones(kept->units.size(), 1.0);
    return MatrixOps<Device>::scatter_rows(kept->f, dim(), kept->units, ones);
  }

  /// The units that may vary, ascending.
  std::vector<Index> alive_units() const {
    std::vector<Index> units;
    for (Index j = 0; j < dim(); ++j) {
      if (alive(j)) units.push_back(j);
    }
    return units;
  }

 private:
  // A pivot below kPivot times the variance of its unit is rounding. Measured: with 2 eps, noise of rank-deficient
  // covariances changes the trace of the root by 1e-8; with 32 eps, graded spectra lose 5e-8.
  static constexpr double kPivot = 8 * std::numeric_limits<double>::epsilon();
  // Relative to the largest entry; above the asymmetry of a covariance rounded to float32.
  static constexpr double kAsymmetry = 1e-6;

  Gaussian() = default;

  static std::string text(double number, const char* format = "%.6g") {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, format, number);
    return buffer;
  }

  /// End of an error message: the least negative_tolerance, with two digits, that is at least `ratio`.
  static std::string accepting(double ratio) {
    const double unit = std::pow(10.0, std::floor(std::log10(ratio)) - 1);
    const double least = std::ceil(ratio * (1 + 1e-9) / unit) * unit;
    if (!(least < 1)) return "";
    return "; if it was computed or stored in float32 or half precision, negative_tolerance=" + text(least, "%.2g") +
           " accepts it";
  }

  static void require_shapes(const Vector<Device>& mu, const Matrix<Device>& sigma) {
    if (mu.rows() < 1) throw InvalidInput("mu is empty");
    if (sigma.rows() != mu.rows() || sigma.cols() != mu.rows()) {
      // The matrix is the transpose of the caller's row-major array.
      throw InvalidInput("sigma has shape (" + std::to_string(sigma.cols()) + ", " + std::to_string(sigma.rows()) +
                         "), but mu has length " + std::to_string(mu.rows()));
    }
  }

  static void require_finite(const Matrix<Device>& a, const std::string& name) {
    const Index bad = RowOps<Device>::first_nonfinite_row(columns_as_features(a, 0, a.cols()));
    if (bad < 0) return;
    throw InvalidInput(name + " holds NaN or infinity" +
                       (a.cols() > 1 ? "; the first such row is " + std::to_string(bad) : ""));
  }

  Factor<Device> factor_of_columns(const std::vector<Index>& units) const {
    Factor<Device> result;
    result.units = units;
    result.f = MatrixOps<Device>::gather_rows(columns_, units);
    return result;
  }

  Factor<Device> factor_of_sigma(const std::vector<Index>& units) const {
    const auto variance = [&](Index unit) { return variances_[static_cast<std::size_t>(unit)]; };
    Factor<Device> result;
    result.units = units;
    std::stable_sort(result.units.begin(), result.units.end(),
                     [&](Index i, Index j) { return variance(i) > variance(j); });
    if (units.empty()) return result;
    const Index n = static_cast<Index>(units.size());
    const Index most = num_samples_ > 0 ? std::min(n, num_samples_ - 1) : n;
    std::vector<double> variances;
    for (const Index unit : result.units) variances.push_back(variance(unit));
    const bool regular = std::all_of(variances.begin(), variances.end(), [](double v) { return v > 0; });
    if (regular) {
      if (most < n && try_pivoted_cholesky(variances, most, result)) return result;
      if (try_cholesky(variances, result)) return result;
      if (try_pivoted_cholesky(variances, n, result)) return result;
    }
    factor_by_eigenvectors(most, result);
    return result;
  }

  /// Fast path for full rank.
  bool try_cholesky(const std::vector<double>& variances, Factor<Device>& result) const {
    Matrix<Device> l = MatrixOps<Device>::submatrix(1.0, sigma_, result.units);
    if (!MatrixOps<Device>::cholesky(l)) return false;
    const std::vector<double> pivots = MatrixOps<Device>::diagonal(l);
    for (std::size_t j = 0; j < pivots.size(); ++j) {
      if (pivots[j] * pivots[j] < kPivot * variances[j]) return false;
    }
    result.f = std::move(l);
    result.triangular = true;
    return true;
  }

  /// For singular covariances: pivoted Cholesky of the correlation matrix, where all entries have the same rounding
  /// error, until the pivots are rounding. At most `most` columns; returns false if sigma has a higher rank.
  bool try_pivoted_cholesky(const std::vector<double>& variances, Index most, Factor<Device>& result) const {
    const Index n = static_cast<Index>(variances.size());
    std::vector<double> deviation(variances.size());
    std::vector<double> inverse(variances.size());
    for (std::size_t j = 0; j < variances.size(); ++j) {
      deviation[j] = std::sqrt(variances[j]);
      inverse[j] = 1.0 / deviation[j];
    }
    Matrix<Device> residual = MatrixOps<Device>::submatrix(1.0, sigma_, result.units);
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
    result.stored_inverse = inverse_of_correlations / *std::min_element(variances.begin(), variances.end());
    result.dropped = nuclear_norm_bound(std::move(residual), std::move(deviation));
    return true;
  }

  /// Of D R D, R (n, n) symmetric: sqrt(n) times its Frobenius norm.
  static double nuclear_norm_bound(Matrix<Device> r, std::vector<double> d) {
    const double largest = *std::max_element(d.begin(), d.end());
    for (double& value : d) value /= largest;  // so that squares do not overflow
    MatrixOps<Device>::scale_both_sides(r, d);
    MatrixOps<Device>::mirror_lower(r, 1.0);
    return largest * largest * std::sqrt(static_cast<double>(r.rows()) * MatrixOps<Device>::squared_norm(r));
  }

  /// For indefinite matrices, for example by rounding to float32. Noise has eigenvalues of both signs and a trace near
  /// 0: dropped are the negative eigenvalues and positive ones that are no larger, up to twice the sum of the negative
  /// ones. If num_samples determines the rank, the others are dropped too if they are noise: at most twice as large.
  void factor_by_eigenvectors(Index most, Factor<Device>& result) const {
    Matrix<Device> vectors = MatrixOps<Device>::submatrix(1.0, sigma_, result.units);
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
    std::vector<double> kept;
    for (std::size_t j = first; j < n; ++j) kept.push_back(std::sqrt(values[j]));
    result.f = MatrixOps<Device>::scaled_columns(vectors, static_cast<Index>(first), kept);
    result.stored_inverse = kept.empty() ? 0 : 1.0 / (kept.front() * kept.front());
  }

  int device_ = Device::current_device();
  Vector<Device> mu_;
  Index num_samples_ = 0;
  std::vector<double> product_errors_;  // (dim,) or empty
  double trace_ = 0;
  Clipped clipped_;
  Matrix<Device> columns_;         // (dim, rank) if low_rank(), else empty
  mutable Matrix<Device> sigma_;   // (dim, dim), full; computed on demand if low_rank()
  std::vector<double> variances_;  // (dim,), empty if low_rank()
  std::vector<bool> alive_;        // (dim,), likewise
  mutable std::shared_ptr<const Factor<Device>> factor_;
  mutable std::vector<Index> factor_units_;  // of factor_
  mutable ObjectMutex mutex_;
};

}  // namespace fidfast
