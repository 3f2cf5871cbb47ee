// Sums of a kernel over all pairs of rows of two sets, tile by tile.
//
// Both kernels are functions f of e_ij = u_i + v_j + w p_ij with p_ij = (x_i - c) . (y_j - c), for any point c. Three
// things make the sums more accurate than the products they are made of. With c amid the rows p is small, and so is its
// rounding. What a kernel is at e = 0 is a constant, which drops out of a discrepancy and is left out from the start,
// so that nothing large cancels. And what is linear in e, where most of the discrepancy is, needs no products of pairs:
// sum_j p_ij = (x_i - c) . sum_j (y_j - c), exactly in float64. Only the rest, of the order of e^2, takes p from
// products of low precision: of float32, or of rows rounded to integers where a device multiplies these faster.
// Integers of 8 bits are too coarse for that: with them the sums of e^2 are those of the scatters, and only e^3 is of
// products.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <variant>
#include <vector>

#include "core/backend.hpp"
#include "core/kernel/centred_sets.hpp"
#include "core/kernel/functions.hpp"
#include "core/matrix.hpp"
#include "core/moments/state.hpp"
#include "core/product_scale.hpp"

namespace fidfast {

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

/// The products of both sets' rows in T: float, double, or an integer for rows rounded after they are multiplied by
/// `unit`.
template <class Device, class T, class Kernel>
class Tiles {
 public:
  Tiles(const Kernel& kernel, const Pair<Device>& pair, double unit) : kernel_(kernel), pair_(pair), unit_(unit) {
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
    const Index bytes = pair.centre.size() * rows * static_cast<Index>(sizeof(T));
    slots_.reserve(static_cast<std::size_t>(std::max<Index>(2, kMostBytes / bytes)));
    rows_ = rows;
    products_ = Matrix<Device, Product>(rows, rows);
  }

  /// With the sums of squared terms, what is of second order is theirs.
  KernelSums sums(const std::optional<SquaredTerms>& exact = std::nullopt) {
    const double linear = kernel_.linear(pair_.squared_centre, pair_.farthest);
    TileSquares squares[2];
    TileSquares cross_squares;
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
    KernelSums result{host_of(own_[0]),         host_of(own_[1]),           host_of(cross_[0]),
                      host_of(cross_[1]),       2 * squares[0].of_function, 2 * squares[1].of_function,
                      cross_squares.of_function};
    if (exact) {
      const double c = exact->coefficient;
      add_evenly(c * (exact->own[0] - 2 * squares[0].of_terms), result.aa);
      add_evenly(c * (exact->own[1] - 2 * squares[1].of_terms), result.bb);
      add_evenly(c * (exact->cross - cross_squares.of_terms), result.ab);
      add_evenly(c * (exact->cross - cross_squares.of_terms), result.ba);
    }
    add_linear(linear, 0, result.aa, result.ab);
    add_linear(linear, 1, result.bb, result.ba);
    return result;
  }

 private:
  using Product = std::conditional_t<std::is_same_v<T, double>, double, float>;

  /// Rows a block holds: enough that the products dwarf the passes over blocks and tile, few enough for the cache.
  static constexpr Index kMostRows = 2048;

  /// That blocks may take which are kept, so as not to be read again.
  static constexpr Index kMostBytes = Index{1} << 27;

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
    // Where they do not all fit, the last ones come and go, and those before them are read once.
    const bool full = slots_.size() == slots_.capacity();
    if (!full) slots_.push_back({Matrix<Device, T>(pair_.centre.size(), rows_)});
    Slot& slot = kept == &slots_.back() ? slots_[slots_.size() - 2] : slots_.back();
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

  TileSquares add(double linear, const TileSide<Device>& rows, const TileSide<Device>& columns, bool below_diagonal) {
    return RowVerbs<Device>::add_function_sums(kernel_.function(pair_.squared_centre), linear,
                                               kernel_.weight() / (unit_ * unit_), products_, rows, columns,
                                               below_diagonal);
  }

  /// What the sum of all is short of, in equal parts: what a single one is short of is not known.
  static void add_evenly(double missing, std::vector<double>& sums) {
    for (double& sum : sums) sum += missing / static_cast<double>(sums.size());
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
  Index rows_;  // of the largest block
  std::vector<Slot> slots_;
  std::vector<double> errors_;
  Matrix<Device, Product> products_;  // (rows, rows)
  Vector<Device> terms_[2];           // (n,) u_i, v_j
  Vector<Device> own_[2];             // (n,) sums over pairs of one set, and
  Vector<Device> cross_[2];           // (n,) over pairs of both, without what is linear
};

/// The number by which rows are multiplied before they are rounded to bytes, or 0 where bytes are too coarse or not
/// worth it. Rounding to steps of 1 / unit gives e_ij an error of standard deviation s = w |x| / (unit sqrt(6)), which
/// only terms of third order know. Row for row that is e^2 s beside the f'(0) e whose scatter over rows makes the
/// standard error, so |e| s / f'(0) of it at most, with f'(0) of the order of the kernel at the centre squared.
template <class Device>
double unit_of_bytes(const PolynomialKernel& kernel, const Pair<Device>& pair) {
  constexpr double kMostError = 3e-4;
  const Index dim = pair.centre.size();
  const bool many = std::min(pair.sides[0].n(), pair.sides[1].n()) >= 2 * dim;  // the scatters cost as n dim
  const bool fits = dim < std::numeric_limits<std::int32_t>::max() / (127 * 127);
  if (!RowVerbs<Device>::has_integer_products() || !many || !fits || pair.typical == 0) return 0;
  double largest = 0;
  for (const Side<Device>& side : pair.sides) {
    const auto measure = [&](const auto& view) { return RowVerbs<Device>::largest_deviation(view, pair.centre); };
    largest = std::max(largest, std::visit(measure, side.rows->features));
  }
  const double unit = std::numeric_limits<std::int8_t>::max() / largest;
  const double at_centre = kernel.weight() * pair.squared_centre + kernel.coef0;
  const double term = kernel.weight() * pair.typical * pair.typical;
  const double rounding = kernel.weight() * pair.typical / (unit * std::sqrt(6.0));
  return term * rounding <= kMostError * at_centre * at_centre ? unit : 0;
}

/// The sums in the arithmetic that is asked for, or better.
template <class Device, class Kernel>
KernelSums sums(const Kernel& kernel, const KernelRows& a, const KernelRows& b, Precision precision) {
  const Pair<Device> pair(a, b);
  const Index dim = pair.centre.size();
  if (precision == Precision::kFloat64 || a.hold_doubles() || b.hold_doubles()) {
    return Tiles<Device, double, Kernel>(kernel, pair, product_scale<double>(dim, pair.farthest)).sums();
  }
  if constexpr (std::is_same_v<Kernel, PolynomialKernel>) {
    const double unit = unit_of_bytes(kernel, pair);
    const std::optional<SquaredTerms> exact = unit > 0 ? squared_terms(kernel, pair) : std::nullopt;
    if (exact) return Tiles<Device, std::int8_t, Kernel>(kernel, pair, unit).sums(exact);
  }
  // Integers have one unit for all rows: with 2,048 columns it leaves the longest row 10 bits a number, a typical one
  // fewer by what it is shorter. Beyond three bits less, floats are better.
  constexpr double kMostUneven = 8;
  const bool even = pair.farthest <= kMostUneven * pair.typical;
  if (RowVerbs<Device>::has_integer_products() && even && kernel.linear(pair.squared_centre, pair.farthest) != 0) {
    using Integer = std::int16_t;
    return Tiles<Device, Integer, Kernel>(kernel, pair, product_scale<Integer>(dim, pair.farthest)).sums();
  }
  return Tiles<Device, float, Kernel>(kernel, pair, product_scale<float>(dim, pair.farthest)).sums();
}

}  // namespace kernel

}  // namespace fidfast
