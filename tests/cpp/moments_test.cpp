// Mean and covariance compared with the textbook formulas for all types, offsets and batch sizes.
#include <cstring>
#include <vector>

#include "check.hpp"
#include "streams.hpp"

using namespace fidfast;
using namespace fidfast::oracle;

namespace {

/// Numbers of rows around dim, and around one and several blocks of 1,024 rows.
constexpr Index kCounts[] = {2, 5, 40, 1023, 1024, 1025, 2048, 3100};

/// From this dim on, products of narrow rows are float32.
constexpr Index kFloatDim = 512;

/// Rounding of sums of 1,024 float32 products, which averages out: sqrt(1024) float32 eps.
constexpr double kFloatScatterError = 32 * 1.2e-7;

void check_is_textbook(const Gaussian<Cpu>& stats, const M& rows, double tolerance) {
  const Textbook expected = textbook(rows);
  CHECK(stats.num_samples() == rows.cols());
  CHECK_CLOSE(relative_error(scatter_of(stats), expected.scatter), 0, tolerance);
  for (Index j = 0; j < rows.rows(); ++j) {
    const double mean = expected.mean[static_cast<std::size_t>(j)];
    const double deviation = std::sqrt(expected.scatter.column(j)[j] / static_cast<double>(rows.cols()));
    // Sums of 1,024 differences, and the rounding of the result.
    CHECK_CLOSE(stats.mu().data()[j], mean, kScatterError * deviation + kEpsilon * std::abs(mean));
  }
}

/// `rows` rounded to S, as S and as double.
template <class S>
struct Narrow {
  Matrix<Cpu, S> narrow;
  M wide;
};

/// Truncation suffices: both must only be equal.
Narrow<BFloat16> as_bfloat16(const M& rows) {
  Narrow<BFloat16> result{Matrix<Cpu, BFloat16>(rows.rows(), rows.cols()), M(rows.rows(), rows.cols())};
  for (Index i = 0; i < rows.size(); ++i) {
    const auto value = static_cast<float>(rows.data()[i]);
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits &= 0xffff0000U;
    float truncated;
    std::memcpy(&truncated, &bits, sizeof bits);
    result.narrow.data()[i] = {static_cast<std::uint16_t>(bits >> 16)};
    result.wide.data()[i] = static_cast<double>(truncated);
  }
  return result;
}

Narrow<float> as_float(const M& rows) {
  Matrix<Cpu, float> narrow = narrowed(rows);
  M wide = widened(narrow);
  return {std::move(narrow), std::move(wide)};
}

template <class S>
void check_narrow(const Narrow<S>& rows) {
  const bool float_products = rows.wide.rows() >= kFloatDim && rows.wide.cols() > rows.wide.rows();
  check_is_textbook(moments_of(rows.narrow, Precision::kFloat64).stats(1), rows.wide, kScatterError);
  check_is_textbook(moments_of(rows.narrow).stats(1), rows.wide, float_products ? kFloatScatterError : kScatterError);
}

}  // namespace

TEST(mean_and_covariance_equal_the_textbook) {
  Random random(1);
  for (const Index n : kCounts) {
    for (const Index dim : {1, 3, 40}) {
      for (const double offset : {0.0, -1e3}) {
        const M rows = random.rows(dim, n, offset);
        check_is_textbook(moments_of(rows).stats(1), rows, kScatterError);
      }
    }
  }
}

TEST(large_offset_costs_no_accuracy) {
  Random random(2);
  for (const Index n : kCounts) {
    const M rows = random.rows(16, n, 1e6);
    // The mean is double-double, so the bound does not depend on the offset.
    check_is_textbook(moments_of(rows).stats(1), rows, kScatterError);
    check_narrow(as_float(rows));
  }
}

TEST(float16_and_bfloat16_rows_equal_their_values) {
  Random random(3);
  for (const Index n : kCounts) {
    const M rows = random.rows(24, n, 1.0);
    check_narrow(as_float(rows));
    check_narrow(as_bfloat16(rows));
  }
}

TEST(float32_products_have_float32_accuracy) {
  Random random(4);
  for (const Index n : {600, 1500}) {
    for (const double offset : {0.0, 1e6}) {
      // Independent units, so that checking some of them is enough.
      const Narrow<float> rows = as_float(map(random.matrix(kFloatDim, n), [&](double v) { return v + offset; }));
      const Gaussian<Cpu> stats = moments_of(rows.narrow).stats(1);
      Matrix<Cpu> some(8, n);
      Matrix<Cpu> sigma(8, 8);
      for (Index i = 0; i < n; ++i) std::copy_n(rows.wide.column(i), 8, some.column(i));
      for (Index j = 0; j < 8; ++j) std::copy_n(scatter_of(stats).column(j), 8, sigma.column(j));
      const double error = relative_error(sigma, textbook(some).scatter);
      CHECK_CLOSE(error, 0, kFloatScatterError);
      // Otherwise products were not float32. Rows near a million are multiples of 2^-4, whose products are exact.
      CHECK(offset > 0 || error > kScatterError);
    }
  }
}

TEST(diagonals_of_float32_products_are_float64) {
  Random random(14);
  M rows = random.matrix(kFloatDim, 1100);
  for (Index i = 0; i < 900; ++i) rows.column(i)[3] = 0.25;                      // the value of most rows
  for (Index j = 0; j < kFloatDim; ++j) rows.column(17)[j] *= 1e4;               // a far row
  for (Index i = 0; i < 1100; ++i) rows.column(i)[5] = 1e3 * rows.column(i)[5];  // large, but not far
  const Narrow<float> narrow = as_float(rows);
  const Gaussian<Cpu> found = moments_of(narrow.narrow).stats(1);
  const Gaussian<Cpu> exact = moments_of(narrow.narrow, Precision::kFloat64).stats(1);
  CHECK(!found.product_errors().empty() && exact.product_errors().empty());
  for (Index j = 0; j < kFloatDim; ++j) {
    const double variance = exact.sigma().column(j)[j];
    CHECK_CLOSE(found.sigma().column(j)[j], variance, kScatterError * variance);
    // Without the far row x, whose products are float64. It moves the mean by x / 1024, about which the other rows have
    // squares of about 1 + (x / 1024)^2 and errors of 11 u.
    const double moved = rows.column(17)[j] / 1024;
    CHECK(found.product_errors()[static_cast<std::size_t>(j)] < 12 * 0x1p-24 * ((j == 5 ? 2e6 : 2) + moved * moved));
  }
}

TEST(correlated_units_are_multiplied_in_float64) {
  Random random(15);
  M rows = random.matrix(kFloatDim, 1100);
  for (Index i = 0; i < 1100; ++i) {
    const double common = 100 * rows.column(i)[0];
    for (Index j = 0; j < kFloatDim; ++j) rows.column(i)[j] += common;
  }
  const Narrow<float> narrow = as_float(rows);
  const Gaussian<Cpu> found = moments_of(narrow.narrow).stats(1);
  CHECK(found.product_errors().empty());
  CHECK(difference(found.sigma(), moments_of(narrow.narrow, Precision::kFloat64).stats(1).sigma()) == 0);
}

TEST(stream_may_mix_types) {
  Random random(5);
  const M rows = random.rows(16, 3000);
  const Narrow<float> first = as_float(columns(rows, 0, 900));
  const Narrow<BFloat16> last = as_bfloat16(columns(rows, 1500, 1500));
  const M middle = columns(rows, 900, 600);
  CpuMoments moments(16, Precision::kFloat32);
  moments.update(view(first.narrow));
  moments.update(view(middle));
  moments.update(view(last.narrow));
  check_is_textbook(moments.stats(1), joined(joined(first.wide, middle), last.wide), kScatterError);
}

TEST(dead_unit_has_zero_variance) {
  Random random(6);
  for (const Index dim : {4, 520}) {
    for (const double value : {0.0, 1e6 + 0.1}) {
      for (const Index n : {3, 1500}) {
        M rows = random.matrix(dim, n);
        for (Index i = 0; i < n; ++i) rows.column(i)[2] = value;
        for (const Precision precision : {Precision::kFloat32, Precision::kFloat64}) {
          CpuMoments wide(dim, precision);
          CpuMoments narrow(dim, precision);
          for (const M& part : cut(rows, 5, random)) {
            wide.update(view(part));
            narrow.update(view(narrowed(part)));
          }
          for (const CpuMoments* moments : {&wide, &narrow}) {
            const M sigma = moments->stats(1).sigma();
            for (Index i = 0; i < dim; ++i) CHECK(sigma.column(2)[i] == 0 && sigma.column(i)[2] == 0);
            for (const Index alive : {0, 1, 3}) CHECK(sigma.column(alive)[alive] > 0);
          }
        }
      }
    }
  }
}

TEST(any_split_and_order_of_rows_gives_equal_moments) {
  Random random(7);
  for (const Index n : kCounts) {
    for (const Index dim : {1, 40}) {
      const M rows = random.rows(dim, n, 10);
      for (int draw = 0; draw < 3; ++draw) {
        std::vector<M> parts = cut(rows, 8, random);
        CpuMoments streamed(dim, Precision::kFloat32);
        for (; !parts.empty(); parts.pop_back()) {
          std::swap(parts.back(), parts[static_cast<std::size_t>(random.below(static_cast<Index>(parts.size())))]);
          streamed.update(view(parts.back()));
        }
        check_is_textbook(streamed.stats(1), rows, kScatterError);
      }
    }
  }
}

TEST(strides_do_not_change_the_result) {
  Random random(8);
  const M rows = random.rows(6, 1500);
  const CpuMoments::State expected = moments_of(rows).state();
  const M by_columns = transposed(rows);
  CpuMoments moments(6, Precision::kFloat32);
  moments.update(FeatureView<double>{by_columns.data(), 1500, 6, 1, 1500});
  CHECK(moments.state() == expected);

  M backwards(6, 1500);
  for (Index i = 0; i < 1500; ++i) std::reverse_copy(rows.column(i), rows.column(i) + 6, backwards.column(1499 - i));
  CpuMoments reversed(6, Precision::kFloat32);
  reversed.update(FeatureView<double>{backwards.column(1499) + 5, 1500, 6, -6, -1});
  CHECK(reversed.state() == expected);
}

TEST(few_rows_give_a_low_rank_covariance) {
  Random random(9);
  for (const Index n : {2, 3, 20, 30}) {
    const M rows = random.rows(30, n, 1e3);
    const Gaussian<Cpu> stats = moments_of(rows).stats(1);
    CHECK(stats.low_rank());
    CHECK(stats.columns().rows() == 30 && stats.columns().cols() == n - 1);
    check_is_textbook(stats, rows, kScatterError);
  }
  CHECK(!moments_of(random.rows(30, 31)).stats(1).low_rank());
}

TEST(ddof_changes_the_divisor_only) {
  Random random(10);
  for (const Index n : {5, 200}) {
    const CpuMoments moments = moments_of(random.rows(20, n));
    const Gaussian<Cpu> reference = moments.stats(1);
    for (const Index ddof : {0, 3}) {
      const Gaussian<Cpu> stats = moments.stats(ddof);
      const double ratio = static_cast<double>(n - 1) / static_cast<double>(n - ddof);
      const M expected = map(reference.sigma(), [&](double value) { return value * ratio; });
      // Both are scaled and rounded, rows (n = 5) twice and before the products: a few eps for each of n terms.
      CHECK_CLOSE(relative_error(stats.sigma(), expected), 0, 30 * kEpsilon);
      CHECK(difference(stats.mu(), reference.mu()) == 0);
    }
  }
}

TEST(sigma_is_exactly_symmetric) {
  Random random(11);
  for (const Index n : {20, 1500}) {
    const Gaussian<Cpu> stats = moments_of(random.rows(33, n)).stats(1);
    CHECK(difference(stats.sigma(), transposed(stats.sigma())) == 0);
  }
}

TEST(stats_does_not_change_the_moments) {
  Random random(12);
  for (const Index n : {2, 20, 1500}) {
    const CpuMoments moments = moments_of(random.rows(20, n));
    const CpuMoments::State before = moments.state();
    const M first = moments.stats(1).sigma();
    CHECK(difference(moments.stats(1).sigma(), first) == 0);
    CHECK(moments.state() == before);
  }
}

TEST(num_samples_counts_every_row) {
  Random random(13);
  CpuMoments moments(3, Precision::kFloat32);
  Index expected = 0;
  for (const Index n : {0, 1, 3, 1000, 20, 1, 5000, 0}) {
    moments.update(view(random.matrix(3, n)));
    moments.update(view(narrowed(random.matrix(3, n))));
    expected += 2 * n;
    CHECK(moments.num_samples() == expected);
  }
}
