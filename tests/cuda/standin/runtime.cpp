// libcudart: devices, errors, streams and events.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

#include "calls.hpp"
#include "devices.hpp"
#include "handles.hpp"
#include "streams.hpp"

using namespace standin;

namespace {

constexpr int kRuntimeVersion = CUDART_VERSION;

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* sentence;
};
constexpr ErrorText kErrorTexts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const ErrorText* text_of(cudaError_t error) {
  for (const ErrorText& candidate : kErrorTexts)
    if (candidate.error == error) return &candidate;
  return nullptr;
}

template <class Value>
Value& out(Value* pointer, const char* what) {
  if (pointer == nullptr) throw Misuse(text(what, " is null"));
  return *pointer;
}

}  // namespace

extern "C" {

// Devices

cudaError_t cudaDriverGetVersion(int* version) {
  return runtime_call({__func__, Kind::kNoDriver}, [&] {
    out(version, "version") = driver_version();
    return cudaSuccess;
  });
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  return runtime_call({__func__, Kind::kNoDriver}, [&] {
    out(version, "version") = kRuntimeVersion;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceCount(int* count) {
  return runtime_call({__func__, Kind::kNoContext}, [&] {
    out(count, "count") = device_count();
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* id) {
  return runtime_call({__func__, Kind::kNoContext}, [&] {
    out(id, "device") = current_device();
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int id) {
  return runtime_call({__func__, Kind::kNoContext}, [&] {
    check_device(id);
    set_current_device(id);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int id) {
  return runtime_call({__func__, Kind::kNoContext}, [&] {
    check_device(id);
    const Device& asked = device(id);
    out(value, "value") = attribute == cudaDevAttrComputeCapabilityMajor             ? asked.major
                          : attribute == cudaDevAttrComputeCapabilityMinor           ? asked.minor
                          : attribute == cudaDevAttrMultiProcessorCount              ? asked.multiprocessors
                          : attribute == cudaDevAttrSingleToDoublePrecisionPerfRatio ? asked.single_to_double_ratio
                                                                                     : 0;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int id) {
  return runtime_call({__func__, Kind::kNoContext}, [&] {
    check_device(id);
    const Device& asked = device(id);
    cudaDeviceProp& answer = out(properties, "properties");
    answer = cudaDeviceProp{};
    std::snprintf(answer.name, sizeof answer.name, "Stand-in %d", id);
    answer.totalGlobalMem = asked.capacity;
    answer.major = asked.major;
    answer.minor = asked.minor;
    answer.multiProcessorCount = asked.multiprocessors;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return runtime_call({__func__, Kind::kWaits}, [] { return run_device(current_device()); });
}

// Errors

cudaError_t cudaGetLastError() {
  const Lock lock;
  const cudaError_t error = cudaPeekAtLastError();
  last_error() = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const Lock lock;
  // The error of a lost device is not cleared.
  const cudaError_t lost = context_error(current_device());
  return lost != cudaSuccess ? lost : last_error();
}

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* found = text_of(error);
  return found != nullptr ? found->name : "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* found = text_of(error);
  return found != nullptr ? found->sentence : "unrecognized error code";
}

// Streams

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return runtime_call({__func__, Kind::kAllocates}, [&] {
    out(stream, "stream") = create_stream(/*blocking=*/true);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  return runtime_call({__func__, Kind::kAllocates}, [&] {
    if ((flags & ~unsigned{cudaStreamNonBlocking}) != 0) throw Misuse(text("unknown flags ", flags));
    out(stream, "stream") = create_stream((flags & cudaStreamNonBlocking) == 0);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return runtime_call({__func__, Kind::kReleases, stream}, [&] {
    destroy_stream(stream);
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return runtime_call({__func__, Kind::kWaits, stream}, [&] { return run_stream(stream_of(stream)); });
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return runtime_call({__func__, Kind::kOrdinary, stream},
                      [&] { return has_pending_work(*stream_of(stream)) ? cudaErrorNotReady : cudaSuccess; });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags) {
  return runtime_call({__func__, Kind::kOrdinary, stream}, [&] {
    if (flags != 0) throw Misuse(text("unknown flags ", flags));
    const auto waiting = stream_of(stream);
    const Point point = event_of(event)->point;
    if (point.stream) enqueue(waiting, "wait", [] {}, {point});
    return cudaSuccess;
  });
}

// Events

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return runtime_call({__func__, Kind::kAllocates}, [&] {
    out(event, "event") = create_event();
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  return runtime_call({__func__, Kind::kAllocates}, [&] {
    constexpr unsigned kKnown = cudaEventBlockingSync | cudaEventDisableTiming;
    if ((flags & ~kKnown) != 0) throw Misuse(text("unknown flags ", flags));
    out(event, "event") = create_event();
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return runtime_call({__func__, Kind::kOrdinary, stream}, [&] {
    const auto recorded = event_of(event);
    const auto recording = stream_of(stream);
    if (recorded->device != recording->device)
      throw Misuse(text("an event of device ", recorded->device, " in a stream of device ", recording->device),
                   cudaErrorInvalidResourceHandle);
    recorded->point = enqueue(recording, "record", [] {});
    return cudaSuccess;
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return runtime_call({__func__}, [&] { return event_of(event)->point.reached() ? cudaSuccess : cudaErrorNotReady; });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return runtime_call({__func__, Kind::kWaits}, [&] { return run_until(event_of(event)->point); });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return runtime_call({__func__, Kind::kReleases}, [&] {
    destroy_event(event);
    return cudaSuccess;
  });
}

}  // extern "C"
