// Handles of cuBLAS and cuSOLVER, each with its device and stream.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "calls.hpp"
#include "devices.hpp"
#include "handles.hpp"
#include "streams.hpp"

namespace standin {

struct LibraryHandle {
  int device = 0;
  cudaStream_t stream = nullptr;
  bool scalars_on_device = false;

  // The stream at the time of the call, which must exist.
  std::shared_ptr<Stream> queue() const { return stream_of(stream); }
};

// Number of threads in a call with a handle. The libraries allow one.
struct Users {
  std::mutex mutex;
  std::map<void*, int> of_handle;
};

class Use {
 public:
  Use(Users& users, void* handle) : users_(users), handle_(handle) {
    shared_ = change(+1) > 1;
    std::this_thread::sleep_for(std::chrono::microseconds(library_pause()));
  }
  ~Use() { change(-1); }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

  bool is_shared() const { return shared_; }

 private:
  int change(int by) {
    const std::lock_guard<std::mutex> lock(users_.mutex);
    return users_.of_handle[handle_] += by;
  }

  Users& users_;
  void* handle_;
  bool shared_ = false;
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

  // `body` takes the handle and returns a status. The device of the handle must be current.
  template <class Body>
  int call(const char* name, void* handle, const Body& body) {
    const Use use(users_, handle);
    return guarded(library_, {name, Kind::kOrdinary, stream_for_log(handle)}, [&] {
      if (use.is_shared()) throw Misuse("the handle is in use by another thread");
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
  Users users_;
};

}  // namespace standin
