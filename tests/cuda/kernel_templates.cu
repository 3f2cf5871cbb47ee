// Launches the templates of csrc/cuda/kernels.cuh with fewer blocks than elements, as happens on a GPU above 65,535
// blocks. The counts and sums show elements that are processed twice or not at all.
#include "cuda/kernels.cuh"

using namespace fidfast;
using namespace fidfast::cuda;

constexpr double kFar = 1e300;

/// counts (rows, columns) += 1.
extern "C" int launch_elements(Index rows, Index columns, unsigned blocks_of_columns, double* counts,
                               cudaStream_t stream) {
  const auto count = [=] __device__(Index i, Index j) { counts[i + j * rows] += 1; };
  const dim3 grid(static_cast<unsigned>((rows + kTileRows - 1) / kTileRows), blocks_of_columns);
  elements_kernel<<<grid, dim3(kTileRows, kTileColumns), 0, stream>>>(rows, columns, count);
  return cudaGetLastError();
}

/// sums[k] += sum over i of values[i + k count].
extern "C" int launch_items(Index items, Index count, unsigned blocks, const double* values, double* sums,
                            cudaStream_t stream) {
  const auto value = [=] __device__(Index k, Index i) { return values[i + k * count]; };
  const auto write = [=] __device__(Index k, double sum) { sums[k] += sum; };
  items_kernel<<<dim3(blocks), dim3(kThreads), 0, stream>>>(items, count, 0.0, value, Sum(), write);
  return cudaGetLastError();
}

/// largest[k] and smallest[k] of values[i + k count].
extern "C" int launch_extremes(Index items, Index count, const double* values, double* largest, double* smallest,
                               cudaStream_t stream) {
  const auto value = [=] __device__(Index k, Index i) { return values[i + k * count]; };
  const auto keep_largest = [=] __device__(Index k, double found) { largest[k] = found; };
  const auto keep_smallest = [=] __device__(Index k, double found) { smallest[k] = found; };
  const dim3 grid(blocks_for(items, 1, kMostBlocks));
  items_kernel<<<grid, dim3(kThreads), 0, stream>>>(items, count, -kFar, value, Largest(), keep_largest);
  items_kernel<<<grid, dim3(kThreads), 0, stream>>>(items, count, kFar, value, Smallest(), keep_smallest);
  return cudaGetLastError();
}

/// sums[j] += sum over i of values[j + i units].
extern "C" int launch_units(Index units, Index n, const double* values, double* sums, cudaStream_t stream) {
  const auto value = [=] __device__(Index j, Index i) { return values[j + i * units]; };
  const auto write = [=] __device__(Index j, double sum) { sums[j] += sum; };
  const dim3 grid(static_cast<unsigned>((units + kUnits - 1) / kUnits));
  units_kernel<<<grid, dim3(kUnits, kLanes), 0, stream>>>(units, n, 0.0, value, Sum(), write);
  return cudaGetLastError();
}

extern "C" unsigned blocks(Index size, Index of_block, Index most) { return blocks_for(size, of_block, most); }
