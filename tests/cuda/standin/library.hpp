// Handles of cuBLAS and cuSOLVER: of one device, with the stream that their work goes to.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "calls.hpp"
#include "devices.hpp"
#include "handles.hpp"
#include "streams.hpp"

namespace standin {

struct LibraryHandle {
  int device = 0;
  cudaStream_t stream = nullptr;
  bool scalars_on_device = false;

  // The stream at the time of the call, which must still be alive.
  std::shared_ptr<Stream> queue() const { return stream_of(stream); }
};

class LibraryHandles {
 public:
  LibraryHandles(Library library, const char* kind) : library_(library), handles_(kind) {}

  int create(const char* name, void** handle) {
    return guarded(library_, {name, Kind::kAllocates}, [&] {
      auto created = std::make_shared<LibraryHandle>();
      created->device = current_device();
      *handle = handles_.add(std::move(created));
      return 0;
    });
  }

  int destroy(const char* name, void* handle) {
    return guarded(library_, {name, Kind::kReleases}, [&] {
      handles_.remove(handle);
      return 0;
    });
  }

  int set_stream(const char* name, void* handle, cudaStream_t stream) {
    return call(name, handle, [&](LibraryHandle& changed) {
      if (stream_of(stream)->device != changed.device) throw Misuse("the stream is not of the handle's device");
      changed.stream = stream;
      return 0;
    });
  }

  // `body` takes the handle and returns a status; the handle's device must be current.
  template <class Body>
  int call(const char* name, void* handle, const Body& body) {
    return guarded(library_, {name, Kind::kOrdinary, stream_for_log(handle)}, [&] {
      const auto found = handles_.get(handle);
      if (found->device != current_device())
        throw Misuse(text("a handle of device ", found->device, " while device ", current_device(), " is current"));
      return body(*found);
    });
  }

 private:
  cudaStream_t stream_for_log(void* handle) const {
    const Lock lock;
    try {
      return handles_.get(handle)->stream;
    } catch (const Misuse&) {
      return nullptr;
    }
  }

  Library library_;
  Handles<LibraryHandle> handles_;
};

}  // namespace standin
