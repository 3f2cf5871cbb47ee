// Which rows are near which: products in low precision find the few pairs that may matter, and where their rounding
// bound leaves a doubt, the rows themselves decide in float64. So the answers are those of float64 throughout.
//
// Rows x are held as columns q = scale (x - origin) + e with |e| known, and a product g = p^T q with a bound on its
// error. Then |p - q|^2 = |p|^2 + |q|^2 - 2 g lies within relative (|p|^2 + |q|^2) of the truth (Higham, "Accuracy and
// Stability of Numerical Algorithms", equation 3.5), and the distance of the rows within |e_p| + |e_q| of |p - q|.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/matrix.hpp"
#include "core/product_scale.hpp"

namespace fidfast {

inline Index length(Range range) { return range.last - range.first; }

/// Bounds on a squared distance; equal where it is known in float64.
struct Interval {
  double low = 0;
  double high = 0;
};

/// Rows of any type that somebody else owns, (n, dim), and how far each is from a common origin.
template <class Device>
class RowSet {
 public:
  /// `name` is the argument's, for errors.
  RowSet(AnyFeatures features, const Vector<Device>& origin, const char* name)
      : features_(features), origin_(origin), scale_(static_cast<std::size_t>(size()), 1.0) {
    std::vector<Index> all(scale_.size());
    std::iota(all.begin(), all.end(), Index{0});
    squared_distances(origin, all, norms_);
    // The squared distance of two rows is at most 4 times the larger of these.
    constexpr double kLargest = std::numeric_limits<double>::max() / 16;
    if (!std::all_of(norms_.begin(), norms_.end(), [=](double square) { return square < kLargest; })) reject(name);
    for (double& norm : norms_) norm = std::sqrt(norm);
  }

  Index size() const {
    return std::visit([](const auto& view) { return view.n; }, features_);
  }
  Index dim() const {
    return std::visit([](const auto& view) { return view.dim; }, features_);
  }
  /// |x_i - origin|, (n,).
  const std::vector<double>& norms() const { return norms_; }
  double farthest() const { return *std::max_element(norms_.begin(), norms_.end()); }

  /// From now on every row has length 1, or 0 where it was 0. For an origin of zeros.
  void normalize() {
    for (std::size_t i = 0; i < norms_.size(); ++i) {
      scale_[i] = norms_[i] > 0 ? 1.0 / norms_[i] : 0.0;
      norms_[i] = norms_[i] > 0 ? 1.0 : 0.0;
    }
  }

  /// Row i in float64, (dim,).
  Vector<Device> row(Index i) const {
    Vector<Device> result(dim());
    std::visit([&](const auto& view) { RowOps<Device>::append(view.rows(i, 1), result, 0); }, features_);
    const double scale = scale_[static_cast<std::size_t>(i)];
    if (scale != 1.0) MatrixOps<Device>::scale(result, scale);
    return result;
  }

  /// |x - row|^2 for the rows named, in float64; x (dim,).
  void squared_distances(const Vector<Device>& x, const std::vector<Index>& rows,
                         std::vector<double>& distances) const {
    std::vector<double> scale(rows.size());
    for (std::size_t p = 0; p < rows.size(); ++p) scale[p] = scale_[static_cast<std::size_t>(rows[p])];
    std::visit([&](const auto& view) { RowOps<Device>::squared_distances(x, view, rows, scale, distances); },
               features_);
  }

  /// The rows in the range, less the origin and times `unit`, as RowOps::approximate gives them.
  template <class T>
  void approximate(Range range, double unit, Matrix<Device, T>& columns, std::vector<double>& squared_norms,
                   std::vector<double>& errors) const {
    std::vector<double> scale(scale_.begin() + range.first, scale_.begin() + range.last);
    for (double& factor : scale) factor *= unit;
    const auto work = [&](const auto& view) {
      RowOps<Device>::approximate(view.rows(range.first, length(range)), origin_, scale, columns, squared_norms,
                                  errors);
    };
    std::visit(work, features_);
  }

 private:
  [[noreturn]] void reject(const char* name) const {
    const auto find = [](const auto& view) { return RowOps<Device>::first_nonfinite_row(view); };
    const Index bad = std::visit(find, features_);
    if (bad >= 0) {
      throw InvalidInput(std::string(name) + ": features hold NaN or infinity; the first such row is " +
                         std::to_string(bad));
    }
    throw InvalidInput(std::string(name) + ": the squares of the features leave the range of float64");
  }

  AnyFeatures features_;
  const Vector<Device>& origin_;
  std::vector<double> scale_;
  std::vector<double> norms_;
};

/// Bounds on the distances of one block of rows to another, by one product of matrices of T: float, double, or
/// std::int16_t where the device multiplies integers exactly.
template <class Device, class T>
class Screen {
 public:
  using Product = std::conditional_t<std::is_same_v<T, double>, double, float>;

  /// A block of rows.
  struct RowBlock {
    Matrix<Device, T> columns;          // (dim, capacity)
    std::vector<double> squared_norms;  // of the columns, (capacity,)
    std::vector<double> errors;         // |e|, (capacity,)
    double largest_error = 0;
    Range rows;
  };

  /// Whose rows a limit of the distance belongs to.
  enum class About { kRows, kColumns };

  /// For rows of this dim that are at most `farthest` from the origin, in sets of at most n rows.
  Screen(Index dim, double farthest, Index n) : unit_(product_scale<T>(dim, farthest)) {
    constexpr Index kElements = Index{1} << 21;  // of a block of columns: 1,024 rows at dim 2,048
    while (column_block_ > 64 && column_block_ * dim > kElements) column_block_ /= 2;
    row_block_ = 4 * column_block_;
    a_.columns = Matrix<Device, T>(dim, std::min(row_block_, n));
    b_.columns = Matrix<Device, T>(dim, std::min(column_block_, n));
    products_ = Matrix<Device, Product>(a_.columns.cols(), b_.columns.cols());
    const double terms = static_cast<double>(dim);
    constexpr double kRounding = std::numeric_limits<Product>::epsilon() / 2;
    constexpr double kDouble = std::numeric_limits<double>::epsilon();
    // Integers are multiplied exactly, and then rounded to float once.
    relative_ = (std::is_integral_v<T> ? 4.0 : 1.02 * terms + 8.0) * kRounding + (terms + 8) * kDouble;
    underflow_ = terms * static_cast<double>(std::numeric_limits<Product>::min());
    of_exact_ = (terms + 8) * kDouble;
  }

  Index row_block() const { return row_block_; }
  /// Divides row_block().
  Index column_block() const { return column_block_; }

  void load_rows(const RowSet<Device>& set, Range rows) { load(a_, set, rows); }
  void load_columns(const RowSet<Device>& set, Range rows) { load(b_, set, rows); }
  /// Of the first m rows that were loaded, with all columns.
  void multiply(Index m) { RowOps<Device>::cross_products(a_.columns, m, b_.columns, length(b_.rows), products_); }

  /// The pairs in the tile, counted from the blocks' first rows, whose squared distance may be at most
  /// limit(row of the side that is named), a negative limit for none; sign -1: with the columns' rows mirrored at the
  /// origin.
  template <class Limit>
  const std::vector<Element>& select(About about, Range rows, Range columns, Product sign, Limit limit) {
    set_limits(a_, rows, about == About::kRows, b_.largest_error, limit, row_limit_);
    set_limits(b_, columns, about == About::kColumns, a_.largest_error, limit, column_limit_);
    selected_.clear();
    RowOps<Device>::select(products_, rows, columns, sign, row_limit_, column_limit_, selected_);
    return selected_;
  }

  /// The squared distance of a selected pair. What float64 makes of it lies within, in whatever order it sums.
  Interval squared_distance(const Element& pair) const {
    const auto i = static_cast<std::size_t>(pair.row);
    const auto j = static_cast<std::size_t>(pair.column);
    const double size = a_.squared_norms[i] + b_.squared_norms[j];
    const double square = size - 2 * pair.value;
    const double slack = relative_ * size + underflow_;
    const double error = a_.errors[i] + b_.errors[j];
    const double low = std::max(0.0, std::sqrt(std::max(0.0, square - slack)) - error) / unit_;
    const double high = (std::sqrt(std::max(0.0, square + slack)) + error) / unit_;
    return {low * low * (1 - of_exact_), high * high * (1 + of_exact_)};
  }

 private:
  void load(RowBlock& block, const RowSet<Device>& set, Range rows) {
    block.rows = rows;
    set.approximate(rows, unit_, block.columns, block.squared_norms, block.errors);
    block.largest_error = 0;
    for (std::size_t i = 0; i < block.errors.size(); ++i) {
      // The float64 numbers that were rounded, and the measure of what that took, are rounded too.
      constexpr double kDouble = std::numeric_limits<double>::epsilon();
      block.errors[i] = (1 + 1e-6) * block.errors[i] + 4 * kDouble * std::sqrt(block.squared_norms[i]);
      block.largest_error = std::max(block.largest_error, block.errors[i]);
    }
  }

  /// |p|^2 + |q|^2 - 2 g - slack <= (sqrt(limit) + |e_p| + |e_q|)^2, solved for g as a sum of what a row and a column
  /// say, each lowered by what rounding to Product may add.
  template <class Limit>
  void set_limits(const RowBlock& block, Range range, bool limited, double error_of_others, Limit limit,
                  std::vector<Product>& result) const {
    constexpr double kRounding = 4 * static_cast<double>(std::numeric_limits<Product>::epsilon());
    constexpr double kNever = std::numeric_limits<double>::infinity();
    result.resize(static_cast<std::size_t>(range.last));
    for (Index row = range.first; row < range.last; ++row) {
      const auto i = static_cast<std::size_t>(row);
      const double norm = block.squared_norms[i];
      double value = (1 - relative_ - kRounding) * norm / 2;
      if (limited) {
        const double bound = limit(block.rows.first + row);
        const double reach = std::sqrt(std::max(0.0, bound)) * unit_ + block.errors[i] + error_of_others;
        value -= ((1 + kRounding) * reach * reach + underflow_) / 2;
        if (bound < 0) value = kNever;
      }
      result[i] = static_cast<Product>(value);
    }
  }

  RowBlock a_;
  RowBlock b_;
  Matrix<Device, Product> products_;  // (row block, column block)
  std::vector<Product> row_limit_;
  std::vector<Product> column_limit_;
  std::vector<Element> selected_;
  Index row_block_ = 0;
  Index column_block_ = 1024;
  double unit_;
  double relative_ = 0;   // error of |p - q|^2 over |p|^2 + |q|^2
  double underflow_ = 0;  // and what products below the range of Product add
  double of_exact_ = 0;   // relative error of a squared distance in float64
};

/// How many pairs were decided in float64. Where the bounds leave too many in doubt, a finer arithmetic is quicker.
struct Effort {
  Index screened = 0;
  Index exact = 0;
  Index allowed_per_row = 64;

  /// Deciding a pair takes as long as screening some hundred.
  bool too_much(Index rows) const { return exact > allowed_per_row * rows + screened / 128; }
};

/// For each of n rows the k nearest among those that it was shown.
class Nearest {
 public:
  struct Candidate {
    Index row = 0;
    double sign = 1;  // -1: the row mirrored at the origin
    Interval distance;
  };

  Nearest(Index n, Index k) : k_(static_cast<std::size_t>(k)), of_row_(static_cast<std::size_t>(n)) {}

  Index k() const { return static_cast<Index>(k_); }

  /// An upper bound on the k-th smallest squared distance; infinity before k rows were shown, negative where nothing
  /// can lower it any more.
  double limit(Index i) {
    Row& row = of_row_[static_cast<std::size_t>(i)];
    if (row.grown) prune(row);
    return row.limit == 0 ? -1.0 : row.limit;
  }

  /// Returns whether so many are near that they had better be decided.
  bool offer(Index i, const Candidate& candidate) {
    Row& row = of_row_[static_cast<std::size_t>(i)];
    if (candidate.distance.low >= row.limit) return false;
    row.candidates.push_back(candidate);
    row.grown = true;
    if (row.candidates.size() <= 4 * k_ + 64) return false;
    prune(row);
    return row.candidates.size() > 2 * k_ + 32;
  }

  /// Measures row i's candidates that are known by bounds only, and keeps the k nearest, in order. Returns how many
  /// were measured. exact(rows, sign, squared distances).
  template <class Exact>
  Index decide(Index i, Exact exact) {
    Row& row = of_row_[static_cast<std::size_t>(i)];
    prune(row);
    Index count = 0;
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
      count += static_cast<Index>(open.size());
    }
    const auto nearer = [](const Candidate& a, const Candidate& b) { return a.distance.high < b.distance.high; };
    std::sort(row.candidates.begin(), row.candidates.end(), nearer);
    if (row.candidates.size() > k_) row.candidates.resize(k_);
    row.candidates.shrink_to_fit();
    row.grown = true;
    return count;
  }

  /// The squared distance to the k-th nearest, after decide(i); infinity where fewer were shown.
  double distance(Index i, Index k) const {
    const std::vector<Candidate>& candidates = of_row_[static_cast<std::size_t>(i)].candidates;
    if (static_cast<Index>(candidates.size()) < k) return std::numeric_limits<double>::infinity();
    return candidates[static_cast<std::size_t>(k - 1)].distance.high;
  }

 private:
  struct Row {
    std::vector<Candidate> candidates;
    double limit = std::numeric_limits<double>::infinity();
    bool grown = false;
  };

  /// Lowers the limit, and drops the candidates that cannot be among the k nearest.
  void prune(Row& row) {
    row.grown = false;
    if (row.candidates.size() < k_) return;
    upper_.clear();
    for (const Candidate& candidate : row.candidates) upper_.push_back(candidate.distance.high);
    std::nth_element(upper_.begin(), upper_.begin() + static_cast<std::ptrdiff_t>(k_ - 1), upper_.end());
    const double limit = upper_[k_ - 1];
    row.limit = limit;
    const auto out = [limit](const Candidate& c) { return c.distance.low >= limit && c.distance.high > limit; };
    row.candidates.erase(std::remove_if(row.candidates.begin(), row.candidates.end(), out), row.candidates.end());
  }

  std::size_t k_;
  std::vector<Row> of_row_;
  std::vector<double> upper_;
};

}  // namespace fidfast
