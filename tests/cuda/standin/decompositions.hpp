// Textbook factorisations of small matrices in float64, to a few units in the last place.
#pragma once

#include <cstdint>
#include <vector>

#include "dense.hpp"

namespace standin {

// The Cholesky factor L of a symmetric matrix, of which only the lower triangle is read. Returns 0, or the order of the
// leading minor that is not positive, as LAPACK does.
int cholesky(Dense& matrix);

struct Eigen {
  std::vector<double> values;  // ascending
  Dense vectors;               // in columns
};
// By Jacobi rotations. NaN in the matrix gives NaN.
Eigen symmetric_eigen(Dense matrix);

struct Singular {
  std::vector<double> values;  // (n,), descending
  Dense left;                  // (m, m), orthogonal
  Dense right;                 // (n, n), orthogonal: matrix = left[:, :n] diag(values) right^T
};
// By one-sided rotations (Hestenes), m >= n. NaN in the matrix gives NaN.
Singular singular_values(Dense matrix);

}  // namespace standin
