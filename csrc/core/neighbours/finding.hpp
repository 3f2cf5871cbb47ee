// Finds the nearest neighbours of rows with a Screen, and measures the rows that it does not decide against all rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "core/backend.hpp"
#include "core/matrix.hpp"
#include "core/neighbours/row_set.hpp"
#include "core/neighbours/search.hpp"
#include "core/parallel.hpp"

namespace fidfast::detail {

/// Calls work(screen) with a screen of 16-bit integers or float32, whichever suits most rows, and returns its result.
template <class Device, class Work>
auto with_screen(const RowSet<Device>& one, const RowSet<Device>& other, Work work) {
  constexpr double kLevels = 32768;
  constexpr double kShare = 1.0 / 512;      // of a typical norm: squared distances have a relative error of about 1 %
  constexpr double kReach = 0x1p40;         // times a typical norm: products do not underflow in float32
  constexpr double kMostBeyond = 1.0 / 64;  // of the rows
  std::vector<double> norms = one.norms();
  norms.insert(norms.end(), other.norms().begin(), other.norms().end());
  const double typical = median_of_positive(norms);
  const auto farthest = [&](double reach) {
    double result = 0;
    for (const double norm : norms) result = norm <= reach ? std::max(result, norm) : result;
    return result;
  };
  const Index n = std::max(one.size(), other.size());
  if (RowOps<Device>::has_integer_products() && !one.has_clusters() && !other.has_clusters()) {
    // All rows share one scaling, so a distant row would make it coarse.
    const double reach = kShare * typical * kLevels / std::sqrt(static_cast<double>(one.dim()) / 12);
    const auto beyond = std::count_if(norms.begin(), norms.end(), [=](double norm) { return norm > reach; });
    if (typical > 0 && static_cast<double>(beyond) <= kMostBeyond * static_cast<double>(norms.size())) {
      Screen<Device, std::int16_t> screen(one.dim(), farthest(reach), reach, n);
      return work(screen);
    }
  }
  const double reach = kReach * typical;
  Screen<Device, float> screen(one.dim(), farthest(reach), reach, n);
  return work(screen);
}

/// Selected pairs, grouped by the row that they are about.
class PairsByRow {
 public:
  PairsByRow(const std::vector<Element>& pairs, bool about_rows, Index n)
      : pairs_(pairs), ends_(static_cast<std::size_t>(n) + 1, 0), order_(pairs.size()) {
    const auto row_of = [&](const Element& pair) {
      return static_cast<std::size_t>(about_rows ? pair.row : pair.column);
    };
    for (const Element& pair : pairs) ++ends_[row_of(pair) + 1];
    std::partial_sum(ends_.begin(), ends_.end(), ends_.begin());
    std::vector<std::size_t> next(ends_.begin(), ends_.end() - 1);
    for (std::size_t p = 0; p < pairs.size(); ++p) order_[next[row_of(pairs[p])]++] = p;
  }

  template <class Visit>
  void visit(Index row, Visit visit) const {
    for (std::size_t p = ends_[static_cast<std::size_t>(row)]; p < ends_[static_cast<std::size_t>(row) + 1]; ++p) {
      visit(pairs_[order_[p]]);
    }
  }

  /// Threads worth starting.
  Index threads() const {
    constexpr std::size_t kFew = 2048;
    return pairs_.size() < kFew ? 1 : num_threads();
  }

 private:
  const std::vector<Element>& pairs_;
  std::vector<std::size_t> ends_;   // (n + 1,)
  std::vector<std::size_t> order_;  // (pairs,)
};

/// Measured pairs for each row before it is measured against all rows, which takes less time for each pair.
inline Index allowed_pairs(Index k, Index others) { return 64 + 4 * k + others / 8; }

/// Nearest::decide for row i of `mine`, whose candidates are rows of `others`.
template <class Device>
void decide(Nearest& nearest, Index i, const RowSet<Device>& mine, const RowSet<Device>& others) {
  nearest.decide(i, allowed_pairs(nearest.k(), others.size()),
                 [&](const std::vector<Index>& rows, double sign, std::vector<double>& distances) {
                   others.squared_distances(mine, &i, 1, sign, rows, distances);
                 });
}

/// Offers each row of the tile (of its columns, if `about` says so) the rows of the other axis as candidates. `seen`:
/// number of candidates that each row has been offered before. The first batches are small, so that the limits
/// decrease before many candidates have to be examined.
template <class Device, class T, class Skip>
void offer(Screen<Device, T>& screen, Nearest& nearest, const RowSet<Device>& mine, const RowSet<Device>& candidates,
           typename Screen<Device, T>::About about, Range rows, Range columns, Index first_row, Index first_column,
           Index seen, double sign, Skip skip) {
  constexpr Index kPiece = 32;  // rows
  const bool about_rows = about == Screen<Device, T>::About::kRows;
  const Range others = about_rows ? columns : rows;
  const Range own = about_rows ? rows : columns;
  const Index own_first = about_rows ? first_row : first_column;
  const Index other_first = about_rows ? first_column : first_row;
  for (Index first = others.first; first < others.last;) {
    const Index count = std::max({seen, 2 * nearest.k(), Index{32}});
    const Range part = {first, std::min(first + count, others.last)};
    const auto limit = [&](Index i) { return nearest.limit(i); };
    const auto& pairs = screen.select(about, about_rows ? rows : part, about_rows ? part : columns,
                                      static_cast<typename Screen<Device, T>::Product>(sign), limit);
    const PairsByRow by_row(pairs, about_rows, own.last);
    parallel_for((length(own) + kPiece - 1) / kPiece, by_row.threads(), [&](Index piece) {
      const Index begin = own.first + piece * kPiece;
      for (Index i = begin; i < std::min(begin + kPiece, own.last); ++i) {
        const Index row = own_first + i;
        bool offered = false;
        by_row.visit(i, [&](const Element& pair) {
          const Index other = other_first + (about_rows ? pair.column : pair.row);
          if (skip(row, other)) return;
          offered = true;
          if (nearest.offer(row, {other, sign, screen.squared_distance(pair)})) decide(nearest, row, mine, candidates);
        });
        if (offered) nearest.prune(row);
      }
    });
    seen += length(part);
    first = part.last;
  }
}

/// Stores the results of all rows: measures the candidates, and the hard rows against all rows of `others`.
template <class Device>
void finish(const RowSet<Device>& mine, const RowSet<Device>& others, Nearest& nearest, bool within) {
  constexpr Index kGroup = 16;  // rows that are measured together, while the others pass through the cache
  constexpr Index kNumbers = Index{1} << 21;  // distances of a group
  parallel_for(mine.size(), num_threads(), [&](Index i) {
    if (!nearest.hard(i)) decide(nearest, i, mine, others);
    if (!nearest.hard(i)) nearest.finish(i);
  });
  std::vector<Index> hard;
  for (Index i = 0; i < mine.size(); ++i) {
    if (nearest.hard(i)) hard.push_back(i);
  }
  std::vector<Index> all;
  for (Index j = 0; j < others.size(); ++j) {
    if (within || others.norms()[static_cast<std::size_t>(j)] > 0) all.push_back(j);
  }
  const Index group = std::clamp(kNumbers / std::max<Index>(1, others.size()), Index{1}, kGroup);
  const auto width = static_cast<Index>(all.size());
  parallel_for((static_cast<Index>(hard.size()) + group - 1) / group, num_threads(), [&](Index piece) {
    const Index* const own = hard.data() + piece * group;
    const Index count = std::min(group, static_cast<Index>(hard.size()) - piece * group);
    std::vector<double> distances;
    others.squared_distances(mine, own, count, 1.0, all, distances);
    if (!within) {
      std::vector<double> negated;
      others.squared_distances(mine, own, count, -1.0, all, negated);
      for (std::size_t p = 0; p < distances.size(); ++p) distances[p] = std::min(distances[p], negated[p]);
    }
    for (Index c = 0; c < count; ++c) {
      nearest.finish_from(own[c], distances.data() + c * width, width, within ? own[c] : -1);
    }
  });
}

/// Finds the k nearest neighbours of every row within its own set.
template <class Device, class T>
void find_within(const RowSet<Device>& set, Screen<Device, T>& screen, Nearest& nearest) {
  using About = typename Screen<Device, T>::About;
  const Index n = set.size();
  const bool fits = Nearest::fits(n, nearest.k());
  for (Index i = 0; i < n; ++i) {
    const bool beyond = !set.has_clusters() && screen.beyond(set.norms()[static_cast<std::size_t>(i)]);
    if (!fits || beyond) nearest.set_hard(i);
  }
  const auto itself = [](Index own, Index other) { return own == other; };
  const auto offer_tile = [&](About about, Range rows, Range columns, Index first_row, Index first_column, Index seen) {
    offer(screen, nearest, set, set, about, rows, columns, first_row, first_column, seen, 1.0, itself);
  };
  const std::vector<Range> row_blocks = fits ? set.blocks(screen.row_block()) : std::vector<Range>{};
  const std::vector<Range> column_blocks = set.blocks(screen.column_block());  // divide the blocks of rows
  // Rows of other clusters come last, when they are nearly always too far.
  const auto search = [&](const Range rows, bool together) {
    screen.load_rows(set, rows);
    for (const Range columns : column_blocks) {
      const Index i = rows.first;
      const Index j = columns.first;
      if (j < i || set.together(i, j) != together) continue;
      screen.load_columns(set, columns);
      const Index before = std::min(j, rows.last) - i;          // rows that precede the columns
      const Index all = std::min(columns.last, rows.last) - i;  // and rows that are among the columns
      screen.multiply(all);
      const Range width = {0, length(columns)};
      offer_tile(About::kColumns, {0, before}, width, i, j, i);
      offer_tile(About::kRows, {before, all}, width, i, j, j);
      offer_tile(About::kRows, {0, before}, width, i, j, j);
    }
  };
  for (const Range rows : row_blocks) search(rows, true);
  for (const Range rows : row_blocks) {
    if (set.has_clusters()) search(rows, false);
  }
  finish(set, set, nearest, true);
}

/// Finds for every row of `mine` the nearest of +-`others`, all of length 1. Zero rows are skipped.
template <class Device, class T>
void find_nearest_line(const RowSet<Device>& mine, const RowSet<Device>& others, Screen<Device, T>& screen,
                       Nearest& nearest) {
  using About = typename Screen<Device, T>::About;
  const auto zero = [&](Index own, Index other) {
    return mine.norms()[static_cast<std::size_t>(own)] == 0 || others.norms()[static_cast<std::size_t>(other)] == 0;
  };
  for (const Range rows : mine.blocks(screen.row_block())) {
    screen.load_rows(mine, rows);
    for (const Range columns : others.blocks(screen.column_block())) {
      const Index i = rows.first;
      const Index j = columns.first;
      screen.load_columns(others, columns);
      screen.multiply(length(rows));
      for (const double sign : {1.0, -1.0}) {
        offer(screen, nearest, mine, others, About::kRows, {0, length(rows)}, {0, length(columns)}, i, j, j, sign,
              zero);
      }
    }
  }
  finish(mine, others, nearest, false);
}

}  // namespace fidfast::detail
