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

/// Calls work(i) for every i < count on at most `threads` threads, including this one. If a call throws, the calls that
/// have not started are skipped, and the exception is rethrown here once all threads have ended.
template <class Work>
void parallel_for(Index count, Index threads, const Work& work) {
  std::atomic<Index> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto take_pieces = [&]() noexcept {
    for (Index i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  const Index others = std::min(threads, count) - 1;
  std::vector<std::thread> helpers;
  if (others > 0) helpers.reserve(static_cast<std::size_t>(others));
  for (Index i = 0; i < others; ++i) {
    try {
      helpers.emplace_back(take_pieces);
    } catch (const std::exception&) {  // no thread or no memory left: the running threads do the rest
      break;
    }
  }
  take_pieces();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

/// Waits until condition() holds. Spins at first, then yields: the thread that is waited for may need this processor.
template <class Condition>
void wait_until(const Condition& condition) {
  constexpr int kLooks = 1000;
  for (int looks = 0; !condition(); ++looks) {
    if (looks >= kLooks) {
      std::this_thread::yield();
      continue;
    }
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_ia32_pause();
#endif
  }
}

/// Calls work(phase, i) for every i < counts[phase]. A phase starts when all calls of the previous one have returned.
/// The same threads run all phases, since a phase may take less time than starting a thread. work must not throw.
template <class Work>
void parallel_phases(const std::vector<Index>& counts, Index threads, const Work& work) {
  const Index pieces = std::accumulate(counts.begin(), counts.end(), Index{0});
  std::atomic<Index> next{0};
  std::atomic<Index> done{0};
  parallel_for(std::min(threads, pieces), threads, [&](Index) noexcept {
    Index first = 0;
    for (std::size_t phase = 0; phase < counts.size(); ++phase) {
      const Index last = first + counts[phase];
      // Take no piece before it can start: a thread that was descheduled meanwhile would hold up the others.
      wait_until([&] { return done.load(std::memory_order_acquire) >= first; });
      for (Index piece = next; piece < last; piece = next) {
        if (!next.compare_exchange_strong(piece, piece + 1)) continue;
        work(static_cast<Index>(phase), piece - first);
        done.fetch_add(1, std::memory_order_release);
      }
      first = last;
    }
  });
}

}  // namespace fidfast
