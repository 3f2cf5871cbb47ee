// tr (S1 S2)^(1/2) from the factors of two Gaussians, by eigenvalues or by singular values.
//
// The symmetric eigenproblem takes half the time. But the eigenvalues are squares: roots below sqrt(epsilon) times the
// largest are lost in rounding, while singular values keep them. The choice depends on the ranks of the factors, and
// then on the rounding bound of the result.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "core/backend.hpp"
#include "core/gaussian.hpp"
#include "core/matrix.hpp"
#include "core/rounding.hpp"

namespace fidfast::detail {

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

  /// Makes `first` the Gaussian of lower rank, or of equal rank and lower trace, so that the result does not depend on
  /// the order of the arguments. The traces are those of the Gaussians times 4^exponent.
  void order_by_rank(int exponent1 = 0, int exponent2 = 0) {
    const double trace2 = std::ldexp(second->trace(), 2 * (exponent2 - exponent1));
    if (std::make_pair(f2->rank(), trace2) < std::make_pair(f1->rank(), first->trace())) {
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
    // sqrt(value) - sqrt(value - error)
    root.rounding += clipped > error ? error / (std::sqrt(clipped) + std::sqrt(clipped - error)) : std::sqrt(error);
  }
  return root;
}

/// sum values of F2^T F1, with s as in core/rounding.hpp, for `units` units. The product has an error of at most
/// units u |F2|^T |F1|, and |(|F2|^T |F1|)|_F <= s; that of the singular values is a few u |F2^T F1|_F. A nuclear norm
/// is at most sqrt(rank) times the Frobenius norm. For large matrices a few epsilons are enough (measured).
inline Root root_of_singular_values(const std::vector<double>& values, Index units, double s) {
  Root root;
  double squares = 0;
  for (const double value : values) {
    root.trace += value;
    squares += value * value;
  }
  const double rank = static_cast<double>(values.size());
  const double of_product = units <= kExact ? static_cast<double>(units) : 8;
  const double of_values = units <= kExact ? 2 * rank + 4 : 8;
  root.rounding = kUnit * (std::sqrt(rank) * (of_product * s + of_values * std::sqrt(squares)) + rank * root.trace);
  return root;
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

/// tr (S1 S2)^(1/2), with the rounding error of its computation from the factors; s as in core/rounding.hpp.
template <class Device>
Root trace_of_root(const FactoredPair<Device>& pair, Bound bound, double s) {
  const Index units = static_cast<Index>(pair.units.size());
  if (pair.second_is_full() && units > kExact) {
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
      return {pair.scaling() * root.trace, pair.scaling() * root.rounding};
    }
  }
  Matrix<Device> cross = pair.cross_product();
  return root_of_singular_values(MatrixOps<Device>::singular_values(cross), units, s);
}

}  // namespace fidfast::detail
