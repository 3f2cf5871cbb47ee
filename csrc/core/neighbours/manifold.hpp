// Metrics based on nearest neighbours: precision and recall (Kynkäänniemi et al., "Improved Precision and Recall Metric
// for Assessing Generative Models", 2019), density and coverage (Naeem et al., "Reliable Fidelity and Diversity Metrics
// for Generative Models", 2020), and the cosine distance of memorization-informed FID (Bai et al., "On Training Sample
// Memorization", 2021).
//
// Rows are processed in blocks; the full distance matrix is never stored. Distances within a set are computed for half
// of the pairs, and distances between the sets once for both directions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/interrupt.hpp"
#include "core/matrix.hpp"
#include "core/neighbours/search.hpp"

namespace fidfast {

/// A ball around each row whose radius is the distance to its k-th nearest neighbour in the same set.
struct BallRule {
  Index k = 1;
  bool inclusive = false;  // whether a row at exactly the radius is in the ball
  bool recall = false;     // whether to compute recall, which needs balls around samples too
};

/// precision, recall and coverage are fractions; density may exceed 1. recall is 0 if BallRule::recall is false.
struct ManifoldMetrics {
  double precision = 0;  // samples in at least one reference ball
  double recall = 0;     // reference rows in at least one ball around a sample
  double density = 0;    // mean number of reference balls that hold a sample, divided by k
  double coverage = 0;   // reference balls that hold at least one sample
};

namespace detail {

/// Whether rounding rows to 16-bit integers is precise enough. All rows share one scaling, so a single distant row
/// makes it coarse.
template <class Device>
bool int16_suffices(const RowSet<Device>& one, const RowSet<Device>& other) {
  constexpr double kLevels = 32768;
  constexpr double kShare =
      1.0 / 512;  // of a typical norm: squared distances have a relative error of about 1 % at most
  const auto sum = [](const std::vector<double>& norms) { return std::accumulate(norms.begin(), norms.end(), 0.0); };
  const double typical = (sum(one.norms()) + sum(other.norms())) / static_cast<double>(one.size() + other.size());
  const double lost = std::sqrt(static_cast<double>(one.dim()) / 12) / kLevels;
  return RowOps<Device>::has_integer_products() && lost * std::max(one.farthest(), other.farthest()) < kShare * typical;
}

/// Calls work(screen, effort, limited) with screens of increasing precision until it returns true. If `limited`, it may
/// return false because too many pairs are undecided.
template <class Device, class Work>
void with_sufficient_precision(const RowSet<Device>& one, const RowSet<Device>& other, Effort effort, Work work) {
  const double farthest = std::max(one.farthest(), other.farthest());
  const Index n = std::max(one.size(), other.size());
  if (int16_suffices(one, other)) {
    Screen<Device, std::int16_t> screen(one.dim(), farthest, n);
    if (work(screen, effort, true)) return;
  }
  {
    Screen<Device, float> screen(one.dim(), farthest, n);
    if (work(screen, effort, true)) return;
  }
  Screen<Device, double> screen(one.dim(), farthest, n);
  work(screen, effort, false);
}

inline Range block_range(Index first, Index count, Index n) { return {first, std::min(first + count, n)}; }

/// Nearest::decide for row i of `mine`, whose candidates are rows of `others`.
template <class Device>
void decide(Nearest& nearest, Index i, const RowSet<Device>& mine, const RowSet<Device>& others, Effort& effort) {
  check_interrupt_at(i);
  const auto exact = [&](const std::vector<Index>& rows, double sign, std::vector<double>& distances) {
    Vector<Device> x = mine.row(i);
    if (sign < 0) MatrixOps<Device>::scale(x, sign);
    others.squared_distances(x, rows, distances);
  };
  effort.exact += nearest.decide(i, exact);
}

/// Offers each row of the tile (of its columns, if `about` says so) the rows of the other axis as candidates. `seen`:
/// number of candidates that each row has been offered before. The first batches are small, so that the limits
/// decrease before many candidates have to be examined.
template <class Device, class T, class Skip, class Decide>
void offer(Screen<Device, T>& screen, Nearest& nearest, typename Screen<Device, T>::About about, Range rows,
           Range columns, Index first_row, Index first_column, Index seen, double sign, Skip skip, Decide decide_row) {
  const bool about_rows = about == Screen<Device, T>::About::kRows;
  const Range others = about_rows ? columns : rows;
  const Index own_first = about_rows ? first_row : first_column;
  const Index other_first = about_rows ? first_column : first_row;
  for (Index first = others.first; first < others.last;) {
    const Index count = std::max({seen, 2 * nearest.k(), Index{32}});
    const Range part = {first, std::min(first + count, others.last)};
    const auto limit = [&](Index i) { return nearest.limit(i); };
    check_interrupt();
    const auto& pairs = screen.select(about, about_rows ? rows : part, about_rows ? part : columns,
                                      static_cast<typename Screen<Device, T>::Product>(sign), limit);
    for (const Element& pair : pairs) {
      const Index own = own_first + (about_rows ? pair.row : pair.column);
      const Index other = other_first + (about_rows ? pair.column : pair.row);
      if (skip(own, other)) continue;
      if (nearest.offer(own, {other, sign, screen.squared_distance(pair)})) decide_row(own);
    }
    seen += length(part);
    first = part.last;
  }
}

/// Finds the k nearest neighbours of every row within its own set. Returns false if too many pairs are undecided.
template <class Device, class T>
bool find_within(const RowSet<Device>& set, Screen<Device, T>& screen, Nearest& nearest, Effort& effort, bool limited) {
  using About = typename Screen<Device, T>::About;
  const Index n = set.size();
  const auto decide_row = [&](Index i) { decide(nearest, i, set, set, effort); };
  const auto itself = [](Index own, Index other) { return own == other; };
  const auto offer_tile = [&](About about, Range rows, Range columns, Index first_row, Index first_column, Index seen) {
    offer(screen, nearest, about, rows, columns, first_row, first_column, seen, 1.0, itself, decide_row);
  };
  for (Index i = 0; i < n; i += screen.row_block()) {
    const Range rows = block_range(i, screen.row_block(), n);
    screen.load_rows(set, rows);
    for (Index j = i; j < n; j += screen.column_block()) {
      const Range columns = block_range(j, screen.column_block(), n);
      screen.load_columns(set, columns);
      const Index before = std::min(j, rows.last) - i;          // rows that precede the columns
      const Index all = std::min(columns.last, rows.last) - i;  // and rows that are among the columns
      screen.multiply(all);
      effort.screened += all * length(columns);
      const Range width = {0, length(columns)};
      offer_tile(About::kColumns, {0, before}, width, i, j, i);
      offer_tile(About::kRows, {before, all}, width, i, j, j);
      offer_tile(About::kRows, {0, before}, width, i, j, j);
      if (limited && effort.too_much(n)) return false;
    }
  }
  for (Index i = 0; i < n; ++i) decide_row(i);
  return !limited || !effort.too_much(n);
}

/// Finds for every row of `mine` the nearest of +-`others`, all of length 1. Zero rows are skipped.
template <class Device, class T>
bool find_nearest_line(const RowSet<Device>& mine, const RowSet<Device>& others, Screen<Device, T>& screen,
                       Nearest& nearest, Effort& effort, bool limited) {
  using About = typename Screen<Device, T>::About;
  const auto zero = [&](Index own, Index other) {
    return mine.norms()[static_cast<std::size_t>(own)] == 0 || others.norms()[static_cast<std::size_t>(other)] == 0;
  };
  const auto decide_row = [&](Index i) { decide(nearest, i, mine, others, effort); };
  for (Index i = 0; i < mine.size(); i += screen.row_block()) {
    const Range rows = block_range(i, screen.row_block(), mine.size());
    screen.load_rows(mine, rows);
    for (Index j = 0; j < others.size(); j += screen.column_block()) {
      const Range columns = block_range(j, screen.column_block(), others.size());
      screen.load_columns(others, columns);
      screen.multiply(length(rows));
      effort.screened += length(rows) * length(columns);
      for (const double sign : {1.0, -1.0}) {
        offer(screen, nearest, About::kRows, {0, length(rows)}, {0, length(columns)}, i, j, j, sign, zero, decide_row);
      }
      if (limited && effort.too_much(mine.size())) return false;
    }
  }
  for (Index i = 0; i < mine.size(); ++i) decide_row(i);
  return !limited || !effort.too_much(mine.size());
}

/// The balls around the rows of a set.
struct Balls {
  std::vector<BallRule> rules;
  std::vector<std::vector<double>> squared_radii;  // for each rule, (n,)

  Balls(std::vector<BallRule> its_rules, const Nearest& nearest, Index n) : rules(std::move(its_rules)) {
    for (const BallRule& rule : rules) {
      std::vector<double>& radii = squared_radii.emplace_back();
      for (Index i = 0; i < n; ++i) radii.push_back(nearest.distance(i, rule.k));
    }
  }

  /// Largest squared radius around a row over all rules; negative if no ball can hold anything.
  double limit(Index i) const {
    double result = -1;
    for (std::size_t r = 0; r < rules.size(); ++r) {
      const double radius = squared_radii[r][static_cast<std::size_t>(i)];
      if (radius > 0 || rules[r].inclusive) result = std::max(result, radius);
    }
    return result;
  }

  /// Whether the ball holds a row at this squared distance, which is measured if its bounds do not decide.
  template <class Measure>
  bool holds(std::size_t r, Index i, Interval& distance, Measure measure) const {
    const double radius = squared_radii[r][static_cast<std::size_t>(i)];
    if (distance.low <= radius && distance.high >= radius && distance.low < distance.high) {
      const double exact = measure();
      distance = {exact, exact};
    }
    return rules[r].inclusive ? distance.high <= radius : distance.high < radius;
  }
};

/// Computes the metrics from the balls of both sets. Returns false if too many pairs are undecided.
template <class Device, class T>
bool count_held(const RowSet<Device>& reference, const Balls& of_reference, const RowSet<Device>& samples,
                const Balls& of_samples, Screen<Device, T>& screen, Effort& effort, bool limited,
                std::vector<ManifoldMetrics>& metrics) {
  using About = typename Screen<Device, T>::About;
  const Index n = reference.size();
  const Index m = samples.size();
  const auto none = [](std::size_t rules, Index rows) {
    return std::vector<std::vector<bool>>(rules, std::vector<bool>(static_cast<std::size_t>(rows), false));
  };
  std::vector<std::vector<bool>> precise = none(of_reference.rules.size(), m);
  std::vector<std::vector<bool>> covered = none(of_reference.rules.size(), n);
  std::vector<std::vector<bool>> recalled = none(of_samples.rules.size(), n);
  std::vector<Index> held(of_reference.rules.size(), 0);
  for (Index i = 0; i < n; i += screen.row_block()) {
    const Range rows = block_range(i, screen.row_block(), n);
    screen.load_rows(reference, rows);
    for (Index j = 0; j < m; j += screen.column_block()) {
      const Range columns = block_range(j, screen.column_block(), m);
      screen.load_columns(samples, columns);
      screen.multiply(length(rows));
      effort.screened += length(rows) * length(columns);
      const auto pairs_about = [&](About about, const Balls& balls) -> const std::vector<Element>& {
        return screen.select(about, {0, length(rows)}, {0, length(columns)}, 1,
                             [&](Index row) { return balls.limit(row); });
      };
      const auto measure = [&](Index row, Index column) {
        check_interrupt_at(effort.exact);
        std::vector<double> distance;
        samples.squared_distances(reference.row(row), {column}, distance);
        ++effort.exact;
        return distance.front();
      };
      for (const Element& pair : pairs_about(About::kRows, of_reference)) {
        const Index row = i + pair.row;
        const Index column = j + pair.column;
        Interval distance = screen.squared_distance(pair);
        for (std::size_t r = 0; r < held.size(); ++r) {
          if (!of_reference.holds(r, row, distance, [&] { return measure(row, column); })) continue;
          ++held[r];
          precise[r][static_cast<std::size_t>(column)] = true;
          covered[r][static_cast<std::size_t>(row)] = true;
        }
      }
      if (!of_samples.rules.empty()) {
        for (const Element& pair : pairs_about(About::kColumns, of_samples)) {
          const Index row = i + pair.row;
          const Index column = j + pair.column;
          Interval distance = screen.squared_distance(pair);
          for (std::size_t r = 0; r < recalled.size(); ++r) {
            if (recalled[r][static_cast<std::size_t>(row)]) continue;
            recalled[r][static_cast<std::size_t>(row)] =
                of_samples.holds(r, column, distance, [&] { return measure(row, column); });
          }
        }
      }
      if (limited && effort.too_much(n + m)) return false;
    }
  }
  const auto share = [](const std::vector<bool>& of) {
    return static_cast<double>(std::count(of.begin(), of.end(), true)) / static_cast<double>(of.size());
  };
  std::size_t with_recall = 0;
  metrics.clear();
  for (std::size_t r = 0; r < held.size(); ++r) {
    const BallRule& rule = of_reference.rules[r];
    metrics.push_back({share(precise[r]), rule.recall ? share(recalled[with_recall++]) : 0.0,
                       static_cast<double>(held[r]) / (static_cast<double>(rule.k) * static_cast<double>(m)),
                       share(covered[r])});
  }
  return true;
}

inline void require_neighbours(Index k, Index n, const char* name) {
  if (k < 1) throw InvalidInput("k must be at least 1, got " + std::to_string(k));
  if (k >= n) {
    throw InvalidInput("k=" + std::to_string(k) + " needs at least " + std::to_string(k + 1) + " rows; " + name +
                       " has " + std::to_string(n));
  }
}

inline void require_sets(const AnyFeatures& samples, const AnyFeatures& reference) {
  const auto shape = [](const AnyFeatures& features) {
    return std::visit([](const auto& view) { return std::make_pair(view.n, view.dim); }, features);
  };
  const auto [m, dim] = shape(samples);
  const auto [n, reference_dim] = shape(reference);
  if (dim != reference_dim) {
    throw InvalidInput("samples has dim " + std::to_string(dim) + ", but reference has dim " +
                       std::to_string(reference_dim));
  }
  if (m == 0) throw InvalidInput("samples has no rows");
  if (n == 0) throw InvalidInput("reference has no rows");
}

/// Mean of a subset of the rows. Products of rows about it have the smallest rounding errors.
template <class Device>
Vector<Device> centre_of(const AnyFeatures& features) {
  return std::visit(
      [](auto view) {
        constexpr Index kRows = 1024;
        const Index step = (view.n + kRows - 1) / kRows;
        view.n = (view.n + step - 1) / step;
        view.row_stride *= step;
        Mean<Device> mean = Mean<Device>::zeros(view.dim);
        RowOps<Device>::mean(view, mean);
        return std::move(mean.high);
      },
      features);
}

}  // namespace detail

/// Metrics for each rule, in one pass over samples (m, dim) and reference (n, dim).
template <class Device>
std::vector<ManifoldMetrics> manifold_metrics(const AnyFeatures& sample_rows, const AnyFeatures& reference_rows,
                                              const std::vector<BallRule>& rules) {
  detail::require_sets(sample_rows, reference_rows);
  const Vector<Device> centre = detail::centre_of<Device>(reference_rows);
  const RowSet<Device> reference(reference_rows, centre, "reference");  // first: NaN in it are in the centre
  const RowSet<Device> samples(sample_rows, centre, "samples");
  std::vector<BallRule> with_recall;
  Index k = 0;
  Index k_of_samples = 0;
  for (const BallRule& rule : rules) {
    detail::require_neighbours(rule.k, reference.size(), "reference");
    k = std::max(k, rule.k);
    if (!rule.recall) continue;
    detail::require_neighbours(rule.k, samples.size(), "samples");
    k_of_samples = std::max(k_of_samples, rule.k);
    with_recall.push_back(rule);
  }
  Effort start;
  start.allowed_per_row += 4 * k;
  std::vector<ManifoldMetrics> metrics;
  const auto run = [&](auto& screen, const Effort& effort, bool limited) {
    Effort of_reference = effort;
    Effort of_samples = effort;
    Effort across = effort;
    Nearest near_reference(reference.size(), k);
    if (!detail::find_within(reference, screen, near_reference, of_reference, limited)) return false;
    Nearest near_samples(with_recall.empty() ? 0 : samples.size(), k_of_samples);
    if (!with_recall.empty() && !detail::find_within(samples, screen, near_samples, of_samples, limited)) {
      return false;
    }
    const detail::Balls balls_of_reference(rules, near_reference, reference.size());
    const detail::Balls balls_of_samples(with_recall, near_samples, samples.size());
    return detail::count_held(reference, balls_of_reference, samples, balls_of_samples, screen, across, limited,
                              metrics);
  };
  detail::with_sufficient_precision(reference, samples, start, run);
  return metrics;
}

/// Mean of 1 - max |cos| to the rows of the other set, over samples (m, dim) or over reference (n, dim). Zero rows are
/// left out of both sets.
template <class Device>
double mean_nearest_cosine_distance(const AnyFeatures& sample_rows, const AnyFeatures& reference_rows,
                                    bool over_samples) {
  detail::require_sets(sample_rows, reference_rows);
  const Vector<Device> origin = Vector<Device>::zeros(std::visit([](const auto& v) { return v.dim; }, reference_rows));
  RowSet<Device> samples(sample_rows, origin, "samples");
  RowSet<Device> reference(reference_rows, origin, "reference");
  if (samples.farthest() == 0) throw InvalidInput("samples: every row is zero, so no cosine is defined");
  if (reference.farthest() == 0) throw InvalidInput("reference: every row is zero, so no cosine is defined");
  samples.normalize();
  reference.normalize();
  const RowSet<Device>& mine = over_samples ? samples : reference;
  const RowSet<Device>& others = over_samples ? reference : samples;
  double mean = 0;
  const auto run = [&](auto& screen, Effort effort, bool limited) {
    Nearest nearest(mine.size(), 1);
    if (!detail::find_nearest_line(mine, others, screen, nearest, effort, limited)) return false;
    double sum = 0;
    Index count = 0;
    for (Index i = 0; i < mine.size(); ++i) {
      if (mine.norms()[static_cast<std::size_t>(i)] == 0) continue;
      sum += nearest.distance(i, 1) / 2;  // |x - y|^2 = 2 - 2 cos for rows of length 1
      ++count;
    }
    mean = sum / static_cast<double>(count);
    return true;
  };
  detail::with_sufficient_precision(mine, others, Effort{}, run);
  return mean;
}

}  // namespace fidfast
