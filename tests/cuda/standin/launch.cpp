// libcudart: what nvcc's objects call to register and to launch their kernels.
#include "launch.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "calls.hpp"
#include "memory.hpp"
#include "streams.hpp"

using namespace standin;

namespace {

constexpr std::uint64_t kMaxThreads = 1024;
constexpr unsigned kMaxBlockDepth = 64;
constexpr unsigned kMaxGridX = 2147483647;
constexpr unsigned kMaxGridYZ = 65535;
constexpr std::size_t kMaxSharedBytes = std::size_t{48} << 10;
constexpr int kMaxParameters = 256;
constexpr std::size_t kMessageBytes = 4000;

struct Kernel {
  void** binary;
  std::string name;  // mangled
};

struct Configuration {
  dim3 grid, block;
  std::size_t shared_bytes;
  cudaStream_t stream;
};

std::map<const void*, std::unique_ptr<Kernel>> kernels;  // by the address of the function on the host
ParameterSizes parameter_sizes = nullptr;
RunKernel run_kernel = nullptr;
thread_local std::vector<Configuration> configurations;

void check_configuration(const dim3& grid, const dim3& block, std::size_t shared_bytes) {
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  const bool block_fits = threads != 0 && threads <= kMaxThreads && block.z <= kMaxBlockDepth;
  const bool grid_fits =
      grid.x != 0 && grid.y != 0 && grid.z != 0 && grid.x <= kMaxGridX && grid.y <= kMaxGridYZ && grid.z <= kMaxGridYZ;
  if (!block_fits || !grid_fits || shared_bytes > kMaxSharedBytes)
    throw Misuse(text("grid (", grid.x, ", ", grid.y, ", ", grid.z, "), block (", block.x, ", ", block.y, ", ", block.z,
                      "), ", shared_bytes, " bytes of shared memory"),
                 cudaErrorInvalidConfiguration);
}

std::vector<unsigned char> copied_arguments(const Kernel& kernel, void** arguments) {
  std::vector<std::uint64_t> sizes(kMaxParameters);
  const int count =
      parameter_sizes == nullptr ? -1 : parameter_sizes(kernel.name.c_str(), sizes.data(), kMaxParameters);
  if (count < 0 || count > kMaxParameters)
    throw Misuse("no PTX is loaded for " + kernel.name, cudaErrorInvalidDeviceFunction);
  std::vector<unsigned char> bytes;
  for (int i = 0; i < count; ++i) {
    const auto* argument = static_cast<const unsigned char*>(arguments[i]);
    bytes.insert(bytes.end(), argument, argument + sizes[static_cast<std::size_t>(i)]);
  }
  return bytes;
}

}  // namespace

void standin::set_launcher(ParameterSizes new_parameter_sizes, RunKernel new_run_kernel) {
  parameter_sizes = new_parameter_sizes;
  run_kernel = new_run_kernel;
}

extern "C" {

void** __cudaRegisterFatBinary(void* binary) {
  return new void*(binary);  // NOLINT: __cudaUnregisterFatBinary deletes it
}

void __cudaRegisterFatBinaryEnd(void** /*binary*/) {}

void __cudaUnregisterFatBinary(void** binary) {
  const Lock lock;
  for (auto kernel = kernels.begin(); kernel != kernels.end();)
    kernel = kernel->second->binary == binary ? kernels.erase(kernel) : std::next(kernel);
  delete binary;
}

void __cudaRegisterFunction(void** binary, const char* on_host, char* /*on_device*/, const char* name,
                            int /*thread_limit*/, uint3* /*thread*/, uint3* /*block*/, dim3* /*block_size*/,
                            dim3* /*grid_size*/, int* /*warp_size*/) {
  const Lock lock;
  kernels[on_host] = std::make_unique<Kernel>(Kernel{binary, name});
}

// Variables of the device live in the PTX alone: the host cannot name them here.
void __cudaRegisterVar(void** /*binary*/, char* /*on_host*/, char* /*on_device*/, const char* /*name*/, int /*ext*/,
                       std::size_t /*bytes*/, int /*constant*/, int /*global*/) {}

char __cudaInitModule(void** /*binary*/) { return 1; }

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream) {
  configurations.push_back({grid, block, shared_bytes, stream});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared_bytes, void* stream) {
  if (configurations.empty()) return cudaErrorInvalidConfiguration;
  const Configuration last = configurations.back();
  configurations.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared_bytes = last.shared_bytes;
  *static_cast<cudaStream_t*>(stream) = last.stream;
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* on_host) {
  const Lock lock;
  const auto found = kernels.find(on_host);
  if (found == kernels.end()) return cudaErrorInvalidDeviceFunction;
  *kernel = reinterpret_cast<cudaKernel_t>(found->second.get());
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t handle, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                               cudaStream_t stream) {
  const auto* kernel = reinterpret_cast<const Kernel*>(handle);
  const char* name = kernel == nullptr ? "cudaLaunchKernel" : kernel->name.c_str();
  return runtime_call({name, Kind::kOrdinary, stream}, [&] {
    if (kernel == nullptr) throw Misuse("no such kernel", cudaErrorInvalidDeviceFunction);
    const auto queue = stream_of_current_device(stream);
    check_configuration(grid, block, shared_bytes);
    enqueue(queue, kernel->name,
            [name = kernel->name, grid, block, shared_bytes, bytes = copied_arguments(*kernel, arguments)] {
              const unsigned dimensions[] = {grid.x, grid.y, grid.z, block.x, block.y, block.z};
              std::vector<char> message(kMessageBytes);
              if (run_kernel(name.c_str(), dimensions, shared_bytes, bytes.data(), message.data(), message.size()) != 0)
                throw Fault(message.data());
            });
    return cudaSuccess;
  });
}

cudaError_t cudaLaunchKernel(const void* on_host, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                             cudaStream_t stream) {
  cudaKernel_t kernel = nullptr;
  (void)__cudaGetKernel(&kernel, on_host);
  return __cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
}

}  // extern "C"
