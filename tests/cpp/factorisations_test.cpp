// Cholesky factors, eigenvalues and singular values.
#include <algorithm>
#include <vector>

#include "check.hpp"
#include "oracle.hpp"

using namespace fidfast;
using namespace fidfast::oracle;
using L = MatrixOps<Cpu>;

namespace {

/// Below and above the bandwidth of 32.
constexpr Index kSizes[] = {1, 2, 3, 17, 32, 33, 34, 35, 63, 64, 65, 66, 67, 100, 130};

bool upper_is_zero(const M& a) { return difference(a, with_upper(a, 0.0)) == 0; }

/// The first `rank` columns of a pivoted factor with rows in the original order: L with L L^T = a.
M unpivoted(const M& l, Index rank, const std::vector<Index>& order) {
  M result(l.rows(), rank);
  for (Index j = 0; j < rank; ++j) {
    for (Index i = 0; i < l.rows(); ++i) result.column(j)[order[static_cast<std::size_t>(i)]] = l.column(j)[i];
  }
  return result;
}

std::vector<double> descending(std::vector<double> values) {
  std::sort(values.rbegin(), values.rend());
  return values;
}

}  // namespace

TEST(cholesky_factor_reproduces_the_matrix) {
  Random random(1);
  for (const Index n : kSizes) {
    for (const double condition : {1.0, 1e8}) {
      const M a = covariance(random.spectrum(n, condition), random.rotation(n));
      M l = with_upper(a, kNan);
      CHECK(L::cholesky(l));
      CHECK(upper_is_zero(l));
      // Higham, theorem 10.3: (n + 1) eps |L| |L^T|, whose entries are at most the diagonal ones.
      const double tolerance = (as_double(n) + 2) * kEpsilon * oracle::largest(a);
      CHECK_CLOSE(difference(oracle::product(l, transposed(l)), a), 0, tolerance);
    }
  }
}

TEST(cholesky_fails_if_not_positive_definite) {
  Random random(2);
  for (const Index n : kSizes) {
    std::vector<double> values = random.spectrum(n, 100);
    values.back() = -1;
    M a = covariance(values, random.rotation(n));
    CHECK(!L::cholesky(a));
    CHECK(upper_is_zero(a));
  }
  M zero = M::zeros(3, 3);
  CHECK(!L::cholesky(zero));
}

TEST(pivoted_cholesky_finds_the_rank_and_reproduces_the_matrix) {
  Random random(3);
  for (const Index n : kSizes) {
    for (const Index rank : {Index{1}, (n + 1) / 2, n}) {
      const M f = random.matrix(n, rank);
      const M a = oracle::product(f, transposed(f));
      M l = with_upper(a, kNan);
      std::vector<Index> order;
      // The residual after the last pivot is rounding: n eps times the largest entry, with some growth. The smallest
      // pivot of these random factors is far larger.
      const double noise = 16 * as_double(n) * kEpsilon * oracle::largest(a);
      CHECK(L::pivoted_cholesky(l, noise, order) == rank);
      CHECK(upper_is_zero(l));
      std::vector<Index> sorted = order;
      std::sort(sorted.begin(), sorted.end());
      for (Index i = 0; i < n; ++i) CHECK(sorted[static_cast<std::size_t>(i)] == i);
      const M back = unpivoted(l, rank, order);
      CHECK_CLOSE(difference(oracle::product(back, transposed(back)), a), 0, 2 * noise);
      for (Index k = 1; k < rank; ++k) CHECK(l.column(k)[k] <= l.column(k - 1)[k - 1] * (1 + 1e-12));
    }
  }
}

TEST(zero_matrix_has_rank_zero) {
  M zero = M::zeros(4, 4);
  std::vector<Index> order;
  CHECK(L::pivoted_cholesky(zero, 1e-15, order) == 0);
  CHECK(order.size() == 4);
}

TEST(inverse_norm_is_within_a_small_factor) {
  Random random(4);
  for (const Index n : kSizes) {
    for (const double condition : {1.0, 1e3, 1e6}) {
      std::vector<double> values = random.spectrum(n, condition);
      for (double& value : values) value /= condition;
      const M a = covariance(values, random.rotation(n));
      M l = a;
      CHECK(L::cholesky(l));
      const double estimate = L::inverse_norm(l, n);
      const double largest_inverse = 1 / *std::min_element(values.begin(), values.end());
      // |A|_2 <= |A|_1 <= sqrt(n) |A|_2 for symmetric A. The estimate is a lower bound of |A^-1|_1, except in contrived
      // cases by less than a factor of 3 (Higham, 1988). Rounding of a has the relative effect eps condition n.
      CHECK(estimate >= largest_inverse / 3);
      CHECK(estimate <= std::sqrt(as_double(n)) * largest_inverse * (1 + 1e-8));
    }
  }
}

TEST(inverse_trace_is_the_sum_of_inverse_eigenvalues) {
  Random random(10);
  for (const Index n : kSizes) {
    for (const double condition : {1.0, 1e3, 1e6}) {
      const std::vector<double> values = random.spectrum(n, condition);
      M l = covariance(values, random.rotation(n));
      CHECK(L::cholesky(l));
      double expected = 0;
      for (const double value : values) expected += 1 / value;
      // Rounding of the matrix has the relative effect eps condition n.
      CHECK_CLOSE(L::inverse_trace(l), expected, 4 * as_double(n) * kEpsilon * condition * expected);
    }
  }
}

TEST(inverse_norm_uses_the_leading_block_only) {
  Random random(5);
  const M l = random.triangle(20);
  M leading(7, 7);
  for (Index j = 0; j < 7; ++j) std::copy_n(l.column(j), 7, leading.column(j));
  CHECK(L::inverse_norm(l, 7) == L::inverse_norm(leading, 7));
}

TEST(eigenvalues_of_constructed_matrices) {
  Random random(6);
  for (const Index n : kSizes) {
    std::vector<double> values = random.numbers(n);
    const M a = covariance(values, random.rotation(n));
    std::sort(values.begin(), values.end());
    M destroyed = with_upper(a, kNan);
    M vectors = with_upper(a, kNan);
    const std::vector<double> alone = L::eigenvalues(destroyed);
    const std::vector<double> with_vectors = L::eigenvectors(vectors);
    // Backward error n eps |a|_2 (LAPACK Users' Guide, section 4.7), and n eps / 2 for rounding the matrix.
    const double tolerance = 4 * as_double(n) * kEpsilon * std::max(-values.front(), values.back());
    CHECK_CLOSE(difference(vector_of(alone), vector_of(values)), 0, tolerance);
    CHECK_CLOSE(difference(vector_of(with_vectors), vector_of(values)), 0, tolerance);
    const M identity = oracle::product(transposed(vectors), vectors);
    CHECK_CLOSE(difference(identity, covariance(std::vector<double>(values.size(), 1.0), random.rotation(n))), 0,
                8 * as_double(n) * kEpsilon);
    CHECK_CLOSE(difference(covariance(with_vectors, vectors), a), 0, 2 * tolerance);
  }
}

TEST(eigenvalues_scale_with_the_matrix) {
  Random random(9);
  for (const Index n : {5, 40, 100}) {
    const M a = covariance(random.numbers(n), random.rotation(n));
    M once = a;
    const std::vector<double> values = L::eigenvalues(once);
    for (const double scale : {0x1p-600, 0x1p600}) {
      M scaled = map(a, [&](double value) { return scale * value; });
      std::vector<double> others = L::eigenvalues(scaled);
      for (double& value : others) value /= scale;
      // A power of 2 changes no digit, but the iteration may use another scaling and stop elsewhere: n eps.
      const double size = std::max(-values.front(), values.back());
      CHECK_CLOSE(difference(vector_of(others), vector_of(values)), 0, 2 * as_double(n) * kEpsilon * size);
    }
  }
}

TEST(eigenvalues_of_sparse_matrices) {
  for (const Index n : {1, 2, 33, 34, 64, 100}) {
    M zero = M::zeros(n, n);
    for (const double value : L::eigenvalues(zero)) CHECK(value == 0);
    M diagonal = M::zeros(n, n);
    for (Index j = 0; j < n; ++j) diagonal.column(j)[j] = as_double((j * 7) % n);
    const std::vector<double> values = L::eigenvalues(diagonal);
    // One off-diagonal entry couples two of n equal units: eigenvalues 1 - 1/2 and 1 + 1/2.
    M coupled = M::zeros(n, n);
    for (Index j = 0; j < n; ++j) coupled.column(j)[j] = 1;
    if (n > 1) coupled.column(0)[n - 1] = 0.5;
    const std::vector<double> of_coupled = L::eigenvalues(coupled);
    for (Index j = 0; j < n; ++j) {
      CHECK_CLOSE(values[static_cast<std::size_t>(j)], as_double(j), 4 * as_double(n) * kEpsilon * as_double(n));
      const double exact = n == 1 ? 1 : j == 0 ? 0.5 : j == n - 1 ? 1.5 : 1;
      CHECK_CLOSE(of_coupled[static_cast<std::size_t>(j)], exact, 4 * as_double(n) * kEpsilon);
    }
  }
}

TEST(singular_values_equal_jacobi) {
  Random random(7);
  for (const Index m : kSizes) {
    for (const Index n : {Index{1}, Index{5}, m}) {
      const M a = random.matrix(m, n);
      const std::vector<double> exact = oracle::singular_values(a);
      M destroyed = a;
      M also_destroyed = a;
      M right;
      const std::vector<double> alone = L::singular_values(destroyed);
      const std::vector<double> with_vectors = L::right_singular_vectors(also_destroyed, right);
      // Backward error max(m, n) eps |a|_2 (LAPACK Users' Guide, section 4.9).
      const double tolerance = 4 * as_double(std::max(m, n)) * kEpsilon * exact.front();
      CHECK_CLOSE(difference(vector_of(alone), vector_of(exact)), 0, tolerance);
      CHECK_CLOSE(difference(vector_of(with_vectors), vector_of(exact)), 0, tolerance);
      CHECK(right.rows() == n && right.cols() == std::min(m, n));
      // a right = left diag(values), so its columns are orthogonal and their norms are the values.
      const M image = oracle::product(a, right);
      M squares = M::zeros(right.cols(), right.cols());
      for (Index j = 0; j < squares.cols(); ++j) {
        const double value = with_vectors[static_cast<std::size_t>(j)];
        squares.column(j)[j] = value * value;
      }
      CHECK_CLOSE(difference(oracle::product(transposed(image), image), squares), 0, 4 * tolerance * exact.front());
    }
  }
}

TEST(singular_values_of_singular_matrices_end_in_zeros) {
  Random random(8);
  const M a = oracle::product(random.matrix(30, 4), random.matrix(4, 20));
  const std::vector<double> exact = oracle::singular_values(a);
  M destroyed = a;
  const std::vector<double> values = L::singular_values(destroyed);
  CHECK(values == descending(values));
  CHECK(values[3] > 1);
  // Rounding the entries of a has an effect of this size.
  CHECK_CLOSE(values[4], 0, 30 * kEpsilon * exact.front());
}

TEST(empty_matrices_have_no_eigenvalues_or_singular_values) {
  M none;
  M wide(0, 4);
  M right;
  CHECK(L::eigenvalues(none).empty());
  CHECK(L::eigenvectors(none).empty());
  CHECK(L::singular_values(wide).empty());
}
