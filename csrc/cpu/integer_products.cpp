// Products of matrices of 16-bit integers, summed exactly in 32 bits. An AVX-512 VNNI instruction multiplies and adds
// 32 pairs at once, twice as many as one for floats, and knows no rounding: what the integers lost when they were
// made is known for each row, and so is the error of every product.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/device.hpp"
#include "cpu/threads.hpp"

namespace fidfast {

namespace {

using Integers = Matrix<Cpu, std::int16_t>;

/// Which part of c is asked for; more of it may be written.
enum class Part { kWhole, kLower };

void plain_product(const Integers& a, Index m, const Integers& b, Index n, Matrix<Cpu, float>& c, Part part) {
  for (Index j = 0; j < n; ++j) {
    for (Index i = part == Part::kLower ? j : 0; i < m; ++i) {
      std::int32_t sum = 0;
      for (Index k = 0; k < a.rows(); ++k) sum += std::int32_t{a.column(i)[k]} * std::int32_t{b.column(j)[k]};
      c.column(j)[i] = static_cast<float>(sum);
    }
  }
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

bool has_vnni() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni"); }

constexpr Index kRows = 32;     // of c in registers: two vectors of 16
constexpr Index kColumns = 12;  // of c in registers; 24 sums, and the rest for what is multiplied

/// Two neighbouring numbers of a column, as the instruction takes them.
using Pair = std::int32_t;

Index pairs_of(Index dim) { return (dim + 1) / 2; }

/// The columns [first, first + width) pair after pair, those of all columns side by side; zeros where there is none.
template <Index width>
void pack(const Integers& columns, Index first, Index count, Pair* packed) {
  const Index dim = columns.rows();
  const Index whole = dim / 2;
  if (count < width || whole < pairs_of(dim)) std::fill_n(packed, pairs_of(dim) * width, 0);
  // A few lines of the cache of every column at a time, so that the packed side is written line by line.
  constexpr Index kAtOnce = 16;
  for (Index begin = 0; begin < whole; begin += kAtOnce) {
    const Index end = std::min(begin + kAtOnce, whole);
    for (Index c = 0; c < count; ++c) {
      const std::int16_t* const column = columns.column(first + c);
      for (Index pair = begin; pair < end; ++pair) {
        std::memcpy(packed + pair * width + c, column + 2 * pair, sizeof(Pair));
      }
    }
  }
  if (whole < pairs_of(dim)) {
    for (Index c = 0; c < count; ++c) {
      std::memcpy(packed + whole * width + c, columns.column(first + c) + 2 * whole, sizeof(std::int16_t));
    }
  }
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vnni")

using Lanes = std::int32_t __attribute__((vector_size(64), aligned(4), may_alias));
using Floats = float __attribute__((vector_size(64), aligned(4), may_alias));

/// c (kRows, kColumns), columns ldc apart, = a^T b for packed a and b.
void multiply(Index pairs, const Pair* a, const Pair* b, float* c, Index ldc) {
  Lanes upper[kColumns] = {};
  Lanes lower[kColumns] = {};
  for (Index pair = 0; pair < pairs; ++pair) {
    const Lanes a0 = *reinterpret_cast<const Lanes*>(a + pair * kRows);
    const Lanes a1 = *reinterpret_cast<const Lanes*>(a + pair * kRows + kRows / 2);
#pragma GCC unroll 12
    for (Index j = 0; j < kColumns; ++j) {
      const Lanes both = b[pair * kColumns + j] - Lanes{};
      upper[j] = __builtin_ia32_vpdpwssd_v16si(upper[j], a0, both);
      lower[j] = __builtin_ia32_vpdpwssd_v16si(lower[j], a1, both);
    }
  }
#pragma GCC unroll 12
  for (Index j = 0; j < kColumns; ++j) {
    *reinterpret_cast<Floats*>(c + j * ldc) = __builtin_convertvector(upper[j], Floats);
    *reinterpret_cast<Floats*>(c + j * ldc + kRows / 2) = __builtin_convertvector(lower[j], Floats);
  }
}

#pragma GCC pop_options

void product_by_vnni(const Integers& a, Index m, const Integers& b, Index n, Matrix<Cpu, float>& c, Part part) {
  const Index pairs = pairs_of(a.rows());
  const Index panels = (n + kColumns - 1) / kColumns;
  Matrix<Cpu, Pair> packed_b(pairs * kColumns, panels);
  in_threads(panels, [&](Index panel) {
    const Index first = panel * kColumns;
    pack<kColumns>(b, first, std::min(kColumns, n - first), packed_b.column(panel));
  });
  in_threads((m + kRows - 1) / kRows, [&](Index piece) {
    const Index i = piece * kRows;
    const Index rows = std::min(kRows, m - i);
    Matrix<Cpu, Pair> packed_a(pairs * kRows, 1);
    pack<kRows>(a, i, rows, packed_a.data());
    for (Index panel = 0; panel < panels; ++panel) {
      const Index j = panel * kColumns;
      if (part == Part::kLower && j >= i + rows) break;
      const Index columns = std::min(kColumns, n - j);
      if (rows == kRows && columns == kColumns) {
        multiply(pairs, packed_a.data(), packed_b.column(panel), c.column(j) + i, c.rows());
        continue;
      }
      float corner[kRows * kColumns];
      multiply(pairs, packed_a.data(), packed_b.column(panel), corner, kRows);
      for (Index column = 0; column < columns; ++column) {
        std::copy_n(corner + column * kRows, rows, c.column(j + column) + i);
      }
    }
  });
}

#else

bool has_vnni() { return false; }

void product_by_vnni(const Integers& a, Index m, const Integers& b, Index n, Matrix<Cpu, float>& c, Part part) {
  plain_product(a, m, b, n, c, part);
}

#endif

void product(const Integers& a, Index m, const Integers& b, Index n, Matrix<Cpu, float>& c, Part part) {
  static const bool fast = has_vnni();
  if (fast) {
    product_by_vnni(a, m, b, n, c, part);
  } else {
    plain_product(a, m, b, n, c, part);
  }
}

}  // namespace

template <>
bool RowVerbs<Cpu>::has_integer_products() {
  static const bool result = has_vnni();
  return result;
}

template <>
void RowVerbs<Cpu>::cross_products(const Integers& a, Index m, const Integers& b, Index n, Matrix<Cpu, float>& c) {
  product(a, m, b, n, c, Part::kWhole);
}

template <>
void RowVerbs<Cpu>::own_products(const Integers& a, Index n, Matrix<Cpu, float>& c) {
  product(a, n, a, n, c, Part::kLower);
}

}  // namespace fidfast
