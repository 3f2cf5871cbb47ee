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
// (1) and (2) hold for singular S too, where a root of rounding is lost: sqrt(u) s. If both covariances are nearly
// singular, that is far too much. Up to kExact units also the extreme roots of both perturbed covariances are computed:
//   (4) at most |[F2, sqrt(rho2) D2]^T [F1, sqrt(rho1) D1]|_*;
//   (5) at least |G2^T G1|_* - sqrt(w) sum_i rho_i / sqrt(min v), where G = D V (v)^(1/2), v = q - rho for some of the
//       eigenvalues q and their eigenvectors V: for the exact correlations A, A >= A V (V^T A V)^-1 V^T A, which has
//       the factor V (V^T A V)^(1/2) + (I - V V^T) R V (V^T A V)^(-1/2), whose last part has a norm of rho / sqrt(v).
//
// If sigma has negative eigenvalues, S is sigma plus its negative part -N, known up to a rounding of eigenvectors.
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
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
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
  double singular = 0;             // m
  double inverses = 0;             // sum_k 1 / v_k
  double least = 0;                // the smallest eigenvalue of C
  double columns = 0;              // RowsRounding::columns if F is given by columns
  double dropped = 0;              // bound on the nuclear norm of what else F F^T lacks
  double negative = 0;             // tr N
  std::vector<double> deviations;  // d of all units
  // Up to kExact units, for the sorted units; columns have their length.
  std::vector<double> f;        // F
  std::vector<double> vectors;  // V
  std::vector<double> values;   // q, ascending
};

/// high + low -= sum_k f_ik f_jk, in twice the digits (Dekker, 1971).
inline void subtract_product(const double* fi, const double* fj, Index rank, Index stride, double& high, double& low) {
  for (Index k = 0; k < rank; ++k) {
    const double product = -fi[k * stride] * fj[k * stride];
    const double rest = std::fma(-fi[k * stride], fj[k * stride], -product);
    const double sum = high + product;
    const double shadow = sum - high;
    low += ((high - (sum - shadow)) + (product - shadow)) + rest;
    high = sum;
  }
}

/// rows (units, columns) from the order of `from` to ascending units.
inline std::vector<double> sorted_rows(const std::vector<double>& rows, const std::vector<Index>& from) {
  std::vector<std::size_t> order(from.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return from[a] < from[b]; });
  std::vector<double> result;
  for (std::size_t first = 0; first < rows.size(); first += from.size()) {
    for (const std::size_t row : order) result.push_back(rows[first + row]);
  }
  return result;
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
    if (n <= kExact) result.f = sorted_rows(host_copy(factor.f), factor.units);
    return finish();
  }
  const double size = static_cast<double>(n);
  if (n > kExact) {
    result.rho = (8 * kUnit + rows.covariance) * std::min(size, 4 * std::sqrt(size));
    result.dropped = factor.dropped;
    result.negative = factor.dropped;
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
  std::vector<double> negative = host_copy(factor.negative);
  const Index negatives = factor.negative.cols();
  for (const double value : negative) result.negative += value * value;
  std::vector<double> e(s.size());
  std::vector<double> c(s.size());  // F F^T
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j <= i; ++j) {
      const auto at = static_cast<std::size_t>(i + j * n);
      double high = s[at];
      double low = 0;
      subtract_product(f.data() + i, f.data() + j, factor.rank(), n, high, low);
      if (negatives > 0) {
        for (Index k = 0; k < negatives; ++k) {  // added, not subtracted
          const double minus = -negative[static_cast<std::size_t>(i + k * n)];
          subtract_product(&minus, negative.data() + j + k * n, 1, n, high, low);
        }
      }
      e[at] = high + low;
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
  if (negatives > 0) result.rho += 8 * size * kUnit;  // of the eigenvectors
  Matrix<Device> correlations(n, n);
  Device::from_host(correlations.data(), c.data(), c.size() * sizeof(double));
  const double rounding = 8 * size * size * kUnit;
  result.least = std::numeric_limits<double>::infinity();
  result.values = MatrixOps<Device>::eigenvectors(correlations);
  result.vectors = sorted_rows(host_copy(correlations), factor.units);
  result.f = sorted_rows(f, factor.units);
  for (const double q : result.values) {
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

/// Bound on the change of the root by the errors of one factor, by (1), (2) and (3).
inline double root_error(const FactorError& error, double s, double w, double root) {
  if (error.rho == 0) return 0;
  const double of_rest = error.rho / 2 * std::sqrt(w * error.inverses);
  double change = std::min(std::sqrt(error.rho) * s, std::sqrt(error.singular * error.rho * w) + of_rest);
  if (error.rho < error.least / 2) change = std::min(change, 0.6 * error.rho / error.least * root);
  return change;
}

/// Nuclear norm of b^T a for a and b with `units` rows.
template <class Device>
double nuclear_norm(const std::vector<double>& a, const std::vector<double>& b, std::size_t units) {
  if (a.empty() || b.empty()) return 0;
  const bool flat = b.size() < a.size();
  const std::vector<double>& left = flat ? a : b;
  const std::vector<double>& right = flat ? b : a;
  const std::size_t m = left.size() / units;
  const std::size_t n = right.size() / units;
  std::vector<double> product(m * n);
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t k = 0; k < units; ++k) product[i + j * m] += left[k + i * units] * right[k + j * units];
    }
  }
  Matrix<Device> cross(static_cast<Index>(m), static_cast<Index>(n));
  Device::from_host(cross.data(), product.data(), product.size() * sizeof(double));
  double sum = 0;
  for (const double value : MatrixOps<Device>::singular_values(cross)) sum += value;
  return sum;
}

/// The same by (4) and (5), for both factors; units are the sorted units.
template <class Device>
double extreme_roots_error(const FactorError& first, const FactorError& second, const std::vector<Index>& units,
                           double s, double w, double root) {
  const std::size_t n = units.size();
  const double size = static_cast<double>(n);
  const auto deviation = [&](const FactorError& error, std::size_t i) {
    return error.deviations[static_cast<std::size_t>(units[i])];
  };
  const auto enlarged = [&](const FactorError& error) {
    std::vector<double> columns = error.f;
    for (std::size_t k = 0; k < n && error.rho > 0; ++k) {
      for (std::size_t i = 0; i < n; ++i) columns.push_back(i == k ? std::sqrt(error.rho) * deviation(error, i) : 0.0);
    }
    return columns;
  };
  // Rounding of the roots computed here, as in root_of_singular_values(), for twice the columns.
  const double rounding = kUnit * std::sqrt(2 * size) * (5 * size + 8) * s * (1 + first.rho + second.rho);
  const double highest = nuclear_norm<Device>(enlarged(first), enlarged(second), n) + rounding;

  double lowest = 0;
  for (const double exponent : {1.0, 0.5, 0.25}) {
    double lost = rounding;
    const auto reduced = [&](const FactorError& error) {
      if (error.values.empty()) return error.f;
      const double rho = error.rho + 8 * size * kUnit;
      double least = std::numeric_limits<double>::infinity();
      std::vector<double> columns;
      for (std::size_t k = 0; k < n; ++k) {
        const double v = error.values[k] - rho;
        if (v <= 8 * std::pow(rho, exponent)) continue;
        least = std::min(least, v);
        for (std::size_t i = 0; i < n; ++i) {
          columns.push_back(deviation(error, i) * error.vectors[i + k * n] * std::sqrt(v));
        }
      }
      lost += std::sqrt(w / least) * rho;
      return columns;
    };
    const std::vector<double> one = reduced(first);
    const std::vector<double> other = reduced(second);
    lowest = std::max(lowest, nuclear_norm<Device>(one, other, n) - lost);
  }
  return std::max(highest - root, root - lowest);
}

/// Bound on the change of the root by the errors of both factors. `rounding`: of the computation of the root from them.
template <class Device>
double factors_error(const FactorError& first, const FactorError& second, const std::vector<Index>& units,
                     const std::array<double, 2>& subnormal, double root, double rounding) {
  double s = 0;
  double w = 0;
  std::array<double, 2> traces = {0, 0};
  std::array<double, 2> sums = {0, 0};
  const std::array<const FactorError*, 2> errors = {&first, &second};
  for (const Index unit : units) {
    const auto j = static_cast<std::size_t>(unit);
    const double product = first.deviations[j] * second.deviations[j];
    s += product;
    w += product * product;
    for (std::size_t k = 0; k < 2; ++k) {
      traces[k] += errors[k]->deviations[j] * errors[k]->deviations[j];
      sums[k] += errors[k]->deviations[j];
    }
  }
  double change = root_error(first, s, w, root) + root_error(second, s, w, root);
  if (change > rounding && units.size() <= static_cast<std::size_t>(kExact)) {
    change = std::min(change, rounding + extreme_roots_error<Device>(first, second, units, s, w, root));
  }
  for (std::size_t k = 0; k < 2; ++k) {
    change += errors[k]->columns * s + std::sqrt(errors[k]->dropped * traces[1 - k]) + errors[k]->negative / 2 +
              std::sqrt(subnormal[k] * static_cast<double>(units.size())) * sums[1 - k];
  }
  return change;
}

}  // namespace fidfast::detail
