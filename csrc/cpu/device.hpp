// The host as a device: its memory. The verbs of core/linalg.hpp are specialised for it in rows.cpp, elements.cpp and
// linalg.cpp.
#pragma once

#include <cstddef>

#include "core/frechet.hpp"
#include "core/gaussian.hpp"
#include "core/kernel.hpp"
#include "core/linalg.hpp"
#include "core/manifold.hpp"
#include "core/moments.hpp"

namespace fidfast {

struct Cpu {
  /// Throws std::bad_alloc. Aligned for the widest vectors.
  static void* allocate(std::size_t bytes);
  static void release(void* memory) noexcept;
  static void copy(void* to, const void* from, std::size_t bytes);
  static void clear(void* to, std::size_t bytes);
};

}  // namespace fidfast
