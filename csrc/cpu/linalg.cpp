// MatrixOps with BLAS and LAPACK.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/device.hpp"
#include "cpu/lapack.hpp"
#include "cpu/tridiagonal.hpp"

namespace fidfast {

namespace {

using M = Matrix<Cpu>;
using V = Vector<Cpu>;
constexpr double kOne = 1.0;
constexpr double kZero = 0.0;

void clear_upper(M& a) {
  for (Index j = 1; j < a.cols(); ++j) std::fill_n(a.column(j), std::min(j, a.rows()), 0.0);
}

/// c = op(a) op(b).
M multiply(const char* op_a, const M& a, const char* op_b, const M& b) {
  const Index rows = *op_a == 'N' ? a.rows() : a.cols();
  const Index inner = *op_a == 'N' ? a.cols() : a.rows();
  const Index cols = *op_b == 'N' ? b.cols() : b.rows();
  M c(rows, cols);
  if (c.empty()) return c;
  lapack::with([&](const auto& lib) {
    const auto m = lib.size(rows);
    const auto n = lib.size(cols);
    const auto k = lib.size(inner);
    const auto lda = lib.size(a.rows());
    const auto ldb = lib.size(b.rows());
    lib.dgemm(op_a, op_b, &m, &n, &k, &kOne, a.data(), &lda, b.data(), &ldb, &kZero, c.data(), &m);
  });
  return c;
}

/// c = alpha a a^T + beta c, lower triangle.
void rank_update(double alpha, const M& a, double beta, M& c) {
  lapack::with([&](const auto& lib) {
    const auto n = lib.size(a.rows());
    const auto k = lib.size(a.cols());
    lib.dsyrk("L", "N", &n, &k, &alpha, a.data(), &n, &beta, c.data(), &n);
  });
}

/// s <- l^T s l in place, for n rows and columns that are `stride` apart, by recursive bisection. dsygst works in
/// narrow panels, whose products run at half the speed. `memory` has n^2 / 2 elements.
///
///   [a b^T]     [p 0]        [p^T a p + q^T w + w^T q   .        ]
///   [b  c ], l: [q r]  gives [r^T (w + c q / 2)         r^T c r  ],  w = b p + c q / 2
template <class Library>
void congruence_of(const Library& lib, Index n, double* s, const double* l, Index stride, double* memory) {
  using Int = typename Library::Int;
  constexpr Index kSmall = 128;
  const Int ld = lib.size(stride);
  if (n <= kSmall) {
    const Int size = lib.size(n);
    const Int lower_times_upper = 2;
    Int info = 0;
    lib.dsygst(&lower_times_upper, "L", &size, s, &ld, l, &ld, &info);
    return lapack::require_success(info, "dsygst");
  }
  const Index upper = n / 2;
  const Index lower = n - upper;
  const Int columns = lib.size(upper);
  const Int rows = lib.size(lower);
  double* const b = s + upper;
  double* const c = b + upper * stride;
  const double* const q = l + upper;
  const double* const r = q + upper * stride;
  double* const cq = memory;
  const auto add_half_of_cq = [&] {
    for (Index j = 0; j < upper; ++j) {
      for (Index i = 0; i < lower; ++i) b[i + j * stride] += 0.5 * cq[i + j * lower];
    }
  };
  lib.dsymm("L", "L", &rows, &columns, &kOne, c, &ld, q, &ld, &kZero, cq, &rows);
  lib.dtrmm("R", "L", "N", "N", &rows, &columns, &kOne, l, &ld, b, &ld);
  add_half_of_cq();
  congruence_of(lib, upper, s, l, stride, cq + lower * upper);
  lib.dsyr2k("L", "T", &columns, &rows, &kOne, q, &ld, b, &ld, &kOne, s, &ld);
  add_half_of_cq();
  lib.dtrmm("L", "L", "T", "N", &rows, &columns, &kOne, r, &ld, b, &ld);
  congruence_of(lib, lower, c, r, stride, memory);
}

/// Singular values of a (m, n). If `right`, vt becomes V^T (min(m, n), n).
std::vector<double> svd(M& a, bool right, M& vt) {
  const Index least = std::min(a.rows(), a.cols());
  std::vector<double> values(static_cast<std::size_t>(least));
  if (least == 0) return values;
  M u(right ? a.rows() : 1, right ? least : 1);
  vt = M(right ? least : 1, right ? a.cols() : 1);
  lapack::with([&](const auto& lib) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int m = lib.size(a.rows());
    const Int n = lib.size(a.cols());
    const Int ldu = lib.size(u.rows());
    const Int ldvt = lib.size(vt.rows());
    std::vector<Int> iwork(static_cast<std::size_t>(8 * least));
    const char* const job = right ? "S" : "N";
    Int info = 0;
    double answer = 0;
    Int lwork = -1;
    lib.dgesdd(job, &m, &n, a.data(), &m, values.data(), u.data(), &ldu, vt.data(), &ldvt, &answer, &lwork,
               iwork.data(), &info);
    lapack::require_success(info, "dgesdd");
    lwork = lib.size(static_cast<Index>(answer));
    V work(lwork);
    lib.dgesdd(job, &m, &n, a.data(), &m, values.data(), u.data(), &ldu, vt.data(), &ldvt, work.data(), &lwork,
               iwork.data(), &info);
    lapack::require_success(info, "dgesdd");
  });
  return values;
}

}  // namespace

// Products ----------------------------------------------------------------------------------------------------

template <>
M MatrixOps<Cpu>::transposed_product(const M& a, const M& b) {
  return multiply("T", a, "N", b);
}

template <>
M MatrixOps<Cpu>::product(const M& a, const M& b) {
  return multiply("N", a, "N", b);
}

template <>
M MatrixOps<Cpu>::triangular_product(const M& l, M b) {
  if (b.empty()) return b;
  lapack::with([&](const auto& lib) {
    const auto m = lib.size(b.rows());
    const auto n = lib.size(b.cols());
    lib.dtrmm("L", "L", "T", "N", &m, &n, &kOne, l.data(), &m, b.data(), &m);
  });
  return b;
}

template <>
M MatrixOps<Cpu>::outer_product(const M& a) {
  M c = M::zeros(a.rows(), a.rows());
  rank_update(1.0, a, 0.0, c);
  mirror_lower(c, 1.0);
  return c;
}

template <>
void MatrixOps<Cpu>::subtract_outer_product(M& c, const M& a) {
  rank_update(-1.0, a, 1.0, c);
}

template <>
void MatrixOps<Cpu>::congruence(M& s, const M& l) {
  V memory(s.size() / 2);
  lapack::with([&](const auto& lib) { congruence_of(lib, s.rows(), s.data(), l.data(), s.rows(), memory.data()); });
}

template <>
std::vector<double> MatrixOps<Cpu>::absolute_product(const M& l, const std::vector<double>& v) {
  std::vector<double> result(v.size());
  for (Index j = 0; j < l.cols(); ++j) {
    double sum = 0;
    for (Index i = j; i < l.rows(); ++i) sum += std::abs(l.column(j)[i]) * v[static_cast<std::size_t>(i)];
    result[static_cast<std::size_t>(j)] = sum;
  }
  return result;
}

template <>
M MatrixOps<Cpu>::quadratic_form(const M& s, const M& f) {
  M sf(f.rows(), f.cols());
  if (sf.empty()) return M(f.cols(), f.cols());
  lapack::with([&](const auto& lib) {
    const auto m = lib.size(f.rows());
    const auto n = lib.size(f.cols());
    lib.dsymm("L", "L", &m, &n, &kOne, s.data(), &m, f.data(), &m, &kZero, sf.data(), &m);
  });
  return transposed_product(f, sf);
}

// Factorisations ----------------------------------------------------------------------------------------------

template <>
bool MatrixOps<Cpu>::cholesky(M& a) {
  const bool definite = lapack::with([&](const auto& lib) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(a.rows());
    Int info = 0;
    lib.dpotrf("L", &n, a.data(), &n, &info);
    return info == 0;
  });
  clear_upper(a);
  return definite;
}

template <>
Index MatrixOps<Cpu>::pivoted_cholesky(M& a, double tolerance, std::vector<Index>& order) {
  const Index result = lapack::with([&](const auto& lib) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(a.rows());
    std::vector<Int> pivots(static_cast<std::size_t>(n));
    V work(2 * a.rows());
    Int rank = 0;
    Int info = 0;
    lib.dpstrf("L", &n, a.data(), &n, pivots.data(), &rank, &tolerance, work.data(), &info);
    order.assign(pivots.begin(), pivots.end());
    return static_cast<Index>(rank);
  });
  for (Index& row : order) --row;
  clear_upper(a);
  return result;
}

template <>
double MatrixOps<Cpu>::inverse_norm(const M& l, Index rank) {
  return lapack::with([&](const auto& lib) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(rank);
    const Int lda = lib.size(l.rows());
    V work(3 * rank);
    std::vector<Int> iwork(static_cast<std::size_t>(rank));
    const double norm = 1.0;  // so that rcond is the reciprocal of the norm of the inverse
    double rcond = 0;
    Int info = 0;
    lib.dpocon("L", &n, l.data(), &lda, &norm, &rcond, work.data(), iwork.data(), &info);
    lapack::require_success(info, "dpocon");
    return 1.0 / rcond;
  });
}

template <>
double MatrixOps<Cpu>::inverse_trace(const M& l) {
  M inverse = l;
  lapack::with([&](const auto& lib) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(l.rows());
    Int info = 0;
    lib.dtrtri("L", "N", &n, inverse.data(), &n, &info);
    lapack::require_success(info, "dtrtri");
  });
  return squared_norm(inverse);
}

template <>
std::vector<double> MatrixOps<Cpu>::eigenvalues(M& a) {
  std::vector<double> values(static_cast<std::size_t>(a.rows()));
  if (values.empty()) return values;
  V off_diagonal(a.rows());
  tridiagonalize(a, values.data(), off_diagonal.data());
  lapack::with([&](const auto& lib) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(a.rows());
    Int info = 0;
    lib.dsterf(&n, values.data(), off_diagonal.data(), &info);
    lapack::require_success(info, "dsterf");
  });
  return values;
}

template <>
std::vector<double> MatrixOps<Cpu>::eigenvectors(M& a) {
  std::vector<double> values(static_cast<std::size_t>(a.rows()));
  if (values.empty()) return values;
  lapack::with([&](const auto& lib) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(a.rows());
    Int info = 0;
    double answer = 0;
    Int lwork = -1;
    Int int_answer = 0;
    Int liwork = -1;
    lib.dsyevd("V", "L", &n, a.data(), &n, values.data(), &answer, &lwork, &int_answer, &liwork, &info);
    lapack::require_success(info, "dsyevd");
    lwork = lib.size(static_cast<Index>(answer));
    liwork = int_answer;
    V work(lwork);
    std::vector<Int> iwork(static_cast<std::size_t>(liwork));
    lib.dsyevd("V", "L", &n, a.data(), &n, values.data(), work.data(), &lwork, iwork.data(), &liwork, &info);
    lapack::require_success(info, "dsyevd");
  });
  return values;
}

template <>
std::vector<double> MatrixOps<Cpu>::singular_values(M& a) {
  M none;
  return svd(a, false, none);
}

template <>
std::vector<double> MatrixOps<Cpu>::right_singular_vectors(M& a, M& right) {
  M vt;
  std::vector<double> values = svd(a, true, vt);
  right = M(vt.cols(), vt.rows());
  for (Index j = 0; j < right.cols(); ++j) {
    for (Index i = 0; i < right.rows(); ++i) right.column(j)[i] = vt.column(i)[j];
  }
  return values;
}

}  // namespace fidfast
