// RowOps for blocks of rows that are added to moments.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <type_traits>

#include "core/moments/float_products.hpp"
#include "cpu/device.hpp"
#include "cpu/lapack.hpp"
#include "cpu/products.hpp"
#include "cpu/widen.hpp"

namespace fidfast {

namespace {

void symmetric_product(const Matrix<Cpu, double>& a, Index n, Matrix<Cpu>& scatter, Matrix<Cpu, double>&) {
  lapack::with([&](const auto& lib) {
    blas::syrk(lib, 'N', a.rows(), n, 1.0, a.data(), a.rows(), 1.0, scatter.data(), scatter.rows());
  });
}

void symmetric_product(const Matrix<Cpu, float>& a, Index n, Matrix<Cpu>&, Matrix<Cpu, float>& product) {
  lapack::with([&](const auto& lib) {
    blas::syrk(lib, 'N', a.rows(), n, 1.0F, a.data(), a.rows(), 0.0F, product.data(), product.rows());
  });
}

/// Above `highest` the sum of n squares may overflow; below `lowest` squares lose digits to underflow.
template <class T>
bool in_range(const Vector<Cpu, T>& peaks, Index n) {
  using Limits = std::numeric_limits<T>;
  const T highest = std::sqrt(Limits::max() / static_cast<T>(n));
  const T lowest = std::sqrt(Limits::min() / Limits::epsilon());
  return std::all_of(peaks.data(), peaks.data() + peaks.rows(),
                     [=](T p) { return p == 0 || (p >= lowest && p <= highest); });
}

/// Whether all products of numbers up to these peaks, not all 0, may lose digits to underflow.
bool squares_underflow(const Vector<Cpu>& peaks) {
  const double largest = *std::max_element(peaks.data(), peaks.data() + peaks.rows());
  return largest > 0 && largest < 1e-145;
}
bool squares_underflow(const Vector<Cpu, float>&) { return false; }

/// scatter += X X^T for the first n columns X of a, which are below 1e-145: only the sums are rounded to subnormal
/// numbers, not each product.
template <class T>
void add_tiny_products(const Matrix<Cpu, T>& a, Index n, Matrix<Cpu>& scatter) {
  constexpr double kScale = 0x1p480;
  Matrix<Cpu> scaled(a.rows(), n);
  std::transform(a.data(), a.data() + scaled.size(), scaled.data(), [](T value) { return kScale * value; });
  Matrix<Cpu> sums = Matrix<Cpu>::zeros(a.rows(), a.rows());
  Matrix<Cpu> none;
  symmetric_product(scaled, n, sums, none);
  for (Index j = 0; j < sums.cols(); ++j) {
    for (Index i = j; i < sums.rows(); ++i) scatter.column(j)[i] += sums.column(j)[i] / kScale / kScale;
  }
}

/// remainder = mean - origin.
template <class T>
void subtract_origin(const Mean<Cpu>& mean, const Vector<Cpu, T>& origin, Vector<Cpu>& remainder) {
  for (Index j = 0; j < origin.rows(); ++j) {
    const double rounded = static_cast<double>(origin.data()[j]);
    remainder.data()[j] = (mean.high.data()[j] - rounded) + mean.low.data()[j];
  }
}

/// Replaces the origin of each unit by the value of most rows if there is one: products of equal numbers would all be
/// rounded in the same direction. It is at most a standard deviation away from the mean. candidate and votes (dim,) are
/// scratch memory.
template <class S>
void prefer_majority(const FeatureView<S>& features, Vector<Cpu, float>& origin, float* candidate, float* votes) {
  constexpr Index kSampled = 64;
  constexpr float kLead = 8;  // votes
  const Index step = std::max<Index>(features.n / kSampled, 1);
  std::fill_n(votes, features.dim, 0.0F);  // Boyer & Moore, "MJRTY: A fast majority vote algorithm" (1991)
  for (Index i = 0; i < features.n; i += step) {
    for_each_column(features, i, [&](Index j, const S& value) {
      const float found = widen(value);
      candidate[j] = i > 0 && votes[j] > 0 ? candidate[j] : found;
      votes[j] += candidate[j] == found ? 1.0F : -1.0F;
    });
  }
  for (Index j = 0; j < features.dim; ++j) {
    if (votes[j] > kLead) origin.data()[j] = candidate[j];
  }
}

#if defined(__x86_64__) && defined(__GNUC__)
#define FIDFAST_AVX2 __attribute__((target("avx2")))
#define FIDFAST_INLINE inline __attribute__((always_inline))
bool has_avx2() { return __builtin_cpu_supports("avx2"); }
#else
#define FIDFAST_AVX2
#define FIDFAST_INLINE inline
bool has_avx2() { return false; }
#endif

/// The row of centred, its peaks and squares in prepare_block().
FIDFAST_INLINE void centre_value(float value, float origin, float& centred, float& peak, double& square) {
  const double deviation = static_cast<double>(value) - static_cast<double>(origin);
  centred = static_cast<float>(deviation);
  peak = std::max(peak, std::abs(centred));
  square += deviation * deviation;
}

/// The same for all values of a row, in vectors of 32 bytes: otherwise this takes 5 % of the time of a block of dim
/// 768.
FIDFAST_AVX2 void centre_row_avx2(const float* row, const float* origin, Index dim, float* centred, float* peaks,
                                  double* squares) {
  for (Index j = 0; j < dim; ++j) centre_value(row[j], origin[j], centred[j], peaks[j], squares[j]);
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

/// sum_k a_jk^2 over the first n columns.
double square_of_row(const Matrix<Cpu>& a, Index j, Index n) {
  double sum = 0;
  for (Index k = 0; k < n; ++k) sum += a.column(k)[j] * a.column(k)[j];
  return sum;
}

/// scatter += X X^T - n r r^T + weight d d^T for the products X X^T, or those already in scatter if product is empty.
/// If squares is not null, it replaces the diagonal of X X^T; the first num_far columns of far are in scatter already.
template <class T>
void add_products(const Matrix<Cpu, T>& product, const double* squares, const Matrix<Cpu>& far, Index num_far, double n,
                  const Vector<Cpu>& r, double weight, const Vector<Cpu>& d, Matrix<Cpu>& scatter) {
  const Index dim = scatter.rows();
  const double* const rs = r.data();
  const double* const ds = d.data();
  for (Index j = 0; j < dim; ++j) {
    check_interrupt_at(j);
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
    if (squares != nullptr) {  // the sum over all rows of the block is not negative
      column[j] = diagonal + std::max(squares[j] + rj * rs[j], -square_of_row(far, j, num_far)) + dj * ds[j];
    }
  }
}

/// Share of the units with a few values only, estimated from samples of units and rows.
double few_valued(const Matrix<Cpu, float>& centred, Index n) {
  constexpr Index kUnits = 64;
  constexpr Index kRows = 64;
  const Index step = std::max<Index>(n / kRows, 1);
  Index found = 0;
  for (Index k = 0; k < kUnits; ++k) {
    const Index unit = (2 * k + 1) * centred.rows() / (2 * kUnits);
    std::array<float, kRows> values;
    std::size_t count = 0;
    for (Index i = 0; i < n && count < values.size(); i += step) values[count++] = centred.column(i)[unit];
    std::sort(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count));
    std::size_t distinct = 0;
    std::size_t most = 0;  // rows with the most frequent value
    for (std::size_t i = 0, equal = 0; i < count; ++i) {
      const bool same = i > 0 && values[i] == values[i - 1];
      equal = same ? equal + 1 : 1;
      distinct += same ? 0 : 1;
      most = std::max(most, equal);
    }
    // The values other than the most frequent one: at least 4, each of which occurs twice or more on average.
    const std::size_t others = count - most;
    if (others >= 4 && 2 * (distinct - 1) <= others) ++found;
  }
  return static_cast<double>(found) / static_cast<double>(kUnits);
}

}  // namespace

template <>
template <class S, class T>
bool RowOps<Cpu>::subtract_mean(const FeatureView<S>& features, const Mean<Cpu>& mean, Vector<Cpu, T>& origin,
                                Vector<Cpu>& remainder, Vector<Cpu, T>& unit_info, Matrix<Cpu, T>& centred) {
  std::transform(mean.high.data(), mean.high.data() + features.dim, origin.data(),
                 [](double value) { return static_cast<T>(value); });
  subtract_origin(mean, origin, remainder);
  const T* const rounded = origin.data();
  T* const peak = unit_info.data();
  std::fill_n(peak, features.dim, T{0});
  for (Index i = 0; i < features.n; ++i) {
    T* const column = centred.column(i);
    for_each_column(features, i, [&](Index j, const S& value) {
      column[j] = static_cast<T>(widen(value)) - rounded[j];
      peak[j] = std::max(peak[j], std::abs(column[j]));
    });
  }
  return in_range(unit_info, features.n);
}

template <>
template <class S, class T>
bool RowOps<Cpu>::prepare_block(const FeatureView<S>& features, const Mean<Cpu>*, Mean<Cpu>& mean,
                                Vector<Cpu, T>& origin, Vector<Cpu>& remainder, Vector<Cpu, T>& unit_info,
                                Matrix<Cpu, T>& centred, [[maybe_unused]] Vector<Cpu>& squares) {
  RowOps::mean(features, mean);
  if constexpr (std::is_same_v<T, double>) {
    return subtract_mean(features, mean, origin, remainder, unit_info, centred);
  } else {
    std::transform(mean.high.data(), mean.high.data() + features.dim, origin.data(),
                   [](double value) { return static_cast<float>(value); });
    prefer_majority(features, origin, centred.data(), unit_info.data());
    subtract_origin(mean, origin, remainder);
    const float* const rounded = origin.data();
    float* const peak = unit_info.data();
    double* const sums = squares.data();
    [[maybe_unused]] const bool fast = has_avx2();
    std::fill_n(peak, features.dim, 0.0F);
    std::fill_n(sums, features.dim, 0.0);
    for (Index i = 0; i < features.n; ++i) {
      float* const column = centred.column(i);
      if constexpr (std::is_same_v<S, float>) {
        if (features.column_stride == 1 && fast) {
          centre_row_avx2(features.row(i), rounded, features.dim, column, peak, sums);
          continue;
        }
      }
      for_each_column(features, i, [&](Index j, const S& value) {
        centre_value(widen(value), rounded[j], column[j], peak[j], sums[j]);
      });
    }
    return in_range(unit_info, features.n);
  }
}

template <>
template <class S>
Index RowOps<Cpu>::separate_far_rows(const FeatureView<S>& features, const Vector<Cpu, float>& origin,
                                     Vector<Cpu, float>& unit_info, Matrix<Cpu, float>& centred, Vector<Cpu>& squares,
                                     Matrix<Cpu>& far) {
  const Index dim = features.dim;
  const Index n = features.n;
  float* const weights = unit_info.data();  // n / (dim squares), which makes the average 1
  bool possible = false;                    // if all terms of a row are below kFarRow / dim, so is their average
  for (Index j = 0; j < dim; ++j) {
    const double mean_square = squares.data()[j] / static_cast<double>(n);
    const double peak = unit_info.data()[j];
    possible |= peak * peak > static_cast<double>(kFarRow) * mean_square;
    weights[j] = mean_square > 0 ? static_cast<float>(1 / (mean_square * static_cast<double>(dim))) : 0.0F;
  }
  if (!possible) return 0;
  Index count = 0;
  for (Index i = 0; i < n; ++i) {
    float* const row = centred.column(i);
    if (weighted_square(row, weights, dim) <= kFarRow) continue;
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
Similarity RowOps<Cpu>::similarity(const Matrix<Cpu, float>& centred, Index n, const Vector<Cpu>& squares,
                                   const Vector<Cpu>& r, const Matrix<Cpu>& far, Index num_far) {
  constexpr Index kSampled = 16;
  const Index dim = centred.rows();
  const double near = static_cast<double>(n - num_far);
  std::array<Index, kSampled> units;
  std::array<double, kSampled> sums;  // over the near rows
  for (Index k = 0; k < kSampled; ++k) {
    const Index unit = (2 * k + 1) * dim / (2 * kSampled);
    double sum = static_cast<double>(n) * r.data()[unit];
    for (Index i = 0; i < num_far; ++i) sum -= far.column(i)[unit];
    units[static_cast<std::size_t>(k)] = unit;
    sums[static_cast<std::size_t>(k)] = sum;
  }
  double products[kSampled][kSampled] = {};
  for (Index i = 0; i < n; ++i) {
    const float* const row = centred.column(i);
    double sampled[kSampled];
    for (Index k = 0; k < kSampled; ++k) sampled[k] = row[units[static_cast<std::size_t>(k)]];
    for (Index k = 0; k < kSampled; ++k) {
      for (Index l = 0; l < k; ++l) products[k][l] += sampled[k] * sampled[l];
    }
  }
  Similarity result;
  double pairs = 0;
  for (Index k = 0; k < kSampled; ++k) {
    for (Index l = 0; l < k; ++l) {
      const auto a = static_cast<std::size_t>(k);
      const auto b = static_cast<std::size_t>(l);
      const auto square = [&](std::size_t index) { return squares.data()[units[index]]; };
      const double variance1 = square(a) - sums[a] * sums[a] / near;
      const double variance2 = square(b) - sums[b] * sums[b] / near;
      if (!(variance1 > 0 && variance2 > 0)) continue;
      const double covariance = products[k][l] - sums[a] * sums[b] / near;
      result.correlation += covariance * covariance / (variance1 * variance2);
      result.cosine += products[k][l] * products[k][l] / (square(a) * square(b));
      ++pairs;
    }
  }
  if (pairs > 0) {
    result.correlation /= pairs;
    result.cosine /= pairs;
  }
  result.few_valued = few_valued(centred, n);
  return result;
}

template <>
void RowOps<Cpu>::add_scatter_with_squares(const Matrix<Cpu, float>& centred, const Vector<Cpu, float>&, Index n,
                                           const Vector<Cpu>& squares, const Matrix<Cpu>& far, Index num_far,
                                           const Vector<Cpu>& r, double weight, const Vector<Cpu>& d,
                                           Matrix<Cpu>& scatter, Matrix<Cpu, float>& product) {
  Matrix<Cpu> none;
  if (num_far > 0) symmetric_product(far, num_far, scatter, none);
  symmetric_product(centred, n, scatter, product);
  add_products(product, squares.data(), far, num_far, static_cast<double>(n), r, weight, d, scatter);
}

template <>
template <class T>
void RowOps<Cpu>::add_scatter(const Matrix<Cpu, T>& centred, const Vector<Cpu, T>& peaks, Index n, const Vector<Cpu>& r,
                              double weight, const Vector<Cpu>& d, Matrix<Cpu>& scatter, Matrix<Cpu, T>& product) {
  if (squares_underflow(peaks)) {
    add_tiny_products(centred, n, scatter);
  } else {
    symmetric_product(centred, n, scatter, product);
  }
  add_products(product, nullptr, Matrix<Cpu>(), 0, static_cast<double>(n), r, weight, d, scatter);
}

#define FIDFAST_BLOCK(S, T)                                                                                        \
  template bool RowOps<Cpu>::prepare_block(const FeatureView<S>&, const Mean<Cpu>*, Mean<Cpu>&, Vector<Cpu, T>&,   \
                                           Vector<Cpu>&, Vector<Cpu, T>&, Matrix<Cpu, T>&, Vector<Cpu>&);          \
  template bool RowOps<Cpu>::subtract_mean(const FeatureView<S>&, const Mean<Cpu>&, Vector<Cpu, T>&, Vector<Cpu>&, \
                                           Vector<Cpu, T>&, Matrix<Cpu, T>&);
#define FIDFAST_NARROW(S)                                                                                              \
  FIDFAST_BLOCK(S, float)                                                                                              \
  FIDFAST_BLOCK(S, double)                                                                                             \
  template Index RowOps<Cpu>::separate_far_rows(const FeatureView<S>&, const Vector<Cpu, float>&, Vector<Cpu, float>&, \
                                                Matrix<Cpu, float>&, Vector<Cpu>&, Matrix<Cpu>&);
#define FIDFAST_TARGET(T)                                                                                         \
  template void RowOps<Cpu>::add_scatter(const Matrix<Cpu, T>&, const Vector<Cpu, T>&, Index, const Vector<Cpu>&, \
                                         double, const Vector<Cpu>&, Matrix<Cpu>&, Matrix<Cpu, T>&);

FIDFAST_NARROW(Float16)
FIDFAST_NARROW(BFloat16)
FIDFAST_NARROW(float)
FIDFAST_BLOCK(double, double)
FIDFAST_TARGET(float)
FIDFAST_TARGET(double)

}  // namespace fidfast
