// Rank-k update with float16 or bfloat16 rows on tensor cores, for GPUs that are slow in float64.
#pragma once

#include "cuda/device.hpp"

namespace fidfast::cuda {

// Bits that prepare_block() sets for a unit in a block of rows.
constexpr unsigned kBFloat16 = 1;  // all values are bfloat16
constexpr unsigned kFloat16 = 2;   // all values are float16
constexpr unsigned kNear = 4;      // the mean is within 4 standard deviations of 0, and squares are in range
constexpr unsigned kConstant = 8;  // all values are equal

/// RowOps::prepare_block() for products on tensor cores: copies the rows with origin 0, and sets `marks`.
template <class S>
bool prepare_block_16_bit(const FeatureView<S>& features, const Mean<Cuda>* previous, Mean<Cuda>& mean,
                          Vector<Cuda>& remainder, Vector<Cuda, float>& marks, Matrix<Cuda, float>& rows,
                          Vector<Cuda>& squares);

/// RowOps::separate_far_rows(): far[i], i < n, becomes 1 for far rows and 0 for others.
void separate_far_rows(const Matrix<Cuda, float>& rows, Index n, Vector<Cuda>& squares, Matrix<Cuda>& far);

/// scatter (dim, dim) += X X^T - n r r^T + weight d d^T, where X is the first n columns of rows (dim, >= n) and r their
/// mean, in double. far (>= n,) is nonzero for rows whose products are all float64; the diagonal of the other products
/// is squares (dim,). If the marks of both units allow it, products are summed over 64 rows in float32 (products of
/// 16-bit numbers are exact there) and then in float64; else all is float64.
void rank_update(const Matrix<Cuda, float>& rows, Index n, const Vector<Cuda, float>& marks, const Vector<Cuda>& r,
                 const Vector<Cuda>& squares, const Matrix<Cuda>& far, double weight, const Vector<Cuda>& d,
                 Matrix<Cuda>& scatter);

}  // namespace fidfast::cuda
