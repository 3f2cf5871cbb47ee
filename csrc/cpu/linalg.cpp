// MatrixOps with BLAS and LAPACK.
#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "cpu/device.hpp"
#include "cpu/lapack.hpp"
#include "cpu/products.hpp"
#include "cpu/tridiagonal.hpp"

namespace fidfast {

namespace {

using M = Matrix<Cpu>;
using V = Vector<Cpu>;

/// Calls work(a), a routine of LAPACK, so that it can be interrupted; `a` is lost then. Other arguments must be in
/// `arrays`, which the routine may still use after that.
template <class Arrays, class Work>
void call_lapack(M& a, const std::shared_ptr<Arrays>& arrays, Work work) {
  const auto call = [work](std::pair<M, std::shared_ptr<Arrays>>& both) {
    lapack::with([&](const auto& lib) { work(lib, both.first, *both.second); });
  };
  const auto both = std::make_shared<std::pair<M, std::shared_ptr<Arrays>>>(std::move(a), arrays);
  lapack::run(std::max(both->first.rows(), both->first.cols()), both, call);
  a = std::move(both->first);
}

void clear_upper(M& a) {
  for (Index j = 1; j < a.cols(); ++j) std::fill_n(a.column(j), std::min(j, a.rows()), 0.0);
}

/// c = op(a) op(b).
M multiply(char op_a, const M& a, char op_b, const M& b) {
  const Index rows = op_a == 'N' ? a.rows() : a.cols();
  const Index inner = op_a == 'N' ? a.cols() : a.rows();
  const Index cols = op_b == 'N' ? b.cols() : b.rows();
  M c(rows, cols);
  if (c.empty()) return c;
  lapack::with([&](const auto& lib) {
    blas::gemm(lib, op_a, op_b, rows, cols, inner, 1.0, a.data(), a.rows(), b.data(), b.rows(), 0.0, c.data(), rows);
  });
  return c;
}

/// c = alpha a a^T + beta c, lower triangle.
void rank_update(double alpha, const M& a, double beta, M& c) {
  lapack::with([&](const auto& lib) {
    blas::syrk(lib, 'N', a.rows(), a.cols(), alpha, a.data(), a.rows(), beta, c.data(), c.rows());
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
  if (n <= kSmall) {
    const Int ld = lib.size(stride);
    const Int size = lib.size(n);
    const Int lower_times_upper = 2;
    Int info = 0;
    lib.dsygst(&lower_times_upper, "L", &size, s, &ld, l, &ld, &info);
    return lapack::require_success(info, "dsygst");
  }
  const Index upper = n / 2;
  const Index lower = n - upper;
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
  blas::symm(lib, lower, upper, c, stride, q, stride, cq, lower);
  blas::trmm_right(lib, lower, upper, l, stride, b, stride);
  add_half_of_cq();
  congruence_of(lib, upper, s, l, stride, cq + lower * upper);
  blas::syr2k(lib, upper, lower, q, stride, b, stride, s, stride);
  add_half_of_cq();
  blas::trmm_left(lib, lower, upper, r, stride, b, stride);
  congruence_of(lib, lower, c, r, stride, memory);
}

/// Singular values of a (m, n). If `right`, vt becomes V^T (min(m, n), n).
std::vector<double> svd(M& a, bool right, M& vt) {
  struct Arrays {
    std::vector<double> values;
    M u;
    M vt;
  };
  const Index least = std::min(a.rows(), a.cols());
  if (least == 0) return {};
  const auto arrays = std::make_shared<Arrays>();
  arrays->values.resize(static_cast<std::size_t>(least));
  arrays->u = M(right ? a.rows() : 1, right ? least : 1);
  arrays->vt = M(right ? least : 1, right ? a.cols() : 1);
  call_lapack(a, arrays, [right, least](const auto& lib, M& matrix, Arrays& mine) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int m = lib.size(matrix.rows());
    const Int n = lib.size(matrix.cols());
    const Int ldu = lib.size(mine.u.rows());
    const Int ldvt = lib.size(mine.vt.rows());
    std::vector<Int> iwork(static_cast<std::size_t>(8 * least));
    const char* const job = right ? "S" : "N";
    Int info = 0;
    const auto call = [&](double* work, Int lwork) {
      lib.dgesdd(job, &m, &n, matrix.data(), &m, mine.values.data(), mine.u.data(), &ldu, mine.vt.data(), &ldvt, work,
                 &lwork, iwork.data(), &info);
      lapack::require_success(info, "dgesdd");
    };
    double answer = 0;
    call(&answer, -1);
    V work(static_cast<Index>(answer));
    call(work.data(), lib.size(work.rows()));
  });
  vt = std::move(arrays->vt);
  return std::move(arrays->values);
}

}  // namespace

// Products ----------------------------------------------------------------------------------------------------

template <>
M MatrixOps<Cpu>::transposed_product(const M& a, const M& b) {
  return multiply('T', a, 'N', b);
}

template <>
M MatrixOps<Cpu>::product(const M& a, const M& b) {
  return multiply('N', a, 'N', b);
}

template <>
M MatrixOps<Cpu>::triangular_product(const M& l, M b) {
  if (b.empty()) return b;
  lapack::with(
      [&](const auto& lib) { blas::trmm_left(lib, b.rows(), b.cols(), l.data(), b.rows(), b.data(), b.rows()); });
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
    blas::symm(lib, f.rows(), f.cols(), s.data(), f.rows(), f.data(), f.rows(), sf.data(), f.rows());
  });
  return transposed_product(f, sf);
}

// Factorisations ----------------------------------------------------------------------------------------------

template <>
bool MatrixOps<Cpu>::cholesky(M& a) {
  const auto definite = std::make_shared<bool>(false);
  call_lapack(a, definite, [](const auto& lib, M& matrix, bool& result) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(matrix.rows());
    Int info = 0;
    lib.dpotrf("L", &n, matrix.data(), &n, &info);
    result = info == 0;
  });
  clear_upper(a);
  return *definite;
}

template <>
Index MatrixOps<Cpu>::pivoted_cholesky(M& a, double tolerance, std::vector<Index>& order) {
  const auto pivots = std::make_shared<std::pair<Index, std::vector<Index>>>();
  call_lapack(a, pivots, [tolerance](const auto& lib, M& matrix, auto& result) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(matrix.rows());
    std::vector<Int> rows(static_cast<std::size_t>(n));
    V work(2 * matrix.rows());
    Int rank = 0;
    Int info = 0;
    lib.dpstrf("L", &n, matrix.data(), &n, rows.data(), &rank, &tolerance, work.data(), &info);
    result = {static_cast<Index>(rank), {rows.begin(), rows.end()}};
  });
  order = std::move(pivots->second);
  for (Index& row : order) --row;
  clear_upper(a);
  return pivots->first;
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
  call_lapack(inverse, std::make_shared<int>(), [](const auto& lib, M& matrix, int&) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(matrix.rows());
    Int info = 0;
    lib.dtrtri("L", "N", &n, matrix.data(), &n, &info);
    lapack::require_success(info, "dtrtri");
  });
  return squared_norm(inverse);
}

template <>
std::vector<double> MatrixOps<Cpu>::eigenvalues(M& a) {
  if (a.empty()) return {};
  const auto values = std::make_shared<std::vector<double>>(static_cast<std::size_t>(a.rows()));
  M off_diagonal(a.rows(), 1);
  tridiagonalize(a, values->data(), off_diagonal.data());
  call_lapack(off_diagonal, values, [](const auto& lib, M& below, std::vector<double>& diagonal) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(below.rows());
    Int info = 0;
    lib.dsterf(&n, diagonal.data(), below.data(), &info);
    lapack::require_success(info, "dsterf");
  });
  return std::move(*values);
}

template <>
std::vector<double> MatrixOps<Cpu>::eigenvectors(M& a) {
  if (a.empty()) return {};
  const auto values = std::make_shared<std::vector<double>>(static_cast<std::size_t>(a.rows()));
  call_lapack(a, values, [](const auto& lib, M& matrix, std::vector<double>& result) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(matrix.rows());
    Int info = 0;
    const auto call = [&](double* work, Int lwork, Int* iwork, Int liwork) {
      lib.dsyevd("V", "L", &n, matrix.data(), &n, result.data(), work, &lwork, iwork, &liwork, &info);
      lapack::require_success(info, "dsyevd");
    };
    double answer = 0;
    Int int_answer = 0;
    call(&answer, -1, &int_answer, -1);
    V work(static_cast<Index>(answer));
    std::vector<Int> iwork(static_cast<std::size_t>(int_answer));
    call(work.data(), lib.size(work.rows()), iwork.data(), int_answer);
  });
  return std::move(*values);
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
