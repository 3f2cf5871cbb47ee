// Cholesky with complete pivoting, which cuSOLVER lacks.
#pragma once

#include <vector>

#include "cuda/device.hpp"

namespace fidfast::cuda {

/// As MatrixOps::pivoted_cholesky, with the strict upper triangle as it was. Left-looking, a column at a time (LAPACK's
/// dpstf2; Higham, "Analysis of the Cholesky decomposition of a semi-definite matrix", 1990): the host gives two
/// kernels for each column and waits for none, since the device itself stops where the rank is reached.
Index pivoted_cholesky(Matrix<Cuda>& a, double tolerance, std::vector<Index>& order);

}  // namespace fidfast::cuda
