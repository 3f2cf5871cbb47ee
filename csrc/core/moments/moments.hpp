// Count, mean and scatter of a stream of features. States can be merged and unmerged.
//
// Uses the updating formulas of Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
// variances" (1979), with the mean in double-double arithmetic. Rows are pending until there are enough for a symmetric
// rank-k update of a whole block. While n <= dim the rows are kept instead: their covariance has at most n - 1 nonzero
// eigenvalues, which the rows determine to full accuracy and the covariance matrix does not.
//
// Device::Watch keeps NaN, infinity and numbers above kLargestFeature out:
//   inspect(features, state)   called before rows are added; the result is kept alive until they are. The CPU throws
//                              InvalidInput here. On an asynchronous device the batch and all later ones have no
//                              effect.
//   settle(state)              called before the state is read. Throws InvalidInput if an asynchronous device has found
//                              such numbers; the counts are then those before that batch.
//   forget(state)              like settle, but throws nothing.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/gather.hpp"
#include "core/gaussian.hpp"
#include "core/interrupt.hpp"
#include "core/matrix.hpp"
#include "core/moments/fold.hpp"
#include "core/moments/remainder.hpp"
#include "core/moments/state.hpp"
#include "core/moments/workspace.hpp"

namespace fidfast {

template <class Device>
struct MomentsTogether;

/// Thread-safe: each call holds the object's lock.
template <class Device>
class Moments {
 public:
  using State = MomentsState<Device>;

  Moments(Index dim, Precision precision) : dim_(dim), precision_(precision) {
    if (dim < 1) throw InvalidInput("dim must be at least 1, got " + std::to_string(dim));
    clear();
  }
  explicit Moments(State state) : dim_(state.dim), precision_(state.precision), state_(std::move(state)) {
    if constexpr (Device::kAsynchronous) reserve_all();
  }
  Moments(const Moments& other) : Moments(other.state()) {}

  Index dim() const { return dim_; }
  Precision precision() const { return precision_; }
  int device() const { return device_; }
  Index num_samples() const {
    return locked([&] { return state_.num_samples(); });
  }
  State state() const {
    return locked([&] {
      watch_.settle(state_);
      return state_;
    });
  }

  /// Adds the rows of features (n, dim). If they hold NaN, infinity or a number above kLargestFeature, throws and
  /// changes nothing; an asynchronous device throws at a later call (see Watch).
  template <class S>
  void update(const FeatureView<S>& features) {
    update(features, [] {});
  }
  /// Calls enqueued() once all work that reads the features is enqueued. If it throws, the update has no effect.
  template <class S, class Enqueued>
  void update(const FeatureView<S>& features, Enqueued enqueued) {
    require_columns(features.dim);
    locked([&] {
      [[maybe_unused]] const auto watched = watch_.inspect(features, state_);
      const bool keep = rows_suffice(features.n);
      prepare<S>(features.n, keep);
      all_or_nothing(features.n, folds<S>(features.n, keep), [&] {
        take(features, keep);
        enqueued();
      });
    });
  }

  /// Adds the rows of `other`.
  void merge(const Moments& other) {
    if (&other == this) return merge(Moments(other));
    require_same_dim(other, "merge");
    const std::scoped_lock both(mutex_, other.mutex_);
    watch_.settle(state_);
    other.watch_.settle(other.state_);
    const State& theirs = other.state_;
    const bool keep = theirs.count == 0 && rows_suffice(theirs.num_samples());
    // Allocate everything first: after that nothing can fail on the CPU, so a failed merge changes nothing.
    prepare<float>(theirs.narrow.count, keep);
    prepare<double>(theirs.wide.count, keep);
    if (theirs.count > 0) make_foldable();
    state_.reserve_errors(theirs);
    State before;
    if constexpr (Device::kAsynchronous) before = state_;
    const NoInterrupts complete;
    try {
      if (theirs.count > 0) merge_folded(theirs);
      take(theirs.narrow.features(0, theirs.narrow.count), keep);
      take(theirs.wide.features(0, theirs.wide.count), keep);
    } catch (...) {
      if constexpr (Device::kAsynchronous) state_ = std::move(before);
      throw;
    }
  }

  /// Removes the rows of `other`: the inverse of merge, for sliding windows and leaving blocks out.
  void unmerge(const Moments& other) {
    if (&other == this) return reset();
    require_same_dim(other, "unmerge");
    const std::scoped_lock both(mutex_, other.mutex_);
    watch_.settle(state_);
    other.watch_.settle(other.state_);
    const Index n = state_.num_samples();
    const Index gone = other.state_.num_samples();
    if (gone > n) {
      throw InvalidInput("cannot unmerge " + std::to_string(gone) + " samples from moments of " + std::to_string(n));
    }
    if (gone == 0 || unmerge_pending(other.state_)) return;

    State whole = folded(state_);
    const State part = folded(other.state_);
    whole.reserve_errors(part);
    whole.add_errors(part);  // independent, unless all blocks are the same
    Vector<Device> d(dim());
    MatrixOps<Device>::difference(part.mean, whole.mean, d);
    const std::vector<double> before = MatrixOps<Device>::diagonal(whole.scatter);
    // Without rows left, the means must be equal.
    const double ratio = gone < n ? static_cast<double>(gone) / static_cast<double>(n - gone) : 1.0;
    MatrixOps<Device>::add_symmetric(whole.scatter, -1.0, part.scatter, -ratio * static_cast<double>(n), d);
    MatrixOps<Device>::advance(whole.mean, -ratio, d);
    whole.count = n - gone;
    require_remainder(whole, before, n, ratio * static_cast<double>(n));
    if (gone == n) return clear();
    state_ = std::move(whole);
  }

  void reset() {
    locked([&] { clear(); });
  }

  /// Gaussian with the mean, and with scatter / (num_samples - ddof) as covariance.
  Gaussian<Device> stats(Index ddof) const {
    return locked([&] {
      watch_.settle(state_);
      const Index n = state_.num_samples();
      if (n < 2) throw InvalidInput("a covariance needs at least 2 samples, got " + std::to_string(n));
      if (ddof < 0 || ddof >= n) {
        throw InvalidInput("ddof must be from 0 to num_samples - 1 = " + std::to_string(n - 1) + ", got " +
                           std::to_string(ddof));
      }
      const double divisor = static_cast<double>(n - ddof);
      if (state_.count == 0 && n <= dim()) return stats_of_rows(n, divisor);
      State all = folded(state_);
      std::vector<double> errors = all.product_errors(divisor);
      MatrixOps<Device>::mirror_lower(all.scatter, 1.0 / divisor);
      Gaussian<Device> result(std::move(all.mean.high), std::move(all.scatter), n, std::move(errors));
      for (const double variance : result.variances()) {  // of more than 2^16 rows near kLargestFeature
        if (!std::isfinite(variance)) throw InvalidInput("the covariance of the features leaves the range of float64");
      }
      return result;
    });
  }

 private:
  friend struct MomentsTogether<Device>;

  static constexpr Index kBlock = kMomentsBlock;
  /// Multiplications of an update that is not interrupted: about half a second. A longer one copies the state first,
  /// which then takes less than 2 % of the time.
  static constexpr double kShort = 3e10;
  using Workspace = MomentsWorkspace<Device>;

  template <class Work>
  auto locked(Work work) const {
    const std::lock_guard<ObjectMutex> lock(mutex_);
    return work();
  }

  template <class S>
  auto& pending() {
    if constexpr (std::is_same_v<S, double>) return state_.wide;
    if constexpr (!std::is_same_v<S, double>) return state_.narrow;
  }

  bool rows_suffice(Index more) const { return state_.count == 0 && state_.num_samples() + more <= dim(); }

  /// Whether adding n rows of S folds a block.
  template <class S>
  bool folds(Index n, bool keep) {
    return !keep && n > 0 && (are_whole_blocks(pending<S>().count) || pending<S>().count % kBlock + n >= kBlock);
  }

  /// Allocates what adding n rows of S may need, so that take() cannot fail on the CPU.
  template <class S>
  void prepare(Index n, bool keep) {
    auto& rows = pending<S>();
    const Index total = rows.count + n;
    rows.reserve(dim(), keep ? total : std::min(total, in_whole_blocks(rows.count)));
    if (folds<S>(n, keep)) make_foldable();
  }

  /// Allocates all that is ever needed: an asynchronous update must not wait for an allocation.
  void reserve_all() {
    state_.narrow.reserve(dim(), in_whole_blocks(dim()));
    state_.wide.reserve(dim(), in_whole_blocks(dim()));
    make_foldable();
    work_.make_spare(dim(), narrow_is_float(state_, true));
  }

  /// Calls work(), and restores the state if it throws. Once memory is allocated only an interrupt can do so on the
  /// CPU, but any call to a GPU may fail: so folds go to a copy, and pending rows are overwritten by the last call
  /// only.
  template <class Work>
  void all_or_nothing(Index n, bool folds, Work work) {
    if constexpr (!Device::kAsynchronous) {
      const double dim = static_cast<double>(dim_);
      if (!folds || static_cast<double>(n) * dim * dim < kShort) {
        const NoInterrupts complete;
        return work();
      }
      const RowCounts before = state_.counts();
      const Mean<Device> mean = state_.mean;
      const Matrix<Device> scatter = state_.scatter;
      const Vector<Device> errors = state_.errors;
      try {
        work();
      } catch (...) {
        const NoInterrupts complete;
        state_.mean.copy_numbers(mean);
        state_.scatter.copy_numbers(scatter);
        state_.errors.copy_numbers(errors);
        state_.set_counts(before);
        throw;
      }
    } else {
      const RowCounts before = state_.counts();
      const auto exchange = [&] {
        std::swap(state_.mean, work_.spare_mean);
        std::swap(state_.scatter, work_.spare_scatter);
        if (!work_.spare_errors.empty()) std::swap(state_.errors, work_.spare_errors);
      };
      if (folds) {
        work_.spare_mean.copy_numbers(state_.mean);
        work_.spare_scatter.copy_numbers(state_.scatter);
        if (!work_.spare_errors.empty()) work_.spare_errors.copy_numbers(state_.errors);
        exchange();
      }
      try {
        work();
      } catch (...) {
        if (folds) exchange();
        state_.set_counts(before);
        throw;
      }
    }
  }

  void make_foldable() { work_.make_foldable(state_, narrow_is_float(state_, true)); }

  /// Adds rows after prepare(). Whole blocks are folded from the caller's memory, other rows become pending. A block
  /// begins at a multiple of kBlock rows of S, however they are divided into calls: so is the result, in every bit.
  template <class S>
  void take(const FeatureView<S>& features, bool keep) {
    auto& rows = pending<S>();
    if (keep) return rows.append(features);
    for (Index first = 0; first < features.n;) {
      check_interrupt();
      if (are_whole_blocks(rows.count)) fold_pending(state_, work_, rows);
      const Index n = std::min(kBlock - rows.count % kBlock, features.n - first);
      if (n == kBlock) {
        fold_block(state_, work_, features.rows(first, n), sizeof(S) == 2);
      } else {
        rows.append(features.rows(first, n));
        if (are_whole_blocks(rows.count)) fold_pending(state_, work_, rows);
      }
      first += n;
    }
  }

  static bool are_whole_blocks(Index rows) { return rows > 0 && rows % kBlock == 0; }
  /// The least number of rows, at least one block, that has room for `rows` in whole blocks.
  static Index in_whole_blocks(Index rows) { return std::max<Index>((rows + kBlock - 1) / kBlock, 1) * kBlock; }

  template <class T>
  static void fold_pending(State& state, Workspace& work, PendingRows<Device, T>& rows) {
    for (Index first = 0; first < rows.count; first += kBlock) {
      fold_block(state, work, rows.features(first, std::min(kBlock, rows.count - first)), rows.all_16_bit);
    }
    rows.count = 0;
  }

  void merge_folded(const State& theirs) {
    if (state_.count == 0) state_.mean.copy_numbers(theirs.mean);
    MatrixOps<Device>::difference(theirs.mean, state_.mean, work_.d);
    const double n = static_cast<double>(theirs.count);
    const double share = n / (static_cast<double>(state_.count) + n);
    MatrixOps<Device>::add_symmetric(state_.scatter, 1.0, theirs.scatter, static_cast<double>(state_.count) * share,
                                     work_.d);
    state_.add_errors(theirs);
    MatrixOps<Device>::advance(state_.mean, share, work_.d);
    state_.count += theirs.count;
  }

  /// A copy with all pending rows folded.
  State folded(const State& state) const {
    State all = state;
    if (all.narrow.count + all.wide.count == 0) return all;
    work_.make_foldable(all, narrow_is_float(all, true));
    fold_pending(all, work_, all.narrow);
    fold_pending(all, work_, all.wide);
    return all;
  }

  Gaussian<Device> stats_of_rows(Index n, double divisor) const {
    Matrix<Device> rows(dim(), n);
    if (state_.narrow.count > 0) RowOps<Device>::append(state_.narrow.features(0, state_.narrow.count), rows, 0);
    if (state_.wide.count > 0) {
      RowOps<Device>::append(state_.wide.features(0, state_.wide.count), rows, state_.narrow.count);
    }
    Mean<Device> mean = Mean<Device>::zeros(dim());
    RowOps<Device>::mean(columns_as_features(rows, 0, n), mean);
    Matrix<Device> factor = MatrixOps<Device>::drop_mean_direction(std::move(rows), mean);
    MatrixOps<Device>::scale(factor, 1.0 / std::sqrt(divisor));
    return Gaussian<Device>::from_factor(std::move(mean.high), std::move(factor), n);
  }

  /// Removes rows that are all pending here, without rounding. Returns false if they are not; throws if no row is
  /// folded and one of them was never added.
  bool unmerge_pending(const State& part) {
    if (part.count > 0) return false;
    const auto narrow = state_.narrow.find(part.narrow);
    const auto wide = state_.wide.find(part.wide);
    if (!narrow || !wide) {
      // Rows of float32 may have been added as float64.
      const bool one_type = (state_.narrow.count + part.narrow.count) * (state_.wide.count + part.wide.count) == 0;
      if (state_.count > 0 || !one_type) return false;
      throw InvalidInput("cannot unmerge samples that were never merged: one of the rows is not among those added");
    }
    // Make both copies before assigning, so that a failure changes nothing.
    PendingRows<Device, float> narrow_rest = state_.narrow.without(*narrow);
    PendingRows<Device, double> wide_rest = state_.wide.without(*wide);
    state_.narrow = std::move(narrow_rest);
    state_.wide = std::move(wide_rest);
    return true;
  }

  void require_columns(Index columns) const {
    if (columns == dim()) return;
    throw InvalidInput("features have " + std::to_string(columns) +
                       " columns, but Moments was created with dim=" + std::to_string(dim()));
  }

  void require_same_dim(const Moments& other, const char* operation) const {
    if (other.dim() != dim()) {
      throw InvalidInput(std::string("cannot ") + operation + " moments of dim=" + std::to_string(other.dim()) +
                         " and dim=" + std::to_string(dim()));
    }
  }

  void clear() {
    watch_.forget(state_);  // first: if the rest throws, the valid rows are still there
    if (Device::kAsynchronous && !state_.scatter.empty()) {  // later updates reuse the memory
      Device::clear(state_.scatter.data(), static_cast<std::size_t>(state_.scatter.size()) * sizeof(double));
      Device::clear(state_.errors.data(), static_cast<std::size_t>(state_.errors.size()) * sizeof(double));
      return state_.set_counts({});
    }
    State empty;
    empty.dim = dim_;
    empty.precision = precision_;
    state_ = std::move(empty);
    if constexpr (Device::kAsynchronous) reserve_all();
  }

  const Index dim_;  // not read from the state, which another thread may replace
  const Precision precision_;
  const int device_ = Device::current_device();
  mutable typename Device::Watch watch_;
  mutable State state_;  // the watch may correct it in const calls
  mutable Workspace work_;
  mutable ObjectMutex mutex_;
};

}  // namespace fidfast
