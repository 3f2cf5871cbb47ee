// libcudart: memory, copies and fills.
#include <cuda_runtime_api.h>

#include <cstring>
#include <utility>
#include <vector>

#include "calls.hpp"
#include "devices.hpp"
#include "memory.hpp"
#include "streams.hpp"

using namespace standin;

namespace {

enum class Place { kDevice, kPinned, kPageable };

Place place_of(const void* address, const char* what) {
  check_not_released(address, what);
  const Allocation* allocation = find(address);
  if (allocation == nullptr) return Place::kPageable;
  return allocation->pinned ? Place::kPinned : Place::kDevice;
}

// `height` rows of `width` bytes, `pitch` bytes apart.
struct Rows {
  std::size_t pitch, width, height;
  std::size_t extent() const { return width == 0 || height == 0 ? 0 : (height - 1) * pitch + width; }
};

struct Copy {
  char* destination;
  Rows destination_rows;
  const char* source;
  Rows source_rows;
  Place to, from;
};

bool kind_fits(cudaMemcpyKind kind, Place to, Place from) {
  const bool to_device = to == Place::kDevice;
  const bool from_device = from == Place::kDevice;
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device;
    case cudaMemcpyDefault:
      return true;
  }
  return false;
}

Copy checked_copy(void* destination, std::size_t destination_pitch, const void* source, std::size_t source_pitch,
                  std::size_t width, std::size_t height, cudaMemcpyKind kind) {
  if (destination == nullptr || source == nullptr) throw Misuse("a null pointer");
  if (destination_pitch < width || source_pitch < width) throw Misuse("a pitch is smaller than the width");
  const Copy copy{static_cast<char*>(destination),      {destination_pitch, width, height},
                  static_cast<const char*>(source),     {source_pitch, width, height},
                  place_of(destination, "destination"), place_of(source, "source")};
  if (!kind_fits(kind, copy.to, copy.from))
    throw Misuse("the kind of copy does not fit the pointers", cudaErrorInvalidValue);
  const std::size_t written = copy.destination_rows.extent();
  if (copy.destination < copy.source + copy.source_rows.extent() && copy.source < copy.destination + written)
    throw Misuse("source and destination overlap");
  return copy;
}

void queue_copy(const std::shared_ptr<Stream>& stream, const Copy& copy) {
  const Rows to = copy.destination_rows;
  const Rows from = copy.source_rows;
  const bool to_known = copy.to != Place::kPageable;
  const bool from_known = copy.from != Place::kPageable;
  const Region destination = to_known ? region(copy.destination, to.extent(), kAnyDevice, "destination") : Region{};
  const Region source = from_known ? region(copy.source, from.extent(), kAnyDevice, "source") : Region{};
  std::vector<char> rows(to.width * to.height);
  // Pageable memory is read before the call returns, other memory when the copy runs.
  if (!from_known)
    for (std::size_t row = 0; row < to.height; ++row)
      std::memcpy(rows.data() + row * to.width, copy.source + row * from.pitch, to.width);
  enqueue(stream, "copy", [=, rows = std::move(rows), pageable = copy.destination]() mutable {
    for (std::size_t row = 0; row < to.height; ++row) {
      char* values = rows.data() + row * to.width;
      if (from_known) load(source, row * from.pitch, to.width, values);
      if (to_known) {
        store(destination, row * to.pitch, to.width, values);
      } else {
        std::memcpy(pageable + row * to.pitch, values, to.width);
      }
    }
  });
}

void queue_fill(const std::shared_ptr<Stream>& stream, void* data, int value, std::size_t bytes) {
  const Region destination = region(data, bytes, kAnyDevice, "destination");
  enqueue(stream, "fill", [=] {
    const std::vector<char> values(bytes, static_cast<char>(value));
    store(destination, 0, bytes, values.data());
  });
}

Allocation& whole_allocation(void* data, bool pinned) {
  check_not_released(data, "the pointer");
  Allocation* allocation = find(data);
  if (allocation == nullptr || allocation->pinned != pinned)
    throw Misuse(text("no ", pinned ? "pinned" : "device", " memory: ", data));
  if (allocation->data != data) throw Misuse("the pointer is not the beginning of its allocation");
  if (allocation->leaving) throw Misuse("the pointer was freed (by cudaFreeAsync)");
  return *allocation;
}

}  // namespace

extern "C" {

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  return runtime_call({__func__}, [&] {
    const Device& asked = device(current_device());
    *free = asked.used < asked.capacity ? asked.capacity - asked.used : 0;
    *total = asked.capacity;
    return cudaSuccess;
  });
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  return runtime_call({__func__, Kind::kAllocates}, [&] {
    *data = nullptr;
    if (bytes == 0) return cudaSuccess;
    const Allocation* allocation = allocate(bytes, current_device());
    if (allocation == nullptr) return cudaErrorMemoryAllocation;
    *data = allocation->data;
    return cudaSuccess;
  });
}

cudaError_t cudaFree(void* data) {
  return runtime_call({__func__, Kind::kReleases}, [&] {
    if (data == nullptr) return cudaSuccess;
    const std::uint64_t id = whole_allocation(data, /*pinned=*/false).id;
    const cudaError_t error = run_device(find(id)->device);
    release(*find(id));
    return error;
  });
}

cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t stream) {
  return runtime_call({__func__, Kind::kAllocates, stream}, [&] {
    *data = nullptr;
    const auto owner = stream_of(stream);
    if (bytes == 0) return cudaSuccess;
    Allocation* allocation = allocate(bytes, owner->device);
    if (allocation == nullptr) return cudaErrorMemoryAllocation;
    allocation->exists = false;
    enqueue(owner, "allocate", [id = allocation->id] {
      if (Allocation* found = find(id)) found->exists = true;
    });
    *data = allocation->data;
    return cudaSuccess;
  });
}

cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  return runtime_call({__func__, Kind::kReleases, stream}, [&] {
    if (data == nullptr) return cudaSuccess;
    Allocation& allocation = whole_allocation(data, /*pinned=*/false);
    const auto owner = stream_of(stream);
    if (owner->device != allocation.device) throw Misuse("the stream is not of the memory's device");
    allocation.leaving = true;
    enqueue(owner, "free", [id = allocation.id] {
      if (Allocation* found = find(id)) release(*found);
    });
    return cudaSuccess;
  });
}

cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned int flags) {
  return runtime_call({__func__, Kind::kAllocates}, [&] {
    constexpr unsigned kKnown = cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined;
    if ((flags & ~kKnown) != 0) throw Misuse(text("unknown flags ", flags));
    *data = nullptr;
    if (bytes == 0) return cudaSuccess;
    const Allocation* allocation = allocate_pinned(bytes);
    if (allocation == nullptr) return cudaErrorMemoryAllocation;
    *data = allocation->data;
    return cudaSuccess;
  });
}

cudaError_t cudaHostGetDevicePointer(void** on_device, void* on_host, unsigned int flags) {
  return runtime_call({__func__}, [&] {
    if (flags != 0) throw Misuse(text("unknown flags ", flags));
    if (place_of(on_host, "the pointer") != Place::kPinned) throw Misuse("no pinned memory");
    *on_device = on_host;
    return cudaSuccess;
  });
}

// Does not wait: queued work that uses this memory fails when it runs.
cudaError_t cudaFreeHost(void* data) {
  return runtime_call({__func__, Kind::kReleases}, [&] {
    if (data != nullptr) release(whole_allocation(data, /*pinned=*/true));
    return cudaSuccess;
  });
}

// Waits no longer than documented: copies from device to device do not wait; pageable memory has been read when the
// call returns, but the copy may not be complete; all other copies are complete.
cudaError_t cudaMemcpy(void* destination, const void* source, std::size_t bytes, cudaMemcpyKind kind) {
  return runtime_call({__func__, Kind::kWaits}, [&] {
    if (bytes == 0) return cudaSuccess;
    const Copy copy = checked_copy(destination, bytes, source, bytes, bytes, 1, kind);
    const auto stream = stream_of(nullptr);
    if (copy.to == Place::kDevice && copy.from == Place::kPageable) {
      const cudaError_t error = run_stream(stream);
      if (error == cudaSuccess) queue_copy(stream, copy);
      return error;
    }
    queue_copy(stream, copy);
    return copy.to == Place::kDevice && copy.from == Place::kDevice ? cudaSuccess : run_stream(stream);
  });
}

cudaError_t cudaMemcpyAsync(void* destination, const void* source, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return runtime_call({__func__, Kind::kOrdinary, stream}, [&] {
    const auto queue = stream_of(stream);
    if (bytes != 0) queue_copy(queue, checked_copy(destination, bytes, source, bytes, bytes, 1, kind));
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpy2DAsync(void* destination, std::size_t destination_pitch, const void* source,
                              std::size_t source_pitch, std::size_t width, std::size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return runtime_call({__func__, Kind::kOrdinary, stream}, [&] {
    const auto queue = stream_of(stream);
    if (width != 0 && height != 0)
      queue_copy(queue, checked_copy(destination, destination_pitch, source, source_pitch, width, height, kind));
    return cudaSuccess;
  });
}

// Does not wait for device memory either.
cudaError_t cudaMemset(void* data, int value, std::size_t bytes) {
  return runtime_call({__func__}, [&] {
    const auto stream = stream_of(nullptr);
    queue_fill(stream, data, value, bytes);
    return bytes != 0 && find(data)->pinned ? run_stream(stream) : cudaSuccess;
  });
}

cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
  return runtime_call({__func__, Kind::kOrdinary, stream}, [&] {
    queue_fill(stream_of(stream), data, value, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  return runtime_call({__func__}, [&] {
    *attributes = cudaPointerAttributes{};
    attributes->device = -2;  // the runtime's value for unregistered memory
    attributes->hostPointer = const_cast<void*>(data);
    if (const Allocation* allocation = find(data)) {
      attributes->type = allocation->pinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
      attributes->device = allocation->device;
      attributes->devicePointer = const_cast<void*>(data);
      if (!allocation->pinned) attributes->hostPointer = nullptr;
    }
    return cudaSuccess;
  });
}

}  // extern "C"
