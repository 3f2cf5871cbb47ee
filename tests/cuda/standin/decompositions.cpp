#include "decompositions.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace standin {
namespace {

constexpr int kMaxSweeps = 60;
constexpr double kEps = std::numeric_limits<double>::epsilon();

bool is_finite(const Dense& matrix) {
  for (std::int64_t j = 0; j < matrix.columns(); ++j)
    for (std::int64_t i = 0; i < matrix.rows(); ++i)
      if (!std::isfinite(matrix(i, j))) return false;
  return true;
}

double dot(const Dense& matrix, std::int64_t first, std::int64_t second) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < matrix.rows(); ++i) sum += matrix(i, first) * matrix(i, second);
  return sum;
}

struct Rotation {
  double cosine, sine;
};

// The smaller rotation that diagonalises [[app, apq], [apq, aqq]].
Rotation rotation(double app, double apq, double aqq) {
  const double theta = (aqq - app) / (2.0 * apq);
  const double tangent = std::copysign(1.0, theta) / (std::fabs(theta) + std::hypot(theta, 1.0));
  const double cosine = 1.0 / std::hypot(tangent, 1.0);
  return {cosine, tangent * cosine};
}

void rotate_columns(Dense& matrix, std::int64_t p, std::int64_t q, Rotation by) {
  for (std::int64_t i = 0; i < matrix.rows(); ++i) {
    const double first = matrix(i, p);
    const double second = matrix(i, q);
    matrix(i, p) = by.cosine * first - by.sine * second;
    matrix(i, q) = by.sine * first + by.cosine * second;
  }
}

void rotate_rows(Dense& matrix, std::int64_t p, std::int64_t q, Rotation by) {
  for (std::int64_t i = 0; i < matrix.columns(); ++i) {
    const double first = matrix(p, i);
    const double second = matrix(q, i);
    matrix(p, i) = by.cosine * first - by.sine * second;
    matrix(q, i) = by.sine * first + by.cosine * second;
  }
}

template <class Less>
std::vector<std::int64_t> order_of(const std::vector<double>& values, const Less& less) {
  std::vector<std::int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t first, std::int64_t second) {
    return less(values[static_cast<std::size_t>(first)], values[static_cast<std::size_t>(second)]);
  });
  return order;
}

// Fills the columns of `to` starting at `from` with unit vectors orthogonal to each other and to the columns before.
void complete_basis(Dense& to, std::int64_t from) {
  std::int64_t axis = 0;
  for (std::int64_t column = from; column < to.columns(); ++axis) {
    for (std::int64_t i = 0; i < to.rows(); ++i) to(i, column) = i == axis ? 1.0 : 0.0;
    for (int pass = 0; pass < 2; ++pass)  // the second pass removes the rounding errors of the first
      for (std::int64_t earlier = 0; earlier < column; ++earlier) {
        const double along = dot(to, earlier, column);
        for (std::int64_t i = 0; i < to.rows(); ++i) to(i, column) -= along * to(i, earlier);
      }
    const double length = std::sqrt(dot(to, column, column));
    // Some axis keeps at least 1/sqrt(rows) of its length. The remainder of others can be rounding errors only.
    if (length < 0.5 / std::sqrt(static_cast<double>(to.rows()))) continue;
    for (std::int64_t i = 0; i < to.rows(); ++i) to(i, column) /= length;
    ++column;
  }
}

}  // namespace

int cholesky(Dense& matrix) {
  const std::int64_t size = matrix.rows();
  for (std::int64_t j = 0; j < size; ++j) {
    double pivot = matrix(j, j);
    for (std::int64_t k = 0; k < j; ++k) pivot -= matrix(j, k) * matrix(j, k);
    if (!(pivot > 0.0)) return static_cast<int>(j + 1);
    const double root = std::sqrt(pivot);
    matrix(j, j) = root;
    for (std::int64_t i = j + 1; i < size; ++i) {
      double value = matrix(i, j);
      for (std::int64_t k = 0; k < j; ++k) value -= matrix(i, k) * matrix(j, k);
      matrix(i, j) = value / root;
    }
  }
  return 0;
}

Eigen symmetric_eigen(Dense matrix) {
  const std::int64_t size = matrix.rows();
  const auto count = static_cast<std::size_t>(size);
  if (!is_finite(matrix)) return {std::vector<double>(count, std::nan("")), Dense(size, size)};
  Dense vectors = identity(size);
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    bool rotated = false;
    for (std::int64_t p = 0; p < size; ++p)
      for (std::int64_t q = p + 1; q < size; ++q) {
        const double off_diagonal = matrix(p, q);
        if (std::fabs(off_diagonal) <= kEps / 16 * std::sqrt(std::fabs(matrix(p, p) * matrix(q, q)))) {
          matrix(p, q) = matrix(q, p) = 0.0;
          continue;
        }
        rotated = true;
        const Rotation by = rotation(matrix(p, p), off_diagonal, matrix(q, q));
        rotate_columns(matrix, p, q, by);
        rotate_rows(matrix, p, q, by);
        matrix(p, q) = matrix(q, p) = 0.0;
        rotate_columns(vectors, p, q, by);
      }
    if (!rotated) break;
  }
  std::vector<double> diagonal(count);
  for (std::int64_t i = 0; i < size; ++i) diagonal[static_cast<std::size_t>(i)] = matrix(i, i);
  const auto order = order_of(diagonal, std::less<>());
  Eigen result{std::vector<double>(count), Dense(size, size)};
  for (std::int64_t j = 0; j < size; ++j) {
    const std::int64_t from = order[static_cast<std::size_t>(j)];
    result.values[static_cast<std::size_t>(j)] = matrix(from, from);
    for (std::int64_t i = 0; i < size; ++i) result.vectors(i, j) = vectors(i, from);
  }
  return result;
}

Singular singular_values(Dense matrix) {
  const std::int64_t rows = matrix.rows();
  const std::int64_t size = matrix.columns();
  const auto count = static_cast<std::size_t>(size);
  if (!is_finite(matrix)) return {std::vector<double>(count, std::nan("")), Dense(rows, rows), Dense(size, size)};
  Dense right = identity(size);
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    bool rotated = false;
    for (std::int64_t p = 0; p < size; ++p)
      for (std::int64_t q = p + 1; q < size; ++q) {
        const double inner = dot(matrix, p, q);
        const double first = dot(matrix, p, p);
        const double second = dot(matrix, q, q);
        if (std::fabs(inner) <= 4 * kEps * std::sqrt(first * second)) continue;
        rotated = true;
        const Rotation by = rotation(first, inner, second);
        rotate_columns(matrix, p, q, by);
        rotate_columns(right, p, q, by);
      }
    if (!rotated) break;
  }
  std::vector<double> lengths(count);
  for (std::int64_t j = 0; j < size; ++j) lengths[static_cast<std::size_t>(j)] = std::sqrt(dot(matrix, j, j));
  const auto order = order_of(lengths, std::greater<>());
  Singular result{std::vector<double>(count), Dense(rows, rows, 0.0), Dense(size, size)};
  std::int64_t rank = 0;
  for (std::int64_t j = 0; j < size; ++j) {
    const std::int64_t from = order[static_cast<std::size_t>(j)];
    const double length = lengths[static_cast<std::size_t>(from)];
    result.values[static_cast<std::size_t>(j)] = length;
    for (std::int64_t i = 0; i < size; ++i) result.right(i, j) = right(i, from);
    // The direction of a column of rounding errors is arbitrary.
    if (length <= static_cast<double>(rows) * kEps * result.values[0]) continue;
    for (std::int64_t i = 0; i < rows; ++i) result.left(i, j) = matrix(i, from) / length;
    rank = j + 1;
  }
  complete_basis(result.left, rank);
  return result;
}

}  // namespace standin
