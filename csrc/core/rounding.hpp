// Bound on the rounding error of the Frechet distance.
//
// What it covers. Of statistics (mu, sigma) without a number of samples: the difference to the exact distance of these
// numbers. Of statistics with a number n of samples: the difference to the exact distance of the n rows that they were
// computed from, with sums in float64 (in blocks of 1,024 rows, merged) or as recorded in product_errors(). Of a sigma
// with negative eigenvalues the exact distance has the root of its positive part and the trace of either. Rows that
// were removed by unmerge, and left their rounding, are not covered.
//
// Notation: u = 2^-53, S = F F^T + E for the computed factor F, d_i^2 = S_ii, E = D R D, the correlations C with
// D C D = F F^T and their eigenvalues q_k; B is the other covariance, r(S, B) = tr (S B)^(1/2) its root with S, and
//   s = sum_i d_i sqrt(B_ii),   w = sum_i d_i^2 B_ii.
//
// The root is increasing in S, and r(S + P, B) <= r(S, B) + r(P, B) for positive semidefinite P (Rotfel'd, 1969). A
// symmetric R with |R| <= rho is the difference of two such matrices, both at most rho I. Hence E changes the root by
// at most max r(S + rho D^2, B) - r(S, B), where S may be either of S and F F^T. This is at most
//   (1) r(rho D^2, B) <= sqrt(rho) s:  the fidelity of two matrices is at most that of their diagonals (Uhlmann, 1976);
//   (2) the integral of the derivative tr(T D^2) / 2 over 0 <= h <= rho, for the transport map T from S + h D^2 to B:
//       Y = D T D has Y (C + h) Y = D B D, so tr Y <= sqrt(tr (C + h)^-1 w). With m eigenvalues q_k below 2 rho and
//       v_k = q_k - rho for the others, the integral is at most sqrt(m rho w) + rho / 2 sqrt(w sum_k 1 / v_k);
//   (3) if t = rho / min q < 1/2: r(S, B) max(sqrt(1 + t) - 1, 1 - sqrt(1 - t)) <= 0.6 t r(S, B), since
//       (1 - t) S <= S + E <= (1 + t) S (Demmel & Veselic, "Jacobi's method is more accurate than QR", 1992).
// (1) and (2) hold for singular S too, where a root of rounding is lost: sqrt(u) s.
//
// R has two parts. The residual of the factor is computed exactly (products and sums in twice the digits) up to kExact
// units; above that it is at most 8 u for each element (measured: 2 u at dim 2048), and Frobenius norms of n^2
// elements stand for spectral ones of up to n, at most 4 sqrt(n) (random signs). The second part is the rounding of the
// sums over rows, rows_rounding().
//
// Up to kExact units all constants are worst cases (Higham, "Accuracy and stability of numerical algorithms", 2002,
// chapters 3 and 4); a sum of n terms has the relative error n u. Above 64 terms that is never seen: 8 sqrt(n) u, a
// probabilistic bound (Higham & Mary, 2019).
//
// The columns F of few rows have errors of their elements, relative to d_i: |F2^T dF1|_* <= sum_i |f2_i| |df1_i|.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/backend.hpp"
#include "core/gaussian.hpp"
#include "core/matrix.hpp"

namespace fidfast::detail {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
constexpr double kUnit = kEpsilon / 2;
/// Up to this many units the residual of a factor is computed, and the root from singular values.
constexpr Index kExact = 32;

/// Bound on the relative error of a sum of n terms with one sign.
inline double sum_error(double n) { return kUnit * std::min(n, 8 * std::sqrt(n)); }

/// Rounding of moments of rows.
struct RowsRounding {
  double mean = 0;        // of mu_j, in units of d_j, besides the rounding u |mu_j| of the result
  double covariance = 0;  // of sigma_ij, in units of d_i d_j
  double columns = 0;     // of row i of the columns, in units of d_i
  double absolute = 0;    // of sigma_ij where it is subnormal
};

/// A mean of n rows is that of their differences from the first row, which is at most sqrt(n) d_j away from the mean.
/// The scatter of a block is summed about a point near its mean, and corrected by n r r^T for the rest r, of which the
/// error of the mean is part; merging blocks adds three roundings, and uses the difference of two such means.
template <class Device>
RowsRounding rows_rounding(const Gaussian<Device>& gaussian, const std::vector<double>& mu,
                           const std::vector<double>& variances) {
  RowsRounding result;
  if (gaussian.num_samples() == 0) return result;
  constexpr double kBlock = 1024;
  const double n = static_cast<double>(gaussian.num_samples());
  const double rows = std::min(n, kBlock);
  const double blocks = std::ceil(n / kBlock);
  // On a GPU the point is a mean of earlier rows, or the first row, and costs up to a digit.
  const double origin = Device::kAsynchronous ? 10 : 1;
  double offset = 0;  // the rounding of the mean, in units of d
  for (std::size_t j = 0; j < mu.size(); ++j) {
    if (variances[j] > 0) offset = std::max(offset, kUnit * std::abs(mu[j]) / std::sqrt(variances[j]));
  }
  result.mean = sum_error(rows) * (1 + std::min(std::sqrt(rows), 8.0)) + 4 * kUnit;
  const double of_means = 2 * result.mean * (blocks > 1 ? 1 : std::min(offset, 1.0));
  result.covariance = origin * (sum_error(rows) + 3 * sum_error(blocks) + 8 * kUnit + of_means);
  result.columns = origin * (sum_error(rows) + 10 * kUnit);
  result.absolute = (2 + blocks) * std::numeric_limits<double>::denorm_min();
  return result;
}

/// How far a covariance may be from F F^T: R and C above.
struct FactorError {
  double rho = 0;
  double singular = 0;  // m
  double inverses = 0;  // sum_k 1 / v_k
  double least = 0;     // the smallest eigenvalue of C
  double columns = 0;   // RowsRounding::columns if F is given by columns
  double dropped = 0;   // Factor::dropped, if not part of R
  bool indefinite = false;
  std::vector<double> deviations;  // d of all units
};

/// S_ij - sum_k f_ik f_jk, rounded once: products and sums in twice the digits (Dekker, 1971).
inline double residual(double s, const double* fi, const double* fj, Index rank, Index stride) {
  double high = s;
  double low = 0;
  for (Index k = 0; k < rank; ++k) {
    const double product = -fi[k * stride] * fj[k * stride];
    const double rest = std::fma(-fi[k * stride], fj[k * stride], -product);
    const double sum = high + product;
    const double shadow = sum - high;
    low += ((high - (sum - shadow)) + (product - shadow)) + rest;
    high = sum;
  }
  return high + low;
}

/// `gaussian` is normalized; rows is its rounding with `absolute` scaled likewise.
template <class Device>
FactorError factor_error(const Gaussian<Device>& gaussian, const Factor<Device>& factor, const RowsRounding& rows) {
  FactorError result;
  std::vector<double> squares = gaussian.variances();
  const Index n = static_cast<Index>(factor.units.size());
  const auto square = [&](Index i) -> double& {
    return squares[static_cast<std::size_t>(factor.units[static_cast<std::size_t>(i)])];
  };
  const auto finish = [&] {
    for (double& value : squares) value = std::sqrt(std::max(value, 0.0));
    result.deviations = std::move(squares);
    return result;
  };
  if (gaussian.low_rank()) {
    result.columns = rows.columns;
    return finish();
  }
  result.indefinite = factor.clipped.least < 0;
  const double size = static_cast<double>(n);
  if (n > kExact) {
    result.rho = (8 * kUnit + rows.covariance) * std::min(size, 4 * std::sqrt(size));
    result.dropped = factor.dropped;
    result.singular = size - static_cast<double>(factor.rank());
    double inverse = factor.inverse;
    if (factor.triangular) {
      std::vector<double> scale;
      std::vector<Index> order;
      for (Index i = 0; i < n; ++i) {
        scale.push_back(1 / std::sqrt(square(i)));
        order.push_back(i);
      }
      const Matrix<Device> scaled = MatrixOps<Device>::scatter_rows(factor.f, n, order, scale);
      inverse = MatrixOps<Device>::inverse_norm(scaled, n);
      result.inverses = MatrixOps<Device>::inverse_trace(scaled);
    } else {
      result.inverses = inverse * static_cast<double>(factor.rank());
    }
    result.least = result.singular > 0 ? 0 : 1 / inverse;
    return finish();
  }

  const std::vector<double> s = host_copy(MatrixOps<Device>::submatrix(1.0, gaussian.sigma(), factor.units));
  const std::vector<double> f = host_copy(factor.f);
  std::vector<double> e(s.size());
  std::vector<double> c(s.size());  // F F^T
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j <= i; ++j) {
      const auto at = static_cast<std::size_t>(i + j * n);
      e[at] = residual(s[at], f.data() + i, f.data() + j, factor.rank(), n);
      c[at] = s[at] - e[at];
      square(i) = std::max({square(i), i == j ? c[at] : 0.0, std::abs(e[at])});
      square(j) = std::max(square(j), std::abs(e[at]));
    }
  }
  double sum = 0;
  for (Index j = 0; j < n; ++j) {
    for (Index i = j; i < n; ++i) {
      const auto at = static_cast<std::size_t>(i + j * n);
      const double scale = std::sqrt(square(i)) * std::sqrt(square(j));
      const double r = scale > 0 ? e[at] / scale : 0.0;
      sum += (i == j ? 1 : 2) * r * r;
      c[at] = scale > 0 ? c[at] / scale : 0.0;
    }
  }
  result.rho = (1 + size * kEpsilon) * std::sqrt(sum) + size * rows.covariance;
  Matrix<Device> correlations(n, n);
  Device::from_host(correlations.data(), c.data(), c.size() * sizeof(double));
  const double rounding = 8 * size * size * kUnit;
  result.least = std::numeric_limits<double>::infinity();
  for (const double q : MatrixOps<Device>::eigenvalues(correlations)) {
    result.least = std::min(result.least, std::max(q - rounding, 0.0));
    const double v = q - rounding - result.rho;
    if (v > result.rho && v > 0) {
      result.inverses += 1 / v;
    } else {
      result.singular += 1;
    }
  }
  return finish();
}

/// Bound on the change of the root by the errors of one factor. other: sqrt(B_ii) of all units.
inline double root_error(const FactorError& error, const std::vector<double>& other, double subnormal, double root) {
  double s = 0;
  double w = 0;
  double own_trace = 0;
  double other_trace = 0;
  double other_sum = 0;
  for (std::size_t i = 0; i < other.size(); ++i) {
    const double product = error.deviations[i] * other[i];
    s += product;
    w += product * product;
    own_trace += error.deviations[i] * error.deviations[i];
    other_trace += other[i] * other[i];
    other_sum += other[i];
  }
  double result = error.columns * s;
  if (error.rho > 0) {
    double change = std::sqrt(error.rho) * s;
    change =
        std::min(change, std::sqrt(error.singular * error.rho * w) + error.rho / 2 * std::sqrt(w * error.inverses));
    if (error.rho < error.least / 2) change = std::min(change, 0.6 * error.rho / error.least * root);
    result += change;
    // The positive part of sigma is not below it by more than the negative part of R.
    if (error.indefinite) result += std::sqrt(error.rho * own_trace) * std::sqrt(other_trace);
  }
  result += std::sqrt(error.dropped) * std::sqrt(other_trace) + error.dropped / 2;
  return result + std::sqrt(subnormal * static_cast<double>(other.size())) * other_sum;
}

/// Bound on the effect of float32 products in `own` on the distance, in the model of core/moments/float_products.hpp:
/// the errors E_ij of S1, i < j, are independent with standard deviations of at most sqrt(p_i p_j). Not a worst case.
///
/// The derivative of the root by S1 is T / 2 with the transport map T, T S1 T = S2. So to first order the distance
/// changes by tr(T E), which has a standard deviation of sqrt(2) |A|_F, where A = P^(1/2) T P^(1/2) without its
/// diagonal, P = diag p. So |A|_F <= |P^(1/2) (T - C) P^(1/2)|_F for any diagonal C. Since P <= S1 / l with the
/// smallest eigenvalue l of Q = P^(-1/2) S1 P^(-1/2),
///   |A|_F^2 <= tr(T S1 T P) / l = tr(S2 P) / l                                              (C = 0),
///   |A|_F^2 <= tr((T - I) S1 (T - I) P) / l <= max p tr(S1 + S2 - 2 (S1 S2)^(1/2)) / l      (C = I).
/// To second order (Daleckii & Krein, 1965) the root changes by at most sum_i sqrt(m_i) |K v_i|^2 / 8 for the
/// eigenvalues m_i and vectors v_i of S1^(1/2) S2 S1^(1/2) and K = S1^(-1/2) E S1^(-1/2). Its mean is at most
///   tr Q^-1 tr(T P) / 8,   tr(T P) <= sqrt(tr Q^-1 tr(S2 P)).
///
/// Unless |P^(-1/2) E P^(-1/2)| <= h = 2 sqrt(dim), the norm of such a random matrix, is well below l, use that the
/// root is increasing in S1: it changes by at most that of S1 + h P less that of S1. The derivative by h is tr(T P) / 2
/// <= sqrt(tr (Q + h)^-1 tr(S2 P)) / 2, and integration gives
///   h sqrt(tr(S2 P) sum_k 1 / max(q_k, h))     for the eigenvalues q_k of Q.
template <class Device>
double product_rounding(const Factor<Device>& factor, const Gaussian<Device>& own, const Gaussian<Device>& other,
                        double root) {
  if (own.product_errors().empty() || factor.rank() == 0) return 0;
  const std::vector<double> all = own.variances();
  const std::vector<double> all_other = other.variances();
  const auto error = [&](std::size_t j) { return own.product_errors()[j]; };
  double share = 0;  // largest p_j / d_j
  for (const Index unit : factor.units) {
    const auto j = static_cast<std::size_t>(unit);
    if (all[j] > 0) share = std::max(share, error(j) / all[j]);
  }
  std::vector<double> scale;  // P^(-1/2)
  std::vector<Index> order;
  double largest = 0;
  double difference = -2 * root;
  double weighted = 0;  // tr(S2 P)
  for (const Index unit : factor.units) {
    const auto j = static_cast<std::size_t>(unit);
    const double p = std::max(error(j), 1e-6 * share * all[j]);  // not 0
    order.push_back(static_cast<Index>(order.size()));
    scale.push_back(p > 0 ? 1.0 / std::sqrt(p) : 0.0);
    largest = std::max(largest, p);
    difference += all[j] + all_other[j];
    weighted += p * all_other[j];
  }
  const double norm = 2 * std::sqrt(static_cast<double>(factor.units.size()));
  if (factor.triangular) {
    const Matrix<Device> scaled = MatrixOps<Device>::scatter_rows(factor.f, factor.f.rows(), order, scale);
    const double inverse = MatrixOps<Device>::inverse_norm(scaled, scaled.cols());  // 1 / l or more, see its test
    if (norm * inverse <= 0.5) {
      const double first_order = std::sqrt(2 * inverse * std::min(weighted, largest * std::max(difference, 0.0)));
      const double inverses = MatrixOps<Device>::inverse_trace(scaled);
      const double second_order = inverses * std::sqrt(inverses * weighted) / 4;
      return 4 * first_order + 2 * second_order;  // 4 standard deviations
    }
  }
  Matrix<Device> scaled = MatrixOps<Device>::submatrix(1.0, own.sigma(), factor.units);
  MatrixOps<Device>::scale_both_sides(scaled, scale);
  double inverses = 0;
  for (const double value : MatrixOps<Device>::eigenvalues(scaled)) inverses += 1 / std::max(value, norm);
  return 2 * norm * std::sqrt(weighted * inverses);
}

}  // namespace fidfast::detail
