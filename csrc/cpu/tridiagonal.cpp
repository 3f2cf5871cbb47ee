// LAPACK's dsytrd spends half of its work in products of the matrix with one vector, which wait for memory. In two
// stages (Bischof, Lang & Sun, "A framework for symmetric band reduction", 2000) nearly all is products of matrices:
// first to a band of kBand diagonals by block reflectors, then along the band, in cache, to three diagonals. The loops
// below pay with vectors of 64 bytes: at dim 2048 on two cores they take half of dsytrd's time or less. With narrower
// ones dsytrd is as fast, and does the work.
#include "cpu/tridiagonal.hpp"

#include "cpu/band.hpp"
#include "cpu/lapack.hpp"

namespace fidfast {

namespace {

using M = Matrix<Cpu>;

template <class Library>
void tridiagonalize_by_lapack(const Library& lib, M& a, double* diagonal, double* below) {
  using Int = typename Library::Int;
  const Int n = lib.size(a.rows());
  Matrix<Cpu> reflectors(a.rows(), 1);
  Int info = 0;
  double answer = 0;
  Int lwork = -1;
  lib.dsytrd("L", &n, a.data(), &n, diagonal, below, reflectors.data(), &answer, &lwork, &info);
  // More than dsyevd gives it, which lets it work in blocks.
  lwork = lib.size(static_cast<Index>(answer));
  Matrix<Cpu> work(lwork, 1);
  lib.dsytrd("L", &n, a.data(), &n, diagonal, below, reflectors.data(), work.data(), &lwork, &info);
  lapack::require_success(info, "dsytrd");
}

#ifdef FIDFAST_WIDE

void tridiagonalize_in_two_stages(const M& a, double* diagonal, double* below, Index threads) {
  const Index n = a.rows();
  Band band = reduce_to_band(a, threads);
  chase_bulges(band.columns, threads);
  for (Index j = 0; j < n; ++j) {
    const double* const column = band.columns.column(j);
    diagonal[j] = column[0] / band.scale;
    if (j + 1 < n) below[j] = column[1] / band.scale;
  }
}

#endif

/// Smaller problems fit the cache, where dsytrd does not wait.
constexpr Index kTwoStages = 640;
/// Smaller ones end before BLAS's own threads, which spin for a tenth of a second after the product before, let others
/// have the cores.
constexpr Index kThreads = 1536;

}  // namespace

void tridiagonalize(M& a, double* diagonal, double* below, Index threads) {
#ifdef FIDFAST_WIDE
  static const bool wide = has_wide_vectors();
  const Index useful = a.rows() >= kThreads ? threads : 1;
  if (wide && a.rows() >= kTwoStages) return tridiagonalize_in_two_stages(a, diagonal, below, useful);
#endif
  lapack::with([&](const auto& lib) { tridiagonalize_by_lapack(lib, a, diagonal, below); });
}

}  // namespace fidfast
