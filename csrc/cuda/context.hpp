// What a GPU needs to be worked with: its stream and its libraries' handles. One stream for each device does all of
// this package's work there, in the order in which it is given; other streams and it wait for each other by events.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/libraries.hpp"

namespace fidfast::cuda {

/// A call to CUDA or to one of its libraries failed. A RuntimeError in Python.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The GPU has no more memory. A MemoryError in Python.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

/// Throw Error, or OutOfMemory, where a status is none of success; `what` was being done.
void check(cudaError_t status, const char* what);
void check_blas(int status, const char* what);
void check_solver(int status, const char* what);

/// How many devices there are; 0, and why, where there is none. Never throws.
int device_count(std::string* why = nullptr);

/// Throws Error where there is no such device.
void require_device(int device);

/// Whether a device's float64 is at least 16 times slower than float32: cards for graphics, and some of the latest.
bool is_slow_in_double(int device);

/// Of one device; made at its first use, and left to the end of the process.
class Context {
 public:
  /// Throws Error where there is no such device.
  static Context& of(int device);

  int device() const { return device_; }
  cudaStream_t stream() const { return stream_; }
  bool is_slow_in_double() const { return slow_in_double_; }

  /// work(handle), one thread at a time, since a handle serves one. Of two kinds, so that the thread of an update need
  /// not wait for that of an eigenproblem; on the device their work is one after the other.
  template <class Work>
  void with_blas(Work work) {
    const std::lock_guard<std::mutex> lock(blas_mutex_);
    work(blas_);
  }
  template <class Work>
  void with_solver(Work work) {
    const std::lock_guard<std::mutex> lock(solver_mutex_);
    work(solver_, params_);
  }

  /// The host waits for all work given so far.
  void synchronize();
  /// `stream` waits for it.
  void hold_up(cudaStream_t stream);
  /// What is given from now on waits for all work given to `stream` so far.
  void wait_for(cudaStream_t stream);

  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

 private:
  explicit Context(int device) : device_(device) {}
  void open();
  void close() noexcept;

  int device_;
  bool slow_in_double_ = false;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t done_ = nullptr;     // recorded in our stream
  cudaEvent_t written_ = nullptr;  // recorded in others
  BlasHandle blas_ = nullptr;
  SolverHandle solver_ = nullptr;
  SolverParams params_ = nullptr;
  std::mutex blas_mutex_;
  std::mutex solver_mutex_;
  std::mutex written_mutex_;
};

/// While it lives, this thread works on one device; afterwards the thread's own device is current again.
class Session {
 public:
  explicit Session(int device);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  Context* before_;
  int device_before_ = -1;
};

/// Of this thread's session.
Context& current();

/// What kernels of this thread do nothing for while it is not null and holds anything but 0; see Watch.
extern thread_local const int* skip_flag;

}  // namespace fidfast::cuda
