// Elementwise MatrixOps.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/interrupt.hpp"
#include "cpu/device.hpp"

namespace fidfast {

namespace {

using M = Matrix<Cpu>;
using V = Vector<Cpu>;

/// Calls work(i, j) for every i > j, in tiles, so that (i, j) and (j, i) are both in the cache.
template <class Work>
void for_each_below_diagonal(Index n, Work work) {
  constexpr Index kTile = 32;
  for (Index jj = 0; jj < n; jj += kTile) {
    check_interrupt();
    for (Index ii = jj; ii < n; ii += kTile) {
      for (Index j = jj; j < std::min(jj + kTile, n); ++j) {
        for (Index i = std::max(ii, j + 1); i < std::min(ii + kTile, n); ++i) work(i, j);
      }
    }
  }
}

}  // namespace

// Vectors and means -------------------------------------------------------------------------------------------

template <>
void MatrixOps<Cpu>::difference(const Mean<Cpu>& to, const Mean<Cpu>& from, V& d) {
  for (Index j = 0; j < d.rows(); ++j) {
    d.data()[j] = (to.high.data()[j] - from.high.data()[j]) + (to.low.data()[j] - from.low.data()[j]);
  }
}

template <>
void MatrixOps<Cpu>::advance(Mean<Cpu>& mean, double weight, const V& d) {
  for (Index j = 0; j < d.rows(); ++j) {
    double& high = mean.high.data()[j];
    double& low = mean.low.data()[j];
    const double step = low + weight * d.data()[j];
    // high + step as an exact sum (Knuth).
    const double sum = high + step;
    const double shadow = sum - high;
    low = (high - (sum - shadow)) + (step - shadow);
    high = sum;
  }
}

template <>
void MatrixOps<Cpu>::add_in_quadrature(V& a, double alpha, const V& b) {
  for (Index j = 0; j < a.rows(); ++j) a.data()[j] = std::hypot(a.data()[j], alpha * b.data()[j]);
}

template <>
double MatrixOps<Cpu>::squared_distance(const V& a, const V& b) {
  double sum = 0;
  for (Index j = 0; j < a.rows(); ++j) {
    const double d = a.data()[j] - b.data()[j];
    sum += d * d;
  }
  return sum;
}

// Element by element ------------------------------------------------------------------------------------------

template <>
void MatrixOps<Cpu>::add_symmetric(M& a, double alpha, const M& b, double beta, const V& d) {
  for (Index j = 0; j < a.cols(); ++j) {
    double* const column = a.column(j);
    const double* const other = b.column(j);
    const double dj = beta * d.data()[j];
    for (Index i = j; i < a.rows(); ++i) column[i] += alpha * other[i] + dj * d.data()[i];
  }
}

template <>
void MatrixOps<Cpu>::scale(M& a, double alpha) {
  std::for_each(a.data(), a.data() + a.size(), [alpha](double& value) { value *= alpha; });
}

template <>
Asymmetry MatrixOps<Cpu>::symmetrize(M& a) {
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
void MatrixOps<Cpu>::mirror_lower(M& a, double alpha) {
  if (alpha != 1) scale(a, alpha);
  for_each_below_diagonal(a.rows(), [&](Index i, Index j) { a.column(i)[j] = a.column(j)[i]; });
}

template <>
std::vector<double> MatrixOps<Cpu>::diagonal(const M& a) {
  std::vector<double> result(static_cast<std::size_t>(a.cols()));
  for (Index j = 0; j < a.cols(); ++j) result[static_cast<std::size_t>(j)] = a.column(j)[j];
  return result;
}

template <>
std::vector<bool> MatrixOps<Cpu>::nonzero_columns(const M& a) {
  std::vector<bool> result(static_cast<std::size_t>(a.cols()));
  for (Index j = 0; j < a.cols(); ++j) {
    check_interrupt_at(j);
    const double* const column = a.column(j);
    result[static_cast<std::size_t>(j)] = std::any_of(column, column + a.rows(), [](double v) { return v != 0; });
  }
  return result;
}

template <>
double MatrixOps<Cpu>::squared_norm(const M& a) {
  double sum = 0;
  for (Index j = 0; j < a.cols(); ++j) {
    check_interrupt_at(j);
    double of_column = 0;
    for (Index i = 0; i < a.rows(); ++i) of_column += a.column(j)[i] * a.column(j)[i];
    sum += of_column;
  }
  return sum;
}

template <>
double MatrixOps<Cpu>::trace_of_product(const M& a, const M& b) {
  double sum = 0;
  for (Index j = 0; j < a.cols(); ++j) {
    check_interrupt_at(j);
    const double* const of_a = a.column(j);
    const double* const of_b = b.column(j);
    double below = 0;
    for (Index i = j + 1; i < a.rows(); ++i) below += of_a[i] * of_b[i];
    sum += of_a[j] * of_b[j] + 2 * below;
  }
  return sum;
}

template <>
double MatrixOps<Cpu>::max_magnitude(const M& a) {
  double result = 0;
  for (Index j = 0; j < a.cols(); ++j) {
    check_interrupt_at(j);
    for (Index i = j; i < a.rows(); ++i) {
      const double magnitude = std::abs(a.column(j)[i]);
      if (std::isnan(magnitude)) return magnitude;  // NaN is the maximum
      result = std::max(result, magnitude);
    }
  }
  return result;
}

template <>
M MatrixOps<Cpu>::submatrix(double alpha, const M& a, const std::vector<Index>& units) {
  const Index n = static_cast<Index>(units.size());
  M result(n, n);
  for (Index j = 0; j < n; ++j) {
    check_interrupt_at(j);
    const double* const from = a.column(units[static_cast<std::size_t>(j)]);
    double* const to = result.column(j);
    for (Index i = 0; i < n; ++i) to[i] = alpha * from[units[static_cast<std::size_t>(i)]];
  }
  return result;
}

template <>
M MatrixOps<Cpu>::scatter_rows(const M& a, Index num_rows, const std::vector<Index>& rows,
                               const std::vector<double>& scale) {
  M result = M::zeros(num_rows, a.cols());
  for (Index j = 0; j < a.cols(); ++j) {
    check_interrupt_at(j);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      result.column(j)[rows[i]] = scale[i] * a.column(j)[static_cast<Index>(i)];
    }
  }
  return result;
}

template <>
M MatrixOps<Cpu>::gather_rows(const M& a, const std::vector<Index>& rows) {
  M result(static_cast<Index>(rows.size()), a.cols());
  for (Index j = 0; j < a.cols(); ++j) {
    check_interrupt_at(j);
    for (std::size_t i = 0; i < rows.size(); ++i) result.column(j)[i] = a.column(j)[rows[i]];
  }
  return result;
}

template <>
M MatrixOps<Cpu>::scaled_columns(const M& a, Index first, const std::vector<double>& scale) {
  M result(a.rows(), static_cast<Index>(scale.size()));
  for (std::size_t j = 0; j < scale.size(); ++j) {
    check_interrupt_at(static_cast<Index>(j));
    const double* const from = a.column(first + static_cast<Index>(j));
    double* const to = result.column(static_cast<Index>(j));
    for (Index i = 0; i < a.rows(); ++i) to[i] = scale[j] * from[i];
  }
  return result;
}

template <>
void MatrixOps<Cpu>::scale_both_sides(M& a, const std::vector<double>& scale) {
  for (Index j = 0; j < a.cols(); ++j) {
    check_interrupt_at(j);
    const double of_column = scale[static_cast<std::size_t>(j)];
    for (Index i = j; i < a.rows(); ++i) a.column(j)[i] *= of_column * scale[static_cast<std::size_t>(i)];
  }
}

template <>
M MatrixOps<Cpu>::drop_mean_direction(M rows, const Mean<Cpu>& mean) {
  const Index dim = rows.rows();
  const Index n = rows.cols();
  V sum = V::zeros(dim);
  for (Index i = 0; i < n; ++i) {
    check_interrupt_at(i);
    double* const row = rows.column(i);
    for (Index j = 0; j < dim; ++j) {
      row[j] = (row[j] - mean.high.data()[j]) - mean.low.data()[j];
      sum.data()[j] += row[j];
    }
  }
  // The Householder reflection that maps (1, ..., 1) / sqrt(n) to -(1, 0, ..., 0) preserves the sum of outer products.
  // After it the first row is -sum / sqrt(n), and the others have the scatter about the mean.
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

}  // namespace fidfast
