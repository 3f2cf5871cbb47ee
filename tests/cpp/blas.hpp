// BLAS for the tests: a shared library of OpenBLAS as SciPy's packages ship it, in place of SciPy's own pointers.
#pragma once

namespace fidfast {

/// Loads the library that FIDFAST_TEST_BLAS names; FIDFAST_TEST_BLAS_INTEGERS tells the width of its integers, 32 or
/// 64. Throws std::runtime_error where either is missing.
void load_blas_of_environment();

}  // namespace fidfast
