// Kernels for test_results.py, whose results NumPy computes exactly. Only compiled to PTX, never run on a GPU.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

using bfloat16 = __nv_bfloat16;
using half = __half;

__device__ inline double to_double(double v) { return v; }
__device__ inline double to_double(float v) { return v; }
__device__ inline double to_double(half v) { return __half2float(v); }
__device__ inline double to_double(bfloat16 v) { return __bfloat162float(v); }

// Converts x with any strides to contiguous y (rows, columns).
template <class T>
__device__ inline void widen(const T* x, int64_t row_stride, int64_t column_stride, int rows, int columns, double* y) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= int64_t(rows) * columns) return;
  const int64_t row = i / columns, column = i % columns;
  y[i] = to_double(x[row * row_stride + column * column_stride]);
}
#define WIDEN(name, T)                                                                                     \
  extern "C" __global__ void widen_##name(const T* x, int64_t row_stride, int64_t column_stride, int rows, \
                                          int columns, double* y) {                                        \
    widen(x, row_stride, column_stride, rows, columns, y);                                                 \
  }
WIDEN(float16, half)
WIDEN(bfloat16, bfloat16)
WIDEN(float32, float)
WIDEN(float64, double)

extern "C" __global__ void narrow(const double* x, const float* xf, int n, float* f, half* h, bfloat16* b, half* hd,
                                  float* zero) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) {
    f[i] = float(x[i]);
    h[i] = __float2half(xf[i]);
    b[i] = __float2bfloat16(xf[i]);
    hd[i] = __double2half(x[i]);
    zero[i] = __double2float_rz(x[i]);
  }
}

extern "C" __global__ void to_integers(const double* x, int n, int32_t* i32, uint32_t* u32, int64_t* i64, uint64_t* u64,
                                       int32_t* nearest, int32_t* below, uint8_t* u8, int16_t* i16) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  i32[i] = __double2int_rz(x[i]);
  u32[i] = __double2uint_rz(x[i]);
  i64[i] = __double2ll_rz(x[i]);
  u64[i] = __double2ull_rz(x[i]);
  nearest[i] = __float2int_rn(float(x[i]));
  below[i] = __double2int_rd(x[i]);
  u8[i] = uint8_t(i32[i]);
  i16[i] = int16_t(i32[i]);
}

extern "C" __global__ void from_integers(const int64_t* x, int n, double* d, float* f, float* fu, double* d8, half* h) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  d[i] = double(x[i]);
  f[i] = float(x[i]);
  fu[i] = float(uint64_t(x[i]));
  d8[i] = double(int8_t(x[i]));
  h[i] = __int2half_rn(int(x[i]));
}

template <class T>
__device__ inline T warp_sum(T v) {
  for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_down_sync(0xffffffffu, v, offset);
  return v;
}

extern "C" __global__ void block_sums(const double* x, int n, double* sums) {
  __shared__ double of_warp[32];
  double sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = warp_sum(threadIdx.x < blockDim.x / 32 ? of_warp[threadIdx.x] : 0.0);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
  }
}

extern "C" __global__ void column_sums(const float* x, int rows, int columns, double* sums) {
  __shared__ double part[8][33];
  const int column = blockIdx.x * 32 + threadIdx.x;
  double sum = 0;
  if (column < columns)
    for (int row = threadIdx.y; row < rows; row += 8) sum += x[int64_t(row) * columns + column];
  part[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  for (int half = 4; half > 0; half >>= 1) {
    if (threadIdx.y < half) part[threadIdx.y][threadIdx.x] += part[threadIdx.y + half][threadIdx.x];
    __syncthreads();
  }
  if (threadIdx.y == 0 && column < columns) sums[column] = part[0][threadIdx.x];
}

template <class T>
__device__ inline void transpose(const T* x, int rows, int columns, T* y) {
  __shared__ T tile[32][33];
  for (int r = threadIdx.y; r < 32; r += blockDim.y) {
    const int row = blockIdx.y * 32 + r, column = blockIdx.x * 32 + threadIdx.x;
    if (row < rows && column < columns) tile[r][threadIdx.x] = x[int64_t(row) * columns + column];
  }
  __syncthreads();
  for (int r = threadIdx.y; r < 32; r += blockDim.y) {
    const int column = blockIdx.x * 32 + r, row = blockIdx.y * 32 + threadIdx.x;
    if (row < rows && column < columns) y[int64_t(column) * rows + row] = tile[threadIdx.x][r];
  }
}
extern "C" __global__ void transpose_16(const uint16_t* x, int rows, int columns, uint16_t* y) {
  transpose(x, rows, columns, y);
}
extern "C" __global__ void transpose_64(const double* x, int rows, int columns, double* y) {
  transpose(x, rows, columns, y);
}

// d (16, 8) = a (16, k) b (k, 8), one product for each warp. a is row-major, b column-major.
#define MULTIPLY(name, type)                                                                          \
  extern "C" __global__ void multiply_##name(const uint32_t* a, const uint32_t* b, int k, float* d) { \
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;                                    \
    const int warp = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, words = k / 2;                \
    a += warp * 16 * words;                                                                           \
    b += warp * 8 * words;                                                                            \
    float c[4] = {0, 0, 0, 0};                                                                        \
    for (int j = 0; j < words; j += 8) {                                                              \
      const uint32_t a0 = a[g * words + j + t], a1 = a[(g + 8) * words + j + t];                      \
      const uint32_t a2 = a[g * words + j + t + 4], a3 = a[(g + 8) * words + j + t + 4];              \
      const uint32_t b0 = b[g * words + j + t], b1 = b[g * words + j + t + 4];                        \
      asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                             \
                   ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"             \
                   : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                   \
                   : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));                           \
    }                                                                                                 \
    for (int q = 0; q < 4; ++q) d[warp * 128 + (g + 8 * (q / 2)) * 8 + 2 * t + q % 2] = c[q];         \
  }
MULTIPLY(bfloat16, "bf16")
MULTIPLY(float16, "f16")

// The same for k = 16 and one warp, with ldmatrix from shared memory. b is row-major and transposed by ldmatrix.
extern "C" __global__ void multiply_by_ldmatrix(const uint16_t* a, const uint16_t* b, float* d) {
  __shared__ __align__(16) uint16_t a_tile[16 * 16], b_tile[16 * 8];
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 256; i += 32) a_tile[i] = a[i];
  for (int i = lane; i < 128; i += 32) b_tile[i] = b[i];
  __syncthreads();
  uint32_t x[4], y[2];
  float c[4] = {0, 0, 0, 0};
  const auto row = [](const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); };
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(row(a_tile + lane % 16 * 16 + lane / 16 * 8)));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(y[0]), "=r"(y[1])
               : "r"(row(b_tile + lane % 16 * 8)));
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  for (int q = 0; q < 4; ++q) d[(g + 8 * (q / 2)) * 8 + 2 * t + q % 2] = c[q];
}

template <class T>
__device__ inline void divide(const T* a, const T* b, int n, T* quotient, T* rest) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  quotient[i] = a[i] / b[i];
  rest[i] = a[i] % b[i];
}
#define DIVIDE(T) \
  extern "C" __global__ void divide_##T(const T* a, const T* b, int n, T* q, T* r) { divide(a, b, n, q, r); }
DIVIDE(int32_t)
DIVIDE(uint32_t)
DIVIDE(int64_t)
DIVIDE(uint64_t)

extern "C" __global__ void bits(const uint32_t* a, const uint32_t* b, const uint64_t* c, int n, uint32_t* out,
                                uint64_t* wide) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const uint32_t x = a[i], y = b[i];
  const uint64_t z = c[i];
  out += 10 * i;
  out[0] = __popc(x);
  out[1] = __clz(x);
  out[2] = __brev(x);
  out[3] = __byte_perm(x, y, y);
  out[4] = __funnelshift_l(x, y, y);
  out[5] = __funnelshift_rc(x, y, y);
  out[6] = __umulhi(x, y);
  out[7] = uint32_t(__mulhi(int(x), int(y)));
  out[8] = (x >> (y & 31)) ^ (x << (y & 31)) ^ uint32_t(int32_t(x) >> (y & 31));
  out[9] = __popcll(z) + 100 * __clzll(z);
  wide[4 * i] = __umul64hi(z, z ^ 0x123456789abcdefull);
  wide[4 * i + 1] = uint64_t(__mul64hi(int64_t(z), ~int64_t(z) * 3));
  wide[4 * i + 2] = z >> (y & 63) | z << (63 - (y & 63));
  wide[4 * i + 3] = __brevll(z);
}

// Number of steps of the 3n + 1 sequence until 1, for each start. Odd threads of the second half return early.
extern "C" __global__ void collatz(int n, int* steps) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  if (i > n / 2 && i % 2) {
    steps[i] = -1;
    return;
  }
  int count = 0;
  for (uint64_t value = i + 1; value != 1; ++count) {
    if (value % 2)
      value = 3 * value + 1;
    else
      value /= 2;
    if (count == 100) break;
  }
  steps[i] = count;
}

extern "C" __global__ void choose(const int* which, int n, float* out) {
  const int i = threadIdx.x;
  if (i >= n) return;
  float v = out[i];
  switch (which[i]) {
    case 0:
      v = v + 1;
      break;
    case 1:
      v = v * v;
      break;
    case 2:
      v = sqrtf(v);
      break;
    case 3:
      v = 1 / v;
      break;
    case 4:
      v = v / 3;
      break;
    case 5:
      v = -v;
      break;
    case 6:
      v = copysignf(v, -1.f);
      break;
    case 7:
      v = fabsf(v - 100);
      break;
    default:
      v = 0;
  }
  out[i] = v;
}

extern "C" __global__ void fused(const double* a, const double* b, const double* c, const float* af, const float* bf,
                                 const float* cf, int n, double* d, float* df) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  d[i] = fma(a[i], b[i], c[i]);
  df[i] = fmaf(af[i], bf[i], cf[i]);
}

extern "C" __global__ void compare(const double* a, const double* b, int n, double* low, double* high, float* lowf,
                                   int* relations) {
  const int i = threadIdx.x;
  if (i >= n) return;
  const double x = a[i], y = b[i];
  low[i] = fmin(x, y);
  high[i] = fmax(x, y);
  lowf[i] = fminf(float(x), float(y));
  relations[i] = (x < y) | (x <= y) << 1 | (x > y) << 2 | (x >= y) << 3 | (x == y) << 4 | (x != y) << 5 |
                 !(x < y) << 6 | !(x >= y) << 7 | isnan(x) << 8 | isinf(x) << 9 | isfinite(y) << 10;
}

struct Weights {
  float scale;
  double offsets[4];
  int16_t rows;
};
extern "C" __global__ void by_struct(const float* x, Weights weights, float* y) {
  const int i = threadIdx.x;
  if (i < weights.rows) y[i] = float(weights.scale * x[i] + weights.offsets[i & 3]);
}

// Counts values in an array in local memory.
extern "C" __global__ void histogram(const uint8_t* x, int each, int* counts) {
  int count[16];
  for (int& c : count) c = 0;
  for (int i = 0; i < each; ++i) count[x[threadIdx.x * each + i] & 15]++;
  for (int i = 0; i < 16; ++i) counts[threadIdx.x * 16 + i] = count[i];
}

extern "C" __global__ void vectors(const float4* x, const double2* y, float4* u, double2* v, ushort4* w) {
  const int i = threadIdx.x;
  const float4 a = x[i];
  const double2 b = y[i];
  u[i] = make_float4(a.w, a.z, a.y, a.x);
  v[i] = make_double2(b.y, b.x);
  w[i] = make_ushort4(i, i + 1, i + 2, i + 3);
}

extern "C" __global__ void shuffles(const int* x, int* y, unsigned* votes) {
  const int i = threadIdx.x;
  y += 5 * i;
  y[0] = __shfl_up_sync(0xffffffffu, x[i], 3, 8);
  y[1] = __shfl_xor_sync(0xffffffffu, x[i], 5);
  y[2] = __shfl_sync(0xffffffffu, x[i], i * 7, 8);
  y[3] = __shfl_down_sync(0xffffffffu, x[i], 2, 16);
  y[4] = i % 2 ? __shfl_sync(0xaaaaaaaau, x[i], 1) : __shfl_sync(0x55555555u, x[i], 2);
  votes[4 * i] = __ballot_sync(0xffffffffu, x[i] & 1);
  votes[4 * i + 1] = __all_sync(0xffffffffu, x[i] < 100);
  votes[4 * i + 2] = __any_sync(0xffffffffu, x[i] == x[0]);
  votes[4 * i + 3] = __activemask();
}

// A generic pointer to dynamic shared memory or global memory.
extern "C" __global__ void generic(const double* x, int n, double* y) {
  extern __shared__ double cache[];
  for (int i = threadIdx.x; i < n / 2; i += blockDim.x) cache[i] = 2 * x[i];
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    const double* from = i < n / 2 ? cache + (n / 2 - 1 - i) : x + i;
    y[i] = *from;
  }
}

// Exchanges values within a warp through shared memory, with warp barriers.
extern "C" __global__ void rotate_in_warp(const int* x, int* y) {
  __shared__ int cells[128];
  const int i = threadIdx.x;
  cells[i] = x[i];
  __syncwarp();
  const int next = cells[(i & ~31) | ((i + 1) & 31)];
  __syncwarp();
  cells[i] = next + 1;
  __syncwarp();
  y[i] = cells[i ^ 1];
}
