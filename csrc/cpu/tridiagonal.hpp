// Reduction of a symmetric matrix to tridiagonal form in two stages, for eigenvalues without vectors.
#pragma once

#include "core/parallel.hpp"
#include "cpu/device.hpp"

namespace fidfast {

/// The tridiagonal matrix similar to a (n, n), of which the lower triangle is read and all is destroyed: its diagonal
/// (n,) and what stands below it (n - 1,).
void tridiagonalize(Matrix<Cpu>& a, double* diagonal, double* below, Index threads = num_threads());

}  // namespace fidfast
