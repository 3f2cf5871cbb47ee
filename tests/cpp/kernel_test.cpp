// Kernel distances and their RowOps compared with plain loops; unbiasedness over all possible samples.
#include "core/kernel/kernel.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "check.hpp"
#include "oracle.hpp"
#include "streams.hpp"

using namespace fidfast;
using namespace fidfast::oracle;
using Rows = RowOps<Cpu>;

namespace {

double value_of(const Polynomial& f, double e, double /*linear*/) {
  double sum = 0;
  for (std::size_t q = f.coefficients.size(); q > 0; --q) sum = e * (f.coefficients[q - 1] + sum);
  return sum;
}
/// Exponents above 0, or above 1 if the linear part is separate, are rounding errors.
double value_of(const ExponentialLessOne&, double e, double linear) { return std::expm1(std::min(e, linear)); }

template <class T>
Matrix<Cpu, T> random_products(Random& random, Index rows, Index cols, double scale) {
  Matrix<Cpu, T> result(rows, cols);
  for (Index i = 0; i < result.size(); ++i) result.data()[i] = static_cast<T>(scale * random.normal());
  return result;
}

V random_terms(Random& random, Index n) {
  std::vector<double> numbers = random.numbers(n);
  for (double& number : numbers) number /= 4;
  return vector_of(numbers);
}

/// Compares add_function_sums with loops, for a tile in the interior.
template <class T, class Function>
void check_sums(const Function& f, double linear, Index m, Index n, bool below_diagonal) {
  Random random(7);
  const auto products = random_products<T>(random, m + 3, n, 0.1);
  const bool same = below_diagonal;
  const Index before = 2;
  const V row_terms = random_terms(random, m + 5);
  const V column_terms = same ? row_terms : random_terms(random, n + 5);
  V row_sums = vector_of(std::vector<double>(static_cast<std::size_t>(m + 5), 0.5));
  V column_sums = vector_of(std::vector<double>(static_cast<std::size_t>(n + 5), 0.25));
  std::vector<double> expected_rows(row_sums.data(), row_sums.data() + row_sums.size());
  std::vector<double> expected_columns(column_sums.data(), column_sums.data() + column_sums.size());
  double expected_squares = 0;
  double expected_of_terms = 0;
  const double weight = 0.5;
  for (Index j = 0; j < n; ++j) {
    for (Index i = below_diagonal ? j + 1 : 0; i < m; ++i) {
      const double e = row_terms.data()[before + i] + column_terms.data()[before + j] +
                       weight * static_cast<double>(products.column(j)[i]);
      const double value = value_of(f, e, linear);
      expected_squares += value * value;
      expected_of_terms += e * e;
      expected_rows[static_cast<std::size_t>(before + i)] += value - linear * e;
      (same ? expected_rows : expected_columns)[static_cast<std::size_t>(before + j)] += value - linear * e;
    }
  }
  const TileAxis<Cpu> rows{row_terms, row_sums, {before, before + m}};
  const TileAxis<Cpu> columns{same ? row_terms : column_terms, same ? row_sums : column_sums, {before, before + n}};
  const TileSquares squares = Rows::add_function_sums(f, linear, weight, products, rows, columns, below_diagonal);
  // Sums of max(m, n) values of order 10, and of m n squares.
  const double tolerance = kEpsilon * as_double(std::max(m, n)) * 20;
  for (Index i = 0; i < row_sums.size(); ++i) {
    CHECK_CLOSE(row_sums.data()[i], expected_rows[static_cast<std::size_t>(i)], tolerance);
  }
  for (Index j = 0; !same && j < column_sums.size(); ++j) {
    CHECK_CLOSE(column_sums.data()[j], expected_columns[static_cast<std::size_t>(j)], tolerance);
  }
  CHECK_CLOSE(squares.of_function, expected_squares, kEpsilon * as_double(m * n) * 20 + 1e-13 * expected_squares);
  CHECK_CLOSE(squares.of_terms, expected_of_terms, kEpsilon * as_double(m * n) * 20);
}

/// The tile function of one number.
double exponential_less_one(double e, double linear) {
  const V term = vector_of({e});
  const V zero = vector_of({0.0});
  V row_sum = V::zeros(1);
  V column_sum = V::zeros(1);
  const Matrix<Cpu, double> products = Matrix<Cpu, double>::zeros(1, 1);
  Rows::add_function_sums(ExponentialLessOne{}, linear, 1.0, products, {term, row_sum, {0, 1}},
                          {zero, column_sum, {0, 1}}, false);
  CHECK(row_sum.data()[0] == column_sum.data()[0] || std::isnan(e));
  return row_sum.data()[0];
}

double plain_kernel(const M& a, Index i, const M& b, Index j) {
  long double sum = 0;
  for (Index k = 0; k < a.rows(); ++k) sum += static_cast<long double>(a.column(i)[k]) * b.column(j)[k];
  return std::pow(static_cast<double>(sum) / as_double(a.rows()) + 1, 3);
}

double plain_kid(const M& a, const M& b) {
  long double aa = 0;
  long double bb = 0;
  long double ab = 0;
  const Index n = a.cols();
  const Index m = b.cols();
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) aa += i == j ? 0 : plain_kernel(a, i, a, j);
    for (Index j = 0; j < m; ++j) ab += plain_kernel(a, i, b, j);
  }
  for (Index i = 0; i < m; ++i) {
    for (Index j = 0; j < m; ++j) bb += i == j ? 0 : plain_kernel(b, i, b, j);
  }
  return static_cast<double>(aa / (n * (n - 1)) + bb / (m * (m - 1)) - 2 * ab / (n * m));
}

KernelSums sums_of(const M& a, const M& b) {
  const KernelRows of_a{view(a), "a"};
  const KernelRows of_b{view(b), "b"};
  return kernel::sums<Cpu>(PolynomialOptions{}.checked(a.rows()), of_a, of_b, Precision::kFloat64);
}

}  // namespace

TEST(add_function_sums_equals_plain_loops) {
  const Polynomial cubic{{3.0, 2.0, 0.5}};
  for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{{1, 1}, {3, 7}, {511, 4}, {512, 9}, {1100, 33}}) {
    for (const double linear : {0.0, 3.0}) {
      check_sums<float>(cubic, linear, m, n, false);
      check_sums<double>(cubic, linear, m, n, false);
      check_sums<double>(Polynomial{{3.0}}, linear, m, n, false);
      check_sums<double>(Polynomial{{3.0, 2.0, 0.5, 0.1, 0.01}}, linear, m, n, false);
    }
  }
  check_sums<float>(ExponentialLessOne{}, 0.0, 600, 33, false);
  check_sums<double>(ExponentialLessOne{}, 1.0, 600, 33, false);
  for (const Index n : {1, 2, 40, 700}) {
    check_sums<float>(cubic, 3.0, n, n, true);
    check_sums<double>(cubic, 0.0, n, n, true);
  }
}

TEST(exponential_equals_the_standard_library) {
  Random random(3);
  for (int k = 0; k < 20000; ++k) {
    const double e = -std::pow(10.0, random.uniform(-18, 2.85));
    const double exact = std::expm1(e);
    CHECK_CLOSE(exponential_less_one(e, 0.0), exact, 4 * kEpsilon * std::abs(exact));
    // If the linear part is separate, arguments are near 0 and the result is e^2 / 2 - ...
    if (e > -2) CHECK_CLOSE(exponential_less_one(e, 1.0), exact - e, 4 * kEpsilon * std::abs(e));
    if (e > -1e-5) CHECK_CLOSE(exponential_less_one(e, 1.0), e * e / 2 * (1 + e / 3), 1e-10 * e * e);
  }
  CHECK(exponential_less_one(0.0, 0.0) == 0);
  CHECK(exponential_less_one(0.0, 1.0) == 0);
  CHECK(exponential_less_one(-1e300, 0.0) == -1);
  CHECK(exponential_less_one(1e-3, 0.0) == 0);  // a negative distance is rounding
  CHECK(std::isnan(exponential_less_one(kNan, 0.0)));
}

TEST(own_products_are_the_lower_triangle_of_cross_products) {
  Random random(5);
  for (const Index dim : {1, 2, 31, 64}) {
    for (const Index n : {1, 2, 12, 33, 100}) {
      M a(dim, n + 2);
      for (Index i = 0; i < a.size(); ++i) a.data()[i] = std::round(300 * random.normal());
      Matrix<Cpu, float> narrow = narrowed(a);
      Matrix<Cpu, std::int16_t> integers(dim, n + 2);
      Matrix<Cpu, std::int8_t> bytes(dim, n + 2);
      const M small = map(a, [](double v) { return std::round(v / 12); });  // at most 5 standard deviations of 25
      std::transform(small.data(), small.data() + a.size(), bytes.data(),
                     [](double v) { return static_cast<std::int8_t>(v); });
      std::transform(a.data(), a.data() + a.size(), integers.data(),
                     [](double v) { return static_cast<std::int16_t>(v); });
      M wide_result(n + 1, n);
      Matrix<Cpu, float> narrow_result(n + 1, n);
      Matrix<Cpu, float> integer_result(n + 1, n);
      Matrix<Cpu, float> byte_result(n + 1, n);
      Rows::own_products(a, n, wide_result);
      Rows::own_products(narrow, n, narrow_result);
      Rows::own_products(integers, n, integer_result);
      Rows::own_products(bytes, n, byte_result);
      const M of_small = product(transposed(columns(small, 0, n)), columns(small, 0, n));
      const M expected = product(transposed(columns(a, 0, n)), columns(a, 0, n));
      for (Index j = 0; j < n; ++j) {
        for (Index i = j; i < n; ++i) {
          const double exact = expected.column(j)[i];
          CHECK(wide_result.column(j)[i] == exact);  // sums of integers are exact
          CHECK(integer_result.column(j)[i] == static_cast<float>(exact));
          CHECK(byte_result.column(j)[i] == static_cast<float>(of_small.column(j)[i]));
          // Sums of dim products of at most 1500^2.
          CHECK_CLOSE(static_cast<double>(narrow_result.column(j)[i]), exact,
                      6e-8 * as_double(dim) * as_double(dim) * 1500 * 1500);
        }
      }
    }
  }
}

TEST(inner_products_equal_plain_loops) {
  Random random(6);
  for (const Index n : {1, 513}) {
    const M rows = map(random.rows(9, n, 3), [](double v) { return static_cast<double>(static_cast<float>(v)); });
    const Matrix<Cpu, float> narrow = narrowed(rows);
    const V origin = vector_of(random.numbers(9));
    const M vectors = random.matrix(9, 3);
    M wide_result(n, 3);
    M narrow_result(n, 3);
    M strided_result(n, 3);
    Rows::inner_products(view(rows), origin, vectors, wide_result);
    Rows::inner_products(view(narrow), origin, vectors, narrow_result);
    const M turned = transposed(rows);
    Rows::inner_products(FeatureView<double>{turned.data(), n, 9, 1, n}, origin, vectors, strided_result);
    for (Index k = 0; k < 3; ++k) {
      for (Index i = 0; i < n; ++i) {
        double exact = 0;
        double size = 0;
        for (Index j = 0; j < 9; ++j) {
          const double term = (rows.column(i)[j] - origin.data()[j]) * vectors.column(k)[j];
          exact += term;
          size += std::abs(term);
        }
        CHECK_CLOSE(wide_result.column(k)[i], exact, 9 * kEpsilon * size);
        CHECK(narrow_result.column(k)[i] == wide_result.column(k)[i]);
        CHECK(strided_result.column(k)[i] == wide_result.column(k)[i]);
      }
    }
  }
}

TEST(largest_deviation_equals_a_plain_loop) {
  Random random(12);
  for (const Index n : {1, 700}) {
    const M rows = random.rows(400, n, 3);
    const V origin = vector_of(random.numbers(400));
    double expected = 0;
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j < 400; ++j) {
        expected = std::max(expected, std::abs(rows.column(i)[j] - origin.data()[j]));
      }
    }
    CHECK(Rows::largest_deviation(view(rows), origin) == expected);
  }
}

TEST(squared_terms_equal_plain_loops) {
  Random random(13);
  const Matrix<Cpu, float> a = narrowed(map(random.matrix(6, 50), [](double v) { return v + 0.5; }));
  const Matrix<Cpu, float> b = narrowed(map(random.matrix(6, 4100), [](double v) { return v + 0.7; }));
  const KernelRows sides[] = {{view(a), "a"}, {view(b), "b"}};
  const PolynomialKernel function = PolynomialOptions{}.checked(6);
  kernel::CentredSets<Cpu> centred(sides[0], sides[1], function);
  centred.add_products_with_sums();
  const PolynomialTerms terms = function.terms(centred.extent());
  const auto found = kernel::squared_terms(terms, centred);
  CHECK(found.has_value());
  const M rows[] = {widened(a), widened(b)};
  const auto sum = [&](int k, int l) {
    double total = 0;
    for (Index i = 0; i < rows[k].cols(); ++i) {
      for (Index j = 0; j < rows[l].cols(); ++j) {
        if (k == l && i == j) continue;
        double inner = 0;
        for (Index d = 0; d < 6; ++d) inner += rows[k].column(i)[d] * rows[l].column(j)[d];
        const double e = terms.weight * (inner - centred.squared_centre);
        total += e * e;
      }
    }
    return total;
  };
  // Sums of products in float32, of at most 2,048 rows.
  const auto close = [](double number, double exact) { CHECK_CLOSE(number, exact, 1e-6 * exact); };
  close(found->own[0], sum(0, 0));
  close(found->own[1], sum(1, 1));
  close(found->cross, sum(0, 1));
  // Empty if float32 overflows.
  const Matrix<Cpu, float> huge = narrowed(map(widened(a), [](double v) { return v * 1e30; }));
  const KernelRows far[] = {{view(huge), "a"}, {view(huge), "b"}};
  kernel::CentredSets<Cpu> beyond(far[0], far[1], function);
  beyond.add_products_with_sums();
  CHECK(!kernel::squared_terms(terms, beyond).has_value());
}

TEST(kernel_distance_equals_the_formula_in_every_precision) {
  Random random(8);
  for (const auto& [n, m] : std::vector<std::pair<Index, Index>>{{2, 3}, {40, 25}, {2100, 60}}) {
    const Matrix<Cpu, float> a = narrowed(map(random.matrix(16, n), [](double v) { return v + 0.5; }));
    const Matrix<Cpu, float> b = narrowed(map(random.matrix(16, m), [](double v) { return v + 0.7; }));
    const double exact = plain_kid(widened(a), widened(b));
    const auto of = [&](auto precision, const AnyFeatures& one, const AnyFeatures& other) {
      return kid<Cpu>(PolynomialOptions{}, one, other, precision);
    };
    const M wide = widened(a);
    const KernelDistance in_double = of(Precision::kFloat64, view(a), view(b));
    CHECK_CLOSE(in_double.value, exact, 1e-12);
    CHECK(of(Precision::kFloat32, view(wide), view(b)).value == in_double.value);
    // Rounding rows to 12 bits or more affects the second-order part of the kernel, which is at most of order 1.
    CHECK_CLOSE(of(Precision::kFloat32, view(a), view(b)).value, exact, 1e-3 / std::sqrt(as_double(std::min(n, m))));
  }
}

TEST(value_and_variance_are_unbiased_over_all_samples) {
  // Two sets of 4 and 5 rows drawn from distributions on two points: all 512 samples, with their probabilities.
  constexpr Index kN = 4;
  constexpr Index kM = 5;
  const double points[2][2] = {{0.3, -1.0}, {1.5, 0.4}};
  for (const double of_b : {0.3, 0.8}) {  // equal and different distributions
    constexpr double kOfA = 0.3;
    double mean = 0;
    double mean_square = 0;
    double mean_variance = 0;
    for (unsigned sample = 0; sample < (1U << (kN + kM)); ++sample) {
      M a(2, kN);
      M b(2, kM);
      double probability = 1;
      for (Index i = 0; i < kN + kM; ++i) {
        const unsigned point = (sample >> static_cast<unsigned>(i)) & 1U;
        const double second = i < kN ? kOfA : of_b;
        probability *= point == 1 ? second : 1 - second;
        std::copy_n(points[point], 2, i < kN ? a.column(i) : b.column(i - kN));
      }
      const KernelSums sums = sums_of(a, b);
      const double value = kernel::unbiased(sums);
      const double unit = std::ldexp(1.0, 2 * sums.exponent);
      mean += probability * value;
      mean_square += probability * value * value;
      mean_variance += probability * unit * kernel::variance(sums);
    }
    double exact = 0;  // (p - q)^T K (p - q)
    const double difference[2] = {of_b - kOfA, kOfA - of_b};
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j) {
        const double inner = points[i][0] * points[j][0] + points[i][1] * points[j][1];
        exact += difference[i] * difference[j] * std::pow(inner / 2 + 1, 3);
      }
    }
    CHECK_CLOSE(mean, exact, 1e-12);
    CHECK_CLOSE(mean_variance, mean_square - mean * mean, 1e-11 * mean_square);
  }
}

TEST(subsets_equal_sets_of_their_rows) {
  Random random(9);
  const Matrix<Cpu, float> a = narrowed(random.matrix(5, 30));
  const M b = random.matrix(5, 20);
  const Subsets of_a{{3, 4, 29, 0, 7, 8}, 2, 3};
  const Subsets of_b{{0, 1, 2, 19, 5, 5}, 2, 3};
  const std::vector<double> values =
      kid_of_subsets<Cpu>(PolynomialOptions{}, view(a), view(b), of_a, of_b, Precision::kFloat32);
  for (std::size_t k = 0; k < 2; ++k) {
    M one(5, 3);
    M other(5, 3);
    for (Index i = 0; i < 3; ++i) {
      const std::size_t place = 3 * k + static_cast<std::size_t>(i);
      for (Index j = 0; j < 5; ++j) {
        one.column(i)[j] = static_cast<double>(a.column(of_a.rows[place])[j]);
        other.column(i)[j] = b.column(of_b.rows[place])[j];
      }
    }
    CHECK_CLOSE(values[k], plain_kid(one, other), 1e-12);
  }
  const Subsets beyond{{0, 1, 30}, 1, 3};
  CHECK_THROWS(kid_of_subsets<Cpu>(PolynomialOptions{}, view(a), view(b), beyond, of_b, Precision::kFloat32),
               InvalidInput, "row 30 of a subset is out of range: samples has 30 rows");
}
