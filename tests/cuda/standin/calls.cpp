#include "calls.hpp"

#include <map>
#include <mutex>

#include "devices.hpp"
#include "streams.hpp"

namespace standin {
namespace {

constexpr int kBlasNotInitialized = 1;
constexpr int kBlasInvalidValue = 7;
constexpr int kBlasExecutionFailed = 13;
constexpr int kBlasInternalError = 14;
constexpr int kSolverNotInitialized = 1;
constexpr int kSolverInvalidValue = 3;
constexpr int kSolverExecutionFailed = 6;
constexpr int kSolverInternalError = 7;

std::recursive_mutex mutex;
PythonLock python_lock;
std::string reasons;
std::string log;
std::map<std::string, long> live;
long calls_until_failure = 0;
int failure_status = -1;
std::atomic<long> pause{0};
thread_local int calls_left_out = 0;
thread_local cudaError_t last_error_of_thread = cudaSuccess;

int of_library(Library library, int runtime, int blas, int solver) {
  return library == Library::kRuntime ? runtime : library == Library::kBlas ? blas : solver;
}

int injected_status(Library library, Kind kind) {
  if (failure_status >= 0) return failure_status;
  const cudaError_t runtime = kind == Kind::kAllocates ? cudaErrorMemoryAllocation : cudaErrorUnknown;
  return of_library(library, runtime, kBlasInternalError, kSolverInternalError);
}

}  // namespace

Lock::Lock() {
  if (mutex.try_lock()) return;
  if (python_lock.held != nullptr && python_lock.held() != 0) {
    void* thread = python_lock.release();
    mutex.lock();
    // Another thread that waits for the mutex releases the GIL while it waits.
    python_lock.acquire(thread);
  } else {
    mutex.lock();
  }
}

Lock::~Lock() { mutex.unlock(); }

void set_python_lock(const PythonLock& functions) { python_lock = functions; }

int begin_call(Library library, const Call& call) {
  if (calls_left_out == 0) {
    log += text(call.name, ' ', current_device(), ' ', reinterpret_cast<std::uintptr_t>(call.stream), '\n');
    if (calls_until_failure == 1) {
      calls_until_failure = 0;
      if (call.kind == Kind::kWaits) drop_work(current_device());
      return injected_status(library, call.kind);
    }
    if (calls_until_failure > 1) --calls_until_failure;
  }
  if (call.kind == Kind::kNoDriver) return 0;
  if (const cudaError_t error = driver_error(); error != cudaSuccess)
    return of_library(library, error, kBlasNotInitialized, kSolverNotInitialized);
  if (call.kind == Kind::kNoContext) return 0;
  if (const cudaError_t error = context_error(call.device < 0 ? current_device() : call.device); error != cudaSuccess)
    return of_library(library, error, kBlasExecutionFailed, kSolverExecutionFailed);
  return 0;
}

int refuse_call(Library library, const Call& call, const Misuse& misuse) {
  keep_reason(text(call.name, ": ", misuse.what()));
  return of_library(library, misuse.error(), kBlasInvalidValue, kSolverInvalidValue);
}

int end_call(Library library, int status) {
  if (library == Library::kRuntime && status != 0 && calls_left_out == 0)
    last_error_of_thread = static_cast<cudaError_t>(status);
  return status;
}

void keep_reason(const std::string& reason) { reasons += reason + '\n'; }
const std::string& kept_reasons() { return reasons; }
const std::string& logged_calls() { return log; }
void clear_log() { log.clear(); }
void clear_reasons() { reasons.clear(); }

void fail_call(long count, int status) {
  calls_until_failure = count;
  failure_status = status;
}

bool failure_is_waiting() { return calls_until_failure > 0; }
void leave_out_calls(int change) { calls_left_out += change; }
std::atomic<long>& library_pause() { return pause; }
cudaError_t& last_error() { return last_error_of_thread; }

void count_live(const std::string& kind, int change) {
  if (calls_left_out == 0) live[kind] += change;
}

bool calls_are_left_out() { return calls_left_out != 0; }
long live_objects(const std::string& kind) { return live[kind]; }

}  // namespace standin
