// RowOps for moments.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "cpu/device.hpp"
#include "cpu/lapack.hpp"
#include "cpu/widen.hpp"

namespace fidfast {

namespace {

template <class S>
struct Bits;
template <>
struct Bits<Float16> {
  using Word = std::uint16_t;
  static constexpr Word kExponent = 0x7c00;
};
template <>
struct Bits<BFloat16> {
  using Word = std::uint16_t;
  static constexpr Word kExponent = 0x7f80;
};
template <>
struct Bits<float> {
  using Word = std::uint32_t;
  static constexpr Word kExponent = 0x7f800000;
};
template <>
struct Bits<double> {
  using Word = std::uint64_t;
  static constexpr Word kExponent = 0x7ff0000000000000;
};

/// NaN and infinity have an exponent of all ones.
template <class S>
inline bool finite(const S& value) {
  typename Bits<S>::Word word;
  std::memcpy(&word, &value, sizeof word);
  return (word & Bits<S>::kExponent) != Bits<S>::kExponent;
}

/// high + low = a + b exactly (Knuth).
inline void two_sum(double a, double b, double& high, double& low) {
  high = a + b;
  const double shadow = high - a;
  low = (a - (high - shadow)) + (b - shadow);
}

void symmetric_product(const Matrix<Cpu, double>& a, Index n, Matrix<Cpu>& scatter, Matrix<Cpu, double>&) {
  lapack::with([&](const auto& lib) {
    const auto dim = lib.size(a.rows());
    const auto k = lib.size(n);
    const double one = 1.0;
    lib.dsyrk("L", "N", &dim, &k, &one, a.data(), &dim, &one, scatter.data(), &dim);
  });
}

template <class Library>
void transposed_product(const Library& lib, const typename Library::Int (&sizes)[4], const float* a, const float* b,
                        float* c) {
  const auto& [m, n, dim, ldc] = sizes;
  const float one = 1.0F;
  const float zero = 0.0F;
  lib.sgemm("T", "N", &m, &n, &dim, &one, a, &dim, b, &dim, &zero, c, &ldc);
}

template <class Library>
void transposed_product(const Library& lib, const typename Library::Int (&sizes)[4], const double* a, const double* b,
                        double* c) {
  const auto& [m, n, dim, ldc] = sizes;
  const double one = 1.0;
  const double zero = 0.0;
  lib.dgemm("T", "N", &m, &n, &dim, &one, a, &dim, b, &dim, &zero, c, &ldc);
}

void symmetric_product(const Matrix<Cpu, float>& a, Index n, Matrix<Cpu>&, Matrix<Cpu, float>& product) {
  lapack::with([&](const auto& lib) {
    const auto dim = lib.size(a.rows());
    const auto k = lib.size(n);
    const float one = 1.0F;
    const float zero = 0.0F;
    lib.ssyrk("L", "N", &dim, &k, &one, a.data(), &dim, &zero, product.data(), &dim);
  });
}

/// c = a^T a, lower triangle.
template <class Library, class Int>
void multiply_own(const Library& lib, const Int* n, const Int* k, const float* a, float* c, const Int* ldc) {
  const float one = 1.0F;
  const float zero = 0.0F;
  lib.ssyrk("L", "T", n, k, &one, a, k, &zero, c, ldc);
}
template <class Library, class Int>
void multiply_own(const Library& lib, const Int* n, const Int* k, const double* a, double* c, const Int* ldc) {
  const double one = 1.0;
  const double zero = 0.0;
  lib.dsyrk("L", "T", n, k, &one, a, k, &zero, c, ldc);
}

}  // namespace

template <>
template <class S>
Index RowOps<Cpu>::first_nonfinite_row(const FeatureView<S>& features) {
  for (Index i = 0; i < features.n; ++i) {
    bool all = true;
    for_each_column(features, i, [&](Index, const S& value) { all &= finite(value); });
    if (!all) return i;
  }
  return -1;
}

template <>
template <class S, class T>
void RowOps<Cpu>::append(const FeatureView<S>& features, Matrix<Cpu, T>& columns, Index first) {
  for (Index i = 0; i < features.n; ++i) {
    T* const column = columns.column(first + i);
    for_each_column(features, i, [&](Index j, const S& value) { column[j] = static_cast<T>(widen(value)); });
  }
}

template <>
template <class S>
void RowOps<Cpu>::mean(const FeatureView<S>& features, Mean<Cpu>& mean) {
  // Sum differences from the first row: exactly 0 for a constant column, and accurate for one far from the origin.
  double* const base = mean.high.data();
  double* const sum = mean.low.data();
  for_each_column(features, 0, [&](Index j, const S& value) {
    base[j] = static_cast<double>(widen(value));
    sum[j] = 0.0;
  });
  for (Index i = 1; i < features.n; ++i) {
    for_each_column(features, i,
                    [&](Index j, const S& value) { sum[j] += static_cast<double>(widen(value)) - base[j]; });
  }
  const double n = static_cast<double>(features.n);
  for (Index j = 0; j < features.dim; ++j) two_sum(base[j], sum[j] / n, base[j], sum[j]);
}

namespace {

/// RowOps::subtract_mean(). If squares is not null, sums the squares of the deviations from the mean there.
template <class S, class T>
bool centre(const FeatureView<S>& features, const Mean<Cpu>& mean, Vector<Cpu, T>& origin, Vector<Cpu>& remainder,
            Vector<Cpu, T>& unit_info, Matrix<Cpu, T>& centred, double* squares) {
  T* const rounded = origin.data();
  T* const peak = unit_info.data();
  for (Index j = 0; j < features.dim; ++j) {
    peak[j] = T{0};
    rounded[j] = static_cast<T>(mean.high.data()[j]);
    remainder.data()[j] = (mean.high.data()[j] - static_cast<double>(rounded[j])) + mean.low.data()[j];
  }
  if (squares != nullptr) std::fill_n(squares, features.dim, 0.0);
  for (Index i = 0; i < features.n; ++i) {
    T* const column = centred.column(i);
    if (squares == nullptr) {
      for_each_column(features, i, [&](Index j, const S& value) {
        column[j] = static_cast<T>(widen(value)) - rounded[j];
        peak[j] = std::max(peak[j], std::abs(column[j]));
      });
    } else {
      for_each_column(features, i, [&](Index j, const S& value) {
        const double deviation = static_cast<double>(widen(value)) - static_cast<double>(rounded[j]);
        column[j] = static_cast<T>(deviation);
        peak[j] = std::max(peak[j], std::abs(column[j]));
        squares[j] += deviation * deviation;
      });
    }
  }
  if (squares != nullptr) {
    const double n = static_cast<double>(features.n);
    for (Index j = 0; j < features.dim; ++j) {
      squares[j] = std::max(squares[j] - n * remainder.data()[j] * remainder.data()[j], 0.0);
    }
  }
  // Above `highest` the sum of n squares may overflow; below `lowest` squares lose digits to underflow.
  using Limits = std::numeric_limits<T>;
  const T highest = std::sqrt(Limits::max() / static_cast<T>(features.n));
  const T lowest = std::sqrt(Limits::min() / Limits::epsilon());
  return std::all_of(peak, peak + features.dim, [=](T p) { return p == 0 || (p >= lowest && p <= highest); });
}

/// sum_j a_j^2 w_j.
float weighted_square(const float* a, const float* w, Index dim) {
  constexpr Index kSums = 16;  // independent, so that the loop can be vectorized
  float sums[kSums] = {};
  Index j = 0;
  for (; j + kSums <= dim; j += kSums) {
    for (Index k = 0; k < kSums; ++k) sums[k] += a[j + k] * a[j + k] * w[j + k];
  }
  float sum = 0;
  for (; j < dim; ++j) sum += a[j] * a[j] * w[j];
  return std::accumulate(sums, sums + kSums, sum);
}

/// scatter += X X^T - n r r^T + weight d d^T for the products X X^T, or those already in scatter if product is empty.
/// The diagonal of X X^T - n r r^T is that of `squares` if it is not null.
template <class T>
void add_products(const Matrix<Cpu, T>& product, const double* squares, double n, const Vector<Cpu>& r, double weight,
                  const Vector<Cpu>& d, Matrix<Cpu>& scatter) {
  const Index dim = scatter.rows();
  const double* const rs = r.data();
  const double* const ds = d.data();
  for (Index j = 0; j < dim; ++j) {
    double* const column = scatter.column(j);
    const double rj = -n * rs[j];
    const double dj = weight * ds[j];
    const double diagonal = column[j];
    if (product.empty()) {
      for (Index i = j; i < dim; ++i) column[i] += rj * rs[i] + dj * ds[i];
    } else {
      const T* const of_block = product.column(j);
      for (Index i = j; i < dim; ++i) column[i] += static_cast<double>(of_block[i]) + (rj * rs[i] + dj * ds[i]);
    }
    if (squares != nullptr) column[j] = diagonal + squares[j] + dj * ds[j];
  }
}

}  // namespace

template <>
template <class S, class T>
bool RowOps<Cpu>::subtract_mean(const FeatureView<S>& features, const Mean<Cpu>& mean, Vector<Cpu, T>& origin,
                                Vector<Cpu>& remainder, Vector<Cpu, T>& unit_info, Matrix<Cpu, T>& centred) {
  return centre(features, mean, origin, remainder, unit_info, centred, nullptr);
}

template <>
template <class S, class T>
bool RowOps<Cpu>::prepare_block(const FeatureView<S>& features, const Mean<Cpu>*, Mean<Cpu>& mean,
                                Vector<Cpu, T>& origin, Vector<Cpu>& remainder, Vector<Cpu, T>& unit_info,
                                Matrix<Cpu, T>& centred, Vector<Cpu>& squares) {
  RowOps::mean(features, mean);
  double* const sums = std::is_same_v<T, float> ? squares.data() : nullptr;
  return centre(features, mean, origin, remainder, unit_info, centred, sums);
}

template <>
template <class S>
Index RowOps<Cpu>::separate_far_rows(const FeatureView<S>& features, const Vector<Cpu, float>& origin,
                                     const Vector<Cpu, float>& unit_info, Matrix<Cpu, float>& centred,
                                     Vector<Cpu>& squares, Matrix<Cpu>& far) {
  const Index dim = features.dim;
  const Index n = features.n;
  std::vector<float> weights(static_cast<std::size_t>(dim));  // n / (dim squares), which makes the average 1
  bool possible = false;  // if all terms of a row are below kFarRow / dim, so is their average
  for (Index j = 0; j < dim; ++j) {
    const double mean_square = squares.data()[j] / static_cast<double>(n);
    const float peak = unit_info.data()[j];
    if (mean_square == 0) continue;
    weights[static_cast<std::size_t>(j)] = static_cast<float>(1 / (mean_square * static_cast<double>(dim)));
    possible |= static_cast<double>(peak) * peak > kFarRow * mean_square;
  }
  if (!possible) return 0;
  Index count = 0;
  for (Index i = 0; i < n; ++i) {
    float* const row = centred.column(i);
    if (weighted_square(row, weights.data(), dim) <= kFarRow) continue;
    std::fill_n(row, dim, 0.0F);
    double* const exact = far.column(count++);
    for_each_column(features, i, [&](Index j, const S& value) {
      exact[j] = static_cast<double>(widen(value)) - static_cast<double>(origin.data()[j]);
      squares.data()[j] = std::max(squares.data()[j] - exact[j] * exact[j], 0.0);
    });
  }
  return count;
}

template <>
double RowOps<Cpu>::mean_squared_correlation(const Matrix<Cpu, float>& centred, Index n, const Vector<Cpu>& squares) {
  constexpr Index kSampled = 16;
  const Index dim = centred.rows();
  const Index step = std::max<Index>(dim / kSampled, 1);
  double products[kSampled][kSampled] = {};
  for (Index i = 0; i < n; ++i) {
    const float* const row = centred.column(i);
    double sampled[kSampled];
    for (Index k = 0; k < kSampled; ++k) sampled[k] = row[std::min(k * step, dim - 1)];
    for (Index k = 0; k < kSampled; ++k) {
      for (Index l = 0; l < k; ++l) products[k][l] += sampled[k] * sampled[l];
    }
  }
  double sum = 0;
  Index pairs = 0;
  for (Index k = 0; k < kSampled; ++k) {
    for (Index l = 0; l < k; ++l) {
      const double scale = squares.data()[std::min(k * step, dim - 1)] * squares.data()[std::min(l * step, dim - 1)];
      if (scale == 0) continue;
      sum += products[k][l] * products[k][l] / scale;
      ++pairs;
    }
  }
  return pairs == 0 ? 0.0 : sum / static_cast<double>(pairs);
}

template <>
void RowOps<Cpu>::add_scatter_with_squares(const Matrix<Cpu, float>& centred, const Vector<Cpu, float>&, Index n,
                                           const Vector<Cpu>& squares, const Matrix<Cpu>& far, Index num_far,
                                           const Vector<Cpu>& r, double weight, const Vector<Cpu>& d,
                                           Matrix<Cpu>& scatter, Matrix<Cpu, float>& product) {
  Matrix<Cpu> none;
  if (num_far > 0) symmetric_product(far, num_far, scatter, none);
  symmetric_product(centred, n, scatter, product);
  add_products(product, squares.data(), static_cast<double>(n), r, weight, d, scatter);
}

template <>
template <class T>
void RowOps<Cpu>::add_scatter(const Matrix<Cpu, T>& centred, const Vector<Cpu, T>&, Index n, const Vector<Cpu>& r,
                              double weight, const Vector<Cpu>& d, Matrix<Cpu>& scatter, Matrix<Cpu, T>& product) {
  symmetric_product(centred, n, scatter, product);
  add_products(product, nullptr, static_cast<double>(n), r, weight, d, scatter);
}

template <>
template <class T>
void RowOps<Cpu>::own_products(const Matrix<Cpu, T>& a, Index n, Matrix<Cpu, T>& c) {
  lapack::with([&](const auto& lib) {
    const auto columns = lib.size(n);
    const auto dim = lib.size(a.rows());
    const auto stride = lib.size(c.rows());
    multiply_own(lib, &columns, &dim, a.data(), c.data(), &stride);
  });
}

template <>
template <class T>
bool RowOps<Cpu>::same_columns(const Matrix<Cpu, T>& a, Index first_a, const Matrix<Cpu, T>& b, Index first_b,
                               Index count) {
  const std::size_t bytes = static_cast<std::size_t>(a.rows() * count) * sizeof(T);
  return bytes == 0 || std::memcmp(a.column(first_a), b.column(first_b), bytes) == 0;
}

template <>
template <class T>
void RowOps<Cpu>::cross_products(const Matrix<Cpu, T>& a, Index m, const Matrix<Cpu, T>& b, Index n,
                                 Matrix<Cpu, T>& c) {
  if (m == 0 || n == 0) return;
  lapack::with([&](const auto& lib) {
    transposed_product(lib, {lib.size(m), lib.size(n), lib.size(a.rows()), lib.size(c.rows())}, a.data(), b.data(),
                       c.data());
  });
}

#define FIDFAST_SOURCE(S)                                                                                       \
  template Index RowOps<Cpu>::first_nonfinite_row(const FeatureView<S>&);                                       \
  template void RowOps<Cpu>::mean(const FeatureView<S>&, Mean<Cpu>&);                                           \
  template void RowOps<Cpu>::append(const FeatureView<S>&, Matrix<Cpu, double>&, Index);                        \
  template bool RowOps<Cpu>::subtract_mean(const FeatureView<S>&, const Mean<Cpu>&, Vector<Cpu>&, Vector<Cpu>&, \
                                           Vector<Cpu>&, Matrix<Cpu>&);
#define FIDFAST_PREPARE(S, T)                                                                                    \
  template bool RowOps<Cpu>::prepare_block(const FeatureView<S>&, const Mean<Cpu>*, Mean<Cpu>&, Vector<Cpu, T>&, \
                                           Vector<Cpu>&, Vector<Cpu, T>&, Matrix<Cpu, T>&, Vector<Cpu>&);
#define FIDFAST_NARROW(S)                                                                                              \
  template void RowOps<Cpu>::append(const FeatureView<S>&, Matrix<Cpu, float>&, Index);                                \
  template bool RowOps<Cpu>::subtract_mean(const FeatureView<S>&, const Mean<Cpu>&, Vector<Cpu, float>&, Vector<Cpu>&, \
                                           Vector<Cpu, float>&, Matrix<Cpu, float>&);                                  \
  template Index RowOps<Cpu>::separate_far_rows(const FeatureView<S>&, const Vector<Cpu, float>&,                      \
                                                const Vector<Cpu, float>&, Matrix<Cpu, float>&, Vector<Cpu>&,          \
                                                Matrix<Cpu>&);
#define FIDFAST_TARGET(T)                                                                                         \
  template void RowOps<Cpu>::add_scatter(const Matrix<Cpu, T>&, const Vector<Cpu, T>&, Index, const Vector<Cpu>&, \
                                         double, const Vector<Cpu>&, Matrix<Cpu>&, Matrix<Cpu, T>&);              \
  template bool RowOps<Cpu>::same_columns(const Matrix<Cpu, T>&, Index, const Matrix<Cpu, T>&, Index, Index);     \
  template void RowOps<Cpu>::cross_products(const Matrix<Cpu, T>&, Index, const Matrix<Cpu, T>&, Index,           \
                                            Matrix<Cpu, T>&);                                                     \
  template void RowOps<Cpu>::own_products(const Matrix<Cpu, T>&, Index, Matrix<Cpu, T>&);

FIDFAST_PREPARE(Float16, float)
FIDFAST_PREPARE(Float16, double)
FIDFAST_PREPARE(BFloat16, float)
FIDFAST_PREPARE(BFloat16, double)
FIDFAST_PREPARE(float, float)
FIDFAST_PREPARE(float, double)
FIDFAST_PREPARE(double, double)
FIDFAST_SOURCE(Float16)
FIDFAST_SOURCE(BFloat16)
FIDFAST_SOURCE(float)
FIDFAST_SOURCE(double)
FIDFAST_NARROW(Float16)
FIDFAST_NARROW(BFloat16)
FIDFAST_NARROW(float)
FIDFAST_TARGET(float)
FIDFAST_TARGET(double)

}  // namespace fidfast
