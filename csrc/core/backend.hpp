// The verbs that a device must supply, with the shapes they take. Matrices are column-major. Of a symmetric
// matrix only the lower triangle is read and written, unless a verb says "full". A device defines the members
// in its own folder and instantiates them there for itself.
#pragma once

#include <cstdint>
#include <vector>

#include "core/matrix.hpp"

namespace fidfast {

/// A mean that carries twice the digits of a double: the value is high + low, |low| <= ulp(high) / 2. Blocks far
/// from the origin keep the digits of their distance from one another.
template <class Device>
struct Mean {
  Vector<Device> high;  // (dim,)
  Vector<Device> low;   // (dim,)

  /// Without new memory, so that it cannot fail.
  void copy_numbers(const Mean& other) {
    high.copy_numbers(other.high);
    low.copy_numbers(other.low);
  }
  static Mean zeros(Index dim) { return {Vector<Device>::zeros(dim), Vector<Device>::zeros(dim)}; }
};

/// How far a matrix is from its transpose, and where.
struct Asymmetry {
  double difference = 0;  // |a_ij - a_ji|
  Index i = 0;
  Index j = 0;
};

/// The indices [first, last).
struct Range {
  Index first = 0;
  Index last = 0;
};

/// An element of a matrix.
struct Element {
  Index row = 0;
  Index column = 0;
  double value = 0;
};

/// One side of a tile of products of rows, over which a function is summed.
template <class Device>
struct TileAxis {
  const Vector<Device>& terms;  // a number for each row of the whole side
  Vector<Device>& sums;         // likewise
  Range rows;                   // those of the tile
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

/// Verbs on rows of features: S is the type they come in, T (float or double) the type they are multiplied in.
template <class Device>
struct RowOps {
  /// The first row of (n, dim) that holds NaN or infinity, or -1.
  template <class S>
  static Index first_nonfinite_row(const FeatureView<S>& features);

  /// columns[:, first + i] = features[i]; exact, since T holds every S that is given to it.
  template <class S, class T>
  static void append(const FeatureView<S>& features, Matrix<Device, T>& columns, Index first);

  /// The mean of the rows; exact for a column whose entries are all equal.
  template <class S>
  static void mean(const FeatureView<S>& features, Mean<Device>& mean);

  /// mean and centre below, in as few passes as the device needs: the origin is near the mean, or is *near, the mean of
  /// earlier rows, where that is not null.
  template <class S, class T>
  static bool prepare_block(const FeatureView<S>& features, const Mean<Device>* near, Mean<Device>& mean,
                            Vector<Device, T>& origin, Vector<Device>& remainder, Vector<Device, T>& unit_info,
                            Matrix<Device, T>& centred);

  /// origin (dim,) = mean rounded to T; remainder (dim,) = mean - origin;
  /// centred[:, i] = features[i] - origin in T's arithmetic; unit_info (dim,) = max_i |centred[:, i]|.
  /// Returns whether T's range holds the sums of squares of every unit to T's accuracy: false where numbers are so
  /// large that the sums overflow, or so small that their digits underflow.
  template <class S, class T>
  static bool subtract_mean(const FeatureView<S>& features, const Mean<Device>& mean, Vector<Device, T>& origin,
                            Vector<Device>& remainder, Vector<Device, T>& unit_info, Matrix<Device, T>& centred);

  /// scatter (dim, dim) += X X^T - n r r^T + weight d d^T, with X the first n columns of centred (dim, >= n),
  /// r and d (dim,), and unit_info as centre or stage left it (where a device may have noted more of the units, for
  /// this). product is (dim, dim) scratch of devices with kFloatProducts where T is float, else empty.
  template <class T>
  static void add_scatter(const Matrix<Device, T>& centred, const Vector<Device, T>& unit_info, Index n,
                          const Vector<Device>& r, double weight, const Vector<Device>& d, Matrix<Device>& scatter,
                          Matrix<Device, T>& product);

  /// c[:m, :n] = a^T b for the first m columns of a (dim, >= m) and the first n of b (dim, >= n); c (>= m, >= n).
  template <class T>
  static void cross_products(const Matrix<Device, T>& a, Index m, const Matrix<Device, T>& b, Index n,
                             Matrix<Device, T>& c);

  // Leaving rows out ------------------------------------------------------------------------------------------
  /// The numbers of a (m, n), rounded to T.
  template <class T>
  static Matrix<Device, T> rounded(const Matrix<Device>& a);
  /// For the first n columns of centred (dim, >= n), each less r (dim,): their squared norms, and their products with
  /// d (dim,), on the host and summed in float64.
  template <class T>
  static void deviations(const Matrix<Device, T>& centred, Index n, const Vector<Device>& r, const Vector<Device>& d,
                         std::vector<double>& squares, std::vector<double>& products);
  /// a[:, i] = (a[:, i] - shift)^2, element by element, for the first n columns of a (m, >= n); shift (m,).
  template <class T>
  static void square_deviations(Matrix<Device, T>& a, Index n, const Vector<Device, T>& shift);
  /// The first n columns of a (m, >= n), one after the other, on the host.
  template <class T>
  static std::vector<double> on_host(const Matrix<Device, T>& a, Index n);

  /// Whether two column ranges of the same shape hold the same bits.
  template <class T>
  static bool same_columns(const Matrix<Device, T>& a, Index first_a, const Matrix<Device, T>& b, Index first_b,
                           Index count);

  // Neighbours ------------------------------------------------------------------------------------------------
  /// columns[:, i] = scale[i] (features[i] - origin), rounded to T, which may also be an integer. On the host, in
  /// float64: squared_norms[i] of the columns as they stand, and errors[i] = |what the rounding took|.
  template <class S, class T>
  static void approximate(const FeatureView<S>& features, const Vector<Device>& origin,
                          const std::vector<double>& scale, Matrix<Device, T>& columns,
                          std::vector<double>& squared_norms, std::vector<double>& errors);

  /// distances[p] = |x - scale[p] features[rows[p]]|^2 in float64, x (dim,). Sums run in one order whatever the type,
  /// the strides and the scales: where they are 1, equal rows are exactly 0 apart, and distances are symmetric.
  template <class S>
  static void squared_distances(const Vector<Device>& x, const FeatureView<S>& features, const std::vector<Index>& rows,
                                const std::vector<double>& scale, std::vector<double>& distances);

  /// Whether this machine has the products of integers below, and they are faster than those of floats.
  static bool has_integer_products();
  /// cross_products of integers whose sums stay below 2^31: exact, then rounded to float.
  static void cross_products(const Matrix<Device, std::int16_t>& a, Index m, const Matrix<Device, std::int16_t>& b,
                             Index n, Matrix<Device, float>& c);
  static void cross_products(const Matrix<Device, std::int8_t>& a, Index m, const Matrix<Device, std::int8_t>& b,
                             Index n, Matrix<Device, float>& c);

  /// Appends the elements of sign * c for which sign * c_ij - row_limit[i] > column_limit[j], within the ranges.
  template <class T>
  static void select(const Matrix<Device, T>& c, Range rows, Range columns, T sign, const std::vector<T>& row_limit,
                     const std::vector<T>& column_limit, std::vector<Element>& selected);

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

  /// The largest |features[i, j] - origin[j]|, in float64.
  template <class S>
  static double largest_deviation(const FeatureView<S>& features, const Vector<Device>& origin);

  /// With e_ij = rows.terms[i] + columns.terms[j] + weight products[i, j] in float64, for the whole tile or what lies
  /// below its diagonal, and g(e) = f(e) - linear e: adds sum_j g(e_ij) to rows.sums[i] and sum_i g(e_ij) to
  /// columns.sums[j], and returns the sums of squares. Both sides may be the same. linear is 0 or the slope of f at 0.
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
  /// |a - b|^2.
  static double squared_distance(const Vector<Device>& a, const Vector<Device>& b);

  // Element by element ----------------------------------------------------------------------------------------
  /// a (n, n) += alpha b + beta d d^T, lower triangles.
  static void add_symmetric(Matrix<Device>& a, double alpha, const Matrix<Device>& b, double beta,
                            const Vector<Device>& d);
  /// a *= alpha, every element.
  static void scale(Matrix<Device>& a, double alpha);
  /// a <- (a + a^T) / 2, full (n, n); returns the largest |a_ij - a_ji| and where it was.
  static Asymmetry symmetrize(Matrix<Device>& a);
  /// a <- alpha a, its lower triangle (n, n) copied to the upper one.
  static void mirror_lower(Matrix<Device>& a, double alpha);
  /// The diagonal of a (n, n), on the host.
  static std::vector<double> diagonal(const Matrix<Device>& a);
  /// Which columns of a (m, n) hold anything but zeros, on the host.
  static std::vector<bool> nonzero_columns(const Matrix<Device>& a);
  /// |A|_F^2 of a (m, n).
  static double squared_norm(const Matrix<Device>& a);
  /// tr(a b) of symmetric a and b (n, n), from their lower triangles.
  static double trace_of_product(const Matrix<Device>& a, const Matrix<Device>& b);
  /// The largest |a_ij| in the lower triangle of a (n, n).
  static double max_magnitude(const Matrix<Device>& a);
  /// alpha a[units][:, units] in the order given: full (n, n) -> (units, units).
  static Matrix<Device> submatrix(double alpha, const Matrix<Device>& a, const std::vector<Index>& units);
  /// result[rows[i], :] = scale[i] a[i, :], other rows zero: (m, n) -> (num_rows, n), m = rows.size().
  static Matrix<Device> scatter_rows(const Matrix<Device>& a, Index num_rows, const std::vector<Index>& rows,
                                     const std::vector<double>& scale);
  /// The rows named by `rows`, in the order given: (m, n) -> (rows, n).
  static Matrix<Device> gather_rows(const Matrix<Device>& a, const std::vector<Index>& rows);
  /// The columns [first, first + scale.size()), each times its scale: (m, n) -> (m, scale.size()).
  static Matrix<Device> scaled_columns(const Matrix<Device>& a, Index first, const std::vector<double>& scale);
  /// a[i, j] *= scale[i] scale[j], lower triangle of (n, n).
  static void scale_both_sides(Matrix<Device>& a, const std::vector<double>& scale);
  /// The (dim, n - 1) columns whose outer product is the scatter of the n columns of `rows` (dim, n) about their
  /// mean: rows less `mean`, reflected so that the direction of the mean drops out. Consumes `rows`.
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
  /// a <- L with L L^T = a, strict upper triangle zero; false where a (n, n) is not positive definite.
  static bool cholesky(Matrix<Device>& a);
  /// a <- L with L L^T = P^T a P for the leading `rank` columns, which stop where every remaining pivot is at most
  /// `tolerance`; order[k] is the row of `a` that became row k. Returns the rank. Strict upper triangle zero.
  static Index pivoted_cholesky(Matrix<Device>& a, double tolerance, std::vector<Index>& order);
  /// An estimate of |(L L^T)^-1|_1 for L the leading (rank, rank) block of lower triangular l (n, >= rank).
  static double inverse_norm(const Matrix<Device>& l, Index rank);
  /// Eigenvalues of a (n, n), ascending, on the host; a is destroyed.
  static std::vector<double> eigenvalues(Matrix<Device>& a);
  /// The same, with the eigenvectors as the columns of a.
  static std::vector<double> eigenvectors(Matrix<Device>& a);
  /// Singular values of a (m, n), m >= n, descending, on the host; a is destroyed.
  static std::vector<double> singular_values(Matrix<Device>& a);
  /// The same, with the right singular vectors as the columns of `right` (n, min(m, n)); a is destroyed.
  static std::vector<double> right_singular_vectors(Matrix<Device>& a, Matrix<Device>& right);
};

}  // namespace fidfast
