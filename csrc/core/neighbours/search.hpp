// Nearest neighbour search. Products in low precision bound all squared distances; the few pairs that their bounds do
// not decide are measured from the rows in float64. So the results are those of float64.
//
// Rows x are stored as columns q = scaling (x - origin) + e, where |e| is computed. For a product g = p^T q with
// bounded error, |p|^2 + |q|^2 - 2 g differs from |p - q|^2 by at most relative (|p|^2 + |q|^2) (Higham, "Accuracy and
// Stability of Numerical Algorithms", equation 3.5), and |p - q| differs from the scaled distance by at most |e_p| +
// |e_q|. Rows beyond the reach of the arithmetic are stored as 0; the norms of both rows bound their distances.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/backend.hpp"
#include "core/matrix.hpp"
#include "core/neighbours/row_set.hpp"
#include "core/product_scale.hpp"

namespace fidfast {

/// Bounds on a squared distance; equal once it is measured in float64.
struct Interval {
  double low = 0;
  double high = 0;
};

/// Bounds the distances between two blocks of rows by one matrix product in T: float, double or std::int16_t.
template <class Device, class T>
class Screen {
 public:
  using Product = std::conditional_t<std::is_same_v<T, double>, double, float>;

  struct RowBlock {
    Matrix<Device, T> columns;          // (dim, capacity)
    std::vector<double> squared_norms;  // of the columns, (capacity,)
    std::vector<double> errors;         // |e|, (capacity,)
    std::vector<double> norms;          // |x - origin|, (capacity,)
    double smallest_norm = 0;
    double largest_norm = 0;
    double largest_error = 0;  // without the rows beyond the reach
    Range rows;
  };

  /// Which rows a limit on the distance depends on.
  enum class About { kRows, kColumns };

  /// For sets of at most n rows; `farthest` is the largest norm up to `reach`.
  Screen(Index dim, double farthest, double reach, Index n) : scaling_(product_scale<T>(dim, farthest)), reach_(reach) {
    constexpr Index kElements = Index{1} << 21;  // in a block of columns: 1,024 rows at dim 2,048
    while (column_block_ > 64 && column_block_ * dim > kElements) column_block_ /= 2;
    row_block_ = 4 * column_block_;
    a_.columns = Matrix<Device, T>(dim, std::min(row_block_, n));
    b_.columns = Matrix<Device, T>(dim, std::min(column_block_, n));
    products_ = Matrix<Device, Product>(a_.columns.cols(), b_.columns.cols());
    const double terms = static_cast<double>(dim);
    constexpr double kRounding = std::numeric_limits<Product>::epsilon() / 2;
    constexpr double kDouble = std::numeric_limits<double>::epsilon();
    // Products of integers are exact and rounded to float once.
    relative_ = (std::is_integral_v<T> ? 4.0 : 1.02 * terms + 8.0) * kRounding + (terms + 8) * kDouble;
    underflow_ = terms * static_cast<double>(std::numeric_limits<Product>::min());
    of_exact_ = (terms + 8) * kDouble;
  }

  Index row_block() const { return row_block_; }
  /// Divides row_block().
  Index column_block() const { return column_block_; }

  /// Whether a row of this norm is beyond the reach.
  bool beyond(double norm) const { return norm > reach_; }

  /// With clusters, the tiles of these rows have an origin and a scaling that suit them; load the columns afterwards.
  void load_rows(const RowSet<Device>& set, Range rows) {
    local_ = set.has_clusters();
    origin_ = local_ ? set.centre(rows) : set.origin();
    if (local_) {
      constexpr double kReach = 0x1p40;  // as in with_screen()
      constexpr double kLargest = 0x1p400;
      const std::vector<double> norms = set.norms_about(origin_, rows);
      reach_ = std::min(kReach * median_of_positive(norms), kLargest);
      double farthest = 0;
      for (const double norm : norms) farthest = norm <= reach_ ? std::max(farthest, norm) : farthest;
      scaling_ = product_scale<T>(set.dim(), farthest);
    }
    load(a_, set, rows);
  }
  void load_columns(const RowSet<Device>& set, Range rows) { load(b_, set, rows); }
  /// Multiplies the first m loaded rows with all loaded columns.
  void multiply(Index m) { RowOps<Device>::cross_products(a_.columns, m, b_.columns, length(b_.rows), products_); }

  /// The pairs in the tile (indices within the blocks) whose squared distance may be at most limit(row), where `about`
  /// specifies which of the two rows is meant; a negative limit selects nothing. With sign -1 the rows of the columns
  /// are negated.
  template <class Limit>
  const std::vector<Element>& select(About about, Range rows, Range columns, Product sign, Limit limit) {
    double most = -1;  // the largest limit of a row
    const auto limit_rows = [&](bool limited) { set_limits(a_, b_, rows, limited, limit, most, row_limit_); };
    const auto limit_columns = [&](bool limited) { set_limits(b_, a_, columns, limited, limit, most, column_limit_); };
    if (about == About::kRows) {
      limit_rows(true);
      limit_columns(false);
    } else {
      limit_columns(true);
      limit_rows(false);
    }
    selected_.clear();
    RowOps<Device>::select(products_, rows, columns, sign, row_limit_, column_limit_, selected_);
    return selected_;
  }

  /// Bounds on the squared distance of a selected pair, as float64 computes it in any order of summation.
  Interval squared_distance(const Element& pair) const {
    const auto i = static_cast<std::size_t>(pair.row);
    const auto j = static_cast<std::size_t>(pair.column);
    if (beyond(a_.norms[i]) || beyond(b_.norms[j])) return from_norms(a_.norms[i], b_.norms[j]);
    const double size = a_.squared_norms[i] + b_.squared_norms[j];
    const double square = size - 2 * pair.value;
    const double slack = relative_ * size + underflow_;
    const double error = a_.errors[i] + b_.errors[j];
    const double low = std::max(0.0, std::sqrt(std::max(0.0, square - slack)) - error) / scaling_;
    const double high = (std::sqrt(std::max(0.0, square + slack)) + error) / scaling_;
    return {low * low * (1 - of_exact_), std::max(high * high * (1 + of_exact_), smallest())};
  }

 private:
  /// Squares below this are stored as numbers up to it, see ordered_square().
  static double smallest() { return std::ldexp(1.0, kSmallestExponent); }

  /// Bounds by the triangle inequality, if at least one norm exceeds the reach.
  Interval from_norms(double one, double other) const {
    const double most = std::ldexp(1.0, kLargestExponent / 2);
    const bool known = one < most && other < most;
    one = std::min(one, most);
    other = std::min(other, most);
    const double low = std::max(0.0, std::abs(one - other) - of_exact_ * (one + other));
    const double high = (1 + of_exact_) * (one + other);
    return {low * low * (1 - of_exact_),
            known ? std::max(high * high * (1 + of_exact_), smallest()) : std::numeric_limits<double>::infinity()};
  }

  void load(RowBlock& block, const RowSet<Device>& set, Range rows) {
    block.rows = rows;
    if (local_) {
      block.norms = set.norms_about(origin_, rows);
    } else {
      block.norms.assign(set.norms().begin() + rows.first, set.norms().begin() + rows.last);
    }
    const auto [smallest, largest] = std::minmax_element(block.norms.begin(), block.norms.end());
    block.smallest_norm = *smallest;
    block.largest_norm = *largest;
    set.approximate(rows, origin_, scaling_, reach_, block.norms, block.columns, block.squared_norms, block.errors);
    block.largest_error = 0;
    for (std::size_t i = 0; i < block.errors.size(); ++i) {
      // The values before rounding, and the measured errors, have float64 rounding errors themselves.
      constexpr double kDouble = std::numeric_limits<double>::epsilon();
      block.errors[i] = (1 + 1e-6) * block.errors[i] + 4 * kDouble * std::sqrt(block.squared_norms[i]);
      block.largest_error = std::max(block.largest_error, block.errors[i]);
    }
  }

  /// Solves |p|^2 + |q|^2 - 2 g - slack <= (sqrt(limit) + |e_p| + |e_q|)^2 for g: a threshold that is the sum of a term
  /// for the row and one for the column, each lowered by the rounding to Product.
  /// `most` is the largest limit, which the limited axis sets and the other one uses.
  template <class Limit>
  void set_limits(const RowBlock& block, const RowBlock& others, Range range, bool limited, Limit limit, double& most,
                  std::vector<Product>& result) const {
    constexpr double kRounding = 4 * static_cast<double>(std::numeric_limits<Product>::epsilon());
    constexpr double kNever = std::numeric_limits<double>::infinity();
    result.resize(static_cast<std::size_t>(range.last));
    for (Index row = range.first; row < range.last; ++row) {
      const auto i = static_cast<std::size_t>(row);
      const double norm = block.squared_norms[i];
      double value = (1 - relative_ - kRounding) * norm / 2;
      const double bound = limited ? limit(block.rows.first + row) : most;
      if (limited) {
        const double reach = std::sqrt(std::max(0.0, bound)) * scaling_ + block.errors[i] + others.largest_error;
        value -= ((1 + kRounding) * reach * reach + underflow_) / 2;
        most = std::max(most, bound);
      }
      // A row beyond the reach has no product: all pairs are selected, unless the norms exclude them.
      if (beyond(block.norms[i])) value = nearest_by_norms(block.norms[i], others) <= bound ? -kNever : kNever;
      if (bound < 0) value = kNever;
      result[i] = static_cast<Product>(value);
    }
  }

  /// Lower bound on the squared distance of a row to those of a block.
  double nearest_by_norms(double norm, const RowBlock& others) const {
    const double inside = std::clamp(norm, others.smallest_norm, others.largest_norm);
    return norm == inside ? 0.0 : from_norms(norm, inside).low;
  }

  RowBlock a_;
  RowBlock b_;
  Matrix<Device, Product> products_;  // (row block, column block)
  std::vector<Product> row_limit_;
  std::vector<Product> column_limit_;
  std::vector<Element> selected_;
  Index row_block_ = 0;
  Index column_block_ = 1024;
  Vector<Device> origin_;  // of the loaded rows
  bool local_ = false;
  double scaling_;
  double reach_;
  double relative_ = 0;   // error of |p - q|^2 relative to |p|^2 + |q|^2
  double underflow_ = 0;  // and from products below the range of Product
  double of_exact_ = 0;   // relative error of a squared distance in float64
};

/// For each of n rows, the distances to the nearest of the candidates offered. Different rows may be used by different
/// threads.
class Nearest {
 public:
  struct Candidate {
    Index row = 0;
    double sign = 1;  // -1 for the negated row
    Interval distance;
  };

  /// The distances to the k-th nearest are needed for each k in `ks`. A row itself is no candidate, but it occurs
  /// times[i] times in its own set; empty if not. weights[j] is how often the candidate row j occurs; empty for once.
  Nearest(Index n, std::vector<Index> ks, std::vector<Index> times, std::vector<Index> weights)
      : ks_(std::move(ks)),
        times_(std::move(times)),
        weights_(std::move(weights)),
        of_row_(static_cast<std::size_t>(n)) {
    k_ = ks_.empty() ? 0 : *std::max_element(ks_.begin(), ks_.end());
    radii_.assign(ks_.size(), std::vector<double>(of_row_.size(), 0.0));
    for (Index i = 0; i < n; ++i) {
      if (needed(i, k_) < 1) of_row_[static_cast<std::size_t>(i)].limit = 0;
    }
  }

  Index k() const { return k_; }

  /// Upper bound on the k-th smallest squared distance: infinity for fewer than k candidates, negative if nothing can
  /// lower it any more, or if the row is to be measured against all rows.
  double limit(Index i) const {
    const Row& row = of_row_[static_cast<std::size_t>(i)];
    return row.limit == 0 || row.hard ? -1.0 : row.limit;
  }

  /// Marks a row to be measured against all rows, by finish_from().
  void set_hard(Index i) {
    Row& row = of_row_[static_cast<std::size_t>(i)];
    row.hard = row.limit > 0;
    if (row.hard) row.candidates = {};
  }
  bool hard(Index i) const { return of_row_[static_cast<std::size_t>(i)].hard; }

  /// Returns whether row i has so many candidates that decide(i) should be called. After a batch, call prune(i).
  bool offer(Index i, const Candidate& candidate) {
    Row& row = of_row_[static_cast<std::size_t>(i)];
    if (row.hard || candidate.distance.low >= row.limit) return false;
    row.candidates.push_back(candidate);
    if (static_cast<Index>(row.candidates.size()) <= most_candidates(k_)) return false;
    prune(i);
    return static_cast<Index>(row.candidates.size()) > 2 * k_ + 32;
  }

  /// Lowers the limit and drops candidates that cannot be among the k nearest.
  void prune(Index i) {
    Row& row = of_row_[static_cast<std::size_t>(i)];
    std::vector<Candidate>& candidates = row.candidates;
    std::vector<Weighted> upper;
    upper.reserve(candidates.size());
    for (const Candidate& candidate : candidates) upper.push_back({candidate.distance.high, weight(candidate.row)});
    const double limit = smallest(upper, needed(i, k_));
    if (limit == kNone) return;
    row.limit = limit;
    const auto out = [limit](const Candidate& c) { return c.distance.low >= limit && c.distance.high > limit; };
    candidates.erase(std::remove_if(candidates.begin(), candidates.end(), out), candidates.end());
  }

  /// Measures the candidates of row i that have only bounds, by exact(rows, sign, squared distances), and keeps the
  /// nearest. If more than `allowed` pairs have been measured, the row becomes hard.
  template <class Exact>
  void decide(Index i, Index allowed, Exact exact) {
    Row& row = of_row_[static_cast<std::size_t>(i)];
    prune(i);
    for (const double sign : {1.0, -1.0}) {
      std::vector<std::size_t> open;
      std::vector<Index> rows;
      for (std::size_t p = 0; p < row.candidates.size(); ++p) {
        const Candidate& candidate = row.candidates[p];
        if (candidate.sign != sign || candidate.distance.low == candidate.distance.high) continue;
        open.push_back(p);
        rows.push_back(candidate.row);
      }
      if (open.empty()) continue;
      std::vector<double> distances;
      exact(rows, sign, distances);
      for (std::size_t p = 0; p < open.size(); ++p) {
        row.candidates[open[p]].distance = {distances[p], distances[p]};
      }
      row.measured += static_cast<Index>(open.size());
    }
    const auto nearer = [](const Candidate& a, const Candidate& b) { return a.distance.high < b.distance.high; };
    std::sort(row.candidates.begin(), row.candidates.end(), nearer);
    Index left = needed(i, k_);
    std::size_t kept = 0;
    for (; kept < row.candidates.size() && left > 0; ++kept) left -= weight(row.candidates[kept].row);
    row.candidates.resize(kept);
    if (left <= 0 && kept > 0) row.limit = row.candidates.back().distance.high;
    if (row.measured > allowed) set_hard(i);
  }

  /// Stores the distances of row i, after decide(i).
  void finish(Index i) {
    std::vector<Weighted> measured;
    for (const Candidate& candidate : of_row_[static_cast<std::size_t>(i)].candidates) {
      measured.push_back({candidate.distance.high, weight(candidate.row)});
    }
    store(i, measured);
    of_row_[static_cast<std::size_t>(i)].candidates = {};
  }
  /// The same from the squared distances to all candidates, (candidates,), which are row `first` and those after it
  /// without `skipped`.
  void finish_from(Index i, const double* distances, Index count, Index skipped) {
    std::vector<Weighted> measured;
    measured.reserve(static_cast<std::size_t>(count));
    for (Index j = 0; j < count; ++j) {
      if (j != skipped) measured.push_back({distances[j], weight(j)});
    }
    store(i, measured);
  }

  /// Squared distance to the k-th nearest, k = ks[r]; infinity for fewer candidates.
  double distance(Index i, std::size_t r) const { return radii_[r][static_cast<std::size_t>(i)]; }

  /// Whether the candidates of n rows fit into a reasonable amount of memory.
  static bool fits(Index n, Index k) {
    constexpr Index kBytes = Index{1} << 30;
    return n < kBytes / (most_candidates(k) * static_cast<Index>(sizeof(Candidate)));
  }

 private:
  struct Row {
    std::vector<Candidate> candidates;
    double limit = std::numeric_limits<double>::infinity();
    Index measured = 0;
    bool hard = false;
  };
  struct Weighted {
    double value;
    Index weight;
  };
  static constexpr double kNone = std::numeric_limits<double>::infinity();

  static Index most_candidates(Index k) { return 4 * k + 64; }
  Index weight(Index row) const { return weights_.empty() ? 1 : weights_[static_cast<std::size_t>(row)]; }
  /// Number of candidates that row i needs besides the copies of itself.
  Index needed(Index i, Index k) const { return times_.empty() ? k : k + 1 - times_[static_cast<std::size_t>(i)]; }

  /// The k-th smallest value, counted by weights. Reorders the values: the first are the smallest.
  double smallest(std::vector<Weighted>& values, Index k) const {
    const auto less = [](const Weighted& a, const Weighted& b) { return a.value < b.value; };
    if (k < 1) return 0;
    const auto size = static_cast<Index>(values.size());
    if (weights_.empty() && size < k) return kNone;
    const Index first = std::min(k, size);  // weights are at least 1
    if (first == 0) return kNone;
    std::nth_element(values.begin(), values.begin() + (first - 1), values.end(), less);
    if (weights_.empty()) return values[static_cast<std::size_t>(k - 1)].value;
    std::sort(values.begin(), values.begin() + first, less);
    for (Index p = 0; p < first; ++p) {
      k -= values[static_cast<std::size_t>(p)].weight;
      if (k <= 0) return values[static_cast<std::size_t>(p)].value;
    }
    return kNone;
  }

  void store(Index i, std::vector<Weighted>& measured) {
    for (std::size_t r = 0; r < ks_.size(); ++r) {
      radii_[r][static_cast<std::size_t>(i)] = smallest(measured, needed(i, ks_[r]));
    }
  }

  std::vector<Index> ks_;
  std::vector<Index> times_;
  std::vector<Index> weights_;
  Index k_ = 0;
  std::vector<Row> of_row_;
  std::vector<std::vector<double>> radii_;  // for each k, (n,)
};

}  // namespace fidfast
