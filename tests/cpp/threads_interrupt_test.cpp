// Interrupts and exceptions in parallel loops, long calls and locks, also for the thread sanitizer.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "check.hpp"
#include "core/interrupt.hpp"
#include "core/parallel.hpp"
#include "cpu/tridiagonal.hpp"
#include "streams.hpp"

using namespace fidfast;
using namespace fidfast::oracle;

namespace {

constexpr Index kThreads = 4;

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A call that is cancelled at its poll number `polls`.
class CancelledAt : public Call {
 public:
  explicit CancelledAt(int polls) : Call(true), left_(polls) {}

 private:
  bool poll() override { return --left_ <= 0; }
  int left_;
};

/// Runs work() as a call that is cancelled after about a twentieth of a second.
template <class Work>
void interrupt(Work work) {
  CancelledAt call(1);
  const WorkFor working(&call, true);
  work();
}

}  // namespace

TEST(exceptions_end_parallel_loops) {
  for (Index failing : {0, 7, 99}) {
    std::atomic<Index> calls{0};
    const auto work = [&](Index i) {
      ++calls;
      if (i == failing) throw Failure("piece " + std::to_string(i));
    };
    CHECK_THROWS(parallel_for(100, kThreads, work), Failure, "piece " + std::to_string(failing));
    CHECK(calls >= failing && calls <= 100);
    std::atomic<Index> later{0};
    const auto phases = [&](Index phase, Index i) {
      if (phase == 1) work(i);
      if (phase == 2) ++later;
    };
    CHECK_THROWS(parallel_phases({5, 100, 5}, kThreads, phases), Failure, "piece " + std::to_string(failing));
    CHECK(later == 0);
  }
}

TEST(parallel_loops_are_interrupted_in_all_threads) {
  std::atomic<Index> calls{0};
  const auto count = [&](Index) { ++calls; };
  CHECK_THROWS(interrupt([&] { parallel_for(Index{1} << 60, kThreads, count); }), Interrupted, "");
  const auto in_phases = [&](Index, Index) { ++calls; };
  CHECK_THROWS(interrupt([&] { parallel_phases({3, Index{1} << 60, 3}, kThreads, in_phases); }), Interrupted, "");
  CHECK(calls > 0);
}

TEST(cancelled_calls_of_other_threads_do_not_poll) {
  Call call;
  std::atomic<bool> interrupted{false};
  std::thread thread([&] {
    const WorkFor working(&call);
    try {
      for (;;) check_interrupt();
    } catch (const Interrupted&) {
      interrupted = true;
    }
  });
  call.cancel();
  thread.join();
  CHECK(interrupted);
}

TEST(interrupted_tridiagonalizations_end_all_threads) {
  Random random(1);
  const M rows = random.rows(700, 700);
  std::vector<double> diagonal(700);
  std::vector<double> below(700);
  for (int polls : {1, 2, 3}) {
    CancelledAt call(polls);
    const WorkFor working(&call, true);
    const auto repeat = [&] {
      for (;;) {
        M a = rows;
        tridiagonalize(a, diagonal.data(), below.data(), kThreads);
      }
    };
    CHECK_THROWS(repeat(), Interrupted, "");
  }
}

TEST(an_interrupted_update_changes_nothing) {
  Random random(2);
  const M rows = random.rows(128, 3000);
  FeatureView<double> many = columns_as_features(rows, 0, 3000);
  CpuMoments moments(128, Precision::kFloat32);
  moments.update(columns_as_features(rows, 0, 1500));
  const MomentsState<Cpu> before = moments.state();
  many.n = Index{1} << 23;  // the same row: takes seconds, the first of which are the search for NaN
  many.row_stride = 0;
  for (int polls : {2, 20}) {
    CancelledAt call(polls);
    const WorkFor working(&call, true);
    CHECK_THROWS(moments.update(many), Interrupted, "");
  }
  CHECK(moments.state() == before);
  moments.update(columns_as_features(rows, 1500, 1500));
  CHECK(moments.num_samples() == 3000);
}

TEST(interrupted_routines_end_without_their_caller) {
  struct Arrays {
    std::atomic<bool> go_on{false};
    std::atomic<bool> done{false};
  };
  const auto arrays = std::make_shared<Arrays>();
  const auto wait = [](Arrays& mine) {
    while (!mine.go_on) std::this_thread::yield();
    mine.done = true;
  };
  CHECK_THROWS(interrupt([&] { run_interruptibly(arrays, wait); }), Interrupted, "");
  CHECK(!arrays->done && detail::background_tasks == 1);
  arrays->go_on = true;
  while (detail::background_tasks != 0) std::this_thread::yield();
  CHECK(arrays->done);
  const auto fail = [](Arrays&) { throw Failure("in the thread"); };
  CHECK_THROWS(interrupt([&] { run_interruptibly(arrays, fail); }), Failure, "in the thread");
}

TEST(object_locks_can_be_interrupted_and_do_not_wait_for_themselves) {
  ObjectMutex mutex;
  mutex.lock();
  CHECK_THROWS(mutex.lock(), std::runtime_error, "signal handler");
  std::thread([&] {
    CHECK(!mutex.try_lock());
    CHECK_THROWS(interrupt([&] { mutex.lock(); }), Interrupted, "");
  }).join();
  ++detail::forks;  // as in a child process
  std::thread([&] { CHECK_THROWS(mutex.lock(), std::runtime_error, "forked"); }).join();
  --detail::forks;
  mutex.unlock();
  std::thread([&] {
    mutex.lock();
    mutex.unlock();
  }).join();
}
