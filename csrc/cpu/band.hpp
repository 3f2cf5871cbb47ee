// The two stages of tridiagonalization; see cpu/tridiagonal.cpp.
#pragma once

#include "cpu/device.hpp"
#include "cpu/wide_blocks.hpp"

#ifdef FIDFAST_WIDE

namespace fidfast {

constexpr Index kBandHeight = 2 * kBand;  // of a column of the band, including the bulge below it

/// A band matrix in (kBandHeight, n + 2 kBand) numbers: element i - j of column j is a_ij; columns from n on are zero.
/// So every block along the band can be accessed, with columns kBandHeight - 1 apart.
struct Band {
  Matrix<Cpu> columns;
  double scale;  // power of 2 by which the matrix is multiplied, so that squares do not overflow or underflow
};

/// First stage: a band matrix similar to a (n, n), whose lower triangle is read.
Band reduce_to_band(const Matrix<Cpu>& a, Index threads);

/// Second stage, in place: the first two rows of `band` become the tridiagonal matrix.
void chase_bulges(Matrix<Cpu>& band, Index threads);

}  // namespace fidfast

#endif
