// Threads for the loops that BLAS does not run.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/matrix.hpp"

namespace fidfast {

/// As many as the machine runs at once, and no more than the variables allow that limit BLAS.
inline Index num_threads() {
  Index result = std::max<Index>(1, std::thread::hardware_concurrency());
  for (const char* const variable : {"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"}) {
    const char* const text = std::getenv(variable);
    const Index limit = text != nullptr ? std::strtol(text, nullptr, 10) : 0;
    if (limit > 0) result = std::min(result, limit);
  }
  return result;
}

/// work(piece) for every piece from 0 to n, by the threads there are; each takes the next piece that is free. An
/// exception of a piece is thrown here in the end.
template <class Work>
void in_threads(Index n, const Work& work) {
  std::atomic<Index> next{0};
  std::exception_ptr failure;
  std::mutex failing;
  const auto pieces = [&] {
    try {
      for (Index piece = next++; piece < n; piece = next++) work(piece);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(failing);
      failure = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  const Index more = std::min(num_threads(), n) - 1;
  for (Index thread = 0; thread < more; ++thread) {
    try {
      others.emplace_back(pieces);
    } catch (const std::system_error&) {
      break;  // no further thread to be had: those that there are do the work
    }
  }
  pieces();
  for (std::thread& thread : others) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace fidfast
