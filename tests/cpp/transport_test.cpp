// Properties of the transport map.
#include <vector>

#include "check.hpp"
#include "streams.hpp"

using namespace fidfast;
using namespace fidfast::oracle;
using CpuGaussian = Gaussian<Cpu>;

namespace {

CpuGaussian centred(const M& sigma, Index num_samples = 0) {
  return CpuGaussian::checked(V::zeros(sigma.rows()), sigma, num_samples);
}

M carried(const M& map, const M& sigma) { return oracle::product(oracle::product(map, sigma), map); }

double trace_of_product(const M& a, const M& b) {
  long double sum = 0;
  for (Index i = 0; i < a.size(); ++i) sum += static_cast<long double>(a.data()[i]) * b.data()[i];
  return static_cast<double>(sum);
}

}  // namespace

TEST(map_transports_the_second_covariance_to_the_first) {
  Random random(1);
  for (const Index dim : {1, 2, 5, 40}) {
    for (const double condition : {1.0, 1e2, 1e4}) {
      const M s1 = covariance(random.spectrum(dim, condition), random.rotation(dim));
      const M s2 = covariance(random.spectrum(dim, condition), random.rotation(dim));
      const M map = transport_map(centred(s1), centred(s2));
      CHECK(difference(map, transposed(map)) == 0);
      // |T| <= sqrt(condition), and inverting the root contributes the condition once more.
      const double tolerance = 16 * as_double(dim) * kEpsilon * condition * oracle::largest(s1);
      CHECK_CLOSE(difference(carried(map, s2), s1), 0, tolerance);
    }
  }
}

TEST(map_between_equal_covariances_is_the_identity) {
  Random random(2);
  for (const Index dim : {1, 5, 40}) {
    const M s = covariance(random.spectrum(dim, 100), random.rotation(dim));
    const M identity = covariance(std::vector<double>(static_cast<std::size_t>(dim), 1.0), random.rotation(dim));
    // The condition of the problem times a few eps for each of dim terms.
    CHECK_CLOSE(difference(transport_map(centred(s), centred(s)), identity), 0,
                16 * 100.0 * kEpsilon * as_double(dim + 1));
  }
}

TEST(closed_form_for_commuting_covariances) {
  Random random(3);
  const M basis = random.rotation(20);
  const std::vector<double> values1 = random.spectrum(20, 1e3);
  const std::vector<double> values2 = random.spectrum(20, 1e3);
  std::vector<double> stretch;
  for (std::size_t j = 0; j < 20; ++j) stretch.push_back(std::sqrt(values1[j] / values2[j]));
  const M map = transport_map(centred(covariance(values1, basis)), centred(covariance(values2, basis)));
  // Rounding of entries of 1e3, relative to eigenvalues of 1, times the norm of the map, 30.
  CHECK_CLOSE(difference(map, covariance(stretch, basis)), 0, 30 * 1e3 * kEpsilon * 20);
}

TEST(map_in_the_other_direction_is_the_inverse) {
  Random random(4);
  const M s1 = covariance(random.spectrum(12, 100), random.rotation(12));
  const M s2 = covariance(random.spectrum(12, 100), random.rotation(12));
  const M round_trip =
      oracle::product(transport_map(centred(s1), centred(s2)), transport_map(centred(s2), centred(s1)));
  const M identity = covariance(std::vector<double>(12, 1.0), random.rotation(12));
  // Each map has the error condition eps times its norm sqrt(100), multiplied by the norm of the other map.
  CHECK_CLOSE(difference(round_trip, identity), 0, 2 * 100 * 100 * kEpsilon * 12);
}

TEST(map_to_a_low_rank_target) {
  Random random(5);
  const CpuGaussian source = moments_of(random.matrix(24, 200)).stats(1);
  for (const Index n : {2, 10, 20, 24}) {
    const M rows = random.matrix(24, n);
    const CpuGaussian target = moments_of(rows).stats(1);
    const M map = transport_map(target, source);
    // Covariances of normal rows have condition 10 and norm 20: a few eps of that for each of 24 terms.
    CHECK_CLOSE(difference(carried(map, source.sigma()), target.sigma()), 0, 1e4 * 24 * kEpsilon);
    // The rank is that of the target, n - 1.
    const std::vector<double> values = singular_values(map);
    const auto rank = static_cast<std::size_t>(n - 1);
    CHECK(values[rank - 1] > 1e-3);
    CHECK_CLOSE(values[rank], 0, 1e-12);
  }
}

TEST(map_from_a_low_rank_source) {
  Random random(6);
  const CpuGaussian source = moments_of(random.matrix(24, 9)).stats(1);
  const CpuGaussian target = moments_of(random.matrix(24, 200)).stats(1);
  const M map = transport_map(target, source);
  // tr (T S2) = tr (S1 S2)^(1/2) holds for low rank too.
  const double root = frechet_terms(target, source).trace_root;
  CHECK_CLOSE(trace_of_product(map, source.sigma()), root, 1e-12 * root);
}

TEST(map_is_zero_on_dead_units) {
  Random random(7);
  M rows1 = random.matrix(5, 50);
  M rows2 = random.matrix(5, 60);
  for (Index i = 0; i < 50; ++i) rows1.column(i)[1] = 3;
  for (Index i = 0; i < 60; ++i) rows2.column(i)[1] = 2;
  const CpuGaussian target = moments_of(rows1).stats(1);
  const CpuGaussian source = moments_of(rows2).stats(1);
  const M map = transport_map(target, source);
  for (Index i = 0; i < 5; ++i) CHECK(map.column(1)[i] == 0 && map.column(i)[1] == 0);
  // A few eps.
  CHECK_CLOSE(difference(carried(map, source.sigma()), target.sigma()), 0, 200 * kEpsilon);
  CHECK(oracle::largest(transport_map(centred(M::zeros(3, 3)), centred(M::zeros(3, 3)))) == 0);
}

TEST(map_is_the_gradient_of_the_distance) {
  Random random(8);
  const M s1 = covariance(random.spectrum(6, 50), random.rotation(6));
  const M s2 = covariance(random.spectrum(6, 50), random.rotation(6));
  const M direction = covariance(random.numbers(6), random.rotation(6));
  const CpuGaussian target = centred(s1);
  const double step = 1e-5;
  const double ahead = frechet_terms(target, centred(plus(step, direction, s2))).distance();
  const double behind = frechet_terms(target, centred(plus(-step, direction, s2))).distance();
  const M map = transport_map(target, centred(s2));
  double trace = 0;
  for (Index j = 0; j < 6; ++j) trace += direction.column(j)[j];
  // d/dS2 = I - T. Central differences have the error step^2 times the third derivative, about 50^(5/2), and rounding
  // divided by step: 2e-6 and 1e-9.
  CHECK_CLOSE((ahead - behind) / (2 * step), trace - trace_of_product(map, direction), 1e-5);
}

TEST(trace_of_root_equals_trace_of_map_times_covariance) {
  Random random(9);
  for (const Index n1 : {5, 15, 16, 200}) {
    for (const Index n2 : {16, 200}) {
      const CpuGaussian a = moments_of(random.rows(15, n1)).stats(1);
      const CpuGaussian b = moments_of(random.rows(15, n2)).stats(1);
      const FrechetTerms terms = frechet_terms(a, b);
      const double trace = trace_of_product(transport_map(a, b), b.sigma());
      // tr (T S2) = tr (S1 S2)^(1/2).
      CHECK_CLOSE(trace, terms.trace_root, 2 * terms.rounding + 1e-9 * terms.trace_root);
    }
  }
}
