// Failed allocations: each one in turn fails, nothing changes, and a retry succeeds. This program replaces the global
// operator new by one that fails on demand.
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "core/jackknife.hpp"
#include "streams.hpp"
#include "texts.hpp"

namespace {

/// Number of allocations until one fails; negative for never. For one thread.
long allocations_until_failure = -1;

// Not inline, or compilers would report a mismatch of malloc and free with new and delete.
[[gnu::noinline]] void* allocate(std::size_t size, std::size_t alignment) {
  const bool counting = allocations_until_failure > 0;
  if (counting) --allocations_until_failure;
  if (counting && allocations_until_failure == 0) throw std::bad_alloc();
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, size > 0 ? size : 1) != 0) throw std::bad_alloc();
  return memory;
}

[[gnu::noinline]] void release(void* memory) noexcept { std::free(memory); }

}  // namespace

void* operator new(std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {  // std::stable_sort can do without memory
  try {
    return ::operator new(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

using namespace fidfast;
using namespace fidfast::oracle;

namespace {

/// Whether work() finishes before allocation k, which fails with std::bad_alloc.
template <class Work>
bool succeeds_within(long k, Work work) {
  allocations_until_failure = k;
  try {
    work();
  } catch (const std::bad_alloc&) {
    allocations_until_failure = -1;
    return false;
  } catch (...) {
    allocations_until_failure = -1;
    throw;
  }
  allocations_until_failure = -1;
  return true;
}

/// Calls change(moments) on copies of `before` with each allocation failing in turn; returns their number.
template <class Change>
long check_all_or_nothing(const CpuMoments& before, Change change) {
  CpuMoments expected(before);
  change(expected);
  const CpuMoments::State state_before = before.state();
  const CpuMoments::State state_after = expected.state();
  for (long k = 1;; ++k) {
    CpuMoments moments(before);
    const bool done = succeeds_within(k, [&] { change(moments); });
    CHECK(moments.state() == (done ? state_after : state_before));
    if (!done) change(moments);
    CHECK(moments.state() == state_after);
    if (done) return k - 1;
  }
}

/// Calls make() with each allocation failing in turn, and checks that a retry gives the same result.
template <class Make, class Same>
void check_recovers(Make make, Same same) {
  long k = 1;
  while (!succeeds_within(k, make)) {
    CHECK(same());
    ++k;
  }
  CHECK(same());
  CHECK(k > 1);
}

/// Moments with all combinations of pending and folded rows.
std::vector<std::unique_ptr<CpuMoments>> streams(Index dim, Random& random) {
  std::vector<std::unique_ptr<CpuMoments>> all;
  for (const Index narrow : {0, 20, 1400}) {
    for (const Index wide : {0, 700, 1400}) {
      all.push_back(std::make_unique<CpuMoments>(dim, Precision::kFloat32));
      all.back()->update(view(narrowed(random.matrix(dim, narrow))));
      all.back()->update(view(random.matrix(dim, wide)));
    }
  }
  return all;
}

}  // namespace

TEST(failed_allocation_in_update_changes_nothing) {
  Random random(1);
  long failures = 0;
  for (const Index dim : {8, 512}) {
    for (const Index n : {500, 1100}) {
      const M rows = random.matrix(dim, n);
      const Matrix<Cpu, float> narrow = narrowed(rows);
      std::vector<std::unique_ptr<CpuMoments>> all;
      if (dim == 8) all = streams(dim, random);
      if (dim > 8) all.push_back(std::make_unique<CpuMoments>(moments_of(narrowed(random.matrix(dim, 700)))));
      for (const auto& before : all) {
        failures += check_all_or_nothing(*before, [&](CpuMoments& moments) { moments.update(view(rows)); });
        failures += check_all_or_nothing(*before, [&](CpuMoments& moments) { moments.update(view(narrow)); });
      }
    }
  }
  CHECK(failures > 100);
}

TEST(failed_allocation_in_merge_changes_nothing) {
  Random random(2);
  const auto all = streams(16, random);
  long failures = 0;
  for (const auto& before : all) {
    for (const auto& other : all) {
      failures += check_all_or_nothing(*before, [&](CpuMoments& moments) { moments.merge(*other); });
    }
    failures += check_all_or_nothing(*before, [&](CpuMoments& moments) { moments.merge(moments); });
  }
  CHECK(failures > 100);
}

TEST(failed_allocation_in_unmerge_changes_nothing) {
  Random random(3);
  const CpuMoments part = moments_of(random.matrix(16, 1100));
  long failures = 0;
  for (const auto& stream : streams(16, random)) {
    CpuMoments whole(*stream);
    whole.merge(part);
    failures += check_all_or_nothing(whole, [&](CpuMoments& moments) { moments.unmerge(part); });
  }
  CHECK(failures > 100);
}

TEST(failed_allocation_in_unmerge_of_two_types_changes_nothing) {
  Random random(4);
  CpuMoments part = moments_of(random.matrix(64, 5));
  part.update(view(narrowed(random.matrix(64, 5))));
  CpuMoments whole = moments_of(random.matrix(64, 10));
  whole.update(view(narrowed(random.matrix(64, 10))));
  whole.merge(part);
  CHECK(check_all_or_nothing(whole, [&](CpuMoments& moments) { moments.unmerge(part); }) > 0);
}

TEST(stats_can_be_retried_after_a_failed_allocation) {
  Random random(5);
  for (const auto& moments : streams(32, random)) {
    if (moments->num_samples() == 0) continue;
    const CpuMoments::State state = moments->state();
    const CpuMoments fresh(*moments);  // without scratch memory of earlier calls
    const M expected = moments->stats(1).sigma();
    check_recovers([&] { fresh.stats(1); }, [&] { return fresh.state() == state; });
    CHECK(difference(fresh.stats(1).sigma(), expected) == 0);
  }
}

TEST(distance_can_be_retried_after_a_failed_allocation) {
  Random random(6);
  for (const Index n1 : {10, 200}) {
    for (const Index n2 : {10, 200}) {
      const CpuMoments first = moments_of(random.rows(16, n1));
      const CpuMoments second = moments_of(random.rows(16, n2));
      const Gaussian<Cpu> a = first.stats(1);
      const Gaussian<Cpu> b = second.stats(1);
      const double distance = frechet_terms(first.stats(1), second.stats(1)).distance();
      const M map = transport_map(first.stats(1), second.stats(1));
      check_recovers([&] { frechet_terms(a, b); }, [] { return true; });
      check_recovers([&] { transport_map(a, b); }, [] { return true; });
      CHECK(frechet_terms(a, b).distance() == distance);
      CHECK(difference(transport_map(a, b), map) == 0);
    }
  }
}

TEST(failed_allocation_in_ngram_counts_changes_nothing) {
  std::mt19937_64 random(9);
  std::vector<std::string> first;
  std::vector<std::u32string> second;  // needs a wider layout, new words and larger tables
  for (int i = 0; i < 4; ++i) {
    first.push_back(random_text<std::string>(random, 300, ' ', 20));
    second.push_back(random_text<std::u32string>(random, 300, 0x1f600, 100));
    for (std::size_t j = 0; j < 300; j += 3) second.back()[j] = U' ';
  }
  for (const NgramLevel level : {NgramLevel::kChar, NgramLevel::kWord}) {
    const NgramCounts before(tally_of(4, level, first));
    const NgramCounts other(tally_of(4, level, second));
    NgramCounts after(before);
    after.merge(other);
    const auto check = [&](const std::function<void(NgramCounts&)>& change) {
      for (long k = 1;; ++k) {
        NgramCounts counts(before);
        const bool done = succeeds_within(k, [&] { change(counts); });
        CHECK(counts.equals(done ? after : before));
        if (!done) change(counts);
        CHECK(counts.equals(after));
        if (done) return k - 1;
      }
    };
    CHECK(check([&](NgramCounts& counts) { counts.merge(other); }) > 10);
    CHECK(check([&](NgramCounts& counts) { counts.add(tally_of(4, level, second), 1); }) > 10);
  }
}

TEST(jackknife_can_be_retried_after_a_failed_allocation) {
  Random random(7);
  const M rows = random.rows(16, 200);
  const Gaussian<Cpu> a = moments_of(rows).stats(1);
  const Gaussian<Cpu> b = moments_of(random.rows(16, 300)).stats(1);
  const auto made = [&] { return Jackknife<Cpu>(a, b, {true, false}, Precision::kFloat32, true); };
  const double distance = made().distance();
  check_recovers([&] { made(); }, [&] { return made().distance() == distance; });
  const std::vector<double> expected = made().without(Operand::kFirst, view(rows)).distance;
  for (long k = 1;; ++k) {
    Jackknife<Cpu> jackknife = made();
    const bool done = succeeds_within(k, [&] { jackknife.without(Operand::kFirst, view(rows)); });
    CHECK(jackknife.without(Operand::kFirst, view(rows)).distance == expected);
    if (done) break;
  }
}
