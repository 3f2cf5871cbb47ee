// Sums of functions of products: one pass over a tile in cache. The loops are compiled for several widths of vectors,
// of which the processor's own is taken.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu/device.hpp"

namespace fidfast {

namespace {

#define FIDFAST_INLINE [[gnu::always_inline]] inline

/// sum_q c[q] e^(q + 1), by Horner's rule. The kernels in use have a degree of at most 3.
struct Cubic {
  double c[3];

  FIDFAST_INLINE double operator()(double e) const { return e * (c[0] + e * (c[1] + e * c[2])); }
};

struct AnyDegree {
  const double* c;
  std::size_t degree;

  FIDFAST_INLINE double operator()(double e) const {
    double sum = 0;
    for (std::size_t q = degree; q > 0; --q) sum = e * (c[q - 1] + sum);
    return sum;
  }
};

/// exp(e) - 1 = 2^n (exp(r) - 1) + (2^n - 1) with e = n log 2 + r, |r| <= log(2) / 2, as the mathematical libraries do
/// it, but without branches, which would keep the compiler from using vectors.
struct ExpMinusOne {
  FIDFAST_INLINE double operator()(double e) const {
    constexpr double kLowest = -708;  // exp(-708) is just above the smallest normal number; NaN passes
    constexpr double kPerLog2 = 1.4426950408889634;
    constexpr double kLog2High = 0x1.62e42fee00000p-1;  // 33 bits, so that n kLog2High is exact
    constexpr double kLog2Low = 0x1.a39ef35793c76p-33;
    constexpr double kRound = 0x1.8p52;  // beside it a double has no fraction, and its last bits are n
    double x = e > 0 ? 0 : e;
    x = x < kLowest ? kLowest : x;
    const double shifted = x * kPerLog2 + kRound;
    const double n = shifted - kRound;
    const double r = (x - n * kLog2High) - n * kLog2Low;
    // The Taylor series: r^13 / 14! < 2^-56 of r.
    double tail = 1.0 / 6227020800;
    tail = tail * r + 1.0 / 479001600;
    tail = tail * r + 1.0 / 39916800;
    tail = tail * r + 1.0 / 3628800;
    tail = tail * r + 1.0 / 362880;
    tail = tail * r + 1.0 / 40320;
    tail = tail * r + 1.0 / 5040;
    tail = tail * r + 1.0 / 720;
    tail = tail * r + 1.0 / 120;
    tail = tail * r + 1.0 / 24;
    tail = tail * r + 1.0 / 6;
    tail = tail * r + 0.5;
    const double of_rest = r + r * r * tail;
    std::uint64_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 52) + (std::uint64_t{1023} << 52);
    double power;
    std::memcpy(&power, &bits, sizeof power);
    return power * of_rest + (power - 1);
  }
};

/// A tile as plain pointers.
template <class T>
struct Tile {
  const T* products;  // (m, n), columns `stride` apart
  Index stride;
  Index m;
  Index n;
  double weight;
  const double* row_terms;     // (m,)
  const double* column_terms;  // (n,)
  double* row_sums;            // (m,)
  double* column_sums;         // (n,)
  bool below_diagonal;
};

template <class Function, class T>
FIDFAST_INLINE double sum_tile(const Function& f, const Tile<T>& tile) {
  constexpr Index kRows = 1024;  // whose terms and sums stay in the first cache
  const double weight = tile.weight;
  const double* const row_terms = tile.row_terms;
  double* const row_sums = tile.row_sums;
  double squares = 0;
  for (Index top = 0; top < tile.m; top += kRows) {
    const Index last = std::min(top + kRows, tile.m);
    for (Index j = 0; j < tile.n; ++j) {
      const Index first = tile.below_diagonal ? std::max(top, j + 1) : top;
      const T* const column = tile.products + j * tile.stride;
      const double of_column = tile.column_terms[j];
      double sum = 0;
      double square = 0;
#pragma omp simd reduction(+ : sum, square)
      for (Index i = first; i < last; ++i) {
        const double value = f(row_terms[i] + of_column + weight * static_cast<double>(column[i]));
        row_sums[i] += value;
        sum += value;
        square += value * value;
      }
      tile.column_sums[j] += sum;
      squares += square;
    }
  }
  return squares;
}

/// sum_i a_i b_i in float64.
template <class T>
FIDFAST_INLINE double dot(const T* a, const T* b, Index n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// On x86-64 the compiler may assume vectors of 16 bytes only; here are two wider ones, chosen at run time.
#if defined(__x86_64__) && defined(__GNUC__)
#define FIDFAST_WIDTHS 1
#define FIDFAST_512 [[gnu::target("avx512f,avx512dq,avx512vl,prefer-vector-width=512")]]
#define FIDFAST_256 [[gnu::target("avx2,fma")]]

template <class Function, class T>
FIDFAST_512 double sum_tile_512(const Function& f, const Tile<T>& tile) {
  return sum_tile(f, tile);
}
template <class Function, class T>
FIDFAST_256 double sum_tile_256(const Function& f, const Tile<T>& tile) {
  return sum_tile(f, tile);
}
template <class T>
FIDFAST_512 double dot_512(const T* a, const T* b, Index n) {
  return dot(a, b, n);
}
template <class T>
FIDFAST_256 double dot_256(const T* a, const T* b, Index n) {
  return dot(a, b, n);
}

bool has_512() {
  static const bool has =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return has;
}
bool has_256() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has;
}
#endif

template <class Function, class T>
double sum_tile_here(const Function& f, const Tile<T>& tile) {
#ifdef FIDFAST_WIDTHS
  if (has_512()) return sum_tile_512(f, tile);
  if (has_256()) return sum_tile_256(f, tile);
#endif
  return sum_tile(f, tile);
}

template <class T>
double dot_here(const T* a, const T* b, Index n) {
#ifdef FIDFAST_WIDTHS
  if (has_512()) return dot_512(a, b, n);
  if (has_256()) return dot_256(a, b, n);
#endif
  return dot(a, b, n);
}

template <class T>
double sum_with(const Polynomial& f, const Tile<T>& tile) {
  const std::vector<double>& c = f.coefficients;
  if (c.size() > 3) return sum_tile_here(AnyDegree{c.data(), c.size()}, tile);
  Cubic cubic{};
  std::copy(c.begin(), c.end(), cubic.c);
  return sum_tile_here(cubic, tile);
}

template <class T>
double sum_with(const ExponentialLessOne&, const Tile<T>& tile) {
  return sum_tile_here(ExpMinusOne{}, tile);
}

}  // namespace

template <>
template <class T>
void RowVerbs<Cpu>::squared_norms(const Matrix<Cpu, T>& a, Index n, double scale, Vector<Cpu>& result, Index first) {
  for (Index i = 0; i < n; ++i) result.data()[first + i] = scale * dot_here(a.column(i), a.column(i), a.rows());
}

template <>
template <class T>
void RowVerbs<Cpu>::inner_products(const Matrix<Cpu, T>& a, Index n, const Vector<Cpu, T>& b, double scale,
                                   Vector<Cpu>& result, Index first) {
  for (Index i = 0; i < n; ++i) result.data()[first + i] = scale * dot_here(a.column(i), b.data(), a.rows());
}

template <>
template <class Function, class T>
double RowVerbs<Cpu>::add_function_sums(const Function& f, double weight, const Matrix<Cpu, T>& products,
                                        const TileSide<Cpu>& rows, const TileSide<Cpu>& columns, bool below_diagonal) {
  const Tile<T> tile{products.data(),
                     products.rows(),
                     rows.n,
                     columns.n,
                     weight,
                     rows.terms.data() + rows.first,
                     columns.terms.data() + columns.first,
                     rows.sums.data() + rows.first,
                     columns.sums.data() + columns.first,
                     below_diagonal};
  return sum_with(f, tile);
}

#define FIDFAST_TARGET(T)                                                                                    \
  template void RowVerbs<Cpu>::squared_norms(const Matrix<Cpu, T>&, Index, double, Vector<Cpu>&, Index);     \
  template void RowVerbs<Cpu>::inner_products(const Matrix<Cpu, T>&, Index, const Vector<Cpu, T>&, double,   \
                                              Vector<Cpu>&, Index);                                          \
  template double RowVerbs<Cpu>::add_function_sums(const Polynomial&, double, const Matrix<Cpu, T>&,         \
                                                   const TileSide<Cpu>&, const TileSide<Cpu>&, bool);        \
  template double RowVerbs<Cpu>::add_function_sums(const ExponentialLessOne&, double, const Matrix<Cpu, T>&, \
                                                   const TileSide<Cpu>&, const TileSide<Cpu>&, bool);

FIDFAST_TARGET(float)
FIDFAST_TARGET(double)

}  // namespace fidfast
