// Sums of a kernel over all pairs of rows of two sets, tile by tile.
//
// Both kernels are functions f of e_ij = u_i + v_j + w p_ij with p_ij = (x_i - c) . (y_j - c), for any centre c. The
// sums are more accurate than the products p_ij for three reasons:
//   - With c between the means p is small, and so is its rounding error.
//   - f(0) is a constant that cancels in the MMD. It is left out from the start, so no large numbers cancel.
//   - The linear part in e, which makes up most of the MMD, needs no products of pairs:
//     sum_j p_ij = (x_i - c) . sum_j (y_j - c), computed in float64.
// Only the terms of order e^2 and higher use products in low precision: float32, or 16-bit integers where they are
// faster. 8-bit integers are too coarse for e^2: with them the sums of e^2 are computed from the scatters, and only the
// terms of order e^3 use the products.
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
#include "core/kernel/distant_rows.hpp"
#include "core/kernel/functions.hpp"
#include "core/matrix.hpp"
#include "core/moments/state.hpp"
#include "core/product_scale.hpp"

namespace fidfast::kernel {

/// Tiles of products of rows in T: float, double or an integer type. Rows are multiplied by `scaling` and rounded to T.
template <class Device, class T, class Terms>
class Tiles {
 public:
  Tiles(const Terms& kernel, const CentredSets<Device>& centred, double scaling)
      : kernel_(kernel), centred_(centred), scaling_(scaling) {
    const Index row_bytes = centred.centre.size() * static_cast<Index>(sizeof(T));
    const Index most = std::clamp(kMostBytes / (2 * row_bytes), kFewestRows, kMostRows);
    Index rows = 0;
    for (int set = 0; set < 2; ++set) {
      const Index n = centred.sets[set].n();
      const Index blocks = (n + most - 1) / most;
      block_rows_[set] = (n + blocks - 1) / blocks;  // nearly equal sizes: narrow tiles are slow
      rows = std::max(rows, block_rows_[set]);
      terms_[set] = Vector<Device>(n);
      own_[set] = Vector<Device>::zeros(n);
      cross_[set] = Vector<Device>::zeros(n);
    }
    slots_.reserve(static_cast<std::size_t>(std::max<Index>(2, kMostBytes / (row_bytes * rows))));
    rows_ = rows;
    products_ = Matrix<Device, Product>(rows, rows);
  }

  /// If `exact` is given, the terms of second order are taken from it. The linear part is separate if the sets have
  /// products with sums.
  KernelSums sums(const std::optional<SquaredTerms>& exact = std::nullopt) {
    const double linear = centred_.sets[0].with_own_sum.empty() ? 0.0 : kernel_.linear(centred_.farthest);
    TileSquares squares[2];
    TileSquares cross_squares;
    for (int set = 0; set < 2; ++set) {
      for (Index i = 0; i < centred_.sets[set].n(); i += block_rows_[set]) {
        const Slot& rows = fetch(set, i, nullptr);
        RowOps<Device>::own_products(rows.columns, rows.n, products_);
        squares[set] += add(linear, of(set, rows, own_[set]), of(set, rows, own_[set]), true);
        for (Index j = i + rows.n; j < centred_.sets[set].n(); j += block_rows_[set]) {
          const Slot& others = fetch(set, j, &rows);
          multiply(rows, others);
          squares[set] += add(linear, of(set, rows, own_[set]), of(set, others, own_[set]), false);
        }
        for (Index j = 0; set == 0 && j < centred_.sets[1].n(); j += block_rows_[1]) {
          const Slot& others = fetch(1, j, &rows);
          multiply(rows, others);
          cross_squares += add(linear, of(0, rows, cross_[0]), of(1, others, cross_[1]), false);
        }
      }
    }
    KernelSums result{
        host_copy(own_[0]),         host_copy(own_[1]),         host_copy(cross_[0]),      host_copy(cross_[1]),
        2 * squares[0].of_function, 2 * squares[1].of_function, cross_squares.of_function, kernel_.exponent};
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

  /// Rows in a block: enough for the products to dominate the passes over blocks and tile, few enough for the cache.
  static constexpr Index kMostRows = 2048;
  static constexpr Index kFewestRows = 64;

  /// Memory for blocks: two, or more that are kept instead of being read again.
  static constexpr Index kMostBytes = Index{1} << 26;

  /// A block of rows less the centre, times the scaling.
  struct Slot {
    Matrix<Device, T> columns;  // (dim, >= n)
    int set = -1;
    Index first = 0;
    Index n = 0;
  };

  /// The block of this set that begins with row `first`; reads it if necessary, and does not evict `kept`.
  const Slot& fetch(int set, Index first, const Slot* kept) {
    for (const Slot& slot : slots_) {
      if (slot.set == set && slot.first == first) return slot;
    }
    // If not all blocks fit, only the last two slots are reused; the blocks in the others are read once.
    const bool full = slots_.size() == slots_.capacity();
    if (!full) slots_.push_back({Matrix<Device, T>(centred_.centre.size(), rows_)});
    Slot& slot = kept == &slots_.back() ? slots_[slots_.size() - 2] : slots_.back();
    const CentredSet<Device>& rows = centred_.sets[set];
    slot.set = set;
    slot.first = first;
    slot.n = std::min(block_rows_[set], rows.n() - first);
    const std::vector<Index> numbers = numbers_in({first, first + slot.n});
    std::vector<double> scale;  // 0 for rows beyond the reach
    for (const Index row : numbers) {
      const double norm = std::sqrt(rows.squared_norms[static_cast<std::size_t>(row)]);
      scale.push_back(norm <= kernel_.reach() ? scaling_ : 0.0);
    }
    std::vector<double> terms;
    const auto work = [&](const auto& view) {
      RowOps<Device>::approximate(view, numbers, centred_.unit(), centred_.centre, scale, slot.columns, terms, errors_);
    };
    std::visit(work, rows.rows->features);
    for (std::size_t i = 0; i < terms.size(); ++i) {
      // Norms of the rounded rows make their distance nonnegative, and exactly 0 for equal rows.
      const std::size_t row = static_cast<std::size_t>(first) + i;
      const double squared_norm = scale[i] > 0 ? terms[i] / (scaling_ * scaling_) : rows.squared_norms[row];
      terms[i] = kernel_.term(rows.with_centre[row], squared_norm);
    }
    Device::copy(terms_[set].data() + first, terms.data(), terms.size() * sizeof(double));
    return slot;
  }

  void multiply(const Slot& rows, const Slot& columns) {
    RowOps<Device>::cross_products(rows.columns, rows.n, columns.columns, columns.n, products_);
  }

  TileAxis<Device> of(int set, const Slot& slot, Vector<Device>& sums) const {
    return {terms_[set], sums, {slot.first, slot.first + slot.n}};
  }

  TileSquares add(double linear, const TileAxis<Device>& rows, const TileAxis<Device>& columns, bool below_diagonal) {
    return RowOps<Device>::add_function_sums(kernel_.function, linear, kernel_.weight / (scaling_ * scaling_),
                                             products_, rows, columns, below_diagonal);
  }

  /// Distributes the missing part of the total evenly: the parts of single rows are not available.
  static void add_evenly(double missing, std::vector<double>& sums) {
    for (double& sum : sums) sum += missing / static_cast<double>(sums.size());
  }

  /// Adds the part that is linear in e, from sums of rows in float64.
  void add_linear(double linear, int k, std::vector<double>& own, std::vector<double>& cross) const {
    if (linear == 0) return;
    const CentredSet<Device>& set = centred_.sets[k];
    const double n = static_cast<double>(set.n());
    const double m = static_cast<double>(centred_.sets[1 - k].n());
    const double own_terms = sum_of_terms(set);
    const double other_terms = sum_of_terms(centred_.sets[1 - k]);
    const double w = kernel_.weight;
    for (std::size_t i = 0; i < own.size(); ++i) {
      const double u = kernel_.term(set.with_centre[i], set.squared_norms[i]);
      own[i] += linear * ((n - 2) * u + own_terms + w * (set.with_own_sum[i] - set.squared_norms[i]));
      cross[i] += linear * (m * u + other_terms + w * set.with_other_sum[i]);
    }
  }

  double sum_of_terms(const CentredSet<Device>& set) const {
    double total = 0;
    for (std::size_t i = 0; i < set.with_centre.size(); ++i) {
      total += kernel_.term(set.with_centre[i], set.squared_norms[i]);
    }
    return total;
  }

  const Terms& kernel_;
  const CentredSets<Device>& centred_;
  double scaling_;
  Index block_rows_[2];
  Index rows_;  // of the largest block
  std::vector<Slot> slots_;
  std::vector<double> errors_;
  Matrix<Device, Product> products_;  // (rows, rows)
  Vector<Device> terms_[2];           // (n,) u_i, v_j
  Vector<Device> own_[2];             // (n,) sums over pairs of one set, without the linear part
  Vector<Device> cross_[2];           // (n,) sums over pairs of both sets, likewise
};

/// Scaling of rows before rounding to 8-bit integers, or 0 if these are too coarse or not worthwhile. Rounding gives
/// e_ij an error with standard deviation s = w |x| / (scaling sqrt(6)), which enters the terms of third order only. For
/// each row that is e^2 s, compared with the linear term f'(0) e whose spread over rows makes up the standard error: at
/// most |e| s / f'(0) of it, where f'(0) is of the order of the squared kernel at the centre.
template <class Device>
double int8_scaling(const PolynomialTerms& kernel, const CentredSets<Device>& centred) {
  constexpr double kMostError = 3e-4;
  const Index dim = centred.centre.size();
  const bool many = std::min(centred.sets[0].n(), centred.sets[1].n()) >= 2 * dim;  // the scatters cost as n dim
  const bool fits = dim < std::numeric_limits<std::int32_t>::max() / (127 * 127);
  if (!RowOps<Device>::has_integer_products() || !many || !fits || centred.typical == 0) return 0;
  double largest = 0;
  for (const CentredSet<Device>& set : centred.sets) {
    const auto measure = [&](const auto& view) { return RowOps<Device>::largest_deviation(view, centred.centre); };
    largest = std::max(largest, std::visit(measure, set.rows->features));
  }
  const double scaling = std::numeric_limits<std::int8_t>::max() / largest;
  const double term = kernel.weight * centred.typical * centred.typical;
  const double rounding = kernel.weight * centred.typical / (scaling * std::sqrt(6.0));
  return term * rounding <= kMostError * kernel.at_centre * kernel.at_centre ? scaling : 0;
}

/// The sums in the given precision or better, if the rows are neither too large nor too different for it.
template <class Device, class Terms>
KernelSums tile_sums(const Terms& terms, const CentredSets<Device>& centred, bool in_float64) {
  const Index dim = centred.centre.size();
  if (in_float64) {
    const double scaling = product_scale<double>(dim, std::min(centred.farthest, terms.reach()));
    return Tiles<Device, double, Terms>(terms, centred, scaling).sums();
  }
  if constexpr (std::is_same_v<Terms, PolynomialTerms>) {
    const double scaling = int8_scaling(terms, centred);
    const std::optional<SquaredTerms> exact = scaling > 0 ? squared_terms(terms, centred) : std::nullopt;
    if (exact) return Tiles<Device, std::int8_t, Terms>(terms, centred, scaling).sums(exact);
  }
  // Integers have one scaling for all rows: with 2,048 columns the longest row has 10 bits a number, and a row of half
  // the length one bit less. If typical rows lose more than three bits, float32 is more accurate.
  constexpr double kMostUneven = 8;
  const bool even = centred.farthest <= kMostUneven * centred.typical;
  if (RowOps<Device>::has_integer_products() && even && terms.linear(centred.farthest) != 0) {
    using Integer = std::int16_t;
    return Tiles<Device, Integer, Terms>(terms, centred, product_scale<Integer>(dim, centred.farthest)).sums();
  }
  return Tiles<Device, float, Terms>(terms, centred, product_scale<float>(dim, centred.farthest)).sums();
}

/// The sums in the given precision or better.
template <class Device, class Kernel>
KernelSums sums(const Kernel& kernel, const KernelRows& a, const KernelRows& b, Precision precision) {
  CentredSets<Device> centred(a, b, kernel);
  const RowExtent extent = centred.extent();
  const auto terms = kernel.terms(extent);
  // Else the products of each pair are in float64, and no sum of rows is used, in which small rows lose their digits.
  const bool even = kernel.suits(extent, centred.median_norm());
  if (even) centred.add_products_with_sums();
  const bool wide = a.hold_doubles() || b.hold_doubles();  // always, if the exponent is not 0
  // Rounding of low precision averages out over rows, so it is largest for few of them, and these take no time.
  constexpr double kFew = 0x1p24;  // multiplications, a few milliseconds
  const double n = static_cast<double>(a.n() + b.n());
  const bool few = n * n * static_cast<double>(a.dim()) < kFew;
  KernelSums result = tile_sums(terms, centred, !even || wide || few || precision == Precision::kFloat64);
  if constexpr (std::is_same_v<Kernel, GaussianKernel>) DistantPairs<Device>(terms, centred).add(result);
  return result;
}

}  // namespace fidfast::kernel
