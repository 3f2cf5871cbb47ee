// What every API function of the stand-in goes through: one lock, the log, the injected failures, the reasons kept
// for the test.
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

// A call that breaks the rules: it does nothing, returns its library's error, and its reason is kept for the test.
class Misuse : public std::runtime_error {
 public:
  explicit Misuse(const std::string& reason, cudaError_t error = cudaErrorInvalidValue)
      : std::runtime_error(reason), error_(error) {}
  cudaError_t error() const { return error_; }

 private:
  cudaError_t error_;
};

// Queued work that breaks the rules while it runs: its device is lost, as after an illegal address on a real one.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Held for the whole of every call. Kernels run under it and need Python's lock, so a thread that has Python's lock
// gives it away while it waits for this one: neither then waits for the other for ever.
class Lock {
 public:
  Lock();
  ~Lock();
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

// The three functions of CPython's API that Lock needs; the stand-in itself does not know Python.
struct PythonLock {
  int (*held)() = nullptr;
  void* (*release)() = nullptr;
  void (*acquire)(void*) = nullptr;
};
void set_python_lock(const PythonLock& functions);

enum class Library { kRuntime, kBlas, kSolver };

enum class Kind {
  kOrdinary,
  kAllocates,  // fails with "out of memory" when a test makes it fail
  kReleases,   // releases even when a test makes it fail, or its device is lost
  kWaits,      // made to fail by a test, it loses what is queued on the current device, as a real failure does
  kNoContext,  // works although the current device is lost
  kNoDriver,   // works although there is no driver
};

struct Call {
  const char* name;
  Kind kind = Kind::kOrdinary;
  cudaStream_t stream = nullptr;  // for the log
  int device = -1;                // whose loss makes the call fail; -1: the current device
};

// The status that the call has to return without doing its work, or 0.
int begin_call(Library library, const Call& call);
// Keeps the reason; the status of the library's "invalid value".
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

// For the functions of the runtime; `body` returns a cudaError_t.
template <class Body>
cudaError_t runtime_call(const Call& call, const Body& body) {
  return static_cast<cudaError_t>(guarded(Library::kRuntime, call, [&] { return static_cast<int>(body()); }));
}

void keep_reason(const std::string& reason);
const std::string& kept_reasons();  // one a line
const std::string& logged_calls();  // "name device stream" a line
void clear_log();
void clear_reasons();

// The `count`-th call from now fails with `status` (-1: as that call fails in its own library); 0: none will.
void fail_call(long count, int status);
bool failure_is_waiting();
// The harness's own calls are neither logged nor counted nor made to fail.
void leave_out_calls(int change);
bool calls_are_left_out();

// Microseconds that a call of the libraries takes at least, so that threads meet in them.
std::atomic<long>& library_pause();

cudaError_t& last_error();  // of this thread

// How many objects of a kind are alive, for tests of leaks; those of calls that are left out do not count.
void count_live(const std::string& kind, int change);
long live_objects(const std::string& kind);

}  // namespace standin
