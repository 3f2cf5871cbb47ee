// Sums of a kernel over all pairs of rows of two sets, tile by tile.
//
// Both kernels are functions f of e_ij = u_i + v_j + w p_ij with p_ij = (x_i - c) . (y_j - c), for any point c. Three
// things make the sums more accurate than the products they are made of. With c amid the rows p is small, and so is its
// rounding. What a kernel is at e = 0 is a constant, which drops out of a discrepancy and is left out from the start,
// so that nothing large cancels. And what is linear in e, where most of the discrepancy is, needs no products of pairs:
// sum_j p_ij = (x_i - c) . sum_j (y_j - c), exactly in float64. Only the rest, of the order of e^2, takes p from
// products of low precision: of float32, or of rows rounded to 16-bit integers where a device multiplies these faster.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
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
#include "core/product_scale.hpp"

namespace fidfast {

/// (gamma x.y + coef0)^degree.
struct PolynomialKernel {
  Index degree;
  double gamma;
  double coef0;

  double weight() const { return gamma; }
  /// x.y = c.c + c.(x - c) + c.(y - c) + (x - c).(y - c).
  double term(double product_with_centre, double /*squared_norm*/) const { return gamma * product_with_centre; }
  static constexpr bool kTermsOfNorms = false;
  /// (s + e)^degree - s^degree with s = gamma c.c + coef0.
  Polynomial function(double squared_centre) const {
    const double s = gamma * squared_centre + coef0;
    std::vector<double> coefficients(static_cast<std::size_t>(degree));
    double coefficient = 1;  // of e^q: the binomial coefficient times s^(degree - q)
    for (Index q = degree; q >= 1; --q) {
      coefficients[static_cast<std::size_t>(q - 1)] = coefficient;
      coefficient *= s * static_cast<double>(q) / static_cast<double>(degree - q + 1);
    }
    return {std::move(coefficients)};
  }
  /// The slope of the function at 0, where the linear part is to be summed apart.
  double linear(double squared_centre, double /*farthest*/) const { return function(squared_centre).coefficients[0]; }
};

/// The kernel as it is asked for; gamma is 1 / dim where it is not given.
struct PolynomialOptions {
  Index degree = 3;
  std::optional<double> gamma;
  double coef0 = 1;

  /// Throws where it is no positive definite kernel.
  PolynomialKernel checked(Index dim) const {
    const double factor = gamma.value_or(1.0 / static_cast<double>(dim));
    if (degree < 1) throw InvalidInput("degree must be at least 1, got " + std::to_string(degree));
    if (!(factor > 0 && std::isfinite(factor))) {
      throw InvalidInput("gamma must be positive, got " + std::to_string(factor));
    }
    if (!(coef0 >= 0 && std::isfinite(coef0))) {
      throw InvalidInput("coef0 must not be negative, got " + std::to_string(coef0));
    }
    return {degree, factor, coef0};
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
  /// -|x - y|^2 / 2 = -|x - c|^2 / 2 - |y - c|^2 / 2 + (x - c).(y - c).
  double term(double /*product_with_centre*/, double squared_norm) const { return -weight() / 2 * squared_norm; }
  static constexpr bool kTermsOfNorms = true;
  static ExponentialLessOne function(double /*squared_centre*/) { return {}; }
  /// Far from 0 the function is bounded, and its linear part would only cancel.
  double linear(double /*squared_centre*/, double farthest) const {
    return 2 * farthest * farthest * weight() <= 1 ? 1.0 : 0.0;
  }
};

/// One side of a kernel distance: rows that somebody else owns, and the name of the argument, for errors.
struct KernelRows {
  AnyFeatures features;
  const char* name;

  Index n() const {
    return std::visit([](const auto& view) { return view.n; }, features);
  }
  Index dim() const {
    return std::visit([](const auto& view) { return view.dim; }, features);
  }
  bool hold_doubles() const { return std::holds_alternative<FeatureView<double>>(features); }
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

namespace kernel {

/// The rows of one set about the centre c, and what is known of each in float64.
template <class Device>
struct Side {
  const KernelRows* rows;
  Vector<Device> sum;                  // (dim,) sum_i (x_i - c)
  std::vector<double> squared_norms;   // (n,) |x_i - c|^2
  std::vector<double> with_centre;     // (n,) (x_i - c) . c
  std::vector<double> with_own_sum;    // (n,) (x_i - c) . sum
  std::vector<double> with_other_sum;  // (n,) (x_i - c) . sum of the other side
  std::vector<double> terms;           // (n,) u_i

  Index n() const { return rows->n(); }
};

template <class Device>
std::vector<double> host_of(const Vector<Device>& vector) {
  std::vector<double> result(static_cast<std::size_t>(vector.size()));
  Device::copy(result.data(), vector.data(), result.size() * sizeof(double));
  return result;
}

template <class Device>
void require_finite_rows(const KernelRows& rows) {
  const auto find = [](const auto& view) { return RowVerbs<Device>::first_nonfinite_row(view); };
  const Index bad = std::visit(find, rows.features);
  if (bad < 0) return;
  throw InvalidInput(std::string(rows.name) + ": features hold NaN or infinity; the first such row is " +
                     std::to_string(bad));
}

/// Both sets about a centre midway between their means.
template <class Device>
struct Pair {
  Side<Device> sides[2];
  Vector<Device> centre;  // (dim,)
  double squared_centre = 0;
  double farthest = 0;  // the largest |x - c|
  double typical = 0;   // the root of the mean of their squares

  Pair(const KernelRows& a, const KernelRows& b) : sides{{&a, {}, {}, {}, {}, {}, {}}, {&b, {}, {}, {}, {}, {}, {}}} {
    const Index dim = a.dim();
    Mean<Device> means[2] = {Mean<Device>::zeros(dim), Mean<Device>::zeros(dim)};
    for (int k = 0; k < 2; ++k) {
      std::visit([&](const auto& view) { RowVerbs<Device>::mean(view, means[k]); }, sides[k].rows->features);
    }
    Vector<Device> d(dim);
    Mean<Device> middle = means[0];
    Linalg<Device>::difference(means[1], means[0], d);
    Linalg<Device>::advance(middle, 0.5, d);
    middle.low = Vector<Device>::zeros(dim);
    for (int k = 0; k < 2; ++k) {
      sides[k].sum = Vector<Device>(dim);
      Linalg<Device>::difference(means[k], middle, sides[k].sum);
      Linalg<Device>::scale(sides[k].sum, static_cast<double>(sides[k].n()));
    }
    centre = std::move(middle.high);
    squared_centre = Linalg<Device>::squared_norm(centre);
    double total = 0;
    for (int k = 0; k < 2; ++k) {
      measure(sides[k], sides[1 - k].sum);
      for (const double square : sides[k].squared_norms) {
        farthest = std::max(farthest, std::isfinite(square) ? square : std::numeric_limits<double>::infinity());
        total += square;
      }
    }
    if (!(farthest < std::numeric_limits<double>::max() / 16) || !std::isfinite(squared_centre)) reject();
    farthest = std::sqrt(farthest);
    typical = std::sqrt(total / static_cast<double>(a.n() + b.n()));
  }

 private:
  [[noreturn]] void reject() const {
    for (const Side<Device>& side : sides) require_finite_rows<Device>(*side.rows);
    throw InvalidInput("the squares of the features leave the range of float64");
  }

  void measure(Side<Device>& side, const Vector<Device>& other_sum) {
    const Index dim = centre.size();
    Matrix<Device> vectors(dim, 3);
    const Vector<Device>* const parts[] = {&centre, &side.sum, &other_sum};
    for (int k = 0; k < 3; ++k) {
      Device::copy(vectors.column(k), parts[k]->data(), static_cast<std::size_t>(dim) * sizeof(double));
    }
    Matrix<Device> products(side.n(), 3);
    std::vector<Index> all(static_cast<std::size_t>(side.n()));
    std::iota(all.begin(), all.end(), Index{0});
    const std::vector<double> ones(all.size(), 1.0);
    const auto work = [&](const auto& view) {
      RowVerbs<Device>::inner_products(view, centre, vectors, products);
      RowVerbs<Device>::squared_distances(centre, view, all, ones, side.squared_norms);
    };
    std::visit(work, side.rows->features);
    std::vector<double>* const results[] = {&side.with_centre, &side.with_own_sum, &side.with_other_sum};
    for (int k = 0; k < 3; ++k) {
      results[k]->resize(all.size());
      Device::copy(results[k]->data(), products.column(k), all.size() * sizeof(double));
    }
  }
};

/// The products of both sets' rows in T: float, double, or std::int16_t for rows rounded to integers.
template <class Device, class T, class Kernel>
class Tiles {
 public:
  Tiles(const Kernel& kernel, Pair<Device>& pair)
      : kernel_(kernel), pair_(pair), unit_(product_scale<T>(pair.centre.size(), pair.farthest)) {
    Index rows = 0;
    for (int side = 0; side < 2; ++side) {
      const Index n = pair.sides[side].n();
      const Index blocks = (n + kMostRows - 1) / kMostRows;
      block_rows_[side] = (n + blocks - 1) / blocks;  // of nearly equal size: a narrow tile is a slow one
      rows = std::max(rows, block_rows_[side]);
      terms_[side] = Vector<Device>(n);
      own_[side] = Vector<Device>::zeros(n);
      cross_[side] = Vector<Device>::zeros(n);
    }
    for (Slot& slot : slots_) slot.columns = Matrix<Device, T>(pair.centre.size(), rows);
    products_ = Matrix<Device, Product>(rows, rows);
  }

  KernelSums sums() {
    const double linear = kernel_.linear(pair_.squared_centre, pair_.farthest);
    double squares[2] = {0, 0};
    double cross_squares = 0;
    for (int side = 0; side < 2; ++side) {
      for (Index i = 0; i < pair_.sides[side].n(); i += block_rows_[side]) {
        const Slot& rows = fetch(side, i, nullptr);
        RowVerbs<Device>::own_products(rows.columns, rows.n, products_);
        squares[side] += add(linear, of(side, rows, own_[side]), of(side, rows, own_[side]), true);
        for (Index j = i + rows.n; j < pair_.sides[side].n(); j += block_rows_[side]) {
          const Slot& others = fetch(side, j, &rows);
          multiply(rows, others);
          squares[side] += add(linear, of(side, rows, own_[side]), of(side, others, own_[side]), false);
        }
        for (Index j = 0; side == 0 && j < pair_.sides[1].n(); j += block_rows_[1]) {
          const Slot& others = fetch(1, j, &rows);
          multiply(rows, others);
          cross_squares += add(linear, of(0, rows, cross_[0]), of(1, others, cross_[1]), false);
        }
      }
    }
    KernelSums result{host_of(own_[0]), host_of(own_[1]), host_of(cross_[0]), host_of(cross_[1]),
                      2 * squares[0],   2 * squares[1],   cross_squares};
    add_linear(linear, 0, result.aa, result.ab);
    add_linear(linear, 1, result.bb, result.ba);
    return result;
  }

 private:
  using Product = std::conditional_t<std::is_same_v<T, double>, double, float>;

  /// Rows a block holds: enough that the products dwarf the passes over blocks and tile, few enough for the cache.
  static constexpr Index kMostRows = 2048;

  /// A block of rows less the centre, times the unit.
  struct Slot {
    Matrix<Device, T> columns;  // (dim, >= n)
    int side = -1;
    Index first = 0;
    Index n = 0;
  };

  /// The block of this side that begins with row `first`, read where it is not at hand; `kept` stays.
  const Slot& fetch(int side, Index first, const Slot* kept) {
    for (const Slot& slot : slots_) {
      if (slot.side == side && slot.first == first) return slot;
    }
    // A side of one block keeps its slot, and is read once.
    Slot& slot = kept == nullptr ? slots_[side] : (kept == &slots_[0] ? slots_[1] : slots_[0]);
    const Side<Device>& rows = pair_.sides[side];
    slot.side = side;
    slot.first = first;
    slot.n = std::min(block_rows_[side], rows.n() - first);
    const std::vector<double> scale(static_cast<std::size_t>(slot.n), unit_);
    std::vector<double> terms;
    const auto work = [&](const auto& view) {
      RowVerbs<Device>::approximate(view.rows(first, slot.n), pair_.centre, scale, slot.columns, terms, errors_);
    };
    std::visit(work, rows.rows->features);
    for (std::size_t i = 0; i < terms.size(); ++i) {
      // A distance of rounded rows wants their own norms: so it is never below zero, and exact for equal rows.
      const std::size_t row = static_cast<std::size_t>(first) + i;
      terms[i] = kernel_.term(rows.with_centre[row], Kernel::kTermsOfNorms ? terms[i] / (unit_ * unit_) : 0.0);
    }
    Device::copy(terms_[side].data() + first, terms.data(), terms.size() * sizeof(double));
    return slot;
  }

  void multiply(const Slot& rows, const Slot& columns) {
    RowVerbs<Device>::cross_products(rows.columns, rows.n, columns.columns, columns.n, products_);
  }

  TileSide<Device> of(int side, const Slot& slot, Vector<Device>& sums) const {
    return {terms_[side], sums, {slot.first, slot.first + slot.n}};
  }

  double add(double linear, const TileSide<Device>& rows, const TileSide<Device>& columns, bool below_diagonal) {
    return RowVerbs<Device>::add_function_sums(kernel_.function(pair_.squared_centre), linear,
                                               kernel_.weight() / (unit_ * unit_), products_, rows, columns,
                                               below_diagonal);
  }

  /// What is linear in e, from the sums of the rows in float64.
  void add_linear(double linear, int k, std::vector<double>& own, std::vector<double>& cross) const {
    if (linear == 0) return;
    const Side<Device>& side = pair_.sides[k];
    const double n = static_cast<double>(side.n());
    const double m = static_cast<double>(pair_.sides[1 - k].n());
    const double own_terms = sum_of_terms(side);
    const double other_terms = sum_of_terms(pair_.sides[1 - k]);
    const double w = kernel_.weight();
    for (std::size_t i = 0; i < own.size(); ++i) {
      const double u = kernel_.term(side.with_centre[i], side.squared_norms[i]);
      own[i] += linear * ((n - 2) * u + own_terms + w * (side.with_own_sum[i] - side.squared_norms[i]));
      cross[i] += linear * (m * u + other_terms + w * side.with_other_sum[i]);
    }
  }

  double sum_of_terms(const Side<Device>& side) const {
    double total = 0;
    for (std::size_t i = 0; i < side.with_centre.size(); ++i) {
      total += kernel_.term(side.with_centre[i], side.squared_norms[i]);
    }
    return total;
  }

  const Kernel& kernel_;
  const Pair<Device>& pair_;
  double unit_;
  Index block_rows_[2];
  Slot slots_[2];
  std::vector<double> errors_;
  Matrix<Device, Product> products_;  // (rows, rows)
  Vector<Device> terms_[2];           // (n,) u_i, v_j
  Vector<Device> own_[2];             // (n,) sums over pairs of one set, and
  Vector<Device> cross_[2];           // (n,) over pairs of both, without what is linear
};

/// The sums in the arithmetic that is asked for, or better.
template <class Device, class Kernel>
KernelSums sums(const Kernel& kernel, const KernelRows& a, const KernelRows& b, Precision precision) {
  Pair<Device> pair(a, b);
  if (precision == Precision::kFloat64 || a.hold_doubles() || b.hold_doubles()) {
    return Tiles<Device, double, Kernel>(kernel, pair).sums();
  }
  // Integers have one unit for all rows: with 2,048 columns it leaves the longest row 10 bits a number, a typical one
  // fewer by what it is shorter. Beyond three bits less, floats are better.
  constexpr double kMostUneven = 8;
  const bool even = pair.farthest <= kMostUneven * pair.typical;
  if (RowVerbs<Device>::has_integer_products() && even && kernel.linear(pair.squared_centre, pair.farthest) != 0) {
    return Tiles<Device, std::int16_t, Kernel>(kernel, pair).sums();
  }
  return Tiles<Device, float, Kernel>(kernel, pair).sums();
}

}  // namespace kernel

}  // namespace fidfast
