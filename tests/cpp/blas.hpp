// Loads an OpenBLAS library for the tests, instead of the one in SciPy.
#pragma once

namespace fidfast {

/// Loads the library FIDFAST_TEST_BLAS, whose integers have FIDFAST_TEST_BLAS_INTEGERS bits (32 or 64). Throws
/// std::runtime_error if one of the variables is not set.
void load_blas_of_environment();

}  // namespace fidfast
