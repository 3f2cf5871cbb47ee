#include "oracle.hpp"

#include <algorithm>
#include <numeric>

namespace fidfast::oracle {

namespace {

using Extended = std::vector<std::vector<long double>>;  // columns

Extended extended(const M& a) {
  Extended result;
  for (Index j = 0; j < a.cols(); ++j) result.emplace_back(a.column(j), a.column(j) + a.rows());
  return result;
}

M rounded(const Extended& a, Index num_rows) {
  M result(num_rows, static_cast<Index>(a.size()));
  for (std::size_t j = 0; j < a.size(); ++j) {
    for (std::size_t i = 0; i < a[j].size(); ++i) {
      result.column(static_cast<Index>(j))[i] = static_cast<double>(a[j][i]);
    }
  }
  return result;
}

long double dot(const std::vector<long double>& a, const std::vector<long double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0L);
}

/// Centred columns of a.
Extended centred(const M& a) {
  Extended result = extended(a);
  for (Index i = 0; i < a.rows(); ++i) {
    const auto row = static_cast<std::size_t>(i);
    long double mean = 0;
    for (const auto& column : result) mean += column[row];
    mean /= static_cast<long double>(a.cols());
    for (auto& column : result) column[row] -= mean;
  }
  return result;
}

/// Rotates two columns in their plane to make them orthogonal; false if they are already.
bool orthogonalize(std::vector<long double>& a, std::vector<long double>& b) {
  const long double aa = dot(a, a);
  const long double bb = dot(b, b);
  const long double ab = dot(a, b);
  if (std::abs(ab) <= std::numeric_limits<long double>::epsilon() * std::sqrt(aa * bb)) return false;
  const long double zeta = (bb - aa) / (2 * ab);
  const long double tangent = std::copysign(1.0L, zeta) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
  const long double cosine = 1 / std::sqrt(1 + tangent * tangent);
  const long double sine = cosine * tangent;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const long double before = a[i];
    a[i] = cosine * before - sine * b[i];
    b[i] = sine * before + cosine * b[i];
  }
  return true;
}

std::vector<double> singular_values_of_columns(Extended a) {
  constexpr int kSweeps = 60;  // about ten are needed
  bool turned = true;
  for (int sweep = 0; turned && sweep < kSweeps; ++sweep) {
    turned = false;
    for (std::size_t j = 0; j < a.size(); ++j) {
      for (std::size_t k = j + 1; k < a.size(); ++k) turned = orthogonalize(a[j], a[k]) || turned;
    }
  }
  std::vector<double> values;
  for (const auto& column : a) values.push_back(static_cast<double>(std::sqrt(dot(column, column))));
  std::sort(values.rbegin(), values.rend());
  return values;
}

template <class Visit>
double largest_of(const M& a, const M& b, Index first_of_column, Visit visit) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return kNan;
  double result = 0;
  for (Index j = 0; j < a.cols(); ++j) {
    for (Index i = first_of_column * j; i < a.rows(); ++i) {
      const double value = visit(a.column(j)[i], b.column(j)[i]);
      if (std::isnan(value)) return value;
      result = std::max(result, value);
    }
  }
  return result;
}

}  // namespace

M Random::matrix(Index rows, Index cols) {
  M result(rows, cols);
  for (Index i = 0; i < result.size(); ++i) result.data()[i] = normal();
  return result;
}

std::vector<double> Random::numbers(Index n) {
  std::vector<double> result(static_cast<std::size_t>(n));
  for (double& value : result) value = normal();
  return result;
}

M Random::rotation(Index n) {
  Extended basis = extended(matrix(n, n));
  for (std::size_t j = 0; j < basis.size(); ++j) {
    for (int pass = 0; pass < 2; ++pass) {  // twice is enough (Kahan)
      for (std::size_t k = 0; k < j; ++k) {
        const long double along = dot(basis[j], basis[k]);
        for (std::size_t i = 0; i < basis[j].size(); ++i) basis[j][i] -= along * basis[k][i];
      }
      const long double norm = std::sqrt(dot(basis[j], basis[j]));
      for (long double& value : basis[j]) value /= norm;
    }
  }
  return rounded(basis, n);
}

M Random::triangle(Index n) {
  M result = with_upper(matrix(n, n), 0.0);
  for (Index j = 0; j < n; ++j) result.column(j)[j] = uniform(1, 2) * std::sqrt(static_cast<double>(n));
  return result;
}

M Random::rows(Index dim, Index n, double offset) {
  M mixing = matrix(dim, dim);
  for (Index i = 0; i < dim; ++i) {
    const double scale = std::pow(10.0, uniform(-1, 1));
    for (Index j = 0; j < dim; ++j) mixing.column(j)[i] *= scale;
  }
  return map(oracle::product(mixing, matrix(dim, n)), [&](double value) { return value + offset; });
}

std::vector<double> Random::spectrum(Index n, double condition) {
  std::vector<double> values(static_cast<std::size_t>(n), 1.0);
  for (double& value : values) value = std::pow(condition, uniform(0, 1));
  values.back() = condition;
  values.front() = 1;
  return values;
}

V vector_of(const std::vector<double>& values) {
  V result(static_cast<Index>(values.size()));
  std::copy(values.begin(), values.end(), result.data());
  return result;
}

M transposed(const M& a) {
  M result(a.cols(), a.rows());
  for (Index j = 0; j < a.cols(); ++j) {
    for (Index i = 0; i < a.rows(); ++i) result.column(i)[j] = a.column(j)[i];
  }
  return result;
}

M product(const M& a, const M& b) {
  M result(a.rows(), b.cols());
  for (Index j = 0; j < b.cols(); ++j) {
    std::vector<long double> column(static_cast<std::size_t>(a.rows()), 0.0L);
    for (Index k = 0; k < a.cols(); ++k) {
      const long double factor = b.column(j)[k];
      for (std::size_t i = 0; i < column.size(); ++i) column[i] += factor * a.column(k)[i];
    }
    std::transform(column.begin(), column.end(), result.column(j),
                   [](long double v) { return static_cast<double>(v); });
  }
  return result;
}

M plus(double alpha, const M& a, const M& b) {
  M result(a.rows(), a.cols());
  for (Index i = 0; i < a.size(); ++i) result.data()[i] = alpha * a.data()[i] + b.data()[i];
  return result;
}

M columns(const M& a, Index first, Index n) {
  M result(a.rows(), n);
  std::copy_n(a.column(first), result.size(), result.data());
  return result;
}

M with_upper(M a, double value) {
  for (Index j = 1; j < a.cols(); ++j) std::fill_n(a.column(j), std::min(j, a.rows()), value);
  return a;
}

M symmetric(const M& a) {
  M result = a;
  for (Index j = 0; j < a.cols(); ++j) {
    for (Index i = j + 1; i < a.rows(); ++i) result.column(i)[j] = a.column(j)[i];
  }
  return result;
}

M covariance(const std::vector<double>& values, const M& basis) {
  M scaled = basis;
  for (Index j = 0; j < basis.cols(); ++j) {
    const double value = values[static_cast<std::size_t>(j)];
    std::transform(basis.column(j), basis.column(j) + basis.rows(), scaled.column(j),
                   [value](double entry) { return value * entry; });
  }
  return symmetric(product(scaled, transposed(basis)));
}

double difference(const M& a, const M& b) {
  return largest_of(a, b, 0, [](double x, double y) { return std::abs(x - y); });
}

double difference_below(const M& a, const M& b) {
  return largest_of(a, b, 1, [](double x, double y) { return std::abs(x - y); });
}

double largest(const M& a) {
  return largest_of(a, a, 0, [](double x, double) { return std::abs(x); });
}

Textbook textbook(const M& rows) {
  const Extended exact = centred(rows);
  Textbook result;
  for (Index i = 0; i < rows.rows(); ++i) {
    // Constant column: exactly 0 after centring.
    const long double mean = rows.column(0)[i] - exact[0][static_cast<std::size_t>(i)];
    result.mean.push_back(static_cast<double>(mean));
  }
  const auto dim = static_cast<std::size_t>(rows.rows());
  Extended scatter(dim, std::vector<long double>(dim, 0.0L));
  for (const auto& row : exact) {
    for (std::size_t j = 0; j < dim; ++j) {
      for (std::size_t i = 0; i < dim; ++i) scatter[j][i] += row[i] * row[j];
    }
  }
  result.scatter = rounded(scatter, rows.rows());
  return result;
}

double relative_error(const M& scatter, const M& expected) {
  M scale(expected.rows(), expected.cols());
  for (Index j = 0; j < expected.cols(); ++j) {
    for (Index i = 0; i < expected.rows(); ++i) {
      scale.column(j)[i] = std::sqrt(expected.column(i)[i]) * std::sqrt(expected.column(j)[j]);
    }
  }
  const M error = plus(-1.0, expected, scatter);
  return largest_of(error, scale, 0, [](double e, double s) { return e == 0 ? 0.0 : std::abs(e) / s; });
}

std::vector<double> singular_values(const M& a) {
  return singular_values_of_columns(extended(a.cols() <= a.rows() ? a : transposed(a)));
}

double nuclear_norm(const M& rows1, const M& rows2) {
  const Extended a = centred(rows1.cols() <= rows2.cols() ? rows1 : rows2);
  const Extended b = centred(rows1.cols() <= rows2.cols() ? rows2 : rows1);
  Extended cross;
  for (const auto& column : a) {
    cross.emplace_back();
    for (const auto& other : b) cross.back().push_back(dot(column, other));
  }
  return sum(singular_values_of_columns(cross)) /
         std::sqrt(static_cast<double>(a.size() - 1) * static_cast<double>(b.size() - 1));
}

}  // namespace fidfast::oracle
