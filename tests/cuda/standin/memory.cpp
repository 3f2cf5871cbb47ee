#include "memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>

#include "calls.hpp"
#include "devices.hpp"

namespace standin {
namespace {

constexpr std::size_t kAlignment = 256;  // as guaranteed by cudaMalloc
constexpr int kNaNByte = 0xff;           // eight, four or two of these bytes are a NaN
// Addresses of released memory are not reused, so that stale pointers stay invalid. This many are kept, to stay below
// the limit of mappings of a process.
constexpr std::size_t kReleasedKept = 2000;

std::map<std::uintptr_t, std::unique_ptr<Allocation>> allocations;  // by address
struct ReleasedRange {
  std::uintptr_t begin, end;
  char* mapping;
  std::size_t mapping_bytes;
};
std::vector<ReleasedRange> released;
std::uint64_t last_id = 0;
std::vector<std::uint64_t> opened;

std::uintptr_t number(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }
std::size_t rounded_up(std::size_t bytes, std::size_t step) { return (bytes + step - 1) / step * step; }

const char* kind_of(const Allocation& allocation) { return allocation.pinned ? "pinned memory" : "device memory"; }

void count(const Allocation& allocation, int change) {
  if (allocation.counted) count_live(allocation.pinned ? "pinned allocation" : "allocation", change);
}

Allocation* map_between_guards(std::size_t bytes, bool pinned, int device) {
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t aligned = rounded_up(bytes, kAlignment);
  const std::size_t usable = rounded_up(aligned, page);
  void* mapping = mmap(nullptr, usable + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  auto allocation = std::make_unique<Allocation>();
  allocation->id = ++last_id;
  allocation->mapping = static_cast<char*>(mapping);
  allocation->mapping_bytes = usable + 2 * page;
  // The end is next to the guard page, since most accesses out of bounds are past the end.
  allocation->data = allocation->mapping + page + usable - aligned;
  allocation->bytes = bytes;
  allocation->pinned = pinned;
  allocation->device = device;
  // Writes of the host cannot be tracked: all pinned memory counts as written.
  allocation->written.assign(bytes, pinned ? 1 : 0);
  mprotect(allocation->mapping + page, usable, PROT_READ | PROT_WRITE);
  std::memset(allocation->mapping + page, kNaNByte, usable);
  if (!pinned) mprotect(allocation->mapping + page, usable, PROT_NONE);
  allocation->counted = !calls_are_left_out();
  count(*allocation, +1);
  Allocation* result = allocation.get();
  allocations[number(allocation->data)] = std::move(allocation);
  return result;
}

void set_access(Allocation& allocation, bool open) {
  if (allocation.pinned || allocation.open == open) return;
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  mprotect(allocation.mapping + page, allocation.mapping_bytes - 2 * page, open ? PROT_READ | PROT_WRITE : PROT_NONE);
  allocation.open = open;
}

Allocation& alive(const Region& region) {
  Allocation* allocation = find(region.allocation);
  if (allocation == nullptr) throw Fault(text(region.what, " was freed before the work on it ran"));
  if (!allocation->exists) throw Fault(text(region.what, " is used before its stream has allocated it"));
  return *allocation;
}

}  // namespace

Allocation* allocate(std::size_t bytes, int device_id) {
  Device& owner = device(device_id);
  if (bytes > owner.capacity - std::min(owner.capacity, owner.used)) return nullptr;
  Allocation* allocation = map_between_guards(bytes, /*pinned=*/false, device_id);
  if (allocation != nullptr) owner.used += bytes;
  return allocation;
}

Allocation* allocate_pinned(std::size_t bytes) { return map_between_guards(bytes, /*pinned=*/true, current_device()); }

void release(Allocation& allocation) {
  const std::uintptr_t begin = number(allocation.data);
  mprotect(allocation.mapping, allocation.mapping_bytes, PROT_NONE);
  madvise(allocation.mapping, allocation.mapping_bytes, MADV_DONTNEED);
  released.push_back({begin, begin + allocation.bytes, allocation.mapping, allocation.mapping_bytes});
  if (released.size() > kReleasedKept) {
    munmap(released.front().mapping, released.front().mapping_bytes);
    released.erase(released.begin());
  }
  if (!allocation.pinned) device(allocation.device).used -= allocation.bytes;
  count(allocation, -1);
  allocations.erase(begin);
}

void settle_allocations(int device_id) {
  std::vector<Allocation*> leaving;
  for (const auto& [address, allocation] : allocations) {
    if (allocation->device != device_id) continue;
    allocation->exists = true;
    if (allocation->leaving) leaving.push_back(allocation.get());
  }
  for (Allocation* allocation : leaving) release(*allocation);
}

Allocation* find(const void* address) {
  auto next = allocations.upper_bound(number(address));
  if (next == allocations.begin()) return nullptr;
  Allocation* candidate = std::prev(next)->second.get();
  return number(address) < number(candidate->data) + candidate->bytes ? candidate : nullptr;
}

Allocation* find(std::uint64_t id) {
  for (const auto& [address, allocation] : allocations)
    if (allocation->id == id) return allocation.get();
  return nullptr;
}

void check_not_released(const void* data, const std::string& what) {
  if (find(data) != nullptr) return;
  for (const ReleasedRange& range : released)
    if (range.begin <= number(data) && number(data) < range.end) throw Misuse(what + " was freed");
}

Region region(const void* data, std::size_t bytes, int device_id, const std::string& what) {
  if (bytes == 0) return {};
  check_not_released(data, what);
  const Allocation* allocation = find(data);
  if (allocation == nullptr) throw Misuse(text(what, " is no device memory: ", data));
  if (allocation->leaving) throw Misuse(what + " was freed (by cudaFreeAsync)");
  const std::size_t offset = number(data) - number(allocation->data);
  if (bytes > allocation->bytes - offset)
    throw Misuse(text(what, " reaches ", bytes - (allocation->bytes - offset), " bytes past the end of ",
                      kind_of(*allocation), " of ", allocation->bytes, " bytes"));
  if (device_id != kAnyDevice && !allocation->pinned && allocation->device != device_id)
    throw Misuse(text(what, " is memory of device ", allocation->device, ", the call is for device ", device_id));
  return {const_cast<char*>(static_cast<const char*>(data)), bytes, allocation->id, what};
}

void open(Allocation& allocation) {
  set_access(allocation, /*open=*/true);
  opened.push_back(allocation.id);
}

char* open(const Region& region) {
  if (region.bytes != 0) open(alive(region));
  return region.data;
}

void close_opened() {
  for (const std::uint64_t id : opened)
    if (Allocation* allocation = find(id)) set_access(*allocation, /*open=*/false);
  opened.clear();
}

void load(const Region& region, std::size_t offset, std::size_t bytes, void* to) {
  if (bytes == 0) return;
  const Allocation& allocation = alive(region);
  const std::size_t start = number(region.data) - number(allocation.data) + offset;
  const auto* written = allocation.written.data() + start;
  const auto* missing = std::find(written, written + bytes, 0);
  if (missing != written + bytes)
    throw Fault(text(region.what, ": byte ", missing - written + static_cast<std::ptrdiff_t>(offset),
                     " is read but was never written"));
  std::memcpy(to, open(region) + offset, bytes);
}

void store(const Region& region, std::size_t offset, std::size_t bytes, const void* from) {
  if (bytes == 0) return;
  Allocation& allocation = alive(region);
  std::memcpy(open(region) + offset, from, bytes);
  std::memset(allocation.written.data() + (number(region.data) - number(allocation.data)) + offset, 1, bytes);
}

void spoil(const Region& region, std::size_t offset, std::size_t bytes) {
  if (bytes == 0) return;
  Allocation& allocation = alive(region);
  std::memset(open(region) + offset, kNaNByte, bytes);
  if (!allocation.pinned)
    std::memset(allocation.written.data() + (number(region.data) - number(allocation.data)) + offset, 0, bytes);
}

}  // namespace standin
