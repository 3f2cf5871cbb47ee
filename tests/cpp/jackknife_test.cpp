// Leave-one-out distances compared with recomputation, and the bias corrections.
#include "core/jackknife.hpp"

#include <array>
#include <vector>

#include "check.hpp"
#include "streams.hpp"

using namespace fidfast;
using namespace fidfast::oracle;
using CpuGaussian = Gaussian<Cpu>;
using CpuJackknife = Jackknife<Cpu>;

namespace {

constexpr std::array<bool, 2> kBoth = {true, true};
constexpr std::array<bool, 2> kNone = {false, false};

/// Quadrature error: each root has the relative error 3e-9 times a phase factor; a row changes several roots.
constexpr double kQuadrature = 1e-7;
/// If only one row varies in a direction, 1 - s is clipped at 1e-12. That cuts off sqrt(1e-12) of the integral, times a
/// logarithm.
constexpr double kAlone = 1e-5;
/// 6e-8 for float32 products times the condition of the whitening, about 100 here.
constexpr double kFloatProducts = 1e-5;

M without_row(const M& rows, Index i) { return joined(columns(rows, 0, i), columns(rows, i + 1, rows.cols() - i - 1)); }

CpuJackknife jackknife(const CpuGaussian& a, const CpuGaussian& b, std::array<bool, 2> sampled = kBoth) {
  return {a, b, sampled, Precision::kFloat32, true};
}

/// Two samples; rows are the columns of the matrices.
struct Samples {
  M rows1;
  M rows2;

  CpuGaussian a() const { return moments_of(rows1).stats(1); }
  CpuGaussian b() const { return moments_of(rows2).stats(1); }
  const M& of(Operand operand) const { return operand == Operand::kFirst ? rows1 : rows2; }
  Samples without(Operand operand, Index i) const {
    return operand == Operand::kFirst ? Samples{without_row(rows1, i), rows2} : Samples{rows1, without_row(rows2, i)};
  }
  /// Contribution of one row to the distance, the unit for errors.
  double share(Operand operand) const {
    const FrechetTerms terms = frechet_terms(a(), b());
    return (terms.mean_term + terms.trace1 + terms.trace2) / as_double(of(operand).cols());
  }
};

/// Whether a row may be the only one that varies in some direction.
bool alone(const Samples& samples, Operand operand) {
  return samples.of(operand).cols() <= samples.of(operand).rows() + 1;
}

/// Compares both results for every `step`-th row with recomputation; `error` is relative to samples.share().
void check_rows(const Samples& samples, Operand operand, const WithoutRow& found, double error, Index step = 1) {
  for (Index i = 0; i < samples.of(operand).cols(); i += step) {
    const Samples rest = samples.without(operand, i);
    const FrechetTerms terms = frechet_terms(rest.a(), rest.b());
    const double tolerance = error * samples.share(operand) + terms.rounding;
    CHECK_CLOSE(found.distance[static_cast<std::size_t>(i)], terms.distance(), tolerance);
    // The correction does not apply with fewer than 2 degrees of freedom for each dimension.
    if (rest.of(operand).cols() < 3 || rest.rows1.cols() <= 2 * rest.rows1.rows() ||
        rest.rows2.cols() <= 2 * rest.rows2.rows()) {
      continue;
    }
    const CpuJackknife anew(rest.a(), rest.b(), kBoth, Precision::kFloat32, false);
    CHECK_CLOSE(found.corrected[static_cast<std::size_t>(i)], anew.corrected(), tolerance);
  }
}

void check_against_brute_force(const Samples& samples) {
  CpuJackknife all = jackknife(samples.a(), samples.b());
  for (const Operand operand : {Operand::kFirst, Operand::kSecond}) {
    check_rows(samples, operand, all.without(operand, view(samples.of(operand))),
               alone(samples, operand) ? kAlone : kQuadrature);
  }
}

/// int_0^x dy / sqrt((1 - a y)(1 - b y)) by Simpson's rule.
double integral(double x, double a, double b) {
  constexpr int kSteps = 20000;
  const double h = x / kSteps;
  double sum = 0;
  for (int i = 0; i <= kSteps; ++i) {
    const double y = h * i;
    const double weight = i == 0 || i == kSteps ? 1 : (i % 2 == 1 ? 4 : 2);
    sum += weight / std::sqrt((1 - a * y) * (1 - b * y));
  }
  return sum * h / 3;
}

CpuGaussian diagonal(const std::vector<double>& values, Index num_samples) {
  const auto dim = static_cast<Index>(values.size());
  M sigma = M::zeros(dim, dim);
  for (Index j = 0; j < dim; ++j) sigma.column(j)[j] = values[static_cast<std::size_t>(j)];
  return CpuGaussian::checked(V::zeros(dim), sigma, num_samples);
}

}  // namespace

// Leave-one-out -------------------------------------------------------------------------------------------------------

TEST(leave_one_out_equals_recomputation) {
  Random random(1);
  for (const Index dim : {1, 2, 5, 12}) {
    for (const Index n1 : {Index{3}, dim, dim + 1, dim + 2, 2 * dim + 3, Index{40}}) {
      for (const Index n2 : {Index{3}, dim + 1, Index{40}}) {
        if (n1 >= 3 && n2 >= 3) check_against_brute_force({random.rows(dim, n1, 0.5), random.rows(dim, n2)});
      }
    }
  }
}

TEST(leave_one_out_with_dead_units) {
  Random random(2);
  for (const Index n1 : {4, 10, 40}) {
    for (const Index n2 : {5, 40}) {
      Samples samples{random.rows(8, n1, 0.5), random.rows(8, n2)};
      for (Index i = 0; i < n1; ++i) samples.rows1.column(i)[1] = 0.7;
      for (Index i = 0; i < n2; ++i) samples.rows2.column(i)[2] = samples.rows2.column(i)[5] = -1;
      for (Index i = 0; i < n1; ++i) samples.rows1.column(i)[5] = 0;
      check_against_brute_force(samples);
    }
  }
}

TEST(leave_one_out_of_the_only_row_that_varies_in_a_unit) {
  Random random(3);
  Samples samples{random.rows(6, 40, 0.5), random.rows(6, 50)};
  for (Index i = 0; i < 40; ++i) samples.rows1.column(i)[2] = i == 17 ? 3 : 0;
  CpuJackknife all = jackknife(samples.a(), samples.b());
  check_rows(samples, Operand::kFirst, all.without(Operand::kFirst, view(samples.rows1)), kAlone);
  check_rows(samples, Operand::kSecond, all.without(Operand::kSecond, view(samples.rows2)), kQuadrature);
}

TEST(leave_one_out_of_a_sample_compared_with_itself) {
  Random random(4);
  for (const Index n : {5, 9, 40}) {
    const M rows = random.rows(8, n, 1);
    check_against_brute_force({rows, rows});
  }
}

TEST(leave_one_out_without_variance) {
  M rows(3, 5);
  for (Index i = 0; i < 5; ++i) std::copy_n(vector_of({1, 2, 3}).data(), 3, rows.column(i));
  Random random(5);
  const Samples samples{rows, random.rows(3, 20)};
  CpuJackknife all = jackknife(samples.a(), samples.b());
  CHECK(all.rank() == 0 && all.second_order() == 0);
  check_rows(samples, Operand::kFirst, all.without(Operand::kFirst, view(rows)), 16 * kEpsilon);
  check_rows(samples, Operand::kSecond, all.without(Operand::kSecond, view(samples.rows2)), 16 * kEpsilon);
}

TEST(leave_one_out_of_equal_rows_on_both_sides) {
  for (const Index n : {3, 5}) {  // as many rows as dims: factors of zeros; more: covariances of zeros
    M one(3, n);
    M two(3, n);
    for (Index i = 0; i < n; ++i) {
      std::copy_n(vector_of({1, 2, 3}).data(), 3, one.column(i));
      std::copy_n(vector_of({3, 3, 5}).data(), 3, two.column(i));
    }
    const Samples samples{one, two};
    CpuJackknife all = jackknife(samples.a(), samples.b());
    CHECK(all.rank() == 0 && all.distance() == 9 && all.corrected() == 9 && all.second_order() == 0);
    CHECK(all.without(Operand::kFirst, view(one)).distance == std::vector<double>(static_cast<std::size_t>(n), 9));
  }
}

TEST(leave_one_out_scales_with_the_square_of_the_unit) {
  Random random(15);
  const Samples samples{random.rows(4, 30, 0.5), random.rows(4, 40)};
  CpuJackknife expected = jackknife(samples.a(), samples.b());
  const WithoutRow rows = expected.without(Operand::kFirst, view(samples.rows1));
  for (const int exponent : {-40, -1, 3, 40}) {
    const auto scaled = [exponent](double value) { return std::ldexp(value, exponent); };
    const Samples other{map(samples.rows1, scaled), map(samples.rows2, scaled)};
    CpuJackknife found = jackknife(other.a(), other.b());
    CHECK(found.distance() == std::ldexp(expected.distance(), 2 * exponent));
    CHECK(found.second_order() == std::ldexp(expected.second_order(), 4 * exponent));
    const WithoutRow mine = found.without(Operand::kFirst, view(other.rows1));
    for (std::size_t i = 0; i < mine.distance.size(); ++i) {
      CHECK(mine.distance[i] == std::ldexp(rows.distance[i], 2 * exponent));
      CHECK(mine.corrected[i] == std::ldexp(rows.corrected[i], 2 * exponent));
    }
  }
}

TEST(leave_one_out_is_independent_of_blocks_strides_and_offset) {
  Random random(6);
  const Samples samples{random.rows(4, 2100, 1e4), random.rows(4, 60, 1e4)};
  CpuJackknife all = jackknife(samples.a(), samples.b());
  const WithoutRow whole = all.without(Operand::kFirst, view(samples.rows1));
  check_rows(samples, Operand::kFirst, whole, kQuadrature, 299);
  const M across = transposed(samples.rows1);  // its columns are units
  const WithoutRow strided = all.without(Operand::kFirst, FeatureView<double>{across.data(), 2100, 4, 1, 2100});
  CHECK(strided.distance == whole.distance && strided.corrected == whole.corrected);
  const WithoutRow last = all.without(Operand::kFirst, columns_as_features(samples.rows1, 2000, 100));
  for (std::size_t i = 0; i < 100; ++i) {
    // Another number of rows may change the order of summation.
    CHECK_CLOSE(last.distance[i], whole.distance[2000 + i], 1e-12 * whole.distance[2000 + i]);
  }
  CHECK(all.without(Operand::kFirst, columns_as_features(samples.rows1, 0, 0)).distance.empty());
}

TEST(float_rows_use_float_products_if_there_are_many) {
  Random random(7);
  constexpr Index kDim = 512;
  const auto rows = [&](Index n) {
    M result = random.matrix(kDim, n);
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j < kDim; ++j) result.column(i)[j] *= std::pow(10.0, -as_double(j) / kDim);
    }
    return narrowed(result);
  };
  const Matrix<Cpu, float> many = rows(1100);
  const Matrix<Cpu, float> few = rows(20);
  const Matrix<Cpu, float> other = rows(600);
  for (const Matrix<Cpu, float>* const mine : {&many, &few}) {
    const Samples samples{widened(*mine), widened(other)};
    CpuJackknife all = jackknife(samples.a(), samples.b());
    const WithoutRow in_float = all.without(Operand::kFirst, view(*mine));
    const WithoutRow in_double = all.without(Operand::kFirst, view(samples.rows1));
    check_rows(samples, Operand::kFirst, in_double, kAlone, mine->cols() / 2);
    const double tolerance = kFloatProducts * samples.share(Operand::kFirst);
    for (std::size_t i = 0; i < in_float.distance.size(); ++i) {
      CHECK_CLOSE(in_float.distance[i], in_double.distance[i], tolerance);
      CHECK_CLOSE(in_float.corrected[i], in_double.corrected[i], tolerance);
    }
    CHECK((in_float.distance == in_double.distance) == (mine == &few));
  }
}

TEST(jackknife_is_symmetric) {
  Random random(8);
  for (const Index n1 : {6, 30}) {
    const Samples samples{random.rows(8, n1, 0.5), random.rows(8, 40)};
    CpuJackknife forth = jackknife(samples.a(), samples.b());
    CpuJackknife back = jackknife(samples.b(), samples.a());
    CHECK(forth.second_order() == back.second_order());
    CHECK(forth.gaussian_bias(Operand::kFirst) == back.gaussian_bias(Operand::kSecond));
    const WithoutRow mine = forth.without(Operand::kFirst, view(samples.rows1));
    const WithoutRow theirs = back.without(Operand::kSecond, view(samples.rows1));
    for (std::size_t i = 0; i < mine.distance.size(); ++i) {
      // The same sums, except for the order of the two traces.
      CHECK_CLOSE(mine.distance[i], theirs.distance[i], 1e-13 * mine.distance[i]);
      CHECK_CLOSE(mine.corrected[i], theirs.corrected[i], 1e-13 * mine.distance[i]);
    }
  }
}

// Corrections ---------------------------------------------------------------------------------------------------------

TEST(psi_equals_its_integral) {
  for (const double a : {0.0, 1e-9, 0.01, 0.3, 0.5}) {
    for (const double b : {0.0, 1e-9, 0.02, 0.3}) {
      for (const double x : {0.0, 1e-6, 0.1, 1.0, 1.9}) {
        // Simpson's error is h^4 times the fourth derivative, at most about 1e6 here.
        CHECK_CLOSE(detail::psi(x, a, b), integral(x, a, b), 1e-10 * (1 + x));
        CHECK_CLOSE(detail::psi(x, a, b), detail::psi(x, b, a), 8 * kEpsilon * (1 + x));
      }
    }
  }
}

TEST(psi_limits) {
  for (const double x : {0.0, 0.3, 5.0}) {
    CHECK(detail::psi(x, 0, 0) == x);
    for (const double a : {1e-6, 0.1, 0.19}) {
      CHECK_CLOSE(detail::psi(x, a, a), -std::log1p(-a * x) / a, 16 * kEpsilon * (1 + x) / (1 - a * x));
      const double one_sided = 2 * x / (1 + std::sqrt(1 - a * x));
      CHECK_CLOSE(detail::psi(x, a, 0), one_sided, 8 * kEpsilon * (1 + x));
      CHECK_CLOSE(detail::psi(x, a, 1e-30), one_sided, 8 * kEpsilon * (1 + x));
    }
  }
  // It stays finite for x beyond the degrees of freedom.
  CHECK(std::isfinite(detail::psi(3, 0.5, 0.5)) && std::isfinite(detail::psi(3, 0.5, 0)));
}

TEST(exact_moments_and_large_samples_need_no_correction) {
  Random random(9);
  const Samples samples{random.rows(8, 30, 0.5), random.rows(8, 40)};
  const CpuJackknife known(samples.a(), samples.b(), kNone, Precision::kFloat64, false);
  CHECK(known.corrected() == known.distance());
  CHECK(known.gaussian_bias(Operand::kFirst) == 0);
  const FrechetTerms terms = frechet_terms(samples.a(), samples.b());
  CHECK_CLOSE(known.distance(), terms.distance(), terms.rounding);
  constexpr Index kEndless = Index{1} << 40;
  const CpuGaussian endless = CpuGaussian::checked(samples.a().mu(), samples.a().sigma(), kEndless);
  const CpuJackknife corrected(endless, samples.b(), {true, false}, Precision::kFloat64, false);
  // dim of n degrees of freedom are lost, each a share of the traces.
  const double share = 8 * (terms.trace1 + terms.trace2) / as_double(kEndless);
  CHECK_CLOSE(corrected.corrected(), terms.distance(), share + terms.rounding);
  CHECK(corrected.corrected() < corrected.distance());
}

TEST(correction_closed_form_in_one_dimension) {
  // With m degrees of freedom on both sides x(t) = l/(l + t), Psi = -m log(1 - x/m), and
  // 1/pi int t^(-1/2) log((t + l)/(t + (1 - 1/m) l)) dt = 2 sqrt(l) (1 - sqrt(1 - 1/m)).
  for (const Index n : {3, 4, 11, 1000}) {
    for (const double variance : {1e-8, 1.0, 3e5}) {
      const CpuJackknife one(diagonal({variance}, n), diagonal({4 * variance}, n), kBoth, Precision::kFloat64, false);
      const double m = as_double(n - 1);
      const double root = 2 * variance * 2 * m * (1 - std::sqrt(1 - 1 / m));
      const double exact = 5 * variance * (1 - 1 / as_double(n)) - 2 * root;
      CHECK_CLOSE(one.corrected(), exact, kQuadrature * variance);
      // The same by its parts; they are added in another order.
      const double by_parts = one.distance() - 5 * variance / as_double(n) - 2 * one.root_correction(1 / m, 1 / m);
      CHECK_CLOSE(by_parts, one.corrected(), 1e-14 * variance);
    }
  }
}

TEST(second_order_and_gaussian_bias_closed_forms) {
  Random random(10);
  const std::vector<double> values = random.spectrum(12, 1e4);
  const std::vector<double> others = random.spectrum(12, 1e2);
  constexpr Index kMany = Index{1} << 26;  // with more rows the bias would be lost in rounding
  const CpuJackknife many(diagonal(values, kMany), diagonal(others, kMany), kBoth, Precision::kFloat64, false);
  double second_order = 0;
  double bias = 0;
  for (std::size_t j = 0; j < 12; ++j) {
    for (std::size_t k = 0; k < 12; ++k) {
      const double root_j = std::sqrt(values[j] * others[j]);
      const double root_k = std::sqrt(values[k] * others[k]);
      const double h = root_j * root_k / (root_j + root_k);
      second_order += h * h;
      bias -= h / 4 / as_double(kMany - 1);  // the integral of t^(-1/2) x(t)^2 by parts
    }
  }
  CHECK_CLOSE(many.second_order(), second_order, 1e-13 * second_order);
  // The next order is smaller by x / n, and x is at most 12.
  const double tolerance = (kQuadrature + 12 / as_double(kMany)) * std::abs(bias);
  CHECK_CLOSE(many.gaussian_bias(Operand::kFirst), bias, tolerance);
  CHECK_CLOSE(many.gaussian_bias(Operand::kSecond), bias, tolerance);
  CHECK(many.gaussian_bias(1 / as_double(kMany - 1)) == many.gaussian_bias(Operand::kFirst));
}

TEST(gaussian_bias_of_few_rows_equals_its_integral) {
  Random random(14);
  const std::vector<double> values = random.spectrum(12, 1e4);
  for (const Index n : {20, 40}) {
    const CpuJackknife found(diagonal(values, n), diagonal(values, n), {true, false}, Precision::kFloat64, false);
    const double a = 1 / as_double(n - 1);
    constexpr double kStep = 0.05;
    double sum = 0;
    for (int k = 0; k < 1600; ++k) {
      const double u = k * kStep - 40;  // log t, t^(-1/2) dt = e^(u/2) du
      double x = 0;
      for (const double value : values) x += value * value / (value * value + std::exp(u));
      sum -= kStep * std::exp(u / 2) * (-x - std::log1p(-a * x) / a);
    }
    const double bias = sum / (2 * 3.141592653589793);
    // The poles are triple here: (2 pi)^2 / 2 times the 3e-9 of a simple pole, at both ends of the strip.
    CHECK_CLOSE(found.gaussian_bias(Operand::kFirst), bias, 1e-6 * std::abs(bias));
    CHECK(found.gaussian_bias(Operand::kSecond) == 0);
  }
}

TEST(extreme_scales_do_not_change_digits) {
  Random random(11);
  const Samples samples{random.rows(6, 20, 0.5), random.rows(6, 30)};
  CpuJackknife base = jackknife(samples.a(), samples.b());
  const WithoutRow expected = base.without(Operand::kFirst, view(samples.rows1));
  for (const double scale : {0x1p-200, 0x1p-60, 0x1p60, 0x1p200}) {
    const auto scaled = [&](const M& rows) { return map(rows, [&](double value) { return scale * value; }); };
    const Samples same{scaled(samples.rows1), scaled(samples.rows2)};
    CpuJackknife all = jackknife(same.a(), same.b());
    const WithoutRow found = all.without(Operand::kFirst, view(same.rows1));
    for (std::size_t i = 0; i < found.distance.size(); ++i) {
      CHECK_CLOSE(found.distance[i] / scale / scale, expected.distance[i], 1e-12 * expected.distance[i]);
      CHECK_CLOSE(found.corrected[i] / scale / scale, expected.corrected[i], 1e-12 * expected.distance[i]);
    }
  }
}

// Extreme and invalid input -------------------------------------------------------------------------------------------

TEST(invalid_arguments_are_rejected) {
  Random random(12);
  const Samples samples{random.rows(4, 10), random.rows(4, 2)};
  CHECK_THROWS(jackknife(samples.a(), samples.b()), InvalidInput, "leaving a row out needs at least 3 rows, got 2");
  CHECK_THROWS(jackknife(samples.a(), CpuGaussian::checked(V::zeros(4), M::zeros(4, 4), 0)), InvalidInput,
               "at least 3 rows, got 0");
  CpuJackknife first = jackknife(samples.a(), samples.b(), {true, false});
  CHECK_THROWS(first.without(Operand::kSecond, view(samples.rows2)), InvalidInput,
               "was created without rows for this Gaussian");
  CHECK_THROWS(first.without(Operand::kFirst, view(random.matrix(5, 10))), InvalidInput,
               "features have 5 columns, but the Gaussians have dim 4");
  CpuJackknife values(samples.a(), samples.b(), {true, false}, Precision::kFloat32, false);
  CHECK_THROWS(values.without(Operand::kFirst, view(samples.rows1)), InvalidInput,
               "was created without rows for this Gaussian");
  const CpuGaussian wide = moments_of(random.matrix(5, 10)).stats(1);
  CHECK_THROWS(jackknife(samples.a(), wide), InvalidInput, "gaussian1 has dim 4, but gaussian2 has dim 5");
}
