// Products of matrices of 16-bit or 8-bit integers, with exact sums in 32 bits. An AVX-512 VNNI instruction multiplies
// and adds 32 or 64 pairs, twice or four times as many as a float32 instruction, without rounding.
#include <algorithm>
#include <cstring>
#include <vector>

#include "core/parallel.hpp"
#include "cpu/device.hpp"

namespace fidfast {

namespace {

template <class T>
using Integers = Matrix<Cpu, T>;

/// The part of c to compute; more of it may be written.
enum class Part { kWhole, kLower };

template <class T>
void plain_product(const Integers<T>& a, Index m, const Integers<T>& b, Index n, Matrix<Cpu, float>& c, Part part) {
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
constexpr Index kColumns = 12;  // of c in registers: 24 vectors of sums; the other registers hold the operands

/// Adjacent numbers of a column, two of 16 bits or four of 8 bits.
using Word = std::int32_t;

template <class T>
constexpr Index kPerWord = sizeof(Word) / sizeof(T);

template <class T>
Index words_of(Index dim) {
  return (dim + kPerWord<T> - 1) / kPerWord<T>;
}

/// Packs the columns [first, first + count) as (words, width): each word of all columns is contiguous. Pads with zeros.
template <Index width, class T>
void pack(const Integers<T>& columns, Index first, Index count, Word* packed) {
  const Index dim = columns.rows();
  const Index whole = dim / kPerWord<T>;
  const Index words = words_of<T>(dim);
  if (count < width || whole < words) std::fill_n(packed, words * width, 0);
  // A few cache lines of every column at a time, so that writes to `packed` are sequential.
  constexpr Index kAtOnce = 16;
  for (Index begin = 0; begin < whole; begin += kAtOnce) {
    const Index end = std::min(begin + kAtOnce, whole);
    for (Index c = 0; c < count; ++c) {
      const T* const column = columns.column(first + c);
      for (Index word = begin; word < end; ++word) {
        std::memcpy(packed + word * width + c, column + kPerWord<T> * word, sizeof(Word));
      }
    }
  }
  if (whole < words) {
    const auto rest = static_cast<std::size_t>(dim - kPerWord<T> * whole) * sizeof(T);
    for (Index c = 0; c < count; ++c) {
      std::memcpy(packed + whole * width + c, columns.column(first + c) + kPerWord<T> * whole, rest);
    }
  }
}

/// The instruction for 8-bit integers needs unsigned numbers in a: kRaise is added to each, and the sums start with
/// minus what that contributes. Intermediate sums may wrap around, but the final ones fit.
constexpr std::int32_t kRaise = 128;

void raise(Word* packed, Index count) {
  for (Index i = 0; i < count; ++i) packed[i] ^= static_cast<Word>(0x80808080U);
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vnni")

using Lanes = std::int32_t __attribute__((vector_size(64), aligned(4), may_alias));
using Floats = float __attribute__((vector_size(64), aligned(4), may_alias));

template <class T>
[[gnu::always_inline]] inline Lanes add_products(Lanes sum, Lanes a, Lanes b) {
  if constexpr (sizeof(T) == 2) return __builtin_ia32_vpdpwssd_v16si(sum, a, b);
  if constexpr (sizeof(T) == 1) return __builtin_ia32_vpdpbusd_v16si(sum, a, b);
}

/// c = a^T b for packed a and b; c is (kRows, kColumns) with columns ldc apart. Sums of column j start with start[j].
template <class T>
void multiply(Index words, const Word* a, const Word* b, const std::int32_t* start, float* c, Index ldc) {
  Lanes upper[kColumns];
  Lanes lower[kColumns];
#pragma GCC unroll 12
  for (Index j = 0; j < kColumns; ++j) upper[j] = lower[j] = start[j] - Lanes{};
  for (Index word = 0; word < words; ++word) {
    const Lanes a0 = *reinterpret_cast<const Lanes*>(a + word * kRows);
    const Lanes a1 = *reinterpret_cast<const Lanes*>(a + word * kRows + kRows / 2);
#pragma GCC unroll 12
    for (Index j = 0; j < kColumns; ++j) {
      const Lanes all = b[word * kColumns + j] - Lanes{};
      upper[j] = add_products<T>(upper[j], a0, all);
      lower[j] = add_products<T>(lower[j], a1, all);
    }
  }
#pragma GCC unroll 12
  for (Index j = 0; j < kColumns; ++j) {
    *reinterpret_cast<Floats*>(c + j * ldc) = __builtin_convertvector(upper[j], Floats);
    *reinterpret_cast<Floats*>(c + j * ldc + kRows / 2) = __builtin_convertvector(lower[j], Floats);
  }
}

#pragma GCC pop_options

template <class T>
void product_by_vnni(const Integers<T>& a, Index m, const Integers<T>& b, Index n, Matrix<Cpu, float>& c, Part part) {
  constexpr bool kBytes = sizeof(T) == 1;
  const Index words = words_of<T>(a.rows());
  const Index panels = (n + kColumns - 1) / kColumns;
  Matrix<Cpu, Word> packed_b(words * kColumns, panels);
  std::vector<std::int32_t> starts(static_cast<std::size_t>(panels * kColumns), 0);
  parallel_for(panels, num_threads(), [&](Index panel) {
    const Index first = panel * kColumns;
    const Index columns = std::min(kColumns, n - first);
    pack<kColumns>(b, first, columns, packed_b.column(panel));
    for (Index j = first; kBytes && j < first + columns; ++j) {
      std::int32_t sum = 0;
      for (Index k = 0; k < b.rows(); ++k) sum += b.column(j)[k];
      starts[static_cast<std::size_t>(j)] = -kRaise * sum;
    }
  });
  parallel_for((m + kRows - 1) / kRows, num_threads(), [&](Index piece) {
    const Index i = piece * kRows;
    const Index rows = std::min(kRows, m - i);
    Matrix<Cpu, Word> packed_a(words * kRows, 1);
    pack<kRows>(a, i, rows, packed_a.data());
    if constexpr (kBytes) raise(packed_a.data(), packed_a.size());
    for (Index panel = 0; panel < panels; ++panel) {
      const Index j = panel * kColumns;
      if (part == Part::kLower && j >= i + rows) break;
      const Index columns = std::min(kColumns, n - j);
      const std::int32_t* const start = starts.data() + j;
      if (rows == kRows && columns == kColumns) {
        multiply<T>(words, packed_a.data(), packed_b.column(panel), start, c.column(j) + i, c.rows());
        continue;
      }
      float corner[kRows * kColumns];
      multiply<T>(words, packed_a.data(), packed_b.column(panel), start, corner, kRows);
      for (Index column = 0; column < columns; ++column) {
        std::copy_n(corner + column * kRows, rows, c.column(j + column) + i);
      }
    }
  });
}

#else

bool has_vnni() { return false; }

template <class T>
void product_by_vnni(const Integers<T>& a, Index m, const Integers<T>& b, Index n, Matrix<Cpu, float>& c, Part part) {
  plain_product(a, m, b, n, c, part);
}

#endif

template <class T>
void product(const Integers<T>& a, Index m, const Integers<T>& b, Index n, Matrix<Cpu, float>& c, Part part) {
  static const bool fast = has_vnni();
  if (fast) {
    product_by_vnni(a, m, b, n, c, part);
  } else {
    plain_product(a, m, b, n, c, part);
  }
}

}  // namespace

template <>
bool RowOps<Cpu>::has_integer_products() {
  static const bool result = has_vnni();
  return result;
}

#define FIDFAST_INTEGER(T)                                                                       \
  template <>                                                                                    \
  void RowOps<Cpu>::cross_products(const Integers<T>& a, Index m, const Integers<T>& b, Index n, \
                                   Matrix<Cpu, float>& c) {                                      \
    product(a, m, b, n, c, Part::kWhole);                                                        \
  }                                                                                              \
  template <>                                                                                    \
  void RowOps<Cpu>::own_products(const Integers<T>& a, Index n, Matrix<Cpu, float>& c) {         \
    product(a, n, a, n, c, Part::kLower);                                                        \
  }

FIDFAST_INTEGER(std::int8_t)
FIDFAST_INTEGER(std::int16_t)

}  // namespace fidfast
