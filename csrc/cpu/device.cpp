#include "cpu/device.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "core/interrupt.hpp"

namespace fidfast {

namespace {

constexpr std::size_t kHugePage = std::size_t{1} << 21;
constexpr std::align_val_t kAlignment{64};
constexpr std::size_t kChunk = std::size_t{1} << 25;  // bytes between two calls of check_interrupt()

}  // namespace

void* Cpu::allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* const memory = ::operator new(bytes, kAlignment);
#ifdef __linux__
  // Request huge pages: a matrix of dim 2048 has 8,192 small pages, whose first touch takes longer than copying the
  // matrix, or 16 huge ones.
  const auto address = reinterpret_cast<std::size_t>(memory);
  const std::size_t first = (address + kHugePage - 1) / kHugePage * kHugePage;
  const std::size_t last = (address + bytes) / kHugePage * kHugePage;
  if (last > first) madvise(static_cast<char*>(memory) + (first - address), last - first, MADV_HUGEPAGE);
#endif
  return memory;
}

void Cpu::release(void* memory) noexcept {
  if (memory != nullptr) ::operator delete(memory, kAlignment);
}

void Cpu::copy(void* to, const void* from, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes; done += kChunk) {
    if (done > 0) check_interrupt();
    std::memcpy(static_cast<char*>(to) + done, static_cast<const char*>(from) + done, std::min(kChunk, bytes - done));
  }
}

void Cpu::clear(void* to, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes; done += kChunk) {
    if (done > 0) check_interrupt();
    std::memset(static_cast<char*>(to) + done, 0, std::min(kChunk, bytes - done));
  }
}

}  // namespace fidfast
