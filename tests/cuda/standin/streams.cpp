#include "streams.hpp"

#include <algorithm>
#include <atomic>
#include <map>
#include <utility>

#include "calls.hpp"
#include "devices.hpp"
#include "handles.hpp"
#include "memory.hpp"

namespace standin {
namespace {

constexpr std::uintptr_t kLegacyHandle = 1;
constexpr std::uintptr_t kPerThreadHandle = 2;
// Not a valid address, so that dereferencing a handle crashes.
constexpr std::uintptr_t kFirstHandle = std::uintptr_t{0x00f0} << 48;

Handles<Stream>& stream_handles() {
  static auto* all = new Handles<Stream>("stream");  // never destroyed: destructors may still use handles
  return *all;
}
Handles<Event>& event_handles() {
  static auto* all = new Handles<Event>("event");  // never destroyed: destructors may still use handles
  return *all;
}

std::vector<Point> points_at_next_wait;
std::vector<std::shared_ptr<Stream>> streams;  // includes destroyed streams with queued work
std::map<int, std::shared_ptr<Stream>> legacy_streams;
std::map<std::pair<std::uintptr_t, int>, std::shared_ptr<Stream>> thread_streams;
std::uintptr_t handles_given = 0;
int device_of_running_work = -1;

std::uintptr_t this_thread() {
  static std::atomic<std::uintptr_t> threads{0};
  thread_local const std::uintptr_t id = ++threads;
  return id;
}

std::shared_ptr<Stream> new_stream(int device, bool blocking) {
  auto stream = std::make_shared<Stream>();
  stream->device = device;
  stream->blocking = blocking;
  streams.push_back(stream);
  return stream;
}

std::shared_ptr<Stream>& legacy_stream(int device) {
  std::shared_ptr<Stream>& stream = legacy_streams[device];
  if (!stream) {
    stream = new_stream(device, /*blocking=*/false);
    stream->legacy = true;
  }
  return stream;
}

void lose_device(int id, const std::string& reason) {
  keep_reason(reason);
  device(id).lost = cudaErrorLaunchFailure;
  drop_work(id);
}

void run_work(const Stream& stream, const Work& work) {
  const int outer = device_of_running_work;
  device_of_running_work = stream.device;
  try {
    work.run();
  } catch (const Fault& fault) {
    lose_device(stream.device, work.name + ": " + fault.what());
  }
  close_opened();
  device_of_running_work = outer;
}

void run_queue(const Point& point) {
  Stream& stream = *point.stream;
  while (stream.completed < point.ticket) {
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    for (const Point& earlier : work.after) run_queue(earlier);
    // A failure in a stream that it waited for may have lost its device too.
    if (context_error(stream.device) == cudaSuccess) run_work(stream, work);
    stream.completed = std::max(stream.completed, work.ticket);
  }
}

void run_points_at_next_wait() {
  for (const Point& point : std::exchange(points_at_next_wait, {})) run_queue(point);
}

void forget_finished_streams() {
  streams.erase(std::remove_if(streams.begin(), streams.end(),
                               [](const auto& stream) { return stream->destroyed && stream->queue.empty(); }),
                streams.end());
}

}  // namespace

std::uintptr_t new_handle() { return kFirstHandle + 16 * ++handles_given; }

bool Point::reached() const { return !stream || stream->completed >= ticket; }

cudaStream_t create_stream(bool blocking) {
  return static_cast<cudaStream_t>(stream_handles().add(new_stream(current_device(), blocking)));
}

void destroy_stream(cudaStream_t handle) {
  stream_handles().remove(handle)->destroyed = true;
  forget_finished_streams();
}

std::shared_ptr<Stream> stream_of(cudaStream_t handle) {
  const auto number = reinterpret_cast<std::uintptr_t>(handle);
  const int device = current_device();
  if (number == 0 || number == kLegacyHandle) return legacy_stream(device);
  if (number != kPerThreadHandle) return stream_handles().get(handle);
  std::shared_ptr<Stream>& stream = thread_streams[{this_thread(), device}];
  if (!stream) stream = new_stream(device, /*blocking=*/true);
  return stream;
}

std::shared_ptr<Stream> stream_of_current_device(cudaStream_t handle) {
  std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream->device != current_device())
    throw Misuse(text("a stream of device ", stream->device, " while device ", current_device(), " is current"),
                 cudaErrorInvalidResourceHandle);
  return stream;
}

Point enqueue(const std::shared_ptr<Stream>& stream, const std::string& name, std::function<void()> run,
              std::vector<Point> after) {
  const auto wait_for = [&](const std::shared_ptr<Stream>& other) {
    if (!other->queue.empty()) after.push_back({other, other->issued});
  };
  if (stream->legacy) {
    for (const auto& other : streams)
      if (other->blocking && other->device == stream->device) wait_for(other);
  } else if (stream->blocking) {
    wait_for(legacy_stream(stream->device));
  }
  stream->queue.push_back({name, std::move(run), std::move(after), ++stream->issued});
  return {stream, stream->issued};
}

bool has_pending_work(const Stream& stream) {
  if (!stream.queue.empty()) return true;
  return stream.legacy && std::any_of(streams.begin(), streams.end(), [&](const auto& other) {
           return other->blocking && other->device == stream.device && !other->queue.empty();
         });
}

long pending_work() {
  std::size_t count = 0;
  for (const auto& stream : streams) count += stream->queue.size();
  return static_cast<long>(count);
}

cudaError_t run_until(const Point& point) {
  run_points_at_next_wait();
  if (!point.stream) return cudaSuccess;
  run_queue(point);
  forget_finished_streams();
  return context_error(point.stream->device);
}

cudaError_t run_stream(const std::shared_ptr<Stream>& stream) {
  // Waiting for the legacy stream counts as work in it, after the work of all blocking streams.
  if (stream->legacy) enqueue(stream, "wait", [] {});
  return run_until({stream, stream->issued});
}

cudaError_t run_device(int device) {
  run_points_at_next_wait();
  // The newest first, so that work fails if it depends on the order of calls without synchronisation.
  const std::vector<std::shared_ptr<Stream>> all(streams.rbegin(), streams.rend());
  for (const auto& stream : all)
    if (stream->device == device) run_queue({stream, stream->issued});
  forget_finished_streams();
  return context_error(device);
}

void run_at_next_wait(const Point& point) { points_at_next_wait.push_back(point); }

void drop_work(int device) {
  for (const auto& stream : streams) {
    if (stream->device != device) continue;
    stream->queue.clear();
    stream->completed = stream->issued;
  }
  settle_allocations(device);
}

cudaEvent_t create_event() {
  auto event = std::make_shared<Event>();
  event->device = current_device();
  return static_cast<cudaEvent_t>(event_handles().add(std::move(event)));
}

void destroy_event(cudaEvent_t handle) { event_handles().remove(handle); }
std::shared_ptr<Event> event_of(cudaEvent_t handle) { return event_handles().get(handle); }
int running_device() { return device_of_running_work; }

}  // namespace standin
