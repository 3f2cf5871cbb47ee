// Precision and recall (Kynkäänniemi et al., 2019) with squared distances |x|^2 - 2 x.y + |y|^2 in float16 or float32,
// as other tools compute them: rounding makes many distances equal to a radius.
//
// Products are summed in float32. Distances are computed tile by tile, and only the nearest of each row are kept.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/float16.hpp"
#include "core/interrupt.hpp"
#include "core/matrix.hpp"
#include "core/neighbours/manifold.hpp"

namespace fidfast {

/// A tool whose distances are reproduced.
enum class DistanceTool {
  kGuidedDiffusion,  // squared, every operation in float16; in float32 for blocks that are not finite
  kStyleGan3,        // float16: squares that are rounded after summing, then their roots
};

namespace detail {

/// Ranges of equal size of at most `most`.
inline std::vector<Range> equal_parts(Range all, Index most) {
  const Index parts = (length(all) + most - 1) / most;
  std::vector<Range> result;
  for (Index p = 0; p < parts; ++p) {
    result.push_back({all.first + length(all) * p / parts, all.first + length(all) * (p + 1) / parts});
  }
  return result;
}

/// Ranges of the size `most`, of which the last may be smaller.
inline std::vector<Range> full_parts(Index n, Index most) {
  std::vector<Range> result;
  for (Index first = 0; first < n; first += most) result.push_back({first, std::min(first + most, n)});
  return result;
}

/// Rows (n, dim) that the caller owns, and their squared norms in float16.
template <class Device>
class RoundedRows {
 public:
  RoundedRows(AnyFeatures features, DistanceTool tool, const char* name) : features_(features) {
    std::visit([&](const auto& view) { check(view, tool, name); }, features_);
    norms_.reserve(static_cast<std::size_t>(size()));
    constexpr Index kRows = 256;
    Matrix<Device, float> columns(dim(), std::min(kRows, size()));
    std::vector<float> norms;
    for (const Range rows : full_parts(size(), kRows)) {
      check_interrupt();
      load(rows, false, columns, norms);
      for (std::size_t p = 0; p < norms.size(); ++p) {
        if (norms[p] <= std::numeric_limits<float>::max() / 8) continue;  // so that sums of two are finite
        throw InvalidInput(std::string(name) + ": squared distances overflow in float32; the first such row is " +
                           std::to_string(rows.first + static_cast<Index>(p)));
      }
      load(rows, true, columns, norms);
      norms_.insert(norms_.end(), norms.begin(), norms.end());
    }
  }

  Index size() const {
    return std::visit([](const auto& view) { return view.n; }, features_);
  }
  Index dim() const {
    return std::visit([](const auto& view) { return view.dim; }, features_);
  }

  /// columns[:, p] and norms[p] of the row rows.first + p.
  void load(Range rows, bool half, Matrix<Device, float>& columns, std::vector<float>& norms) const {
    std::visit([&](const auto& view) { RowOps<Device>::round_rows(view, rows, half, columns, norms); }, features_);
  }

  /// The largest squared norm in float16.
  float largest_norm(Range rows) const {
    return *std::max_element(norms_.begin() + rows.first, norms_.begin() + rows.last);
  }

 private:
  template <class S>
  static void check(const FeatureView<S>& view, DistanceTool tool, const char* name) {
    const std::vector<double> magnitudes = RowOps<Device>::row_magnitudes(view);
    for (std::size_t i = 0; i < magnitudes.size(); ++i) {
      const bool finite = std::isfinite(magnitudes[i]);
      const bool fits = std::isfinite(to_float16(static_cast<float>(magnitudes[i])));
      if (finite && (fits || tool != DistanceTool::kStyleGan3)) continue;
      throw InvalidInput(std::string(name) + ": features " +
                         (finite ? "exceed the range of float16" : "hold NaN or infinity") +
                         "; the first such row is " + std::to_string(i));
    }
  }

  AnyFeatures features_;
  std::vector<float> norms_;
};

/// The smallest numbers offered to each of n rows.
class Smallest {
 public:
  Smallest(Index n, Index count) : of_row_(static_cast<std::size_t>(n)), count_(static_cast<std::size_t>(count)) {}

  /// The largest of the numbers of row i; infinity before there are enough.
  float limit(Index i) const {
    const std::vector<float>& heap = of_row_[static_cast<std::size_t>(i)];
    return heap.size() < count_ ? std::numeric_limits<float>::infinity() : heap.front();
  }
  void offer(Index i, float value) {
    if (value >= limit(i)) return;
    std::vector<float>& heap = of_row_[static_cast<std::size_t>(i)];
    if (heap.size() == count_) {
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
    }
    heap.push_back(value);
    std::push_heap(heap.begin(), heap.end());
  }
  Index count() const { return static_cast<Index>(count_); }

 private:
  std::vector<std::vector<float>> of_row_;
  std::size_t count_;
};

/// Distances between rows of one or two sets, tile by tile.
template <class Device>
class RoundedDistances {
 public:
  /// For sets of at most n rows; guided-diffusion decides for blocks of `block` x `block` rows whether they are finite.
  RoundedDistances(DistanceTool tool, Index dim, Index n, Index block) : tool_(tool), block_(block) {
    constexpr Index kElements = Index{1} << 21;  // in a block of columns: 1,024 rows at dim 2,048
    while (most_columns_ > 64 && most_columns_ * dim > kElements) most_columns_ /= 2;
    rows_.columns = Matrix<Device, float>(dim, std::min(most_rows(), n));
    columns_.columns = Matrix<Device, float>(dim, std::min(most_columns_, n));
    products_ = Matrix<Device, float>(rows_.columns.cols(), columns_.columns.cols());
    distances_ = products_;
  }

  /// (n,) squared radius of each row: the (k + 1)-th smallest of its squared distances to all rows of its own set, of
  /// which one is to itself.
  std::vector<float> squared_radii(const RoundedRows<Device>& set, Index k) {
    Smallest nearest(set.size(), k + 1);
    const Range all{0, set.size()};
    if (surely_finite(set, all, set, all)) {
      for (const Range rows : equal_parts(all, most_rows())) {
        load(rows_, set, rows, true);
        const auto offer = [&](Range columns, bool both) {
          for (const Range tile : equal_parts(columns, most_columns_)) {
            multiply(set, tile, true);
            offer_rows(nearest, half_rounding());
            if (both) offer_columns(nearest, half_rounding());
          }
        };
        offer(rows, false);
        offer({rows.last, set.size()}, true);
      }
    } else {
      for_each_block(set, set, [&](Range, Range, Rounding rounding) { offer_rows(nearest, rounding); });
    }
    std::vector<float> radii;
    for (Index i = 0; i < set.size(); ++i) radii.push_back(radius(nearest.limit(i)));
    return radii;
  }

  /// For each row of one set and of the other, whether a ball of the other set holds it.
  std::pair<std::vector<char>, std::vector<char>> within(const RoundedRows<Device>& one,
                                                         const std::vector<float>& radii_of_one,
                                                         const RoundedRows<Device>& other,
                                                         const std::vector<float>& radii_of_other) {
    std::vector<char> one_within(radii_of_one.size(), '\0');
    std::vector<char> other_within(radii_of_other.size(), '\0');
    const auto part = [](const auto& values, Range range) {
      using Values = std::decay_t<decltype(values)>;
      return Values(values.begin() + range.first, values.begin() + range.last);
    };
    for_each_block(one, other, [&](Range rows, Range columns, Rounding rounding) {
      RowOps<Device>::rounded_distances(rounding, products_, rows_.norms, columns_.norms, false, distances_);
      std::vector<char> rows_within = part(one_within, rows);
      std::vector<char> columns_within = part(other_within, columns);
      RowOps<Device>::mark_within(distances_, part(radii_of_one, rows), part(radii_of_other, columns), rows_within,
                                  columns_within);
      std::copy(rows_within.begin(), rows_within.end(), one_within.begin() + rows.first);
      std::copy(columns_within.begin(), columns_within.end(), other_within.begin() + columns.first);
    });
    return {one_within, other_within};
  }

 private:
  struct Loaded {
    Matrix<Device, float> columns;  // (dim, capacity)
    std::vector<float> norms;       // of the columns
    Range rows;
  };

  Index most_rows() const { return 2 * most_columns_; }
  Rounding half_rounding() const {
    return tool_ == DistanceTool::kStyleGan3 ? Rounding::kFloat16AfterSumming : Rounding::kFloat16;
  }

  static void load(Loaded& tile, const RoundedRows<Device>& set, Range rows, bool half) {
    tile.rows = rows;
    set.load(rows, half, tile.columns, tile.norms);
  }
  /// Loads the columns, and multiplies the loaded rows with them.
  void multiply(const RoundedRows<Device>& set, Range columns, bool half) {
    check_interrupt();
    load(columns_, set, columns, half);
    RowOps<Device>::cross_products(rows_.columns, length(rows_.rows), columns_.columns, length(columns), products_);
  }

  /// Calls work(rows, columns, rounding) for all tiles of products, after deciding on the rounding of each block.
  template <class Work>
  void for_each_block(const RoundedRows<Device>& one, const RoundedRows<Device>& other, const Work& work) {
    for (const Range rows : full_parts(one.size(), block_)) {
      for (const Range columns : full_parts(other.size(), block_)) {
        const bool half = is_finite(one, rows, other, columns);
        for_each_tile(one, rows, other, columns, half, [&](Range some_rows, Range some_columns) {
          work(some_rows, some_columns, half ? half_rounding() : Rounding::kFloat32);
          return true;
        });
      }
    }
  }
  /// Calls work(rows, columns) for tiles of products as long as it returns true; returns whether it always did.
  template <class Work>
  bool for_each_tile(const RoundedRows<Device>& one, Range rows, const RoundedRows<Device>& other, Range columns,
                     bool half, const Work& work) {
    for (const Range some_rows : equal_parts(rows, most_rows())) {
      load(rows_, one, some_rows, half);
      for (const Range some_columns : equal_parts(columns, most_columns_)) {
        multiply(other, some_columns, half);
        if (!work(some_rows, some_columns)) return false;
      }
    }
    return true;
  }

  /// Whether the distances in float16 are finite without computing them: they are at most twice the sum of the norms,
  /// up to rounding.
  bool surely_finite(const RoundedRows<Device>& one, Range rows, const RoundedRows<Device>& other,
                     Range columns) const {
    constexpr float kSmall = 15000;
    return tool_ == DistanceTool::kStyleGan3 ||  // which does not ask
           std::max(one.largest_norm(rows), other.largest_norm(columns)) <= kSmall;
  }
  bool is_finite(const RoundedRows<Device>& one, Range rows, const RoundedRows<Device>& other, Range columns) {
    if (surely_finite(one, rows, other, columns)) return true;
    if (std::isinf(one.largest_norm(rows)) || std::isinf(other.largest_norm(columns))) return false;
    return for_each_tile(one, rows, other, columns, true, [&](Range, Range) {
      return RowOps<Device>::rounded_distances(half_rounding(), products_, rows_.norms, columns_.norms, false,
                                               distances_);
    });
  }

  void offer_rows(Smallest& nearest, Rounding rounding) {
    RowOps<Device>::rounded_distances(rounding, products_, rows_.norms, columns_.norms, false, distances_);
    offer_along(nearest, rows_, columns_, true);
  }
  void offer_columns(Smallest& nearest, Rounding rounding) {
    RowOps<Device>::rounded_distances(rounding, products_, rows_.norms, columns_.norms, true, distances_);
    offer_along(nearest, columns_, rows_, false);
  }
  /// Offers to each row of `own` its distances to `others`, a few and then twice as many at a time: the more a row has
  /// seen, the fewer are below its limit.
  void offer_along(Smallest& nearest, const Loaded& own, const Loaded& others, bool own_are_rows) {
    const Index count = length(others.rows);
    const bool seen = nearest.limit(own.rows.first) < std::numeric_limits<float>::infinity();
    Index step = seen ? count : std::max<Index>(32, 4 * nearest.count());
    for (Index first = 0; first < count; first += step, step *= 2) {
      check_interrupt();
      own_limit_.clear();
      for (Index i = own.rows.first; i < own.rows.last; ++i) own_limit_.push_back(-nearest.limit(i));
      others_limit_.assign(static_cast<std::size_t>(count), 0.0F);
      selected_.clear();
      const Range mine{0, length(own.rows)};
      const Range theirs{first, std::min(first + step, count)};
      // A distance d is selected if -d + limit > 0.
      if (own_are_rows) {
        RowOps<Device>::select(distances_, mine, theirs, -1.0F, own_limit_, others_limit_, selected_);
      } else {
        RowOps<Device>::select(distances_, theirs, mine, -1.0F, others_limit_, own_limit_, selected_);
      }
      for (const Element& element : selected_) {
        nearest.offer(own.rows.first + (own_are_rows ? element.row : element.column),
                      static_cast<float>(-element.value));
      }
    }
  }

  /// The limit for squared distances that corresponds to a squared radius. The roots of several numbers are the same
  /// float16.
  float radius(float square) const {
    if (tool_ != DistanceTool::kStyleGan3 || std::isinf(square)) return square;
    const float root = to_float16(std::sqrt(square));
    float next = next_float16(square);
    while (to_float16(std::sqrt(next)) == root) {
      square = next;
      next = next_float16(next);
    }
    return square;
  }

  DistanceTool tool_;
  Index block_;
  Index most_columns_ = 1024;
  Loaded rows_;
  Loaded columns_;
  Matrix<Device, float> products_;   // (rows, columns)
  Matrix<Device, float> distances_;  // (rows, columns)
  std::vector<float> own_limit_;
  std::vector<float> others_limit_;
  std::vector<Element> selected_;
};

}  // namespace detail

/// Shares of samples (m, dim) and of reference (n, dim) within a ball of the other set, boundary included.
template <class Device>
std::pair<double, double> rounded_precision_recall(const AnyFeatures& sample_rows, const AnyFeatures& reference_rows,
                                                   Index k, DistanceTool tool, Index block) {
  detail::require_sets(sample_rows, reference_rows);
  const detail::RoundedRows<Device> reference(reference_rows, tool, "reference");
  const detail::RoundedRows<Device> samples(sample_rows, tool, "samples");
  detail::require_neighbours(k, reference.size(), "reference");
  detail::require_neighbours(k, samples.size(), "samples");
  if (block < 1) throw InvalidInput("block must be at least 1, got " + std::to_string(block));
  detail::RoundedDistances<Device> distances(tool, samples.dim(), std::max(samples.size(), reference.size()), block);
  const std::vector<float> of_reference = distances.squared_radii(reference, k);
  const std::vector<float> of_samples = distances.squared_radii(samples, k);
  const auto [reference_within, samples_within] = distances.within(reference, of_reference, samples, of_samples);
  const auto share = [](const std::vector<char>& marks) {
    return static_cast<double>(std::count(marks.begin(), marks.end(), '\1')) / static_cast<double>(marks.size());
  };
  return {share(samples_within), share(reference_within)};
}

}  // namespace fidfast
