// When the products of a block may be float32, and how large their error is.
//
// Let X (n, dim) be the centred rows of a block and s_j = sum_r x_rj^2. The error of the distance is dominated by that
// of the traces, so the diagonal of X^T X is computed in float64: the float32 products have the error E with E_jj = 0.
//
// A sum of n float32 products makes the error sum_k delta_k p_k, where p_k are the partial sums and |delta_k| <= u =
// 2^-24. The deltas of different k, i and j are modelled as independent with mean zero (Higham & Mary, "A new approach
// to probabilistic rounding error analysis", 2019, model 2.1), uniform deltas have the variance u^2 / 3. Let t_j be the
// sum of squares about the origin (near the mean) and c_ij the cosine of two columns. The partial sums grow like k/n
// c_ij sqrt(t_i t_j) and have a random walk, so with the mean square c^2 of the cosines
//   E_ij has mean 0 and a variance of about e^2 t_i t_j,  e^2 = u^2 (n c^2 / 9 + 1/2).
// The 1/2 is 1/6 for the random walk, and 1/3 for the rounding of factors and products, at most. Measured: 0.2 u for
// uncorrelated columns and 0.5 u for real features, since BLAS adds up parts of the sum. Errors of different blocks are
// independent, so their variances add.
//
// The model fails where numbers are lost in much larger partial sums, or equal products are rounded in the same
// direction. Hence
//   - the origin of a unit that mostly has one value is this value;
//   - rows with sum_j x_rj^2 / t_j above kFarRow times the average, dim / n, are multiplied in float64;
//   - blocks with many such rows, or whose columns are strongly correlated, are multiplied in float64.
// It also fails for units with a few values only, for example 0 and 0.7: equal products are rounded in the same
// direction, in every block. Blocks with many such units are multiplied in float64.
#pragma once

#include <cmath>

#include "core/matrix.hpp"

namespace fidfast {

/// Precision of the products within a block for features of float32 and narrower types. Sums over blocks, and products
/// of float64 features, are always float64.
enum class Precision { kFloat32, kFloat64 };

/// Whether products are float32. Below dim 512 float64 costs little.
inline bool products_in_float(Precision precision, Index dim) {
  constexpr Index kFloatDim = 512;
  return precision == Precision::kFloat32 && dim >= kFloatDim;
}

/// Rows whose scaled squared norm exceeds this multiple of the average are multiplied in float64.
constexpr float kFarRow = 16;
/// Blocks in which more than one row in kMostFar is far are multiplied in float64.
constexpr Index kMostFar = 8;
/// Blocks whose columns have a larger mean squared correlation are multiplied in float64.
constexpr double kCorrelated = 0.08;
/// Blocks with a larger share of units that have a few values only are multiplied in float64.
constexpr double kFewValued = 0.05;

/// e above for a block of n rows, given the mean squared cosine of two units.
inline double product_error(Index n, double cosine) {
  constexpr double kUnit = 0x1p-24;
  return kUnit * std::sqrt(static_cast<double>(n) * cosine / 9 + 0.5);
}

}  // namespace fidfast
