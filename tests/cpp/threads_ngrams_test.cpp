// Concurrent use of one NgramCounts; each call uses several threads itself.
#include <atomic>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "core/ngrams/counting.hpp"
#include "core/ngrams/ngrams.hpp"
#include "texts.hpp"

using namespace fidfast;
using namespace fidfast::oracle;

namespace {

void at_once(const std::vector<std::function<void()>>& work) {
  std::vector<std::thread> threads;
  threads.reserve(work.size());
  for (const auto& piece : work) threads.emplace_back(piece);
  for (std::thread& thread : threads) thread.join();
}

void add(NgramCounts& counts, const std::vector<std::string>& texts, Index threads) {
  counts.add(tally_of(counts.n(), counts.level(), texts, threads), threads);
}

}  // namespace

TEST(concurrent_updates_merges_and_reads_lose_no_ngram) {
  std::mt19937_64 random(1);
  // More than a piece for each of two threads.
  const std::vector<std::string> texts{
      random_text<std::string>(random, static_cast<std::size_t>(2 * kPiece) + 1000, ' ', 20)};
  for (const NgramLevel level : {NgramLevel::kChar, NgramLevel::kWord}) {
    NgramCounts once(3, level);
    add(once, texts, 1);
    NgramCounts counts(3, level);
    add(counts, texts, 2);
    CHECK(counts.equals(once));
    std::atomic<int> wrong{0};
    at_once({
        [&] { add(counts, texts, 2); },
        [&] { add(counts, texts, 3); },
        [&] { counts.merge(once); },
        [&] {
          for (int look = 0; look < 5; ++look) {
            if (ngram_jsd(counts, once) != 0) ++wrong;  // always a multiple of the same counts
            if (NgramCounts(counts).read([](const NgramTally& tally) { return tally.most_common(3).counts.size(); }) !=
                3) {
              ++wrong;
            }
          }
        },
    });
    CHECK(wrong == 0);
    NgramCounts expected(3, level);
    for (int turn = 0; turn < 4; ++turn) expected.merge(once);
    CHECK(counts.equals(expected));
  }
}

TEST(merging_into_each_other_does_not_deadlock) {
  NgramCounts a(2, NgramLevel::kWord);
  NgramCounts b(2, NgramLevel::kWord);
  add(a, {"to be or not to be"}, 1);
  add(b, {"to be that is the question"}, 1);
  const auto merge = [](NgramCounts& mine, const NgramCounts& other) {
    for (int turn = 0; turn < 100; ++turn) {
      mine.merge(other);
      mine.equals(other);
      mine.reset();
    }
  };
  at_once({[&] { merge(a, b); }, [&] { merge(b, a); }});
  CHECK(a.read([](const NgramTally& tally) { return tally.num_ngrams(); }) == 0);
}

TEST(parallel_for_rethrows_after_all_threads_have_ended) {
  std::atomic<int> running{0};
  const auto work = [&](Index i) {
    ++running;
    std::this_thread::yield();
    --running;
    if (i == 7) throw std::runtime_error("seven");
  };
  for (const Index threads : {1, 4}) {
    CHECK_THROWS(parallel_for(100, threads, work), std::runtime_error, "seven");
    CHECK(running == 0);
  }
}
