// Two sets of rows about one centre, and all that kernel distances take from them in float64.
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

namespace fidfast {

/// One side of a kernel distance: rows that somebody else owns, and the name of the argument, for errors.
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

/// The rows of one set about the centre c, and what is known of each in float64.
template <class Device>
struct Side {
  const KernelRows* rows;
  Vector<Device> sum;                  // (dim,) sum_i (x_i - c)
  std::vector<double> squared_norms;   // (n,) |x_i - c|^2
  std::vector<double> with_centre;     // (n,) (x_i - c) . c
  std::vector<double> with_own_sum;    // (n,) (x_i - c) . sum
  std::vector<double> with_other_sum;  // (n,) (x_i - c) . sum of the other side

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
  const auto find = [](const auto& view) { return RowVerbs<Device>::first_nonfinite_row(view); };
  const Index bad = std::visit(find, rows.features);
  if (bad < 0) return;
  throw InvalidInput(std::string(rows.name) + ": features hold NaN or infinity; the first such row is " +
                     std::to_string(bad));
}

/// Both sets about a centre midway between their means.
template <class Device>
struct Pair {
  Side<Device> sides[2];
  Vector<Device> centre;  // (dim,)
  double squared_centre = 0;
  double farthest = 0;  // the largest |x - c|
  double typical = 0;   // the root of the mean of their squares

  Pair(const KernelRows& a, const KernelRows& b) : sides{{&a, {}, {}, {}, {}, {}}, {&b, {}, {}, {}, {}, {}}} {
    const Index dim = a.dim();
    Mean<Device> means[2] = {Mean<Device>::zeros(dim), Mean<Device>::zeros(dim)};
    for (int k = 0; k < 2; ++k) {
      std::visit([&](const auto& view) { RowVerbs<Device>::mean(view, means[k]); }, sides[k].rows->features);
    }
    Vector<Device> d(dim);
    Mean<Device> middle = means[0];
    Linalg<Device>::difference(means[1], means[0], d);
    Linalg<Device>::advance(middle, 0.5, d);
    middle.low = Vector<Device>::zeros(dim);
    for (int k = 0; k < 2; ++k) {
      sides[k].sum = Vector<Device>(dim);
      Linalg<Device>::difference(means[k], middle, sides[k].sum);
      Linalg<Device>::scale(sides[k].sum, static_cast<double>(sides[k].n()));
    }
    centre = std::move(middle.high);
    squared_centre = Linalg<Device>::squared_norm(centre);
    double total = 0;
    for (int k = 0; k < 2; ++k) {
      measure(sides[k], sides[1 - k].sum);
      for (const double square : sides[k].squared_norms) {
        farthest = std::max(farthest, std::isfinite(square) ? square : std::numeric_limits<double>::infinity());
        total += square;
      }
    }
    if (!(farthest < std::numeric_limits<double>::max() / 16) || !std::isfinite(squared_centre)) reject();
    farthest = std::sqrt(farthest);
    typical = std::sqrt(total / static_cast<double>(a.n() + b.n()));
  }

 private:
  [[noreturn]] void reject() const {
    for (const Side<Device>& side : sides) require_finite_rows<Device>(*side.rows);
    throw InvalidInput("the squares of the features leave the range of float64");
  }

  void measure(Side<Device>& side, const Vector<Device>& other_sum) {
    const Index dim = centre.size();
    Matrix<Device> vectors(dim, 3);
    const Vector<Device>* const parts[] = {&centre, &side.sum, &other_sum};
    for (int k = 0; k < 3; ++k) {
      Device::copy(vectors.column(k), parts[k]->data(), static_cast<std::size_t>(dim) * sizeof(double));
    }
    Matrix<Device> products(side.n(), 3);
    std::vector<Index> all(static_cast<std::size_t>(side.n()));
    std::iota(all.begin(), all.end(), Index{0});
    const std::vector<double> ones(all.size(), 1.0);
    const auto work = [&](const auto& view) {
      RowVerbs<Device>::inner_products(view, centre, vectors, products);
      RowVerbs<Device>::squared_distances(centre, view, all, ones, side.squared_norms);
    };
    std::visit(work, side.rows->features);
    std::vector<double>* const results[] = {&side.with_centre, &side.with_own_sum, &side.with_other_sum};
    for (int k = 0; k < 3; ++k) {
      results[k]->resize(all.size());
      Device::copy(results[k]->data(), products.column(k), all.size() * sizeof(double));
    }
  }
};

/// sum_i x_i x_i^T (dim, dim) of the rows about the centre, lower triangle, from products in float32 folded into
/// float64; empty where they leave float32.
template <class Device>
Matrix<Device> scatter_about_centre(const Side<Device>& side, const Vector<Device>& centre) {
  constexpr Index kBlock = 2048;
  const Index dim = centre.size();
  const double n = static_cast<double>(side.n());
  Mean<Device> from = Mean<Device>::zeros(dim);
  Device::copy(from.high.data(), centre.data(), static_cast<std::size_t>(dim) * sizeof(double));
  Vector<Device> to_mean(dim);  // from the centre
  Device::copy(to_mean.data(), side.sum.data(), static_cast<std::size_t>(dim) * sizeof(double));
  Linalg<Device>::scale(to_mean, 1 / n);
  Vector<Device, float> origin(dim);
  Vector<Device, float> largest(dim);
  Vector<Device> remainder(dim);
  Matrix<Device, float> centred(dim, std::min(kBlock, side.n()));
  Matrix<Device, float> product(dim, dim);
  const Vector<Device> nothing = Vector<Device>::zeros(dim);
  Matrix<Device> scatter = Matrix<Device>::zeros(dim, dim);
  const auto add = [&](const auto& view) {
    using S = std::remove_const_t<std::remove_pointer_t<decltype(view.data)>>;
    if constexpr (!std::is_same_v<S, double>) {
      for (Index first = 0; first < view.n; first += kBlock) {
        const auto block = view.rows(first, std::min(kBlock, view.n - first));
        if (!RowVerbs<Device>::centre(block, from, origin, remainder, largest, centred)) return false;
        RowVerbs<Device>::add_scatter(centred, largest, block.n, nothing, 0.0, nothing, scatter, product);
      }
      return true;
    }
    return false;
  };
  if (!std::visit(add, side.rows->features)) return {};
  // So far it is about the rounded centre; from there to the mean it is the remainder and `to_mean`.
  Mean<Device> from_rounded{std::move(remainder), Vector<Device>::zeros(dim)};
  Linalg<Device>::advance(from_rounded, 1.0, to_mean);
  Linalg<Device>::add_symmetric(scatter, 0.0, scatter, -n, from_rounded.high);
  Linalg<Device>::add_symmetric(scatter, 0.0, scatter, n, to_mean);
  return scatter;
}

/// Sums of e_ij^2 over the pairs of two sets, and over the pairs of unlike rows of each.
struct SquaredTerms {
  double coefficient = 0;  // of e^2 in the kernel's function
  double own[2] = {0, 0};
  double cross = 0;
};

/// With e_ij = u_i + v_j + w p_ij. What is of second order in the products p_ij is the trace of a product of scatters:
/// sum_ij (x_i . y_j)^2 = tr(sum_i x_i x_i^T sum_j y_j y_j^T). Nothing where float32 is too narrow for these.
template <class Device>
std::optional<SquaredTerms> squared_terms(const PolynomialKernel& kernel, const Pair<Device>& pair) {
  const double w = kernel.weight();
  Matrix<Device> scatters[2];            // (dim, dim), lower triangles
  double sums[2] = {0, 0};               // sum_i u_i
  double squares[2] = {0, 0};            // sum_i u_i^2
  double with[2][2] = {{0, 0}, {0, 0}};  // sum_i u_i x_i . sum_j y_j, of each side with each
  double like[2] = {0, 0};               // sum_i e_ii^2
  for (int k = 0; k < 2; ++k) {
    const Side<Device>& side = pair.sides[k];
    scatters[k] = scatter_about_centre(side, pair.centre);
    if (scatters[k].empty()) return std::nullopt;
    for (std::size_t i = 0; i < side.with_centre.size(); ++i) {
      const double u = kernel.term(side.with_centre[i], side.squared_norms[i]);
      const double of_itself = 2 * u + w * side.squared_norms[i];
      sums[k] += u;
      squares[k] += u * u;
      with[k][k] += u * side.with_own_sum[i];
      with[k][1 - k] += u * side.with_other_sum[i];
      like[k] += of_itself * of_itself;
    }
  }
  const auto of = [&](int k, int l) {
    const double n = static_cast<double>(pair.sides[k].n());
    const double m = static_cast<double>(pair.sides[l].n());
    return (m * squares[k] + n * squares[l] + 2 * sums[k] * sums[l]) + 2 * w * (with[k][l] + with[l][k]) +
           w * w * Linalg<Device>::trace_of_product(scatters[k], scatters[l]);
  };
  return SquaredTerms{kernel.quadratic(pair.squared_centre), {of(0, 0) - like[0], of(1, 1) - like[1]}, of(0, 1)};
}

}  // namespace kernel

}  // namespace fidfast
