// BLAS and LAPACK, called through pointers that are looked up at run time (in SciPy, if called from Python). Nothing is
// linked, so the process has one BLAS and one thread pool. Its integers may have 32 or 64 bits.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "core/errors.hpp"
#include "core/interrupt.hpp"
#include "core/matrix.hpp"

namespace fidfast::lapack {

/// The routines used: X(SciPy module, name, arguments). Fortran passes all arguments by address; Int is its integer
/// type.
#define FIDFAST_ROUTINES(X)                                                                                            \
  X(cython_blas, dgemm,                                                                                                \
    (const char* trans_a, const char* trans_b, const Int* m, const Int* n, const Int* k, const double* alpha,          \
     const double* a, const Int* lda, const double* b, const Int* ldb, const double* beta, double* c, const Int* ldc)) \
  X(cython_blas, sgemm,                                                                                                \
    (const char* trans_a, const char* trans_b, const Int* m, const Int* n, const Int* k, const float* alpha,           \
     const float* a, const Int* lda, const float* b, const Int* ldb, const float* beta, float* c, const Int* ldc))     \
  X(cython_blas, ssyrk,                                                                                                \
    (const char* uplo, const char* trans, const Int* n, const Int* k, const float* alpha, const float* a,              \
     const Int* lda, const float* beta, float* c, const Int* ldc))                                                     \
  X(cython_blas, dsyrk,                                                                                                \
    (const char* uplo, const char* trans, const Int* n, const Int* k, const double* alpha, const double* a,            \
     const Int* lda, const double* beta, double* c, const Int* ldc))                                                   \
  X(cython_blas, dsymm,                                                                                                \
    (const char* side, const char* uplo, const Int* m, const Int* n, const double* alpha, const double* a,             \
     const Int* lda, const double* b, const Int* ldb, const double* beta, double* c, const Int* ldc))                  \
  X(cython_blas, dtrmm,                                                                                                \
    (const char* side, const char* uplo, const char* trans, const char* diag, const Int* m, const Int* n,              \
     const double* alpha, const double* a, const Int* lda, double* b, const Int* ldb))                                 \
  X(cython_blas, dsyr2k,                                                                                               \
    (const char* uplo, const char* trans, const Int* n, const Int* k, const double* alpha, const double* a,            \
     const Int* lda, const double* b, const Int* ldb, const double* beta, double* c, const Int* ldc))                  \
  X(cython_lapack, dgeqrt3,                                                                                            \
    (const Int* m, const Int* n, double* a, const Int* lda, double* t, const Int* ldt, Int* info))                     \
  X(cython_lapack, dpotrf, (const char* uplo, const Int* n, double* a, const Int* lda, Int* info))                     \
  X(cython_lapack, dpstrf,                                                                                             \
    (const char* uplo, const Int* n, double* a, const Int* lda, Int* order, Int* rank, const double* tolerance,        \
     double* work, Int* info))                                                                                         \
  X(cython_lapack, dpocon,                                                                                             \
    (const char* uplo, const Int* n, const double* a, const Int* lda, const double* norm, double* rcond, double* work, \
     Int* iwork, Int* info))                                                                                           \
  X(cython_lapack, dtrtri, (const char* uplo, const char* diag, const Int* n, double* a, const Int* lda, Int* info))   \
  X(cython_lapack, dsygst,                                                                                             \
    (const Int* itype, const char* uplo, const Int* n, double* a, const Int* lda, const double* b, const Int* ldb,     \
     Int* info))                                                                                                       \
  X(cython_lapack, dsytrd,                                                                                             \
    (const char* uplo, const Int* n, double* a, const Int* lda, double* d, double* e, double* tau, double* work,       \
     const Int* lwork, Int* info))                                                                                     \
  X(cython_lapack, dsterf, (const Int* n, double* d, double* e, Int* info))                                            \
  X(cython_lapack, dsyevd,                                                                                             \
    (const char* jobz, const char* uplo, const Int* n, double* a, const Int* lda, double* w, double* work,             \
     const Int* lwork, Int* iwork, const Int* liwork, Int* info))                                                      \
  X(cython_lapack, dgesdd,                                                                                             \
    (const char* jobz, const Int* m, const Int* n, double* a, const Int* lda, double* s, double* u, const Int* ldu,    \
     double* vt, const Int* ldvt, double* work, const Int* lwork, Int* iwork, Int* info))

/// While it exists, fork() waits: OpenBLAS stops its threads before a fork, and both hang if a routine is running.
class NoFork {
 public:
  NoFork();
  ~NoFork();
  NoFork(const NoFork&) = delete;
  NoFork& operator=(const NoFork&) = delete;
};

template <class Signature>
struct Routine;
template <class... Arguments>
struct Routine<void(Arguments...)> {
  void (*pointer)(Arguments...) = nullptr;

  void operator()(Arguments... arguments) const {
    const NoFork running;
    pointer(arguments...);
  }
};

template <class Width>
struct Routines {
  using Int = Width;
#define FIDFAST_POINTER(module, name, arguments) Routine<void arguments> name;
  FIDFAST_ROUTINES(FIDFAST_POINTER)
#undef FIDFAST_POINTER

  /// Converts a size to Int. Throws InvalidInput if it does not fit.
  static Int size(Index value) {
    if (value > std::numeric_limits<Int>::max()) {
      throw InvalidInput("the size " + std::to_string(value) + " does not fit the " + std::to_string(8 * sizeof(Int)) +
                         "-bit integers of this BLAS");
    }
    return static_cast<Int>(value);
  }
};

enum class IntegerWidth { k32, k64 };

/// Returns the address of a routine in FIDFAST_ROUTINES.
using Lookup = std::function<void*(const char* module, const char* name)>;

/// Fills the table. Call once, before any operation that uses it.
void load(const Lookup& lookup, IntegerWidth width);

namespace detail {
extern Routines<std::int32_t> narrow;
extern Routines<std::int64_t> wide;
extern IntegerWidth width;
}  // namespace detail

/// Calls work(routines) with the table of the loaded integer width.
template <class Work>
auto with(Work work) {
  if (detail::width == IntegerWidth::k64) return work(detail::wide);
  return work(detail::narrow);
}

/// run_interruptibly() for a matrix of this dim: small ones need no thread.
template <class Arrays, class Work>
void run(Index dim, const std::shared_ptr<Arrays>& arrays, Work work) {
  constexpr Index kSmall = 768;
  check_interrupt();
  if (dim < kSmall) return work(*arrays);
  run_interruptibly(arrays, work);
}

/// Throws NumericalFailure if a LAPACK routine has failed.
template <class Int>
void require_success(Int info, const char* routine) {
  if (info != 0) throw NumericalFailure(std::string(routine) + " failed with info = " + std::to_string(info));
}

}  // namespace fidfast::lapack
