#include "cuda/kernels.cuh"
#include "cuda/pivoted_cholesky.hpp"

namespace fidfast::cuda {

namespace {

/// State of the factorisation, in device memory.
struct Progress {
  double* a;  // (n, n), lower triangle
  Index n;
  double* rest;  // (n,) diagonal of the remaining matrix
  Index* order;  // (n,) for each row, the original row of a
  Index* rank;   // columns done; if less than the current column, the factorisation has stopped
  double tolerance;
};

/// A candidate for the next pivot.
struct Pivot {
  double value;
  Index row;
};

struct LargerPivot {
  __device__ Pivot operator()(const Pivot& a, const Pivot& b) const {
    return a.value > b.value || (a.value == b.value && a.row <= b.row) ? a : b;
  }
};

__device__ void exchange(double& a, double& b) {
  const double kept = a;
  a = b;
  b = kept;
}

/// One block: moves the largest pivot to row and column k, or stops the factorisation.
__global__ void choose_pivot_kernel(Progress p, Index k) {
  __shared__ Pivot parts[kThreads];
  if (*p.rank < k) return;  // the same for all threads
  Pivot mine{-1.0, p.n};
  for (Index i = k + threadIdx.x; i < p.n; i += kThreads) mine = LargerPivot()(mine, Pivot{p.rest[i], i});
  const Pivot best = reduce_block(mine, parts, LargerPivot());
  if (!(best.value > p.tolerance)) return;
  const Index q = best.row;
  double* const a = p.a;
  const Index n = p.n;
  if (q != k) {
    // Exchange the rows k and q of the factor, and the rows and columns k and q of the remaining symmetric matrix.
    for (Index j = threadIdx.x; j < k; j += kThreads) exchange(a[k + j * n], a[q + j * n]);
    for (Index i = q + 1 + threadIdx.x; i < n; i += kThreads) exchange(a[i + k * n], a[i + q * n]);
    for (Index i = k + 1 + threadIdx.x; i < q; i += kThreads) exchange(a[i + k * n], a[q + i * n]);
  }
  if (threadIdx.x > 0) return;
  if (q != k) {
    exchange(a[k + k * n], a[q + q * n]);
    exchange(p.rest[k], p.rest[q]);
    const Index kept = p.order[k];
    p.order[k] = p.order[q];
    p.order[q] = kept;
  }
  a[k + k * n] = sqrt(best.value);
  *p.rank = k + 1;
}

/// Computes column k below its pivot, and updates the remaining diagonal.
__global__ void fill_column_kernel(Progress p, Index k) {
  const Index i = k + 1 + static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  if (*p.rank <= k || i >= p.n) return;
  double sum = 0;
  for (Index j = 0; j < k; ++j) sum += p.a[i + j * p.n] * p.a[k + j * p.n];
  const double value = (p.a[i + k * p.n] - sum) / p.a[k + k * p.n];
  p.a[i + k * p.n] = value;
  p.rest[i] -= value * value;
}

}  // namespace

Index pivoted_cholesky(Matrix<Cuda>& a, double tolerance, std::vector<Index>& order) {
  const Index n = a.rows();
  order.assign(static_cast<std::size_t>(n), 0);
  if (n == 0) return 0;
  Vector<Cuda> rest(n);
  Matrix<Cuda, Index> rows(n, 1);
  Matrix<Cuda, Index> rank = Matrix<Cuda, Index>::zeros(1, 1);
  const Progress progress{a.data(), n, rest.data(), rows.data(), rank.data(), tolerance};
  for_each_element(n, 1, [=] __device__(Index i, Index) {
    progress.rest[i] = progress.a[i + i * n];
    progress.order[i] = i;
  });
  for (Index k = 0; k < n; ++k) {
    launch(choose_pivot_kernel, dim3(1), dim3(kThreads), progress, k);
    if (k + 1 < n)
      launch(fill_column_kernel, dim3(blocks_for(n - k - 1, kThreads, kMostBlocks)), dim3(kThreads), progress, k);
  }
  order = on_host(rows, 1);
  return on_host(rank, 1)[0];
}

}  // namespace fidfast::cuda
