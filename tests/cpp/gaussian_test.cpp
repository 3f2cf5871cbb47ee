// Gaussian, its factor, and the covariances that it rejects.
#include <algorithm>
#include <numeric>
#include <vector>

#include "check.hpp"
#include "oracle.hpp"

using namespace fidfast;
using namespace fidfast::oracle;
using CpuGaussian = Gaussian<Cpu>;

namespace {

constexpr Index kSizes[] = {1, 2, 5, 40};

CpuGaussian gaussian(const M& sigma, Index num_samples = 0) {
  return CpuGaussian::checked(V::zeros(sigma.rows()), sigma, num_samples);
}

std::vector<Index> all_units(Index dim) {
  std::vector<Index> units(static_cast<std::size_t>(dim));
  std::iota(units.begin(), units.end(), Index{0});
  return units;
}

/// F F^T (dim, dim) with units in their original order.
M product_of(const Factor<Cpu>& factor, Index dim) {
  const M by_units = oracle::product(factor.f, transposed(factor.f));
  M result = M::zeros(dim, dim);
  for (std::size_t j = 0; j < factor.units.size(); ++j) {
    for (std::size_t i = 0; i < factor.units.size(); ++i) {
      result.column(factor.units[j])[factor.units[i]] = by_units.column(static_cast<Index>(j))[i];
    }
  }
  return result;
}

void check_variances_descend(const CpuGaussian& gaussian, const Factor<Cpu>& factor) {
  for (std::size_t k = 1; k < factor.units.size(); ++k) {
    const Index before = factor.units[k - 1];
    const Index after = factor.units[k];
    CHECK(gaussian.sigma().column(before)[before] >= gaussian.sigma().column(after)[after]);
  }
}

}  // namespace

// The factor ----------------------------------------------------------------------------------------------------------

TEST(full_rank_factor_reproduces_sigma) {
  Random random(1);
  for (const Index dim : kSizes) {
    for (const double condition : {1.0, 1e4, 1e10}) {
      const CpuGaussian g = gaussian(covariance(random.spectrum(dim, condition), random.rotation(dim)));
      const auto factor = g.factor(all_units(dim));
      CHECK(factor->triangular && factor->rank() == dim);
      CHECK(factor->dropped == 0);
      check_variances_descend(g, *factor);
      // Higham, theorem 10.3: (dim + 1) eps times the standard deviations of the two units.
      CHECK_CLOSE(relative_error(product_of(*factor, dim), g.sigma()), 0, as_double(dim + 2) * kEpsilon);
    }
  }
}

TEST(low_rank_factor_reproduces_sigma) {
  Random random(2);
  for (const Index dim : kSizes) {
    for (const Index rank : {Index{1}, (dim + 1) / 2}) {
      if (rank == dim) continue;
      const M f = random.matrix(dim, rank);
      const M sigma = oracle::product(f, transposed(f));
      for (const Index num_samples : {Index{0}, rank + 1, 10 * dim}) {
        const CpuGaussian g = gaussian(sigma, num_samples);
        const auto factor = g.factor(all_units(dim));
        CHECK(factor->rank() == rank);
        CHECK(!factor->triangular);
        check_variances_descend(g, *factor);
        // The part that may be dropped is 32 eps dim on the scale of correlations.
        const double tolerance = 64 * as_double(dim) * kEpsilon;
        CHECK_CLOSE(relative_error(product_of(*factor, dim), g.sigma()), 0, tolerance);
        CHECK(factor->dropped >= 0 && factor->dropped <= tolerance * g.trace());
      }
    }
  }
}

TEST(num_samples_cuts_rounding_only) {
  Random random(3);
  const M f = random.matrix(12, 6);
  const M of_rows = oracle::product(f, transposed(f));
  const auto stored = [&](const M& sigma) {
    return map(sigma, [](double v) { return static_cast<double>(static_cast<float>(v)); });
  };
  const auto rank = [&](const M& sigma, Index num_samples) {
    return gaussian(sigma, num_samples).factor(all_units(12))->rank();
  };
  CHECK(rank(of_rows, 7) == 6 && rank(stored(of_rows), 7) == 6);
  // The rank is that of sigma, whatever num_samples says.
  CHECK(rank(of_rows, 3) == 6);
  for (const double share : {0.1, 1e-3, 1e-6, 1e-11}) {
    M sigma = of_rows;
    for (Index j = 0; j < 12; ++j) sigma.column(j)[j] += share;
    for (const Index num_samples : {2, 7, 12}) CHECK(rank(sigma, num_samples) == 12);
    if (share < 1e-6) continue;  // float32 keeps the others
    for (const Index num_samples : {2, 7, 12}) CHECK(rank(stored(sigma), num_samples) == 12);
  }
}

TEST(dropped_bounds_what_the_factor_lacks) {
  Random random(14);
  for (const Index num_samples : {0, 7}) {
    for (const double noise : {0.0, 1e-14, 1e-8}) {
      const M f = random.matrix(12, 6);
      const M sigma =
          map(oracle::product(f, transposed(f)), [&](double v) { return v * (1 + noise * random.normal()); });
      const CpuGaussian g = gaussian(sigma, num_samples);
      const auto factor = g.factor(all_units(12));
      M rest = g.sigma();
      const M product = product_of(*factor, 12);
      for (Index i = 0; i < rest.size(); ++i) rest.data()[i] -= product.data()[i];
      double nuclear = 0;
      for (const double value : MatrixOps<Cpu>::eigenvalues(rest)) nuclear += std::abs(value);
      // dim times the rounding of the two products here.
      CHECK(nuclear <= factor->dropped * (1 + 1e-12) + 12 * 64 * kEpsilon * oracle::largest(sigma));
    }
  }
}

TEST(equal_gaussians_are_equal_bit_by_bit) {
  Random random(15);
  const M columns = random.matrix(9, 3);
  const CpuGaussian of_columns = CpuGaussian::from_factor(V::zeros(9), columns, 4);
  const CpuGaussian of_sigma = gaussian(of_columns.sigma());
  for (const CpuGaussian* a : {&of_columns, &of_sigma}) {
    for (const CpuGaussian* b : {&of_columns, &of_sigma}) CHECK(a->equals(*b));
  }
  M other = columns;
  other.column(2)[8] = std::nextafter(other.column(2)[8], 10);
  CHECK(!of_columns.equals(CpuGaussian::from_factor(V::zeros(9), other, 4)));
  M sigma = of_columns.sigma();
  sigma.column(1)[1] *= 1 + 4 * kEpsilon;
  CHECK(!of_sigma.equals(gaussian(sigma)) && !of_columns.equals(gaussian(sigma)));
  V mu = V::zeros(9);
  mu.data()[4] = 1e-300;
  CHECK(!of_sigma.equals(CpuGaussian::checked(mu, of_columns.sigma(), 0)));
}

TEST(inverse_norm_of_the_factor_estimates_that_of_sigma) {
  Random random(4);
  for (const Index dim : kSizes) {
    const std::vector<double> values = random.spectrum(dim, 1e5);
    const auto factor = gaussian(covariance(values, random.rotation(dim))).factor(all_units(dim));
    const double inverse = MatrixOps<Cpu>::inverse_norm(factor->f, dim);
    const double exact = 1 / *std::min_element(values.begin(), values.end());
    // |A|_2 <= |A|_1 <= sqrt(dim) |A|_2, and the estimate of the 1-norm is too low by a factor of at most 3.
    CHECK(inverse >= exact / 3);
    CHECK(inverse <= std::sqrt(as_double(dim)) * exact * (1 + 1e-9));
  }
}

TEST(dead_units_are_not_in_the_factor) {
  Random random(5);
  M sigma = covariance(random.spectrum(6, 10), random.rotation(6));
  for (const Index dead : {1, 4}) {
    for (Index i = 0; i < 6; ++i) sigma.column(dead)[i] = sigma.column(i)[dead] = 0;
  }
  const CpuGaussian g = gaussian(sigma);
  CHECK((g.alive_units() == std::vector<Index>{0, 2, 3, 5}));
  const auto factor = g.factor(g.alive_units());
  CHECK(factor->rank() == 4 && factor->triangular);
  CHECK_CLOSE(difference(product_of(*factor, 6), sigma), 0, 8 * kEpsilon * oracle::largest(sigma));
}

TEST(factor_of_all_units_keeps_their_order) {
  Random random(13);
  M sigma = covariance(random.spectrum(6, 10), random.rotation(6));
  for (Index i = 0; i < 6; ++i) sigma.column(2)[i] = sigma.column(i)[2] = 0;
  const M f = gaussian(sigma).factor_of_all_units();
  CHECK(f.rows() == 6 && f.cols() == 5);
  CHECK_CLOSE(difference(oracle::product(f, transposed(f)), sigma), 0, 8 * kEpsilon * oracle::largest(sigma));
  const M columns = random.matrix(9, 3);
  CHECK(difference(CpuGaussian::from_factor(V::zeros(9), columns, 4).factor_of_all_units(), columns) == 0);
  const M none = gaussian(M::zeros(3, 3)).factor_of_all_units();
  CHECK(none.rows() == 3 && none.cols() == 0);
}

TEST(factor_has_rank_zero_without_variance) {
  const CpuGaussian g = gaussian(M::zeros(3, 3));
  CHECK(g.trace() == 0 && g.alive_units().empty());
  CHECK(g.factor({})->rank() == 0);
}

TEST(factor_is_cached_until_other_units_are_requested) {
  Random random(6);
  const CpuGaussian g = gaussian(covariance(random.spectrum(5, 10), random.rotation(5)));
  const auto first = g.factor(all_units(5));
  CHECK(g.factor(all_units(5)) == first);
  const auto fewer = g.factor({0, 3});
  CHECK(fewer != first && fewer->rank() == 2);
  CHECK(first->rank() == 5);  // callers may keep it
  CHECK(difference(g.factor(all_units(5))->f, first->f) == 0);
}

TEST(from_factor_columns_are_a_factor_of_sigma) {
  Random random(7);
  const M columns = random.matrix(9, 3);
  const CpuGaussian g = CpuGaussian::from_factor(V::zeros(9), columns, 4);
  CHECK(g.low_rank() && g.dim() == 9 && g.num_samples() == 4);
  const M sigma = oracle::product(columns, transposed(columns));
  // Three products for each term.
  CHECK_CLOSE(relative_error(g.sigma(), sigma), 0, 4 * kEpsilon);
  double trace = 0;
  for (Index j = 0; j < 9; ++j) trace += sigma.column(j)[j];
  CHECK_CLOSE(g.trace(), trace, 30 * kEpsilon * trace);
  const auto factor = g.factor({2, 7});
  CHECK(factor->rank() == 3 && factor->f.rows() == 2);
  for (Index j = 0; j < 3; ++j) {
    CHECK(factor->f.column(j)[0] == columns.column(j)[2] && factor->f.column(j)[1] == columns.column(j)[7]);
  }
}

TEST(moved_gaussian_is_equal) {
  Random random(8);
  const M sigma = covariance(random.spectrum(5, 10), random.rotation(5));
  CpuGaussian g = gaussian(sigma, 77);
  const auto factor = g.factor(all_units(5));
  const CpuGaussian moved(std::move(g));
  CHECK(moved.factor(all_units(5)) == factor);
  CHECK(difference(moved.sigma(), sigma) == 0);
  CHECK(moved.num_samples() == 77);
}

// Validation ----------------------------------------------------------------------------------------------------------

TEST(mismatched_shapes_are_rejected) {
  CHECK_THROWS(CpuGaussian::checked(V(), M(), 0), InvalidInput, "mu is empty");
  CHECK_THROWS(CpuGaussian::checked(V::zeros(3), M::zeros(4, 4), 0), InvalidInput,
               "sigma has shape (4, 4), but mu has length 3");
  CHECK_THROWS(CpuGaussian::checked(V::zeros(3), M::zeros(3, 2), 0), InvalidInput, "but mu has length 3");
}

TEST(nan_and_infinity_are_rejected) {
  for (const double bad : {kNan, kInfinity}) {
    M sigma = covariance({1, 1, 1}, Random(9).rotation(3));
    sigma.column(2)[0] = sigma.column(0)[2] = bad;
    CHECK_THROWS(gaussian(sigma), InvalidInput, "sigma holds NaN or infinity; the first such row is 0");
    V mu = V::zeros(3);
    mu.data()[1] = bad;
    CHECK_THROWS(CpuGaussian::checked(mu, M::zeros(3, 3), 0), InvalidInput, "mu holds NaN or infinity");
  }
}

TEST(asymmetric_sigma_is_rejected) {
  M sigma = covariance({1, 2, 3}, Random(10).rotation(3));
  sigma.column(0)[2] += 0.5;
  CHECK_THROWS(gaussian(sigma), InvalidInput, "sigma is not symmetric: sigma[2, 0] and sigma[0, 2] differ by 0.5");
  CHECK_CLOSE(CpuGaussian::checked(V::zeros(3), sigma, 0, 0.9).sigma().column(2)[0], sigma.column(2)[0] + 0.25, 1e-15);
}

TEST(indefinite_sigma_is_rejected) {
  Random random(11);
  for (const Index dim : {2, 5, 40}) {
    std::vector<double> values = random.spectrum(dim, 10);
    values.front() = -0.01;
    CHECK_THROWS(gaussian(covariance(values, random.rotation(dim))), InvalidInput,
                 "sigma is not positive semidefinite: its smallest eigenvalue is -0.01");
  }
  const M sigma = covariance({-0.0123, 0.5, 1, 2}, random.rotation(4));
  CHECK_THROWS(gaussian(sigma), InvalidInput, "negative_tolerance=0.0062 accepts it");
  const CpuGaussian accepted = CpuGaussian::checked(V::zeros(4), sigma, 0, 0.0062);
  CHECK_CLOSE(accepted.clipped().least, -0.0123, 1e-15);
  CHECK_CLOSE(accepted.clipped().largest, 2, 1e-14);
  CHECK_CLOSE(accepted.clipped().trace, 0.0123, 1e-15);
  CHECK(accepted.factor(all_units(4))->rank() == 3);
  M negative = M::zeros(1, 1);
  negative.data()[0] = -1;
  CHECK_THROWS(gaussian(negative), InvalidInput, "sigma is not positive semidefinite");
}

TEST(float32_rounding_of_sigma_is_accepted) {
  Random random(12);
  const M f = random.matrix(30, 10);
  M sigma = map(oracle::product(f, transposed(f)), [](double v) { return static_cast<double>(static_cast<float>(v)); });
  sigma.column(4)[3] *= 1 + 1e-7;  // both triangles are rounded independently
  const CpuGaussian g = gaussian(sigma);
  CHECK(difference(g.sigma(), transposed(g.sigma())) == 0);
  const auto factor = g.factor(all_units(30));
  // Eigenvalues of the size of float32 rounding, 6e-8 times sqrt(30), are dropped.
  CHECK_CLOSE(difference(product_of(*factor, 30), g.sigma()), 0, 6e-8 * std::sqrt(30.0) * g.trace());
  CHECK(factor->dropped <= 6e-8 * std::sqrt(30.0) * 20 * g.trace());
}
