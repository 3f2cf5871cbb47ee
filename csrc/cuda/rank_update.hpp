// The products of rows of float16 or bfloat16 on tensor cores, for GPUs that are slow in float64.
#pragma once

#include "cuda/device.hpp"

namespace fidfast::cuda {

// What prepare_block() notes of a unit in a block of rows, as bits.
constexpr unsigned kBFloat16 = 1;  // every value is a bfloat16
constexpr unsigned kFloat16 = 2;   // every value is a float16
constexpr unsigned kNear = 4;  // the origin is no further away than 4 standard deviations, and squares stay in range
constexpr unsigned kConstant = 8;  // all values are equal

/// scatter (dim, dim) += X X^T - n r r^T + weight d d^T for the first n columns X of rows (dim, >= n), whose mean is r.
/// Where both units of a product allow it, in float32 over 64 rows at a time, in which products of 16 bits are exact,
/// and from there on in float64; else all in float64.
void rank_update(const Matrix<Cuda, float>& rows, Index n, const Vector<Cuda, float>& marks, const Vector<Cuda>& r,
                 double weight, const Vector<Cuda>& d, Matrix<Cuda>& scatter);

}  // namespace fidfast::cuda
