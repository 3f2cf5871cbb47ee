// RowOps for moments and the jackknife.
#include <cmath>
#include <type_traits>
#include <vector>

#include "cuda/kernels.cuh"
#include "cuda/rank_update.hpp"

namespace fidfast {

// nvcc does not accept device lambdas in member templates, so the operations at the end of this file only call these
// functions.
namespace cuda::rows {

template <class S>
Index first_nonfinite_row(const FeatureView<S>& features, double largest) {
  const Index n = features.n;
  const Index first = reduce(
      n, features.dim, n,
      [=] __device__(Index i, Index j) { return fabs(static_cast<double>(at(features, i, j))) <= largest ? n : i; },
      Smallest());
  return first == n ? -1 : first;
}

template <class S, class T>
void append(const FeatureView<S>& features, Matrix<Cuda, T>& columns, Index first) {
  T* const to = columns.column(first);
  const auto skip = skip_of_thread();
  for_each_element(features.dim, features.n, [=] __device__(Index j, Index i) {
    if (!skip()) to[j + i * features.dim] = static_cast<T>(at(features, i, j));
  });
}

template <class S>
void mean(const FeatureView<S>& features, Mean<Cuda>& mean) {
  // Sum differences from the first row: exactly 0 for a constant column, and accurate for one far from the origin.
  double* const high = mean.high.data();
  double* const low = mean.low.data();
  const double n = static_cast<double>(features.n);
  for_each_unit(
      features.dim, features.n, 0.0,
      [=] __device__(Index j, Index i) {
        return static_cast<double>(at(features, i, j)) - static_cast<double>(at(features, 0, j));
      },
      Sum(), [=] __device__(Index j, double sum) { two_sum(at(features, 0, j), sum / n, high[j], low[j]); });
}

template <class S>
bool subtract_mean(const FeatureView<S>& features, const Mean<Cuda>& mean, Vector<Cuda>& remainder,
                   Matrix<Cuda>& centred) {
  const double* const high = mean.high.data();
  remainder.copy_numbers(mean.low);
  double* const to = centred.data();
  for_each_element(features.dim, features.n, [=] __device__(Index j, Index i) {
    to[j + i * features.dim] = static_cast<double>(at(features, i, j)) - high[j];
  });
  return true;
}

/// Subtracts the origin and computes the mean in one pass. The origin is the mean of earlier rows or else the first
/// row, so the sums of squares lose at most about a digit to the remainder.
template <class S>
bool prepare_block(const FeatureView<S>& features, const Mean<Cuda>* previous, Mean<Cuda>& mean,
                   Vector<Cuda>& remainder, Matrix<Cuda>& centred) {
  const double* const previous_mean = previous != nullptr ? previous->high.data() : nullptr;
  double* const high = mean.high.data();
  double* const low = mean.low.data();
  double* const rest = remainder.data();
  double* const to = centred.data();
  const Index dim = features.dim;
  const double n = static_cast<double>(features.n);
  const auto skip = skip_of_thread();
  const auto origin = [=] __device__(Index j) {
    return previous_mean != nullptr ? previous_mean[j] : static_cast<double>(at(features, 0, j));
  };
  for_each_unit(
      dim, features.n, 0.0,
      [=] __device__(Index j, Index i) {
        const double value = skip() ? 0.0 : static_cast<double>(at(features, i, j)) - origin(j);
        to[j + i * dim] = value;
        return value;
      },
      Sum(),
      [=] __device__(Index j, double sum) {
        if (skip()) return;  // the memory may be uninitialised
        rest[j] = sum / n;
        two_sum(origin(j), sum / n, high[j], low[j]);
      });
  return true;
}

void add_scatter(const Matrix<Cuda>& centred, Index n, const Vector<Cuda>& r, double weight, const Vector<Cuda>& d,
                 Matrix<Cuda>& scatter) {
  const Index dim = scatter.rows();
  current().with_blas([&](auto blas) {
    const double one = 1.0;
    check_blas(cuda::libraries().cublasDsyrk_v2(blas, cuda::kFillLower, cuda::kNoTranspose, static_cast<int>(dim),
                                                static_cast<int>(n), &one, centred.data(), static_cast<int>(dim), &one,
                                                scatter.data(), static_cast<int>(dim)),
               "cublasDsyrk");
  });
  double* const to = scatter.data();
  const double* const rs = r.data();
  const double* const ds = d.data();
  const double rows = static_cast<double>(n);
  const auto skip = skip_of_thread();
  for_each_element(dim, dim, [=] __device__(Index i, Index j) {
    if (i < j || skip()) return;
    to[i + j * dim] += weight * ds[j] * ds[i] - rows * rs[j] * rs[i];
  });
}

void cross_products(const Matrix<Cuda>& a, Index m, const Matrix<Cuda>& b, Index n, Matrix<Cuda>& c) {
  if (m == 0 || n == 0) return;
  current().with_blas([&](auto blas) {
    const double one = 1.0;
    const double zero = 0.0;
    const int dim = static_cast<int>(a.rows());
    check_blas(cuda::libraries().cublasDgemm_v2(blas, cuda::kTranspose, cuda::kNoTranspose, static_cast<int>(m),
                                                static_cast<int>(n), dim, &one, a.data(), dim, b.data(), dim, &zero,
                                                c.data(), static_cast<int>(c.rows())),
               "cublasDgemm");
  });
}

template <class T>
bool same_columns(const Matrix<Cuda, T>& a, Index first_a, const Matrix<Cuda, T>& b, Index first_b, Index count) {
  const Index dim = a.rows();
  const T* const ours = a.column(first_a);
  const T* const theirs = b.column(first_b);
  // Pending rows are finite, so equal numbers have equal bits except for the sign of zero.
  return reduce(
             count, dim, 0,
             [=] __device__(Index i, Index j) {
               const T one = ours[j + i * dim];
               const T other = theirs[j + i * dim];
               return one == other && signbit(one) == signbit(other) ? 0 : 1;
             },
             Sum()) == 0;
}

// Jackknife ---------------------------------------------------------------------------------------------------

void deviations(const Matrix<Cuda>& centred, Index n, const Vector<Cuda>& r, const Vector<Cuda>& d,
                std::vector<double>& squares, std::vector<double>& products) {
  const Index dim = centred.rows();
  const double* const rows = centred.data();
  const double* const rs = r.data();
  const double* const ds = d.data();
  Matrix<Cuda> sums(n, 2);
  double* const of_squares = sums.column(0);
  double* const of_products = sums.column(1);
  for_each_item(
      n, dim, 0.0,
      [=] __device__(Index i, Index j) {
        const double deviation = rows[j + i * dim] - rs[j];
        return deviation * deviation;
      },
      Sum(), [=] __device__(Index i, double sum) { of_squares[i] = sum; });
  for_each_item(
      n, dim, 0.0, [=] __device__(Index i, Index j) { return (rows[j + i * dim] - rs[j]) * ds[j]; }, Sum(),
      [=] __device__(Index i, double sum) { of_products[i] = sum; });
  const std::vector<double> both = cuda::on_host(sums, 2);
  squares.assign(both.begin(), both.begin() + n);
  products.assign(both.begin() + n, both.end());
}

void square_deviations(Matrix<Cuda>& a, Index n, const Vector<Cuda>& shift) {
  double* const numbers = a.data();
  const double* const shifts = shift.data();
  const Index rows = a.rows();
  for_each_element(rows, n, [=] __device__(Index j, Index i) {
    const double deviation = numbers[j + i * rows] - shifts[j];
    numbers[j + i * rows] = deviation * deviation;
  });
}

}  // namespace cuda::rows

template <>
template <class S>
Index RowOps<Cuda>::first_nonfinite_row(const FeatureView<S>& features, double largest) {
  return cuda::rows::first_nonfinite_row(features, largest);
}

template <>
template <class S, class T>
void RowOps<Cuda>::append(const FeatureView<S>& features, Matrix<Cuda, T>& columns, Index first) {
  return cuda::rows::append(features, columns, first);
}

template <>
template <class S>
void RowOps<Cuda>::mean(const FeatureView<S>& features, Mean<Cuda>& mean) {
  return cuda::rows::mean(features, mean);
}

template <>
template <class S, class T>
bool RowOps<Cuda>::subtract_mean(const FeatureView<S>& features, const Mean<Cuda>& mean, Vector<Cuda, T>&,
                                 Vector<Cuda>& remainder, Vector<Cuda, T>&, Matrix<Cuda, T>& centred) {
  return cuda::rows::subtract_mean(features, mean, remainder, centred);
}

template <>
template <class S, class T>
bool RowOps<Cuda>::prepare_block(const FeatureView<S>& features, const Mean<Cuda>* previous, Mean<Cuda>& mean,
                                 Vector<Cuda, T>&, Vector<Cuda>& remainder, [[maybe_unused]] Vector<Cuda, T>& unit_info,
                                 Matrix<Cuda, T>& centred, [[maybe_unused]] Vector<Cuda>& squares) {
  if constexpr (std::is_same_v<T, float>) {
    return cuda::prepare_block_16_bit(features, previous, mean, remainder, unit_info, centred, squares);
  } else {
    return cuda::rows::prepare_block(features, previous, mean, remainder, centred);
  }
}

template <>
template <class S>
Index RowOps<Cuda>::separate_far_rows(const FeatureView<S>& features, const Vector<Cuda, float>&, Vector<Cuda, float>&,
                                      Matrix<Cuda, float>& centred, Vector<Cuda>& squares, Matrix<Cuda>& far) {
  cuda::separate_far_rows(centred, features.n, squares, far);
  return 0;
}

template <>
Similarity RowOps<Cuda>::similarity(const Matrix<Cuda, float>&, Index, const Vector<Cuda>&, const Vector<Cuda>&,
                                    const Matrix<Cuda>&, Index) {
  return {1, 1, 0};
}

template <>
void RowOps<Cuda>::add_scatter_with_squares(const Matrix<Cuda, float>& centred, const Vector<Cuda, float>& unit_info,
                                            Index n, const Vector<Cuda>& squares, const Matrix<Cuda>& far, Index,
                                            const Vector<Cuda>& r, double weight, const Vector<Cuda>& d,
                                            Matrix<Cuda>& scatter, Matrix<Cuda, float>&) {
  cuda::rank_update(centred, n, unit_info, r, squares, far, weight, d, scatter);
}

template <>
template <class T>
void RowOps<Cuda>::add_scatter(const Matrix<Cuda, T>& centred, const Vector<Cuda, T>&, Index n, const Vector<Cuda>& r,
                               double weight, const Vector<Cuda>& d, Matrix<Cuda>& scatter, Matrix<Cuda, T>&) {
  cuda::rows::add_scatter(centred, n, r, weight, d, scatter);  // T is double
}

template <>
template <class T>
void RowOps<Cuda>::cross_products(const Matrix<Cuda, T>& a, Index m, const Matrix<Cuda, T>& b, Index n,
                                  Matrix<Cuda, T>& c) {
  return cuda::rows::cross_products(a, m, b, n, c);
}

template <>
template <class T>
bool RowOps<Cuda>::same_columns(const Matrix<Cuda, T>& a, Index first_a, const Matrix<Cuda, T>& b, Index first_b,
                                Index count) {
  return cuda::rows::same_columns(a, first_a, b, first_b, count);
}

template <>
template <class T>
Matrix<Cuda, T> RowOps<Cuda>::rounded(const Matrix<Cuda>& a) {
  return a;  // T is double
}

template <>
template <class T>
void RowOps<Cuda>::deviations(const Matrix<Cuda, T>& centred, Index n, const Vector<Cuda>& r, const Vector<Cuda>& d,
                              std::vector<double>& squares, std::vector<double>& products) {
  return cuda::rows::deviations(centred, n, r, d, squares, products);
}

template <>
template <class T>
void RowOps<Cuda>::square_deviations(Matrix<Cuda, T>& a, Index n, const Vector<Cuda, T>& shift) {
  return cuda::rows::square_deviations(a, n, shift);
}

template <>
template <class T>
std::vector<double> RowOps<Cuda>::on_host(const Matrix<Cuda, T>& a, Index n) {
  return cuda::on_host(a, n);
}

#define FIDFAST_SOURCE(S)                                                                                           \
  template Index RowOps<Cuda>::first_nonfinite_row(const FeatureView<S>&, double);                                  \
  template void RowOps<Cuda>::mean(const FeatureView<S>&, Mean<Cuda>&);                                             \
  template void RowOps<Cuda>::append(const FeatureView<S>&, Matrix<Cuda, double>&, Index);                          \
  template bool RowOps<Cuda>::subtract_mean(const FeatureView<S>&, const Mean<Cuda>&, Vector<Cuda>&, Vector<Cuda>&, \
                                            Vector<Cuda>&, Matrix<Cuda>&);                                          \
  template bool RowOps<Cuda>::prepare_block(const FeatureView<S>&, const Mean<Cuda>*, Mean<Cuda>&, Vector<Cuda>&,   \
                                            Vector<Cuda>&, Vector<Cuda>&, Matrix<Cuda>&, Vector<Cuda>&);
#define FIDFAST_NARROW(S)                                                                                   \
  template void RowOps<Cuda>::append(const FeatureView<S>&, Matrix<Cuda, float>&, Index);                   \
  template bool RowOps<Cuda>::prepare_block(const FeatureView<S>&, const Mean<Cuda>*, Mean<Cuda>&,          \
                                            Vector<Cuda, float>&, Vector<Cuda>&, Vector<Cuda, float>&,      \
                                            Matrix<Cuda, float>&, Vector<Cuda>&);                           \
  template Index RowOps<Cuda>::separate_far_rows(const FeatureView<S>&, const Vector<Cuda, float>&,         \
                                                 Vector<Cuda, float>&, Matrix<Cuda, float>&, Vector<Cuda>&, \
                                                 Matrix<Cuda>&);
#define FIDFAST_COLUMNS(T) \
  template bool RowOps<Cuda>::same_columns(const Matrix<Cuda, T>&, Index, const Matrix<Cuda, T>&, Index, Index);

FIDFAST_SOURCE(Float16)
FIDFAST_SOURCE(BFloat16)
FIDFAST_SOURCE(float)
FIDFAST_SOURCE(double)
FIDFAST_NARROW(Float16)
FIDFAST_NARROW(BFloat16)
FIDFAST_NARROW(float)
FIDFAST_COLUMNS(float)
FIDFAST_COLUMNS(double)
template void RowOps<Cuda>::add_scatter(const Matrix<Cuda>&, const Vector<Cuda>&, Index, const Vector<Cuda>&, double,
                                        const Vector<Cuda>&, Matrix<Cuda>&, Matrix<Cuda>&);
template void RowOps<Cuda>::cross_products(const Matrix<Cuda>&, Index, const Matrix<Cuda>&, Index, Matrix<Cuda>&);
template Matrix<Cuda> RowOps<Cuda>::rounded(const Matrix<Cuda>&);
template void RowOps<Cuda>::deviations(const Matrix<Cuda>&, Index, const Vector<Cuda>&, const Vector<Cuda>&,
                                       std::vector<double>&, std::vector<double>&);
template void RowOps<Cuda>::square_deviations(Matrix<Cuda>&, Index, const Vector<Cuda>&);
template std::vector<double> RowOps<Cuda>::on_host(const Matrix<Cuda>&, Index);

}  // namespace fidfast
