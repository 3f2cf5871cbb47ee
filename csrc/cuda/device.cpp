#include "cuda/device.hpp"

#include <string>

#include "core/interrupt.hpp"
#include "cuda/context.hpp"

namespace fidfast {

using cuda::check;
using cuda::current;

int Cuda::current_device() { return current().device(); }

bool Cuda::multiplies_in_float(bool all_16_bit) { return all_16_bit && current().is_slow_in_double(); }

void* Cuda::allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    std::size_t available = 0;
    std::size_t total = 0;
    (void)cudaMemGetInfo(&available, &total);
    throw cuda::OutOfMemory("CUDA device " + std::to_string(current().device()) +
                            " is out of memory: " + std::to_string(bytes) + " bytes are needed, " +
                            std::to_string(available) + " of " + std::to_string(total) + " are free");
  }
  check(status, "cudaMalloc");
  return memory;
}

// cudaFree waits for work that uses the memory.
void Cuda::release(void* memory) noexcept {
  if (memory != nullptr && cudaFree(memory) != cudaSuccess) (void)cudaGetLastError();
}

void Cuda::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, current().stream()), "copy on the device");
}

void Cuda::clear(void* to, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemsetAsync(to, 0, bytes, current().stream()), "cudaMemsetAsync");
}

void Cuda::from_host(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, current().stream()), "copy to the device");
  synchronize();  // the copy from pinned memory is asynchronous
}

void Cuda::to_host(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, current().stream()), "copy to the host");
  synchronize();
}

void Cuda::synchronize() {
  current().synchronize();
  check_interrupt();  // not earlier: the device may still use memory that would be released
}

}  // namespace fidfast
