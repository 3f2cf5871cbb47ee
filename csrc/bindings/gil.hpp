// Calls without the GIL: signals, the end of the process, and fork.
#pragma once

#include <pybind11/pybind11.h>

#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif
#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <utility>

#include "core/interrupt.hpp"

namespace fidfast::bindings {

namespace py = pybind11;

class WithoutGil;

/// Blocks this thread until the process ends, as Python 3.14 does with threads that need the GIL too late. Older
/// versions end such a thread by an exception that passes through the frames of C++, and destructors that touch Python
/// objects then run without the GIL.
[[noreturn]] inline void hang() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

/// Calls work(), which may run any Python code, and returns its result. It must not own Python objects.
template <class Work>
auto run_python(Work work) {
#ifdef __GLIBCXX__
  try {
    return work();
  } catch (abi::__forced_unwind&) {  // the interpreter ends this thread
    hang();
  }
#else
  return work();
#endif
}

/// function(**options).
inline py::object call_python(const py::handle& function, const py::dict& options = {}) {
  const py::tuple none;
  PyObject* const result = run_python([&] { return PyObject_Call(function.ptr(), none.ptr(), options.ptr()); });
  if (result == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

inline py::object import_python(const char* name) {
  PyObject* const module = run_python([&] { return PyImport_ImportModule(name); });
  if (module == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(module);
}

/// The calls of this process that run without the GIL.
struct RunningCalls {
  std::mutex mutex;
  std::condition_variable changed;
  WithoutGil* first = nullptr;  // a list
  int returning = 0;            // calls that are about to hold the GIL again
  bool closing = false;         // Python is about to end: only `closer` may still hold the GIL
  std::thread::id closer;

  bool is_late() const { return closing && std::this_thread::get_id() != closer; }
  bool at_rest() const { return first == nullptr && detail::background_tasks == 0; }
};

/// A pointer, since a forked child needs new ones: the mutex may be locked by a thread that it does not have.
inline RunningCalls* running_calls = new RunningCalls;
inline unsigned long main_thread = 0;  // as PyThread_get_thread_ident() returns it

/// Releases the GIL while it exists. check_interrupt() then runs Python's signal handlers if this is the main thread.
class WithoutGil : Call {
 public:
  WithoutGil() : Call(PyThread_get_thread_ident() == main_thread), work_for_(this, true), state_(PyEval_SaveThread()) {
    RunningCalls& calls = *running_calls;
    std::unique_lock<std::mutex> lock(calls.mutex);
    if (calls.is_late()) {
      lock.unlock();
      hang();
    }
    next_ = calls.first;
    if (next_ != nullptr) next_->previous_ = this;
    calls.first = this;
  }

  ~WithoutGil() override {
    RunningCalls& calls = *running_calls;
    {
      std::unique_lock<std::mutex> lock(calls.mutex);
      remove(calls);
      if (calls.is_late()) {
        lock.unlock();
        calls.changed.notify_all();
        hang();
      }
      ++calls.returning;
    }
    PyEval_RestoreThread(state_);
    {
      const std::lock_guard<std::mutex> lock(calls.mutex);
      --calls.returning;
    }
    calls.changed.notify_all();
  }

  /// Before Python ends: cancels all calls, and waits until no other thread will ask for the GIL, and for a short time
  /// until the calls have ended. From then on other threads wait for the end of the process instead of the GIL.
  static void close() {
    PyThreadState* const state = PyEval_SaveThread();
    RunningCalls& calls = *running_calls;
    {
      std::unique_lock<std::mutex> lock(calls.mutex);
      calls.closing = true;
      calls.closer = std::this_thread::get_id();
      for (WithoutGil* call = calls.first; call != nullptr; call = call->next_) call->cancel();
      calls.changed.wait(lock, [&] { return calls.returning == 0; });
      // Tasks in the background do not notify.
      constexpr std::chrono::milliseconds kStep{10};
      constexpr int kSteps = 50;
      for (int step = 0; step < kSteps && !calls.at_rest(); ++step) calls.changed.wait_for(lock, kStep);
    }
    PyEval_RestoreThread(state);
  }

 private:
  bool poll() override {
    PyEval_RestoreThread(state_);
    const bool failed = PyErr_CheckSignals() != 0;  // the error stays set until without_gil() throws it
    state_ = PyEval_SaveThread();
    return failed;
  }

  void remove(RunningCalls& calls) {
    if (previous_ != nullptr) previous_->next_ = next_;
    if (next_ != nullptr) next_->previous_ = previous_;
    if (calls.first == this) calls.first = next_;
  }

  WorkFor work_for_;
  PyThreadState* state_;
  WithoutGil* previous_ = nullptr;
  WithoutGil* next_ = nullptr;
};

/// Runs work() without the GIL. If a signal handler has raised meanwhile, throws its exception.
template <class Work>
auto without_gil(void (*prepare)(), Work work) {
  prepare();
  try {
    const WithoutGil released;
    return work();
  } catch (...) {  // mostly Interrupted, but another thread of the call may have failed first
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    throw;
  }
}

/// For loops that hold the GIL: runs signal handlers, and lets other threads run.
inline void yield_gil() {
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  const WithoutGil released;
}

/// Ends the process without destructors of libraries while a thread still computes: they would free memory that it
/// uses. Python has flushed its files by now.
inline void exit_beneath_calls(int status, void*) {
  if (running_calls->at_rest()) return;
  std::fflush(stdout);
  _exit(status);
}

/// Call once, when the module is imported.
inline void prepare_for_exit() {
  main_thread = py::cast<unsigned long>(py::module_::import("threading").attr("main_thread")().attr("ident"));
  py::module_::import("atexit").attr("register")(py::cpp_function(&WithoutGil::close));
  pthread_atfork(nullptr, nullptr, [] {
    running_calls = new RunningCalls;
    detail::background_tasks = 0;
    ++detail::forks;
    main_thread = PyThread_get_thread_ident();
  });
#ifdef __GLIBC__
  on_exit(&exit_beneath_calls, nullptr);
#endif
}

}  // namespace fidfast::bindings
