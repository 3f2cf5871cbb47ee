// Kernel sums of rows whose sizes differ by orders of magnitude: the few distant rows are measured in float64 against
// all rows, and the others keep a centre and a unit that suit them.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/kernel/centred_sets.hpp"
#include "core/kernel/functions.hpp"
#include "core/matrix.hpp"

namespace fidfast::kernel {

/// Two sets in float64 and in units of 2^exponent, divided into usual and distant rows.
template <class Device>
struct DividedSets {
  int exponent = 0;
  Matrix<Device> rows[2];       // (dim, n)
  std::vector<Index> usual[2];  // if either has fewer than two rows, all rows are distant
  std::vector<Index> distant[2];

  template <class Kernel>
  DividedSets(const Kernel& kernel, const KernelRows& a, const KernelRows& b) {
    const KernelRows* const sides[2] = {&a, &b};
    std::vector<double> magnitudes[2];
    std::vector<double> all;
    for (int k = 0; k < 2; ++k) {
      magnitudes[k] =
          std::visit([](const auto& view) { return RowOps<Device>::row_magnitudes(view); }, sides[k]->features);
      all.insert(all.end(), magnitudes[k].begin(), magnitudes[k].end());
    }
    const double typical = median_of_positive(all);
    exponent = unit_of(typical);
    scale(sides);
    const Vector<Device> centre = usual_centre(a.dim(), magnitudes, typical);
    std::vector<double> norms[2];
    all.clear();
    for (int k = 0; k < 2; ++k) {
      std::vector<Index> numbers(magnitudes[k].size());
      std::iota(numbers.begin(), numbers.end(), Index{0});
      measure(centre, rows[k], numbers, norms[k]);
      all.insert(all.end(), norms[k].begin(), norms[k].end());
    }
    double reach = reach_of(kernel, median_of_positive(all));
    Index near[2];
    for (int k = 0; k < 2; ++k) {
      near[k] = std::count_if(norms[k].begin(), norms[k].end(), [&](double norm) { return norm <= reach; });
    }
    const Index total = static_cast<Index>(all.size());
    const bool too_many = total - near[0] - near[1] > (total < kFew ? total / 4 : total / kMostDistant) ||
                          (total >= kFew && std::min(near[0], near[1]) < 2);
    if (std::is_same_v<Kernel, PolynomialKernel> && too_many) {
      // Too many: float64 is precise enough for products of rows of all sizes.
      reach = std::numeric_limits<double>::infinity();
      exponent = unit_of(*std::max_element(std::begin(magnitudes[0]), std::end(magnitudes[0])));
      exponent = std::max(exponent, unit_of(*std::max_element(std::begin(magnitudes[1]), std::end(magnitudes[1]))));
      scale(sides);
    }
    for (int k = 0; k < 2; ++k) {
      for (std::size_t i = 0; i < norms[k].size(); ++i) {
        (norms[k][i] <= reach ? usual : distant)[k].push_back(static_cast<Index>(i));
      }
    }
    if (std::min(usual[0].size(), usual[1].size()) >= 2) return;
    for (int k = 0; k < 2; ++k) {
      usual[k].clear();
      distant[k].resize(static_cast<std::size_t>(rows[k].cols()));
      std::iota(distant[k].begin(), distant[k].end(), Index{0});
    }
  }

  bool has_distant() const { return !distant[0].empty() || !distant[1].empty(); }

  /// The usual rows of a side, (dim, usual).
  Matrix<Device> usual_rows(int k) const {
    Matrix<Device> result(rows[k].rows(), static_cast<Index>(usual[k].size()));
    for (std::size_t i = 0; i < usual[k].size(); ++i) copy_column(rows[k], usual[k][i], result, static_cast<Index>(i));
    return result;
  }

  /// |x - c| for the distant rows of a side.
  std::vector<double> norms_of_distant(int k, const Vector<Device>& centre) const {
    std::vector<double> norms;
    measure(centre, rows[k], distant[k], norms);
    return norms;
  }

  static void copy_column(const Matrix<Device>& from, Index i, Matrix<Device>& to, Index j) {
    Device::copy(to.column(j), from.column(i), static_cast<std::size_t>(from.rows()) * sizeof(double));
  }

 private:
  static constexpr Index kMostDistant = 64;  // distant rows of a polynomial kernel are at most 1 in 64
  static constexpr Index kFew = 1024;        // and 1 in 4 below this many rows, whose pairs take little time
  static constexpr int kSmallestUnit = -1000;

  static int unit_of(double size) { return size > 0 ? std::max(std::ilogb(size), kSmallestUnit) : 0; }

  void scale(const KernelRows* const (&sides)[2]) {
    for (int k = 0; k < 2; ++k) {
      rows[k] = Matrix<Device>(sides[k]->dim(), sides[k]->n());
      std::visit([&](const auto& view) { RowOps<Device>::append(view, rows[k], 0); }, sides[k]->features);
      MatrixOps<Device>::scale(rows[k], std::ldexp(1.0, -exponent));
    }
  }

  /// Mean of some of the rows of a typical size, of both sides.
  Vector<Device> usual_centre(Index dim, const std::vector<double> (&magnitudes)[2], double typical) const {
    constexpr double kUsual = 16;  // times the median
    constexpr std::size_t kRows = 512;
    std::vector<std::pair<int, Index>> some;
    for (int k = 0; k < 2; ++k) {
      std::vector<Index> small;
      for (std::size_t i = 0; i < magnitudes[k].size(); ++i) {
        if (magnitudes[k][i] / kUsual <= typical) small.push_back(static_cast<Index>(i));
      }
      const std::size_t step = (small.size() + kRows - 1) / kRows;
      for (std::size_t i = 0; i < small.size(); i += step) some.emplace_back(k, small[i]);
    }
    if (some.empty()) return Vector<Device>::zeros(dim);
    Matrix<Device> columns(dim, static_cast<Index>(some.size()));
    for (std::size_t i = 0; i < some.size(); ++i) {
      copy_column(rows[some[i].first], some[i].second, columns, static_cast<Index>(i));
    }
    Mean<Device> mean = Mean<Device>::zeros(dim);
    RowOps<Device>::mean(columns_as_features(columns, 0, columns.cols()), mean);
    return std::move(mean.high);
  }

  static void measure(const Vector<Device>& centre, const Matrix<Device>& set, const std::vector<Index>& numbers,
                      std::vector<double>& norms) {
    const std::vector<double> ones(numbers.size(), 1.0);
    RowOps<Device>::squared_distances(centre, columns_as_features(set, 0, set.cols()), numbers, ones, norms);
    for (double& norm : norms) norm = std::sqrt(norm);
  }

  static double reach_of(const PolynomialKernel&, double median) { return 32 * median; }
  /// Products in float64 change e by about 1e-15 of w |x - c|^2.
  double reach_of(const GaussianKernel& kernel, double /*median*/) const {
    return std::sqrt(0x1p20 / kernel.weight(exponent));
  }
};

/// Adds the pairs with at least one distant row.
template <class Device>
class DistantPairs {
 public:
  DistantPairs(const DividedSets<Device>& divided, const Vector<Device>& centre) : divided_(divided), centre_(centre) {
    for (int k = 0; k < 2; ++k) {
      is_distant_[k].assign(static_cast<std::size_t>(divided.rows[k].cols()), '\0');
      for (const Index i : divided.distant[k]) is_distant_[k][static_cast<std::size_t>(i)] = 1;
    }
  }

  /// `own` and `cross` hold the sums over rows of each side, as in KernelSums; squares those of the squares, over
  /// unordered pairs of one side for k = 0 and 1, and over pairs of both sides for 2.
  template <class Terms>
  void add(const Terms& terms, std::vector<double>* const (&own)[2], std::vector<double>* const (&cross)[2],
           double (&squares)[3]) {
    constexpr Index kGroup = 16;
    for (int k = 0; k < 2; ++k) {
      for (std::size_t first = 0; first < divided_.distant[k].size(); first += kGroup) {
        const std::size_t last = std::min(first + kGroup, divided_.distant[k].size());
        const std::vector<Index> some(divided_.distant[k].begin() + static_cast<std::ptrdiff_t>(first),
                                      divided_.distant[k].begin() + static_cast<std::ptrdiff_t>(last));
        for (int l = 0; l < 2; ++l) {
          if (k == 1 && l == 0 && divided_.usual[0].empty()) continue;  // all pairs of both sides are done
          const std::vector<double> values = values_of(terms, k, some, l);
          for (std::size_t c = 0; c < some.size(); ++c) add_row(k, some[c], l, values, c, own, cross, squares);
        }
      }
    }
  }

 private:
  void add_row(int k, Index i, int l, const std::vector<double>& values, std::size_t c,
               std::vector<double>* const (&own)[2], std::vector<double>* const (&cross)[2], double (&squares)[3]) {
    const auto n = static_cast<std::size_t>(divided_.rows[l].cols());
    const auto row = static_cast<std::size_t>(i);
    for (std::size_t j = 0; j < n; ++j) {
      const bool both = is_distant_[l][j] != 0;
      if (k == l && (j == row || (both && j < row))) continue;
      if (k == 1 && l == 0 && both) continue;  // added with the roles exchanged
      const double value = values[c * n + j];
      (*(k == l ? own : cross)[k])[row] += value;
      (*(k == l ? own : cross)[l])[j] += value;
      squares[k == l ? k : 2] += value * value;
    }
  }

  /// f(e) for some rows of side k and all rows of side l: [c * n + j].
  std::vector<double> values_of(const GaussianTerms& terms, int k, const std::vector<Index>& some, int l) const {
    std::vector<double> values = distances(columns(k, some), l);
    for (double& value : values) value = std::isnan(value) ? -1.0 : std::expm1(-terms.weight / 2 * value);
    return values;
  }
  std::vector<double> values_of(const PolynomialTerms& terms, int k, const std::vector<Index>& some, int l) const {
    Matrix<Device> about = columns(k, some);
    const Mean<Device> from{centre_, Vector<Device>::zeros(about.rows())};
    for (Index c = 0; c < about.cols(); ++c) {
      Mean<Device> to = Mean<Device>::zeros(about.rows());
      Device::copy(to.high.data(), about.column(c), static_cast<std::size_t>(about.rows()) * sizeof(double));
      Vector<Device> difference(about.rows());
      MatrixOps<Device>::difference(to, from, difference);
      DividedSets<Device>::copy_column(difference, 0, about, c);
    }
    const std::vector<double> with_centre_k = products(centre_, k);
    const std::vector<double> with_centre_l = products(centre_, l);
    std::vector<double> values = products(about, l);
    const std::size_t n = with_centre_l.size();
    for (std::size_t c = 0; c < some.size(); ++c) {
      const double own = with_centre_k[static_cast<std::size_t>(some[c])];
      for (std::size_t j = 0; j < n; ++j) {
        const double e = terms.weight * own + terms.weight * with_centre_l[j] + terms.weight * values[c * n + j];
        values[c * n + j] = terms.value(e);
      }
    }
    return values;
  }

  Matrix<Device> columns(int k, const std::vector<Index>& some) const {
    Matrix<Device> result(divided_.rows[k].rows(), static_cast<Index>(some.size()));
    for (std::size_t c = 0; c < some.size(); ++c) {
      DividedSets<Device>::copy_column(divided_.rows[k], some[c], result, static_cast<Index>(c));
    }
    return result;
  }

  std::vector<double> distances(const Matrix<Device>& from, int l) const {
    const Index n = divided_.rows[l].cols();
    std::vector<Index> all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), Index{0});
    std::vector<double> result;
    RowOps<Device>::squared_distances(from, columns_as_features(divided_.rows[l], 0, n), all,
                                      std::vector<double>(all.size(), 1.0), result);
    return result;
  }

  /// (x_j - c) . vectors[:, c] for all rows of side l: [c * n + j].
  std::vector<double> products(const Matrix<Device>& vectors, int l) const {
    const Index n = divided_.rows[l].cols();
    Matrix<Device> result(n, vectors.cols());
    RowOps<Device>::inner_products(columns_as_features(divided_.rows[l], 0, n), centre_, vectors, result);
    std::vector<double> host(static_cast<std::size_t>(result.size()));
    Device::copy(host.data(), result.data(), host.size() * sizeof(double));
    return host;
  }

  const DividedSets<Device>& divided_;
  const Vector<Device>& centre_;
  std::vector<char> is_distant_[2];
};

}  // namespace fidfast::kernel
