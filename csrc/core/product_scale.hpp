// Typical sizes of rows, and their scaling before products in low precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/matrix.hpp"

namespace fidfast {

/// Median of the positive numbers, or 0 if there are none.
inline double median_of_positive(std::vector<double> values) {
  values.erase(std::remove_if(values.begin(), values.end(), [](double value) { return !(value > 0); }), values.end());
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Factor for rows with norms up to `farthest`, such that products do not overflow in T. For integers, every partial
/// sum stays below 2^30, so products are exact.
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
