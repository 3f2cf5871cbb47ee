// Kernels for the tests of the stand-in, each with a function that launches it.
#include <cuda_runtime.h>

__global__ void scale(const double* from, double* to, int n, double factor) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) to[i] = factor * from[i];
}

struct Row {
  const float* values;
  char tag;
  int length;
};

// Sums a row in dynamic shared memory.
__global__ void sum(Row row, float* result) {
  extern __shared__ float partial[];
  const int i = static_cast<int>(threadIdx.x);
  partial[i] = i < row.length ? row.values[i] : 0.0f;
  for (int half = static_cast<int>(blockDim.x) / 2; half > 0; half /= 2) {
    __syncthreads();
    if (i < half) partial[i] += partial[i + half];
  }
  if (i == 0) *result = partial[0];
}

extern "C" {

int launch_scale(const double* from, double* to, int n, double factor, unsigned grid_y, unsigned block,
                 unsigned shared_bytes, cudaStream_t stream) {
  const dim3 grid((n + block - 1) / block, grid_y);
  scale<<<grid, block, shared_bytes, stream>>>(from, to, n, factor);
  return static_cast<int>(cudaGetLastError());
}

int launch_sum(const float* values, int length, float* result, unsigned block, cudaStream_t stream) {
  sum<<<1, block, block * sizeof(float), stream>>>(Row{values, 'r', length}, result);
  return static_cast<int>(cudaGetLastError());
}

}  // extern "C"
