// Parallel loops.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "core/interrupt.hpp"
#include "core/matrix.hpp"

namespace fidfast {

/// Processors of this machine, at most what the environment variables that limit BLAS allow.
inline Index num_threads() {
  Index result = std::max<Index>(1, std::thread::hardware_concurrency());
  for (const char* const variable : {"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"}) {
    const char* const text = std::getenv(variable);
    const Index limit = text != nullptr ? std::strtol(text, nullptr, 10) : 0;
    if (limit > 0) result = std::min(result, limit);
  }
  return result;
}

namespace detail {

/// A reference to the work of a loop.
struct WorkReference {
  void (*call)(const void* work, Index i);
  const void* work;
};

/// parallel_for(), compiled once for all loops of a source file.
inline void run_parallel(Index count, Index threads, WorkReference work) {
  std::atomic<Index> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto take_pieces = [&]() noexcept {
    try {
      for (;;) {
        check_interrupt();  // before taking a piece: other pieces may wait for one that was taken
        const Index i = next++;
        if (i >= count) break;
        work.call(work.work, i);
      }
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
      next = count;
    }
  };
  const Index others = std::min(threads, count) - 1;
  std::vector<std::thread> helpers;
  if (others > 0) helpers.reserve(static_cast<std::size_t>(others));
  Call* const call = current_call.call;
  for (Index i = 0; i < others; ++i) {
    try {
      helpers.emplace_back([&, call]() noexcept {
        const WorkFor caller(call);
        take_pieces();
      });
    } catch (const std::exception&) {  // no thread or no memory left: the running threads do the rest
      break;
    }
  }
  take_pieces();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace detail

/// Calls work(i) for every i < count on at most `threads` threads, including this one. If a call throws, or the loop is
/// interrupted, the calls that have not started are skipped, and the exception is rethrown here once all threads have
/// ended.
template <class Work>
void parallel_for(Index count, Index threads, const Work& work) {
  const auto call = [](const void* each, Index i) { (*static_cast<const Work*>(each))(i); };
  detail::run_parallel(count, threads, {call, &work});
}

/// For threads that wait for each other: if the work of one throws, the others end too.
class StopOnFailure {
 public:
  template <class Work>
  void guard(const Work& work) {
    try {
      work();
    } catch (const Stopped&) {
      return;  // the other thread has the exception
    } catch (...) {
      stopped_.store(true, std::memory_order_relaxed);
      throw;
    }
  }

  /// Waits until condition() holds. Spins at first, then yields: the other thread may need this processor.
  template <class Condition>
  void wait_until(const Condition& condition) const {
    constexpr int kLooks = 1000;
    for (int looks = 0; !condition(); ++looks) {
      if (stopped_.load(std::memory_order_relaxed)) throw Stopped();
      if (looks >= kLooks) {
        std::this_thread::yield();
        continue;
      }
#if defined(__x86_64__) && defined(__GNUC__)
      __builtin_ia32_pause();
#endif
    }
  }

 private:
  struct Stopped : std::exception {};
  std::atomic<bool> stopped_{false};
};

/// Calls work(phase, i) for every i < counts[phase]. A phase starts when all calls of the previous one have returned.
/// The same threads run all phases, since a phase may take less time than starting a thread. If a call throws, or the
/// loop is interrupted, the calls that have not started are skipped.
template <class Work>
void parallel_phases(const std::vector<Index>& counts, Index threads, const Work& work) {
  const Index pieces = std::accumulate(counts.begin(), counts.end(), Index{0});
  std::atomic<Index> next{0};
  std::atomic<Index> done{0};
  StopOnFailure stop;
  parallel_for(std::min(threads, pieces), threads, [&](Index) {
    stop.guard([&] {
      Index first = 0;
      for (std::size_t phase = 0; phase < counts.size(); ++phase) {
        const Index last = first + counts[phase];
        // Take no piece before it can start: a thread that was descheduled meanwhile would hold up the others.
        stop.wait_until([&] { return done.load(std::memory_order_acquire) >= first; });
        for (Index piece = next; piece < last; piece = next) {
          if (!next.compare_exchange_strong(piece, piece + 1)) continue;
          check_interrupt();
          work(static_cast<Index>(phase), piece - first);
          done.fetch_add(1, std::memory_order_release);
        }
        first = last;
      }
    });
  });
}

}  // namespace fidfast
