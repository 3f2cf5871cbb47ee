// The verbs of linear algebra by BLAS and LAPACK, and the loops between them.
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

/// work(i, j) for every i > j, in tiles that fit the cache on both sides of the diagonal.
template <class Work>
void for_each_below_diagonal(Index n, Work work) {
  constexpr Index kTile = 32;
  for (Index jj = 0; jj < n; jj += kTile) {
    for (Index ii = jj; ii < n; ii += kTile) {
      for (Index j = jj; j < std::min(jj + kTile, n); ++j) {
        for (Index i = std::max(ii, j + 1); i < std::min(ii + kTile, n); ++i) work(i, j);
      }
    }
  }
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

/// s <- l^T s l in place for n rows and columns that lie `stride` apart, by halves: dsygst does the same in narrow
/// panels, where products run at half the speed. `memory` holds n^2 / 2 numbers.
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

template <class Int>
Int workspace_size(double answer) {
  return static_cast<Int>(answer);
}

/// Singular values of a (m, n); with right = true also V^T (min(m, n), n) in vt.
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
    lwork = workspace_size<Int>(answer);
    V work(lwork);
    lib.dgesdd(job, &m, &n, a.data(), &m, values.data(), u.data(), &ldu, vt.data(), &ldvt, work.data(), &lwork,
               iwork.data(), &info);
    lapack::require_success(info, "dgesdd");
  });
  return values;
}

}  // namespace

// Vectors and means -------------------------------------------------------------------------------------------

template <>
void Linalg<Cpu>::difference(const Mean<Cpu>& to, const Mean<Cpu>& from, V& d) {
  for (Index j = 0; j < d.rows(); ++j) {
    d.data()[j] = (to.high.data()[j] - from.high.data()[j]) + (to.low.data()[j] - from.low.data()[j]);
  }
}

template <>
void Linalg<Cpu>::advance(Mean<Cpu>& mean, double weight, const V& d) {
  for (Index j = 0; j < d.rows(); ++j) {
    double& high = mean.high.data()[j];
    double& low = mean.low.data()[j];
    const double step = low + weight * d.data()[j];
    // high + step as an exact sum (Knuth), so that nothing of the step is lost beside a large mean.
    const double sum = high + step;
    const double shadow = sum - high;
    low = (high - (sum - shadow)) + (step - shadow);
    high = sum;
  }
}

template <>
double Linalg<Cpu>::squared_distance(const V& a, const V& b) {
  double sum = 0;
  for (Index j = 0; j < a.rows(); ++j) {
    const double d = a.data()[j] - b.data()[j];
    sum += d * d;
  }
  return sum;
}

// Element by element ------------------------------------------------------------------------------------------

template <>
void Linalg<Cpu>::add_symmetric(M& a, double alpha, const M& b, double beta, const V& d) {
  for (Index j = 0; j < a.cols(); ++j) {
    double* const column = a.column(j);
    const double* const other = b.column(j);
    const double dj = beta * d.data()[j];
    for (Index i = j; i < a.rows(); ++i) column[i] += alpha * other[i] + dj * d.data()[i];
  }
}

template <>
void Linalg<Cpu>::scale(M& a, double alpha) {
  std::for_each(a.data(), a.data() + a.size(), [alpha](double& value) { value *= alpha; });
}

template <>
Asymmetry Linalg<Cpu>::symmetrize(M& a) {
  Asymmetry worst;
  for_each_below_diagonal(a.rows(), [&](Index i, Index j) {
    double& lower = a.column(j)[i];
    double& upper = a.column(i)[j];
    const double difference = std::abs(lower - upper);
    if (difference > worst.difference) worst = {difference, i, j};
    lower = upper = lower + (upper - lower) / 2;
  });
  return worst;
}

template <>
void Linalg<Cpu>::mirror(M& a) {
  for_each_below_diagonal(a.rows(), [&](Index i, Index j) { a.column(i)[j] = a.column(j)[i]; });
}

template <>
std::vector<double> Linalg<Cpu>::diagonal(const M& a) {
  std::vector<double> result(static_cast<std::size_t>(a.cols()));
  for (Index j = 0; j < a.cols(); ++j) result[static_cast<std::size_t>(j)] = a.column(j)[j];
  return result;
}

template <>
std::vector<bool> Linalg<Cpu>::nonzero_columns(const M& a) {
  std::vector<bool> result(static_cast<std::size_t>(a.cols()));
  for (Index j = 0; j < a.cols(); ++j) {
    const double* const column = a.column(j);
    result[static_cast<std::size_t>(j)] = std::any_of(column, column + a.rows(), [](double v) { return v != 0; });
  }
  return result;
}

template <>
double Linalg<Cpu>::squared_norm(const M& a) {
  double sum = 0;
  for (Index j = 0; j < a.cols(); ++j) {
    double of_column = 0;
    for (Index i = 0; i < a.rows(); ++i) of_column += a.column(j)[i] * a.column(j)[i];
    sum += of_column;
  }
  return sum;
}

template <>
double Linalg<Cpu>::largest(const M& a) {
  double result = 0;
  for (Index j = 0; j < a.cols(); ++j) {
    for (Index i = j; i < a.rows(); ++i) {
      const double magnitude = std::abs(a.column(j)[i]);
      if (std::isnan(magnitude)) return magnitude;  // the largest of all
      result = std::max(result, magnitude);
    }
  }
  return result;
}

template <>
M Linalg<Cpu>::submatrix(double alpha, const M& a, const std::vector<Index>& units) {
  const Index n = static_cast<Index>(units.size());
  M result(n, n);
  for (Index j = 0; j < n; ++j) {
    const double* const from = a.column(units[static_cast<std::size_t>(j)]);
    double* const to = result.column(j);
    for (Index i = 0; i < n; ++i) to[i] = alpha * from[units[static_cast<std::size_t>(i)]];
  }
  return result;
}

template <>
M Linalg<Cpu>::scatter_rows(const M& a, Index num_rows, const std::vector<Index>& rows,
                            const std::vector<double>& scale) {
  M result = M::zeros(num_rows, a.cols());
  for (Index j = 0; j < a.cols(); ++j) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      result.column(j)[rows[i]] = scale[i] * a.column(j)[static_cast<Index>(i)];
    }
  }
  return result;
}

template <>
M Linalg<Cpu>::gather_rows(const M& a, const std::vector<Index>& rows) {
  M result(static_cast<Index>(rows.size()), a.cols());
  for (Index j = 0; j < a.cols(); ++j) {
    for (std::size_t i = 0; i < rows.size(); ++i) result.column(j)[i] = a.column(j)[rows[i]];
  }
  return result;
}

template <>
M Linalg<Cpu>::scaled_columns(const M& a, Index first, const std::vector<double>& scale) {
  M result(a.rows(), static_cast<Index>(scale.size()));
  for (std::size_t j = 0; j < scale.size(); ++j) {
    const double* const from = a.column(first + static_cast<Index>(j));
    double* const to = result.column(static_cast<Index>(j));
    for (Index i = 0; i < a.rows(); ++i) to[i] = scale[j] * from[i];
  }
  return result;
}

template <>
void Linalg<Cpu>::scale_both_sides(M& a, const std::vector<double>& scale) {
  for (Index j = 0; j < a.cols(); ++j) {
    const double of_column = scale[static_cast<std::size_t>(j)];
    for (Index i = j; i < a.rows(); ++i) a.column(j)[i] *= of_column * scale[static_cast<std::size_t>(i)];
  }
}

template <>
M Linalg<Cpu>::drop_mean_direction(M rows, const Mean<Cpu>& mean) {
  const Index dim = rows.rows();
  const Index n = rows.cols();
  V sum = V::zeros(dim);
  for (Index i = 0; i < n; ++i) {
    double* const row = rows.column(i);
    for (Index j = 0; j < dim; ++j) {
      row[j] = (row[j] - mean.high.data()[j]) - mean.low.data()[j];
      sum.data()[j] += row[j];
    }
  }
  // The Householder reflection that carries (1, ..., 1) / sqrt(n) to -(1, 0, ..., 0) keeps the sum of the rows'
  // outer products; in it the first row is the sum / sqrt(n), and the others hold the scatter about the mean.
  const double root = std::sqrt(static_cast<double>(n));
  M result(dim, n - 1);
  for (Index j = 0; j < dim; ++j) {
    sum.data()[j] = (sum.data()[j] / root + rows.column(0)[j]) / (1.0 + root);
  }
  for (Index i = 1; i < n; ++i) {
    const double* const from = rows.column(i);
    double* const to = result.column(i - 1);
    for (Index j = 0; j < dim; ++j) to[j] = from[j] - sum.data()[j];
  }
  return result;
}

// Products ----------------------------------------------------------------------------------------------------

template <>
M Linalg<Cpu>::transposed_product(const M& a, const M& b) {
  return multiply("T", a, "N", b);
}

template <>
M Linalg<Cpu>::product(const M& a, const M& b) {
  return multiply("N", a, "N", b);
}

template <>
M Linalg<Cpu>::triangular_product(const M& l, M b) {
  if (b.empty()) return b;
  lapack::with([&](const auto& lib) {
    const auto m = lib.size(b.rows());
    const auto n = lib.size(b.cols());
    lib.dtrmm("L", "L", "T", "N", &m, &n, &kOne, l.data(), &m, b.data(), &m);
  });
  return b;
}

template <>
M Linalg<Cpu>::outer_product(const M& a) {
  M c = M::zeros(a.rows(), a.rows());
  rank_update(1.0, a, 0.0, c);
  mirror(c);
  return c;
}

template <>
void Linalg<Cpu>::subtract_outer_product(M& c, const M& a) {
  rank_update(-1.0, a, 1.0, c);
}

template <>
void Linalg<Cpu>::congruence(M& s, const M& l) {
  V memory(s.size() / 2);
  lapack::with([&](const auto& lib) { congruence_of(lib, s.rows(), s.data(), l.data(), s.rows(), memory.data()); });
}

template <>
std::vector<double> Linalg<Cpu>::absolute_product(const M& l, const std::vector<double>& v) {
  std::vector<double> result(v.size());
  for (Index j = 0; j < l.cols(); ++j) {
    double sum = 0;
    for (Index i = j; i < l.rows(); ++i) sum += std::abs(l.column(j)[i]) * v[static_cast<std::size_t>(i)];
    result[static_cast<std::size_t>(j)] = sum;
  }
  return result;
}

template <>
M Linalg<Cpu>::quadratic_form(const M& s, const M& f) {
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
bool Linalg<Cpu>::cholesky(M& a) {
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
Index Linalg<Cpu>::pivoted_cholesky(M& a, double tolerance, std::vector<Index>& order) {
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
double Linalg<Cpu>::inverse_norm(const M& l, Index rank) {
  return lapack::with([&](const auto& lib) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(rank);
    const Int lda = lib.size(l.rows());
    V work(3 * rank);
    std::vector<Int> iwork(static_cast<std::size_t>(rank));
    const double norm = 1.0;  // so that the reciprocal condition is the reciprocal of the inverse's norm
    double rcond = 0;
    Int info = 0;
    lib.dpocon("L", &n, l.data(), &lda, &norm, &rcond, work.data(), iwork.data(), &info);
    lapack::require_success(info, "dpocon");
    return 1.0 / rcond;
  });
}

template <>
std::vector<double> Linalg<Cpu>::eigenvalues(M& a) {
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
std::vector<double> Linalg<Cpu>::eigenvectors(M& a) {
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
    lwork = workspace_size<Int>(answer);
    liwork = int_answer;
    V work(lwork);
    std::vector<Int> iwork(static_cast<std::size_t>(liwork));
    lib.dsyevd("V", "L", &n, a.data(), &n, values.data(), work.data(), &lwork, iwork.data(), &liwork, &info);
    lapack::require_success(info, "dsyevd");
  });
  return values;
}

template <>
std::vector<double> Linalg<Cpu>::singular_values(M& a) {
  M none;
  return svd(a, false, none);
}

template <>
std::vector<double> Linalg<Cpu>::right_singular_vectors(M& a, M& right) {
  M vt;
  std::vector<double> values = svd(a, true, vt);
  right = M(vt.cols(), vt.rows());
  for (Index j = 0; j < right.cols(); ++j) {
    for (Index i = 0; i < right.rows(); ++i) right.column(j)[i] = vt.column(i)[j];
  }
  return values;
}

}  // namespace fidfast
