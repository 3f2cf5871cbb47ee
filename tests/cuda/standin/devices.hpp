// The devices that the stand-in plays, and its driver.
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
  cudaError_t lost = cudaSuccess;  // what every call returns once queued work has failed
};

int device_count();
void set_device_count(int count);
void check_device(int id);  // throws Misuse where there is no such device
Device& device(int id);
std::vector<int> known_devices();  // those that were ever asked for, be there fewer now or not
void forget_lost_contexts();

int current_device();  // of this thread
void set_current_device(int id);

// What every call returns while there is no driver, or one that is too old, or no device.
cudaError_t driver_error();
int driver_version();
void set_driver(cudaError_t error, int version);

cudaError_t context_error(int id);

}  // namespace standin
