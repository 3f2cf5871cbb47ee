// Kernels, as functions of e_ij = u_i + v_j + w p_ij; see core/kernel/sums.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/matrix.hpp"

namespace fidfast {

/// Sums of a kernel k less a constant, over pairs of distinct rows of one set and over pairs of rows of both sets.
struct KernelSums {
  std::vector<double> aa;  // (n_a,) sum_{j != i} k(a_i, a_j)
  std::vector<double> bb;  // (n_b,) sum_{j != i} k(b_i, b_j)
  std::vector<double> ab;  // (n_a,) sum_j k(a_i, b_j)
  std::vector<double> ba;  // (n_b,) sum_i k(a_i, b_j)
  double squares_aa = 0;   // sum_{i != j} k(a_i, a_j)^2
  double squares_bb = 0;
  double squares_ab = 0;  // sum_ij k(a_i, b_j)^2
  int exponent = 0;       // the kernel is in units of 2^exponent
};

/// How far the rows are from the centre c, in units of 2^exponent.
struct RowExtent {
  int exponent = 0;
  double squared_centre = 0;   // |c|^2
  double farthest = 0;         // the largest |x - c|
  double second_farthest = 0;  // of all rows of both sets
};

/// A polynomial kernel less its value at the centre, 2^exponent f(e), scaled so that e and f(e) are at most about 1.
struct PolynomialTerms {
  double weight;     // w
  double at_centre;  // gamma c.c + coef0 in the unit of e
  Polynomial function;
  int exponent;

  static constexpr bool kTermsOfNorms = false;
  /// Products in float64 are precise enough for rows at any distance from the centre.
  static double reach() { return std::numeric_limits<double>::infinity(); }
  /// x.y = c.c + c.(x - c) + c.(y - c) + (x - c).(y - c).
  double term(double product_with_centre, double /*squared_norm*/) const { return weight * product_with_centre; }
  /// Coefficient of e^2.
  double quadratic() const { return function.coefficients.size() < 2 ? 0.0 : function.coefficients[1]; }
  /// Slope of the function at 0 if the linear part is to be summed separately, else 0.
  double linear(double /*farthest*/) const { return function.coefficients[0]; }
};

/// (gamma x.y + coef0)^degree.
struct PolynomialKernel {
  using Terms = PolynomialTerms;
  Index degree;
  double gamma;
  double coef0;

  /// Size of rows whose squares must neither overflow nor underflow, from the median and the largest size.
  static double decisive_size(double /*median*/, double largest) { return largest; }

  /// (s + e)^degree - s^degree with s = gamma c.c + coef0. The exponents are computed apart from the numbers, so that
  /// no intermediate result overflows or underflows.
  PolynomialTerms terms(const RowExtent& rows) const {
    const double largest = 2 * rows.farthest * std::sqrt(rows.squared_centre) + rows.farthest * rows.second_farthest;
    int of_gamma = 0;
    const double factor = std::frexp(gamma, &of_gamma);
    of_gamma += 2 * rows.exponent;
    const int unit = largest > 0 ? of_gamma + std::ilogb(largest) : 0;  // e is in units of 2^unit
    const double squared = factor * rows.squared_centre;
    constexpr int kNone = std::numeric_limits<int>::min() / 4;
    const int of_centre =
        std::max(squared > 0 ? of_gamma + std::ilogb(squared) : kNone, coef0 > 0 ? std::ilogb(coef0) : kNone);
    const bool zero = of_centre == kNone;
    const double s = zero ? 0.0 : std::ldexp(squared, of_gamma - of_centre) + std::ldexp(coef0, -of_centre);
    std::vector<double> numbers(static_cast<std::size_t>(degree));
    std::vector<int> exponents(numbers.size());
    double number = 1;  // of e^q: the binomial coefficient times s^(degree - q)
    int exponent = 0;
    int most = kNone;
    for (Index q = degree; q >= 1; --q) {
      numbers[static_cast<std::size_t>(q - 1)] = number;
      exponents[static_cast<std::size_t>(q - 1)] = exponent;
      if (number > 0) most = std::max(most, exponent);
      int shift = 0;
      number = std::frexp(number * (s * static_cast<double>(q) / static_cast<double>(degree - q + 1)), &shift);
      exponent += shift + (zero ? 0 : of_centre - unit);
    }
    for (std::size_t q = 0; q < numbers.size(); ++q) numbers[q] = std::ldexp(numbers[q], exponents[q] - most);
    return {std::ldexp(factor, of_gamma - unit),
            zero ? 0.0 : std::ldexp(s, of_centre - unit),
            {std::move(numbers)},
            unit * static_cast<int>(degree) + most};
  }
  /// Whether products in float32 are precise enough for rows of these distances from the centre, and sums of rows for
  /// the linear part of their kernels.
  static bool suits(const RowExtent& rows, double median) {
    constexpr double kUneven = 32;
    return rows.farthest <= kUneven * median;
  }
};

/// Parameters of a polynomial kernel; gamma defaults to 1 / dim.
struct PolynomialOptions {
  static constexpr Index kLargestDegree = 100;
  Index degree = 3;
  std::optional<double> gamma;
  double coef0 = 1;

  /// Throws InvalidInput if the kernel is not positive definite.
  PolynomialKernel checked(Index dim) const {
    const double factor = gamma.value_or(1.0 / static_cast<double>(dim));
    if (degree < 1) throw InvalidInput("degree must be at least 1, got " + std::to_string(degree));
    if (degree > kLargestDegree) {
      throw InvalidInput("degree must be at most " + std::to_string(kLargestDegree) + ", got " +
                         std::to_string(degree));
    }
    if (!(factor > 0 && std::isfinite(factor))) {
      throw InvalidInput("gamma must be positive, got " + std::to_string(factor));
    }
    if (!(coef0 >= 0 && std::isfinite(coef0))) {
      throw InvalidInput("coef0 must not be negative, got " + std::to_string(coef0));
    }
    return {degree, factor, coef0};
  }
};

/// exp(e) - 1 with e = -w |x - y|^2 / 2.
struct GaussianTerms {
  double weight;  // w
  ExponentialLessOne function;
  int exponent = 0;

  static constexpr bool kTermsOfNorms = true;
  /// Distance from the centre up to which rows may be multiplied: products in float64 change e by about 1e-15 of
  /// w |x - c|^2.
  double reach() const { return std::sqrt(0x1p20 / weight); }
  /// -|x - y|^2 / 2 = -|x - c|^2 / 2 - |y - c|^2 / 2 + (x - c).(y - c).
  double term(double /*product_with_centre*/, double squared_norm) const {
    return std::max(-weight / 2 * squared_norm, -0x1p1000);
  }
  /// Far from 0 the function is bounded, and summing its linear part separately would cause cancellation.
  double linear(double farthest) const { return 2 * farthest * farthest * weight <= 1 ? 1.0 : 0.0; }
};

/// exp(-|x - y|^2 / (2 sigma^2)).
struct GaussianKernel {
  using Terms = GaussianTerms;
  double sigma = 10;

  /// The kernel of much larger rows is 0, and that of much smaller ones is 1.
  double decisive_size(double median, double largest) const { return std::max(median, std::min(largest, sigma)); }

  GaussianKernel checked(Index /*dim*/) const {
    if (!(sigma > 0 && std::isfinite(sigma))) {
      throw InvalidInput("sigma must be positive, got " + std::to_string(sigma));
    }
    return *this;
  }
  GaussianTerms terms(const RowExtent& rows) const { return {weight(rows.exponent), {}, 0}; }
  /// 1 / sigma^2 for rows in units of 2^exponent. From 2^900 on, the kernel is 0 for all distances in float64.
  double weight(int exponent) const {
    constexpr int kMost = 900;
    int of_sigma = 0;
    const double number = std::frexp(sigma, &of_sigma);
    return std::ldexp(1 / (number * number), std::min(2 * (exponent - of_sigma), kMost));
  }
  /// Products in float32 change e by 1e-7 of w |x - c|^2.
  bool suits(const RowExtent& rows, double /*median*/) const {
    constexpr double kMost = 256;
    return weight(rows.exponent) * rows.farthest * rows.farthest <= kMost;
  }
};

}  // namespace fidfast
