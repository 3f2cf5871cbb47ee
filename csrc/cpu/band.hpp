// The two stages by which a symmetric matrix loses all but three diagonals.
#pragma once

#include "cpu/device.hpp"
#include "cpu/wide_blocks.hpp"

#ifdef FIDFAST_WIDE

namespace fidfast {

constexpr Index kBandHeight = 2 * kBand;  // of a column of the band and of the bulge that runs along it

/// A band matrix as (kBandHeight, n + 2 kBand) numbers: column j holds a_ij at i - j, and those from n on are zero. So
/// every block of the matrix along the band is whole; its columns lie kBandHeight - 1 apart.
struct Band {
  Matrix<Cpu> columns;
  double scale;  // by which the numbers are multiplied, a power of two: their squares are numbers too
};

/// The first stage: the band matrix similar to a (n, n), of which the lower triangle is read.
Band reduce_to_band(const Matrix<Cpu>& a, Index threads);

/// The second stage, in place: what it leaves in the first two rows of `band` is the tridiagonal matrix.
void chase_bulges(Matrix<Cpu>& band, Index threads);

}  // namespace fidfast

#endif
