// Tridiagonalization in two stages by several threads: eigenvalues equal those of LAPACK, and those of one thread bit
// for bit. Without 64-byte vectors LAPACK is compared with itself.
#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "check.hpp"
#include "core/parallel.hpp"
#include "cpu/lapack.hpp"
#include "cpu/tridiagonal.hpp"
#include "oracle.hpp"

using namespace fidfast;
using namespace fidfast::oracle;

namespace {

/// The smallest size that uses two stages, and sizes around the next multiple of the bandwidth 32.
constexpr Index kSizes[] = {640, 650, 673};
constexpr Index kThreads[] = {2, 3};

/// A symmetric matrix in the lower triangle; the upper one must not be read.
M symmetric_matrix(Index n, Random& random) { return with_upper(random.matrix(n, n), kNan); }

/// The diagonal followed by the subdiagonal.
std::vector<double> tridiagonal(M a, Index threads) {
  const Index n = a.rows();
  std::vector<double> result(static_cast<std::size_t>(2 * n - 1));
  tridiagonalize(a, result.data(), result.data() + n, threads);
  return result;
}

std::vector<double> eigenvalues_of(std::vector<double> tridiagonal) {
  const Index n = static_cast<Index>(tridiagonal.size() + 1) / 2;
  lapack::with([&](const auto& lib) {
    const auto size = lib.size(n);
    auto info = size;
    lib.dsterf(&size, tridiagonal.data(), tridiagonal.data() + n, &info);
    lapack::require_success(info, "dsterf");
  });
  tridiagonal.resize(static_cast<std::size_t>(n));
  return tridiagonal;
}

std::vector<double> eigenvalues_by_lapack(M a) {
  std::vector<double> values(static_cast<std::size_t>(a.rows()));
  lapack::with([&](const auto& lib) {
    using Int = typename std::decay_t<decltype(lib)>::Int;
    const Int n = lib.size(a.rows());
    const Int lwork = 2 * n + 1;
    const Int liwork = 1;
    std::vector<double> work(static_cast<std::size_t>(lwork));
    Int iwork = 0;
    Int info = 0;
    lib.dsyevd("N", "L", &n, a.data(), &n, values.data(), work.data(), &lwork, &iwork, &liwork, &info);
    lapack::require_success(info, "dsyevd");
  });
  return values;
}

}  // namespace

TEST(eigenvalues_equal_lapack_for_any_number_of_threads) {
  Random random(1);
  for (const Index n : kSizes) {
    const M a = symmetric_matrix(n, random);
    const std::vector<double> expected = eigenvalues_by_lapack(a);
    const std::vector<double> alone = tridiagonal(a, 1);
    // Backward error n eps |a|_2 for both (LAPACK Users' Guide, section 4.7).
    const double tolerance = 2 * as_double(n) * kEpsilon * std::max(-expected.front(), expected.back());
    CHECK_CLOSE(difference(vector_of(eigenvalues_of(alone)), vector_of(expected)), 0, tolerance);
    for (const Index threads : kThreads) CHECK(tridiagonal(a, threads) == alone);
  }
}

TEST(extreme_scales_do_not_change_digits) {
  Random random(2);
  const M a = symmetric_matrix(645, random);
  const std::vector<double> expected = tridiagonal(a, 2);
  for (const double scale : {0x1p-600, 0x1p600}) {
    std::vector<double> scaled = tridiagonal(map(a, [&](double value) { return scale * value; }), 2);
    for (double& value : scaled) value /= scale;
    CHECK(scaled == expected);
  }
}

TEST(eigenvalues_of_sparse_matrices) {
  for (const Index n : {642, 671}) {
    for (const double value : eigenvalues_of(tridiagonal(M::zeros(n, n), 2))) CHECK(value == 0);
    M diagonal = M::zeros(n, n);
    for (Index j = 0; j < n; ++j) diagonal.column(j)[j] = as_double((j * 7) % n);
    // One off-diagonal entry couples two of n equal units: eigenvalues 1 - 1/2 and 1 + 1/2.
    M coupled = M::zeros(n, n);
    for (Index j = 0; j < n; ++j) coupled.column(j)[j] = 1;
    coupled.column(0)[n - 1] = 0.5;
    const std::vector<double> values = eigenvalues_of(tridiagonal(diagonal, 2));
    const std::vector<double> of_coupled = eigenvalues_of(tridiagonal(coupled, 2));
    for (Index j = 0; j < n; ++j) {
      CHECK_CLOSE(values[static_cast<std::size_t>(j)], as_double(j), as_double(n) * kEpsilon * as_double(n));
      const double exact = j == 0 ? 0.5 : j == n - 1 ? 1.5 : 1;
      CHECK_CLOSE(of_coupled[static_cast<std::size_t>(j)], exact, 2 * as_double(n) * kEpsilon);
    }
  }
}

TEST(concurrent_tridiagonalizations) {
  Random random(3);
  const M a = symmetric_matrix(640, random);
  const M b = symmetric_matrix(655, random);
  std::vector<double> of_a;
  std::vector<double> of_b;
  std::thread other([&] { of_a = tridiagonal(a, 3); });
  of_b = tridiagonal(b, 3);
  other.join();
  CHECK(of_a == tridiagonal(a, 1));
  CHECK(of_b == tridiagonal(b, 1));
}

TEST(parallel_phases_start_after_the_previous_phase) {
  for (const Index threads : {1, 2, 7}) {
    // Each call sums what all calls of the previous phase wrote, without a lock.
    const std::vector<Index> counts = {5, 1, 40, 0, 3, 17, 1, 1, 8};
    std::vector<std::vector<Index>> numbers;
    for (const Index count : counts) numbers.emplace_back(static_cast<std::size_t>(count), 0);
    parallel_phases(counts, threads, [&](Index phase, Index i) {
      Index sum = 1;
      if (phase > 0) {
        for (const Index number : numbers[static_cast<std::size_t>(phase - 1)]) sum += number;
      }
      numbers[static_cast<std::size_t>(phase)][static_cast<std::size_t>(i)] = sum;
    });
    CHECK(numbers.back() == std::vector<Index>(8, 1 + (1 + (1 + 17 * (1 + 3)))));
    CHECK(numbers[2] == std::vector<Index>(40, 7));
  }
  parallel_phases({}, 3, [](Index, Index) {});
}
