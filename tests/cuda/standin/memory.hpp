// Device memory and pinned host memory. The host can access device memory only while queued work that uses it runs.
// Both have guard pages, are initialised with NaN, and record which bytes were ever written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace standin {

struct Allocation {
  std::uint64_t id = 0;  // distinguishes it from later allocations at the same address
  char* mapping = nullptr;
  std::size_t mapping_bytes = 0;  // with the guard pages
  char* data = nullptr;
  std::size_t bytes = 0;
  bool pinned = false;
  int device = 0;                      // the device of the allocation; pinned memory may be used on every device
  bool exists = true;                  // false until queued work of cudaMallocAsync has run
  bool leaving = false;                // cudaFreeAsync was called
  bool open = false;                   // the host may access it now
  bool counted = true;                 // made by the code under test
  std::vector<unsigned char> written;  // (bytes,)
};

constexpr int kAnyDevice = -1;

// A range of memory in the arguments of a call: checked at the call and when the work runs.
struct Region {
  char* data = nullptr;
  std::size_t bytes = 0;
  std::uint64_t allocation = 0;
  std::string what;
};

// nullptr if the capacity of the device is exceeded.
Allocation* allocate(std::size_t bytes, int device);
Allocation* allocate_pinned(std::size_t bytes);
void release(Allocation& allocation);
// Do the queued work of cudaMallocAsync and cudaFreeAsync if it was dropped.
void settle_allocations(int device);

Allocation* find(const void* address);  // nullptr: neither device nor pinned memory
Allocation* find(std::uint64_t id);

// Throws Misuse unless one allocation that `device` can use contains the range.
Region region(const void* data, std::size_t bytes, int device, const std::string& what);
// Throws Misuse if the address belongs to freed device or pinned memory.
void check_not_released(const void* data, const std::string& what);

// The following are for running work. Each throws Fault if the allocation of the region was freed.
char* open(const Region& region);
void open(Allocation& allocation);
void close_opened();
// Throws Fault if a byte was never written.
void load(const Region& region, std::size_t offset, std::size_t bytes, void* to);
void store(const Region& region, std::size_t offset, std::size_t bytes, const void* from);
// Sets the region to NaN and marks it as never written.
void spoil(const Region& region, std::size_t offset, std::size_t bytes);

}  // namespace standin
