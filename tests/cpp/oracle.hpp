// Reference implementations as plain loops in extended precision, and random matrices.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "cpu/instances.hpp"

namespace fidfast::oracle {

using M = Matrix<Cpu>;
using V = Vector<Cpu>;

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Random numbers with a fixed seed.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  double normal() { return normal_(engine_); }
  double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(engine_); }
  /// An integer in [0, n).
  Index below(Index n) { return std::uniform_int_distribution<Index>(0, n - 1)(engine_); }

  /// Independent standard normal entries.
  M matrix(Index rows, Index cols);
  std::vector<double> numbers(Index n);
  /// An orthogonal (n, n) matrix.
  M rotation(Index n);
  /// A lower triangular (n, n) matrix whose diagonal is not small.
  M triangle(Index n);
  /// Features as the columns of a (dim, n) matrix: correlated units with different variances and means near `offset`.
  M rows(Index dim, Index n, double offset = 0);
  /// n eigenvalues from 1 to `condition`, both included if n > 1.
  std::vector<double> spectrum(Index n, double condition);

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<double> normal_;
};

inline double as_double(Index n) { return static_cast<double>(n); }

inline double sum(const std::vector<double>& values) {
  long double total = 0;
  for (const double value : values) total += value;
  return static_cast<double>(total);
}

/// work(a_ij) for every element, as a matrix.
template <class Work>
M map(const M& a, Work work) {
  M result(a.rows(), a.cols());
  for (Index i = 0; i < a.size(); ++i) result.data()[i] = work(a.data()[i]);
  return result;
}

V vector_of(const std::vector<double>& values);
M transposed(const M& a);
M product(const M& a, const M& b);
/// alpha a + b.
M plus(double alpha, const M& a, const M& b);
/// The columns [first, first + n) of a.
M columns(const M& a, Index first, Index n);
/// a with `value` in its strict upper triangle: NaN reveals who reads it.
M with_upper(M a, double value);
/// The lower triangle of a as a full symmetric matrix.
M symmetric(const M& a);
/// basis diag(values) basis^T.
M covariance(const std::vector<double>& values, const M& basis);

/// max |a_ij - b_ij|; NaN if an element is NaN or the shapes differ.
double difference(const M& a, const M& b);
/// The same over the lower triangle.
double difference_below(const M& a, const M& b);
/// max |a_ij|.
double largest(const M& a);

/// Mean (dim,) and full scatter (dim, dim) of the columns of `rows` (dim, n), in two passes.
struct Textbook {
  std::vector<double> mean;
  M scatter;
};
Textbook textbook(const M& rows);

/// Largest error of an entry relative to the standard deviations of its two units.
double relative_error(const M& scatter, const M& expected);

/// Singular values of a, descending, by one-sided Jacobi rotations.
std::vector<double> singular_values(const M& a);
/// tr (S1 S2)^(1/2) for the covariances S1, S2 of two sets of rows (dim, n1), (dim, n2), as the nuclear norm of the
/// product of their centred rows: nothing is squared.
double nuclear_norm(const M& rows1, const M& rows2);

}  // namespace fidfast::oracle
