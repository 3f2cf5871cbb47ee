// A thread block computes a 64 x 64 tile of the scatter, each of its four warps a quarter. 64 rows at a time are loaded
// to shared memory, two in a word, in the layout of the tensor cores' fragments (PTX ISA, "Matrix Fragments for
// mma.m16n8k16"). A float32 sum of 64 exact products has a relative error of a few times 2^-24. These sums are added up
// in float64, so the error does not grow with the number of rows.
#include <cuda_bf16.h>

#include "core/moments/float_products.hpp"
#include "cuda/kernels.cuh"
#include "cuda/rank_update.hpp"

namespace fidfast::cuda {

namespace {

constexpr int kTile = 64;                   // rows and columns
constexpr int kRows = 64;                   // loaded at a time
constexpr int kWords = kRows / 2;           // two rows in a word
constexpr int kStride = kWords + 4;         // avoids bank conflicts
constexpr int kRowsOfDoubles = 16;          // loaded at a time for float64 products
constexpr int kStrideOfFloats = kTile + 1;  // likewise
constexpr int kThreadsOfTile = 128;

/// Arguments of the kernel.
struct Update {
  const float* rows;      // (dim, n)
  const float* marks;     // (dim,)
  const double* r;        // (dim,)
  const double* squares;  // (dim,)
  const double* far;      // (n,)
  const double* d;        // (dim,)
  double* scatter;        // (dim, dim)
  Index dim;
  Index n;
  double weight;
};

/// Positions in the tile of a thread's 32 numbers, as in fragment C of the products: 4 rows and 8 columns.
struct FragmentPosition {
  int row;     // first row; the others are 8, 16 and 24 below it
  int column;  // first column; the others are at +1, 8, 9, 16, 17, 24 and 25

  __device__ FragmentPosition() {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    row = warp / 2 * 32 + lane / 4;
    column = warp % 2 * 32 + lane % 4 * 2;
  }
  __device__ int row_of(int k) const { return row + 8 * k; }
  __device__ int column_of(int k) const { return column + k / 2 * 8 + k % 2; }
};

/// c += a b on tensor cores: (16, 16), (16, 8) -> (16, 8).
template <bool bfloat16>
__device__ void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  if constexpr (bfloat16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

/// Exact, as the marks of the unit guarantee.
template <bool bfloat16>
__device__ unsigned short bits_16(float value) {
  if constexpr (bfloat16) return static_cast<unsigned short>(__float_as_uint(value) >> 16);
  return __half_as_ushort(__float2half_rn(value));
}

/// Loads the rows [first, first + kRows) of kTile units, padded with zeros.
template <bool bfloat16>
__device__ void load_16_bit(const Update& u, Index unit, Index first, unsigned* panel) {
  for (int k = threadIdx.x; k < kTile * kWords; k += kThreadsOfTile) {
    const int j = k % kTile;
    const int word = k / kTile;
    const Index row = first + 2 * word;
    const bool inside = unit + j < u.dim;
    const float* const at_row = u.rows + unit + j + row * u.dim;
    const unsigned low = inside && row < u.n && u.far[row] == 0 ? bits_16<bfloat16>(at_row[0]) : 0;
    const unsigned high = inside && row + 1 < u.n && u.far[row + 1] == 0 ? bits_16<bfloat16>(at_row[u.dim]) : 0;
    panel[j * kStride + word] = low | high << 16;
  }
}

/// sums[k][l] = sum over all rows of the products of the units at row_of(k) and column_of(l).
template <bool bfloat16>
__device__ void multiply_16_bit(const Update& u, Index left, Index right, unsigned* shared, double (&sums)[4][8]) {
  unsigned* const panel_left = shared;
  unsigned* const panel_right = shared + kTile * kStride;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = lane / 4;
  const int of_group = lane % 4;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const unsigned* const rows_of_a = panel_left + (warp / 2 * 32 + group) * kStride + of_group;
  const unsigned* const columns_of_b = panel_right + (warp % 2 * 32 + group) * kStride + of_group;
  for (Index first = 0; first < u.n; first += kRows) {
    load_16_bit<bfloat16>(u, left, first, panel_left);
    load_16_bit<bfloat16>(u, right, first, panel_right);
    __syncthreads();
    float c[2][4][4] = {};
#pragma unroll
    for (int word = 0; word < kWords; word += 8) {
      unsigned b[4][2];
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        b[q][0] = columns_of_b[q * 8 * kStride + word];
        b[q][1] = columns_of_b[q * 8 * kStride + word + 4];
      }
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        const unsigned a[4] = {rows_of_a[p * 16 * kStride + word], rows_of_a[(p * 16 + 8) * kStride + word],
                               rows_of_a[p * 16 * kStride + word + 4], rows_of_a[(p * 16 + 8) * kStride + word + 4]};
#pragma unroll
        for (int q = 0; q < 4; ++q) multiply_add<bfloat16>(c[p][q], a, b[q]);
      }
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int l = 0; l < 8; ++l) sums[k][l] += static_cast<double>(c[k / 2][l / 2][k % 2 * 2 + l % 2]);
    }
    __syncthreads();  // before the panels are overwritten
  }
}

/// Replaces the sums on the diagonal by the squares, and adds the products of the far rows in float64.
__device__ void complete_16_bit(const Update& u, Index left, Index right, const FragmentPosition& position,
                                double (&sums)[4][8]) {
  for (int k = 0; k < 4; ++k) {
    const Index i = left + position.row_of(k);
    for (int l = 0; l < 8; ++l) {
      if (i == right + position.column_of(l) && i < u.dim) sums[k][l] = u.squares[i];
    }
  }
  for (Index row = 0; row < u.n; ++row) {
    if (u.far[row] == 0) continue;
    const float* const numbers = u.rows + row * u.dim;
    for (int k = 0; k < 4; ++k) {
      const Index i = left + position.row_of(k);
      for (int l = 0; l < 8; ++l) {
        const Index j = right + position.column_of(l);
        if (i < u.dim && j < u.dim) sums[k][l] += static_cast<double>(numbers[i]) * static_cast<double>(numbers[j]);
      }
    }
  }
}

/// The same sums of rows less r, in float64.
__device__ void multiply_doubles(const Update& u, Index left, Index right, const FragmentPosition& position,
                                 float* shared, double (&sums)[4][8]) {
  float* const panel_left = shared;
  float* const panel_right = shared + kRowsOfDoubles * kStrideOfFloats;
  double origin_left[4];
  double origin_right[8];
#pragma unroll
  for (int k = 0; k < 4; ++k) origin_left[k] = left + position.row_of(k) < u.dim ? u.r[left + position.row_of(k)] : 0;
#pragma unroll
  for (int l = 0; l < 8; ++l)
    origin_right[l] = right + position.column_of(l) < u.dim ? u.r[right + position.column_of(l)] : 0;
  for (Index first = 0; first < u.n; first += kRowsOfDoubles) {
    const int count = static_cast<int>(min(u.n - first, static_cast<Index>(kRowsOfDoubles)));
    for (int k = threadIdx.x; k < kTile * count; k += kThreadsOfTile) {
      const int j = k % kTile;
      const int row = k / kTile;
      const float* const at_row = u.rows + j + (first + row) * u.dim;
      panel_left[row * kStrideOfFloats + j] = left + j < u.dim ? at_row[left] : 0.0F;
      panel_right[row * kStrideOfFloats + j] = right + j < u.dim ? at_row[right] : 0.0F;
    }
    __syncthreads();
    for (int row = 0; row < count; ++row) {
      double x[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) x[k] = panel_left[row * kStrideOfFloats + position.row_of(k)] - origin_left[k];
#pragma unroll
      for (int l = 0; l < 8; ++l) {
        const double y = panel_right[row * kStrideOfFloats + position.column_of(l)] - origin_right[l];
#pragma unroll
        for (int k = 0; k < 4; ++k) sums[k][l] += x[k] * y;
      }
    }
    __syncthreads();  // before the panels are overwritten
  }
}

/// The marks that all units of the tile have.
__device__ unsigned common_marks(const Update& u, Index left, Index right) {
  __shared__ unsigned marks[kThreadsOfTile];
  static_assert(kThreadsOfTile == 2 * kTile);
  const int thread = static_cast<int>(threadIdx.x);
  const Index unit = thread < kTile ? left + thread : right + thread - kTile;
  marks[thread] = unit < u.dim ? static_cast<unsigned>(u.marks[unit]) : ~0U;
  __syncthreads();
  for (int half = kTile; half > 0; half /= 2) {
    if (thread < half) marks[thread] &= marks[thread + half];
    __syncthreads();
  }
  return marks[0];
}

__global__ void __launch_bounds__(kThreadsOfTile) rank_update_kernel(Update u, Skip skip) {
  __shared__ unsigned shared[2 * kTile * kStride];
  static_assert(2 * kRowsOfDoubles * kStrideOfFloats <= 2 * kTile * kStride);
  const Index left = static_cast<Index>(blockIdx.x) * kTile;
  const Index right = static_cast<Index>(blockIdx.y) * kTile;
  if (right > left || skip()) return;  // all threads of the block
  const unsigned marks = common_marks(u, left, right);
  const FragmentPosition position;
  double sums[4][8] = {};
  const bool use_16_bit = (marks & kNear) != 0 && (marks & (kBFloat16 | kFloat16)) != 0;
  if (use_16_bit && (marks & kBFloat16) != 0) {
    multiply_16_bit<true>(u, left, right, shared, sums);
  } else if (use_16_bit) {
    multiply_16_bit<false>(u, left, right, shared, sums);
  } else {
    multiply_doubles(u, left, right, position, reinterpret_cast<float*>(shared), sums);
  }
  if (use_16_bit) complete_16_bit(u, left, right, position, sums);
  const double about_origin = use_16_bit ? static_cast<double>(u.n) : 0.0;
#pragma unroll
  for (int l = 0; l < 8; ++l) {
    const Index j = right + position.column_of(l);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const Index i = left + position.row_of(k);
      if (i >= u.dim || j > i) continue;
      // The scatter of a constant unit is exactly 0.
      const bool constant = ((static_cast<unsigned>(u.marks[i]) | static_cast<unsigned>(u.marks[j])) & kConstant) != 0;
      const double products = constant ? 0.0 : sums[k][l] - about_origin * u.r[i] * u.r[j];
      u.scatter[i + j * u.dim] += products + u.weight * u.d[i] * u.d[j];
    }
  }
}

/// Statistics of the values of a unit. Sums are of the values less the origin.
struct UnitStats {
  double sum;
  double squares;
  float largest;   // magnitude
  float smallest;  // magnitude, except 0
  unsigned marks;  // bits of rank_update.hpp that hold for all values
};

struct CombineStats {
  __device__ UnitStats operator()(const UnitStats& a, const UnitStats& b) const {
    return {a.sum + b.sum, a.squares + b.squares, fmaxf(a.largest, b.largest), fminf(a.smallest, b.smallest),
            a.marks & b.marks};
  }
};

__device__ inline unsigned formats_of(float value) {
  const bool bfloat16 = (__float_as_uint(value) & 0xffffU) == 0;
  const bool float16 = __half2float(__float2half_rn(value)) == value;
  return (bfloat16 ? kBFloat16 : 0) | (float16 ? kFloat16 : 0);
}

}  // namespace

template <class S>
bool prepare_block_16_bit(const FeatureView<S>& features, const Mean<Cuda>* previous, Mean<Cuda>& mean,
                          Vector<Cuda>& remainder, Vector<Cuda, float>& marks, Matrix<Cuda, float>& rows,
                          Vector<Cuda>& squares) {
  const double* const previous_mean = previous != nullptr ? previous->high.data() : nullptr;
  double* const high = mean.high.data();
  double* const low = mean.low.data();
  double* const rest = remainder.data();
  double* const about_origin = squares.data();
  float* const marked = marks.data();
  float* const to = rows.data();
  const Index dim = features.dim;
  const double n = static_cast<double>(features.n);
  const UnitStats nothing{0, 0, 0, INFINITY, ~0U};
  const auto skip = skip_of_thread();
  const auto origin = [=] __device__(Index j) {
    return previous_mean != nullptr ? previous_mean[j] : static_cast<double>(at(features, 0, j));
  };
  for_each_unit(
      dim, features.n, nothing,
      [=] __device__(Index j, Index i) {
        if (skip()) return nothing;
        const float value = at(features, i, j);
        to[j + i * dim] = value;
        const double deviation = value - origin(j);
        const unsigned constant = value == at(features, 0, j) ? kConstant : 0;
        return UnitStats{deviation, deviation * deviation, fabsf(value), value == 0 ? INFINITY : fabsf(value),
                         formats_of(value) | constant};
      },
      CombineStats(),
      [=] __device__(Index j, const UnitStats& stats) {
        if (skip()) return;  // as in prepare_block
        const double step = stats.sum / n;
        two_sum(origin(j), step, high[j], low[j]);
        rest[j] = high[j];
        const double spread = stats.squares - stats.sum * step;
        about_origin[j] = spread + n * high[j] * high[j];
        // Products of such numbers, and sums of 64 of them, are normal float32 numbers.
        const bool in_range = stats.largest <= 0x1p60F && stats.smallest >= 0x1p-60F;
        const bool near_origin = n * high[j] * high[j] <= 16 * spread;
        const bool constant = (stats.marks & kConstant) != 0;
        marked[j] = static_cast<float>((stats.marks & (kBFloat16 | kFloat16 | kConstant)) |
                                       (constant || (in_range && near_origin) ? kNear : 0));
      });
  return true;
}

void separate_far_rows(const Matrix<Cuda, float>& rows, Index n, Vector<Cuda>& squares, Matrix<Cuda>& far) {
  const float* const numbers = rows.data();
  double* const sums = squares.data();
  double* const marked = far.data();
  const Index dim = rows.rows();
  const double most = static_cast<double>(kFarRow) * static_cast<double>(dim) / static_cast<double>(n);
  const auto skip = skip_of_thread();
  for_each_item(
      n, dim, 0.0,
      [=] __device__(Index i, Index j) {
        if (skip() || sums[j] == 0) return 0.0;
        const double value = numbers[j + i * dim];
        return value * value / sums[j];
      },
      Sum(), [=] __device__(Index i, double sum) { marked[i] = sum > most ? 1.0 : 0.0; });
  for_each_unit(
      dim, n, 0.0,
      [=] __device__(Index j, Index i) {
        if (skip() || marked[i] == 0) return 0.0;
        const double value = numbers[j + i * dim];
        return value * value;
      },
      Sum(),
      [=] __device__(Index j, double sum) {
        if (!skip()) sums[j] = sums[j] > sum ? sums[j] - sum : 0.0;
      });
}

void rank_update(const Matrix<Cuda, float>& rows, Index n, const Vector<Cuda, float>& marks, const Vector<Cuda>& r,
                 const Vector<Cuda>& squares, const Matrix<Cuda>& far, double weight, const Vector<Cuda>& d,
                 Matrix<Cuda>& scatter) {
  const Index dim = scatter.rows();
  const auto tiles = static_cast<unsigned>((dim + kTile - 1) / kTile);
  const Update update{rows.data(),    marks.data(), r.data(), squares.data(), far.data(), d.data(),
                      scatter.data(), dim,          n,        weight};
  launch(rank_update_kernel, dim3(tiles, tiles), dim3(kThreadsOfTile), update, skip_of_thread());
}

#define FIDFAST_NARROW(S)                                                                                  \
  template bool prepare_block_16_bit(const FeatureView<S>&, const Mean<Cuda>*, Mean<Cuda>&, Vector<Cuda>&, \
                                     Vector<Cuda, float>&, Matrix<Cuda, float>&, Vector<Cuda>&);

FIDFAST_NARROW(Float16)
FIDFAST_NARROW(BFloat16)
FIDFAST_NARROW(float)

}  // namespace fidfast::cuda
