// Kernels, as functions of e_ij = u_i + v_j + w p_ij; see core/kernel/sums.hpp.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/backend.hpp"
#include "core/errors.hpp"
#include "core/matrix.hpp"

namespace fidfast {

/// (gamma x.y + coef0)^degree.
struct PolynomialKernel {
  Index degree;
  double gamma;
  double coef0;

  double weight() const { return gamma; }
  /// x.y = c.c + c.(x - c) + c.(y - c) + (x - c).(y - c).
  double term(double product_with_centre, double /*squared_norm*/) const { return gamma * product_with_centre; }
  static constexpr bool kTermsOfNorms = false;
  /// (s + e)^degree - s^degree with s = gamma c.c + coef0.
  Polynomial function(double squared_centre) const {
    const double s = gamma * squared_centre + coef0;
    std::vector<double> coefficients(static_cast<std::size_t>(degree));
    double coefficient = 1;  // of e^q: the binomial coefficient times s^(degree - q)
    for (Index q = degree; q >= 1; --q) {
      coefficients[static_cast<std::size_t>(q - 1)] = coefficient;
      coefficient *= s * static_cast<double>(q) / static_cast<double>(degree - q + 1);
    }
    return {std::move(coefficients)};
  }
  /// Coefficient of e^2.
  double quadratic(double squared_centre) const { return degree < 2 ? 0.0 : function(squared_centre).coefficients[1]; }
  /// Slope of the function at 0 if the linear part is to be summed separately, else 0.
  double linear(double squared_centre, double /*farthest*/) const { return function(squared_centre).coefficients[0]; }
};

/// Parameters of a polynomial kernel; gamma defaults to 1 / dim.
struct PolynomialOptions {
  Index degree = 3;
  std::optional<double> gamma;
  double coef0 = 1;

  /// Throws InvalidInput if the kernel is not positive definite.
  PolynomialKernel checked(Index dim) const {
    const double factor = gamma.value_or(1.0 / static_cast<double>(dim));
    if (degree < 1) throw InvalidInput("degree must be at least 1, got " + std::to_string(degree));
    if (!(factor > 0 && std::isfinite(factor))) {
      throw InvalidInput("gamma must be positive, got " + std::to_string(factor));
    }
    if (!(coef0 >= 0 && std::isfinite(coef0))) {
      throw InvalidInput("coef0 must not be negative, got " + std::to_string(coef0));
    }
    return {degree, factor, coef0};
  }
};

/// exp(-|x - y|^2 / (2 sigma^2)).
struct GaussianKernel {
  double sigma = 10;

  GaussianKernel checked(Index /*dim*/) const {
    if (!(sigma > 0 && std::isfinite(sigma))) {
      throw InvalidInput("sigma must be positive, got " + std::to_string(sigma));
    }
    return *this;
  }
  double weight() const { return 1 / (sigma * sigma); }
  /// -|x - y|^2 / 2 = -|x - c|^2 / 2 - |y - c|^2 / 2 + (x - c).(y - c).
  double term(double /*product_with_centre*/, double squared_norm) const { return -weight() / 2 * squared_norm; }
  static constexpr bool kTermsOfNorms = true;
  static ExponentialLessOne function(double /*squared_centre*/) { return {}; }
  /// Far from 0 the function is bounded, and summing its linear part separately would cause cancellation.
  double linear(double /*squared_centre*/, double farthest) const {
    return 2 * farthest * farthest * weight() <= 1 ? 1.0 : 0.0;
  }
};

}  // namespace fidfast
