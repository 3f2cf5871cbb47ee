#include "cpu/lapack.hpp"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace fidfast::lapack {

namespace detail {
Routines<std::int32_t> narrow;
Routines<std::int64_t> wide;
IntegerWidth width = IntegerWidth::k32;
}  // namespace detail

namespace {

template <class Table>
void fill(Table& table, const Lookup& lookup){
#define FIDFAST_LOOKUP(module, name, arguments) \
  table.name.pointer = reinterpret_cast<decltype(table.name.pointer)>(lookup(#module, #name));
    FIDFAST_ROUTINES(FIDFAST_LOOKUP)
#undef FIDFAST_LOOKUP
}

std::atomic<int> routines {
  0
};  // that are running
std::atomic<bool> forking{false};

void sleep_shortly() { std::this_thread::sleep_for(std::chrono::microseconds(200)); }

void before_fork() {
  forking = true;
  while (routines != 0) sleep_shortly();
}
void after_fork() { forking = false; }

}  // namespace

NoFork::NoFork() {
  ++routines;
  while (forking) {
    --routines;
    while (forking) sleep_shortly();
    ++routines;
  }
}
NoFork::~NoFork() { --routines; }

void load(const Lookup& lookup, IntegerWidth width) {
  if (width == IntegerWidth::k64) {
    fill(detail::wide, lookup);
  } else {
    fill(detail::narrow, lookup);
  }
  detail::width = width;
  // After OpenBLAS, so that before_fork() runs before what OpenBLAS does.
  pthread_atfork(&before_fork, &after_fork, &after_fork);
}

}  // namespace fidfast::lapack
