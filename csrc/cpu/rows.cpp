// RowOps for moments.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "core/interrupt.hpp"
#include "cpu/device.hpp"
#include "cpu/lapack.hpp"
#include "cpu/products.hpp"
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

}  // namespace

template <>
template <class S>
Index RowOps<Cpu>::first_nonfinite_row(const FeatureView<S>& features, [[maybe_unused]] double largest) {
  for (Index i = 0; i < features.n; ++i) {
    check_interrupt_at(i);
    bool all = true;
    for_each_column(features, i, [&](Index, const S& value) {
      if constexpr (std::is_same_v<S, double>) {
        all &= std::abs(value) <= largest;
      } else {
        all &= finite(value);
      }
    });
    if (!all) return i;
  }
  return -1;
}

template <>
template <class S, class T>
void RowOps<Cpu>::append(const FeatureView<S>& features, Matrix<Cpu, T>& columns, Index first) {
  for (Index i = 0; i < features.n; ++i) {
    check_interrupt_at(i);
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
    check_interrupt_at(i);
    for_each_column(features, i,
                    [&](Index j, const S& value) { sum[j] += static_cast<double>(widen(value)) - base[j]; });
  }
  const double n = static_cast<double>(features.n);
  for (Index j = 0; j < features.dim; ++j) two_sum(base[j], sum[j] / n, base[j], sum[j]);
}

template <>
template <class T>
void RowOps<Cpu>::own_products(const Matrix<Cpu, T>& a, Index n, Matrix<Cpu, T>& c) {
  lapack::with(
      [&](const auto& lib) { blas::syrk(lib, 'T', n, a.rows(), T{1}, a.data(), a.rows(), T{0}, c.data(), c.rows()); });
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
    const Index dim = a.rows();
    blas::gemm(lib, 'T', 'N', m, n, dim, T{1}, a.data(), dim, b.data(), dim, T{0}, c.data(), c.rows());
  });
}

#define FIDFAST_SOURCE(S)                                                         \
  template Index RowOps<Cpu>::first_nonfinite_row(const FeatureView<S>&, double); \
  template void RowOps<Cpu>::mean(const FeatureView<S>&, Mean<Cpu>&);             \
  template void RowOps<Cpu>::append(const FeatureView<S>&, Matrix<Cpu, double>&, Index);
#define FIDFAST_NARROW(S) template void RowOps<Cpu>::append(const FeatureView<S>&, Matrix<Cpu, float>&, Index);
#define FIDFAST_TARGET(T)                                                                                     \
  template bool RowOps<Cpu>::same_columns(const Matrix<Cpu, T>&, Index, const Matrix<Cpu, T>&, Index, Index); \
  template void RowOps<Cpu>::cross_products(const Matrix<Cpu, T>&, Index, const Matrix<Cpu, T>&, Index,       \
                                            Matrix<Cpu, T>&);                                                 \
  template void RowOps<Cpu>::own_products(const Matrix<Cpu, T>&, Index, Matrix<Cpu, T>&);

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
