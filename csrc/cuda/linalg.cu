// MatrixOps with cuBLAS and cuSOLVER.
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "core/errors.hpp"
#include "cuda/kernels.cuh"
#include "cuda/pivoted_cholesky.hpp"

namespace fidfast {

using cuda::check_blas;
using cuda::check_solver;
using cuda::current;
using cuda::for_each_element;
using cuda::for_each_item;
using cuda::kFillLower;
using cuda::kNonUnitDiagonal;
using cuda::kNoTranspose;
using cuda::kSideLeft;
using cuda::kSideRight;
using cuda::kTranspose;
using cuda::libraries;

namespace {

using M = Matrix<Cuda>;
constexpr double kOne = 1.0;
constexpr double kZero = 0.0;

/// Sizes in cuBLAS are 32-bit integers.
int size(Index value) {
  if (value > std::numeric_limits<int>::max()) {
    throw InvalidInput("cuBLAS sizes are at most 2^31 - 1, got " + std::to_string(value));
  }
  return static_cast<int>(value);
}

/// c = op(a) op(b).
M multiply(int op_a, const M& a, int op_b, const M& b) {
  const Index rows = op_a == kNoTranspose ? a.rows() : a.cols();
  const Index inner = op_a == kNoTranspose ? a.cols() : a.rows();
  const Index cols = op_b == kNoTranspose ? b.cols() : b.rows();
  M c(rows, cols);
  if (c.empty()) return c;
  current().with_blas([&](auto blas) {
    check_blas(libraries().cublasDgemm_v2(blas, op_a, op_b, size(rows), size(cols), size(inner), &kOne, a.data(),
                                          size(a.rows()), b.data(), size(b.rows()), &kZero, c.data(), size(rows)),
               "cublasDgemm");
  });
  return c;
}

/// c = alpha a a^T + beta c, lower triangle; for op kTranspose with a^T a.
void rank_update(int op, double alpha, const M& a, double beta, M& c) {
  if (c.empty()) return;
  current().with_blas([&](auto blas) {
    check_blas(
        libraries().cublasDsyrk_v2(blas, kFillLower, op, size(c.rows()), size(op == kNoTranspose ? a.cols() : a.rows()),
                                   &alpha, a.data(), size(a.rows()), &beta, c.data(), size(c.rows())),
        "cublasDsyrk");
  });
}

/// b <- op(l) b, or b op(l) for kSideRight.
void multiply_by_triangle(int side, int op, const M& l, M& b) {
  if (b.empty()) return;
  current().with_blas([&](auto blas) {
    check_blas(
        libraries().cublasDtrmm_v2(blas, side, kFillLower, op, kNonUnitDiagonal, size(b.rows()), size(b.cols()), &kOne,
                                   l.data(), size(l.rows()), b.data(), size(b.rows()), b.data(), size(b.rows())),
        "cublasDtrmm");
  });
}

M transposed(const M& a) {
  M result(a.cols(), a.rows());
  if (a.empty()) return result;
  current().with_blas([&](auto blas) {
    check_blas(
        libraries().cublasDgeam(blas, kTranspose, kNoTranspose, size(a.cols()), size(a.rows()), &kOne, a.data(),
                                size(a.rows()), &kZero, result.data(), size(a.cols()), result.data(), size(a.cols())),
        "cublasDgeam");
  });
  return result;
}

void clear_upper(M& a) {
  const Index rows = a.rows();
  double* const numbers = a.data();
  for_each_element(rows, a.cols(), [=] __device__(Index i, Index j) {
    if (i < j) numbers[i + j * rows] = 0;
  });
}

/// Workspace of a cuSOLVER routine on device and host, and its info.
struct Workspace {
  std::size_t on_device = 0;
  std::size_t on_host = 0;
  Matrix<Cuda, char> device;
  std::vector<char> host;
  Matrix<Cuda, int> info{1, 1};

  void allocate() {
    device = Matrix<Cuda, char>(static_cast<Index>(on_device), 1);
    host.resize(on_host);
  }
  int outcome() { return cuda::on_host(info, 1)[0]; }
};

void require_success(int info, const char* routine) {
  if (info != 0) throw NumericalFailure(std::string(routine) + " did not converge: info = " + std::to_string(info));
}

std::vector<double> eigenproblem(int job, M& a) {
  const Index n = a.rows();
  if (n == 0) return {};
  Vector<Cuda> values(n);
  Workspace work;
  current().with_solver([&](auto solver, auto params) {
    check_solver(
        libraries().cusolverDnXsyevd_bufferSize(solver, params, job, kFillLower, n, CUDA_R_64F, a.data(), n, CUDA_R_64F,
                                                values.data(), CUDA_R_64F, &work.on_device, &work.on_host),
        "cusolverDnXsyevd_bufferSize");
    work.allocate();
    check_solver(libraries().cusolverDnXsyevd(solver, params, job, kFillLower, n, CUDA_R_64F, a.data(), n, CUDA_R_64F,
                                              values.data(), CUDA_R_64F, work.device.data(), work.on_device,
                                              work.host.data(), work.on_host, work.info.data()),
                 "cusolverDnXsyevd");
  });
  require_success(work.outcome(), "cusolverDnXsyevd");
  return cuda::on_host(values, 1);
}

/// Singular values of a (m, n), m >= n, descending; if `vectors`, also U (m, n) and V^T (n, n).
std::vector<double> svd(M& a, bool vectors, M& u, M& vt) {
  const Index m = a.rows();
  const Index n = a.cols();
  if (n == 0) return {};
  Vector<Cuda> values(n);
  const signed char job = vectors ? 'S' : 'N';
  u = M(vectors ? m : 1, vectors ? n : 1);
  vt = M(vectors ? n : 1, vectors ? n : 1);
  Workspace work;
  current().with_solver([&](auto solver, auto params) {
    check_solver(libraries().cusolverDnXgesvd_bufferSize(solver, params, job, job, m, n, CUDA_R_64F, a.data(), m,
                                                         CUDA_R_64F, values.data(), CUDA_R_64F, u.data(), m, CUDA_R_64F,
                                                         vt.data(), n, CUDA_R_64F, &work.on_device, &work.on_host),
                 "cusolverDnXgesvd_bufferSize");
    work.allocate();
    check_solver(
        libraries().cusolverDnXgesvd(solver, params, job, job, m, n, CUDA_R_64F, a.data(), m, CUDA_R_64F, values.data(),
                                     CUDA_R_64F, u.data(), m, CUDA_R_64F, vt.data(), n, CUDA_R_64F, work.device.data(),
                                     work.on_device, work.host.data(), work.on_host, work.info.data()),
        "cusolverDnXgesvd");
  });
  require_success(work.outcome(), "cusolverDnXgesvd");
  return cuda::on_host(values, 1);
}

}  // namespace

// Products ----------------------------------------------------------------------------------------------------

template <>
M MatrixOps<Cuda>::transposed_product(const M& a, const M& b) {
  return multiply(kTranspose, a, kNoTranspose, b);
}

template <>
M MatrixOps<Cuda>::triangular_product(const M& l, M b) {
  multiply_by_triangle(kSideLeft, kTranspose, l, b);
  return b;
}

template <>
M MatrixOps<Cuda>::product(const M& a, const M& b) {
  return multiply(kNoTranspose, a, kNoTranspose, b);
}

template <>
M MatrixOps<Cuda>::outer_product(const M& a) {
  M c = M::zeros(a.rows(), a.rows());
  if (!a.empty()) rank_update(kNoTranspose, 1.0, a, 0.0, c);
  mirror_lower(c, 1.0);
  return c;
}

template <>
void MatrixOps<Cuda>::subtract_outer_product(M& c, const M& a) {
  rank_update(kNoTranspose, -1.0, a, 1.0, c);
}

/// Two triangular products: more work than LAPACK's sygst, but a single call each.
template <>
void MatrixOps<Cuda>::congruence(M& s, const M& l) {
  mirror_lower(s, 1.0);
  multiply_by_triangle(kSideLeft, kTranspose, l, s);
  multiply_by_triangle(kSideRight, kNoTranspose, l, s);
}

template <>
M MatrixOps<Cuda>::quadratic_form(const M& s, const M& f) {
  M sf(f.rows(), f.cols());
  if (sf.empty()) return M(f.cols(), f.cols());
  current().with_blas([&](auto blas) {
    check_blas(libraries().cublasDsymm_v2(blas, kSideLeft, kFillLower, size(f.rows()), size(f.cols()), &kOne, s.data(),
                                          size(s.rows()), f.data(), size(f.rows()), &kZero, sf.data(), size(f.rows())),
               "cublasDsymm");
  });
  return transposed_product(f, sf);
}

// Factorisations ----------------------------------------------------------------------------------------------

template <>
bool MatrixOps<Cuda>::cholesky(M& a) {
  const Index n = a.rows();
  Workspace work;
  current().with_solver([&](auto solver, auto params) {
    check_solver(libraries().cusolverDnXpotrf_bufferSize(solver, params, kFillLower, n, CUDA_R_64F, a.data(), n,
                                                         CUDA_R_64F, &work.on_device, &work.on_host),
                 "cusolverDnXpotrf_bufferSize");
    work.allocate();
    check_solver(libraries().cusolverDnXpotrf(solver, params, kFillLower, n, CUDA_R_64F, a.data(), n, CUDA_R_64F,
                                              work.device.data(), work.on_device, work.host.data(), work.on_host,
                                              work.info.data()),
                 "cusolverDnXpotrf");
  });
  const bool definite = work.outcome() == 0;
  clear_upper(a);
  return definite;
}

template <>
Index MatrixOps<Cuda>::pivoted_cholesky(M& a, double tolerance, std::vector<Index>& order) {
  const Index rank = cuda::pivoted_cholesky(a, tolerance, order);
  clear_upper(a);
  return rank;
}

namespace {

/// The inverse of the leading (rank, rank) block of lower triangular l (n, >= rank).
M inverse_of(const M& l, Index rank) {
  M inverse(rank, rank);
  double* const to = inverse.data();
  for_each_element(rank, rank, [=] __device__(Index i, Index j) { to[i + j * rank] = i == j ? 1.0 : 0.0; });
  current().with_blas([&](auto blas) {
    check_blas(libraries().cublasDtrsm_v2(blas, kSideLeft, kFillLower, kNoTranspose, kNonUnitDiagonal, size(rank),
                                          size(rank), &kOne, l.data(), size(l.rows()), inverse.data(), size(rank)),
               "cublasDtrsm");
  });
  return inverse;
}

}  // namespace

/// Exact, not an estimate: computes L^-1 and L^-T L^-1.
template <>
double MatrixOps<Cuda>::inverse_norm(const M& l, Index rank) {
  if (rank == 0) return 0;
  const M inverse = inverse_of(l, rank);
  M whole(rank, rank);
  rank_update(kTranspose, 1.0, inverse, 0.0, whole);
  mirror_lower(whole, 1.0);
  Vector<Cuda> sums(rank);
  double* const of_columns = sums.data();
  const double* const numbers = whole.data();
  for_each_item(
      rank, rank, 0.0, [=] __device__(Index j, Index i) { return fabs(numbers[i + j * rank]); }, cuda::Sum(),
      [=] __device__(Index j, double sum) { of_columns[j] = sum; });
  const std::vector<double> norms = cuda::on_host(sums, 1);
  return *std::max_element(norms.begin(), norms.end());
}

template <>
double MatrixOps<Cuda>::inverse_trace(const M& l) {
  return squared_norm(inverse_of(l, l.cols()));
}

template <>
std::vector<double> MatrixOps<Cuda>::eigenvalues(M& a) {
  return eigenproblem(cuda::kValuesOnly, a);
}

template <>
std::vector<double> MatrixOps<Cuda>::eigenvectors(M& a) {
  return eigenproblem(cuda::kValuesAndVectors, a);
}

template <>
std::vector<double> MatrixOps<Cuda>::singular_values(M& a) {
  M u;
  M vt;
  return svd(a, false, u, vt);
}

template <>
std::vector<double> MatrixOps<Cuda>::right_singular_vectors(M& a, M& right) {
  M u;
  M vt;
  if (a.rows() >= a.cols()) {
    std::vector<double> values = svd(a, true, u, vt);
    right = transposed(vt);
    return values;
  }
  M flat = transposed(a);
  std::vector<double> values = svd(flat, true, u, vt);
  right = std::move(u);
  return values;
}

}  // namespace fidfast
