// Rank-k update with float16 or bfloat16 rows on tensor cores, for GPUs that are slow in float64.
#pragma once

#include "cuda/device.hpp"

namespace fidfast::cuda {

// Bits that prepare_block() sets for a unit in a block of rows.
constexpr unsigned kBFloat16 = 1;  // all values are bfloat16
constexpr unsigned kFloat16 = 2;   // all values are float16
constexpr unsigned kNear = 4;      // the mean is within 4 standard deviations of 0, and squares are in range
constexpr unsigned kConstant = 8;  // all values are equal

/// scatter (dim, dim) += X X^T - n r r^T + weight d d^T, where X is the first n columns of rows (dim, >= n) and r their
/// mean. If the marks of both units allow it, products are summed over 64 rows in float32 (products of 16-bit numbers
/// are exact there) and then in float64; else all is float64.
void rank_update(const Matrix<Cuda, float>& rows, Index n, const Vector<Cuda, float>& marks, const Vector<Cuda>& r,
                 double weight, const Vector<Cuda>& d, Matrix<Cuda>& scatter);

}  // namespace fidfast::cuda
