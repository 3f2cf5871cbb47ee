// Functions for tests, wrapped by tests/cuda/standin.py.
#include <cuda_runtime_api.h>

#include <cstring>
#include <utility>

#include "calls.hpp"
#include "devices.hpp"
#include "launch.hpp"
#include "memory.hpp"
#include "solver_outcome.hpp"
#include "streams.hpp"

using namespace standin;

namespace {

int next_info = 0;

// The bytes of any allocation, before queued work.
Region bytes_at(const void* address, std::size_t bytes) { return region(address, bytes, kAnyDevice, "the range"); }

template <class Body>
int succeeds(const Body& body) {
  const Lock lock;
  try {
    body();
  } catch (const std::runtime_error& error) {
    keep_reason(error.what());
    return 0;
  }
  close_opened();
  return 1;
}

}  // namespace

void standin::set_next_info(int info) { next_info = info; }
int standin::take_next_info() { return std::exchange(next_info, 0); }

extern "C" {

// Devices

void standin_set_device_count(int count) {
  const Lock lock;
  set_device_count(count);
}

void standin_set_device(int id, std::size_t capacity, int major, int minor, int multiprocessors, int ratio) {
  const Lock lock;
  Device& changed = device(id);
  changed.capacity = capacity;
  changed.major = major;
  changed.minor = minor;
  changed.multiprocessors = multiprocessors;
  changed.single_to_double_ratio = ratio;
}

void standin_set_driver(int error, int version) {
  const Lock lock;
  set_driver(static_cast<cudaError_t>(error), version);
}

void standin_set_solver_info(int info) {
  const Lock lock;
  set_next_info(info);
}

// Kernels

void standin_set_launcher(ParameterSizes parameter_sizes, RunKernel run_kernel) {
  const Lock lock;
  set_launcher(parameter_sizes, run_kernel);
}

void standin_set_python_lock(int (*held)(), void* (*release)(), void (*acquire)(void*)) {
  set_python_lock({held, release, acquire});
}

// For a running kernel: the allocation that contains an address, made accessible until the kernel ends. Returns 0 if
// there is none, 1 if it was found, 2 if it is on another device.
int standin_find(const void* address, std::uintptr_t* base, std::size_t* bytes, std::uintptr_t* written) {
  const Lock lock;
  Allocation* found = find(address);
  if (found == nullptr || !found->exists || running_device() < 0) return 0;
  if (!found->pinned && found->device != running_device()) return 2;
  open(*found);
  *base = reinterpret_cast<std::uintptr_t>(found->data);
  *bytes = found->bytes;
  *written = reinterpret_cast<std::uintptr_t>(found->written.data());
  return 1;
}

// Immediate access to memory, before queued work. Returns 0 and records the reason on errors.

int standin_write(void* address, const void* from, std::size_t bytes) {
  return succeeds([&] { store(bytes_at(address, bytes), 0, bytes, from); });
}

int standin_read(const void* address, void* to, std::size_t bytes) {
  return succeeds([&] {
    if (bytes != 0) std::memcpy(to, open(bytes_at(address, bytes)), bytes);
  });
}

int standin_is_written(const void* address, std::size_t bytes) {
  const Lock lock;
  const Allocation* found = find(address);
  if (found == nullptr) return 0;
  const std::size_t start = static_cast<std::size_t>(static_cast<const char*>(address) - found->data);
  if (start + bytes > found->bytes) return 0;
  return std::memchr(found->written.data() + start, 0, bytes) == nullptr ? 1 : 0;
}

// Frees the memory of a deleted array in the order of `stream`, as early as possible, so that later work in other
// streams that uses it fails.
int standin_give_up(void* address, int id, std::uintptr_t stream) {
  return succeeds([&] {
    Allocation* found = find(address);
    if (found == nullptr) throw Misuse("no device memory");
    if (context_error(found->device) != cudaSuccess) return release(*found);
    const int before = current_device();
    set_current_device(id);
    std::shared_ptr<Stream> queue;
    try {
      queue = stream_of(reinterpret_cast<cudaStream_t>(stream));
    } catch (const Misuse&) {
      queue = stream_of(nullptr);  // the stream was destroyed
    }
    set_current_device(before);
    found->leaving = true;
    run_at_next_wait(enqueue(queue, "give up", [allocation = found->id] {
      if (Allocation* leaving = find(allocation)) release(*leaving);
    }));
  });
}

// Logs

void standin_fail_call(long count, int status) {
  const Lock lock;
  fail_call(count, status);
}

int standin_failure_is_waiting() {
  const Lock lock;
  return failure_is_waiting() ? 1 : 0;
}

void standin_leave_out_calls(int change) { leave_out_calls(change); }

const char* standin_calls() {
  const Lock lock;
  return logged_calls().c_str();
}

const char* standin_reasons() {
  const Lock lock;
  return kept_reasons().c_str();
}

void standin_clear_calls() {
  const Lock lock;
  clear_log();
}

long standin_live(const char* kind) {
  const Lock lock;
  return live_objects(kind);
}

long standin_pending() {
  const Lock lock;
  return pending_work();
}

// Whether work is queued in this stream; -1 if there is no such stream.
int standin_is_pending(std::uintptr_t stream) {
  const Lock lock;
  try {
    return stream_of(reinterpret_cast<cudaStream_t>(stream))->queue.empty() ? 0 : 1;
  } catch (const Misuse&) {
    return -1;
  }
}

void standin_set_library_pause(long microseconds) { library_pause() = microseconds; }

// Restores the state after loading, except for live objects.
void standin_reset() {
  const Lock lock;
  for (const int id : known_devices()) drop_work(id);
  forget_lost_contexts();
  set_driver(cudaSuccess, -1);
  fail_call(0, -1);
  set_next_info(0);
  clear_log();
  clear_reasons();
  last_error() = cudaSuccess;
  library_pause() = 0;
}

}  // extern "C"
