// Changes of several moments in one call: all of them change or, if it throws, none.
#pragma once

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <numeric>
#include <utility>
#include <vector>

#include "core/errors.hpp"
#include "core/gather.hpp"
#include "core/interrupt.hpp"
#include "core/matrix.hpp"
#include "core/moments/moments.hpp"
#include "core/moments/state.hpp"

namespace fidfast {

template <class Device>
struct MomentsTogether {
  using M = Moments<Device>;

  /// Adds the next counts[i] rows of features to all[i], and calls enqueued() as Moments::update does. Without counts,
  /// the rows are distributed evenly; the first of them go to the moments with the fewest.
  template <class S, class Enqueued>
  static void update(std::vector<M*> all, std::vector<Index> counts, const FeatureView<S>& features,
                     Enqueued enqueued) {
    for (const M* moments : all) moments->require_columns(features.dim);
    require_squarable<Device>(features);
    if (counts.empty()) counts = distribute(all, features.n);
    if (counts.size() != all.size() || std::accumulate(counts.begin(), counts.end(), Index{0}) != features.n) {
      throw InvalidInput("the counts of an update do not match its rows");
    }
    const auto for_each = [&](const auto& work) {
      Index first = 0;
      for (std::size_t i = 0; i < all.size(); ++i) {
        work(*all[i], features.rows(first, counts[i]));
        first += counts[i];
      }
    };
    if constexpr (Device::kAsynchronous) {
      const NoInterrupts complete;
      for_each([](M& moments, const FeatureView<S>& rows) { moments.update(rows); });
      enqueued();
    } else {
      const Locks locks = lock(all);
      double multiplications = 0;
      for_each([&](M& moments, const FeatureView<S>& rows) {
        const bool keep = moments.rows_suffice(rows.n);
        const double dim = static_cast<double>(rows.dim);
        moments.template prepare<S>(rows.n, keep);
        if (!moments.template folds<S>(rows.n, keep)) return;
        multiplications +=
            static_cast<double>(moments.state_.num_samples() - moments.state_.count + rows.n) * dim * dim;
      });
      const auto take = [&] {
        for_each([](M& moments, const FeatureView<S>& rows) { moments.take(rows, moments.rows_suffice(rows.n)); });
      };
      if (multiplications < M::kShort) {
        const NoInterrupts complete;
        return take();
      }
      std::vector<MomentsState<Device>> before;
      before.reserve(all.size());
      for (const M* moments : all) before.push_back(moments->state_);
      try {
        take();
      } catch (...) {
        for (std::size_t i = 0; i < all.size(); ++i) all[i]->state_ = std::move(before[i]);
        throw;
      }
    }
  }

  /// Exchanges the rows of a[i] and b[i].
  static void exchange(const std::vector<M*>& a, const std::vector<M*>& b) {
    std::vector<M*> all = a;
    all.insert(all.end(), b.begin(), b.end());
    const Locks locks = lock(all);
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (a.size() != b.size() || a[i]->dim_ != b[i]->dim_ || a[i]->precision_ != b[i]->precision_) {
        throw InvalidInput("moments of different kinds cannot be exchanged");
      }
    }
    for (const M* moments : all) moments->watch_.settle(moments->state_);
    for (std::size_t i = 0; i < a.size(); ++i) std::swap(a[i]->state_, b[i]->state_);
  }

 private:
  using Locks = std::vector<std::unique_lock<ObjectMutex>>;

  /// Locks all, in the order of their addresses, so that threads cannot deadlock.
  static Locks lock(std::vector<M*> all) {
    std::sort(all.begin(), all.end());
    if (std::adjacent_find(all.begin(), all.end()) != all.end()) throw InvalidInput("the same moments twice");
    Locks locks;
    locks.reserve(all.size());
    for (const M* moments : all) locks.emplace_back(moments->mutex_);
    return locks;
  }

  /// Sorts the moments by their numbers of samples, and returns how many of n more rows each gets.
  static std::vector<Index> distribute(std::vector<M*>& all, Index n) {
    std::vector<std::pair<Index, M*>> sorted;
    sorted.reserve(all.size());
    for (M* moments : all) sorted.emplace_back(moments->num_samples(), moments);
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    const auto size = static_cast<Index>(all.size());
    std::vector<Index> counts;
    counts.reserve(all.size());
    for (Index i = 0; i < size; ++i) {
      all[static_cast<std::size_t>(i)] = sorted[static_cast<std::size_t>(i)].second;
      counts.push_back(n / size + (i < n % size ? 1 : 0));
    }
    return counts;
  }
};

}  // namespace fidfast
