// Properties of merge and unmerge, and the arguments that they reject.
#include <vector>

#include "check.hpp"
#include "streams.hpp"

using namespace fidfast;
using namespace fidfast::oracle;

namespace {

constexpr Index kDim = 24;

/// No rows, fewer than dim, more than dim, more than a block: pending rows, folded rows or both.
constexpr Index kCounts[] = {0, 1, 10, 24, 1024, 1500};

CpuMoments sum(const CpuMoments& a, const CpuMoments& b) {
  CpuMoments result(a);
  result.merge(b);
  return result;
}

/// Equal up to the rounding errors of two scatters.
void check_same_moments(const CpuMoments& a, const CpuMoments& b) {
  CHECK(a.num_samples() == b.num_samples());
  if (a.num_samples() < 2 || b.num_samples() < 2) return;
  const Gaussian<Cpu> stats_a = a.stats(0);
  const Gaussian<Cpu> stats_b = b.stats(0);
  CHECK_CLOSE(relative_error(stats_a.sigma(), stats_b.sigma()), 0, 2 * kScatterError);
  for (Index j = 0; j < a.dim(); ++j) {
    const double mean = stats_b.mu().data()[j];
    // The mean of a block is summed from its first row, which may be from the other stream, at a distance of 5.
    const double distance = 5 + std::sqrt(stats_b.sigma().column(j)[j]);
    const double tolerance = kScatterError * distance + kEpsilon * std::abs(mean);
    CHECK_CLOSE(stats_a.mu().data()[j], mean, 2 * tolerance);
  }
}

/// Two streams with different means, the second in double or float.
struct Streams {
  M rows_a;
  M rows_b;
  CpuMoments a;
  CpuMoments b;

  Streams(Index n_a, Index n_b, bool narrow, Random& random)
      : rows_a(random.rows(kDim, n_a, 3)),
        rows_b(widened(narrowed(random.rows(kDim, n_b, -2)))),
        a(moments_of(rows_a)),
        b(narrow ? moments_of(narrowed(rows_b)) : moments_of(rows_b)) {}
};

template <class Work>
void for_each_pair_of_streams(Work work) {
  Random random(1);
  for (const Index n_a : kCounts) {
    for (const Index n_b : kCounts) {
      for (const bool narrow : {false, true}) work(Streams(n_a, n_b, narrow, random));
    }
  }
}

}  // namespace

// Merge ---------------------------------------------------------------------------------------------------------------

TEST(merge_equals_updating_with_both) {
  for_each_pair_of_streams(
      [](const Streams& s) { check_same_moments(sum(s.a, s.b), moments_of(joined(s.rows_a, s.rows_b))); });
}

TEST(merge_is_commutative) {
  for_each_pair_of_streams([](const Streams& s) { check_same_moments(sum(s.a, s.b), sum(s.b, s.a)); });
}

TEST(merge_is_associative) {
  Random random(2);
  const CpuMoments c = moments_of(random.rows(kDim, 700, 1));
  for_each_pair_of_streams([&](const Streams& s) { check_same_moments(sum(sum(s.a, s.b), c), sum(s.a, sum(s.b, c))); });
}

TEST(merging_with_empty_moments) {
  Random random(3);
  const CpuMoments nothing(kDim, Precision::kFloat32);
  for (const Index n : kCounts) {
    const CpuMoments moments = moments_of(random.rows(kDim, n));
    CHECK(sum(moments, nothing).state() == moments.state());
    check_same_moments(sum(nothing, moments), moments);
  }
}

TEST(merge_does_not_change_its_argument) {
  for_each_pair_of_streams([](const Streams& s) {
    const CpuMoments::State before = s.b.state();
    sum(s.a, s.b);
    CHECK(s.b.state() == before);
  });
}

TEST(merging_with_itself_doubles) {
  Random random(4);
  for (const Index n : kCounts) {
    const M rows = random.rows(kDim, n);
    CpuMoments moments = moments_of(rows);
    moments.merge(moments);
    check_same_moments(moments, moments_of(joined(rows, rows)));
  }
}

// Unmerge -------------------------------------------------------------------------------------------------------------

TEST(unmerge_reverses_merge) {
  for_each_pair_of_streams([](const Streams& s) {
    const CpuMoments whole = sum(s.a, s.b);
    CpuMoments rest(whole);
    rest.unmerge(s.b);
    CHECK(rest.num_samples() == s.a.num_samples());
    if (s.a.num_samples() < 2) return;
    const double n = static_cast<double>(s.a.num_samples());
    const M expected = map(s.a.stats(0).sigma(), [n](double value) { return value * n; });
    const M left = map(rest.stats(0).sigma(), [n](double value) { return value * n; });
    const M size = textbook(joined(s.rows_a, s.rows_b)).scatter;
    for (Index j = 0; j < kDim; ++j) {
      for (Index i = j; i < kDim; ++i) {
        // The scatters of the whole, the part and the rest have errors of kScatterError times at most that of the
        // whole; the term of the means adds twice as much.
        const double tolerance = 5 * kScatterError * std::sqrt(size.column(i)[i]) * std::sqrt(size.column(j)[j]);
        CHECK_CLOSE(left.column(j)[i], expected.column(j)[i], tolerance);
      }
    }
  });
}

TEST(unmerging_pending_rows_is_exact) {
  Random random(5);
  const M rows = random.rows(kDim, 23);
  for (const Index first : {0, 5, 20}) {
    CpuMoments moments = moments_of(columns(rows, 0, first));
    moments.update(view(columns(rows, first, 3)));
    moments.update(view(columns(rows, first + 3, 20 - first)));
    moments.unmerge(moments_of(columns(rows, first, 3)));
    CHECK(moments.state() == moments_of(joined(columns(rows, 0, first), columns(rows, first + 3, 20 - first))).state());
  }
}

TEST(sliding_window_does_not_accumulate_error) {
  Random random(6);
  const M rows = random.rows(kDim, 6000, 100);
  CpuMoments window = moments_of(columns(rows, 0, 1000));
  for (Index first = 0; first < 5000; first += 500) {
    window.update(view(columns(rows, first + 1000, 500)));
    window.unmerge(moments_of(columns(rows, first, 500)));
  }
  const M expected = textbook(columns(rows, 5000, 1000)).scatter;
  // Twenty steps with errors of kScatterError times the scatter of at most 1,500 rows.
  CHECK_CLOSE(relative_error(scatter_of(window.stats(1)), expected), 0, 20 * 2 * kScatterError);
}

TEST(unmerging_everything_or_itself_leaves_empty_moments) {
  Random random(7);
  for (const Index n : kCounts) {
    const M rows = random.rows(kDim, n);
    const CpuMoments moments = moments_of(rows);
    const CpuMoments twin = moments_of(rows);
    CpuMoments first(moments);
    CpuMoments second(moments);
    CpuMoments third(moments);
    first.unmerge(twin);
    second.unmerge(second);
    third.reset();
    for (const CpuMoments* empty : {&first, &second, &third}) {
      CHECK(empty->state() == CpuMoments(kDim, Precision::kFloat32).state());
    }
    first.merge(twin);
    check_same_moments(first, moments);
  }
}

// Invalid arguments ---------------------------------------------------------------------------------------------------

TEST(batch_with_nan_or_infinity_is_rejected_and_changes_nothing) {
  Random random(8);
  for (const Index n : kCounts) {
    CpuMoments moments = moments_of(random.rows(kDim, n));
    const CpuMoments::State before = moments.state();
    for (const double bad : {kNan, kInfinity, -kInfinity}) {
      for (const Index row : {0, 7, 1999}) {
        M batch = random.matrix(kDim, 2000);
        batch.column(row)[kDim - 1] = bad;
        const std::string message = "features hold NaN or infinity; the first such row is " + std::to_string(row);
        CHECK_THROWS(moments.update(view(batch)), InvalidInput, message);
        CHECK_THROWS(moments.update(view(narrowed(batch))), InvalidInput, message);
        CHECK(moments.state() == before);
      }
    }
  }
}

TEST(different_dims_are_rejected) {
  Random random(9);
  CpuMoments moments = moments_of(random.rows(3, 50));
  const CpuMoments four = moments_of(random.rows(4, 5));
  const CpuMoments::State before = moments.state();
  CHECK_THROWS(moments.update(view(random.matrix(4, 2))), InvalidInput,
               "features have 4 columns, but Moments was created with dim=3");
  CHECK_THROWS(moments.merge(four), InvalidInput, "cannot merge moments of dim=4 and dim=3");
  CHECK_THROWS(moments.unmerge(four), InvalidInput, "cannot unmerge moments of dim=4 and dim=3");
  CHECK(moments.state() == before);
  CHECK_THROWS(CpuMoments(0, Precision::kFloat32), InvalidInput, "dim must be at least 1, got 0");
  CHECK_THROWS(CpuMoments(-2, Precision::kFloat64), InvalidInput, "got -2");
}

TEST(unmerging_rows_that_were_never_merged_is_rejected) {
  Random random(10);
  for (const Index n : {50, 1500}) {
    CpuMoments moments = moments_of(random.matrix(3, n));
    const CpuMoments::State before = moments.state();
    CHECK_THROWS(moments.unmerge(moments_of(random.matrix(3, n + 1))), InvalidInput,
                 "cannot unmerge " + std::to_string(n + 1) + " samples from moments of " + std::to_string(n));
    const M wild = map(random.matrix(3, 40), [](double value) { return 100 * value; });
    const std::string message = "cannot unmerge samples that were never merged: ";
    CHECK_THROWS(moments.unmerge(moments_of(wild)), InvalidInput,
                 message + (n < 1024 ? "one of the rows" : "column 0 would be left with the scatter -"));
    CHECK_THROWS(moments.unmerge(moments_of(random.matrix(3, n))), InvalidInput, message);
    CHECK_THROWS(moments.unmerge(moments_of(random.matrix(3, n - 1))), InvalidInput, message);
    CHECK(moments.state() == before);
  }
}

TEST(unmerging_rows_with_another_correlation_is_rejected) {
  Random random(12);
  const M rows = random.matrix(2, 1500);
  CpuMoments moments = moments_of(rows);
  M aligned = columns(rows, 0, 1200);
  for (Index i = 0; i < aligned.cols(); ++i) aligned.column(i)[1] = aligned.column(i)[0];
  const CpuMoments::State before = moments.state();
  CHECK_THROWS(moments.unmerge(moments_of(aligned)), InvalidInput, "never merged: a covariance would exceed");
  CHECK(moments.state() == before);
}

TEST(what_is_left_of_equal_rows_has_no_variance) {
  Random random(13);
  const M rows = random.rows(kDim, 2500, 10);
  M equal(kDim, 1500);
  for (Index i = 0; i < equal.cols(); ++i) std::copy_n(rows.column(0), kDim, equal.column(i));
  for (const Index left : {1, 2, 1500}) {
    CpuMoments moments = moments_of(joined(rows, columns(equal, 0, left)));
    moments.unmerge(moments_of(rows));
    CHECK(moments.num_samples() == left);
    if (left > 1) CHECK(largest(moments.stats(0).sigma()) == 0);
  }
}

TEST(pending_rows_are_unmerged_in_any_order) {
  Random random(14);
  const M rows = random.rows(kDim, 40);
  CpuMoments moments = moments_of(rows);
  const M last_first = joined(columns(rows, 30, 5), columns(rows, 2, 1));
  moments.unmerge(moments_of(last_first));
  const M rest = joined(joined(columns(rows, 0, 2), columns(rows, 3, 27)), columns(rows, 35, 5));
  CHECK(moments.state() == moments_of(rest).state());
  const CpuMoments::State before = moments.state();
  CHECK_THROWS(moments.unmerge(moments_of(columns(rows, 30, 1))), InvalidInput, "one of the rows is not among those");
  CHECK(moments.state() == before);
}

TEST(stats_need_two_rows_and_ddof_below_num_samples) {
  Random random(11);
  for (const Index n : {0, 1}) {
    CHECK_THROWS(moments_of(random.matrix(3, n)).stats(0), InvalidInput,
                 "a covariance needs at least 2 samples, got " + std::to_string(n));
  }
  const CpuMoments moments = moments_of(random.matrix(3, 5));
  CHECK_THROWS(moments.stats(5), InvalidInput, "ddof must be from 0 to num_samples - 1 = 4, got 5");
  CHECK_THROWS(moments.stats(-1), InvalidInput, "got -1");
}
