// Streams are queues, and nothing in a queue runs before a call waits for it. What runs then is what that call has a
// right to: the stream's own work, and what that work was made to wait for; no more, and other streams first.
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

// Everything that was queued on `stream` until `ticket` was given out.
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
  bool legacy = false;   // the default stream that waits for blocking streams, and they for it
  bool blocking = true;  // with respect to the legacy stream
  bool destroyed = false;
  std::deque<Work> queue;
  std::uint64_t issued = 0;
  std::uint64_t completed = 0;
};

struct Event {
  int device = 0;
  Point point;  // no stream: never recorded
};

cudaStream_t create_stream(bool blocking);
void destroy_stream(cudaStream_t handle);
// 0 and 1: the legacy default stream of the current device; 2: the thread's own; throws Misuse for a dead handle.
std::shared_ptr<Stream> stream_of(cudaStream_t handle);
// As before, and throws Misuse where the stream is not the current device's.
std::shared_ptr<Stream> stream_of_current_device(cudaStream_t handle);

Point enqueue(const std::shared_ptr<Stream>& stream, const std::string& name, std::function<void()> run,
              std::vector<Point> after = {});

bool has_pending_work(const Stream& stream);  // of its own, or that it waits for as the legacy stream
long pending_work();                          // in all streams

// Each returns what the waiting call returns: the error of the device whose work failed, if any.
cudaError_t run_until(const Point& point);
cudaError_t run_stream(const std::shared_ptr<Stream>& stream);
cudaError_t run_device(int device);
// Before whatever the next waiting call runs.
void run_at_next_wait(const Point& point);
// What is queued on a device never runs.
void drop_work(int device);

cudaEvent_t create_event();
void destroy_event(cudaEvent_t handle);
std::shared_ptr<Event> event_of(cudaEvent_t handle);

// The device whose kernel runs now; -1: none.
int running_device();

}  // namespace standin
