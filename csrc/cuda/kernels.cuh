// Generic kernels, parametrised by functions. The order of summation depends on the sizes only and there are no
// atomics, so results are reproducible bit for bit.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <vector>

#include "core/matrix.hpp"
#include "cuda/context.hpp"
#include "cuda/device.hpp"

namespace fidfast::cuda {

/// Number of thread blocks that cover `size`, at most `most`.
inline unsigned blocks_for(Index size, Index of_block, Index most) {
  return static_cast<unsigned>(std::min((size + of_block - 1) / of_block, most));
}

template <class... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, Parameters... arguments) {
  void* pointers[] = {&arguments...};
  check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, pointers, 0, current().stream()),
        "kernel launch");
}

/// Whether a kernel must do nothing because its Watch has found NaN or infinity.
struct Skip {
  const int* flag;
  __device__ bool operator()() const { return flag != nullptr && *flag != 0; }
};
inline Skip skip_of_thread() { return {skip_flag}; }

// Numbers -----------------------------------------------------------------------------------------------------

__device__ inline float widen(Float16 value) { return __half2float(__ushort_as_half(value.bits)); }
__device__ inline float widen(BFloat16 value) { return __uint_as_float(static_cast<unsigned>(value.bits) << 16); }
__device__ inline float widen(float value) { return value; }
__device__ inline double widen(double value) { return value; }

/// features[i, j].
template <class S>
__device__ auto at(const FeatureView<S>& features, Index i, Index j) {
  return widen(features.data[i * features.row_stride + j * features.column_stride]);
}

/// high + low = a + b exactly (Knuth). The intrinsics keep the compiler from fusing operations.
__device__ inline void two_sum(double a, double b, double& high, double& low) {
  high = __dadd_rn(a, b);
  const double shadow = __dsub_rn(high, a);
  low = __dadd_rn(__dsub_rn(a, __dsub_rn(high, shadow)), __dsub_rn(b, shadow));
}

// Elements ----------------------------------------------------------------------------------------------------

constexpr int kTileRows = 32;
constexpr int kTileColumns = 8;
constexpr Index kMostBlocks = 65535;

template <class Work>
__global__ void elements_kernel(Index rows, Index columns, Work work) {
  const Index i = static_cast<Index>(blockIdx.x) * kTileRows + threadIdx.x;
  if (i >= rows) return;
  const Index step = static_cast<Index>(gridDim.y) * kTileColumns;
  for (Index j = static_cast<Index>(blockIdx.y) * kTileColumns + threadIdx.y; j < columns; j += step) work(i, j);
}

/// Calls work(i, j) for every element of a column-major (rows, columns) matrix.
template <class Work>
void for_each_element(Index rows, Index columns, Work work) {
  if (rows == 0 || columns == 0) return;
  const dim3 grid(static_cast<unsigned>((rows + kTileRows - 1) / kTileRows),
                  blocks_for(columns, kTileColumns, kMostBlocks));
  launch(elements_kernel<Work>, grid, dim3(kTileRows, kTileColumns), rows, columns, work);
}

// Combinations --------------------------------------------------------------------------------------------------

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

/// NaN is the maximum.
struct Largest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};

struct Smallest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

// Over rows, for each unit ---------------------------------------------------------------------------

constexpr int kUnits = 32;  // in a block, so that reads of rows are coalesced
constexpr int kLanes = 8;   // rows in parallel

template <class T, class Value, class Combine, class Write>
__global__ void units_kernel(Index units, Index n, T neutral, Value value, Combine combine, Write write) {
  __shared__ T parts[kLanes][kUnits];
  const Index j = static_cast<Index>(blockIdx.x) * kUnits + threadIdx.x;
  T mine = neutral;
  if (j < units) {
    for (Index i = threadIdx.y; i < n; i += kLanes) mine = combine(mine, value(j, i));
  }
  parts[threadIdx.y][threadIdx.x] = mine;
  __syncthreads();
  for (int half = kLanes / 2; half > 0; half /= 2) {
    if (threadIdx.y < half) {
      parts[threadIdx.y][threadIdx.x] =
          combine(parts[threadIdx.y][threadIdx.x], parts[threadIdx.y + half][threadIdx.x]);
    }
    __syncthreads();
  }
  if (threadIdx.y == 0 && j < units) write(j, parts[0][threadIdx.x]);
}

/// Calls write(j, combine over i < n of value(j, i)) for every unit j.
template <class T, class Value, class Combine, class Write>
void for_each_unit(Index units, Index n, T neutral, Value value, Combine combine, Write write) {
  if (units == 0) return;
  const dim3 grid(static_cast<unsigned>((units + kUnits - 1) / kUnits));
  launch(units_kernel<T, Value, Combine, Write>, grid, dim3(kUnits, kLanes), units, n, neutral, value, combine, write);
}

// Reductions --------------------------------------------------------------------------------------------------

constexpr int kThreads = 256;

/// Combines the values of all threads of a block; the result is valid in the first thread. `parts` is shared memory.
template <class T, class Combine>
__device__ T reduce_block(T mine, T* parts, Combine combine) {
  parts[threadIdx.x] = mine;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) parts[threadIdx.x] = combine(parts[threadIdx.x], parts[threadIdx.x + half]);
    __syncthreads();
  }
  return parts[0];
}

/// Block k calls write(k, combine over i < count of value(k, i)).
template <class T, class Value, class Combine, class Write>
__global__ void items_kernel(Index items, Index count, T neutral, Value value, Combine combine, Write write) {
  __shared__ T parts[kThreads];
  for (Index k = blockIdx.x; k < items; k += gridDim.x) {
    T mine = neutral;
    for (Index i = threadIdx.x; i < count; i += kThreads) mine = combine(mine, value(k, i));
    const T all = reduce_block(mine, parts, combine);
    if (threadIdx.x == 0) write(k, all);
    __syncthreads();  // before parts are reused
  }
}

template <class T, class Value, class Combine, class Write>
void for_each_item(Index items, Index count, T neutral, Value value, Combine combine, Write write) {
  if (items == 0) return;
  launch(items_kernel<T, Value, Combine, Write>, dim3(blocks_for(items, 1, kMostBlocks)), dim3(kThreads), items, count,
         neutral, value, combine, write);
}

/// Combines value(k, i) over k < items and i < count. The result is on the host.
template <class T, class Value, class Combine>
T reduce(Index items, Index count, T neutral, Value value, Combine combine) {
  if (items == 0 || count == 0) return neutral;
  Matrix<Cuda, T> of_items(items, 1);
  Matrix<Cuda, T> result(1, 1);
  T* const parts = of_items.data();
  T* const all = result.data();
  for_each_item(items, count, neutral, value, combine, [=] __device__(Index k, const T& part) { parts[k] = part; });
  for_each_item(
      1, items, neutral, [=] __device__(Index, Index k) { return parts[k]; }, combine,
      [=] __device__(Index, const T& part) { *all = part; });
  T on_host;
  Cuda::to_host(&on_host, all, sizeof(T));
  return on_host;
}

// Between host and device -------------------------------------------------------------------------------------

template <class T>
Matrix<Cuda, T> on_device(const std::vector<T>& numbers) {
  Matrix<Cuda, T> result(static_cast<Index>(numbers.size()), 1);
  Cuda::from_host(result.data(), numbers.data(), numbers.size() * sizeof(T));
  return result;
}

template <class T>
std::vector<T> on_host(const Matrix<Cuda, T>& matrix, Index columns) {
  std::vector<T> result(static_cast<std::size_t>(matrix.rows() * columns));
  Cuda::to_host(result.data(), matrix.data(), result.size() * sizeof(T));
  return result;
}

}  // namespace fidfast::cuda
