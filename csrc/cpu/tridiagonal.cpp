// LAPACK's dsytrd spends half of its work in products of the matrix with one vector, which wait for memory. In two
// stages (Bischof, Lang & Sun, "A framework for symmetric band reduction", 2000) nearly all is products of matrices:
// first to a band of kBand diagonals by block reflectors, then along the band, in cache, to three diagonals. The loops
// below pay with vectors of 64 bytes: at dim 2048 on two cores they take two thirds of dsytrd's time or less. With
// narrower ones dsytrd is as fast, and does the work.
#include "cpu/tridiagonal.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "cpu/lapack.hpp"

namespace fidfast {

namespace {

using M = Matrix<Cpu>;

template <class Library>
void tridiagonalize_by_lapack(const Library& lib, M& a, double* diagonal, double* below) {
  using Int = typename Library::Int;
  const Int n = lib.size(a.rows());
  Matrix<Cpu> reflectors(a.rows(), 1);
  Int info = 0;
  double answer = 0;
  Int lwork = -1;
  lib.dsytrd("L", &n, a.data(), &n, diagonal, below, reflectors.data(), &answer, &lwork, &info);
  // More than dsyevd gives it, which lets it work in blocks.
  lwork = lib.size(static_cast<Index>(answer));
  Matrix<Cpu> work(lwork, 1);
  lib.dsytrd("L", &n, a.data(), &n, diagonal, below, reflectors.data(), work.data(), &lwork, &info);
  lapack::require_success(info, "dsytrd");
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

/// Whether this processor has vectors of 64 bytes.
bool has_wide_vectors() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"); }

// Helpers too must be compiled for these vectors: inlined from elsewhere they would come with narrow ones.
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,prefer-vector-width=512")

constexpr Index kBand = 32;           // diagonals below the main one that the first stage leaves
constexpr Index kHeight = 2 * kBand;  // of a column of the band and of the bulge that runs along it

// Eight doubles at any address; the compiler makes of them what the machine has.
using Lanes = double __attribute__((vector_size(64), aligned(8), may_alias));

/// kBand numbers, in named registers: an array of them would live in memory.
struct Block {
  Lanes a, b, c, d;

  static Block zero() { return {Lanes{}, Lanes{}, Lanes{}, Lanes{}}; }
  static Block load(const double* from) {
    const auto* const lanes = reinterpret_cast<const Lanes*>(from);
    return {lanes[0], lanes[1], lanes[2], lanes[3]};
  }
  void store(double* to) const {
    auto* const lanes = reinterpret_cast<Lanes*>(to);
    lanes[0] = a;
    lanes[1] = b;
    lanes[2] = c;
    lanes[3] = d;
  }
  void add(double factor, const Block& other) {
    a += factor * other.a;
    b += factor * other.b;
    c += factor * other.c;
    d += factor * other.d;
  }
  Block times(double factor) const { return {a * factor, b * factor, c * factor, d * factor}; }
  Block times(const Block& other) const { return {a * other.a, b * other.b, c * other.c, d * other.d}; }
  double dot(const Block& other) const {
    const Lanes sum = (a * other.a + b * other.b) + (c * other.c + d * other.d);
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
  }
};
static_assert(sizeof(Block) == kBand * sizeof(double));

/// I - tau v v^T, v[0] = 1.
struct Reflector {
  Block v;
  double values[kBand];  // v again, number by number
  double tau = 0;
};

/// The reflector that carries x (kBand) to (beta, 0, ..., 0), which replaces it.
inline Reflector reflect(double* x) {
  Reflector result;
  const double alpha = x[0];
  x[0] = 0;
  const Block tail = Block::load(x);
  const double squares = tail.dot(tail);
  const double beta = -std::copysign(std::sqrt(alpha * alpha + squares), alpha);
  const double scale = squares == 0 ? 0 : 1.0 / (alpha - beta);
  result.tau = squares == 0 ? 0 : (beta - alpha) / beta;
  result.v = tail.times(scale);
  result.v.a[0] = 1.0;
  result.v.store(result.values);
  Block::zero().store(x);
  x[0] = squares == 0 ? alpha : beta;
  return result;
}

/// Row c is 1 from column c on, 0 before: what of a column belongs to the lower triangle.
struct LowerTriangle {
  double rows[kBand][kBand];
};
constexpr LowerTriangle lower_triangle() {
  LowerTriangle result{};
  for (Index c = 0; c < kBand; ++c) {
    for (Index r = 0; r < kBand; ++r) result.rows[c][r] = r < c ? 0.0 : 1.0;
  }
  return result;
}
constexpr LowerTriangle kLower = lower_triangle();

/// d <- H d H for the lower triangle of a diagonal block; columns lie `stride` apart. What stands in memory where the
/// upper triangle would be belongs to other columns of the band: it is read as zero, and written as it was.
inline void reflect_both_sides(double* d, Index stride, const Reflector& h) {
  Block w = Block::zero();
  double of_rows[kBand];
  for (Index c = 0; c < kBand; ++c) {
    const Block column = Block::load(d + c * stride).times(Block::load(kLower.rows[c]));
    of_rows[c] = column.dot(h.v) - d[c + c * stride] * h.values[c];
    w.add(h.values[c], column);
  }
  w.add(1.0, Block::load(of_rows));
  // H d H = d - v w^T - w v^T with this w.
  w.add(-0.5 * h.tau * w.dot(h.v), h.v);
  w = w.times(h.tau);
  double ws[kBand];
  w.store(ws);
  for (Index c = 0; c < kBand; ++c) {
    Block change = h.v.times(ws[c]);
    change.add(h.values[c], w);
    Block column = Block::load(d + c * stride);
    column.add(-1.0, change.times(Block::load(kLower.rows[c])));
    column.store(d + c * stride);
  }
}

/// b <- G b H for the block below the diagonal, with G the reflector that clears its first column; returns G.
inline Reflector chase(double* b, Index stride, const Reflector& h) {
  Block even = Block::zero();
  Block odd = Block::zero();
  for (Index c = 0; c < kBand; c += 2) {
    even.add(h.values[c], Block::load(b + c * stride));
    odd.add(h.values[c + 1], Block::load(b + (c + 1) * stride));
  }
  Block w = even;
  w.add(1.0, odd);
  w = w.times(h.tau);
  Block first = Block::load(b);
  first.add(-1.0, w);
  first.store(b);
  const Reflector g = reflect(b);
  for (Index c = 1; c < kBand; ++c) {
    Block column = Block::load(b + c * stride);
    column.add(-h.values[c], w);
    column.add(-g.tau * column.dot(g.v), g.v);
    column.store(b + c * stride);
  }
  return g;
}

/// w = A v for a symmetric matrix of m rows, of which the lower triangle is read, once: v and w hold kBand numbers for
/// each row of A, side by side. BLAS would copy A to say the same.
void symmetric_product(const double* a, Index lda, Index m, const double* v, double* w) {
  constexpr Index kRows = 32;  // whose share of v and w stays in the first cache
  constexpr Index kAhead = 8;  // columns; the processor does not foresee short runs that lie far apart
  constexpr Index kLine = 8;   // doubles in a line of the cache
  std::fill_n(w, m * kBand, 0.0);
  for (Index first = 0; first < m; first += kRows) {
    const Index last = std::min(first + kRows, m);
    for (Index j = 0; j < last; j += 2) {
      const bool pair = j + 1 < last;
      const double* const left = a + j * lda;
      const double* const right = pair ? left + lda : left;
      const Block v0 = Block::load(v + j * kBand);
      const Block v1 = pair ? Block::load(v + (j + 1) * kBand) : Block::zero();
      Block w0 = Block::zero();
      Block w1 = Block::zero();
      if (j >= first) {  // the corner of the diagonal: a_jj and, of the pair, a_(j+1)j and a_(j+1)(j+1)
        w0.add(left[j], v0);
        if (pair) {
          w0.add(left[j + 1], v1);
          w1.add(left[j + 1], v0);
          w1.add(right[j + 1], v1);
        }
      }
      for (Index i = first; i < last; i += kLine) {
        __builtin_prefetch(left + kAhead * lda + i);
        __builtin_prefetch(left + (kAhead + 1) * lda + i);
      }
      for (Index i = std::max(first, j + 2); i < last; ++i) {
        const Block vi = Block::load(v + i * kBand);
        Block wi = Block::load(w + i * kBand);
        wi.add(left[i], v0);
        wi.add(right[i], v1);
        w0.add(left[i], vi);
        w1.add(right[i], vi);
        wi.store(w + i * kBand);
      }
      w0.add(1.0, Block::load(w + j * kBand));
      w0.store(w + j * kBand);
      if (!pair) continue;
      w1.add(1.0, Block::load(w + (j + 1) * kBand));
      w1.store(w + (j + 1) * kBand);
    }
  }
}

/// The second stage. band holds n + 2 kBand columns of kHeight numbers, those from n on zero: column j holds a_ij at
/// i - j. So every block is whole, and a block of the matrix has columns that lie kHeight - 1 apart.
void chase_bulges(double* band, Index n) {
  constexpr Index kStride = kHeight - 1;
  for (Index j = 0; j + 2 < n; ++j) {
    Reflector h = reflect(band + 1 + j * kHeight);
    for (Index row = j + 1; row < n; row += kBand) {
      if (h.tau == 0) break;  // nothing was cleared, so nothing moves on
      double* const block = band + row * kHeight;
      reflect_both_sides(block, kStride, h);
      h = chase(block + kBand, kStride, h);
    }
  }
}

#pragma GCC pop_options

/// One step of the first stage: columns [k, k + kBand) of a lose what stands below the band, by a reflector
/// I - V T V^T on the m rows below k + kBand, which then acts on the rest of the matrix from both sides.
template <class Library>
void reduce_panel(const Library& lib, M& a, Index k, std::vector<double>& memory) {
  using Int = typename Library::Int;
  constexpr double kOne = 1.0;
  constexpr double kZero = 0.0;
  constexpr double kMinusOne = -1.0;
  constexpr double kMinusHalf = -0.5;
  const Index rows = a.rows() - k - kBand;
  const Index reflectors = std::min(rows, kBand);
  const Int lda = lib.size(a.rows());
  const Int m = lib.size(rows);
  const Int r = lib.size(reflectors);
  const Int band = lib.size(kBand);
  double* const panel = a.column(k) + k + kBand;
  double* const rest = a.column(k + kBand) + k + kBand;
  double* const t = memory.data();          // (kBand, kBand)
  double* const small = t + kBand * kBand;  // (kBand, kBand)
  double* const v = small + kBand * kBand;  // V^T, (kBand, m)
  double* const tv = v + rows * kBand;      // (V T)^T, (kBand, m)
  double* const w = tv + rows * kBand;      // W^T, (kBand, m)

  Int info = 0;
  std::fill_n(t, kBand * kBand, 0.0);
  lib.dgeqrt3(&m, &r, panel, &lda, t, &band, &info);
  lapack::require_success(info, "dgeqrt3");
  std::fill_n(v, rows * kBand, 0.0);
  for (Index c = 0; c < reflectors; ++c) {
    double* const column = panel + c * a.rows();
    v[c + c * kBand] = 1.0;
    for (Index i = c + 1; i < rows; ++i) v[c + i * kBand] = std::exchange(column[i], 0.0);
    std::fill(t + c + 1 + c * kBand, t + (c + 1) * kBand, 0.0);
  }
  lib.dgemm("T", "N", &band, &m, &band, &kOne, t, &band, v, &band, &kZero, tv, &band);
  if (reflectors < kBand) {  // the last panel is wider than high: Q^T = I - (V T^T) V^T on its other columns
    const Int others = lib.size(kBand - reflectors);
    double* const right = panel + reflectors * a.rows();
    lib.dgemm("N", "N", &band, &others, &m, &kOne, tv, &band, right, &lda, &kZero, small, &band);
    lib.dgemm("T", "N", &m, &others, &band, &kMinusOne, v, &band, small, &band, &kOne, right, &lda);
  }
  // Q^T A Q = A - V W^T - W V^T with X = A V T and W = X - V (V T)^T X / 2.
  symmetric_product(rest, a.rows(), rows, tv, w);
  lib.dgemm("N", "T", &band, &band, &m, &kOne, tv, &band, w, &band, &kZero, small, &band);
  lib.dgemm("T", "N", &band, &m, &band, &kMinusHalf, small, &band, v, &band, &kOne, w, &band);
  lib.dsyr2k("L", "T", &m, &band, &kMinusOne, v, &band, w, &band, &kOne, rest, &lda);
}

template <class Library>
void tridiagonalize_in_two_stages(const Library& lib, M& a, double* diagonal, double* below) {
  const Index n = a.rows();
  std::vector<double> memory(static_cast<std::size_t>(2 * kBand * kBand + 3 * n * kBand));
  for (Index k = 0; k + kBand + 1 < n; k += kBand) reduce_panel(lib, a, k, memory);
  M band = M::zeros(kHeight, n + 2 * kBand);
  for (Index j = 0; j < n; ++j) std::copy_n(a.column(j) + j, std::min(kBand + 1, n - j), band.column(j));
  chase_bulges(band.data(), n);
  for (Index j = 0; j < n; ++j) {
    diagonal[j] = band.column(j)[0];
    if (j + 1 < n) below[j] = band.column(j)[1];
  }
}

#else

bool has_wide_vectors() { return false; }

template <class Library>
void tridiagonalize_in_two_stages(const Library& lib, M& a, double* diagonal, double* below) {
  tridiagonalize_by_lapack(lib, a, diagonal, below);
}

#endif

/// Smaller problems fit the cache, where dsytrd does not wait.
constexpr Index kTwoStages = 640;

}  // namespace

void tridiagonalize(M& a, double* diagonal, double* below) {
  static const bool wide = has_wide_vectors();
  lapack::with([&](const auto& lib) {
    if (wide && a.rows() >= kTwoStages) {
      tridiagonalize_in_two_stages(lib, a, diagonal, below);
    } else {
      tridiagonalize_by_lapack(lib, a, diagonal, below);
    }
  });
}

}  // namespace fidfast
