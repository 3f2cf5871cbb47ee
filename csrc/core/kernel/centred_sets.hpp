// Two sets of rows about a common centre, with the quantities that kernel distances need in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/kernel/functions.hpp"
#include "core/matrix.hpp"
#include "core/product_scale.hpp"

namespace fidfast {

/// Rows that the caller owns, and the name of the argument for error messages.
struct KernelRows {
  AnyFeatures features;
  const char* name;

  Index n() const {
    return std::visit([](const auto& view) { return view.n; }, features);
  }
  Index dim() const {
    return std::visit([](const auto& view) { return view.dim; }, features);
  }
  bool hold_doubles() const { return std::holds_alternative<FeatureView<double>>(features); }
};

namespace kernel {

/// One set of rows x_i about the centre c. Products with sums are empty unless they are needed.
template <class Device>
struct CentredSet {
  const KernelRows* rows;
  Vector<Device> sum;                  // (dim,) sum_i (x_i - c)
  std::vector<double> squared_norms;   // (n,) |x_i - c|^2; infinity beyond the range of float64
  std::vector<double> with_centre;     // (n,) (x_i - c) . c
  std::vector<double> with_own_sum;    // (n,) (x_i - c) . sum
  std::vector<double> with_other_sum;  // (n,) (x_i - c) . sum of the other set

  Index n() const { return rows->n(); }
};

template <class Device>
void require_finite_rows(const KernelRows& rows) {
  const auto find = [](const auto& view) { return RowOps<Device>::first_nonfinite_row(view); };
  const Index bad = std::visit(find, rows.features);
  if (bad < 0) return;
  throw InvalidInput(std::string(rows.name) + ": features hold NaN or infinity; the first such row is " +
                     std::to_string(bad));
}

/// The numbers of consecutive rows.
inline std::vector<Index> numbers_in(Range range) {
  std::vector<Index> numbers(static_cast<std::size_t>(range.last - range.first));
  std::iota(numbers.begin(), numbers.end(), range.first);
  return numbers;
}

/// Rows that are converted to float64 at a time: up to 512, which take up to 8 MiB.
inline Index rows_of_doubles(Index dim) { return std::clamp<Index>((Index{1} << 20) / dim, 16, 512); }

/// columns[:, p] = unit features[numbers[p]] - origin in float64, and its squared norm.
template <class Device>
void subtract(const KernelRows& rows, const std::vector<Index>& numbers, double unit, const Vector<Device>& origin,
              Matrix<Device>& columns, std::vector<double>& squared_norms) {
  const std::vector<double> ones(numbers.size(), 1.0);
  std::vector<double> errors;
  const auto work = [&](const auto& view) {
    RowOps<Device>::approximate(view, numbers, unit, origin, ones, columns, squared_norms, errors);
  };
  std::visit(work, rows.features);
}

/// Both sets about a common centre, which depends on rows of a typical size only: distant rows would move it.
template <class Device>
struct CentredSets {
  CentredSet<Device> sets[2];
  int exponent = 0;       // all numbers are in units of 2^exponent
  Vector<Device> centre;  // (dim,)
  double squared_centre = 0;
  double farthest = 0;         // the largest |x - c|; infinity beyond the range of float64
  double second_farthest = 0;  // the second largest
  double typical = 0;          // root mean square of |x - c|

  /// The unit is 1 unless squares would leave the range of float64, or lose digits to underflow.
  template <class Kernel>
  CentredSets(const KernelRows& a, const KernelRows& b, const Kernel& kernel)
      : sets{{&a, {}, {}, {}, {}, {}}, {&b, {}, {}, {}, {}, {}}} {
    std::vector<double> magnitudes[2];
    std::vector<double> all;
    for (int k = 0; k < 2; ++k) {
      const auto measure = [](const auto& view) { return RowOps<Device>::row_magnitudes(view); };
      magnitudes[k] = std::visit(measure, sets[k].rows->features);
      all.insert(all.end(), magnitudes[k].begin(), magnitudes[k].end());
    }
    for (const KernelRows* const side : {&a, &b}) {
      const auto is_nan = [](double magnitude) { return std::isnan(magnitude); };
      if (std::any_of(all.begin(), all.end(), is_nan)) require_finite_rows<Device>(*side);
    }
    const double largest = *std::max_element(all.begin(), all.end());
    const double median = median_of_positive(std::move(all));
    exponent = exponent_of(kernel.decisive_size(median, largest));
    centre = mean_of_usual(magnitudes, median);
    squared_centre = MatrixOps<Device>::squared_norm(centre);
    for (CentredSet<Device>& set : sets) measure(set);
    farthest = std::sqrt(farthest);
    second_farthest = std::sqrt(second_farthest);
    typical = std::sqrt(typical / static_cast<double>(a.n() + b.n()));
  }

  double unit() const { return std::ldexp(1.0, -exponent); }
  RowExtent extent() const { return {exponent, squared_centre, farthest, second_farthest}; }

  double median_norm() const {
    std::vector<double> squares;
    for (const CentredSet<Device>& set : sets) {
      squares.insert(squares.end(), set.squared_norms.begin(), set.squared_norms.end());
    }
    return std::sqrt(median_of_positive(std::move(squares)));
  }

  /// Computes the products with sums.
  void add_products_with_sums() {
    for (int k = 0; k < 2; ++k) {
      Matrix<Device> sums(centre.size(), 2);
      for (int l = 0; l < 2; ++l) {
        const Vector<Device>& sum = sets[l == 0 ? k : 1 - k].sum;
        Device::copy(sums.column(l), sum.data(), static_cast<std::size_t>(sum.size()) * sizeof(double));
      }
      for_each_block(sets[k], [&](const FeatureView<double>& block, const std::vector<double>&) {
        append_products(block, sums, {&sets[k].with_own_sum, &sets[k].with_other_sum});
      });
    }
  }

 private:
  static int exponent_of(double size) {
    constexpr int kMost = 400;
    constexpr int kSmallest = -1000;
    const int exponent = size > 0 ? std::ilogb(size) : 0;
    return std::abs(exponent) <= kMost ? 0 : std::max(exponent, kSmallest);
  }

  /// Mean of some of the rows of a typical size, of both sides.
  Vector<Device> mean_of_usual(const std::vector<double> (&magnitudes)[2], double median) const {
    constexpr double kUsual = 16;  // times the median
    constexpr std::size_t kRows = 128;
    const Index dim = sets[0].rows->dim();
    const Vector<Device> origin = Vector<Device>::zeros(dim);
    Mean<Device> mean = Mean<Device>::zeros(dim);
    Index count = 0;
    for (int k = 0; k < 2; ++k) {
      std::vector<Index> usual;
      for (std::size_t i = 0; i < magnitudes[k].size(); ++i) {
        if (magnitudes[k][i] / kUsual <= median) usual.push_back(static_cast<Index>(i));
      }
      if (usual.empty()) continue;
      const std::size_t step = (usual.size() + kRows - 1) / kRows;
      std::vector<Index> some;
      for (std::size_t i = 0; i < usual.size(); i += step) some.push_back(usual[i]);
      Matrix<Device> columns(dim, static_cast<Index>(some.size()));
      std::vector<double> squared_norms;
      subtract(*sets[k].rows, some, unit(), origin, columns, squared_norms);
      Mean<Device> own = Mean<Device>::zeros(dim);
      RowOps<Device>::mean(columns_as_features(columns, 0, columns.cols()), own);
      Vector<Device> d(dim);
      MatrixOps<Device>::difference(own, mean, d);
      count += columns.cols();
      MatrixOps<Device>::advance(mean, static_cast<double>(columns.cols()) / static_cast<double>(count), d);
    }
    return std::move(mean.high);
  }

  /// Calls work(rows less the centre, their squared norms) for blocks of the rows of a set.
  template <class Work>
  void for_each_block(const CentredSet<Device>& set, Work work) const {
    const Index rows = std::min(rows_of_doubles(centre.size()), set.n());
    Matrix<Device> columns(centre.size(), rows);
    std::vector<double> squared_norms;
    for (Index first = 0; first < set.n(); first += rows) {
      const Index count = std::min(rows, set.n() - first);
      subtract(*set.rows, numbers_in({first, first + count}), unit(), centre, columns, squared_norms);
      work(columns_as_features(columns, 0, count), squared_norms);
    }
  }

  /// Appends the products of the rows of a block with each of the vectors (dim, k) to k results.
  static void append_products(const FeatureView<double>& block, const Matrix<Device>& vectors,
                              const std::vector<std::vector<double>*>& results) {
    Matrix<Device> products(block.n, vectors.cols());
    RowOps<Device>::inner_products(block, Vector<Device>::zeros(block.dim), vectors, products);
    const std::vector<double> host = host_copy(products);
    for (std::size_t k = 0; k < results.size(); ++k) {
      const auto first = host.begin() + static_cast<std::ptrdiff_t>(k) * block.n;
      results[k]->insert(results[k]->end(), first, first + block.n);
    }
  }

  void measure(CentredSet<Device>& set) {
    Mean<Device> total = Mean<Device>::zeros(centre.size());
    Mean<Device> mean = Mean<Device>::zeros(centre.size());
    for_each_block(set, [&](const FeatureView<double>& block, const std::vector<double>& squared_norms) {
      RowOps<Device>::mean(block, mean);
      MatrixOps<Device>::advance(total, static_cast<double>(block.n), mean.high);
      MatrixOps<Device>::advance(total, static_cast<double>(block.n), mean.low);
      append_products(block, centre, {&set.with_centre});
      set.squared_norms.insert(set.squared_norms.end(), squared_norms.begin(), squared_norms.end());
    });
    set.sum = std::move(total.high);
    for (double& square : set.squared_norms) {
      if (std::isnan(square)) square = std::numeric_limits<double>::infinity();
      second_farthest = std::max(second_farthest, std::min(farthest, square));
      farthest = std::max(farthest, square);
      typical += square;
    }
  }
};

/// sum_i (x_i - c) (x_i - c)^T (dim, dim), lower triangle, from float32 products accumulated in float64. Empty if the
/// products leave the range of float32.
template <class Device>
Matrix<Device> scatter_about_centre(const CentredSet<Device>& set, const Vector<Device>& centre) {
  constexpr Index kBlock = 2048;
  const Index dim = centre.size();
  const double n = static_cast<double>(set.n());
  Mean<Device> from = Mean<Device>::zeros(dim);
  Device::copy(from.high.data(), centre.data(), static_cast<std::size_t>(dim) * sizeof(double));
  Vector<Device> to_mean(dim);  // from the centre
  Device::copy(to_mean.data(), set.sum.data(), static_cast<std::size_t>(dim) * sizeof(double));
  MatrixOps<Device>::scale(to_mean, 1 / n);
  Vector<Device, float> origin(dim);
  Vector<Device, float> unit_info(dim);
  Vector<Device> remainder(dim);
  Matrix<Device, float> centred(dim, std::min(kBlock, set.n()));
  Matrix<Device, float> product(dim, dim);
  const Vector<Device> nothing = Vector<Device>::zeros(dim);
  Matrix<Device> scatter = Matrix<Device>::zeros(dim, dim);
  const auto add = [&](const auto& view) {
    using S = std::remove_const_t<std::remove_pointer_t<decltype(view.data)>>;
    if constexpr (!std::is_same_v<S, double>) {
      for (Index first = 0; first < view.n; first += kBlock) {
        const auto block = view.rows(first, std::min(kBlock, view.n - first));
        if (!RowOps<Device>::subtract_mean(block, from, origin, remainder, unit_info, centred)) return false;
        RowOps<Device>::add_scatter(centred, unit_info, block.n, nothing, 0.0, nothing, scatter, product);
      }
      return true;
    }
    return false;
  };
  if (!std::visit(add, set.rows->features)) return {};
  // So far the scatter is about the centre rounded to float32; the remainder is the vector from there to the centre.
  Mean<Device> from_rounded{std::move(remainder), Vector<Device>::zeros(dim)};
  MatrixOps<Device>::advance(from_rounded, 1.0, to_mean);
  MatrixOps<Device>::add_symmetric(scatter, 0.0, scatter, -n, from_rounded.high);
  MatrixOps<Device>::add_symmetric(scatter, 0.0, scatter, n, to_mean);
  return scatter;
}

/// Sums of e_ij^2 over the pairs of distinct rows of each set, and over the pairs of rows of both.
struct SquaredTerms {
  double coefficient = 0;  // of e^2 in the kernel function
  double own[2] = {0, 0};
  double cross = 0;
};

/// For e_ij = u_i + v_j + w p_ij. The terms of second order in p_ij are the trace of a product of scatters:
/// sum_ij (x_i . y_j)^2 = tr(sum_i x_i x_i^T sum_j y_j y_j^T). Empty if the scatters leave the range of float32.
template <class Device>
std::optional<SquaredTerms> squared_terms(const PolynomialTerms& kernel, const CentredSets<Device>& centred) {
  const double w = kernel.weight;
  Matrix<Device> scatters[2];            // (dim, dim), lower triangles
  double sums[2] = {0, 0};               // sum_i u_i
  double squares[2] = {0, 0};            // sum_i u_i^2
  double with[2][2] = {{0, 0}, {0, 0}};  // sum_i u_i x_i . sum_j y_j for each two sets
  double like[2] = {0, 0};               // sum_i e_ii^2
  for (int k = 0; k < 2; ++k) {
    const CentredSet<Device>& set = centred.sets[k];
    scatters[k] = scatter_about_centre(set, centred.centre);
    if (scatters[k].empty()) return std::nullopt;
    for (std::size_t i = 0; i < set.with_centre.size(); ++i) {
      const double u = kernel.term(set.with_centre[i], set.squared_norms[i]);
      const double of_itself = 2 * u + w * set.squared_norms[i];
      sums[k] += u;
      squares[k] += u * u;
      with[k][k] += u * set.with_own_sum[i];
      with[k][1 - k] += u * set.with_other_sum[i];
      like[k] += of_itself * of_itself;
    }
  }
  const auto of = [&](int k, int l) {
    const double n = static_cast<double>(centred.sets[k].n());
    const double m = static_cast<double>(centred.sets[l].n());
    return (m * squares[k] + n * squares[l] + 2 * sums[k] * sums[l]) + 2 * w * (with[k][l] + with[l][k]) +
           w * w * MatrixOps<Device>::trace_of_product(scatters[k], scatters[l]);
  };
  return SquaredTerms{kernel.quadratic(), {of(0, 0) - like[0], of(1, 1) - like[1]}, of(0, 1)};
}

}  // namespace kernel

}  // namespace fidfast
