// The stream and the library handles of a GPU. All work of this package on a device is in one stream, in order;
// synchronization with other streams is by events.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/interrupt.hpp"
#include "cuda/libraries.hpp"

namespace fidfast::cuda {

/// A call to CUDA or one of its libraries failed. RuntimeError in Python.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The GPU is out of memory. MemoryError in Python.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

/// Throw Error or OutOfMemory if the status is not success. `what` names the call in the message.
void check(cudaError_t status, const char* what);
void check_blas(int status, const char* what);
void check_solver(int status, const char* what);

/// Number of devices. If it is 0, sets *why to the reason. Never throws.
int device_count(std::string* why = nullptr);

/// Throws Error if there is no such device.
void require_device(int device);

/// Whether float64 is at least 16 times slower than float32, as on graphics cards and some recent data centre GPUs.
bool is_slow_in_double(int device);

/// Stream and handles of one device, created at first use and never destroyed.
class Context {
 public:
  /// Throws Error if there is no such device.
  static Context& of(int device);

  int device() const { return device_; }
  cudaStream_t stream() const { return stream_; }
  bool is_slow_in_double() const { return slow_in_double_; }

  /// Calls work(handle) with a lock held: a handle is not thread-safe. Two locks, so that a thread that updates moments
  /// need not wait for one that solves an eigenproblem.
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

  /// The host waits for all work enqueued so far.
  void synchronize();
  /// `stream` waits for all work enqueued so far.
  void make_wait(cudaStream_t stream);
  /// Work enqueued from now on waits for all work enqueued in `stream` so far.
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
  cudaEvent_t done_ = nullptr;     // recorded in stream_
  cudaEvent_t written_ = nullptr;  // recorded in other streams
  BlasHandle blas_ = nullptr;
  SolverHandle solver_ = nullptr;
  SolverParams params_ = nullptr;
  std::mutex blas_mutex_;
  std::mutex solver_mutex_;
  std::mutex written_mutex_;
};

/// Makes a device current for this thread, and restores the previous one when destroyed.
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

/// The Context of this thread's Session.
Context& current();

/// If not null and *skip_flag != 0 on the device, this thread's kernels do nothing; see Watch.
extern FIDFAST_STATIC_TLS thread_local const int* skip_flag;

}  // namespace fidfast::cuda
