// MatrixOps, except factorisations, compared with plain loops. If an operation must read the lower triangle only, the
// upper one holds NaN.
#include <vector>

#include "check.hpp"
#include "cpu/lapack.hpp"
#include "oracle.hpp"

using namespace fidfast;
using namespace fidfast::oracle;
using L = MatrixOps<Cpu>;

namespace {

/// Below and above the tile size of 32.
constexpr Index kSizes[] = {1, 2, 31, 32, 33, 70};

/// Error of a sum of n products of normal numbers, which are below 6 here.
double of_sums(Index n) { return 36 * kEpsilon * as_double(n) * as_double(n); }

bool upper_is_nan(const M& a) {
  for (Index j = 1; j < a.cols(); ++j) {
    for (Index i = 0; i < j; ++i) {
      if (!std::isnan(a.column(j)[i])) return false;
    }
  }
  return true;
}

/// Some of n row indices, unordered.
std::vector<Index> shuffled(Index n) {
  std::vector<Index> result;
  for (Index i = n - 1; i >= 0; i -= 2) result.push_back(i);
  for (Index i = 0; i < n; i += 4) result.push_back(i);
  return result;
}

}  // namespace

// Vectors and means ---------------------------------------------------------------------------------------------------

TEST(difference_of_means_keeps_low_digits) {
  const Mean<Cpu> to{vector_of({1e6 + 1, 5}), vector_of({3e-11, -1e-17})};
  const Mean<Cpu> from{vector_of({1e6, 5}), vector_of({1e-11, 2e-17})};
  V d(2);
  L::difference(to, from, d);
  CHECK(d.data()[0] == 1 + 2e-11);
  CHECK_CLOSE(d.data()[1], -3e-17, 1e-32);  // eps times the result
}

TEST(advancing_a_mean_is_accurate) {
  Random random(1);
  const double start = 1e6;
  Mean<Cpu> mean{vector_of({start}), V::zeros(1)};
  long double exact = start;
  constexpr int kSteps = 1000;
  for (int step = 0; step < kSteps; ++step) {
    const V d = vector_of({random.normal()});
    L::advance(mean, 0.25, d);
    exact += 0.25L * d.data()[0];
  }
  const double error = static_cast<double>(exact - mean.high.data()[0]) - mean.low.data()[0];
  // Each step rounds low + d / 4, which is of order 1; the oracle has an error of 1e6 * 2^-64 for each step.
  CHECK_CLOSE(error, 0, kSteps * (kEpsilon + 1e6 * 5.5e-20));
  CHECK(std::abs(mean.low.data()[0]) <= kEpsilon / 2 * 2e6);
}

TEST(squared_distance_of_vectors) {
  CHECK(L::squared_distance(vector_of({1, -2, 3}), vector_of({4, 2, 3})) == 25);
  CHECK(L::squared_distance(vector_of({1e200}), vector_of({1e200})) == 0);
}

// Elements ------------------------------------------------------------------------------------------------------------

TEST(add_symmetric_adds_a_matrix_and_an_outer_product) {
  Random random(2);
  for (const Index n : kSizes) {
    const M a = random.matrix(n, n);
    const M b = random.matrix(n, n);
    const V d = vector_of(random.numbers(n));
    M result = with_upper(a, kNan);
    L::add_symmetric(result, -1.5, with_upper(b, kNan), 0.75, d);
    const M expected = plus(0.75, oracle::product(d, transposed(d)), plus(-1.5, b, a));
    // Five roundings of numbers below 36 (normal numbers below 6 each).
    CHECK_CLOSE(difference_below(result, expected), 0, 5 * 36 * kEpsilon);
    CHECK(upper_is_nan(result));
  }
}

TEST(scale_multiplies_every_element) {
  Random random(3);
  const M a = random.matrix(7, 3);
  M result = a;
  L::scale(result, -0.3);
  CHECK(difference(result, map(a, [](double value) { return -0.3 * value; })) == 0);
}

TEST(trace_of_product_reads_lower_triangles_only) {
  Random random(21);
  for (const Index n : {1, 7, 40}) {
    const M one = random.matrix(n, n);
    const M other = random.matrix(n, n);
    const M a = product(one, transposed(one));
    const M b = product(other, transposed(other));
    double expected = 0;
    for (Index i = 0; i < a.size(); ++i) expected += a.data()[i] * b.data()[i];
    const double found = L::trace_of_product(with_upper(a, kNan), with_upper(b, kNan));
    CHECK_CLOSE(found, expected, kEpsilon * as_double(n * n) * L::squared_norm(a));
  }
}

TEST(symmetrize_averages_and_reports_the_largest_difference) {
  Random random(4);
  for (const Index n : kSizes) {
    const M a = random.matrix(n, n);
    M result = a;
    const Asymmetry worst = L::symmetrize(result);
    const M twice = plus(1.0, a, transposed(a));
    CHECK(difference(result, transposed(result)) == 0);
    // Two roundings of numbers below 12.
    CHECK_CLOSE(difference(result, map(twice, [](double value) { return value / 2; })), 0, 24 * kEpsilon);
    CHECK(worst.difference == difference(a, transposed(a)));
    CHECK(std::abs(a.column(worst.j)[worst.i] - a.column(worst.i)[worst.j]) == worst.difference);
    CHECK(L::symmetrize(result).difference == 0);
  }
}

TEST(mirror_lower_scales_and_copies_the_lower_triangle) {
  Random random(5);
  for (const Index n : kSizes) {
    const M a = random.matrix(n, n);
    M result = with_upper(a, kNan);
    L::mirror_lower(result, 1.0);
    CHECK(difference(result, symmetric(a)) == 0);
    L::mirror_lower(result, 0.5);
    CHECK(difference(result, map(symmetric(a), [](double value) { return value / 2; })) == 0);
  }
}

TEST(diagonal_nonzero_columns_norm_and_max_equal_plain_loops) {
  Random random(6);
  for (const Index n : kSizes) {
    M a = random.matrix(n, n);
    const Index dead = n / 2;
    std::fill_n(a.column(dead), n, 0.0);
    const std::vector<double> diagonal = L::diagonal(a);
    const std::vector<bool> nonzero = L::nonzero_columns(a);
    long double squares = 0;
    for (Index j = 0; j < n; ++j) {
      CHECK(diagonal[static_cast<std::size_t>(j)] == a.column(j)[j]);
      CHECK(nonzero[static_cast<std::size_t>(j)] == (j != dead));
      for (Index i = 0; i < n; ++i) squares += static_cast<long double>(a.column(j)[i]) * a.column(j)[i];
    }
    // Sums of positive numbers: relative eps for each of the n terms of a column and for each of the n columns.
    const double exact = static_cast<double>(squares);
    CHECK_CLOSE(L::squared_norm(a), exact, 2 * as_double(n) * kEpsilon * exact);
    CHECK(L::max_magnitude(with_upper(a, kNan)) == oracle::largest(with_upper(a, 0.0)));
    a.column(0)[n - 1] = kNan;
    CHECK(std::isnan(L::max_magnitude(a)));
  }
}

TEST(last_entry_makes_a_column_nonzero) {
  M a = M::zeros(50, 3);
  a.column(1)[49] = -1e-300;
  CHECK((L::nonzero_columns(a) == std::vector<bool>{false, true, false}));
}

TEST(rows_and_columns_are_gathered_scattered_and_scaled) {
  Random random(7);
  for (const Index n : kSizes) {
    const M a = random.matrix(n, n);
    const std::vector<Index> units = shuffled(n);
    const Index m = static_cast<Index>(units.size());
    const std::vector<double> scale = random.numbers(m);
    const M picked = L::submatrix(2.0, a, units);
    const M gathered = L::gather_rows(a, units);
    CHECK(picked.rows() == m && picked.cols() == m && gathered.rows() == m && gathered.cols() == n);
    for (Index i = 0; i < m; ++i) {
      const Index from = units[static_cast<std::size_t>(i)];
      for (Index j = 0; j < n; ++j) CHECK(gathered.column(j)[i] == a.column(j)[from]);
      for (Index j = 0; j < m; ++j) {
        CHECK(picked.column(j)[i] == 2 * a.column(units[static_cast<std::size_t>(j)])[from]);
      }
    }

    std::vector<Index> every_third(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) every_third[static_cast<std::size_t>(i)] = 3 * (n - 1 - i) + 1;
    const std::vector<double> scale_of_rows = random.numbers(n);
    const M scattered = L::scatter_rows(a, 3 * n, every_third, scale_of_rows);
    M expected = M::zeros(3 * n, n);
    for (Index j = 0; j < n; ++j) {
      for (Index i = 0; i < n; ++i) {
        const auto row = static_cast<std::size_t>(i);
        expected.column(j)[every_third[row]] = scale_of_rows[row] * a.column(j)[i];
      }
    }
    CHECK(difference(scattered, expected) == 0);
  }
}

TEST(scaled_columns_start_at_first) {
  Random random(8);
  const M a = random.matrix(5, 9);
  const std::vector<double> scale = random.numbers(4);
  const M result = L::scaled_columns(a, 3, scale);
  CHECK(result.rows() == 5 && result.cols() == 4);
  for (Index j = 0; j < 4; ++j) {
    for (Index i = 0; i < 5; ++i) CHECK(result.column(j)[i] == scale[static_cast<std::size_t>(j)] * a.column(j + 3)[i]);
  }
  CHECK(L::scaled_columns(a, 9, {}).cols() == 0);
}

TEST(scale_both_sides_scales_rows_and_columns) {
  Random random(9);
  for (const Index n : kSizes) {
    const M a = random.matrix(n, n);
    const std::vector<double> scale = random.numbers(n);
    M result = with_upper(a, kNan);
    L::scale_both_sides(result, scale);
    for (Index j = 0; j < n; ++j) {
      for (Index i = j; i < n; ++i) {
        const double exact = a.column(j)[i] * scale[static_cast<std::size_t>(i)] * scale[static_cast<std::size_t>(j)];
        // Two roundings here and two there.
        CHECK_CLOSE(result.column(j)[i], exact, 4 * kEpsilon * std::abs(exact));
      }
    }
    CHECK(upper_is_nan(result));
  }
}

TEST(drop_mean_direction_preserves_the_scatter) {
  Random random(10);
  for (const Index n : {2, 3, 20}) {
    for (const double offset : {0.0, 1e6}) {
      const M rows = random.rows(12, n, offset);
      Mean<Cpu> mean = Mean<Cpu>::zeros(12);
      RowOps<Cpu>::mean(columns_as_features(rows, 0, n), mean);
      const M factor = L::drop_mean_direction(rows, mean);
      CHECK(factor.rows() == 12 && factor.cols() == n - 1);
      // The reflection rounds each entry by a few eps times the standard deviation times sqrt(n); then n products.
      const M scatter = oracle::product(factor, transposed(factor));
      CHECK_CLOSE(relative_error(scatter, textbook(rows).scatter), 0, 8 * as_double(n) * kEpsilon);
    }
  }
}

// Products ------------------------------------------------------------------------------------------------------------

TEST(products_equal_plain_loops) {
  Random random(11);
  for (const Index m : kSizes) {
    const Index n = 70 / m + 1;
    const M a = random.matrix(m, n);
    const M b = random.matrix(n, m + 3);
    CHECK_CLOSE(difference(L::product(a, b), oracle::product(a, b)), 0, of_sums(n));
    CHECK_CLOSE(difference(L::transposed_product(transposed(a), b), oracle::product(a, b)), 0, of_sums(n));
    CHECK_CLOSE(difference(L::outer_product(a), oracle::product(a, transposed(a))), 0, of_sums(n));
    CHECK(difference(L::outer_product(a), transposed(L::outer_product(a))) == 0);

    const M c = random.matrix(m, m);
    M less = with_upper(c, kNan);
    L::subtract_outer_product(less, a);
    CHECK_CLOSE(difference_below(less, plus(-1.0, oracle::product(a, transposed(a)), c)), 0, of_sums(n + 1));
    CHECK(upper_is_nan(less));
  }
}

TEST(products_with_empty_matrices) {
  CHECK(oracle::largest(L::outer_product(M(5, 0))) == 0);
  CHECK(L::product(M(0, 3), M(3, 2)).empty());
  CHECK(L::transposed_product(M(4, 0), M(4, 2)).empty());
  CHECK(L::triangular_product(M(3, 3), M(3, 0)).empty());
  CHECK(L::quadratic_form(M(3, 3), M(3, 0)).empty());
}

TEST(triangular_products_read_one_triangle) {
  Random random(12);
  // The congruence is recursive above 128.
  for (const Index n : {1, 2, 31, 32, 33, 70, 128, 129, 260, 301}) {
    const M l = random.triangle(n);
    const M b = random.matrix(n, 5);
    // The diagonal of l is up to 2 sqrt(n), so sums have size 6 (6 n + 2 sqrt(n)); and two products in a row.
    const M expected = oracle::product(transposed(l), b);
    CHECK_CLOSE(difference(L::triangular_product(with_upper(l, kNan), b), expected), 0, 2 * of_sums(n));

    const M s = symmetric(random.matrix(n, n));
    M congruent = with_upper(s, kNan);
    L::congruence(congruent, l);
    const M form = oracle::product(transposed(l), oracle::product(s, l));
    // Two products of at most n^2 terms of at most 6^3; a factor of 4 for another order of summation.
    CHECK_CLOSE(difference_below(congruent, form), 0, 4 * 6 * as_double(n) * of_sums(n));
    CHECK(upper_is_nan(congruent));

    const M f = random.matrix(n, 4);
    const M of_f = oracle::product(transposed(f), oracle::product(s, f));
    CHECK_CLOSE(difference_below(L::quadratic_form(s, f), of_f), 0, 4 * 6 * as_double(n) * of_sums(n));
  }
}

TEST(absolute_product_equals_product_of_magnitudes) {
  Random random(13);
  for (const Index n : kSizes) {
    const M l = random.matrix(n, n);
    std::vector<double> v = random.numbers(n);
    for (double& value : v) value = std::abs(value);
    const std::vector<double> result = L::absolute_product(with_upper(l, kNan), v);
    const M magnitudes = map(with_upper(l, 0.0), [](double value) { return std::abs(value); });
    const M expected = oracle::product(transposed(magnitudes), vector_of(v));
    CHECK_CLOSE(difference(vector_of(result), expected), 0, of_sums(n));
  }
}

// LAPACK interface ----------------------------------------------------------------------------------------------------

TEST(sizes_too_large_for_blas_integers_are_rejected) {
  using Narrow = lapack::Routines<std::int32_t>;
  CHECK(Narrow::size(2147483647) == 2147483647);
  CHECK_THROWS(Narrow::size(2147483648), InvalidInput, "2147483648 does not fit the 32-bit integers of this BLAS");
  CHECK(lapack::Routines<std::int64_t>::size(2147483648) == 2147483648);
}

TEST(convergence_failure_names_the_routine) {
  CHECK_THROWS(lapack::require_success(3, "dsterf"), NumericalFailure, "dsterf failed with info = 3");
  lapack::require_success(0, "dsterf");
}
