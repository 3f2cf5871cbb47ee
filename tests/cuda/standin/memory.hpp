// Device memory and pinned host memory. Device memory is out of the host's reach except while queued work that names
// it runs; both lie between guard pages, hold NaN at first, and know which of their bytes were ever written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace standin {

struct Allocation {
  std::uint64_t id = 0;  // tells it from a later one at the same address
  char* mapping = nullptr;
  std::size_t mapping_bytes = 0;  // with the guard pages
  char* data = nullptr;
  std::size_t bytes = 0;
  bool pinned = false;
  int device = 0;                      // where it was allocated; pinned memory may be used from every device
  bool exists = true;                  // false until the queued allocation of cudaMallocAsync has run
  bool leaving = false;                // cudaFreeAsync was called
  bool open = false;                   // the host may touch it now
  bool counted = true;                 // made by the code under test
  std::vector<unsigned char> written;  // (bytes,)
};

constexpr int kAnyDevice = -1;

// A range that a call names: checked when the call is made, and again when its work runs.
struct Region {
  char* data = nullptr;
  std::size_t bytes = 0;
  std::uint64_t allocation = 0;
  std::string what;
};

// nullptr where the device's capacity does not suffice.
Allocation* allocate(std::size_t bytes, int device);
Allocation* allocate_pinned(std::size_t bytes);
void release(Allocation& allocation);
// What the queued halves of cudaMallocAsync and cudaFreeAsync would have done, where their work is dropped.
void settle_allocations(int device);

Allocation* find(const void* address);  // nullptr: neither device nor pinned memory
Allocation* find(std::uint64_t id);

// Throws Misuse unless all of the range lies in one allocation that `device` can use.
Region region(const void* data, std::size_t bytes, int device, const std::string& what);
// Throws Misuse where the address was once device or pinned memory, and is no more.
void check_not_released(const void* data, const std::string& what);

// From here on for queued work that runs; each throws Fault where the region's allocation is gone.
char* open(const Region& region);
void open(Allocation& allocation);
void close_opened();
// Throws Fault where a byte was never written.
void load(const Region& region, std::size_t offset, std::size_t bytes, void* to);
void store(const Region& region, std::size_t offset, std::size_t bytes, const void* from);
// NaN, as if it had never been written.
void spoil(const Region& region, std::size_t offset, std::size_t bytes);

}  // namespace standin
