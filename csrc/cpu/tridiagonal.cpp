// LAPACK's dsytrd does half of its work in matrix-vector products, which are limited by memory bandwidth. In two stages
// (Bischof, Lang & Sun, "A framework for symmetric band reduction", 2000) nearly all work is matrix products: first
// block reflectors reduce the matrix to a band with kBand subdiagonals, then bulge chasing in cache reduces the band to
// a tridiagonal matrix. With 64-byte vectors this takes at most half of dsytrd's time at dim 2048 on two cores. With
// narrower vectors dsytrd is as fast and is used instead.
#include "cpu/tridiagonal.hpp"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "cpu/band.hpp"
#include "cpu/lapack.hpp"

namespace fidfast {

namespace {

using M = Matrix<Cpu>;

struct Tridiagonal {
  M matrix;
  std::vector<double> diagonal;
  std::vector<double> below;
};

template <class Library>
void tridiagonalize_by_lapack(const Library& lib, Tridiagonal& all) {
  using Int = typename Library::Int;
  const Int n = lib.size(all.matrix.rows());
  M reflectors(all.matrix.rows(), 1);
  Int info = 0;
  const auto call = [&](double* work, Int lwork) {
    lib.dsytrd("L", &n, all.matrix.data(), &n, all.diagonal.data(), all.below.data(), reflectors.data(), work, &lwork,
               &info);
    lapack::require_success(info, "dsytrd");
  };
  double answer = 0;
  call(&answer, -1);
  // The optimal size, which is larger than what dsyevd would pass: it allows blocking.
  M work(static_cast<Index>(answer), 1);
  call(work.data(), lib.size(work.rows()));
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

/// Smaller matrices fit into the cache, where dsytrd is not limited by memory bandwidth.
constexpr Index kTwoStages = 640;
/// Smaller matrices use one thread: the threads of BLAS spin for 0.1 s after its last call and occupy the cores
/// meanwhile.
constexpr Index kThreads = 1536;

}  // namespace

void tridiagonalize(M& a, double* diagonal, double* below, Index threads) {
#ifdef FIDFAST_WIDE
  static const bool wide = has_wide_vectors();
  const Index useful = a.rows() >= kThreads ? threads : 1;
  if (wide && a.rows() >= kTwoStages) return tridiagonalize_in_two_stages(a, diagonal, below, useful);
#endif
  const auto all = std::make_shared<Tridiagonal>();
  all->diagonal.resize(static_cast<std::size_t>(a.rows()));
  all->below.resize(static_cast<std::size_t>(a.rows()));
  all->matrix = std::move(a);
  lapack::run(all->matrix.rows(), all,
              [](Tridiagonal& mine) { lapack::with([&](const auto& lib) { tridiagonalize_by_lapack(lib, mine); }); });
  a = std::move(all->matrix);
  std::copy(all->diagonal.begin(), all->diagonal.end(), diagonal);
  std::copy(all->below.begin(), all->below.end() - 1, below);
}

}  // namespace fidfast
