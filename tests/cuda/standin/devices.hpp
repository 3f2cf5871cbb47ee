// The simulated devices and driver.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

namespace standin {

struct Device {
  std::size_t capacity = std::size_t{1} << 30;  // bytes
  std::size_t used = 0;                         // bytes
  int major = 8;
  int minor = 0;
  int multiprocessors = 4;
  int single_to_double_ratio = 2;
  cudaError_t lost = cudaSuccess;  // returned by every call after queued work has failed
};

int device_count();
void set_device_count(int count);
void check_device(int id);  // throws Misuse if there is no such device
Device& device(int id);
std::vector<int> known_devices();  // all that were ever set, even if there are fewer now
void forget_lost_contexts();

int current_device();  // of this thread
void set_current_device(int id);

// The status of every call without a driver, with an old one, or without a device.
cudaError_t driver_error();
int driver_version();
void set_driver(cudaError_t error, int version);

cudaError_t context_error(int id);

}  // namespace standin
