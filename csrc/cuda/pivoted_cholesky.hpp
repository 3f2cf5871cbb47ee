// Cholesky factorisation with complete pivoting, which cuSOLVER does not have.
#pragma once

#include <vector>

#include "cuda/device.hpp"

namespace fidfast::cuda {

/// MatrixOps::pivoted_cholesky, but leaves the strict upper triangle unchanged. Left-looking, one column at a time (as
/// LAPACK's dpstf2; Higham, "Analysis of the Cholesky decomposition of a semi-definite matrix", 1990). The host
/// enqueues two kernels for each column and does not wait: the device itself stops when the rank is reached.
Index pivoted_cholesky(Matrix<Cuda>& a, double tolerance, std::vector<Index>& order);

}  // namespace fidfast::cuda
