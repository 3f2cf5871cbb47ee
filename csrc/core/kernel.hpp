// Kernel distances: the maximum mean discrepancy between two sets of rows, and its standard error.
//
// Gretton, Borgwardt, Rasch, Schoelkopf, Smola, "A kernel two-sample test" (2012). With the polynomial kernel it is
// the kernel inception distance (Binkowski, Sutherland, Arbel, Gretton 2018), with a Gaussian one of CLIP's features
// CMMD (Jayasumana et al. 2024).
//
// Both kernels are functions of e_ij = u_i + v_j + w (x_i - c) . (y_j - c), for any point c. With c amid the rows the
// product is small, so its rounding is too, even in float32; all else is float64. What the kernels are at e = 0 is a
// constant, which drops out of the discrepancy and is left out of the sums: so nothing large cancels in them.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/errors.hpp"
#include "core/linalg.hpp"
#include "core/matrix.hpp"
#include "core/moments_state.hpp"

namespace fidfast {

using AnyFeatures = std::variant<FeatureView<Float16>, FeatureView<BFloat16>, FeatureView<float>, FeatureView<double>>;

/// (gamma x.y + coef0)^degree; gamma is 1 / dim where it is not given.
struct PolynomialKernel {
  Index degree = 3;
  std::optional<double> gamma;
  double coef0 = 1;

  /// What was asked for, with gamma filled in. Throws where it is no positive definite kernel.
  PolynomialKernel checked(Index dim) const {
    if (degree < 1) throw InvalidInput("degree must be at least 1, got " + std::to_string(degree));
    if (gamma && !(*gamma > 0 && std::isfinite(*gamma))) {
      throw InvalidInput("gamma must be positive, got " + std::to_string(*gamma));
    }
    if (!(coef0 >= 0 && std::isfinite(coef0))) {
      throw InvalidInput("coef0 must not be negative, got " + std::to_string(coef0));
    }
    return {degree, gamma.value_or(1.0 / static_cast<double>(dim)), coef0};
  }
  double weight() const { return *gamma; }
  /// (s + e)^degree - s^degree with s the kernel's base at the centre, |c|^2 gamma + coef0.
  Polynomial function(double squared_centre) const {
    const double s = *gamma * squared_centre + coef0;
    std::vector<double> coefficients(static_cast<std::size_t>(degree));
    double coefficient = 1;  // of e^q: the binomial coefficient times s^(degree - q)
    for (Index q = degree; q >= 1; --q) {
      coefficients[static_cast<std::size_t>(q - 1)] = coefficient;
      coefficient *= s * static_cast<double>(q) / static_cast<double>(degree - q + 1);
    }
    return {std::move(coefficients)};
  }
  /// x.y = c.c + c.(x - c) + c.(y - c) + (x - c).(y - c).
  template <class Device, class T>
  void terms(const Matrix<Device, T>& centred, Index n, const Vector<Device, T>& centre, Vector<Device>& result,
             Index first) const {
    RowVerbs<Device>::inner_products(centred, n, centre, *gamma, result, first);
  }
};

/// exp(-|x - y|^2 / (2 sigma^2)).
struct GaussianKernel {
  double sigma = 10;

  GaussianKernel checked(Index /*dim*/) const {
    if (!(sigma > 0 && std::isfinite(sigma))) {
      throw InvalidInput("sigma must be positive, got " + std::to_string(sigma));
    }
    return *this;
  }
  double weight() const { return 1 / (sigma * sigma); }
  static ExponentialLessOne function(double /*squared_centre*/) { return {}; }
  template <class Device, class T>
  void terms(const Matrix<Device, T>& centred, Index n, const Vector<Device, T>& /*centre*/, Vector<Device>& result,
             Index first) const {
    RowVerbs<Device>::squared_norms(centred, n, -weight() / 2, result, first);
  }
};

/// One side of a kernel distance: rows as they came, or those of them that `order` names.
struct KernelRows {
  const AnyFeatures& features;
  const char* name;              // of the argument, for errors
  const Index* order = nullptr;  // (num_ordered,)
  Index num_ordered = 0;

  Index num_rows() const {
    return std::visit([](const auto& view) { return view.n; }, features);
  }
  Index n() const { return order == nullptr ? num_rows() : num_ordered; }
  Index dim() const {
    return std::visit([](const auto& view) { return view.dim; }, features);
  }
  bool wide() const { return std::holds_alternative<FeatureView<double>>(features); }
};

/// Sums of a kernel k, less a constant, over pairs of rows a_i and b_j; of one set only over pairs of unlike rows.
struct KernelSums {
  std::vector<double> aa;  // (n_a,) sum_{j != i} k(a_i, a_j)
  std::vector<double> bb;  // (n_b,) sum_{j != i} k(b_i, b_j)
  std::vector<double> ab;  // (n_a,) sum_j k(a_i, b_j)
  std::vector<double> ba;  // (n_b,) sum_i k(a_i, b_j)
  double squares_aa = 0;   // sum_{i != j} k(a_i, a_j)^2
  double squares_bb = 0;
  double squares_ab = 0;  // sum_ij k(a_i, b_j)^2
};

/// An estimate of the squared discrepancy, and the numbers of rows behind it.
struct KernelDistance {
  double value = 0;
  double standard_error = 0;
  Index num_a = 0;
  Index num_b = 0;
};

namespace kernel {

/// The rows of both sides about one centre, a block of each at a time in memory, multiplied in T.
template <class Device, class T>
class Tiles {
 public:
  /// Rows a block holds: enough that the products dwarf the passes over blocks and tile, few enough for the cache.
  static constexpr Index kMostRows = 2048;

  /// For sides of no more rows than these.
  Tiles(const KernelRows& a, const KernelRows& b, const Mean<Device>& mean)
      : mean_(mean), dim_(a.dim()), centre_(dim_), remainder_(dim_), largest_(dim_) {
    const Index rows = std::max(block_rows(a.n()), block_rows(b.n()));
    for (Slot& slot : slots_) slot.centred = Matrix<Device, T>(dim_, rows);
    if (a.order != nullptr || b.order != nullptr) gathered_ = Matrix<Device, T>(dim_, rows);
    products_ = Matrix<Device, T>(rows, rows);
  }

  /// The sums over all pairs, or nothing where T's range does not hold the products.
  template <class Kernel>
  std::optional<KernelSums> sums(const Kernel& kernel, const KernelRows& a, const KernelRows& b) {
    sides_[0] = &a;
    sides_[1] = &b;
    for (int side = 0; side < 2; ++side) {
      block_rows_[side] = block_rows(sides_[side]->n());
      slots_[side].side = -1;
    }
    Vector<Device> terms[2] = {Vector<Device>(sides_[0]->n()), Vector<Device>(sides_[1]->n())};
    double longest = 0;
    for (int side = 0; side < 2; ++side) {
      Vector<Device> norms(sides_[side]->n());
      for (Index first = 0; first < sides_[side]->n(); first += block_rows_[side]) {
        const Slot& slot = fetch(side, first, nullptr);
        RowVerbs<Device>::squared_norms(slot.centred, slot.n, 1.0, norms, first);
        kernel.terms(slot.centred, slot.n, centre_, terms[side], first);
      }
      for (const double norm : host_of(norms)) longest = std::max(longest, std::isfinite(norm) ? norm : kInfinity);
    }
    if (!in_range(longest)) return std::nullopt;

    Vector<Device> centre_norm(1);
    RowVerbs<Device>::squared_norms(centre_, 1, 1.0, centre_norm, 0);
    const auto function = kernel.function(host_of(centre_norm)[0]);
    Vector<Device> own[2] = {Vector<Device>::zeros(sides_[0]->n()), Vector<Device>::zeros(sides_[1]->n())};
    Vector<Device> cross[2] = {Vector<Device>::zeros(sides_[0]->n()), Vector<Device>::zeros(sides_[1]->n())};
    double squares[2] = {0, 0};
    double cross_squares = 0;
    for (int side = 0; side < 2; ++side) {
      for (Index i = 0; i < sides_[side]->n(); i += block_rows_[side]) {
        const Slot& rows = fetch(side, i, nullptr);
        const TileSide<Device> of_rows{terms[side], own[side], i, rows.n};
        RowVerbs<Device>::own_products(rows.centred, rows.n, products_);
        squares[side] += add(function, kernel.weight(), of_rows, of_rows, true);
        for (Index j = i + rows.n; j < sides_[side]->n(); j += block_rows_[side]) {
          const Slot& others = fetch(side, j, &rows);
          RowVerbs<Device>::cross_products(rows.centred, rows.n, others.centred, others.n, products_);
          squares[side] += add(function, kernel.weight(), of_rows, {terms[side], own[side], j, others.n}, false);
        }
        for (Index j = 0; side == 0 && j < sides_[1]->n(); j += block_rows_[1]) {
          const Slot& others = fetch(1, j, &rows);
          RowVerbs<Device>::cross_products(rows.centred, rows.n, others.centred, others.n, products_);
          cross_squares +=
              add(function, kernel.weight(), {terms[0], cross[0], i, rows.n}, {terms[1], cross[1], j, others.n}, false);
        }
      }
    }
    return KernelSums{host_of(own[0]), host_of(own[1]), host_of(cross[0]), host_of(cross[1]),
                      2 * squares[0],  2 * squares[1],  cross_squares};
  }

 private:
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  /// Of nearly equal size: a narrow tile is a slow one.
  static Index block_rows(Index n) {
    const Index blocks = (n + kMostRows - 1) / kMostRows;
    return (n + blocks - 1) / blocks;
  }

  /// A block of rows less the centre.
  struct Slot {
    Matrix<Device, T> centred;  // (dim, >= n)
    int side = -1;
    Index first = 0;
    Index n = 0;
  };

  /// By Cauchy and Schwarz no sum of products exceeds the largest squared norm; products that underflow are less than
  /// rounding as long as that norm is far above the smallest number.
  static bool in_range(double longest) {
    using Limits = std::numeric_limits<T>;
    return longest == 0 || (longest < static_cast<double>(Limits::max()) / 4 &&
                            (std::is_same_v<T, double> ||
                             longest > static_cast<double>(Limits::min()) / std::pow(Limits::epsilon(), 2)));
  }

  static std::vector<double> host_of(const Vector<Device>& vector) {
    std::vector<double> result(static_cast<std::size_t>(vector.size()));
    Device::copy(result.data(), vector.data(), result.size() * sizeof(double));
    return result;
  }

  template <class Function>
  double add(const Function& function, double weight, const TileSide<Device>& rows, const TileSide<Device>& columns,
             bool below_diagonal) {
    return RowVerbs<Device>::add_function_sums(function, weight, products_, rows, columns, below_diagonal);
  }

  /// The block of this side that begins with row `first`, read where it is not at hand; `kept` stays.
  const Slot& fetch(int side, Index first, const Slot* kept) {
    for (const Slot& slot : slots_) {
      if (slot.side == side && slot.first == first) return slot;
    }
    // A side of one block keeps its slot, so that subsets are read once.
    Slot& slot = kept == nullptr ? slots_[side] : (kept == &slots_[0] ? slots_[1] : slots_[0]);
    slot.side = side;
    slot.first = first;
    slot.n = std::min(block_rows_[side], sides_[side]->n() - first);
    std::visit([&](const auto& view) { read(view, sides_[side]->order, slot); }, sides_[side]->features);
    return slot;
  }

  template <class S>
  void read(const FeatureView<S>& view, const Index* order, Slot& slot) {
    if constexpr (std::is_same_v<T, double> || !std::is_same_v<S, double>) {  // T holds S, as the caller has seen to
      if (order == nullptr) {
        RowVerbs<Device>::centre(view.rows(slot.first, slot.n), mean_, centre_, remainder_, largest_, slot.centred);
        return;
      }
      for (Index i = 0; i < slot.n; ++i) RowVerbs<Device>::append(view.rows(order[slot.first + i], 1), gathered_, i);
      RowVerbs<Device>::centre(columns_as_features(gathered_, 0, slot.n), mean_, centre_, remainder_, largest_,
                               slot.centred);
    }
  }

  const KernelRows* sides_[2] = {nullptr, nullptr};
  Index block_rows_[2] = {0, 0};
  const Mean<Device>& mean_;  // (dim,)
  Index dim_;
  Vector<Device, T> centre_;   // (dim,) the mean as T holds it
  Vector<Device> remainder_;   // (dim,)
  Vector<Device, T> largest_;  // (dim,)
  Slot slots_[2];
  Matrix<Device, T> gathered_;  // (dim, rows) empty where no side has an order
  Matrix<Device, T> products_;  // (rows, rows)
};

/// Midway between the means of all rows of the two sides.
template <class Device>
Mean<Device> centre_of(const KernelRows& a, const KernelRows& b) {
  Mean<Device> means[2] = {Mean<Device>::zeros(a.dim()), Mean<Device>::zeros(a.dim())};
  std::visit([&](const auto& view) { RowVerbs<Device>::mean(view, means[0]); }, a.features);
  std::visit([&](const auto& view) { RowVerbs<Device>::mean(view, means[1]); }, b.features);
  Vector<Device> d(a.dim());
  Linalg<Device>::difference(means[1], means[0], d);
  Linalg<Device>::advance(means[0], 0.5, d);
  return std::move(means[0]);
}

template <class Device>
void require_usable(const KernelRows& rows, Index least) {
  if (rows.n() < least) {
    throw InvalidInput(std::string(rows.name) + ": a kernel distance needs at least " + std::to_string(least) +
                       (least == 1 ? " sample, got " : " samples, got ") + std::to_string(rows.n()));
  }
  const Index bad =
      std::visit([](const auto& view) { return RowVerbs<Device>::first_nonfinite_row(view); }, rows.features);
  if (bad >= 0) {
    throw InvalidInput(std::string(rows.name) + ": features hold NaN or infinity; the first such row is " +
                       std::to_string(bad));
  }
}

template <class Device>
void require_usable(const KernelRows& a, const KernelRows& b, Index least) {
  if (a.dim() != b.dim()) {
    throw InvalidInput(std::string(a.name) + " has dim " + std::to_string(a.dim()) + ", but " + b.name + " has dim " +
                       std::to_string(b.dim()));
  }
  require_usable<Device>(a, least);
  require_usable<Device>(b, least);
}

/// The sums of pairs of sides, each no larger than the first; its memory is kept from one pair to the next.
template <class Device>
class Summation {
 public:
  Summation(Mean<Device> mean, Precision precision) : mean_(std::move(mean)), precision_(precision) {}

  template <class Kernel>
  KernelSums operator()(const Kernel& kernel, const KernelRows& a, const KernelRows& b) {
    std::optional<KernelSums> result;
    if (precision_ == Precision::kFloat32 && !a.wide() && !b.wide()) result = sums(narrow_, kernel, a, b);
    if (!result) result = sums(wide_, kernel, a, b);
    if (!result) throw InvalidInput("the squares of the features leave the range of float64");
    return *std::move(result);
  }

 private:
  template <class T, class Kernel>
  std::optional<KernelSums> sums(std::optional<Tiles<Device, T>>& tiles, const Kernel& kernel, const KernelRows& a,
                                 const KernelRows& b) {
    if (!tiles) tiles.emplace(a, b, mean_);
    return tiles->sums(kernel, a, b);
  }

  const Mean<Device> mean_;
  const Precision precision_;
  std::optional<Tiles<Device, float>> narrow_;
  std::optional<Tiles<Device, double>> wide_;
};

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

inline double require_finite(double value) {
  if (std::isfinite(value)) return value;
  throw InvalidInput("the kernel of these features leaves the range of float64");
}

/// mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean_ij k(a_i, b_j): Gretton et al. (2012), equation 3.
inline double unbiased(const KernelSums& sums) {
  const auto n = static_cast<double>(sums.aa.size());
  const auto m = static_cast<double>(sums.bb.size());
  return require_finite(sum(sums.aa) / (n * (n - 1)) + sum(sums.bb) / (m * (m - 1)) - 2 * (sum(sums.ab) / (n * m)));
}

/// The same with all pairs: equation 5. The constant left out of the sums is the kernel of a row with itself.
inline double biased(const KernelSums& sums) {
  const auto n = static_cast<double>(sums.aa.size());
  const auto m = static_cast<double>(sums.bb.size());
  const double value = sum(sums.aa) / (n * n) + sum(sums.bb) / (m * m) - 2 * (sum(sums.ab) / (n * m));
  return std::max(require_finite(value), 0.0);
}

/// Of one set of n rows, by averages over tuples of unlike rows, so that each is unbiased: 1 is the covariance of
/// k(x, x') and k(x, x''), 2 the variance of k(x, x').
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
  /// Of the mean over all pairs of unlike rows.
  double of_mean(double n) const { return 2 / (n * (n - 1)) * (2 * (n - 2) * of_rows + of_pairs); }
};

/// The covariance of k(x, x') and k(x, y), times 2 / n: that of the means over all pairs.
inline double covariance_of_means(const std::vector<double>& own, const std::vector<double>& cross, double m) {
  const auto n = static_cast<double>(own.size());
  const double same = dot(own, cross);
  const double mean_product = (sum(own) * sum(cross) - 2 * same) / (n * (n - 1) * (n - 2) * m);
  return 2 / n * (same / (n * (n - 1) * m) - mean_product);
}

/// An unbiased estimate of the variance of `unbiased`, of all orders in 1/n and for sets of different sizes:
/// Hoeffding's (1948) decomposition of the three means, as Sutherland (2019), "Unbiased estimators for the variance of
/// MMD estimators", has it for sets of equal size; the terms in 1/n are Sutherland et al. (2017), equation 5.
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

/// The unbiased squared discrepancy of the whole sets, and its standard error: NaN below 4 rows, 0 where the estimate
/// of the variance is negative.
template <class Device>
KernelDistance kid(const PolynomialKernel& polynomial, const AnyFeatures& features_a, const AnyFeatures& features_b,
                   Precision precision) {
  const KernelRows a{features_a, "features_a"};
  const KernelRows b{features_b, "features_b"};
  kernel::require_usable<Device>(a, b, 2);
  const PolynomialKernel checked = polynomial.checked(a.dim());
  const KernelSums sums = kernel::Summation<Device>(kernel::centre_of<Device>(a, b), precision)(checked, a, b);
  const double value = kernel::unbiased(sums);
  const bool enough = std::min(a.n(), b.n()) >= 4;  // the estimate takes tuples of four rows
  const double error = enough ? std::sqrt(std::max(kernel::variance(sums), 0.0)) : std::nan("");
  return {value, error, a.n(), b.n()};
}

/// Rows of one side, taken `size` at a time; on the host.
struct Subsets {
  std::vector<Index> rows;  // (count, size)
  Index count;
  Index size;

  /// The k-th subset of these rows. Throws where it names a row that is not there.
  KernelRows of(const AnyFeatures& features, const char* name, Index k) const {
    const KernelRows result{features, name, rows.data() + k * size, size};
    for (Index i = 0; i < size; ++i) {
      if (result.order[i] < 0 || result.order[i] >= result.num_rows()) {
        throw InvalidInput(std::string(name) + " has " + std::to_string(result.num_rows()) +
                           " rows, but a subset asks for row " + std::to_string(result.order[i]));
      }
    }
    return result;
  }
};

/// The unbiased squared discrepancy of each pair of subsets.
template <class Device>
std::vector<double> kid_of_subsets(const PolynomialKernel& polynomial, const AnyFeatures& features_a,
                                   const AnyFeatures& features_b, const Subsets& subsets_a, const Subsets& subsets_b,
                                   Precision precision) {
  const KernelRows all_a{features_a, "features_a"};
  const KernelRows all_b{features_b, "features_b"};
  kernel::require_usable<Device>(all_a, all_b, 2);
  if (std::min(subsets_a.size, subsets_b.size) < 2) {
    throw InvalidInput("subset_size must be at least 2, got " +
                       std::to_string(std::min(subsets_a.size, subsets_b.size)));
  }
  const PolynomialKernel checked = polynomial.checked(all_a.dim());
  kernel::Summation<Device> sums(kernel::centre_of<Device>(all_a, all_b), precision);
  std::vector<double> values;
  for (Index k = 0; k < std::min(subsets_a.count, subsets_b.count); ++k) {
    const KernelRows a = subsets_a.of(features_a, "features_a", k);
    const KernelRows b = subsets_b.of(features_b, "features_b", k);
    values.push_back(kernel::unbiased(sums(checked, a, b)));
  }
  return values;
}

/// The biased squared discrepancy with a Gaussian kernel, never negative.
template <class Device>
double gaussian_mmd(const GaussianKernel& gaussian, const AnyFeatures& features_a, const AnyFeatures& features_b,
                    Precision precision) {
  const KernelRows a{features_a, "features_a"};
  const KernelRows b{features_b, "features_b"};
  kernel::require_usable<Device>(a, b, 1);
  const GaussianKernel checked = gaussian.checked(a.dim());
  return kernel::biased(kernel::Summation<Device>(kernel::centre_of<Device>(a, b), precision)(checked, a, b));
}

}  // namespace fidfast
