// The CPU as a Device. The other .cpp files specialise the operations of core/backend.hpp for it.
#pragma once

#include <cstddef>

#include "core/backend.hpp"
#include "core/frechet.hpp"
#include "core/gaussian.hpp"
#include "core/kernel/kernel.hpp"
#include "core/moments/moments.hpp"
#include "core/neighbours/manifold.hpp"

namespace fidfast {

struct Cpu {
  static int current_device() { return 0; }

  static constexpr bool kAsynchronous = false;
  static constexpr bool kFloatProducts = true;
  static bool multiplies_in_float(bool) { return true; }

  /// Aligned for the widest vectors. Throws std::bad_alloc.
  static void* allocate(std::size_t bytes);
  static void release(void* memory) noexcept;
  static void copy(void* to, const void* from, std::size_t bytes);
  static void clear(void* to, std::size_t bytes);
  static void from_host(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
  static void to_host(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
  static void synchronize() {}

  /// Checks a batch before it is added.
  struct Watch {
    struct Watched {};
    template <class S>
    Watched inspect(const FeatureView<S>& features, const MomentsState<Cpu>&) {
      require_squarable<Cpu>(features);
      return {};
    }
    void settle(const MomentsState<Cpu>&) {}
    void forget(MomentsState<Cpu>&) {}
  };
};

}  // namespace fidfast
