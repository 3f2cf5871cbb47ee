// Properties and closed forms of the Frechet distance.
#include <algorithm>
#include <vector>

#include "check.hpp"
#include "streams.hpp"

using namespace fidfast;
using namespace fidfast::oracle;
using CpuGaussian = Gaussian<Cpu>;

namespace {

CpuGaussian gaussian(const V& mu, const M& sigma, Index num_samples = 0) {
  return CpuGaussian::checked(mu, sigma, num_samples);
}
CpuGaussian centred(const M& sigma, Index num_samples = 0) {
  return gaussian(V::zeros(sigma.rows()), sigma, num_samples);
}

M random_covariance(Index dim, double condition, Random& random) {
  return covariance(random.spectrum(dim, condition), random.rotation(dim));
}

double scale_of(const FrechetTerms& terms) { return terms.mean_term + terms.trace1 + terms.trace2; }

/// Two sets of rows, each of full or low rank, some with dead units.
struct Pair {
  M rows1;
  M rows2;
  CpuGaussian a() const { return moments_of(rows1).stats(1); }
  CpuGaussian b() const { return moments_of(rows2).stats(1); }
};

template <class Work>
void for_each_pair(Work work) {
  Random random(1);
  for (const Index dim : {1, 2, 5, 30}) {
    for (const Index n1 : {Index{2}, dim, dim + 1, 3 * dim + 2, Index{120}}) {
      for (const Index n2 : {Index{2}, dim + 1, Index{120}}) {
        if (n1 < 2) continue;
        Pair pair{random.rows(dim, n1, 0.5), random.rows(dim, n2)};
        for (Index i = 0; dim > 2 && i < n1; ++i) pair.rows1.column(i)[1] = 0.7;
        for (Index i = 0; dim > 2 && i < n2; ++i) pair.rows2.column(i)[2] = -1;
        work(pair);
      }
    }
  }
}

}  // namespace

// Closed forms --------------------------------------------------------------------------------------------------------

TEST(closed_form_in_one_dimension) {
  Random random(2);
  for (int draw = 0; draw < 50; ++draw) {
    const double deviation1 = std::pow(10, random.uniform(-6, 6));
    const double deviation2 = std::pow(10, random.uniform(-6, 6));
    const V mu1 = vector_of({random.normal()});
    const V mu2 = vector_of({random.normal()});
    const M variance1 = vector_of({deviation1 * deviation1});
    const M variance2 = vector_of({deviation2 * deviation2});
    const FrechetTerms terms = frechet_terms(gaussian(mu1, variance1), gaussian(mu2, variance2));
    const double shift = mu1.data()[0] - mu2.data()[0];
    const double exact = shift * shift + (deviation1 - deviation2) * (deviation1 - deviation2);
    // eps for one square here and one there, in addition to the bound.
    CHECK_CLOSE(terms.distance(), exact, terms.rounding + 4 * kEpsilon * scale_of(terms));
    CHECK_CLOSE(terms.trace_root, deviation1 * deviation2, 8 * kEpsilon * deviation1 * deviation2);
  }
}

TEST(closed_form_in_two_dimensions) {
  Random random(3);
  for (int draw = 0; draw < 50; ++draw) {
    const M s1 = random_covariance(2, 100, random);
    const M s2 = random_covariance(2, 100, random);
    // tr sqrt(A) = sqrt(tr A + 2 sqrt(det A)) for a (2, 2) matrix A with eigenvalues of one sign.
    const M p = oracle::product(s1, s2);
    const auto determinant = [](const M& s) {
      return static_cast<long double>(s.data()[0]) * s.data()[3] - static_cast<long double>(s.data()[1]) * s.data()[2];
    };
    const long double trace = static_cast<long double>(p.data()[0]) + p.data()[3];
    const long double exact = std::sqrt(trace + 2 * std::sqrt(determinant(s1) * determinant(s2)));
    const FrechetTerms terms = frechet_terms(centred(s1), centred(s2));
    // Rounding of the entries is amplified by the transport map, whose norm is at most sqrt(100) here.
    CHECK_CLOSE(terms.trace_root, static_cast<double>(exact), 40 * kEpsilon * (terms.trace1 + terms.trace2));
    CHECK_CLOSE(terms.trace_root, static_cast<double>(exact), terms.rounding / 2);
  }
}

TEST(closed_form_for_commuting_covariances) {
  Random random(4);
  for (const Index dim : {2, 17, 64}) {
    for (const double condition : {10.0, 1e4, 1e8}) {
      const M basis = random.rotation(dim);
      const std::vector<double> values1 = random.spectrum(dim, condition);
      std::vector<double> values2 = random.spectrum(dim, condition);
      std::reverse(values2.begin(), values2.end());
      std::vector<double> roots;
      std::vector<double> squares;
      for (std::size_t j = 0; j < values1.size(); ++j) {
        roots.push_back(std::sqrt(values1[j] * values2[j]));
        const double step = std::sqrt(values1[j]) - std::sqrt(values2[j]);
        squares.push_back(step * step);
      }
      const FrechetTerms terms =
          frechet_terms(centred(covariance(values1, basis)), centred(covariance(values2, basis)));
      CHECK_CLOSE(terms.trace_root, oracle::sum(roots), terms.rounding / 2);
      CHECK_CLOSE(terms.distance(), oracle::sum(squares), terms.rounding);
      // The bound is useful: dim times eps of the largest entry, amplified by a map of norm sqrt(condition).
      CHECK(terms.rounding <= 64 * kEpsilon * as_double(dim) * std::sqrt(condition) * scale_of(terms));
    }
  }
}

TEST(low_rank_root_is_the_sum_of_singular_values) {
  for_each_pair([](const Pair& pair) {
    const FrechetTerms terms = frechet_terms(pair.a(), pair.b());
    CHECK_CLOSE(terms.trace_root, nuclear_norm(pair.rows1, pair.rows2), terms.rounding / 2 + 1e-300);
    // The standard deviations of the 30 units range over a factor of 100. Errors are a few eps of the largest for
    // singular values, and at most 1e-10 for roots of eigenvalues.
    CHECK(terms.rounding <= 1e-7 * scale_of(terms));
  });
}

TEST(rank_is_the_smaller_of_both) {
  Random random(5);
  for (const Index n1 : {2, 5, 12, 13, 100}) {
    for (const Index n2 : {3, 12, 100}) {
      const Pair pair{random.rows(12, n1), random.rows(12, n2)};
      CHECK(frechet_terms(pair.a(), pair.b()).rank == std::min({Index{12}, n1 - 1, n2 - 1}));
    }
  }
}

TEST(root_is_zero_without_variance) {
  Random random(6);
  const M zero = M::zeros(4, 4);
  const M sigma = random_covariance(4, 10, random);
  const FrechetTerms terms = frechet_terms(centred(zero), centred(sigma));
  CHECK(terms.rank == 0 && terms.trace_root == 0);
  CHECK(terms.distance() == terms.trace2);
  CHECK(frechet_terms(centred(zero), centred(zero)).distance() == 0);

  // The same for low rank: a generator that makes one image only.
  M equal(4, 3);
  for (Index i = 0; i < 3; ++i) std::copy_n(sigma.column(0), 4, equal.column(i));
  const FrechetTerms of_rows = frechet_terms(moments_of(equal).stats(1), centred(sigma));
  CHECK(of_rows.trace_root == 0);
  CHECK(of_rows.rounding <= 16 * kEpsilon * scale_of(of_rows));

  // The same with many equal rows, so that eigenvalues are used: all are 0.
  const std::vector<double> row(1030, 0.3);
  CpuMoments moments(1030, Precision::kFloat32);
  moments.update(FeatureView<double>{row.data(), 1029, 1030, 0, 1});
  M diagonal = M::zeros(1030, 1030);
  for (Index j = 0; j < 1030; ++j) diagonal.column(j)[j] = as_double(1 + j % 3);
  const FrechetTerms of_many = frechet_terms(moments.stats(1), centred(diagonal));
  CHECK(of_many.trace_root == 0);
  // The bound must be finite and negligible: 8 sqrt(1030) / 2 epsilons for the sum of 1,030 variances, and less than
  // that for the mean.
  CHECK(of_many.rounding <= 256 * kEpsilon * scale_of(of_many));
}

// Properties ----------------------------------------------------------------------------------------------------------

TEST(distance_to_itself_is_zero) {
  for_each_pair([](const Pair& pair) {
    const CpuGaussian a = pair.a();
    for (const Index num_samples : {Index{0}, a.num_samples()}) {
      const CpuGaussian twin = gaussian(a.mu(), a.sigma(), num_samples);
      for (const FrechetTerms& terms : {frechet_terms(a, twin), frechet_terms(twin, a), frechet_terms(a, a)}) {
        CHECK(terms.distance() == 0 && terms.mean_term == 0 && terms.rounding <= 16 * kEpsilon * terms.trace1);
        CHECK(terms.trace_root == terms.trace1 && terms.trace_root == terms.trace2);
        CHECK(terms.rank == a.factor(a.alive_units())->rank());
      }
      CHECK(frechet_distance(a, twin) == 0);
    }
  });
}

TEST(distance_is_symmetric) {
  for_each_pair([](const Pair& pair) {
    const FrechetTerms forth = frechet_terms(pair.a(), pair.b());
    const FrechetTerms back = frechet_terms(pair.b(), pair.a());
    CHECK(forth.trace_root == back.trace_root);
    CHECK(forth.trace1 == back.trace2 && forth.trace2 == back.trace1);
    CHECK(forth.mean_term == back.mean_term);
    CHECK(forth.distance() == back.distance());
    CHECK(forth.rounding == back.rounding);
    CHECK(forth.distance() >= 0);
  });
}

TEST(frechet_distance_equals_frechet_terms) {
  for_each_pair([](const Pair& pair) {
    CHECK(frechet_distance(pair.a(), pair.b()) == frechet_terms(pair.a(), pair.b()).distance());
  });
}

TEST(equal_covariances_leave_the_mean_term) {
  for_each_pair([](const Pair& pair) {
    const CpuGaussian a = pair.a();
    const V moved = vector_of(Random(7).numbers(a.dim()));
    const FrechetTerms terms = frechet_terms(a, gaussian(moved, a.sigma(), a.num_samples()));
    CHECK_CLOSE(terms.distance(), terms.mean_term, terms.rounding);
    long double exact = 0;
    for (Index j = 0; j < a.dim(); ++j) {
      const long double step = static_cast<long double>(moved.data()[j]) - a.mu().data()[j];
      exact += step * step;
    }
    // eps for each term of sums of positive numbers.
    CHECK_CLOSE(terms.mean_term, static_cast<double>(exact),
                as_double(a.dim() + 3) * kEpsilon * static_cast<double>(exact));
  });
}

TEST(invariance_under_rigid_motion_and_scaling) {
  Random random(8);
  for_each_pair([&](const Pair& pair) {
    const FrechetTerms base = frechet_terms(pair.a(), pair.b());
    const M turn = random.rotation(pair.rows1.rows());
    const double factor = 3;
    const auto moved = [&](const M& rows) {
      return map(oracle::product(turn, rows), [&](double value) { return factor * (value + 2); });
    };
    const Pair moved_pair{moved(pair.rows1), moved(pair.rows2)};
    const FrechetTerms terms = frechet_terms(moved_pair.a(), moved_pair.b());
    // The rotation rounds the rows by eps of their size, which is a few standard deviations: a few eps of the traces.
    // Dead units get standard deviations of the same size.
    const double tolerance = base.rounding + terms.rounding / 9 + 1e-13 * scale_of(base);
    CHECK_CLOSE(terms.distance() / 9, base.distance(), tolerance);
  });
}

TEST(extreme_scales_do_not_overflow_or_underflow) {
  Random random(9);
  for (const double scale : {0x1p-400, 0x1p-100, 0x1p100, 0x1p400}) {
    const auto scaled = [&](const M& rows) { return map(rows, [&](double value) { return scale * value; }); };
    for (const Index n : {4, 100}) {
      const Pair pair{random.rows(6, n, 1), random.rows(6, n + 1)};
      const Pair same{scaled(pair.rows1), scaled(pair.rows2)};
      const FrechetTerms base = frechet_terms(pair.a(), pair.b());
      const FrechetTerms terms = frechet_terms(same.a(), same.b());
      // A power of 2 changes no digit, except in square roots of odd powers.
      CHECK_CLOSE(terms.distance() / scale / scale, base.distance(), base.rounding);
      CHECK_CLOSE(terms.rounding / scale / scale, base.rounding, 0.1 * base.rounding);
    }
  }
}

TEST(cached_factor_does_not_change_the_result) {
  Random random(10);
  const Pair pair{random.rows(30, 200), random.rows(30, 100)};
  M dead = pair.rows2;
  for (Index i = 0; i < 100; ++i) dead.column(i)[3] = 0;
  const CpuGaussian kept = pair.a();
  const double first = frechet_terms(kept, pair.b()).distance();
  CHECK(frechet_terms(kept, pair.b()).distance() == first);
  frechet_terms(kept, moments_of(dead).stats(1));  // requests the factor of fewer units
  CHECK(frechet_terms(kept, pair.b()).distance() == first);
  CHECK(frechet_terms(pair.a(), pair.b()).distance() == first);
}

TEST(different_dims_are_rejected) {
  const CpuGaussian three = centred(M::zeros(3, 3));
  const CpuGaussian four = centred(M::zeros(4, 4));
  const std::string message = "gaussian1 has dim 3, but gaussian2 has dim 4";
  CHECK_THROWS(frechet_terms(three, four), InvalidInput, message);
  CHECK_THROWS(transport_map(three, four), InvalidInput, message);
}
