// Rows of 32 doubles in 64-byte vectors. Code that uses them must be between FIDFAST_WIDE_BEGIN and FIDFAST_WIDE_END,
// is compiled only if FIDFAST_WIDE is defined, and may be called only if has_wide_vectors().
#pragma once

#include "core/matrix.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FIDFAST_WIDE 1

// Functions that are inlined must be compiled for these vectors too.
#define FIDFAST_WIDE_BEGIN \
  _Pragma("GCC push_options") _Pragma("GCC target(\"avx512f,avx512dq,avx512vl,prefer-vector-width=512\")")
#define FIDFAST_WIDE_END _Pragma("GCC pop_options")

namespace fidfast {

/// Whether this processor has 64-byte vectors.
inline bool has_wide_vectors() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

FIDFAST_WIDE_BEGIN

constexpr Index kBand = 32;  // subdiagonals of the band matrix

// Eight doubles at any address.
using Lanes = double __attribute__((vector_size(64), aligned(8), may_alias));

/// kBand doubles. Named members, since the compiler would keep an array in memory instead of registers.
struct Block {
  Lanes a, b, c, d;

  static Block zero() { return {Lanes{}, Lanes{}, Lanes{}, Lanes{}}; }
  static Block load(const double* from) {
    const auto* const lanes = reinterpret_cast<const Lanes*>(from);
    return {lanes[0], lanes[1], lanes[2], lanes[3]};
  }
  void store(double* to) const {
    auto* const lanes = reinterpret_cast<Lanes*>(to);
    lanes[0] = a;
    lanes[1] = b;
    lanes[2] = c;
    lanes[3] = d;
  }
  void add(double factor, const Block& other) {
    a += factor * other.a;
    b += factor * other.b;
    c += factor * other.c;
    d += factor * other.d;
  }
  Block times(double factor) const { return {a * factor, b * factor, c * factor, d * factor}; }
  Block times(const Block& other) const { return {a * other.a, b * other.b, c * other.c, d * other.d}; }
  double dot(const Block& other) const {
    const Lanes sum = (a * other.a + b * other.b) + (c * other.c + d * other.d);
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
  }
};
static_assert(sizeof(Block) == kBand * sizeof(double));

FIDFAST_WIDE_END

}  // namespace fidfast

#endif
