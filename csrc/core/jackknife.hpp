// Exact leave-one-out Frechet distances, and corrections for the bias of finite samples.
//
// With F F^T = S1 and M = F^T S2 F = V diag(l) V^T, a row x of the second sample has the whitened coordinates
// z = l^(-1/2) V^T F^T (x - mu2); a row of the first has z = l^(-1) V^T F^T S2 (x - mu1). Leaving the row out turns M
// into (n - 1)/(n - 2) (M - v v^T) with v = sqrt(n)/(n - 1) l^(1/2) z in the basis V. From
//   sqrt(l) = 1/pi int_0^inf t^(-1/2) l/(l + t) dt
// and the matrix determinant lemma, with s(t) = v^T (M + t)^-1 v and x(t) = tr M (M + t)^-1,
//   tr (M - v v^T)^(1/2) = tr M^(1/2) + 1/(2 pi) int t^(-1/2) log(1 - s(t)) dt,
//   x(t) of M - v v^T    = x(t) - t v^T (M + t)^-2 v / (1 - s(t)).
// So one eigendecomposition and one product with the rows give all n leave-one-out distances.
//
// In a finite sample the eigenvalues are spread out, which makes the sum of their roots too small. For large dim and
// degrees of freedom m1, m2, the root without that spread follows from x(t) (1/m = 0 for exact moments):
//   tr (S1 S2)^(1/2) = 1/pi int t^(-1/2) Psi(x(t)) dt,   Psi(x) = int_0^x dy / sqrt((1 - y/m1)(1 - y/m2)),
// which is the contour integral of Tiomoko & Couillet, "Random matrix-improved estimation of the Wasserstein distance
// between two centered Gaussian distributions" (2019), theorem 1, deformed to the negative real axis.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/frechet.hpp"
#include "core/gaussian.hpp"
#include "core/interrupt.hpp"
#include "core/matrix.hpp"
#include "core/moments/state.hpp"

namespace fidfast {

namespace detail {

/// Psi above, for 1/m1 = a and 1/m2 = b.
inline double psi(double x, double a, double b) {
  if (a == 0 && b == 0) return x;
  // x may not exceed the degrees of freedom; a sample with no more rows than dimensions does not determine the root.
  constexpr double kLeast = 1e-12;
  const double p = std::sqrt(std::max(1 - a * x, kLeast));
  const double q = std::sqrt(std::max(1 - b * x, kLeast));
  const double root_a = std::sqrt(a);
  const double root_b = std::sqrt(b);
  const double y = x * (root_a / (1 + p) + root_b / (1 + q)) / (root_a * q + root_b * p);
  const double both = root_a * root_b;
  return both == 0 ? 2 * y : 2 * std::log1p(both * y) / both;
}

/// Trapezoidal rule in log t for integrals of t^(-1/2) f(t), where f is constant far below the smallest eigenvalue (or
/// grows like log t, if only one row varies in some direction) and decays like t^-2 above the largest. The poles are at
/// log t = log l +- pi i, so steps of 1 have the relative error exp(-2 pi^2) = 3e-9 (Trefethen & Weideman, 2014).
struct Quadrature {
  std::vector<double> t;
  std::vector<double> weight;

  /// values (r,), ascending, positive.
  explicit Quadrature(const std::vector<double>& values) {
    if (values.empty()) return;
    const double first = std::log(values.front()) - 34;
    const double last = std::log(values.back()) + 14;
    for (int k = 0; first + k < last; ++k) {
      const double u = first + k;
      t.push_back(std::exp(u));
      weight.push_back(std::exp(u / 2));
    }
    weight.front() /= 1 - std::exp(-0.5);  // includes all nodes below it, a geometric series
  }
};

}  // namespace detail

/// First or second argument of the distance.
enum class Operand { kFirst, kSecond };

/// Leave-one-out results, one for each row.
struct WithoutRow {
  std::vector<double> distance;   // without the row
  std::vector<double> corrected;  // without the row, and bias-corrected
};

template <class Device>
class Jackknife {
 public:
  /// sampled[k]: whether Gaussian k is estimated from rows; else its moments are exact. precision is as in Moments.
  /// without() needs with_rows; eigenvalues alone are faster.
  Jackknife(const Gaussian<Device>& first, const Gaussian<Device>& second, std::array<bool, 2> sampled,
            Precision precision, bool with_rows)
      : dim_(first.dim()), precision_(precision), with_rows_(with_rows) {
    detail::require_same_dim(first.dim(), second.dim());
    const std::array<const Gaussian<Device>*, 2> gaussians = {&first, &second};
    mean_term_ = MatrixOps<Device>::squared_distance(first.mu(), second.mu());
    for (std::size_t k = 0; k < 2; ++k) {
      samples_[k] = sampled[k] ? gaussians[k]->num_samples() : 0;
      if (sampled[k] && samples_[k] < 3) {
        throw InvalidInput("leaving a row out needs at least 3 rows, got " + std::to_string(samples_[k]));
      }
      traces_[k] = gaussians[k]->trace();
      means_[k] = {gaussians[k]->mu(), Vector<Device>::zeros(dim_)};
    }
    detail::FactoredPair<Device> pair(first, second);
    pair.order_by_rank();
    // A set of equal rows of low rank has a factor of zeros.
    if (pair.rank() > 0 && traces_[0] > 0 && traces_[1] > 0) decompose(pair, pair.first == &first ? 0 : 1);
  }

  Index rank() const { return static_cast<Index>(values_.size()); }
  int device() const { return device_; }
  double distance() const { return distance_of(mean_term_, traces_, scaling_ * root_); }
  /// Bias-corrected distance, assuming Gaussian features.
  double corrected() const {
    const double mean_term = mean_term_ - share(traces_[0], samples_[0]) - share(traces_[1], samples_[1]);
    return distance_of(mean_term, traces_, scaling_ * (root_ + correction(x_, inverse(0), inverse(1))));
  }

  /// By how much the spread of the eigenvalues makes the root too small, for Gaussian features that are worth 1 / first
  /// and 1 / second degrees of freedom.
  double root_correction(double first, double second) const { return scaling_ * correction(x_, first, second); }

  /// Bias of the root that the jackknife would find for Gaussian features. The ratio of the bias that it does find to
  /// this one measures the effect of the features' fourth moments.
  double gaussian_bias(Operand operand) const { return gaussian_bias(inverse(index(operand))); }

  /// The same for rows that are worth 1 / inverse degrees of freedom, if they are not independent.
  double gaussian_bias(double inverse) const {
    double sum = 0;
    for (std::size_t q = 0; q < x_.size(); ++q) {
      const double rest = std::max(1 - inverse * x_[q], kLeast);
      sum -= nodes_.weight[q] * decay_[q] * (1 - rest) / rest;
    }
    return scaling_ * sum / kPi;
  }

  /// sum_jk l_j l_k / (sqrt(l_j) + sqrt(l_k))^2. Times (1/n1 + 1/n2)^2 it is the variance of the second-order term of
  /// the distance.
  double second_order() const {
    std::vector<double> roots;
    for (const double value : values_) roots.push_back(std::sqrt(value));
    double sum = 0;
    for (const double a : roots) {
      check_interrupt();
      for (const double b : roots) {
        const double h = a * b / (a + b);
        sum += h * h;
      }
    }
    return scaling_ * scaling_ * sum;
  }

  /// Leave-one-out distances for features (n, dim), which are rows of one sample.
  template <class S>
  WithoutRow without(Operand operand, const FeatureView<S>& features) {
    if (features.dim != dim_) {
      throw InvalidInput("features have " + std::to_string(features.dim) + " columns, but the Gaussians have dim " +
                         std::to_string(dim_));
    }
    const std::size_t k = index(operand);
    if (samples_[k] == 0 || !with_rows_) throw InvalidInput("Jackknife was created without rows for this Gaussian");
    const std::lock_guard<ObjectMutex> lock(mutex_);
    if constexpr (!std::is_same_v<S, double> && Device::kFloatProducts) {
      // With few rows 1 - s may be near 0 and would be lost in float32.
      if (samples_[k] > dim_ && products_in_float(precision_, dim_)) return without_in<float>(k, features);
    }
    return without_in<double>(k, features);
  }

 private:
  static constexpr double kPi = 3.141592653589793;
  static constexpr double kLeast = 1e-12;
  static constexpr Index kBlock = 1024;  // rows

  /// Matrices for projecting a block of rows, in T.
  template <class T>
  struct Projection {
    Matrix<Device, T> whitening;   // (dim, r)
    Matrix<Device, T> resolvents;  // (r, 2 nodes + 1), as resolvents()
    Matrix<Device, T> centred;     // (dim, kBlock)
    Matrix<Device, T> whitened;    // (r, kBlock)
    Matrix<Device, T> sums;        // (2 nodes + 1, kBlock)
    Vector<Device, T> origin;      // (dim,)
    Vector<Device, T> unit_info;   // (dim,)
    Vector<Device> remainder;      // (dim,) mean - origin
    Vector<Device, T> shift;       // (r,) whitened remainder
  };
  template <class T>
  using Projections = std::array<std::optional<Projection<T>>, 2>;

  static std::size_t index(Operand operand) { return operand == Operand::kFirst ? 0 : 1; }
  static double share(double trace, Index n) { return n > 0 ? trace / static_cast<double>(n) : 0.0; }
  static double distance_of(double mean_term, const std::array<double, 2>& traces, double root) {
    return mean_term + traces[0] + traces[1] - 2 * root;
  }
  /// Reciprocal of the degrees of freedom less `fewer`; 0 for exact moments.
  double inverse(std::size_t k, Index fewer = 0) const {
    return samples_[k] > 0 ? 1.0 / static_cast<double>(samples_[k] - 1 - fewer) : 0.0;
  }

  /// Computes l, V and the whitening of both samples' rows, without the directions whose eigenvalues are rounding.
  void decompose(const detail::FactoredPair<Device>& pair, std::size_t factored) {
    scaling_ = pair.scaling();
    Matrix<Device> vectors = pair.quadratic_form();
    std::vector<double> all =
        with_rows_ ? MatrixOps<Device>::eigenvectors(vectors) : MatrixOps<Device>::eigenvalues(vectors);
    if (!std::isfinite(all.back())) throw NumericalFailure("the product of the covariances is not finite");
    if (!(all.back() > 0)) return;
    // With the largest eigenvalue from 1 to 4, the nodes of the quadrature do not depend on the unit of the features.
    const int half = static_cast<int>(std::floor(std::ilogb(all.back()) / 2.0));
    for (double& value : all) value = std::ldexp(value, -2 * half);
    scaling_ = std::ldexp(scaling_, half);
    const double null = 4 * detail::kEpsilon * static_cast<double>(all.size()) * all.back();
    const auto first = std::upper_bound(all.begin(), all.end(), std::max(null, 0.0));
    values_.assign(first, all.end());
    nodes_ = detail::Quadrature(values_);
    for (const double value : values_) root_ += std::sqrt(value);
    for (const double t : nodes_.t) {
      check_interrupt();
      double x = 0;
      double decay = 0;
      for (const double value : values_) {
        const double ratio = value / (value + t);
        x += ratio;
        decay += ratio * (t / (value + t));
      }
      x_.push_back(x);
      decay_.push_back(decay);
    }
    if (!with_rows_) return;
    std::vector<double> scale;
    for (const double value : values_) scale.push_back(1.0 / (std::sqrt(value) * scaling_));
    const Matrix<Device> scaled =
        MatrixOps<Device>::scaled_columns(vectors, static_cast<Index>(first - all.begin()), scale);
    const std::vector<double> ones(pair.f1->units.size(), 1.0);
    const std::size_t other = 1 - factored;
    whitening_[other] =
        MatrixOps<Device>::scatter_rows(MatrixOps<Device>::product(pair.f1->f, scaled), dim_, pair.f1->units, ones);
    if (samples_[factored] > 0) {
      whitening_[factored] = MatrixOps<Device>::scaled_columns(
          MatrixOps<Device>::product(pair.second->sigma(), whitening_[other]), 0, scale);
    }
  }

  /// 1/pi int t^(-1/2) (Psi(x) - x) dt, the bias correction of the root.
  double correction(const std::vector<double>& x, double a, double b) const {
    double sum = 0;
    for (std::size_t q = 0; q < x.size(); ++q) sum += nodes_.weight[q] * (detail::psi(x[q], a, b) - x[q]);
    return sum / kPi;
  }

  /// Columns that are multiplied with the squares of z: l/(l + t) for each node t, t l/(l + t)^2 for each node, and
  /// sqrt(l)/2.
  Matrix<Device> resolvents() const {
    const Index nodes = static_cast<Index>(nodes_.t.size());
    std::vector<double> columns;
    columns.reserve(values_.size() * (2 * nodes_.t.size() + 1));
    for (const double t : nodes_.t) {
      for (const double value : values_) columns.push_back(value / (value + t));
    }
    for (const double t : nodes_.t) {
      for (const double value : values_) columns.push_back(value / (value + t) * (t / (value + t)));
    }
    for (const double value : values_) columns.push_back(std::sqrt(value) / 2);
    Matrix<Device> result(rank(), 2 * nodes + 1);
    Device::from_host(result.data(), columns.data(), columns.size() * sizeof(double));
    return result;
  }

  template <class T>
  Projection<T>& projection(std::size_t k) {
    auto& kept = std::get<Projections<T>>(projections_)[k];
    if (!kept) {
      Projection<T> made;  // kept once complete: an allocation may fail
      made.whitening = RowOps<Device>::template rounded<T>(whitening_[k]);
      made.resolvents = RowOps<Device>::template rounded<T>(resolvents());
      made.centred = Matrix<Device, T>(dim_, kBlock);
      made.whitened = Matrix<Device, T>(rank(), kBlock);
      made.sums = Matrix<Device, T>(made.resolvents.cols(), kBlock);
      made.origin = Vector<Device, T>(dim_);
      made.unit_info = Vector<Device, T>(dim_);
      made.remainder = Vector<Device>(dim_);
      made.shift = Vector<Device, T>(rank());
      kept = std::move(made);
    }
    return *kept;
  }

  template <class T, class S>
  WithoutRow without_in(std::size_t k, const FeatureView<S>& features) {
    Projection<T>& mine = projection<T>(k);
    Vector<Device> d(dim_);
    MatrixOps<Device>::difference(means_[k], means_[1 - k], d);
    WithoutRow result;
    for (Index first = 0; first < features.n; first += kBlock) {
      const FeatureView<S> block = features.rows(first, std::min(kBlock, features.n - first));
      RowOps<Device>::subtract_mean(block, means_[k], mine.origin, mine.remainder, mine.unit_info, mine.centred);
      std::vector<double> squares;  // |x - mu|^2
      std::vector<double> along;    // (mu - mu of the other Gaussian) . (x - mu)
      RowOps<Device>::deviations(mine.centred, block.n, mine.remainder, d, squares, along);
      std::vector<double> sums;
      if (rank() > 0) {
        RowOps<Device>::cross_products(mine.whitening, rank(), mine.centred, block.n, mine.whitened);
        const Matrix<Device, T> remainder = RowOps<Device>::template rounded<T>(mine.remainder);
        RowOps<Device>::cross_products(mine.whitening, rank(), remainder, 1, mine.shift);
        RowOps<Device>::square_deviations(mine.whitened, block.n, mine.shift);
        RowOps<Device>::cross_products(mine.resolvents, mine.resolvents.cols(), mine.whitened, block.n, mine.sums);
        sums = RowOps<Device>::on_host(mine.sums, block.n);
      }
      for (Index i = 0; i < block.n; ++i) {
        check_interrupt_at(i);
        const double* const of_row = sums.data() + i * (rank() > 0 ? mine.sums.rows() : 0);
        add_without(k, squares[static_cast<std::size_t>(i)], along[static_cast<std::size_t>(i)], of_row, result);
      }
    }
    return result;
  }

  /// Appends the results for one row, given |x - mu|^2, d . (x - mu) and the sums over its z^2.
  void add_without(std::size_t k, double square, double along, const double* sums, WithoutRow& result) const {
    const double n = static_cast<double>(samples_[k]);
    const double a = n / ((n - 1) * (n - 1));
    const double scale = (n - 1) / (n - 2);
    const std::size_t nodes = x_.size();
    const double inverse_own = inverse(k, 1);
    const double inverse_other = inverse(1 - k);
    double change = 0;   // of the root, beyond first order
    double correct = 0;  // Psi(x) - x without the row
    for (std::size_t q = 0; q < nodes; ++q) {
      const double s = a * sums[q];
      const double rest = std::max(1 - s, kLeast);  // 0 if only this row varies in some direction
      const double x = std::max(x_[q] - a * sums[nodes + q] / rest, 0.0);
      change += nodes_.weight[q] * (std::log(rest) + s);
      correct += nodes_.weight[q] * (detail::psi(x, inverse_own, inverse_other) - x);
    }
    const double first_order = nodes > 0 ? -a * sums[2 * nodes] : 0.0;
    const double root = root_ + first_order + change / (2 * kPi);
    std::array<double, 2> traces = traces_;
    traces[k] = scale * (traces_[k] - a * square);
    const double mean_term = mean_term_ - 2 * along / (n - 1) + square / ((n - 1) * (n - 1));
    const double unbiased = mean_term - traces[k] / (n - 1) - share(traces[1 - k], samples_[1 - k]);
    const double scaling = scaling_ * std::sqrt(scale);
    result.distance.push_back(distance_of(mean_term, traces, scaling * root));
    result.corrected.push_back(distance_of(unbiased, traces, scaling * (root + correct / kPi)));
  }

  int device_ = Device::current_device();
  Index dim_;
  Precision precision_;
  bool with_rows_;
  std::array<Index, 2> samples_ = {0, 0};  // rows of each sample, 0 for exact moments
  std::array<double, 2> traces_ = {0, 0};
  std::array<Mean<Device>, 2> means_;
  double mean_term_ = 0;
  double scaling_ = 1;          // values, roots and whitened rows belong to M / scaling^2
  double root_ = 0;             // tr M^(1/2)
  std::vector<double> values_;  // l, ascending
  detail::Quadrature nodes_{std::vector<double>()};
  std::vector<double> x_;                    // tr M (M + t)^-1 at each node
  std::vector<double> decay_;                // t tr M (M + t)^-2 likewise
  std::array<Matrix<Device>, 2> whitening_;  // (dim, r), z = whitening^T (x - mu)
  std::tuple<Projections<float>, Projections<double>> projections_;
  ObjectMutex mutex_;
};

}  // namespace fidfast
