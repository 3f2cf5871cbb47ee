// RowOps for kernel distances. The loops are compiled for several vector widths, selected at run time. How the work is
// divided does not depend on the number of threads, so neither do the results.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/parallel.hpp"
#include "cpu/device.hpp"
#include "cpu/widen.hpp"

namespace fidfast {

namespace {

#define FIDFAST_INLINE [[gnu::always_inline]] inline

/// sum_q c[q] e^(q + 1) by Horner's method, for degrees up to 3: those of common kernels.
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

/// exp(e) - 1 - linear e = 2^n (exp(r) - 1 - r) + (2^n r - linear e) + (2^n - 1) with e = n log 2 + r and
/// |r| <= log(2) / 2, the usual argument reduction, but without branches, which would prevent vectorization. Near 0 the
/// second and third terms are exactly 0.
struct ExpMinusOne {
  double linear;
  double highest;  // larger arguments are clipped to it: they are rounding errors

  FIDFAST_INLINE double operator()(double e) const {
    constexpr double kLowest = -708;  // exp(-708) is just above the smallest normal number; NaN passes
    constexpr double kPerLog2 = 1.4426950408889634;
    constexpr double kLog2High = 0x1.62e42fee00000p-1;  // 33 bits, so that n kLog2High is exact
    constexpr double kLog2Low = 0x1.a39ef35793c76p-33;
    constexpr double kRound = 0x1.8p52;  // doubles of this size have no fraction, and their last bits are n
    double x = e > highest ? highest : e;
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
    std::uint64_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 52) + (std::uint64_t{1023} << 52);
    double power;
    std::memcpy(&power, &bits, sizeof power);
    return power * (r * r * tail) + ((power * r - linear * e) + (power - 1));
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

/// add_function_sums for the rows [top, last) of a tile.
template <class Function, class T>
FIDFAST_INLINE TileSquares sum_rows(const Function& f, double linear, const Tile<T>& tile, Index top, Index last) {
  const double weight = tile.weight;
  const double* const row_terms = tile.row_terms;
  double* const row_sums = tile.row_sums;
  TileSquares squares;
  for (Index j = 0; j < tile.n; ++j) {
    const Index first = tile.below_diagonal ? std::max(top, j + 1) : top;
    const T* const column = tile.products + j * tile.stride;
    const double of_column = tile.column_terms[j];
    double sum = 0;
    double of_function = 0;
    double of_terms = 0;
#pragma omp simd reduction(+ : sum, of_function, of_terms)
    for (Index i = first; i < last; ++i) {
      const double e = row_terms[i] + of_column + weight * static_cast<double>(column[i]);
      const double value = f(e);
      const double whole = value + linear * e;
      row_sums[i] += value;
      sum += value;
      of_function += whole * whole;
      of_terms += e * e;
    }
    tile.column_sums[j] += sum;
    squares += {of_function, of_terms};
  }
  return squares;
}

/// results[k] = a . vectors[:, k].
FIDFAST_INLINE void dots(const double* a, const Matrix<Cpu>& vectors, double* results) {
  const Index n = vectors.rows();
  for (Index k = 0; k < vectors.cols(); ++k) {
    const double* const b = vectors.column(k);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (Index i = 0; i < n; ++i) sum += a[i] * b[i];
    results[k] = sum;
  }
}

// By default x86-64 code may use 16-byte vectors only; wider ones are selected at run time.
#if defined(__x86_64__) && defined(__GNUC__)
#define FIDFAST_WIDTHS 1
#define FIDFAST_512 [[gnu::target("avx512f,avx512dq,avx512vl,prefer-vector-width=512")]]
#define FIDFAST_256 [[gnu::target("avx2,fma")]]

template <class Function, class T>
FIDFAST_512 TileSquares sum_rows_512(const Function& f, double linear, const Tile<T>& tile, Index top, Index last) {
  return sum_rows(f, linear, tile, top, last);
}
template <class Function, class T>
FIDFAST_256 TileSquares sum_rows_256(const Function& f, double linear, const Tile<T>& tile, Index top, Index last) {
  return sum_rows(f, linear, tile, top, last);
}
FIDFAST_512 void dots_512(const double* a, const Matrix<Cpu>& vectors, double* results) { dots(a, vectors, results); }
FIDFAST_256 void dots_256(const double* a, const Matrix<Cpu>& vectors, double* results) { dots(a, vectors, results); }

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
TileSquares sum_rows_here(const Function& f, double linear, const Tile<T>& tile, Index top, Index last) {
#ifdef FIDFAST_WIDTHS
  if (has_512()) return sum_rows_512(f, linear, tile, top, last);
  if (has_256()) return sum_rows_256(f, linear, tile, top, last);
#endif
  return sum_rows(f, linear, tile, top, last);
}

void dots_here(const double* a, const Matrix<Cpu>& vectors, double* results) {
#ifdef FIDFAST_WIDTHS
  if (has_512()) return dots_512(a, vectors, results);
  if (has_256()) return dots_256(a, vectors, results);
#endif
  dots(a, vectors, results);
}

constexpr Index kRows = 512;  // in a piece: their terms and sums stay in the first-level cache

template <class Function, class T>
TileSquares sum_tile(const Function& f, double linear, const Tile<T>& tile) {
  const Index pieces = (tile.m + kRows - 1) / kRows;
  Matrix<Cpu> column_sums = Matrix<Cpu>::zeros(tile.n, pieces);
  std::vector<TileSquares> squares(static_cast<std::size_t>(pieces));
  parallel_for(pieces, num_threads(), [&](Index piece) {
    Tile<T> own = tile;
    own.column_sums = column_sums.column(piece);
    const Index top = piece * kRows;
    squares[static_cast<std::size_t>(piece)] = sum_rows_here(f, linear, own, top, std::min(top + kRows, tile.m));
  });
  TileSquares total;
  for (Index piece = 0; piece < pieces; ++piece) {
    const double* const of_piece = column_sums.column(piece);
    for (Index j = 0; j < tile.n; ++j) tile.column_sums[j] += of_piece[j];
    total += squares[static_cast<std::size_t>(piece)];
  }
  return total;
}

template <class T>
TileSquares sum_with(const Polynomial& f, double linear, const Tile<T>& tile) {
  std::vector<double> c = f.coefficients;
  c[0] -= linear;
  if (c.size() > 3) return sum_tile(AnyDegree{c.data(), c.size()}, linear, tile);
  Cubic cubic{};
  std::copy(c.begin(), c.end(), cubic.c);
  return sum_tile(cubic, linear, tile);
}

template <class T>
TileSquares sum_with(const ExponentialLessOne&, double linear, const Tile<T>& tile) {
  return sum_tile(ExpMinusOne{linear, linear == 0 ? 0.0 : 1.0}, linear, tile);
}

}  // namespace

template <>
template <class S>
void RowOps<Cpu>::inner_products(const FeatureView<S>& features, const Vector<Cpu>& origin, const Matrix<Cpu>& vectors,
                                 Matrix<Cpu>& result) {
  parallel_for((features.n + kRows - 1) / kRows, num_threads(), [&](Index piece) {
    std::vector<double> row(static_cast<std::size_t>(features.dim));
    std::vector<double> products(static_cast<std::size_t>(vectors.cols()));
    for (Index i = piece * kRows; i < std::min((piece + 1) * kRows, features.n); ++i) {
      for_each_column(features, i, [&](Index j, const S& value) {
        row[static_cast<std::size_t>(j)] = static_cast<double>(widen(value)) - origin.data()[j];
      });
      dots_here(row.data(), vectors, products.data());
      for (Index k = 0; k < vectors.cols(); ++k) result.column(k)[i] = products[static_cast<std::size_t>(k)];
    }
  });
}

template <>
template <class Function, class T>
TileSquares RowOps<Cpu>::add_function_sums(const Function& f, double linear, double weight,
                                           const Matrix<Cpu, T>& products, const TileAxis<Cpu>& rows,
                                           const TileAxis<Cpu>& columns, bool below_diagonal) {
  const Tile<T> tile{products.data(),
                     products.rows(),
                     rows.rows.last - rows.rows.first,
                     columns.rows.last - columns.rows.first,
                     weight,
                     rows.terms.data() + rows.rows.first,
                     columns.terms.data() + columns.rows.first,
                     rows.sums.data() + rows.rows.first,
                     columns.sums.data() + columns.rows.first,
                     below_diagonal};
  return sum_with(f, linear, tile);
}

#define FIDFAST_SOURCE(S)                                                                                  \
  template void RowOps<Cpu>::inner_products(const FeatureView<S>&, const Vector<Cpu>&, const Matrix<Cpu>&, \
                                            Matrix<Cpu>&);
#define FIDFAST_TARGET(T)                                                                                       \
  template TileSquares RowOps<Cpu>::add_function_sums(const Polynomial&, double, double, const Matrix<Cpu, T>&, \
                                                      const TileAxis<Cpu>&, const TileAxis<Cpu>&, bool);        \
  template TileSquares RowOps<Cpu>::add_function_sums(const ExponentialLessOne&, double, double,                \
                                                      const Matrix<Cpu, T>&, const TileAxis<Cpu>&,              \
                                                      const TileAxis<Cpu>&, bool);

FIDFAST_SOURCE(Float16)
FIDFAST_SOURCE(BFloat16)
FIDFAST_SOURCE(float)
FIDFAST_SOURCE(double)
FIDFAST_TARGET(float)
FIDFAST_TARGET(double)

}  // namespace fidfast
