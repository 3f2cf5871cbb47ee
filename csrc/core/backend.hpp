// The operations that a backend implements. Matrices are column-major. Only the lower triangle of a symmetric matrix is
// read and written, unless the operation says "full". Each backend defines and instantiates the members in its folder.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "core/matrix.hpp"

namespace fidfast {

/// A mean in double-double arithmetic: high + low, |low| <= ulp(high) / 2. So the difference between the means of two
/// blocks is accurate even when both are far from the origin.
template <class Device>
struct Mean {
  Vector<Device> high;  // (dim,)
  Vector<Device> low;   // (dim,)

  /// Copies into existing memory, so it cannot fail on the CPU.
  void copy_numbers(const Mean& other) {
    high.copy_numbers(other.high);
    low.copy_numbers(other.low);
  }
  static Mean zeros(Index dim) { return {Vector<Device>::zeros(dim), Vector<Device>::zeros(dim)}; }
};

/// Largest difference between a matrix and its transpose.
struct Asymmetry {
  double difference = 0;  // |a_ij - a_ji|
  Index i = 0;
  Index j = 0;
};

/// Indices [first, last).
struct Range {
  Index first = 0;
  Index last = 0;
};

/// How similar the units are in a block of rows.
struct Similarity {
  double correlation = 0;  // mean squared correlation of two units
  double cosine = 0;       // mean squared cosine of the angle between their deviations from the origin
  double few_valued = 0;   // share of the units that have a few values only
};

/// One element of a matrix.
struct Element {
  Index row = 0;
  Index column = 0;
  double value = 0;
};

/// The rows or the columns of a tile of products.
template <class Device>
struct TileAxis {
  const Vector<Device>& terms;  // (n,) for all rows of the set
  Vector<Device>& sums;         // (n,) likewise
  Range rows;                   // in this tile
};

/// Sums over a tile.
struct TileSquares {
  double of_function = 0;  // sum_ij f(e_ij)^2
  double of_terms = 0;     // sum_ij e_ij^2

  TileSquares& operator+=(const TileSquares& other) {
    of_function += other.of_function;
    of_terms += other.of_terms;
    return *this;
  }
};

/// sum_q coefficients[q] e^(q + 1).
struct Polynomial {
  std::vector<double> coefficients;
};

/// exp(e) - 1.
struct ExponentialLessOne {};

/// How RowOps::rounded_distances() rounds.
enum class Rounding {
  kFloat32,              // each operation to float32
  kFloat16,              // each operation to float16
  kFloat16AfterSumming,  // the sum of the three terms to float16
};

/// Operations on rows of features. S is the type of the input, T (float or double) the type of the products.
template <class Device>
struct RowOps {
  /// Index of the first row of (n, dim) with NaN, infinity, or a float64 above `largest` in magnitude, or -1.
  template <class S>
  static Index first_nonfinite_row(const FeatureView<S>& features, double largest = std::numeric_limits<double>::max());

  /// columns[:, first + i] = features[i]. T must represent every S exactly.
  template <class S, class T>
  static void append(const FeatureView<S>& features, Matrix<Device, T>& columns, Index first);

  /// Mean of the rows; exact for a constant column.
  template <class S>
  static void mean(const FeatureView<S>& features, Mean<Device>& mean);

  /// mean() and subtract_mean() in as few passes as the backend needs. The origin may be a point near the mean: that of
  /// `previous`, the mean of earlier rows, if it is not null. If T is float, squares (dim,) = sum_i (features[i] -
  /// origin)^2 in float64.
  template <class S, class T>
  static bool prepare_block(const FeatureView<S>& features, const Mean<Device>* previous, Mean<Device>& mean,
                            Vector<Device, T>& origin, Vector<Device>& remainder, Vector<Device, T>& unit_info,
                            Matrix<Device, T>& centred, Vector<Device>& squares);

  /// origin (dim,) = mean rounded to T; remainder (dim,) = mean - origin; centred[:, i] = features[i] - origin,
  /// computed in T. unit_info (dim,) is what the backend records about each unit for add_scatter(); on the CPU it is
  /// max_i |centred[:, i]|. Returns false if sums of squares would overflow in T, or lose digits to underflow.
  template <class S, class T>
  static bool subtract_mean(const FeatureView<S>& features, const Mean<Device>& mean, Vector<Device, T>& origin,
                            Vector<Device>& remainder, Vector<Device, T>& unit_info, Matrix<Device, T>& centred);

  /// scatter (dim, dim) += X X^T - n r r^T + weight d d^T, where X is the first n columns of centred (dim, >= n), r and
  /// d are (dim,), and unit_info is from prepare_block() or subtract_mean(). product is (dim, dim) scratch memory if T
  /// is float and the device has kFloatProducts, else empty.
  template <class T>
  static void add_scatter(const Matrix<Device, T>& centred, const Vector<Device, T>& unit_info, Index n,
                          const Vector<Device>& r, double weight, const Vector<Device>& d, Matrix<Device>& scatter,
                          Matrix<Device, T>& product);

  /// After prepare_block() for these features: separates the rows x of centred for which sum_j x_j^2 / squares_j
  /// exceeds kFarRow times dim / n, and subtracts their squares from squares (dim,). What is in `far` (dim, >= n) is
  /// for add_scatter_with_squares() only. Returns the number of these rows, or 0 if the device is asynchronous.
  template <class S>
  static Index separate_far_rows(const FeatureView<S>& features, const Vector<Device, float>& origin,
                                 Vector<Device, float>& unit_info, Matrix<Device, float>& centred,
                                 Vector<Device>& squares, Matrix<Device>& far);
  /// Estimate from some of the units without the far rows, or the largest values if the device is asynchronous.
  /// r (dim,) is the mean of all n rows minus the origin.
  static Similarity similarity(const Matrix<Device, float>& centred, Index n, const Vector<Device>& squares,
                               const Vector<Device>& r, const Matrix<Device>& far, Index num_far);
  /// add_scatter() with the diagonal of X^T X from `squares`, and the far rows, of which there are num_far, multiplied
  /// in float64.
  static void add_scatter_with_squares(const Matrix<Device, float>& centred, const Vector<Device, float>& unit_info,
                                       Index n, const Vector<Device>& squares, const Matrix<Device>& far, Index num_far,
                                       const Vector<Device>& r, double weight, const Vector<Device>& d,
                                       Matrix<Device>& scatter, Matrix<Device, float>& product);

  /// c[:m, :n] = a^T b for the first m columns of a (dim, >= m) and the first n of b (dim, >= n); c (>= m, >= n).
  template <class T>
  static void cross_products(const Matrix<Device, T>& a, Index m, const Matrix<Device, T>& b, Index n,
                             Matrix<Device, T>& c);

  // Jackknife -------------------------------------------------------------------------------------------------
  /// a (m, n) rounded to T.
  template <class T>
  static Matrix<Device, T> rounded(const Matrix<Device>& a);
  /// For x = centred[:, i] - r, i < n: squares[i] = x . x and products[i] = x . d, on the host, summed in float64.
  /// centred is (dim, >= n), r and d are (dim,).
  template <class T>
  static void deviations(const Matrix<Device, T>& centred, Index n, const Vector<Device>& r, const Vector<Device>& d,
                         std::vector<double>& squares, std::vector<double>& products);
  /// a[:, i] = (a[:, i] - shift)^2 elementwise for the first n columns of a (m, >= n); shift (m,).
  template <class T>
  static void square_deviations(Matrix<Device, T>& a, Index n, const Vector<Device, T>& shift);
  /// The first n columns of a (m, >= n) on the host, column after column.
  template <class T>
  static std::vector<double> on_host(const Matrix<Device, T>& a, Index n);

  /// Whether two ranges of columns are equal bit by bit.
  template <class T>
  static bool same_columns(const Matrix<Device, T>& a, Index first_a, const Matrix<Device, T>& b, Index first_b,
                           Index count);

  // Neighbours ------------------------------------------------------------------------------------------------
  /// max_j |features[i, j]| for each row, on the host; NaN or infinity if the row has one.
  template <class S>
  static std::vector<double> row_magnitudes(const FeatureView<S>& features);
  /// A hash of the first numbers of each row, on the host: equal for equal numbers, and for 0 and -0.
  template <class S>
  static std::vector<std::uint64_t> row_hashes(const FeatureView<S>& features, Index columns);
  /// Whether all numbers of two rows are equal.
  template <class S>
  static bool equal_rows(const FeatureView<S>& features, Index one, Index other);

  /// columns[:, p] = scale[p] (unit features[rows[p]] - origin) rounded to T, which may be an integer type; 0 if scale
  /// is 0. On the host, in float64: squared_norms[p] of the rounded columns, and errors[p], the norm of the rounding
  /// error.
  template <class S, class T>
  static void approximate(const FeatureView<S>& features, const std::vector<Index>& rows, double unit,
                          const Vector<Device>& origin, const std::vector<double>& scale, Matrix<Device, T>& columns,
                          std::vector<double>& squared_norms, std::vector<double>& errors);

  /// distances[c * rows.size() + p] = |x[:, c] - scale[p] features[rows[p]]|^2 in float64, x (dim, count). The order of
  /// summation does not depend on type, strides or scale, so with scale 1 equal rows are at distance 0 and distances
  /// are symmetric.
  template <class S>
  static void squared_distances(const Matrix<Device>& x, const FeatureView<S>& features, const std::vector<Index>& rows,
                                const std::vector<double>& scale, std::vector<double>& distances);
  /// |x - features[row]|^2 = result 2^exponent in float64, without overflow or underflow; x (dim,).
  template <class S>
  static double scaled_squared_distance(const Vector<Device>& x, const FeatureView<S>& features, Index row,
                                        int& exponent);

  /// Whether this machine has fast instructions for the integer products below.
  static bool has_integer_products();
  /// cross_products() of integers: sums are exact and must stay below 2^31; results are rounded to float.
  static void cross_products(const Matrix<Device, std::int16_t>& a, Index m, const Matrix<Device, std::int16_t>& b,
                             Index n, Matrix<Device, float>& c);
  static void cross_products(const Matrix<Device, std::int8_t>& a, Index m, const Matrix<Device, std::int8_t>& b,
                             Index n, Matrix<Device, float>& c);

  /// Appends the elements of sign * c in the ranges for which sign * c_ij - row_limit[i] > column_limit[j].
  template <class T>
  static void select(const Matrix<Device, T>& c, Range rows, Range columns, T sign, const std::vector<T>& row_limit,
                     const std::vector<T>& column_limit, std::vector<Element>& selected);

  // Distances in float16 and float32 --------------------------------------------------------------------------
  /// columns[:, p] = features[rows.first + p] rounded to float32, and then to float16 if `half`. squared_norms[p], on
  /// the host: the sum of its squares, where squares and sum are rounded likewise.
  template <class S>
  static void round_rows(const FeatureView<S>& features, Range rows, bool half, Matrix<Device, float>& columns,
                         std::vector<float>& squared_norms);
  /// distances[i, j] = |x_i|^2 - 2 x_i . y_j + |y_j|^2, at least 0, from products[i, j] = x_i . y_j, for row_norms
  /// |x_i|^2 (m,) and column_norms |y_j|^2 (n,); both matrices (>= m, >= n). Returns whether all are finite. If
  /// `column_first`, the product is subtracted from |y_j|^2.
  static bool rounded_distances(Rounding rounding, const Matrix<Device, float>& products,
                                const std::vector<float>& row_norms, const std::vector<float>& column_norms,
                                bool column_first, Matrix<Device, float>& distances);
  /// Sets rows_within[i] if any distances[i, j] <= column_limits[j], and columns_within[j] if any distances[i, j] <=
  /// row_limits[i]; (m,) and (n,), distances (>= m, >= n).
  static void mark_within(const Matrix<Device, float>& distances, const std::vector<float>& row_limits,
                          const std::vector<float>& column_limits, std::vector<char>& rows_within,
                          std::vector<char>& columns_within);

  // Kernels ---------------------------------------------------------------------------------------------------
  /// result[i, :] = (features[i] - origin)^T vectors in float64: (n, dim), (dim,), (dim, k) -> (n, k).
  template <class S>
  static void inner_products(const FeatureView<S>& features, const Vector<Device>& origin,
                             const Matrix<Device>& vectors, Matrix<Device>& result);

  /// c[:n, :n] = a^T a, lower triangle, for the first n columns of a (dim, >= n); c (>= n, >= n).
  template <class T>
  static void own_products(const Matrix<Device, T>& a, Index n, Matrix<Device, T>& c);
  static void own_products(const Matrix<Device, std::int16_t>& a, Index n, Matrix<Device, float>& c);
  static void own_products(const Matrix<Device, std::int8_t>& a, Index n, Matrix<Device, float>& c);

  /// max_ij |features[i, j] - origin[j]| in float64.
  template <class S>
  static double largest_deviation(const FeatureView<S>& features, const Vector<Device>& origin);

  /// Let e_ij = rows.terms[i] + columns.terms[j] + weight products[i, j] in float64 and g(e) = f(e) - linear e. Adds
  /// sum_j g(e_ij) to rows.sums[i] and sum_i g(e_ij) to columns.sums[j], and returns the sums of squares, over the tile
  /// or its part below the diagonal. rows and columns may be the same. linear is 0 or the slope of f at 0.
  template <class Function, class T>
  static TileSquares add_function_sums(const Function& f, double linear, double weight,
                                       const Matrix<Device, T>& products, const TileAxis<Device>& rows,
                                       const TileAxis<Device>& columns, bool below_diagonal);
};

template <class Device>
struct MatrixOps {
  // Vectors and means -----------------------------------------------------------------------------------------
  /// d (dim,) = to - from.
  static void difference(const Mean<Device>& to, const Mean<Device>& from, Vector<Device>& d);
  /// mean += weight d.
  static void advance(Mean<Device>& mean, double weight, const Vector<Device>& d);
  /// a_j <- sqrt(a_j^2 + (alpha b_j)^2), (dim,).
  static void add_in_quadrature(Vector<Device>& a, double alpha, const Vector<Device>& b);
  /// |a - b|^2.
  static double squared_distance(const Vector<Device>& a, const Vector<Device>& b);

  // Elements --------------------------------------------------------------------------------------------------
  /// a (n, n) += alpha b + beta d d^T, lower triangles.
  static void add_symmetric(Matrix<Device>& a, double alpha, const Matrix<Device>& b, double beta,
                            const Vector<Device>& d);
  /// a *= alpha.
  static void scale(Matrix<Device>& a, double alpha);
  /// a <- (a + a^T) / 2, full (n, n). Returns the largest asymmetry found.
  static Asymmetry symmetrize(Matrix<Device>& a);
  /// Scales the lower triangle of a (n, n) by alpha and copies it to the upper one.
  static void mirror_lower(Matrix<Device>& a, double alpha);
  /// Diagonal of a (n, n), on the host.
  static std::vector<double> diagonal(const Matrix<Device>& a);
  /// Whether each column of a (m, n) has a nonzero element, on the host.
  static std::vector<bool> nonzero_columns(const Matrix<Device>& a);
  /// Squared Frobenius norm of a (m, n).
  static double squared_norm(const Matrix<Device>& a);
  /// tr(a b) for symmetric a and b (n, n), lower triangles.
  static double trace_of_product(const Matrix<Device>& a, const Matrix<Device>& b);
  /// max |a_ij| over the lower triangle of a (n, n).
  static double max_magnitude(const Matrix<Device>& a);
  /// alpha a[units][:, units]: full (n, n) -> (units, units).
  static Matrix<Device> submatrix(double alpha, const Matrix<Device>& a, const std::vector<Index>& units);
  /// result[rows[i], :] = scale[i] a[i, :], zero elsewhere: (m, n) -> (num_rows, n), m = rows.size().
  static Matrix<Device> scatter_rows(const Matrix<Device>& a, Index num_rows, const std::vector<Index>& rows,
                                     const std::vector<double>& scale);
  /// a[rows, :]: (m, n) -> (rows, n).
  static Matrix<Device> gather_rows(const Matrix<Device>& a, const std::vector<Index>& rows);
  /// result[:, j] = scale[j] a[:, first + j]: (m, n) -> (m, scale.size()).
  static Matrix<Device> scaled_columns(const Matrix<Device>& a, Index first, const std::vector<double>& scale);
  /// a[i, j] *= scale[i] scale[j], lower triangle of a (n, n).
  static void scale_both_sides(Matrix<Device>& a, const std::vector<double>& scale);
  /// (dim, n - 1) columns whose outer product is the scatter of the n columns of `rows` (dim, n) about `mean`, their
  /// mean: a Householder reflection maps the sum of the centred columns to the first column, which is dropped.
  static Matrix<Device> drop_mean_direction(Matrix<Device> rows, const Mean<Device>& mean);

  // Products --------------------------------------------------------------------------------------------------
  /// a^T b: (k, m), (k, n) -> (m, n).
  static Matrix<Device> transposed_product(const Matrix<Device>& a, const Matrix<Device>& b);
  /// l^T b with l (k, k) lower triangular: (k, n) -> (k, n).
  static Matrix<Device> triangular_product(const Matrix<Device>& l, Matrix<Device> b);
  /// a b: (m, k), (k, n) -> (m, n).
  static Matrix<Device> product(const Matrix<Device>& a, const Matrix<Device>& b);
  /// a a^T, full: (m, n) -> (m, m).
  static Matrix<Device> outer_product(const Matrix<Device>& a);
  /// c -= a a^T, lower triangle: (n, n), (n, r).
  static void subtract_outer_product(Matrix<Device>& c, const Matrix<Device>& a);
  /// s <- l^T s l in place, lower triangles: s (n, n) symmetric, l (n, n) lower triangular.
  static void congruence(Matrix<Device>& s, const Matrix<Device>& l);
  /// |l|^T v, on the host: l (n, n) lower triangular, v (n,).
  static std::vector<double> absolute_product(const Matrix<Device>& l, const std::vector<double>& v);
  /// f^T s f, lower triangle: s (n, n) full, f (n, r) -> (r, r).
  static Matrix<Device> quadratic_form(const Matrix<Device>& s, const Matrix<Device>& f);

  // Factorisations --------------------------------------------------------------------------------------------
  /// a <- L with L L^T = a, strict upper triangle zero. Returns false if a (n, n) is not positive definite.
  static bool cholesky(Matrix<Device>& a);
  /// a <- L with L L^T = P^T a P, strict upper triangle zero. Stops when all remaining pivots are at most `tolerance`,
  /// and returns the number of columns computed, the rank. order[k] is the row of `a` that is now row k.
  static Index pivoted_cholesky(Matrix<Device>& a, double tolerance, std::vector<Index>& order);
  /// Estimate of |(L L^T)^-1|_1, where L is the leading (rank, rank) block of lower triangular l (n, >= rank).
  static double inverse_norm(const Matrix<Device>& l, Index rank);
  /// tr (L L^T)^-1 for lower triangular l (n, n), strict upper triangle zero.
  static double inverse_trace(const Matrix<Device>& l);
  /// Eigenvalues of a (n, n), ascending, on the host. Destroys a.
  static std::vector<double> eigenvalues(Matrix<Device>& a);
  /// The same; the columns of a become the eigenvectors.
  static std::vector<double> eigenvectors(Matrix<Device>& a);
  /// Singular values of a (m, n), m >= n, descending, on the host. Destroys a.
  static std::vector<double> singular_values(Matrix<Device>& a);
  /// The same for any m and n; the columns of `right` (n, min(m, n)) become the right singular vectors.
  static std::vector<double> right_singular_vectors(Matrix<Device>& a, Matrix<Device>& right);
};

}  // namespace fidfast
