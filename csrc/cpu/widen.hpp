// Conversion of features to float or double, exact for every type.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/matrix.hpp"

namespace fidfast {

inline float from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline float widen(BFloat16 value) { return from_bits(std::uint32_t{value.bits} << 16); }

/// Shifts exponent and fraction to their positions and multiplies by the difference of the biases, so that subnormal
/// numbers are right too.
inline float widen(Float16 value) {
  const std::uint32_t magnitude = std::uint32_t{value.bits & 0x7fffU} << 13;
  const std::uint32_t sign = std::uint32_t{value.bits & 0x8000U} << 16;
  const float scaled = std::copysign(from_bits(magnitude) * 0x1p112F, from_bits(sign));
  const bool finite = (value.bits & 0x7c00U) != 0x7c00U;
  return finite ? scaled : from_bits(sign | magnitude | 0x7f800000U);
}

inline float widen(float value) { return value; }
inline double widen(double value) { return value; }

/// Calls work(j, row[j]) for every column. Stride 1 is a separate loop, which can be vectorized.
template <class S, class Work>
inline void for_each_column(const FeatureView<S>& features, Index i, Work work) {
  const S* const row = features.row(i);
  const Index dim = features.dim;
  const Index stride = features.column_stride;
  if (stride == 1) {
    for (Index j = 0; j < dim; ++j) work(j, row[j]);
  } else {
    for (Index j = 0; j < dim; ++j) work(j, row[j * stride]);
  }
}

}  // namespace fidfast
