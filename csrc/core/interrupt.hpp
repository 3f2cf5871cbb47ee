// Cancellation of long calls: loops call check_interrupt(), which throws Interrupted once their call is cancelled.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

/// For thread-local variables: otherwise each thread allocates them at their first use, and glibc ends the process if
/// that fails. Not with UBSan: in programs, the linker replaces an addition whose flags its null checks test.
#if defined(__GLIBC__) && !defined(__CUDACC__) && !defined(__SANITIZE_ADDRESS__)
#define FIDFAST_STATIC_TLS __attribute__((tls_model("initial-exec")))
#else
#define FIDFAST_STATIC_TLS
#endif

namespace fidfast {

/// The call was cancelled. It changes no object that the caller can see.
struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

/// A call that can be cancelled: from any thread by cancel(), or by poll(), which runs in the thread of the call at
/// most every kInterval and returns whether to cancel.
class Call {
 public:
  Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  virtual ~Call() = default;

  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  /// Throws Interrupted if the call was cancelled. Only its own thread may poll.
  void check(bool may_poll) {
    if (may_poll && polls_ && Clock::now() >= next_poll_) poll_now();
    if (cancelled_.load(std::memory_order_relaxed)) throw Interrupted();
  }

 protected:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kInterval{50};

  explicit Call(bool polls) : polls_(polls) {}
  virtual bool poll() { return false; }

 private:
  void poll_now() {
    const auto start = Clock::now();
    if (poll()) cancel();
    // A poll may have to wait for a lock: spend at most a twentieth of the time on it.
    const auto end = Clock::now();
    next_poll_ =
        end + std::min<Clock::duration>(std::max<Clock::duration>(kInterval, 20 * (end - start)), 10 * kInterval);
  }

  std::atomic<bool> cancelled_{false};
  bool polls_ = false;
  Clock::time_point next_poll_ = Clock::now() + kInterval;
};

namespace detail {

/// The call that a thread works for.
struct CurrentCall {
  Call* call = nullptr;
  bool may_poll = false;
};
FIDFAST_STATIC_TLS inline thread_local CurrentCall current_call;

/// Tasks of run_interruptibly() that have not ended.
inline std::atomic<std::int64_t> background_tasks{0};

/// Number of forks between the first process and this one.
inline int forks = 0;

}  // namespace detail

/// While it exists, this thread works for the given call.
class WorkFor {
 public:
  explicit WorkFor(Call* call, bool may_poll = false) : before_(detail::current_call) {
    detail::current_call = {call, may_poll};
  }
  ~WorkFor() { detail::current_call = before_; }
  WorkFor(const WorkFor&) = delete;
  WorkFor& operator=(const WorkFor&) = delete;

 private:
  detail::CurrentCall before_;
};

/// While it exists, check_interrupt() does nothing in this thread and in the parallel loops that it starts: for changes
/// of an object that must be complete.
struct NoInterrupts : WorkFor {
  NoInterrupts() : WorkFor(nullptr) {}
};

/// Throws Interrupted if the call that this thread works for was cancelled. Takes about 30 ns.
inline void check_interrupt() {
  const detail::CurrentCall& current = detail::current_call;
  if (current.call != nullptr) current.call->check(current.may_poll);
}

/// check_interrupt() for every 64th step of a loop whose steps are short.
inline void check_interrupt_at(std::int64_t step) {
  if (step % 64 == 0) check_interrupt();
}

/// Calls work(*arrays), which must not use anything else, in another thread and waits for it. If this call is cancelled
/// meanwhile, throws at once, and the thread continues without it: for library routines that cannot be interrupted.
template <class Arrays, class Work>
void run_interruptibly(const std::shared_ptr<Arrays>& arrays, Work work) {
  if (detail::current_call.call == nullptr) return work(*arrays);
  struct Outcome {
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    std::exception_ptr failure;
  };
  const auto outcome = std::make_shared<Outcome>();
  const auto run = [arrays, outcome, work] {
    std::exception_ptr failure;
    try {
      work(*arrays);
    } catch (...) {
      failure = std::current_exception();
    }
    {
      const std::lock_guard<std::mutex> lock(outcome->mutex);
      outcome->failure = std::move(failure);
      outcome->done = true;
    }
    outcome->changed.notify_one();
    --detail::background_tasks;
  };
  ++detail::background_tasks;
  try {
    std::thread(run).detach();
  } catch (const std::exception&) {  // no thread or no memory left
    --detail::background_tasks;
    return work(*arrays);
  }
  constexpr std::chrono::milliseconds kStep{20};
  std::unique_lock<std::mutex> lock(outcome->mutex);
  while (!outcome->changed.wait_for(lock, kStep, [&] { return outcome->done; })) {
    lock.unlock();
    check_interrupt();
    lock.lock();
  }
  // Taken away from the thread: it may be the last to release the outcome, while the caller reads the exception.
  if (const std::exception_ptr failure = std::move(outcome->failure)) std::rethrow_exception(failure);
}

/// The lock of an object. lock() can be interrupted, and throws if it would never return: if its own thread holds the
/// lock (a poll may run a signal handler that uses the object), or a thread of the parent process did at fork().
class ObjectMutex {
 public:
  void lock() {
    std::unique_lock<std::mutex> guard(guard_);
    while (!take()) {
      constexpr std::chrono::milliseconds kStep{20};
      freed_.wait_for(guard, kStep);
      guard.unlock();
      check_interrupt();
      guard.lock();
    }
  }
  bool try_lock() {
    const std::lock_guard<std::mutex> guard(guard_);
    return take();
  }
  void unlock() {
    {
      const std::lock_guard<std::mutex> guard(guard_);
      owner_ = std::thread::id();
    }
    freed_.notify_one();
  }

 private:
  bool take() {
    const std::thread::id me = std::this_thread::get_id();
    if (owner_ == me) throw std::runtime_error("a signal handler used an object that the interrupted call had locked");
    if (owner_ != std::thread::id()) {
      if (forks_ == detail::forks) return false;
      throw std::runtime_error("another thread was using the object when this process was forked");
    }
    owner_ = me;
    forks_ = detail::forks;
    return true;
  }

  std::mutex guard_;
  std::condition_variable freed_;
  std::thread::id owner_;
  int forks_ = 0;  // detail::forks when it was locked
};

}  // namespace fidfast
