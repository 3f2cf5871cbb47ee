// Nearest neighbour search. Products in low precision bound all squared distances; the few pairs that their bounds do
// not decide are measured from the rows in float64. So the results are those of float64.
//
// Rows x are stored as columns q = scaling (x - origin) + e, where |e| is computed. For a product g = p^T q with
// bounded error, |p|^2 + |q|^2 - 2 g differs from |p - q|^2 by at most relative (|p|^2 + |q|^2) (Higham, "Accuracy and
// Stability of Numerical Algorithms", equation 3.5), and |p - q| differs from the scaled distance by at most |e_p| +
// |e_q|.
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

/// Bounds on a squared distance; equal once it is measured in float64.
struct Interval {
  double low = 0;
  double high = 0;
};

/// Rows (n, dim) that the caller owns, and their distances from a common origin.
template <class Device>
class RowSet {
 public:
  /// `name` is the name of the argument for error messages.
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

  /// Scales every nonzero row to length 1. The origin must be 0.
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

  /// |x - row|^2 in float64 for the given rows; x (dim,).
  void squared_distances(const Vector<Device>& x, const std::vector<Index>& rows,
                         std::vector<double>& distances) const {
    std::vector<double> scale(rows.size());
    for (std::size_t p = 0; p < rows.size(); ++p) scale[p] = scale_[static_cast<std::size_t>(rows[p])];
    std::visit([&](const auto& view) { RowOps<Device>::squared_distances(x, view, rows, scale, distances); },
               features_);
  }

  /// RowOps::approximate for the rows in the range, multiplied by `scaling`.
  template <class T>
  void approximate(Range range, double scaling, Matrix<Device, T>& columns, std::vector<double>& squared_norms,
                   std::vector<double>& errors) const {
    std::vector<double> scale(scale_.begin() + range.first, scale_.begin() + range.last);
    for (double& factor : scale) factor *= scaling;
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

/// Bounds the distances between two blocks of rows by one matrix product in T: float, double or std::int16_t.
template <class Device, class T>
class Screen {
 public:
  using Product = std::conditional_t<std::is_same_v<T, double>, double, float>;

  struct RowBlock {
    Matrix<Device, T> columns;          // (dim, capacity)
    std::vector<double> squared_norms;  // of the columns, (capacity,)
    std::vector<double> errors;         // |e|, (capacity,)
    double largest_error = 0;
    Range rows;
  };

  /// Which rows a limit on the distance depends on.
  enum class About { kRows, kColumns };

  /// For sets of at most n rows with norms up to `farthest`.
  Screen(Index dim, double farthest, Index n) : scaling_(product_scale<T>(dim, farthest)) {
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

  void load_rows(const RowSet<Device>& set, Range rows) { load(a_, set, rows); }
  void load_columns(const RowSet<Device>& set, Range rows) { load(b_, set, rows); }
  /// Multiplies the first m loaded rows with all loaded columns.
  void multiply(Index m) { RowOps<Device>::cross_products(a_.columns, m, b_.columns, length(b_.rows), products_); }

  /// The pairs in the tile (indices within the blocks) whose squared distance may be at most limit(row), where `about`
  /// specifies which of the two rows is meant; a negative limit selects nothing. With sign -1 the rows of the columns
  /// are negated.
  template <class Limit>
  const std::vector<Element>& select(About about, Range rows, Range columns, Product sign, Limit limit) {
    set_limits(a_, rows, about == About::kRows, b_.largest_error, limit, row_limit_);
    set_limits(b_, columns, about == About::kColumns, a_.largest_error, limit, column_limit_);
    selected_.clear();
    RowOps<Device>::select(products_, rows, columns, sign, row_limit_, column_limit_, selected_);
    return selected_;
  }

  /// Bounds on the squared distance of a selected pair, as float64 computes it in any order of summation.
  Interval squared_distance(const Element& pair) const {
    const auto i = static_cast<std::size_t>(pair.row);
    const auto j = static_cast<std::size_t>(pair.column);
    const double size = a_.squared_norms[i] + b_.squared_norms[j];
    const double square = size - 2 * pair.value;
    const double slack = relative_ * size + underflow_;
    const double error = a_.errors[i] + b_.errors[j];
    const double low = std::max(0.0, std::sqrt(std::max(0.0, square - slack)) - error) / scaling_;
    const double high = (std::sqrt(std::max(0.0, square + slack)) + error) / scaling_;
    return {low * low * (1 - of_exact_), high * high * (1 + of_exact_)};
  }

 private:
  void load(RowBlock& block, const RowSet<Device>& set, Range rows) {
    block.rows = rows;
    set.approximate(rows, scaling_, block.columns, block.squared_norms, block.errors);
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
        const double reach = std::sqrt(std::max(0.0, bound)) * scaling_ + block.errors[i] + error_of_others;
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
  double scaling_;
  double relative_ = 0;   // error of |p - q|^2 relative to |p|^2 + |q|^2
  double underflow_ = 0;  // and from products below the range of Product
  double of_exact_ = 0;   // relative error of a squared distance in float64
};

/// Numbers of pairs that were screened, and measured in float64. If too many are, a more precise screen is faster.
struct Effort {
  Index screened = 0;
  Index exact = 0;
  Index allowed_per_row = 64;

  /// Measuring a pair takes as long as screening about a hundred.
  bool too_much(Index rows) const { return exact > allowed_per_row * rows + screened / 128; }
};

/// For each of n rows, the k nearest of the candidates offered.
class Nearest {
 public:
  struct Candidate {
    Index row = 0;
    double sign = 1;  // -1 for the negated row
    Interval distance;
  };

  Nearest(Index n, Index k) : k_(static_cast<std::size_t>(k)), of_row_(static_cast<std::size_t>(n)) {}

  Index k() const { return static_cast<Index>(k_); }

  /// Upper bound on the k-th smallest squared distance: infinity for fewer than k candidates, negative if nothing can
  /// lower it any more.
  double limit(Index i) {
    Row& row = of_row_[static_cast<std::size_t>(i)];
    if (row.grown) prune(row);
    return row.limit == 0 ? -1.0 : row.limit;
  }

  /// Returns whether row i has so many candidates that decide(i) should be called.
  bool offer(Index i, const Candidate& candidate) {
    Row& row = of_row_[static_cast<std::size_t>(i)];
    if (candidate.distance.low >= row.limit) return false;
    row.candidates.push_back(candidate);
    row.grown = true;
    if (row.candidates.size() <= 4 * k_ + 64) return false;
    prune(row);
    return row.candidates.size() > 2 * k_ + 32;
  }

  /// Measures the candidates of row i that have only bounds, by exact(rows, sign, squared distances), and keeps the k
  /// nearest, sorted. Returns the number of measured candidates.
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

  /// Squared distance to the k-th nearest, after decide(i); infinity for fewer candidates.
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

  /// Lowers the limit and drops candidates that cannot be among the k nearest.
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
