// Rounding to float16 of numbers that are stored as float.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace fidfast {

inline constexpr float kLargestFloat16 = 65504;
inline constexpr float kSmallestNormalFloat16 = 0x1p-14F;

/// The nearest float16, ties to even; infinity from 65520 on. NaN stays NaN. Without branches, so that it vectorizes.
inline float to_float16(float x) {
  constexpr std::uint32_t kDropped = 0x1fff;  // float has 13 bits more
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + (kDropped >> 1) + ((bits >> 13) & 1U)) & ~kDropped;
  float normal = 0;
  std::memcpy(&normal, &bits, sizeof normal);
  const float subnormal = (x + 0.75F) - 0.75F;  // floats from 0.5 to 1 are multiples of 2^-24
  const float infinite = x * std::numeric_limits<float>::infinity();
  const float rounded = std::abs(x) < kSmallestNormalFloat16 ? subnormal : normal;
  return std::abs(rounded) <= kLargestFloat16 ? rounded : infinite;
}

/// The next float16 above a finite one of at least 0.
inline float next_float16(float x) {
  if (x < kSmallestNormalFloat16) return x + 0x1p-24F;
  if (x >= kLargestFloat16) return std::numeric_limits<float>::infinity();
  return to_float16(x * (1 + 0x1.8p-11F));  // from 0.75 to 1.5 units in the last place more
}

}  // namespace fidfast
