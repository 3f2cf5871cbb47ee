// Bound on the effect of float32 products within moments on the distance.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/backend.hpp"
#include "core/gaussian.hpp"
#include "core/matrix.hpp"

namespace fidfast::detail {

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
