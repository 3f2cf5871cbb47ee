// Pairs of rows that are too far from the centre for products: their distances are measured in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <variant>
#include <vector>

#include "core/backend.hpp"
#include "core/kernel/centred_sets.hpp"
#include "core/kernel/functions.hpp"
#include "core/matrix.hpp"
#include "core/parallel.hpp"

namespace fidfast::kernel {

/// Adds the pairs with at least one row beyond the reach to sums in which their functions are -1.
template <class Device>
class DistantPairs {
 public:
  DistantPairs(const GaussianTerms& terms, const CentredSets<Device>& centred) : terms_(terms), centred_(centred) {
    for (int k = 0; k < 2; ++k) {
      for (Index i = 0; i < centred.sets[k].n(); ++i) {
        const double square = centred.sets[k].squared_norms[static_cast<std::size_t>(i)];
        is_distant_[k].push_back(std::sqrt(square) <= terms.reach() ? '\0' : '\1');
        if (is_distant_[k].back() != 0) distant_[k].push_back(i);
      }
    }
  }

  void add(KernelSums& sums) const {
    std::vector<double>* const own[2] = {&sums.aa, &sums.bb};
    std::vector<double>* const cross[2] = {&sums.ab, &sums.ba};
    double* const squares[2] = {&sums.squares_aa, &sums.squares_bb};
    for (int k = 0; k < 2; ++k) {
      // The other rows are read once for this many distant rows, which are copied.
      const auto most = static_cast<std::size_t>(rows_of_doubles(centred_.centre.size()));
      for (std::size_t first = 0; first < distant_[k].size(); first += most) {
        const std::size_t last = std::min(first + most, distant_[k].size());
        const std::vector<Index> some(distant_[k].begin() + static_cast<std::ptrdiff_t>(first),
                                      distant_[k].begin() + static_cast<std::ptrdiff_t>(last));
        *squares[k] += 2 * add_pairs(k, some, k, *own[k], *own[k]);
        sums.squares_ab += add_pairs(k, some, 1 - k, *cross[k], *cross[1 - k]);
      }
    }
  }

 private:
  static constexpr std::size_t kGroup = 16;  // distant rows that stay in the cache
  static constexpr Index kRows = 256;        // that one thread reads

  /// Adds what the pairs of some distant rows of side k and the rows of side l lack to the sums of both sides, and
  /// returns what the sum of squares lacks.
  double add_pairs(int k, const std::vector<Index>& some, int l, std::vector<double>& of_some,
                   std::vector<double>& of_rows) const {
    std::vector<Matrix<Device>> groups;  // (dim, up to kGroup)
    const Vector<Device> origin = Vector<Device>::zeros(centred_.centre.size());
    std::vector<double> unused;
    for (std::size_t first = 0; first < some.size(); first += kGroup) {
      const std::size_t last = std::min(first + kGroup, some.size());
      const std::vector<Index> numbers(some.begin() + static_cast<std::ptrdiff_t>(first),
                                       some.begin() + static_cast<std::ptrdiff_t>(last));
      groups.emplace_back(origin.size(), static_cast<Index>(numbers.size()));
      subtract(*centred_.sets[k].rows, numbers, centred_.unit(), origin, groups.back(), unused);
    }
    const Index n = centred_.sets[l].n();
    const Index pieces = (n + kRows - 1) / kRows;
    std::vector<std::vector<double>> parts(static_cast<std::size_t>(pieces), std::vector<double>(some.size(), 0.0));
    std::vector<double> squares(parts.size(), 0.0);
    parallel_for(pieces, num_threads(), [&](Index piece) {
      const std::vector<Index> numbers = numbers_in({piece * kRows, std::min((piece + 1) * kRows, n)});
      const std::vector<double> unit(numbers.size(), centred_.unit());
      const auto own = static_cast<std::size_t>(piece);
      std::vector<double> distances;
      for (std::size_t c = 0; c < some.size(); ++c) {
        const std::size_t in_group = c % kGroup;
        if (in_group == 0) {
          const auto measure = [&](const auto& view) {
            RowOps<Device>::squared_distances(groups[c / kGroup], view, numbers, unit, distances);
          };
          std::visit(measure, centred_.sets[l].rows->features);
        }
        for (std::size_t p = 0; p < numbers.size(); ++p) {
          const auto j = static_cast<std::size_t>(numbers[p]);
          const bool both = is_distant_[l][j] != 0;  // then the pair is added once
          if (k == l ? numbers[p] == some[c] || (both && numbers[p] < some[c]) : both && l < k) continue;
          const double square = distances[in_group * numbers.size() + p];
          const double value = std::isnan(square) ? 0.0 : std::exp(-terms_.weight / 2 * square);
          parts[own][c] += value;
          of_rows[j] += value;
          squares[own] += value * (value - 2);  // the square of value - 1, less 1
        }
      }
    });
    double total = 0;
    for (std::size_t piece = 0; piece < parts.size(); ++piece) {
      for (std::size_t c = 0; c < some.size(); ++c) of_some[static_cast<std::size_t>(some[c])] += parts[piece][c];
      total += squares[piece];
    }
    return total;
  }

  const GaussianTerms& terms_;
  const CentredSets<Device>& centred_;
  std::vector<char> is_distant_[2];  // for all rows
  std::vector<Index> distant_[2];    // their numbers
};

}  // namespace fidfast::kernel
