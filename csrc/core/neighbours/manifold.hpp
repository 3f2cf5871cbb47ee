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
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/interrupt.hpp"
#include "core/matrix.hpp"
#include "core/neighbours/finding.hpp"
#include "core/neighbours/search.hpp"
#include "core/parallel.hpp"

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

/// The balls around the rows of a set.
struct Balls {
  std::vector<BallRule> rules;
  std::vector<std::vector<double>> squared_radii;  // for each rule, (n,)

  /// `nearest` holds the distances for the k of each rule.
  Balls(std::vector<BallRule> its_rules, const Nearest& nearest, Index n) : rules(std::move(its_rules)) {
    for (std::size_t r = 0; r < rules.size(); ++r) {
      std::vector<double>& radii = squared_radii.emplace_back();
      for (Index i = 0; i < n; ++i) radii.push_back(nearest.distance(i, r));
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

  /// Whether the bounds do not decide for every rule whether the ball holds a row at this squared distance.
  bool undecided(Index i, const Interval& distance) const {
    if (distance.low == distance.high) return false;
    return std::any_of(squared_radii.begin(), squared_radii.end(), [&](const std::vector<double>& radii) {
      const double radius = radii[static_cast<std::size_t>(i)];
      return distance.low <= radius && distance.high >= radius;
    });
  }

  bool holds(std::size_t r, Index i, const Interval& distance) const {
    const double radius = squared_radii[r][static_cast<std::size_t>(i)];
    return rules[r].inclusive ? distance.high <= radius : distance.high < radius;
  }
};

/// Which rows of the other set the balls of a set hold, tile by tile.
template <class Device>
class Held {
 public:
  Held(const RowSet<Device>& owners, const Balls& balls, const RowSet<Device>& others)
      : owners_(owners), balls_(balls), others_(others) {
    for (std::size_t r = 0; r < balls.rules.size(); ++r) {
      counts_.emplace_back(static_cast<std::size_t>(owners.size()), Index{0});
      held_.emplace_back(static_cast<std::size_t>(others.size()), '\0');
    }
  }

  /// Adds the pairs of the loaded tile; first_row and first_column are the first rows of its blocks. If `each_once`,
  /// only held() is needed, and not counts().
  template <class T>
  void add(Screen<Device, T>& screen, typename Screen<Device, T>::About about, Range rows, Range columns,
           bool each_once) {
    const bool about_rows = about == Screen<Device, T>::About::kRows;
    const Range own = about_rows ? rows : columns;
    const Range other = about_rows ? columns : rows;
    const auto limit = [&](Index i) { return balls_.limit(i); };
    const std::vector<Element>& pairs = screen.select(about, {0, length(rows)}, {0, length(columns)}, 1, limit);
    const PairsByRow by_row(pairs, about_rows, length(own));
    const Index threads = by_row.threads();
    const Index pieces = std::min(threads == 1 ? Index{1} : 4 * threads, length(own));
    std::vector<std::vector<char>> found(static_cast<std::size_t>(pieces));  // for each rule, rows of `other`
    parallel_for(pieces, threads, [&](Index piece) {
      std::vector<char>& here = found[static_cast<std::size_t>(piece)];
      here.assign(held_.size() * static_cast<std::size_t>(length(other)), '\0');
      for (Index i = length(own) * piece / pieces; i < length(own) * (piece + 1) / pieces; ++i) {
        add_row(screen, by_row, about_rows, i, own.first + i, other, each_once, here);
      }
    });
    for (const std::vector<char>& here : found) {
      for (std::size_t p = 0; p < here.size(); ++p) {
        const std::size_t width = static_cast<std::size_t>(length(other));
        if (here[p] != 0) held_[p / width][static_cast<std::size_t>(other.first) + p % width] = 1;
      }
    }
  }

  /// Share of the other set that is in at least one ball.
  double share_held(std::size_t r) const {
    Index total = 0;
    for (std::size_t j = 0; j < held_[r].size(); ++j) total += held_[r][j] != 0 ? others_.times()[j] : 0;
    return static_cast<double>(total) / static_cast<double>(others_.total());
  }
  /// Share of the balls that hold at least one row.
  double share_filled(std::size_t r) const {
    Index total = 0;
    for (std::size_t i = 0; i < counts_[r].size(); ++i) total += counts_[r][i] > 0 ? owners_.times()[i] : 0;
    return static_cast<double>(total) / static_cast<double>(owners_.total());
  }
  /// Number of pairs of a ball and a row in it.
  Index pairs(std::size_t r) const {
    Index total = 0;
    for (std::size_t i = 0; i < counts_[r].size(); ++i) total += counts_[r][i] * owners_.times()[i];
    return total;
  }

 private:
  template <class T>
  void add_row(const Screen<Device, T>& screen, const PairsByRow& by_row, bool about_rows, Index i, Index owner,
               Range other, bool each_once, std::vector<char>& here) {
    const auto width = static_cast<std::size_t>(length(other));
    const auto other_of = [&](const Element& pair) { return about_rows ? pair.column : pair.row; };
    const auto needless = [&](Index j) {
      return each_once && std::all_of(held_.begin(), held_.end(), [&](const std::vector<char>& held) {
               return held[static_cast<std::size_t>(other.first + j)] != 0;
             });
    };
    std::vector<Index> open;
    by_row.visit(i, [&](const Element& pair) {
      if (!needless(other_of(pair)) && balls_.undecided(owner, screen.squared_distance(pair))) {
        open.push_back(other.first + other_of(pair));
      }
    });
    std::vector<double> measured;
    if (!open.empty()) others_.squared_distances(owners_, &owner, 1, 1.0, open, measured);
    std::size_t next = 0;  // of `open`
    by_row.visit(i, [&](const Element& pair) {
      const Index j = other_of(pair);
      Interval distance = screen.squared_distance(pair);
      if (next < open.size() && open[next] == other.first + j) {
        distance = {measured[next], measured[next]};
        ++next;
      }
      for (std::size_t r = 0; r < held_.size(); ++r) {
        if (!balls_.holds(r, owner, distance)) continue;
        counts_[r][static_cast<std::size_t>(owner)] += others_.times()[static_cast<std::size_t>(other.first + j)];
        here[r * width + static_cast<std::size_t>(j)] = 1;
      }
    });
  }

  const RowSet<Device>& owners_;
  const Balls& balls_;
  const RowSet<Device>& others_;
  std::vector<std::vector<Index>> counts_;  // for each rule, (owners,) number of rows in the ball
  std::vector<std::vector<char>> held_;     // for each rule, (others,) whether a ball holds the row
};

/// Computes the metrics from the balls of both sets.
template <class Device, class T>
std::vector<ManifoldMetrics> count_held(const RowSet<Device>& reference, const Balls& of_reference,
                                        const RowSet<Device>& samples, const Balls& of_samples,
                                        Screen<Device, T>& screen) {
  using About = typename Screen<Device, T>::About;
  Held<Device> in_reference(reference, of_reference, samples);
  Held<Device> in_samples(samples, of_samples, reference);
  for (const Range rows : reference.blocks(screen.row_block())) {
    screen.load_rows(reference, rows);
    for (const Range columns : samples.blocks(screen.column_block())) {
      screen.load_columns(samples, columns);
      check_interrupt();
      screen.multiply(length(rows));
      in_reference.add(screen, About::kRows, rows, columns, false);
      if (!of_samples.rules.empty()) in_samples.add(screen, About::kColumns, rows, columns, true);
    }
  }
  std::size_t with_recall = 0;
  std::vector<ManifoldMetrics> metrics;
  for (std::size_t r = 0; r < of_reference.rules.size(); ++r) {
    const BallRule& rule = of_reference.rules[r];
    const double pairs = static_cast<double>(in_reference.pairs(r));
    metrics.push_back({in_reference.share_held(r), rule.recall ? in_samples.share_held(with_recall++) : 0.0,
                       pairs / (static_cast<double>(rule.k) * static_cast<double>(samples.total())),
                       in_reference.share_filled(r)});
  }
  return metrics;
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

}  // namespace detail

/// Metrics for each rule, in one pass over samples (m, dim) and reference (n, dim).
template <class Device>
std::vector<ManifoldMetrics> manifold_metrics(const AnyFeatures& sample_rows, const AnyFeatures& reference_rows,
                                              const std::vector<BallRule>& rules) {
  detail::require_sets(sample_rows, reference_rows);
  RowSet<Device> reference(reference_rows, "reference");
  RowSet<Device> samples(sample_rows, "samples");
  std::vector<BallRule> with_recall;
  std::vector<Index> ks;
  std::vector<Index> ks_of_samples;
  for (const BallRule& rule : rules) {
    detail::require_neighbours(rule.k, reference.total(), "reference");
    ks.push_back(rule.k);
    if (!rule.recall) continue;
    detail::require_neighbours(rule.k, samples.total(), "samples");
    ks_of_samples.push_back(rule.k);
    with_recall.push_back(rule);
  }
  const Frame<Device> frame = frame_of(reference, samples);
  reference.place(frame);
  samples.place(frame);
  reference.find_clusters();
  samples.find_clusters();
  return detail::with_screen(reference, samples, [&](auto& screen) {
    const auto balls_of = [&](const RowSet<Device>& set, const std::vector<BallRule>& its_rules,
                              const std::vector<Index>& its_ks) {
      const bool empty = its_rules.empty();
      const std::vector<Index> times = set.has_repeated() && !empty ? set.times() : std::vector<Index>{};
      Nearest nearest(empty ? 0 : set.size(), its_ks, times, times);
      if (!empty) detail::find_within(set, screen, nearest);
      return detail::Balls(its_rules, nearest, empty ? 0 : set.size());
    };
    const detail::Balls of_reference = balls_of(reference, rules, ks);
    const detail::Balls of_samples = balls_of(samples, with_recall, ks_of_samples);
    return detail::count_held(reference, of_reference, samples, of_samples, screen);
  });
}

/// Mean of 1 - max |cos| to the rows of the other set, over samples (m, dim) or over reference (n, dim). Zero rows are
/// left out of both sets.
template <class Device>
double mean_nearest_cosine_distance(const AnyFeatures& sample_rows, const AnyFeatures& reference_rows,
                                    bool over_samples) {
  detail::require_sets(sample_rows, reference_rows);
  const Frame<Device> frame{
      0, Vector<Device>::zeros(std::visit([](const auto& view) { return view.dim; }, reference_rows))};
  std::vector<RowSet<Device>> sets;
  sets.emplace_back(sample_rows, "samples");
  sets.emplace_back(reference_rows, "reference");
  for (RowSet<Device>& set : sets) set.normalize(frame);
  const RowSet<Device>& mine = sets[over_samples ? 0 : 1];
  const RowSet<Device>& others = sets[over_samples ? 1 : 0];
  return detail::with_screen(mine, others, [&](auto& screen) {
    Nearest nearest(mine.size(), {1}, {}, {});
    detail::find_nearest_line(mine, others, screen, nearest);
    double sum = 0;
    Index count = 0;
    for (Index i = 0; i < mine.size(); ++i) {
      if (mine.norms()[static_cast<std::size_t>(i)] == 0) continue;
      const Index times = mine.times()[static_cast<std::size_t>(i)];
      sum += static_cast<double>(times) * (nearest.distance(i, 0) / 2);  // |x - y|^2 = 2 - 2 cos for unit rows
      count += times;
    }
    return sum / static_cast<double>(count);
  });
}

}  // namespace fidfast
