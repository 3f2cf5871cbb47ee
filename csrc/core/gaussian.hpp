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
#include <tuple>
#include <utility>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/factor.hpp"
#include "core/interrupt.hpp"
#include "core/matrix.hpp"

namespace fidfast {

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
    double largest = 0;
    for (const double variance : variances_) largest = std::max(largest, std::abs(variance));
    exponent_ = exponent_of_variances(largest);
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
    result.clipped_ = result.normalized().factor(result.normalized().alive_units())->clipped;
    for (double* const value : {&result.clipped_.least, &result.clipped_.largest, &result.clipped_.trace}) {
      *value = std::ldexp(*value, 2 * result.exponent_);
    }
    const double least = result.clipped_.least;
    const double largest = result.clipped_.largest;
    // Rounding of subnormal numbers is not relative to their size.
    const double subnormal = static_cast<double>(result.dim()) * std::numeric_limits<double>::denorm_min();
    if (!(least >= -std::max(negative_tolerance * largest, subnormal)) || (least < 0 && result.trace_ <= 0)) {
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
    result.columns_ = std::move(columns);
    result.trace_ = MatrixOps<Device>::squared_norm(result.columns_);
    if (!in_usual_range(result.trace_)) {
      double largest = 0;
      for (const double number : host_copy(result.columns_)) largest = std::max(largest, std::abs(number));
      result.exponent_ = largest > 0 ? std::ilogb(largest) : 0;
    }
    return result;
  }

  Gaussian(Gaussian&& other) noexcept
      : device_(other.device_),
        mu_(std::move(other.mu_)),
        num_samples_(other.num_samples_),
        product_errors_(std::move(other.product_errors_)),
        trace_(other.trace_),
        exponent_(other.exponent_),
        clipped_(other.clipped_),
        columns_(std::move(other.columns_)),
        sigma_(std::move(other.sigma_)),
        variances_(std::move(other.variances_)),
        alive_(std::move(other.alive_)),
        factor_(std::move(other.factor_)),
        factor_units_(std::move(other.factor_units_)),
        normalized_(std::move(other.normalized_)) {}

  int device() const { return device_; }
  Index dim() const { return mu_.rows(); }
  Index num_samples() const { return num_samples_; }
  /// p (dim,) such that products in float32 gave sigma_ij, i != j, an error with a standard deviation of at most
  /// sqrt(p_i p_j); empty for products in float64. See core/moments/float_products.hpp.
  const std::vector<double>& product_errors() const { return product_errors_; }
  /// tr sigma; infinite or 0 if it is outside of the range of float64, but not that of normalized().
  double trace() const { return trace_; }
  /// e such that normalized() has the covariance sigma / 4^e: 0 unless the variances are far from 1.
  int exponent() const { return exponent_; }
  /// This Gaussian, or a copy with the covariance sigma / 4^exponent(), whose products cannot leave float64's range.
  /// Its mean has no meaning.
  const Gaussian& normalized() const {
    if (exponent_ == 0) return *this;
    const std::lock_guard<ObjectMutex> lock(mutex_);
    if (!normalized_) {
      std::unique_ptr<Gaussian> made;
      // Two factors, since 4^exponent() may exceed the range.
      const double factor = std::ldexp(1.0, -exponent_);
      Matrix<Device> scaled = low_rank() ? columns_ : sigma_;
      MatrixOps<Device>::scale(scaled, factor);
      if (low_rank()) {
        made.reset(new Gaussian(from_factor(mu_, std::move(scaled), num_samples_)));
      } else {
        MatrixOps<Device>::scale(scaled, factor);
        std::vector<double> errors = product_errors_;
        for (double& error : errors) error = error * factor * factor;
        made = std::make_unique<Gaussian>(mu_, std::move(scaled), num_samples_, std::move(errors));
      }
      Device::synchronize();
      normalized_ = std::move(made);
    }
    return *normalized_;
  }
  /// Variance of each unit, on the host.
  std::vector<double> variances() const {
    if (!low_rank()) return variances_;
    const std::vector<double> columns = host_copy(columns_);
    std::vector<double> squares(static_cast<std::size_t>(dim()));
    for (std::size_t i = 0; i < columns.size(); ++i) squares[i % squares.size()] += columns[i] * columns[i];
    return squares;
  }
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
    if (std::abs(trace_ - other.trace_) > kTraces * std::abs(trace_)) return false;
    return RowOps<Device>::same_columns(sigma(), 0, other.sigma(), 0, dim());
  }

  /// An order of Gaussians of the same dim. Two of which neither precedes the other have equal covariances.
  bool precedes(const Gaussian& other) const {
    const double trace = normalized().trace_;
    const double trace_of_other = std::ldexp(other.normalized().trace_, 2 * (other.exponent_ - exponent_));
    const auto mine = std::make_tuple(low_rank(), num_samples_, trace, columns_.cols());
    const auto theirs = std::make_tuple(other.low_rank(), other.num_samples_, trace_of_other, other.columns_.cols());
    if (mine != theirs) return mine < theirs;
    const Matrix<Device>& a = low_rank() ? columns_ : sigma_;
    const Matrix<Device>& b = low_rank() ? other.columns_ : other.sigma_;
    if (this == &other || RowOps<Device>::same_columns(a, 0, b, 0, a.cols())) return false;
    return host_copy(a) < host_copy(b);
  }

  /// Factor of sigma on `units` (ascending), kept until other units are requested.
  std::shared_ptr<const Factor<Device>> factor(const std::vector<Index>& units) const {
    const std::lock_guard<ObjectMutex> lock(mutex_);
    if (!factor_ || factor_units_ != units) {
      auto made = std::make_shared<const Factor<Device>>(
          low_rank() ? factor_of_columns(units) : factor_of_sigma(sigma_, variances_, num_samples_, units));
      Device::synchronize();
      factor_ = std::move(made);
      factor_units_ = units;
    }
    return factor_;
  }

  /// F (dim, rank) with F F^T = sigma, units in their original order; rows of dead units are zero.
  Matrix<Device> factor_of_all_units() const {
    const std::shared_ptr<const Factor<Device>> kept = normalized().factor(normalized().alive_units());
    const std::vector<double> scale(kept->units.size(), std::ldexp(1.0, exponent_));
    return MatrixOps<Device>::scatter_rows(kept->f, dim(), kept->units, scale);
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
  // Relative to the largest entry; above the asymmetry of a covariance rounded to float32.
  static constexpr double kAsymmetry = 1e-6;

  Gaussian() = default;

  /// Squares of such variances, and products with a few of them, do not leave float64's range; LAPACK does not scale
  /// them, so scaling by a power of 2 changes no digit of a result.
  static bool in_usual_range(double variance) { return variance >= 0x1p-400 && variance <= 0x1p400; }
  static int exponent_of_variances(double largest) {
    if (largest == 0 || in_usual_range(largest) || !std::isfinite(largest)) return 0;
    return static_cast<int>(std::floor(std::ilogb(largest) / 2.0));
  }

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

  int device_ = Device::current_device();
  Vector<Device> mu_;
  Index num_samples_ = 0;
  std::vector<double> product_errors_;  // (dim,) or empty
  double trace_ = 0;
  int exponent_ = 0;
  Clipped clipped_;
  Matrix<Device> columns_;         // (dim, rank) if low_rank(), else empty
  mutable Matrix<Device> sigma_;   // (dim, dim), full; computed on demand if low_rank()
  std::vector<double> variances_;  // (dim,), empty if low_rank()
  std::vector<bool> alive_;        // (dim,), likewise
  mutable std::shared_ptr<const Factor<Device>> factor_;
  mutable std::vector<Index> factor_units_;  // of factor_
  mutable std::unique_ptr<Gaussian> normalized_;
  mutable ObjectMutex mutex_;
};

}  // namespace fidfast
