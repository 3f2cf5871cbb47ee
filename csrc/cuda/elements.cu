// Elementwise MatrixOps.
#include <cmath>
#include <vector>

#include "cuda/kernels.cuh"

namespace fidfast {

using cuda::for_each_element;
using cuda::for_each_item;
using cuda::for_each_unit;
using cuda::on_device;
using cuda::reduce;
using cuda::two_sum;

namespace {

using M = Matrix<Cuda>;
using V = Vector<Cuda>;

/// Asymmetry for use in kernels.
struct Difference {
  double size;
  Index i;
  Index j;
};

struct LargerDifference {
  __device__ Difference operator()(const Difference& a, const Difference& b) const { return a.size >= b.size ? a : b; }
};

}  // namespace

// Vectors and means -------------------------------------------------------------------------------------------

template <>
void MatrixOps<Cuda>::difference(const Mean<Cuda>& to, const Mean<Cuda>& from, V& d) {
  const double* const to_high = to.high.data();
  const double* const to_low = to.low.data();
  const double* const from_high = from.high.data();
  const double* const from_low = from.low.data();
  double* const result = d.data();
  for_each_element(d.rows(), 1, [=] __device__(Index j, Index) {
    result[j] = (to_high[j] - from_high[j]) + (to_low[j] - from_low[j]);
  });
}

template <>
void MatrixOps<Cuda>::advance(Mean<Cuda>& mean, double weight, const V& d) {
  double* const high = mean.high.data();
  double* const low = mean.low.data();
  const double* const step = d.data();
  const auto skip = cuda::skip_of_thread();
  for_each_element(d.rows(), 1, [=] __device__(Index j, Index) {
    if (!skip()) two_sum(high[j], low[j] + weight * step[j], high[j], low[j]);
  });
}

template <>
void MatrixOps<Cuda>::add_in_quadrature(V& a, double alpha, const V& b) {
  double* const as = a.data();
  const double* const bs = b.data();
  const auto skip = cuda::skip_of_thread();
  for_each_element(a.rows(), 1, [=] __device__(Index j, Index) {
    if (!skip()) as[j] = sqrt(as[j] * as[j] + alpha * bs[j] * (alpha * bs[j]));
  });
}

template <>
double MatrixOps<Cuda>::squared_distance(const V& a, const V& b) {
  const double* const one = a.data();
  const double* const other = b.data();
  return reduce(
      1, a.rows(), 0.0, [=] __device__(Index, Index j) { return (one[j] - other[j]) * (one[j] - other[j]); },
      cuda::Sum());
}

// Element by element ------------------------------------------------------------------------------------------

template <>
void MatrixOps<Cuda>::add_symmetric(M& a, double alpha, const M& b, double beta, const V& d) {
  const Index n = a.rows();
  double* const to = a.data();
  const double* const from = b.data();
  const double* const ds = d.data();
  for_each_element(n, n, [=] __device__(Index i, Index j) {
    if (i >= j) to[i + j * n] += alpha * from[i + j * n] + beta * ds[j] * ds[i];
  });
}

template <>
void MatrixOps<Cuda>::scale(M& a, double alpha) {
  const Index rows = a.rows();
  double* const numbers = a.data();
  for_each_element(rows, a.cols(), [=] __device__(Index i, Index j) { numbers[i + j * rows] *= alpha; });
}

template <>
Asymmetry MatrixOps<Cuda>::symmetrize(M& a) {
  const Index n = a.rows();
  double* const numbers = a.data();
  const Difference worst = reduce(
      n, n, Difference{0, 0, 0},
      [=] __device__(Index j, Index i) {
        return i > j ? Difference{fabs(numbers[i + j * n] - numbers[j + i * n]), i, j} : Difference{0, 0, 0};
      },
      LargerDifference());
  for_each_element(n, n, [=] __device__(Index i, Index j) {
    if (i <= j) return;
    double& lower = numbers[i + j * n];
    double& upper = numbers[j + i * n];
    lower = upper = lower + (upper - lower) / 2;
  });
  return {worst.size, worst.i, worst.j};
}

template <>
void MatrixOps<Cuda>::mirror_lower(M& a, double alpha) {
  const Index n = a.rows();
  double* const numbers = a.data();
  for_each_element(n, n, [=] __device__(Index i, Index j) {
    if (i < j) return;
    const double value = alpha * numbers[i + j * n];
    numbers[i + j * n] = value;
    numbers[j + i * n] = value;
  });
}

template <>
std::vector<double> MatrixOps<Cuda>::diagonal(const M& a) {
  V result(a.cols());
  const Index stride = a.rows() + 1;
  const double* const from = a.data();
  double* const to = result.data();
  for_each_element(a.cols(), 1, [=] __device__(Index j, Index) { to[j] = from[j * stride]; });
  return cuda::on_host(result, 1);
}

template <>
std::vector<bool> MatrixOps<Cuda>::nonzero_columns(const M& a) {
  Matrix<Cuda, int> nonzero(a.cols(), 1);
  const Index rows = a.rows();
  const double* const from = a.data();
  int* const to = nonzero.data();
  for_each_item(
      a.cols(), rows, 0, [=] __device__(Index j, Index i) { return from[i + j * rows] != 0 ? 1 : 0; }, cuda::Largest(),
      [=] __device__(Index j, int any) { to[j] = any; });
  const std::vector<int> result = cuda::on_host(nonzero, 1);
  return {result.begin(), result.end()};
}

template <>
double MatrixOps<Cuda>::squared_norm(const M& a) {
  const Index rows = a.rows();
  const double* const numbers = a.data();
  return reduce(
      a.cols(), rows, 0.0, [=] __device__(Index j, Index i) { return numbers[i + j * rows] * numbers[i + j * rows]; },
      cuda::Sum());
}

template <>
double MatrixOps<Cuda>::max_magnitude(const M& a) {
  const Index n = a.rows();
  const double* const numbers = a.data();
  return reduce(
      a.cols(), n, 0.0, [=] __device__(Index j, Index i) { return i >= j ? fabs(numbers[i + j * n]) : 0.0; },
      cuda::Largest());
}

template <>
M MatrixOps<Cuda>::submatrix(double alpha, const M& a, const std::vector<Index>& units) {
  const Index n = static_cast<Index>(units.size());
  const Index rows = a.rows();
  M result(n, n);
  const Matrix<Cuda, Index> chosen = on_device(units);
  const Index* const unit = chosen.data();
  const double* const from = a.data();
  double* const to = result.data();
  for_each_element(n, n, [=] __device__(Index i, Index j) { to[i + j * n] = alpha * from[unit[i] + unit[j] * rows]; });
  return result;
}

template <>
M MatrixOps<Cuda>::scatter_rows(const M& a, Index num_rows, const std::vector<Index>& rows,
                                const std::vector<double>& scale) {
  const Index m = static_cast<Index>(rows.size());
  M result = M::zeros(num_rows, a.cols());
  const Matrix<Cuda, Index> indices = on_device(rows);
  const Matrix<Cuda> factors = on_device(scale);
  const Index* const index = indices.data();
  const double* const factor = factors.data();
  const double* const from = a.data();
  double* const to = result.data();
  const Index stride = a.rows();
  for_each_element(m, a.cols(), [=] __device__(Index i, Index j) {
    to[index[i] + j * num_rows] = factor[i] * from[i + j * stride];
  });
  return result;
}

template <>
M MatrixOps<Cuda>::gather_rows(const M& a, const std::vector<Index>& rows) {
  const Index m = static_cast<Index>(rows.size());
  M result(m, a.cols());
  const Matrix<Cuda, Index> indices = on_device(rows);
  const Index* const index = indices.data();
  const double* const from = a.data();
  double* const to = result.data();
  const Index stride = a.rows();
  for_each_element(m, a.cols(), [=] __device__(Index i, Index j) { to[i + j * m] = from[index[i] + j * stride]; });
  return result;
}

template <>
M MatrixOps<Cuda>::scaled_columns(const M& a, Index first, const std::vector<double>& scale) {
  const Index rows = a.rows();
  M result(rows, static_cast<Index>(scale.size()));
  const Matrix<Cuda> factors = on_device(scale);
  const double* const factor = factors.data();
  const double* const from = a.column(first);
  double* const to = result.data();
  for_each_element(rows, result.cols(),
                   [=] __device__(Index i, Index j) { to[i + j * rows] = factor[j] * from[i + j * rows]; });
  return result;
}

template <>
void MatrixOps<Cuda>::scale_both_sides(M& a, const std::vector<double>& scale) {
  const Index n = a.rows();
  const Matrix<Cuda> factors = on_device(scale);
  const double* const factor = factors.data();
  double* const numbers = a.data();
  for_each_element(n, n, [=] __device__(Index i, Index j) {
    if (i >= j) numbers[i + j * n] *= factor[j] * factor[i];
  });
}

template <>
M MatrixOps<Cuda>::drop_mean_direction(M rows, const Mean<Cuda>& mean) {
  const Index dim = rows.rows();
  const Index n = rows.cols();
  const double root = std::sqrt(static_cast<double>(n));
  double* const numbers = rows.data();
  const double* const high = mean.high.data();
  const double* const low = mean.low.data();
  V shift(dim);
  double* const shifts = shift.data();
  // The Householder reflection that maps (1, ..., 1) / sqrt(n) to -(1, 0, ..., 0), as on the CPU.
  for_each_unit(
      dim, n, 0.0,
      [=] __device__(Index j, Index i) {
        double& number = numbers[j + i * dim];
        number = (number - high[j]) - low[j];
        return number;
      },
      cuda::Sum(), [=] __device__(Index j, double sum) { shifts[j] = (sum / root + numbers[j]) / (1.0 + root); });
  M result(dim, n - 1);
  double* const to = result.data();
  for_each_element(dim, n - 1,
                   [=] __device__(Index j, Index i) { to[j + i * dim] = numbers[j + (i + 1) * dim] - shifts[j]; });
  return result;
}

template <>
std::vector<double> MatrixOps<Cuda>::absolute_product(const M& l, const std::vector<double>& v) {
  const Index n = l.rows();
  const Matrix<Cuda> vector = on_device(v);
  V result(n);
  const double* const numbers = l.data();
  const double* const vs = vector.data();
  double* const to = result.data();
  for_each_item(
      n, n, 0.0, [=] __device__(Index j, Index i) { return i >= j ? fabs(numbers[i + j * n]) * vs[i] : 0.0; },
      cuda::Sum(), [=] __device__(Index j, double sum) { to[j] = sum; });
  return cuda::on_host(result, 1);
}

}  // namespace fidfast
