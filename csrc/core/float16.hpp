// Rounding to float16 of numbers that are stored as float.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

namespace fidfast {

inline constexpr float kLargestFloat16 = 65504;
inline constexpr float kSmallestNormalFloat16 = 0x1p-14F;

/// All bits set if a < b, for numbers below 2^31.
inline std::uint32_t mask_if_less(std::uint32_t a, std::uint32_t b) { return 0U - ((a - b) >> 31); }

/// The nearest float16, ties to even; infinity from 65520 on. NaN stays NaN. Chooses by masks: compilers make branches
/// of other choices, which they do not vectorize.
inline float to_float16(float x) {
  constexpr std::uint32_t kSign = 0x80000000;
  constexpr std::uint32_t kDropped = 0x1fff;  // float has 13 bits more
  constexpr std::uint32_t kSmallestNormal = 0x38800000;
  constexpr std::uint32_t kBeyond = 0x477ff000;  // 65520
  constexpr std::uint32_t kInfinity = 0x7f800000;
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  const std::uint32_t size = bits & ~kSign;
  float magnitude = 0;
  std::memcpy(&magnitude, &size, sizeof magnitude);
  magnitude = (magnitude + 0.5F) - 0.5F;  // floats from 0.5 to 1 are multiples of 2^-24
  std::uint32_t subnormal = 0;
  std::memcpy(&subnormal, &magnitude, sizeof subnormal);
  const std::uint32_t normal = (size + (kDropped >> 1) + ((size >> 13) & 1U)) & ~kDropped;
  const std::uint32_t infinite = kInfinity | (size & mask_if_less(kInfinity, size));
  const std::uint32_t is_subnormal = mask_if_less(size, kSmallestNormal);
  const std::uint32_t is_finite = mask_if_less(size, kBeyond);
  const std::uint32_t finite = (subnormal & is_subnormal) | (normal & ~is_subnormal);
  const std::uint32_t rounded = (finite & is_finite) | (infinite & ~is_finite) | (bits & kSign);
  float result = 0;
  std::memcpy(&result, &rounded, sizeof result);
  return result;
}

/// The next float16 above a finite one of at least 0.
inline float next_float16(float x) {
  if (x < kSmallestNormalFloat16) return x + 0x1p-24F;
  if (x >= kLargestFloat16) return std::numeric_limits<float>::infinity();
  return to_float16(x * (1 + 0x1.8p-11F));  // from 0.75 to 1.5 units in the last place more
}

}  // namespace fidfast
