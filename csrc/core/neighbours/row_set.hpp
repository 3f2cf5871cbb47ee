// Sets of rows for nearest neighbour search: distinct rows in a common unit, and their squared distances in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/matrix.hpp"
#include "core/product_scale.hpp"

namespace fidfast {

inline Index length(Range range) { return range.last - range.first; }

/// Squared distances outside this range are stored with 44 bits instead of 53, and with more bits for the exponent.
inline constexpr int kSmallestExponent = -900;
inline constexpr int kLargestExponent = 1000;

/// value 2^exponent if it is in the range above, else a number beyond the end of the range that preserves the order:
/// squares of all float64 numbers have 4,200 exponents, twice as many as float64 represents.
inline double ordered_square(double value, int exponent) {
  if (value == 0) return 0;
  int own = 0;
  const double fraction = std::frexp(value, &own);
  const int total = own + exponent;
  if (kSmallestExponent < total && total <= kLargestExponent) return std::ldexp(fraction, total);
  const bool large = total > kLargestExponent;
  const double end = std::ldexp(1.0, large ? kLargestExponent : kSmallestExponent);
  const std::int64_t steps = large ? total - kLargestExponent - 1 : total - kSmallestExponent - 1;
  std::int64_t bits = 0;
  std::int64_t mantissa = 0;
  std::memcpy(&bits, &end, sizeof bits);
  std::memcpy(&mantissa, &fraction, sizeof mantissa);
  mantissa &= (std::int64_t{1} << 52) - 1;
  bits += steps * (std::int64_t{1} << 44) + (mantissa >> 8);
  double result = 0;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

/// The unit 2^exponent of two sets, and the origin in that unit.
template <class Device>
struct Frame {
  int exponent = 0;
  Vector<Device> origin;  // (dim,)
};

/// The distinct rows among (n, dim) features that the caller owns.
template <class Device>
class RowSet {
 public:
  /// `name` is the name of the argument for error messages.
  RowSet(AnyFeatures features, const char* name) : features_(features), name_(name) {
    const auto measure = [](const auto& view) { return RowOps<Device>::row_magnitudes(view); };
    const std::vector<double> magnitudes = std::visit(measure, features_);
    for (std::size_t i = 0; i < magnitudes.size(); ++i) {
      if (std::isfinite(magnitudes[i])) continue;
      throw InvalidInput(name_ + ": features hold NaN or infinity; the first such row is " + std::to_string(i));
    }
    std::visit([this](const auto& view) { find_distinct(view); }, features_);
    for (const Index row : rows_) magnitudes_.push_back(magnitudes[static_cast<std::size_t>(row)]);
    scale_.assign(rows_.size(), 1.0);
  }

  /// Number of distinct rows. All indices below are of distinct rows.
  Index size() const { return static_cast<Index>(rows_.size()); }
  /// Number of all rows.
  Index total() const {
    return std::visit([](const auto& view) { return view.n; }, features_);
  }
  Index dim() const {
    return std::visit([](const auto& view) { return view.dim; }, features_);
  }
  /// How often each row occurs, (size(),).
  const std::vector<Index>& times() const { return times_; }
  bool has_repeated() const { return size() < total(); }
  /// max_j |x_ij|, (size(),).
  const std::vector<double>& magnitudes() const { return magnitudes_; }
  /// |x_i - origin| in the unit of the frame, (size(),); infinity if its square exceeds the range of float64.
  const std::vector<double>& norms() const { return norms_; }

  /// `frame` must outlive this set.
  void place(const Frame<Device>& frame) {
    frame_ = &frame;
    unit_ = std::ldexp(1.0, -frame.exponent);
    norms_ = norms_about(frame.origin, {0, size()});
  }

  /// Sorts the rows into clusters, if there are clusters that are far apart compared with their size; those may consist
  /// of clusters in turn. Rows are then searched about the centre of their own cluster.
  void find_clusters() {
    std::vector<std::vector<Index>> open(1, std::vector<Index>(rows_.size()));
    std::iota(open[0].begin(), open[0].end(), Index{0});
    std::vector<Index> order;
    starts_.clear();
    while (!open.empty()) {
      const std::vector<Index> rows = std::move(open.back());
      open.pop_back();
      std::vector<std::vector<Index>> parts = parts_of(rows);
      if (parts.size() > 1) {
        open.insert(open.end(), std::make_move_iterator(parts.begin()), std::make_move_iterator(parts.end()));
        continue;
      }
      starts_.push_back(static_cast<Index>(order.size()));
      order.insert(order.end(), rows.begin(), rows.end());
    }
    const auto sorted = [&](const auto& values) {
      auto result = values;
      for (std::size_t i = 0; i < order.size(); ++i) result[i] = values[static_cast<std::size_t>(order[i])];
      return result;
    };
    rows_ = sorted(rows_);
    times_ = sorted(times_);
    magnitudes_ = sorted(magnitudes_);
    norms_ = sorted(norms_);
  }
  bool has_clusters() const { return starts_.size() > 1; }
  /// Whether two rows are in the same cluster.
  bool together(Index one, Index other) const {
    return std::upper_bound(starts_.begin(), starts_.end(), one) ==
           std::upper_bound(starts_.begin(), starts_.end(), other);
  }

  /// All rows in blocks of at most `most` rows of one cluster.
  std::vector<Range> blocks(Index most) const {
    std::vector<Range> result;
    for (std::size_t c = 0; c < starts_.size(); ++c) {
      const Index last = c + 1 < starts_.size() ? starts_[c + 1] : size();
      for (Index i = starts_[c]; i < last; i += most) result.push_back({i, std::min(i + most, last)});
    }
    return result;
  }

  /// Mean of some of the rows of a range in the unit of the frame; the origin of the frame if it is not finite.
  Vector<Device> centre(Range range) const {
    constexpr Index kRows = 256;
    std::vector<Index> some;
    const Index step = (length(range) + kRows - 1) / kRows;
    for (Index i = range.first; i < range.last; i += step) some.push_back(i);
    Matrix<Device> rows = raw_rows(some.data(), static_cast<Index>(some.size()));
    MatrixOps<Device>::scale(rows, unit_);
    Mean<Device> mean = Mean<Device>::zeros(dim());
    RowOps<Device>::mean(columns_as_features(rows, 0, rows.cols()), mean);
    return std::isfinite(MatrixOps<Device>::squared_norm(mean.high)) ? std::move(mean.high)
                                                                     : Vector<Device>(frame_->origin);
  }
  const Vector<Device>& origin() const { return frame_->origin; }

  /// |x_i - origin| in the unit of the frame for the rows of a range; infinity beyond the range of float64.
  std::vector<double> norms_about(const Vector<Device>& origin, Range range) const {
    const std::vector<Index> rows(rows_.begin() + range.first, rows_.begin() + range.last);
    std::vector<double> factors;
    for (Index i = range.first; i < range.last; ++i) factors.push_back(factor(i));
    std::vector<double> norms;
    const auto measure = [&](const auto& view) {
      RowOps<Device>::squared_distances(origin, view, rows, factors, norms);
    };
    std::visit(measure, features_);
    for (double& norm : norms) {
      norm = std::isfinite(norm) ? std::sqrt(norm) : std::numeric_limits<double>::infinity();
    }
    return norms;
  }

  /// Instead of place(), for an origin of 0: scales every nonzero row to length 1, first by a power of 2, so that no
  /// square leaves the range of float64.
  void normalize(const Frame<Device>& frame) {
    constexpr int kMost = 1000;
    normalized_ = true;
    for (std::size_t i = 0; i < scale_.size(); ++i) {
      const int exponent = magnitudes_[i] > 0 ? std::ilogb(magnitudes_[i]) : 0;
      scale_[i] = std::ldexp(1.0, std::clamp(-exponent, -kMost, kMost));
    }
    place(frame);
    for (std::size_t i = 0; i < norms_.size(); ++i) {
      scale_[i] = norms_[i] > 0 ? scale_[i] / norms_[i] : 0.0;
      norms_[i] = norms_[i] > 0 ? 1.0 : 0.0;
      if (std::isfinite(scale_[i])) continue;
      throw InvalidInput(name_ + ": the numbers of row " + std::to_string(rows_[i]) +
                         " are below 2.2e-308, too small for its cosine: multiply all features by the same factor");
    }
    if (std::all_of(norms_.begin(), norms_.end(), [](double norm) { return norm == 0; })) {
      throw InvalidInput(name_ + ": every row is zero, so no cosine is defined");
    }
  }

  /// The rows without unit or origin, (dim, count).
  Matrix<Device> raw_rows(const Index* first, Index count) const {
    Matrix<Device> result(dim(), count);
    const auto copy = [&](const auto& view) {
      for (Index c = 0; c < count; ++c) {
        RowOps<Device>::append(view.rows(rows_[static_cast<std::size_t>(first[c])], 1), result, c);
      }
    };
    std::visit(copy, features_);
    return result;
  }

  /// Squared distances in float64, in the unit of the frame, of sign times the `count` rows of `mine` that begin at
  /// `own`, to `rows` of this set: distances[c * rows.size() + p]. Equal rows are at distance 0, and distances are
  /// symmetric. Those beyond the range of float64 are in the order of their exact values, see ordered_square().
  void squared_distances(const RowSet& mine, const Index* own, Index count, double sign, const std::vector<Index>& rows,
                         std::vector<double>& distances) const {
    const Matrix<Device> raw = mine.raw_rows(own, count);
    std::vector<double> scales;
    for (Index c = 0; c < count; ++c) scales.push_back(sign * mine.factor(own[c]));
    std::vector<Index> of_view(rows.size());
    std::vector<double> factors(rows.size());
    for (std::size_t p = 0; p < rows.size(); ++p) {
      of_view[p] = rows_[static_cast<std::size_t>(rows[p])];
      factors[p] = factor(rows[p]);
    }
    const Matrix<Device> scaled = MatrixOps<Device>::scaled_columns(raw, 0, scales);
    const auto measure = [&](const auto& view) {
      RowOps<Device>::squared_distances(scaled, view, of_view, factors, distances);
      if (!normalized_) extend(raw, view, of_view, distances);
    };
    std::visit(measure, features_);
  }

  /// RowOps::approximate for the rows in the range about `origin`, multiplied by `scaling`; rows whose distance from it
  /// is above `reach` become 0: norms (length(range),).
  template <class T>
  void approximate(Range range, const Vector<Device>& origin, double scaling, double reach,
                   const std::vector<double>& norms, Matrix<Device, T>& columns, std::vector<double>& squared_norms,
                   std::vector<double>& errors) const {
    std::vector<double> scale;
    for (Index i = range.first; i < range.last; ++i) {
      const auto row = static_cast<std::size_t>(i);
      const double norm = norms[row - static_cast<std::size_t>(range.first)];
      scale.push_back(norm > reach ? 0.0 : scaling * scale_[row]);
    }
    const std::vector<Index> rows(rows_.begin() + range.first, rows_.begin() + range.last);
    const auto work = [&](const auto& view) {
      RowOps<Device>::approximate(view, rows, unit_, origin, scale, columns, squared_norms, errors);
    };
    std::visit(work, features_);
  }

 private:
  double factor(Index i) const { return unit_ * scale_[static_cast<std::size_t>(i)]; }

  /// Measures the pairs again whose squared distances are outside the range in which float64 has all bits.
  template <class View>
  void extend(const Matrix<Device>& raw, const View& view, const std::vector<Index>& rows,
              std::vector<double>& distances) const {
    const double smallest = std::ldexp(1.0, kSmallestExponent);
    const double largest = std::ldexp(1.0, kLargestExponent);
    Vector<Device> x(raw.rows());
    for (Index c = 0; c < raw.cols(); ++c) {
      bool copied = false;
      for (std::size_t p = 0; p < rows.size(); ++p) {
        double& distance = distances[static_cast<std::size_t>(c) * rows.size() + p];
        if (distance >= smallest && distance < largest) continue;
        if (!copied) Device::copy(x.data(), raw.column(c), static_cast<std::size_t>(x.size()) * sizeof(double));
        copied = true;
        int exponent = 0;
        const double value = RowOps<Device>::scaled_squared_distance(x, view, rows[p], exponent);
        distance = ordered_square(value, exponent - 2 * frame_->exponent);
      }
    }
  }

  /// Divides the rows among pivots, each of which is as far as possible from the previous ones, if one of the first
  /// pivots reduces the largest distance to a quarter. Else all rows are one part.
  std::vector<std::vector<Index>> parts_of(const std::vector<Index>& rows) const {
    constexpr int kMostPivots = 16;
    constexpr double kDrop = 1.0 / 16;  // of the squared distance
    constexpr std::size_t kFewest = 8;
    if (rows.size() < kFewest) return {rows};
    std::vector<double> nearest(rows.size(), std::numeric_limits<double>::infinity());
    std::vector<int> labels(rows.size(), 0);
    std::vector<int> parts = labels;
    Index pivot = rows[0];
    double before = std::numeric_limits<double>::infinity();
    int count = 1;
    for (int label = 0; label < kMostPivots; ++label) {
      std::vector<double> distances;
      squared_distances(*this, &pivot, 1, 1.0, rows, distances);
      for (std::size_t i = 0; i < labels.size(); ++i) {
        if (distances[i] >= nearest[i]) continue;
        nearest[i] = distances[i];
        labels[i] = label;
      }
      const auto farthest = std::max_element(nearest.begin(), nearest.end());
      if (label > 0 && *farthest < kDrop * before) {
        parts = labels;
        count = label + 1;
      }
      before = *farthest;
      pivot = rows[static_cast<std::size_t>(farthest - nearest.begin())];
      if (before == 0) break;
    }
    std::vector<std::vector<Index>> result(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < rows.size(); ++i) result[static_cast<std::size_t>(parts[i])].push_back(rows[i]);
    return result;
  }

  template <class View>
  void find_distinct(const View& view) {
    constexpr Index kColumns = 32;  // that are hashed first: rows rarely agree in all of them
    const auto n = static_cast<std::size_t>(view.n);
    std::vector<Index> order(n);
    std::iota(order.begin(), order.end(), Index{0});
    std::vector<std::uint64_t> hashes;
    const auto hash_of = [&](Index row) { return hashes[static_cast<std::size_t>(row)]; };
    rows_ = order;
    times_.assign(n, 1);
    for (const Index columns : {std::min(kColumns, view.dim), view.dim}) {
      hashes = RowOps<Device>::row_hashes(view, columns);
      std::sort(order.begin(), order.end(),
                [&](Index a, Index b) { return hash_of(a) != hash_of(b) ? hash_of(a) < hash_of(b) : a < b; });
      const auto equal = [&](Index a, Index b) { return hash_of(a) == hash_of(b); };
      if (std::adjacent_find(order.begin(), order.end(), equal) == order.end()) return;
    }
    for (std::size_t first = 0; first < n;) {
      std::vector<Index> distinct;  // among the rows with this hash: nearly always one
      std::size_t p = first;
      for (; p < n && hash_of(order[p]) == hash_of(order[first]); ++p) {
        const auto same = [&](Index row) { return RowOps<Device>::equal_rows(view, row, order[p]); };
        const auto found = std::find_if(distinct.begin(), distinct.end(), same);
        if (found == distinct.end()) {
          distinct.push_back(order[p]);
        } else {
          ++times_[static_cast<std::size_t>(*found)];
          times_[static_cast<std::size_t>(order[p])] = 0;
        }
      }
      first = p;
    }
    rows_.erase(std::remove_if(rows_.begin(), rows_.end(),
                               [&](Index row) { return times_[static_cast<std::size_t>(row)] == 0; }),
                rows_.end());
    times_.erase(std::remove(times_.begin(), times_.end(), Index{0}), times_.end());
  }

  AnyFeatures features_;
  std::string name_;
  std::vector<Index> rows_;          // (size(),) where each distinct row occurs first
  std::vector<Index> times_;         // (size(),)
  std::vector<Index> starts_ = {0};  // of the clusters
  std::vector<double> magnitudes_;
  std::vector<double> norms_;
  std::vector<double> scale_;  // (size(),) 1, or 1 / norm
  const Frame<Device>* frame_ = nullptr;
  double unit_ = 1;
  bool normalized_ = false;
};

/// A frame in which the rows of a typical size are near 1, with the mean of such rows of `reference` as the origin:
/// products of rows about it have the smallest rounding errors. It depends on the rows of a typical size only.
template <class Device>
Frame<Device> frame_of(const RowSet<Device>& reference, const RowSet<Device>& samples) {
  constexpr Index kRows = 256;
  constexpr double kUsual = 16;  // times the median
  constexpr int kSmallestUnit = -1000;
  std::vector<double> magnitudes = reference.magnitudes();
  magnitudes.insert(magnitudes.end(), samples.magnitudes().begin(), samples.magnitudes().end());
  const double typical = median_of_positive(std::move(magnitudes));
  Frame<Device> frame{0, Vector<Device>::zeros(reference.dim())};
  if (typical == 0) return frame;
  frame.exponent = std::max(std::ilogb(typical), kSmallestUnit);
  std::vector<Index> usual;
  for (Index i = 0; i < reference.size(); ++i) {
    if (reference.magnitudes()[static_cast<std::size_t>(i)] / kUsual <= typical) usual.push_back(i);
  }
  if (usual.empty()) return frame;
  const Index step = (static_cast<Index>(usual.size()) + kRows - 1) / kRows;
  std::vector<Index> some;
  for (std::size_t i = 0; i < usual.size(); i += static_cast<std::size_t>(step)) some.push_back(usual[i]);
  Matrix<Device> rows = reference.raw_rows(some.data(), static_cast<Index>(some.size()));
  MatrixOps<Device>::scale(rows, std::ldexp(1.0, -frame.exponent));
  Mean<Device> mean = Mean<Device>::zeros(reference.dim());
  RowOps<Device>::mean(columns_as_features(rows, 0, rows.cols()), mean);
  frame.origin = std::move(mean.high);
  return frame;
}

}  // namespace fidfast
