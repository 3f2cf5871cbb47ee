// Common to all API functions of the stand-in: the lock, the log, injected failures, and reasons of errors.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <sstream>
#include <stdexcept>
#include <string>

namespace standin {

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

// A call that breaks the rules. It does nothing and returns an error of its library; the reason is recorded.
class Misuse : public std::runtime_error {
 public:
  explicit Misuse(const std::string& reason, cudaError_t error = cudaErrorInvalidValue)
      : std::runtime_error(reason), error_(error) {}
  cudaError_t error() const { return error_; }

 private:
  cudaError_t error_;
};

// Queued work that breaks the rules when it runs. Its device is lost, as after an illegal address on a GPU.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Held during every call. Kernels run under it and need the GIL, so a thread that holds the GIL releases it while it
// waits for this lock: otherwise both would deadlock.
class Lock {
 public:
  Lock();
  ~Lock();
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

// The three functions of the CPython API that Lock needs. The stand-in does not link to Python.
struct PythonLock {
  int (*held)() = nullptr;
  void* (*release)() = nullptr;
  void (*acquire)(void*) = nullptr;
};
void set_python_lock(const PythonLock& functions);

enum class Library { kRuntime, kBlas, kSolver };

enum class Kind {
  kOrdinary,
  kAllocates,  // an injected failure is "out of memory"
  kReleases,   // releases even after an injected failure, or if its device is lost
  kWaits,      // an injected failure drops the queued work of the current device, as a real one does
  kNoContext,  // works even if the current device is lost
  kNoDriver,   // works without a driver
};

struct Call {
  const char* name;
  Kind kind = Kind::kOrdinary;
  cudaStream_t stream = nullptr;  // for the log
  int device = -1;                // the call fails if this device is lost; -1: the current device
};

// The status that the call must return without doing its work, or 0.
int begin_call(Library library, const Call& call);
// Records the reason. Returns "invalid value" of the library.
int refuse_call(Library library, const Call& call, const Misuse& misuse);
int end_call(Library library, int status);

template <class Body>
int guarded(Library library, const Call& call, const Body& body) {
  const Lock lock;
  const int failure = begin_call(library, call);
  if (failure != 0 && call.kind != Kind::kReleases) return end_call(library, failure);
  int status = 0;
  try {
    status = body();
  } catch (const Misuse& misuse) {
    status = refuse_call(library, call, misuse);
  }
  return end_call(library, failure != 0 ? failure : status);
}

// For functions of the runtime. `body` returns a cudaError_t.
template <class Body>
cudaError_t runtime_call(const Call& call, const Body& body) {
  return static_cast<cudaError_t>(guarded(Library::kRuntime, call, [&] { return static_cast<int>(body()); }));
}

void keep_reason(const std::string& reason);
const std::string& kept_reasons();  // one a line
const std::string& logged_calls();  // "name device stream" a line
void clear_log();
void clear_reasons();

// Makes the `count`-th call from now fail with `status` (-1: the default of its library). 0 cancels the failure.
void fail_call(long count, int status);
bool failure_is_waiting();
// Calls made by tests are not logged, not counted, and do not fail.
void leave_out_calls(int change);
bool calls_are_left_out();

// Minimum duration of library calls in microseconds, to make concurrent calls likely.
std::atomic<long>& library_pause();

cudaError_t& last_error();  // of this thread

// Number of live objects of a kind, for tests of leaks, without those made by tests.
void count_live(const std::string& kind, int change);
long live_objects(const std::string& kind);

}  // namespace standin
