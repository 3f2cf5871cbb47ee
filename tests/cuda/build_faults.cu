// Kernels that the build must reject, or that checks of the machine code must detect. A macro chooses one.
#ifdef SPILLS
// Needs more than 32 registers.
__global__ void __launch_bounds__(1024, 2) faulty(const double* from, double* to) {
  double values[40];
#pragma unroll
  for (int k = 0; k < 40; ++k) values[k] = from[threadIdx.x + 64 * k];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < 40; ++k) to[threadIdx.x + 64 * k] = values[k] * values[39 - k] + values[(k + 7) % 40];
}
#elif defined(ARRAY_IN_MEMORY)
// Registers cannot be indexed.
__global__ void faulty(const int* from, double* to) {
  double values[64];
  for (int k = 0; k < 64; ++k) values[from[k]] = k;
  to[threadIdx.x] = values[from[threadIdx.x]];
}
#elif defined(ATOMIC)
__global__ void faulty(double* to) {
  __shared__ int count;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  if (atomicAdd(&count, 1) < 7) atomicAdd(to, 1.0);
}
#elif defined(UNUSED)
__global__ void faulty(double* to) {
  int unused = 0;
  to[threadIdx.x] = 1;
}
#else
__global__ void faulty(const double* from, double* to) { to[threadIdx.x] = from[threadIdx.x]; }
#endif
