// By how much rows are multiplied before their products are taken in low precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "core/matrix.hpp"

namespace fidfast {

/// For rows no further than `farthest` from their origin: so that products stay within T's range, and are exact for
/// integers, whose every partial sum is below 2^30.
template <class T>
double product_scale(Index dim, double farthest) {
  if (farthest == 0) return 1.0;
  if constexpr (std::is_integral_v<T>) {
    const double rounding = std::sqrt(static_cast<double>(dim)) / 2 + 1;
    return (std::numeric_limits<T>::max() - rounding) / farthest;
  } else {
    return std::ldexp(1.0, -std::clamp(std::ilogb(farthest), -500, 500));
  }
}

}  // namespace fidfast
