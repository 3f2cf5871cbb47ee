// Tridiagonalization of a symmetric matrix, for eigenvalues without vectors.
#pragma once

#include "core/parallel.hpp"
#include "cpu/device.hpp"

namespace fidfast {

/// Diagonal (n,) and subdiagonal (n - 1,) of a tridiagonal matrix similar to a (n, n). Reads the lower triangle of a,
/// and destroys all of it.
void tridiagonalize(Matrix<Cpu>& a, double* diagonal, double* below, Index threads = num_threads());

}  // namespace fidfast
