#include "cpu/device.hpp"

#include <cstring>
#include <new>

namespace fidfast {

namespace {
constexpr std::align_val_t kAlignment{64};
}

void* Cpu::allocate(std::size_t bytes) { return bytes == 0 ? nullptr : ::operator new(bytes, kAlignment); }

void Cpu::release(void* memory) noexcept {
  if (memory != nullptr) ::operator delete(memory, kAlignment);
}

void Cpu::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void Cpu::clear(void* to, std::size_t bytes) {
  if (bytes > 0) std::memset(to, 0, bytes);
}

}  // namespace fidfast
