#include "cuda/context.hpp"

#include <map>
#include <memory>

namespace fidfast::cuda {

FIDFAST_STATIC_TLS thread_local const int* skip_flag = nullptr;

namespace {

FIDFAST_STATIC_TLS thread_local Context* context_of_thread = nullptr;

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // clear it, or a later call would return it again
  const std::string text = std::string(what) + ": " + cudaGetErrorName(status) + ": " + cudaGetErrorString(status);
  if (status == cudaErrorMemoryAllocation) throw OutOfMemory(text);
  throw Error(text);
}

namespace {

void check_library(int status, int out_of_memory, const char* what) {
  if (status == kSuccess) return;
  const std::string text = std::string(what) + " failed with status " + std::to_string(status);
  if (status == out_of_memory) throw OutOfMemory(text + ": the GPU is out of memory");
  throw Error(text);
}

}  // namespace

void check_blas(int status, const char* what) { check_library(status, kBlasOutOfMemory, what); }
void check_solver(int status, const char* what) { check_library(status, kSolverOutOfMemory, what); }

int device_count(std::string* why) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  (void)cudaGetLastError();
  if (why == nullptr) return 0;
  int driver = 0;
  int runtime = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  if (status == cudaErrorInsufficientDriver && driver == 0) {
    *why = "no driver";
  } else if (status == cudaErrorInsufficientDriver) {
    *why =
        "driver too old: it supports CUDA " + version_text(driver) + ", but this build needs " + version_text(runtime);
  } else if (status == cudaSuccess || status == cudaErrorNoDevice) {
    *why = "the driver finds none";
  } else {
    *why = cudaGetErrorString(status);
  }
  return 0;
}

void require_device(int device) {
  std::string why;
  const int count = device_count(&why);
  if (count == 0) throw Error("no CUDA device: " + why);
  if (device < 0 || device >= count) {
    throw Error("no CUDA device " + std::to_string(device) + ": there are " + std::to_string(count));
  }
}

bool is_slow_in_double(int device) {
  int single_to_double = 0;
  check(cudaDeviceGetAttribute(&single_to_double, cudaDevAttrSingleToDoublePrecisionPerfRatio, device),
        "cudaDeviceGetAttribute");
  return single_to_double >= 16;
}

Context& Context::of(int device) {
  static std::mutex mutex;
  // Never destroyed: at exit the driver may be unloaded first.
  static auto& contexts = *new std::map<int, std::unique_ptr<Context>>;
  const std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<Context>& kept = contexts[device];
  if (!kept) {
    std::unique_ptr<Context> made(new Context(device));
    try {
      made->open();
    } catch (...) {
      made->close();
      throw;
    }
    kept = std::move(made);
  }
  return *kept;
}

void Context::open() {
  const Libraries& library = libraries();
  slow_in_double_ = cuda::is_slow_in_double(device_);
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  check(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming), "cudaEventCreate");
  check(cudaEventCreateWithFlags(&written_, cudaEventDisableTiming), "cudaEventCreate");
  check_blas(library.cublasCreate_v2(&blas_), "cublasCreate");
  check_blas(library.cublasSetStream_v2(blas_, stream_), "cublasSetStream");
  check_solver(library.cusolverDnCreate(&solver_), "cusolverDnCreate");
  check_solver(library.cusolverDnSetStream(solver_, stream_), "cusolverDnSetStream");
  check_solver(library.cusolverDnCreateParams(&params_), "cusolverDnCreateParams");
}

void Context::close() noexcept {
  if (params_ != nullptr) (void)libraries().cusolverDnDestroyParams(params_);
  if (solver_ != nullptr) (void)libraries().cusolverDnDestroy(solver_);
  if (blas_ != nullptr) (void)libraries().cublasDestroy_v2(blas_);
  if (written_ != nullptr) (void)cudaEventDestroy(written_);
  if (done_ != nullptr) (void)cudaEventDestroy(done_);
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

void Context::synchronize() { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

// Threads may share the event: if another one records it meanwhile, it includes later work of the same stream.
void Context::make_wait(cudaStream_t stream) {
  check(cudaEventRecord(done_, stream_), "cudaEventRecord");
  check(cudaStreamWaitEvent(stream, done_, 0), "cudaStreamWaitEvent");
}

void Context::wait_for(cudaStream_t stream) {
  const std::lock_guard<std::mutex> lock(written_mutex_);  // otherwise this could wait for another thread's stream
  check(cudaEventRecord(written_, stream), "cudaEventRecord");
  check(cudaStreamWaitEvent(stream_, written_, 0), "cudaStreamWaitEvent");
}

Session::Session(int device) : before_(context_of_thread) {
  require_device(device);
  int current_device = 0;
  check(cudaGetDevice(&current_device), "cudaGetDevice");
  if (current_device != device) {
    check(cudaSetDevice(device), "cudaSetDevice");
    device_before_ = current_device;
  }
  try {
    context_of_thread = &Context::of(device);
  } catch (...) {
    if (device_before_ >= 0) (void)cudaSetDevice(device_before_);
    throw;
  }
}

Session::~Session() {
  context_of_thread = before_;
  if (device_before_ >= 0 && cudaSetDevice(device_before_) != cudaSuccess) (void)cudaGetLastError();
}

Context& current() {
  if (context_of_thread == nullptr) throw Error("GPU work outside of a Session");
  return *context_of_thread;
}

}  // namespace fidfast::cuda
