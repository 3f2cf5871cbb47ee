// Kernel distances: the maximum mean discrepancy (MMD) between two sets of rows, and its standard error.
//
// Gretton, Borgwardt, Rasch, Schoelkopf & Smola, "A kernel two-sample test" (2012). With the polynomial kernel it is
// the kernel inception distance (Binkowski, Sutherland, Arbel & Gretton, 2018), with the Gaussian kernel and CLIP
// features it is CMMD (Jayasumana et al., 2024).
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/kernel/sums.hpp"
#include "core/matrix.hpp"

namespace fidfast {

/// An estimate of the squared MMD.
struct KernelDistance {
  double value = 0;
  double standard_error = 0;
  Index num_a = 0;
  Index num_b = 0;
};

namespace kernel {

inline void require_usable(const KernelRows& a, const KernelRows& b, Index least) {
  if (a.dim() != b.dim()) {
    throw InvalidInput(std::string(a.name) + " has dim " + std::to_string(a.dim()) + ", but " + b.name + " has dim " +
                       std::to_string(b.dim()));
  }
  for (const KernelRows* const rows : {&a, &b}) {
    if (rows->n() < least) {
      throw InvalidInput(std::string(rows->name) + ": a kernel distance needs at least " + std::to_string(least) +
                         (least == 1 ? " sample, got " : " samples, got ") + std::to_string(rows->n()));
    }
  }
}

inline double sum(const std::vector<double>& values) {
  double total = 0;
  for (const double value : values) total += value;
  return total;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double total = 0;
  for (std::size_t i = 0; i < a.size(); ++i) total += a[i] * b[i];
  return total;
}

/// value 2^exponent, which must be in the range of float64.
inline double in_range(double value, int exponent) {
  const double result = std::ldexp(value, exponent);
  if (std::isfinite(result)) return result;
  throw InvalidInput(
      "the kernel distance of these features exceeds 1.79769e+308, the largest float64: scale the features down, or "
      "use a lower degree or gamma");
}

/// Whether b precedes a in an order that depends on the rows only. Both orders of the arguments then have the same
/// rounding errors.
template <class Device>
bool in_other_order(const KernelRows& a, const KernelRows& b) {
  if (a.n() != b.n()) return b.n() < a.n();
  const auto row_of = [](const KernelRows& rows, Index i) {
    Vector<Device> row(rows.dim());
    std::visit([&](const auto& view) { RowOps<Device>::append(view.rows(i, 1), row, 0); }, rows.features);
    return host_copy(row);
  };
  for (Index i = 0; i < a.n(); ++i) {
    const std::vector<double> one = row_of(a, i);
    const std::vector<double> other = row_of(b, i);
    if (one != other) return other < one;
  }
  return false;
}

/// The sums of either order of the arguments.
template <class Device, class Kernel>
KernelSums ordered_sums(const Kernel& kernel, const KernelRows& a, const KernelRows& b, Precision precision) {
  return in_other_order<Device>(a, b) ? sums<Device>(kernel, b, a, precision) : sums<Device>(kernel, a, b, precision);
}

/// mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean_ij k(a_i, b_j): Gretton et al. (2012), equation 3.
inline double unbiased(const KernelSums& sums) {
  const auto n = static_cast<double>(sums.aa.size());
  const auto m = static_cast<double>(sums.bb.size());
  return in_range(sum(sums.aa) / (n * (n - 1)) + sum(sums.bb) / (m * (m - 1)) - 2 * (sum(sums.ab) / (n * m)),
                  sums.exponent);
}

/// The same over all pairs, equation 5. The kernel of a row with itself is the constant that the sums leave out.
inline double biased(const KernelSums& sums) {
  const auto n = static_cast<double>(sums.aa.size());
  const auto m = static_cast<double>(sums.bb.size());
  const double value = sum(sums.aa) / (n * n) + sum(sums.bb) / (m * m) - 2 * (sum(sums.ab) / (n * m));
  return std::max(in_range(value, sums.exponent), 0.0);
}

/// Variances within one set of n rows. They are averages over tuples of distinct rows, so they are unbiased: of_rows is
/// the covariance of k(x, x') and k(x, x''), of_pairs the variance of k(x, x').
struct OwnVariance {
  double of_rows;
  double of_pairs;

  OwnVariance(const std::vector<double>& rows, double squares) {
    const auto n = static_cast<double>(rows.size());
    const double total = sum(rows);
    const double of_squares = dot(rows, rows);
    const double mean_squared = (total * total - 4 * of_squares + 2 * squares) / (n * (n - 1) * (n - 2) * (n - 3));
    of_rows = (of_squares - squares) / (n * (n - 1) * (n - 2)) - mean_squared;
    of_pairs = squares / (n * (n - 1)) - mean_squared;
  }
  /// Variance of the mean over all pairs of distinct rows.
  double of_mean(double n) const { return 2 / (n * (n - 1)) * (2 * (n - 2) * of_rows + of_pairs); }
};

/// Covariance of the means of k(x, x') and k(x, y) over all pairs: that of k(x, x') and k(x, y), times 2 / n.
inline double covariance_of_means(const std::vector<double>& own, const std::vector<double>& cross, double m) {
  const auto n = static_cast<double>(own.size());
  const double same = dot(own, cross);
  const double mean_product = (sum(own) * sum(cross) - 2 * same) / (n * (n - 1) * (n - 2) * m);
  return 2 / n * (same / (n * (n - 1) * m) - mean_product);
}

/// Unbiased estimate of the variance of unbiased(), to all orders in 1/n and for sets of different sizes, from the
/// Hoeffding (1948) decomposition of the three means. The terms in 1/n are the asymptotic variance of Bounliphone et
/// al. (2016) and Sutherland et al. (2017). Sutherland, "Unbiased estimators for the variance of MMD estimators"
/// (2019), gives all terms for sets of equal size.
inline double variance(const KernelSums& sums) {
  const auto n = static_cast<double>(sums.aa.size());
  const auto m = static_cast<double>(sums.bb.size());
  const double total = sum(sums.ab);
  const double of_a = dot(sums.ab, sums.ab);
  const double of_b = dot(sums.ba, sums.ba);
  const double squares = sums.squares_ab;
  const double mean_squared = (total * total - of_a - of_b + squares) / (n * (n - 1) * m * (m - 1));
  const double rows = (of_a - squares) / (n * m * (m - 1)) - mean_squared;
  const double columns = (of_b - squares) / (n * (n - 1) * m) - mean_squared;
  const double pairs = squares / (n * m) - mean_squared;
  const double cross = ((m - 1) * rows + (n - 1) * columns + pairs) / (n * m);
  return OwnVariance(sums.aa, sums.squares_aa).of_mean(n) + OwnVariance(sums.bb, sums.squares_bb).of_mean(m) +
         4 * cross - 4 * covariance_of_means(sums.aa, sums.ab, m) - 4 * covariance_of_means(sums.bb, sums.ba, n);
}

}  // namespace kernel

/// Unbiased squared MMD and its standard error, which is NaN for fewer than 4 rows, and 0 if the estimate of the
/// variance is negative.
template <class Device>
KernelDistance kid(const PolynomialOptions& polynomial, const AnyFeatures& samples, const AnyFeatures& reference,
                   Precision precision) {
  const KernelRows a{samples, "samples"};
  const KernelRows b{reference, "reference"};
  kernel::require_usable(a, b, 2);
  const KernelSums sums = kernel::ordered_sums<Device>(polynomial.checked(a.dim()), a, b, precision);
  const double value = kernel::unbiased(sums);
  const bool enough = std::min(a.n(), b.n()) >= 4;  // the variance needs tuples of four rows
  const double error =
      enough ? kernel::in_range(std::sqrt(std::max(kernel::variance(sums), 0.0)), sums.exponent) : std::nan("");
  return {value, error, a.n(), b.n()};
}

/// Indices of rows of one set, `size` for each subset.
struct Subsets {
  std::vector<Index> rows;  // (count, size)
  Index count;
  Index size;
};

namespace kernel {

/// Copies the rows of one subset at a time.
template <class Device>
class Gathered {
 public:
  Gathered(const KernelRows& all, const Subsets& subsets) : all_(all), subsets_(subsets) {
    const Index dim = all.dim();
    if (all.hold_doubles()) {
      wide_ = Matrix<Device, double>(dim, subsets.size);
    } else {
      narrow_ = Matrix<Device, float>(dim, subsets.size);
    }
  }

  /// The k-th subset, valid until the next call. Throws InvalidInput if an index is out of range.
  KernelRows subset(Index k) {
    const auto gather = [&](const auto& view) {
      using S = std::remove_const_t<std::remove_pointer_t<decltype(view.data)>>;
      for (Index i = 0; i < subsets_.size; ++i) {
        const Index row = subsets_.rows[static_cast<std::size_t>(k * subsets_.size + i)];
        if (row < 0 || row >= view.n) {
          throw InvalidInput("row " + std::to_string(row) + " of a subset is out of range: " + all_.name + " has " +
                             std::to_string(view.n) + " rows");
        }
        if constexpr (std::is_same_v<S, double>) RowOps<Device>::append(view.rows(row, 1), wide_, i);
        if constexpr (!std::is_same_v<S, double>) RowOps<Device>::append(view.rows(row, 1), narrow_, i);
      }
    };
    std::visit(gather, all_.features);
    if (all_.hold_doubles()) return {columns_as_features(wide_, 0, subsets_.size), all_.name};
    return {columns_as_features(narrow_, 0, subsets_.size), all_.name};
  }

 private:
  const KernelRows& all_;
  const Subsets& subsets_;
  Matrix<Device, float> narrow_;  // (dim, size); either this or wide_ is used
  Matrix<Device, double> wide_;
};

}  // namespace kernel

/// Unbiased squared MMD for each pair of subsets.
template <class Device>
std::vector<double> kid_of_subsets(const PolynomialOptions& polynomial, const AnyFeatures& samples,
                                   const AnyFeatures& reference, const Subsets& sample_subsets,
                                   const Subsets& reference_subsets, Precision precision) {
  const KernelRows a{samples, "samples"};
  const KernelRows b{reference, "reference"};
  kernel::require_usable(a, b, 2);
  const Index least = std::min(sample_subsets.size, reference_subsets.size);
  if (least < 2) throw InvalidInput("subset_size must be at least 2, got " + std::to_string(least));
  kernel::require_finite_rows<Device>(a);
  kernel::require_finite_rows<Device>(b);
  const PolynomialKernel checked = polynomial.checked(a.dim());
  kernel::Gathered<Device> of_a(a, sample_subsets);
  kernel::Gathered<Device> of_b(b, reference_subsets);
  std::vector<double> values;
  for (Index k = 0; k < std::min(sample_subsets.count, reference_subsets.count); ++k) {
    values.push_back(kernel::unbiased(kernel::sums<Device>(checked, of_a.subset(k), of_b.subset(k), precision)));
  }
  return values;
}

/// Biased squared MMD with a Gaussian kernel. Never negative.
template <class Device>
double gaussian_mmd(const GaussianKernel& gaussian, const AnyFeatures& samples, const AnyFeatures& reference,
                    Precision precision) {
  const KernelRows a{samples, "samples"};
  const KernelRows b{reference, "reference"};
  kernel::require_usable(a, b, 1);
  return kernel::biased(kernel::ordered_sums<Device>(gaussian.checked(a.dim()), a, b, precision));
}

}  // namespace fidfast
