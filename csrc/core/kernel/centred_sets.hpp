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

/// One set of rows x_i about the centre c.
template <class Device>
struct CentredSet {
  const KernelRows* rows;
  Vector<Device> sum;                  // (dim,) sum_i (x_i - c)
  std::vector<double> squared_norms;   // (n,) |x_i - c|^2
  std::vector<double> with_centre;     // (n,) (x_i - c) . c
  std::vector<double> with_own_sum;    // (n,) (x_i - c) . sum
  std::vector<double> with_other_sum;  // (n,) (x_i - c) . sum of the other set

  Index n() const { return rows->n(); }
};

template <class Device>
std::vector<double> host_of(const Vector<Device>& vector) {
  std::vector<double> result(static_cast<std::size_t>(vector.size()));
  Device::copy(result.data(), vector.data(), result.size() * sizeof(double));
  return result;
}

template <class Device>
void require_finite_rows(const KernelRows& rows) {
  const auto find = [](const auto& view) { return RowOps<Device>::first_nonfinite_row(view); };
  const Index bad = std::visit(find, rows.features);
  if (bad < 0) return;
  throw InvalidInput(std::string(rows.name) + ": features hold NaN or infinity; the first such row is " +
                     std::to_string(bad));
}

/// Both sets, about the midpoint of their means.
template <class Device>
struct CentredSets {
  CentredSet<Device> sets[2];
  Vector<Device> centre;  // (dim,)
  double squared_centre = 0;
  double farthest = 0;         // the largest |x - c|
  double second_farthest = 0;  // the second largest
  double typical = 0;          // root mean square of |x - c|

  CentredSets(const KernelRows& a, const KernelRows& b) : sets{{&a, {}, {}, {}, {}, {}}, {&b, {}, {}, {}, {}, {}}} {
    const Index dim = a.dim();
    Mean<Device> means[2] = {Mean<Device>::zeros(dim), Mean<Device>::zeros(dim)};
    for (int k = 0; k < 2; ++k) {
      std::visit([&](const auto& view) { RowOps<Device>::mean(view, means[k]); }, sets[k].rows->features);
    }
    Vector<Device> d(dim);
    Mean<Device> middle = means[0];
    MatrixOps<Device>::difference(means[1], means[0], d);
    MatrixOps<Device>::advance(middle, 0.5, d);
    middle.low = Vector<Device>::zeros(dim);
    for (int k = 0; k < 2; ++k) {
      sets[k].sum = Vector<Device>(dim);
      MatrixOps<Device>::difference(means[k], middle, sets[k].sum);
      MatrixOps<Device>::scale(sets[k].sum, static_cast<double>(sets[k].n()));
    }
    centre = std::move(middle.high);
    squared_centre = MatrixOps<Device>::squared_norm(centre);
    double total = 0;
    for (int k = 0; k < 2; ++k) {
      measure(sets[k], sets[1 - k].sum);
      for (double square : sets[k].squared_norms) {
        square = std::isfinite(square) ? square : std::numeric_limits<double>::infinity();
        second_farthest = std::max(second_farthest, std::min(farthest, square));
        farthest = std::max(farthest, square);
        total += square;
      }
    }
    farthest = std::sqrt(farthest);
    second_farthest = std::sqrt(second_farthest);
    typical = std::sqrt(total / static_cast<double>(a.n() + b.n()));
  }

  /// `exponent`: the rows are in units of 2^exponent.
  RowExtent extent(int exponent) const { return {exponent, squared_centre, farthest, second_farthest}; }

  /// Whether no square overflows, or loses digits to underflow.
  bool in_range() const {
    constexpr double kLargest = 0x1p450;
    return farthest < kLargest && squared_centre < kLargest * kLargest && farthest > 1 / kLargest;
  }

  double median_norm() const {
    std::vector<double> squares;
    for (const CentredSet<Device>& set : sets) {
      squares.insert(squares.end(), set.squared_norms.begin(), set.squared_norms.end());
    }
    return std::sqrt(median_of_positive(std::move(squares)));
  }

 private:
  void measure(CentredSet<Device>& set, const Vector<Device>& other_sum) {
    const Index dim = centre.size();
    Matrix<Device> vectors(dim, 3);
    const Vector<Device>* const parts[] = {&centre, &set.sum, &other_sum};
    for (int k = 0; k < 3; ++k) {
      Device::copy(vectors.column(k), parts[k]->data(), static_cast<std::size_t>(dim) * sizeof(double));
    }
    Matrix<Device> products(set.n(), 3);
    std::vector<Index> all(static_cast<std::size_t>(set.n()));
    std::iota(all.begin(), all.end(), Index{0});
    const std::vector<double> ones(all.size(), 1.0);
    const auto work = [&](const auto& view) {
      RowOps<Device>::inner_products(view, centre, vectors, products);
      RowOps<Device>::squared_distances(centre, view, all, ones, set.squared_norms);
    };
    std::visit(work, set.rows->features);
    std::vector<double>* const results[] = {&set.with_centre, &set.with_own_sum, &set.with_other_sum};
    for (int k = 0; k < 3; ++k) {
      results[k]->resize(all.size());
      Device::copy(results[k]->data(), products.column(k), all.size() * sizeof(double));
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
