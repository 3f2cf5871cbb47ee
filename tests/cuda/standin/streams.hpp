// Streams are queues. Queued work runs only when a call waits for it: the work of that stream and the work that it
// depends on, in other streams first.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace standin {

struct Stream;

// All work queued on `stream` before `ticket`.
struct Point {
  std::shared_ptr<Stream> stream;
  std::uint64_t ticket = 0;
  bool reached() const;
};

struct Work {
  std::string name;
  std::function<void()> run;
  std::vector<Point> after;
  std::uint64_t ticket = 0;
};

struct Stream {
  int device = 0;
  bool legacy = false;   // the legacy default stream, which synchronises with blocking streams
  bool blocking = true;  // with respect to the legacy stream
  bool destroyed = false;
  std::deque<Work> queue;
  std::uint64_t issued = 0;
  std::uint64_t completed = 0;
};

struct Event {
  int device = 0;
  Point point;  // without a stream if never recorded
};

cudaStream_t create_stream(bool blocking);
void destroy_stream(cudaStream_t handle);
// 0 and 1: the legacy default stream of the current device; 2: the per-thread stream. Throws Misuse for invalid
// handles.
std::shared_ptr<Stream> stream_of(cudaStream_t handle);
// The same, and throws Misuse if the stream is not on the current device.
std::shared_ptr<Stream> stream_of_current_device(cudaStream_t handle);

Point enqueue(const std::shared_ptr<Stream>& stream, const std::string& name, std::function<void()> run,
              std::vector<Point> after = {});

bool has_pending_work(const Stream& stream);  // its own work, or work that the legacy stream waits for
long pending_work();                          // in all streams

// Each returns the status of the waiting call: the error of the device whose work failed, if any.
cudaError_t run_until(const Point& point);
cudaError_t run_stream(const std::shared_ptr<Stream>& stream);
cudaError_t run_device(int device);
// Runs before the work of the next waiting call.
void run_at_next_wait(const Point& point);
// Drops the queued work of a device.
void drop_work(int device);

cudaEvent_t create_event();
void destroy_event(cudaEvent_t handle);
std::shared_ptr<Event> event_of(cudaEvent_t handle);

// The device of the running kernel; -1: none.
int running_device();

}  // namespace standin
