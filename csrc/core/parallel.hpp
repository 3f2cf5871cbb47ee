// Work shared out to threads that end with it.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/matrix.hpp"

namespace fidfast {

/// work(i) for every i below count, on up to so many threads, this one among them. What one of them throws is thrown
/// here, after all have ended; pieces that had not begun by then are left out.
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
    } catch (const std::system_error&) {
      break;  // the system has no more of them: those that there are do it all
    }
  }
  take_pieces();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace fidfast
