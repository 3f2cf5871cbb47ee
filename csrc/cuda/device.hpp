// A GPU as a Device. The .cu files specialise the operations of core/backend.hpp for it.
#pragma once

#include <cstddef>

#include "core/backend.hpp"
#include "core/frechet.hpp"
#include "core/gaussian.hpp"
#include "core/jackknife.hpp"
#include "core/moments/moments.hpp"
#include "cuda/watch.hpp"

namespace fidfast {

/// All members but release() need a cuda::Session.
struct Cuda {
  /// Device of this thread's session.
  static int current_device();

  static constexpr bool kAsynchronous = true;
  static constexpr bool kFloatProducts = false;
  /// On tensor cores, whose products of 16-bit numbers are exact, if float64 is slow.
  static bool multiplies_in_float(bool all_16_bit);

  /// Throws cuda::OutOfMemory.
  static void* allocate(std::size_t bytes);
  static void release(void* memory) noexcept;
  static void copy(void* to, const void* from, std::size_t bytes);
  static void clear(void* to, std::size_t bytes);
  static void from_host(void* to, const void* from, std::size_t bytes);
  static void to_host(void* to, const void* from, std::size_t bytes);
  static void synchronize();

  using Watch = cuda::Watch;
};

}  // namespace fidfast
