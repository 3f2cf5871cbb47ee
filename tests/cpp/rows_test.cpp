// RowOps compared with plain loops, for every type of features.
#include <cstring>
#include <string>
#include <vector>

#include "check.hpp"
#include "core/gather.hpp"
#include "oracle.hpp"

using namespace fidfast;
using namespace fidfast::oracle;
using Rows = RowOps<Cpu>;

namespace {

/// Value of a 16-bit pattern by definition of the format; NaN for infinity and NaN.
double value_of(std::uint16_t bits, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits;
  const int exponent = (bits & 0x7fff) >> fraction_bits;
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1 << exponent_bits) - 1) return kNan;
  const int significand = exponent > 0 ? fraction + (1 << fraction_bits) : fraction;
  const double magnitude = std::ldexp(significand, std::max(exponent, 1) - bias - fraction_bits);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}
double value_of(Float16 number) { return value_of(number.bits, 5); }
double value_of(BFloat16 number) { return value_of(number.bits, 8); }
double value_of(float number) { return static_cast<double>(number); }
double value_of(double number) { return number; }

template <class S>
S random_number(Random& random) {
  return static_cast<S>(random.normal() * 100);
}
/// A finite value of moderate size.
template <>
Float16 random_number(Random& random) {
  return {static_cast<std::uint16_t>((random.below(2) << 15) | random.below(0x6000))};
}
template <>
BFloat16 random_number(Random& random) {
  return {static_cast<std::uint16_t>((random.below(2) << 15) | (0x3000 + random.below(0x1800)))};
}

template <class S>
S infinity() {
  return static_cast<S>(kInfinity);
}
template <>
Float16 infinity() {
  return {0x7c00};
}
template <>
BFloat16 infinity() {
  return {0x7f80};
}

template <class S>
S nan() {
  return static_cast<S>(kNan);
}
template <>
Float16 nan() {
  return {0xfe01};
}
template <>
BFloat16 nan() {
  return {0xff81};
}

/// Random numbers, and views of them as (n, dim) features with various strides.
template <class S>
struct Strided {
  static constexpr Index kRows = 5;
  static constexpr Index kDim = 7;
  std::vector<S> memory;
  std::vector<FeatureView<S>> views;

  explicit Strided(std::uint64_t seed) : memory(400) {
    Random random(seed);
    for (S& number : memory) number = random_number<S>(random);
    const S* const start = memory.data();
    const S* const middle = memory.data() + 200;
    views = {
        {start, kRows, kDim, kDim, 1},        // contiguous
        {start, kRows, kDim, kDim + 4, 1},    // part of wider rows
        {start, kRows, kDim, 1, kRows},       // transposed
        {start, kRows, kDim, 3 * kDim, 3},    // every third column
        {middle, kRows, kDim, -kDim, 1},      // rows reversed
        {middle, kRows, kDim, 2 * kDim, -2},  // columns reversed
        {middle, kRows, kDim, 0, 1},          // one row repeated
        {middle, kRows, kDim, kDim, 0},       // one column repeated
        {start, 0, kDim, kDim, 1},            // no rows
    };
  }
};

template <class S>
double at(const FeatureView<S>& view, Index i, Index j) {
  return value_of(view.data[i * view.row_stride + j * view.column_stride]);
}

/// The rows of a view as the columns of a matrix.
template <class S>
M values_of(const FeatureView<S>& view) {
  M result(view.dim, view.n);
  for (Index i = 0; i < view.n; ++i) {
    for (Index j = 0; j < view.dim; ++j) result.column(i)[j] = at(view, i, j);
  }
  return result;
}

/// Calls work(Strided) for every type of features.
template <class Work>
void for_each_type(Work work) {
  work(Strided<Float16>(1));
  work(Strided<BFloat16>(2));
  work(Strided<float>(3));
  work(Strided<double>(4));
}

template <class S, class T>
void check_append(const FeatureView<S>& view) {
  constexpr Index kFirst = 2;
  Matrix<Cpu, T> columns(view.dim, view.n + 3);
  std::fill_n(columns.data(), columns.size(), T{-77});
  Rows::append(view, columns, kFirst);
  for (Index i = 0; i < columns.cols(); ++i) {
    const bool inside = i >= kFirst && i < kFirst + view.n;
    for (Index j = 0; j < view.dim; ++j) {
      CHECK(columns.column(i)[j] == static_cast<T>(inside ? at(view, i - kFirst, j) : -77.0));
    }
  }
}

template <class S, class T>
void check_centre(const FeatureView<S>& view, const Mean<Cpu>& mean) {
  Vector<Cpu, T> origin(view.dim);
  V remainder(view.dim);
  Matrix<Cpu, T> centred(view.dim, view.n);
  Vector<Cpu, T> unit_info(view.dim);
  CHECK(Rows::subtract_mean(view, mean, origin, remainder, unit_info, centred));
  for (Index j = 0; j < view.dim; ++j) {
    const double high = mean.high.data()[j];
    CHECK(origin.data()[j] == static_cast<T>(high));
    // An exact subtraction (Sterbenz) and a sum, rounded once.
    const long double exact = static_cast<long double>(high) - origin.data()[j] + mean.low.data()[j];
    CHECK_CLOSE(remainder.data()[j], static_cast<double>(exact), kEpsilon * std::abs(static_cast<double>(exact)));
    T peak = 0;
    for (Index i = 0; i < view.n; ++i) {
      CHECK(centred.column(i)[j] == static_cast<T>(at(view, i, j)) - origin.data()[j]);
      peak = std::max(peak, std::abs(centred.column(i)[j]));
    }
    CHECK(unit_info.data()[j] == peak);
  }
}

template <class T>
void check_add_scatter(Index dim, Index n, bool scratch) {
  Random random(11);
  Matrix<Cpu, T> centred(dim, n + 2);  // columns beyond n must be ignored
  M exact(dim, n);
  for (Index i = 0; i < centred.size(); ++i) {
    centred.data()[i] = static_cast<T>(random.normal());
    if (i < exact.size()) exact.data()[i] = static_cast<double>(centred.data()[i]);
  }
  const V r = vector_of(random.numbers(dim));
  const V d = vector_of(random.numbers(dim));
  const double weight = 2.5;
  const M before = random.matrix(dim, dim);
  M scatter = with_upper(before, kNan);
  Matrix<Cpu, T> product;
  if (scratch) product = Matrix<Cpu, T>(dim, dim);
  Rows::add_scatter(centred, Vector<Cpu, T>(dim), n, r, weight, d, scatter, product);

  M expected = plus(1.0, oracle::product(exact, transposed(exact)), before);
  expected = plus(-static_cast<double>(n), oracle::product(r, transposed(r)), expected);
  expected = plus(weight, oracle::product(d, transposed(d)), expected);
  // n products of at most 5^2 in T, and three more terms of at most 25 max(n, weight).
  const double unit = static_cast<double>(std::numeric_limits<T>::epsilon());
  CHECK_CLOSE(difference_below(scatter, expected), 0, (unit * as_double(n) + 4 * kEpsilon * as_double(n + 4)) * 25);
  for (Index j = 1; j < dim; ++j) CHECK(std::isnan(scatter.column(j)[j - 1]));
}

}  // namespace

TEST(every_16_bit_pattern_is_widened_exactly) {
  for (Index bits = 0; bits < 0x10000; ++bits) {
    const Float16 half{static_cast<std::uint16_t>(bits)};
    const BFloat16 brain{static_cast<std::uint16_t>(bits)};
    Matrix<Cpu, float> widened(1, 2);
    Rows::append(FeatureView<Float16>{&half, 1, 1, 1, 1}, widened, 0);
    Rows::append(FeatureView<BFloat16>{&brain, 1, 1, 1, 1}, widened, 1);
    const double expected[] = {value_of(half), value_of(brain)};
    const bool finite[] = {(bits & 0x7c00) != 0x7c00, (bits & 0x7f80) != 0x7f80};
    for (int k = 0; k < 2; ++k) {
      const double value = static_cast<double>(widened.data()[k]);
      if (finite[k]) CHECK(value == expected[k] && std::signbit(value) == std::signbit(expected[k]));
      if (!finite[k]) CHECK(!std::isfinite(value));
    }
  }
}

TEST(first_nonfinite_row_is_found_anywhere) {
  for_each_type([](auto strided) {
    using S = typename decltype(strided.memory)::value_type;
    for (const FeatureView<S>& view : strided.views) {
      CHECK(Rows::first_nonfinite_row(view) == -1);
      for (const S bad : {nan<S>(), infinity<S>()}) {
        for (Index i = 0; i < view.n; ++i) {
          for (Index j = 0; j < view.dim; ++j) {
            const auto offset = view.row(i) + j * view.column_stride - strided.memory.data();
            S& number = strided.memory[static_cast<std::size_t>(offset)];
            const S good = number;
            number = bad;
            CHECK(Rows::first_nonfinite_row(view) == (view.row_stride == 0 ? 0 : i));
            number = good;
          }
        }
      }
    }
  });
}

TEST(largest_finite_numbers_are_finite) {
  const Float16 half{0x7bff};
  const BFloat16 brain{0xff7f};
  const float single = std::numeric_limits<float>::max();
  const double twofold = -std::numeric_limits<double>::max();
  CHECK(Rows::first_nonfinite_row(FeatureView<Float16>{&half, 1, 1, 1, 1}) == -1);
  CHECK(Rows::first_nonfinite_row(FeatureView<BFloat16>{&brain, 1, 1, 1, 1}) == -1);
  CHECK(Rows::first_nonfinite_row(FeatureView<float>{&single, 1, 1, 1, 1}) == -1);
  CHECK(Rows::first_nonfinite_row(FeatureView<double>{&twofold, 1, 1, 1, 1}) == -1);
}

TEST(append_copies_rows_of_any_strides) {
  for_each_type([](const auto& strided) {
    using S = typename std::decay_t<decltype(strided.memory)>::value_type;
    for (const FeatureView<S>& view : strided.views) {
      check_append<S, double>(view);
      if constexpr (!std::is_same_v<S, double>) check_append<S, float>(view);
    }
  });
}

TEST(mean_equals_the_textbook_in_double_double) {
  for_each_type([](const auto& strided) {
    using S = typename std::decay_t<decltype(strided.memory)>::value_type;
    for (const FeatureView<S>& view : strided.views) {
      if (view.n == 0) continue;
      Mean<Cpu> mean = Mean<Cpu>::zeros(view.dim);
      Rows::mean(view, mean);
      const M values = values_of(view);
      for (Index j = 0; j < view.dim; ++j) {
        long double exact = 0;
        double spread = 0;
        for (Index i = 0; i < view.n; ++i) {
          exact += static_cast<long double>(values.column(i)[j]) / as_double(view.n);
          spread = std::max(spread, std::abs(values.column(i)[j] - values.column(0)[j]));
        }
        const double high = mean.high.data()[j];
        const double low = mean.low.data()[j];
        // n sums of differences from the first row, and the rounding of the oracle.
        const double tolerance = as_double(view.n) * kEpsilon * spread + 1e-18 * std::abs(high);
        CHECK_CLOSE(static_cast<double>(exact - high), low, tolerance);
        CHECK(std::abs(low) <= kEpsilon / 2 * std::abs(high));  // at most half a unit in the last place
      }
    }
  });
}

TEST(mean_of_equal_rows_is_exact) {
  for (const double value : {0.0, 0.1, 1e6 + 0.1, -3e-5, 1e300}) {
    const std::vector<double> rows(3000, value);
    Mean<Cpu> mean = Mean<Cpu>::zeros(3);
    Rows::mean(FeatureView<double>{rows.data(), 1000, 3, 3, 1}, mean);
    for (Index j = 0; j < 3; ++j) CHECK(mean.high.data()[j] == value && mean.low.data()[j] == 0);
  }
}

TEST(subtract_mean_subtracts_the_rounded_mean) {
  for_each_type([](const auto& strided) {
    using S = typename std::decay_t<decltype(strided.memory)>::value_type;
    for (const FeatureView<S>& view : strided.views) {
      if (view.n == 0) continue;
      Mean<Cpu> mean = Mean<Cpu>::zeros(view.dim);
      Rows::mean(view, mean);
      check_centre<S, double>(view, mean);
      if constexpr (!std::is_same_v<S, double>) check_centre<S, float>(view, mean);
    }
  });
}

TEST(subtract_mean_reports_squares_out_of_range) {
  // Sums of 4 squares: 2^(2 p + 2) < 2^128 above, and 2^(2 p) >= 2^-126 2^23 below.
  for (const auto& [exponent, fits] : std::vector<std::pair<int, bool>>{
           {62, true}, {63, false}, {127, false}, {-51, true}, {-52, false}, {-149, false}}) {
    const float number = std::ldexp(1.0F, exponent);
    const std::vector<float> rows = {number, 0, -number, 0, number, 0, -number, 0};  // the second unit is dead
    Mean<Cpu> mean = Mean<Cpu>::zeros(2);
    Vector<Cpu, float> origin(2);
    Vector<Cpu, float> unit_info(2);
    V remainder(2);
    Matrix<Cpu, float> centred(2, 4);
    const FeatureView<float> view{rows.data(), 4, 2, 2, 1};
    Rows::mean(view, mean);
    CHECK(Rows::subtract_mean(view, mean, origin, remainder, unit_info, centred) == fits);
    V origin64(2);
    V unit_info64(2);
    M centred64(2, 4);
    CHECK(Rows::subtract_mean(view, mean, origin64, remainder, unit_info64, centred64));
  }
}

TEST(add_scatter_equals_plain_loops) {
  for (const Index dim : {1, 2, 33}) {
    for (const Index n : {1, 4, 50}) {
      check_add_scatter<double>(dim, n, false);
      check_add_scatter<float>(dim, n, true);
    }
  }
}

TEST(same_columns_compares_bits) {
  Random random(5);
  const M a = random.matrix(4, 6);
  M b(4, 9);
  std::copy_n(a.data(), a.size(), b.column(2));
  CHECK(Rows::same_columns(a, 0, b, 2, 6));
  CHECK(Rows::same_columns(a, 3, b, 5, 2));
  CHECK(!Rows::same_columns(a, 0, b, 1, 2));
  CHECK(Rows::same_columns(a, 0, b, 1, 0));
  CHECK(Rows::same_columns(M(), 0, M(), 0, 0));
  b.column(7)[3] = std::nextafter(b.column(7)[3], kInfinity);
  CHECK(Rows::same_columns(a, 0, b, 2, 5));
  CHECK(!Rows::same_columns(a, 0, b, 2, 6));
}

TEST(gather_returns_rows_in_the_given_order) {
  for_each_type([](const auto& strided) {
    using S = typename std::decay_t<decltype(strided.memory)>::value_type;
    for (const FeatureView<S>& view : strided.views) {
      const std::vector<Index> rows = view.n == 0 ? std::vector<Index>{} : std::vector<Index>{4, 0, 2, 2};
      const Matrix<Cpu, Widened<S>> columns = gather<Cpu>(view, rows);
      CHECK(columns.rows() == view.dim && columns.cols() == static_cast<Index>(rows.size()));
      for (std::size_t k = 0; k < rows.size(); ++k) {
        for (Index j = 0; j < view.dim; ++j) {
          CHECK(static_cast<double>(columns.column(static_cast<Index>(k))[j]) == at(view, rows[k], j));
        }
      }
      const std::string beyond = "row " + std::to_string(view.n) + " is out of range: features have ";
      CHECK_THROWS(gather<Cpu>(view, {view.n}), InvalidInput, beyond);
      CHECK_THROWS(gather<Cpu>(view, {-1}), InvalidInput, "row -1 is out of range");
    }
  });
}

TEST(require_finite_names_the_row) {
  const std::vector<float> rows = {1, 2, 3, static_cast<float>(kNan), static_cast<float>(kInfinity), 4};
  require_finite<Cpu>(FeatureView<float>{rows.data(), 1, 2, 2, 1});
  CHECK_THROWS(require_finite<Cpu>(FeatureView<float>{rows.data(), 3, 2, 2, 1}), InvalidInput,
               "features hold NaN or infinity; the first such row is 1");
}
