// The Frechet distance between two Gaussians, and the transport map between them.
//
//   d^2 = |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)              Dowson & Landau (1982), equation 16
//   tr (S1 S2)^(1/2) = sum sqrt(eig(F1^T S2 F1)) = sum sv(F2^T F1)        for any F1 F1^T = S1, F2 F2^T = S2
//
// The symmetric eigenproblem takes half the time. But the eigenvalues are squares: roots below sqrt(epsilon) times the
// largest are lost in rounding, while singular values keep them. The choice depends on the ranks of the factors, and
// then on the rounding bound of the result.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/gaussian.hpp"
#include "core/matrix.hpp"

namespace fidfast {

struct FrechetTerms {
  double mean_term = 0;   // |mu1 - mu2|^2
  double trace1 = 0;      // tr S1
  double trace2 = 0;      // tr S2
  double trace_root = 0;  // tr (S1 S2)^(1/2)
  Index rank = 0;         // number of terms in the sum that is trace_root
  double rounding = 0;    // bound on the rounding error of distance(); for float32 products see product_rounding()

  /// Clipped at 0, since a negative value can only be rounding.
  double distance() const { return std::max(0.0, mean_term + trace1 + trace2 - 2 * trace_root); }
};

namespace detail {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

/// Factors of two Gaussians on the units that vary in both; elsewhere the root is zero.
template <class Device>
struct FactoredPair {
  const Gaussian<Device>* first;
  const Gaussian<Device>* second;
  std::vector<Index> units;
  std::shared_ptr<const Factor<Device>> f1;
  std::shared_ptr<const Factor<Device>> f2;

  FactoredPair(const Gaussian<Device>& a, const Gaussian<Device>& b) : first(&a), second(&b) {
    for (Index j = 0; j < a.dim(); ++j) {
      if (a.alive(j) && b.alive(j)) units.push_back(j);
    }
    f1 = first->factor(units);
    f2 = second->factor(units);
  }

  /// Makes `first` the Gaussian of lower rank, so that the result does not depend on the order of the arguments.
  void order_by_rank() {
    if (std::make_pair(f2->rank(), second->trace()) < std::make_pair(f1->rank(), first->trace())) {
      std::swap(first, second);
      std::swap(f1, f2);
    }
  }

  Index rank() const { return std::min(f1->rank(), f2->rank()); }
  /// Whether the second covariance may be used instead of its factor: the factor dropped nothing as rounding.
  bool second_is_full() const { return !second->low_rank() && f2->rank() == static_cast<Index>(units.size()); }

  /// A power of 2 near sqrt(tr S2): dividing by it is exact.
  double scaling() const { return std::ldexp(1.0, std::ilogb(second->trace()) / 2); }

  /// F1^T S2 F1 / scaling()^2, lower triangle. Unscaled products of variances could overflow or underflow.
  Matrix<Device> quadratic_form() const {
    Matrix<Device> s2 = MatrixOps<Device>::submatrix(1.0 / (scaling() * scaling()), second->sigma(), f1->units);
    if (!f1->triangular) return MatrixOps<Device>::quadratic_form(s2, f1->f);
    MatrixOps<Device>::congruence(s2, f1->f);
    return s2;
  }

  /// F2^T F1, (rank of F2, rank of F1).
  Matrix<Device> cross_product() const {
    const Matrix<Device> f1_in_order = MatrixOps<Device>::gather_rows(f1->f, rows_in_f1());
    if (f2->triangular) return MatrixOps<Device>::triangular_product(f2->f, f1_in_order);
    return MatrixOps<Device>::transposed_product(f2->f, f1_in_order);
  }

 private:
  /// For each row of F2, the row of F1 of the same unit.
  std::vector<Index> rows_in_f1() const {
    std::vector<Index> row_of_unit(static_cast<std::size_t>(first->dim()));
    for (std::size_t i = 0; i < f1->units.size(); ++i)
      row_of_unit[static_cast<std::size_t>(f1->units[i])] = static_cast<Index>(i);
    std::vector<Index> rows;
    for (const Index unit : f2->units) rows.push_back(row_of_unit[static_cast<std::size_t>(unit)]);
    return rows;
  }
};

struct Root {
  double trace = 0;
  double rounding = 0;
};

/// sum sqrt(values). Each eigenvalue has a rounding error of a few epsilons times the norm of the matrix; its effect on
/// the root is largest for small eigenvalues.
inline Root root_of_eigenvalues(const std::vector<double>& values) {
  const double largest = std::max(std::abs(values.front()), std::abs(values.back()));
  if (largest == 0) return {};
  double squares = 0;
  for (const double value : values) squares += (value / largest) * (value / largest);
  const double error = 4 * kEpsilon * largest * std::sqrt(squares);
  Root root;
  for (const double value : values) {
    const double clipped = std::max(value, 0.0);
    root.trace += std::sqrt(clipped);
    root.rounding += std::sqrt(clipped + error) - std::sqrt(clipped);
  }
  return root;
}

/// sum values. The rounding error of the product and its singular values is a few epsilons times |F1|_F |F2|_F.
inline Root root_of_singular_values(const std::vector<double>& values, double trace1, double trace2) {
  Root root;
  for (const double value : values) root.trace += value;
  root.rounding = 4 * kEpsilon * std::sqrt(static_cast<double>(values.size()) * trace1) * std::sqrt(trace2);
  return root;
}

/// Effect of the factor's rounding error on the root. To first order it is tr(T dS1) / 2, where the transport map has
/// |T|^2 <= |S2| / (smallest eigenvalue of S1) and |dS1|_F is a few epsilons times tr S1. What was dropped from S1 adds
/// at most the nuclear norm of its cross product with F2, and changes the trace of S1.
template <class Device>
double factor_rounding(const Factor<Device>& factor, double trace, double trace_other) {
  // This order of the factors avoids overflow and underflow.
  const double first_order = 2 * kEpsilon * (trace * std::sqrt(factor.inverse())) * std::sqrt(trace_other);
  return first_order + std::sqrt(factor.dropped) * std::sqrt(trace_other) + factor.dropped / 2;
}

/// Bound on the relative error of every eigenvalue of M = F1^T S2 F1 for graded F1, or infinity if there is none. The
/// rounding error of M_ij is a few epsilons times g_i g_j with g = |F1|^T sqrt(diag S2). By Demmel & Veselic (1992),
/// theorem 2.3, the relative error of every eigenvalue is then a few epsilons divided by the smallest eigenvalue of
/// M_ij / (g_i g_j). Tridiagonalization keeps the grading as long as g is decreasing.
template <class Device>
double graded_error(const FactoredPair<Device>& pair, Matrix<Device> form) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  if (!pair.f1->triangular) return kNone;
  const std::vector<double> variances = MatrixOps<Device>::diagonal(pair.second->sigma());
  std::vector<double> deviations;
  for (const Index unit : pair.f1->units) {
    deviations.push_back(std::sqrt(variances[static_cast<std::size_t>(unit)]) / pair.scaling());
  }
  std::vector<double> grades = MatrixOps<Device>::absolute_product(pair.f1->f, deviations);
  // The smallest decreasing sequence above g.
  for (std::size_t i = grades.size() - 1; i-- > 0;) grades[i] = std::max(grades[i], grades[i + 1]);
  for (double& grade : grades) grade = 1.0 / grade;
  MatrixOps<Device>::scale_both_sides(form, grades);
  if (!MatrixOps<Device>::cholesky(form)) return kNone;
  return 4 * kEpsilon * MatrixOps<Device>::inverse_norm(form, form.cols());
}

/// Eigenvalues are accurate enough if their rounding bound is below kAccurate of the sum. Otherwise singular values are
/// used up to rank kRefined, where they take about a second; for larger ranks the bound is refined by graded_error().
constexpr double kAccurate = 1e-10;
constexpr Index kRefined = 1024;

/// Whether to compute a rounding bound that takes extra work.
enum class Bound { kSkip, kCompute };

template <class Device>
Root trace_of_root(const FactoredPair<Device>& pair, Bound bound) {
  const double trace1 = pair.first->trace();
  const double trace2 = pair.second->trace();
  // For both: even if its factor is not used, sigma has the rounding error of whoever computed it.
  double of_factors = 0;
  if (bound == Bound::kCompute) {
    // With the traces of the factors of indefinite covariances, which are larger.
    const double trace1_of_factor = trace1 + pair.f1->dropped;
    const double trace2_of_factor = trace2 + pair.f2->dropped;
    of_factors = factor_rounding(*pair.f1, trace1_of_factor, trace2_of_factor) +
                 factor_rounding(*pair.f2, trace2_of_factor, trace1_of_factor);
  }
  if (pair.second_is_full()) {
    const bool large = pair.rank() > kRefined;
    Matrix<Device> form = pair.quadratic_form();
    Matrix<Device> kept;
    if (large && bound == Bound::kCompute) kept = form;
    Root root = root_of_eigenvalues(MatrixOps<Device>::eigenvalues(form));
    const bool accurate = root.rounding <= kAccurate * root.trace;
    if (accurate || large) {
      if (!accurate && bound == Bound::kCompute) {
        root.rounding = std::min(root.rounding, graded_error(pair, std::move(kept)) * root.trace / 2);
      }
      return {pair.scaling() * root.trace, pair.scaling() * root.rounding + of_factors};
    }
  }
  Matrix<Device> cross = pair.cross_product();
  Root root = root_of_singular_values(MatrixOps<Device>::singular_values(cross), trace1, trace2);
  root.rounding += of_factors;
  return root;
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
  const std::vector<double> all = MatrixOps<Device>::diagonal(own.sigma());
  const std::vector<double> all_other = MatrixOps<Device>::diagonal(other.sigma());
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

inline void require_same_dim(Index dim1, Index dim2) {
  if (dim1 != dim2) {
    throw InvalidInput("gaussian1 has dim " + std::to_string(dim1) + ", but gaussian2 has dim " + std::to_string(dim2));
  }
}

}  // namespace detail

/// The terms of the distance, with a bound on its rounding error. Equal Gaussians have distance 0.
template <class Device>
FrechetTerms frechet_terms(const Gaussian<Device>& a, const Gaussian<Device>& b,
                           detail::Bound bound = detail::Bound::kCompute) {
  detail::require_same_dim(a.dim(), b.dim());
  FrechetTerms terms;
  if (a.equals(b)) {
    terms.trace1 = terms.trace2 = terms.trace_root = std::min(a.trace(), b.trace());  // they may differ by rounding
    terms.rounding = 16 * detail::kEpsilon * terms.trace_root;                        // of the traces, as below
    if (bound == detail::Bound::kCompute) terms.rank = a.factor(a.alive_units())->rank();
    return terms;
  }
  terms.mean_term = MatrixOps<Device>::squared_distance(a.mu(), b.mu());
  terms.trace1 = a.trace();
  terms.trace2 = b.trace();
  detail::FactoredPair<Device> pair(a, b);
  pair.order_by_rank();
  terms.rank = pair.rank();
  detail::Root root;
  if (terms.rank > 0) root = detail::trace_of_root(pair, bound);
  terms.trace_root = root.trace;
  const double sums = terms.mean_term + terms.trace1 + terms.trace2 + 2 * root.trace;
  terms.rounding = 2 * root.rounding + 4 * detail::kEpsilon * sums;
  if (bound == detail::Bound::kCompute) {
    terms.rounding += detail::product_rounding(*pair.f1, *pair.first, *pair.second, root.trace) +
                      detail::product_rounding(*pair.f2, *pair.second, *pair.first, root.trace);
  }
  return terms;
}

/// The distance alone, without the work for the bound.
template <class Device>
double frechet_distance(const Gaussian<Device>& a, const Gaussian<Device>& b) {
  return frechet_terms(a, b, detail::Bound::kSkip).distance();
}

/// The optimal transport map from Gaussian b to a (Olkin & Pukelsheim, 1982): symmetric positive semidefinite T
/// (dim, dim), full, with T Sb T = Sa on the directions in which both vary, zero on the others.
/// T = Fa V diag(l^(-1/2)) V^T Fa^T, where Fa^T Sb Fa = V diag(l) V^T.
template <class Device>
Matrix<Device> transport_map(const Gaussian<Device>& a, const Gaussian<Device>& b) {
  detail::require_same_dim(a.dim(), b.dim());
  const detail::FactoredPair<Device> pair(a, b);
  if (pair.rank() == 0) return Matrix<Device>::zeros(a.dim(), a.dim());

  Matrix<Device> vectors;     // V, (rank of Fa, any)
  std::vector<double> roots;  // sqrt(l), in the order of the columns of V
  bool accurate = false;
  if (pair.second_is_full()) {
    vectors = pair.quadratic_form();
    roots = MatrixOps<Device>::eigenvectors(vectors);
    accurate = roots.front() > 1e-6 * roots.back();
    for (double& value : roots) value = pair.scaling() * std::sqrt(std::max(value, 0.0));
  }
  if (!accurate) {
    Matrix<Device> cross = pair.cross_product();
    roots = MatrixOps<Device>::right_singular_vectors(cross, vectors);
  }
  const double largest = *std::max_element(roots.begin(), roots.end());
  const double null = 8 * detail::kEpsilon * static_cast<double>(roots.size()) * largest;
  for (double& root : roots) root = root > null ? 1.0 / std::sqrt(root) : 0.0;
  const Matrix<Device> scaled = MatrixOps<Device>::scaled_columns(vectors, 0, roots);
  const Matrix<Device> half = MatrixOps<Device>::product(pair.f1->f, scaled);
  const std::vector<double> ones(pair.units.size(), 1.0);
  return MatrixOps<Device>::outer_product(MatrixOps<Device>::scatter_rows(half, a.dim(), pair.f1->units, ones));
}

}  // namespace fidfast
