// Concurrent use of one object, also for the thread sanitizer.
#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "check.hpp"
#include "core/jackknife.hpp"
#include "core/neighbours/rounded.hpp"
#include "streams.hpp"

using namespace fidfast;
using namespace fidfast::oracle;

namespace {

constexpr Index kThreads = 4;

/// Runs every function in a separate thread, all at once. An exception there ends the program.
void at_once(const std::vector<std::function<void()>>& work) {
  std::vector<std::thread> threads;
  threads.reserve(work.size());
  for (const auto& piece : work) threads.emplace_back(piece);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST(concurrent_updates_and_reads_lose_no_row) {
  Random random(1);
  const M rows = random.rows(16, 8000, 5);
  CpuMoments moments(16, Precision::kFloat32);
  moments.update(view(columns(rows, 0, 100)));
  std::vector<std::function<void()>> work;
  for (Index thread = 0; thread < kThreads; ++thread) {
    work.emplace_back([&, thread] {
      for (Index first = 100 + thread * 79; first < 8000; first += 79 * kThreads) {
        moments.update(columns_as_features(rows, first, std::min<Index>(79, 8000 - first)));
      }
    });
  }
  std::atomic<Index> seen{0};
  work.emplace_back([&] {
    for (int look = 0; look < 20; ++look) {
      const Gaussian<Cpu> stats = moments.stats(1);
      seen = std::max(seen.load(), stats.num_samples());
      seen = std::max(seen.load(), moments.num_samples());
      CpuMoments copy(moments);
      seen = std::max(seen.load(), copy.state().num_samples());
    }
  });
  at_once(work);
  CHECK(seen >= 100 && seen <= 8000);
  CHECK(moments.num_samples() == 8000);
  CHECK_CLOSE(relative_error(scatter_of(moments.stats(1)), textbook(rows).scatter), 0, kScatterError);
}

TEST(concurrent_merges_lose_no_row) {
  Random random(2);
  const M rows = random.rows(16, 6000);
  const CpuMoments extra = moments_of(random.rows(16, 1500, 3));
  CpuMoments total(16, Precision::kFloat32);
  std::vector<std::function<void()>> work;
  for (Index thread = 0; thread < kThreads; ++thread) {
    work.emplace_back([&, thread] {
      const Index share = 6000 / kThreads;
      for (Index first = thread * share; first < (thread + 1) * share; first += 100) {
        total.merge(moments_of(columns(rows, first, 100)));
        total.merge(extra);
        total.unmerge(extra);
      }
    });
  }
  at_once(work);
  CHECK(total.num_samples() == 6000);
  // Sixty merges and unmerges, each with an error relative to the scatter with up to four times `extra`, 1,500 rows
  // each: about ten times the scatter of the rows alone.
  CHECK_CLOSE(relative_error(scatter_of(total.stats(1)), textbook(rows).scatter), 0, 120 * 10 * kScatterError);
}

TEST(merging_into_each_other_does_not_deadlock) {
  Random random(3);
  const M rows = random.rows(8, 5);
  CpuMoments a = moments_of(rows);
  CpuMoments b = moments_of(rows);
  const auto merge = [](CpuMoments& mine, const CpuMoments& other) {
    for (int turn = 0; turn < 200; ++turn) {
      mine.merge(other);
      mine.merge(mine);
      mine.reset();
    }
  };
  at_once({[&] { merge(a, b); }, [&] { merge(b, a); }});
  CHECK(a.num_samples() == 0 && b.num_samples() == 0);
}

TEST(concurrent_resets_and_updates_leave_whole_batches) {
  Random random(4);
  const M batch = random.rows(8, 30);
  CpuMoments moments(8, Precision::kFloat32);
  std::vector<std::function<void()>> work(2, [&] {
    for (int turn = 0; turn < 300; ++turn) moments.update(view(batch));
  });
  work.emplace_back([&] {
    for (int turn = 0; turn < 300; ++turn) moments.reset();
  });
  at_once(work);
  CHECK(moments.num_samples() % 30 == 0);
  CHECK(moments.dim() == 8);
}

TEST(concurrent_distances_share_a_reference) {
  Random random(5);
  for (const Index n : {20, 500}) {  // low rank and full rank
    const M rows = random.rows(32, n);
    const Gaussian<Cpu> expected_reference = moments_of(rows).stats(1);
    std::vector<Gaussian<Cpu>> generated;
    std::vector<double> expected;
    for (Index k = 0; k < 2 * kThreads; ++k) {
      M other = random.rows(32, 300);
      // Every second one has a dead unit, which needs another factor of the reference.
      for (Index i = 0; k % 2 == 1 && i < 300; ++i) other.column(i)[7] = 0;
      generated.push_back(moments_of(other).stats(1));
      expected.push_back(frechet_terms(expected_reference, generated.back()).distance());
    }
    const Gaussian<Cpu> reference = moments_of(rows).stats(1);
    std::vector<double> distances(generated.size());
    std::vector<M> maps(generated.size());
    std::vector<std::function<void()>> work;
    for (std::size_t k = 0; k < generated.size(); ++k) {
      work.emplace_back([&, k] {
        distances[k] = frechet_terms(reference, generated[k]).distance();
        maps[k] = transport_map(generated[k], reference);
      });
    }
    at_once(work);
    CHECK(distances == expected);
    for (std::size_t k = 0; k < generated.size(); ++k) {
      CHECK(difference(maps[k], transport_map(generated[k], reference)) == 0);
    }
  }
}

TEST(concurrent_factor_calls_return_one_factor) {
  Random random(6);
  const Gaussian<Cpu> shared = moments_of(random.rows(32, 500)).stats(1);
  const std::vector<Index> units = shared.alive_units();
  std::vector<std::shared_ptr<const Factor<Cpu>>> factors(kThreads);
  std::vector<std::function<void()>> work;
  for (auto& factor : factors) work.emplace_back([&] { factor = shared.factor(units); });
  at_once(work);
  for (const auto& factor : factors) CHECK(factor == factors.front());
}

TEST(concurrent_sigma_calls_compute_it_once) {
  Random random(7);
  const Gaussian<Cpu> shared = moments_of(random.rows(32, 20)).stats(1);
  std::vector<const M*> sigmas(kThreads);
  std::vector<std::function<void()>> work;
  for (const M*& sigma : sigmas) work.emplace_back([&] { sigma = &shared.sigma(); });
  at_once(work);
  for (const M* sigma : sigmas) CHECK(sigma == sigmas.front());
}

TEST(concurrent_nearest_neighbour_searches) {
  Random random(8);
  // Large enough for several pieces of work in every operation.
  const M reference = random.rows(256, 1100);
  const M generated = random.rows(256, 1100);
  const std::vector<BallRule> rules = {{3, true, true}};
  const auto metrics = [&] {
    return manifold_metrics<Cpu>(columns_as_features(generated, 0, 1100), columns_as_features(reference, 0, 1100),
                                 rules)
        .front();
  };
  const ManifoldMetrics expected = metrics();
  std::vector<ManifoldMetrics> found(2);
  at_once({[&] { found[0] = metrics(); }, [&] { found[1] = metrics(); }});
  for (const ManifoldMetrics& each : found) {
    CHECK(each.precision == expected.precision && each.recall == expected.recall);
    CHECK(each.density == expected.density && each.coverage == expected.coverage);
  }
}

TEST(concurrent_searches_in_float16) {
  Random random(8);
  // Squared norms of about 16,500, for which a product decides whether a block is finite; and a row that is infinite.
  M reference = random.rows(64, 1100, 16);
  const M generated = random.rows(64, 1100, 16);
  for (Index d = 0; d < 64; ++d) reference.column(7)[d] *= 8;
  const auto metrics = [&] {
    return rounded_precision_recall<Cpu>(columns_as_features(generated, 0, 1100),
                                         columns_as_features(reference, 0, 1100), 3, DistanceTool::kGuidedDiffusion,
                                         500);
  };
  const std::pair<double, double> expected = metrics();
  std::vector<std::pair<double, double>> found(2);
  at_once({[&] { found[0] = metrics(); }, [&] { found[1] = metrics(); }});
  for (const std::pair<double, double>& each : found) CHECK(each == expected);
}

TEST(concurrent_leave_one_out) {
  Random random(8);
  const std::array<M, 2> rows = {random.rows(16, 300, 1), random.rows(16, 200)};
  const Gaussian<Cpu> a = moments_of(rows[0]).stats(1);
  const Gaussian<Cpu> b = moments_of(rows[1]).stats(1);
  Jackknife<Cpu> alone(a, b, {true, true}, Precision::kFloat32, true);
  Jackknife<Cpu> shared(a, b, {true, true}, Precision::kFloat32, true);
  std::array<WithoutRow, kThreads> found;
  std::vector<std::function<void()>> work;
  for (std::size_t k = 0; k < found.size(); ++k) {
    work.emplace_back(
        [&, k] { found[k] = shared.without(k % 2 == 0 ? Operand::kFirst : Operand::kSecond, view(rows[k % 2])); });
  }
  at_once(work);
  for (std::size_t k = 0; k < found.size(); ++k) {
    const WithoutRow expected = alone.without(k % 2 == 0 ? Operand::kFirst : Operand::kSecond, view(rows[k % 2]));
    CHECK(found[k].distance == expected.distance && found[k].corrected == expected.corrected);
  }
}
