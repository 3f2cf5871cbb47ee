// Nearest neighbours in every precision: valid bounds, and results equal to plain loops in float64.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "oracle.hpp"

using namespace fidfast;
using namespace fidfast::oracle;
using Rows = RowOps<Cpu>;

namespace {

FeatureView<double> view(const M& rows) { return columns_as_features(rows, 0, rows.cols()); }

/// In extended precision.
double squared_distance(const M& a, Index i, const M& b, Index j) {
  long double sum = 0;
  for (Index d = 0; d < a.rows(); ++d) {
    const long double difference = static_cast<long double>(a.column(i)[d]) - b.column(j)[d];
    sum += difference * difference;
  }
  return static_cast<double>(sum);
}

/// Rows of several kinds: (dim, n).
std::vector<M> sets_of_rows(Index dim, Index n) {
  Random random(static_cast<std::uint64_t>(dim * n));
  std::vector<M> sets = {random.rows(dim, n), random.rows(dim, n, 1e4), M::zeros(dim, n)};
  M repeated = random.rows(dim, n);
  for (Index i = 5; i < n; ++i) std::copy_n(repeated.column(i % 5), dim, repeated.column(i));
  M outlier = random.rows(dim, n);
  for (Index d = 0; d < dim; ++d) outlier.column(n / 2)[d] *= 1e4;
  M clusters = random.rows(dim, n);
  for (Index i = 0; i < n; ++i) {
    for (Index d = 0; d < dim; ++d) clusters.column(i)[d] = 1e-4 * clusters.column(i)[d] + 1e4 * as_double(i % 3);
  }
  const M large = map(sets[0], [](double value) { return std::ldexp(value, 400); });
  const M small = map(sets[0], [](double value) { return std::ldexp(value, -400); });
  for (const M& set : {repeated, outlier, clusters, large, small}) sets.push_back(set);
  return sets;
}

/// A set of rows in its own frame, which is also divided into clusters if `clustered`.
struct Placed {
  RowSet<Cpu> set;
  Frame<Cpu> frame;

  explicit Placed(const M& rows, bool clustered = false)
      : set(view(rows), "rows"), frame(frame_of(set, RowSet<Cpu>(view(rows), "rows"))) {
    set.place(frame);
    if (clustered) set.find_clusters();
  }
  Placed(const Placed&) = delete;

  /// Squared distance of two rows of `rows` in the unit of the frame.
  double scaled(double square) const { return std::ldexp(square, -2 * frame.exponent); }
  double farthest() const { return *std::max_element(set.norms().begin(), set.norms().end()); }
};

/// Whether the bounds of Screen hold for all pairs, and select() misses none.
template <class T>
void check_screen(const M& all, Index dim, bool beyond) {
  using Tested = Screen<Cpu, T>;
  const Placed placed(all);
  const Index n = placed.set.size();
  std::vector<Index> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), Index{0});
  const M rows = placed.set.raw_rows(numbers.data(), n);  // the distinct ones
  // Half of the rows are beyond the reach.
  const double reach = beyond ? median_of_positive(placed.set.norms()) : kInfinity;
  Tested screen(dim, std::min(placed.farthest(), reach), reach, n);
  screen.load_rows(placed.set, {0, n});
  screen.load_columns(placed.set, {0, n});
  screen.multiply(n);
  const auto all_pairs = [&](Index) { return kInfinity; };
  const std::vector<Element> pairs = screen.select(Tested::About::kRows, {0, n}, {0, n}, 1, all_pairs);
  CHECK(static_cast<Index>(pairs.size()) == n * n);
  std::vector<double> limits;
  for (Index i = 0; i < n; ++i) limits.push_back(placed.scaled(squared_distance(rows, i, rows, (i + n / 3) % n)));
  const auto limit = [&](Index i) { return limits[static_cast<std::size_t>(i)]; };
  for (const bool about_rows : {true, false}) {
    const auto about = about_rows ? Tested::About::kRows : Tested::About::kColumns;
    std::vector<bool> found(static_cast<std::size_t>(n * n), false);
    for (const Element& pair : screen.select(about, {0, n}, {0, n}, 1, limit)) {
      found[static_cast<std::size_t>(pair.row * n + pair.column)] = true;
    }
    for (const Element& pair : pairs) {
      const double exact = placed.scaled(squared_distance(rows, pair.row, rows, pair.column));
      const Interval bounds = screen.squared_distance(pair);
      CHECK(bounds.low <= exact && exact <= bounds.high);
      const bool near = exact <= limit(about_rows ? pair.row : pair.column);
      CHECK(!near || found[static_cast<std::size_t>(pair.row * n + pair.column)]);
    }
  }
  CHECK(screen.select(Tested::About::kRows, {0, n}, {0, n}, 1, [](Index) { return -1.0; }).empty());
}

template <class T>
void check_nearest(const M& all, Index k, bool clustered) {
  const Placed placed(all, clustered);
  const RowSet<Cpu>& set = placed.set;
  const Index n = set.size();
  std::vector<Index> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), Index{0});
  const M rows = set.raw_rows(numbers.data(), n);
  Screen<Cpu, T> screen(rows.rows(), placed.farthest(), kInfinity, n);
  Nearest nearest(n, {k}, set.times(), set.times());
  detail::find_within(set, screen, nearest);
  for (Index i = 0; i < n; ++i) {
    std::vector<double> distances;
    for (Index j = 0; j < n; ++j) {
      const Index copies = set.times()[static_cast<std::size_t>(j)] - (i == j ? 1 : 0);
      const double square = placed.scaled(squared_distance(rows, i, rows, j));
      distances.insert(distances.end(), static_cast<std::size_t>(copies), square);
    }
    std::sort(distances.begin(), distances.end());
    // dim roundings of float64.
    const double expected = distances[static_cast<std::size_t>(k - 1)];
    CHECK_CLOSE(nearest.distance(i, 0), expected, as_double(rows.rows()) * kEpsilon * expected);
  }
}

template <class T>
void check_approximate(Index dim) {
  Random random(3);
  const M rows = random.rows(dim, 9, 3);
  V origin(dim);
  std::copy_n(random.rows(dim, 1).data(), dim, origin.data());
  const std::vector<double> scale = {1, 2, 0.5, 3, 0, 1, 1, 1, 100};
  const std::vector<Index> order = {8, 7, 6, 5, 4, 3, 2, 1, 0};
  Matrix<Cpu, T> columns(dim, 12);
  std::vector<double> squared_norms;
  std::vector<double> errors;
  Rows::approximate(view(rows), order, 0.5, origin, scale, columns, squared_norms, errors);
  for (Index i = 0; i < 9; ++i) {
    long double square = 0;
    long double error = 0;
    for (Index d = 0; d < dim; ++d) {
      const double kept = static_cast<double>(columns.column(i)[d]);
      const double value = scale[static_cast<std::size_t>(i)] * (0.5 * rows.column(8 - i)[d] - origin.data()[d]);
      const double half_a_unit = std::is_integral_v<T> ? 0.5 : std::abs(value) * std::numeric_limits<T>::epsilon() / 2;
      CHECK(std::abs(kept - value) <= half_a_unit);
      square += static_cast<long double>(kept) * kept;
      error += static_cast<long double>(kept - value) * (kept - value);
    }
    // Sums of dim terms.
    const double rounding = as_double(dim) * kEpsilon;
    CHECK_CLOSE(squared_norms[static_cast<std::size_t>(i)], static_cast<double>(square),
                rounding * static_cast<double>(square));
    const double expected = static_cast<double>(std::sqrt(error));
    CHECK_CLOSE(errors[static_cast<std::size_t>(i)], expected, rounding * expected);
  }
}

template <class T, class Product>
void check_cross_products(Index dim, Index m, Index n) {
  Random random(static_cast<std::uint64_t>(dim + m + n));
  Matrix<Cpu, T> a(dim, m + 2);
  Matrix<Cpu, T> b(dim, n + 3);
  for (Matrix<Cpu, T>* const matrix : {&a, &b}) {
    constexpr double kMost = sizeof(T) == 1 ? 127 : 30000;
    for (Index i = 0; i < matrix->size(); ++i) {
      matrix->data()[i] = static_cast<T>(std::clamp(random.normal() * 100, -kMost, kMost));
    }
  }
  Matrix<Cpu, Product> c(m + 1, n + 1);
  const Product mark = 12345;
  std::fill_n(c.data(), c.size(), mark);
  Rows::cross_products(a, m, b, n, c);
  for (Index j = 0; j <= n; ++j) {
    for (Index i = 0; i <= m; ++i) {
      if (i == m || j == n) {
        CHECK(c.column(j)[i] == mark);
        continue;
      }
      double exact = 0;
      double size = 0;
      for (Index d = 0; d < dim; ++d) {
        const double term = static_cast<double>(a.column(i)[d]) * static_cast<double>(b.column(j)[d]);
        exact += term;
        size += std::abs(term);
      }
      // Integer products are rounded once, others at every term.
      const double roundings = std::is_integral_v<T> ? 0.5 : as_double(dim);
      const double rounding = roundings * std::numeric_limits<Product>::epsilon();
      CHECK_CLOSE(static_cast<double>(c.column(j)[i]), exact,
                  rounding * (std::is_integral_v<T> ? std::abs(exact) : size));
    }
  }
}

template <class T>
void check_select(Range rows, Range columns, T sign) {
  Random random(9);
  Matrix<Cpu, T> c(150, 2100);
  for (Index i = 0; i < c.size(); ++i) c.data()[i] = static_cast<T>(random.normal());
  std::vector<T> row_limit;
  std::vector<T> column_limit;
  for (Index i = 0; i < c.rows(); ++i) row_limit.push_back(static_cast<T>(i % 11 == 0 ? kInfinity : 1));
  for (Index j = 0; j < c.cols(); ++j) column_limit.push_back(static_cast<T>(j % 13 == 0 ? -kInfinity : 1));
  std::vector<Element> selected;
  Rows::select(c, rows, columns, sign, row_limit, column_limit, selected);
  std::size_t next = 0;
  for (Index j = columns.first; j < columns.last; ++j) {
    for (Index i = rows.first; i < rows.last; ++i) {
      const T value = sign * c.column(j)[i];
      if (!(value - row_limit[static_cast<std::size_t>(i)] > column_limit[static_cast<std::size_t>(j)])) continue;
      CHECK(next < selected.size() && selected[next].row == i && selected[next].column == j);
      if (next < selected.size()) CHECK(selected[next].value == static_cast<double>(value));
      ++next;
    }
  }
  CHECK(next == selected.size());
}

}  // namespace

TEST(approximate_rounds_to_nearest_and_returns_the_error) {
  for (const Index dim : {1, 16, 37}) {
    check_approximate<std::int16_t>(dim);
    check_approximate<float>(dim);
    check_approximate<double>(dim);
  }
}

TEST(cross_products_equal_plain_loops) {
  for (const Index dim : {1, 2, 33, 300}) {
    for (const Index m : {0, 1, 31, 32, 70}) {
      for (const Index n : {0, 1, 12, 29}) {
        check_cross_products<float, float>(dim, m, n);
        check_cross_products<double, double>(dim, m, n);
        check_cross_products<std::int16_t, float>(dim, m, n);
        check_cross_products<std::int8_t, float>(dim, m, n);
      }
    }
  }
}

TEST(products_of_the_largest_int16_do_not_overflow) {
  // The norm concentrated in one number, and spread over all.
  for (const Index dim : {1, 2, 64, 900}) {
    Matrix<Cpu, std::int16_t> a(dim, 2);
    const auto number = static_cast<std::int16_t>(std::floor(32767 / std::sqrt(as_double(dim))));
    std::fill_n(a.column(0), dim, number);
    std::fill_n(a.column(1), dim, static_cast<std::int16_t>(-number));
    Matrix<Cpu, float> c(2, 2);
    Rows::cross_products(a, 2, a, 2, c);
    const auto square = static_cast<float>(as_double(dim) * number * number);
    CHECK(c.column(0)[0] == square && c.column(1)[1] == square);
    CHECK(c.column(0)[1] == -square && c.column(1)[0] == -square);
  }
}

TEST(products_of_the_largest_int8_are_exact) {
  for (const Index dim : {1, 3, 4, 2050}) {
    Matrix<Cpu, std::int8_t> a(dim, 3);
    const std::int8_t numbers[] = {127, -127, -128};
    for (Index i = 0; i < 3; ++i) std::fill_n(a.column(i), dim, numbers[i]);
    Matrix<Cpu, float> c(3, 3);
    Rows::cross_products(a, 3, a, 3, c);
    for (Index j = 0; j < 3; ++j) {
      for (Index i = 0; i < 3; ++i) {
        CHECK(c.column(j)[i] == static_cast<float>(dim * Index{numbers[i]} * Index{numbers[j]}));
      }
    }
  }
}

TEST(select_equals_a_plain_loop) {
  for (const Range rows : {Range{0, 150}, Range{3, 131}, Range{5, 5}, Range{60, 61}}) {
    for (const Range columns : {Range{0, 2100}, Range{7, 2000}, Range{4, 4}}) {
      check_select<float>(rows, columns, 1);
      check_select<float>(rows, columns, -1);
      check_select<double>(rows, columns, 1);
    }
  }
}

TEST(equal_rows_have_distance_zero_in_any_type_and_stride) {
  Random random(4);
  for (const Index dim : {1, 15, 40}) {
    const M rows = random.rows(dim, 5, 1e6);
    M spread(2 * dim, 5);
    for (Index i = 0; i < 5; ++i) {
      for (Index d = 0; d < dim; ++d) spread.column(i)[2 * d] = rows.column(i)[d];
    }
    const FeatureView<double> strided{spread.data(), 5, dim, 2 * dim, 2};
    V x(dim);
    V y(dim);
    std::copy_n(rows.column(3), dim, x.data());
    std::copy_n(rows.column(0), dim, y.data());
    std::vector<double> one;
    std::vector<double> two;
    std::vector<double> back;
    Rows::squared_distances(x, view(rows), {0, 3, 4, 3}, {1, 1, 1, 1}, one);
    Rows::squared_distances(x, strided, {0, 3, 4, 3}, {1, 1, 1, 1}, two);
    Rows::squared_distances(y, view(rows), {3}, {1}, back);
    CHECK(one == two && one[1] == 0 && one[3] == 0 && one[0] == back[0]);
    CHECK_CLOSE(one[0], squared_distance(rows, 3, rows, 0), as_double(dim) * kEpsilon * one[0]);
    Rows::squared_distances(x, view(rows), {3}, {0.5}, back);
    double quarter = 0;
    for (Index d = 0; d < dim; ++d) quarter += x.data()[d] * x.data()[d] / 4;
    CHECK_CLOSE(back[0], quarter, as_double(dim) * kEpsilon * quarter);
  }
}

TEST(screen_bounds_hold_and_miss_no_near_pair) {
  for (const Index dim : {1, 3, 64, 500}) {
    for (const M& rows : sets_of_rows(dim, 40)) {
      for (const bool beyond : {false, true}) {
        check_screen<std::int16_t>(rows, dim, beyond);
        check_screen<float>(rows, dim, beyond);
      }
    }
  }
}

TEST(nearest_neighbours_are_exact_in_every_precision) {
  for (const M& rows : sets_of_rows(40, 80)) {
    for (const Index k : {1, 4, 79}) {
      for (const bool clustered : {false, true}) {
        check_nearest<std::int16_t>(rows, k, clustered);
        check_nearest<float>(rows, k, clustered);
      }
    }
  }
  Random random(6);
  const M many = random.rows(3, 4200);  // more than a block of rows
  check_nearest<std::int16_t>(many, 2, false);
  check_nearest<float>(many, 2, false);
}

TEST(rows_that_no_screen_decides_are_measured) {
  M rows = M::zeros(600, 600);
  Random random(7);
  for (Index i = 0; i < 600; ++i) rows.column(i)[i] = 1 + 1e-12 * random.normal();
  check_nearest<float>(rows, 1, false);
  // Every row has a neighbour at exactly the radius, which holds only itself.
  const ManifoldMetrics metrics = manifold_metrics<Cpu>(view(rows), view(rows), {{1, true, true}}).front();
  CHECK(metrics.precision == 1 && metrics.recall == 1 && metrics.coverage == 1);
}

TEST(ordered_squares_keep_their_order) {
  // Near both ends of the range, and at the ends of the exponents of squares of float64.
  double before = 0;
  for (const int exponent : {-2200, -2148, -1500, -901, -900, -899, 0, 999, 1000, 1001, 1500, 2060}) {
    for (const double mantissa : {1.0, 1.0 + 0x1p-40, 1.5, 2 - 0x1p-40}) {
      const double square = ordered_square(mantissa, exponent);
      CHECK(square > before);
      if (exponent >= -900 && exponent < 1000) CHECK(square == std::ldexp(mantissa, exponent));
      before = square;
    }
  }
  CHECK(std::isfinite(before) && ordered_square(0, 0) == 0);
}

TEST(squared_distances_of_any_size) {
  const double sizes[] = {5e-324, 1e-310, 1e-200, 1.0, 1e200, 1.7e308};
  double before = 0;
  for (const double size : sizes) {
    M rows = M::zeros(2, 2);
    rows.column(0)[0] = size;
    rows.column(1)[0] = -size;
    V x(2);
    std::copy_n(rows.column(0), 2, x.data());
    int exponent = 0;
    const double value = Rows::scaled_squared_distance(x, view(rows), 1, exponent);
    // (2 size)^2, where size has a logarithm within a few roundings.
    const double logarithm = std::log2(value) + exponent;
    CHECK_CLOSE(logarithm, 2 + 2 * std::log2(size), 1e-12 * std::abs(logarithm) + 1e-12);
    CHECK(logarithm > before || before == 0);
    before = logarithm;
  }
}

TEST(invalid_arguments_are_rejected) {
  Random random(8);
  const M rows = random.rows(3, 6);
  const M others = random.rows(4, 6);
  const std::vector<BallRule> rules = {{6, false, false}};
  CHECK_THROWS(manifold_metrics<Cpu>(view(rows), view(others), rules), InvalidInput, "dim 3, but reference has dim 4");
  CHECK_THROWS(manifold_metrics<Cpu>(view(rows), view(rows), rules), InvalidInput,
               "k=6 needs at least 7 rows; reference has 6");
  M bad = rows;
  bad.column(4)[1] = kNan;
  CHECK_THROWS(mean_nearest_cosine_distance<Cpu>(view(bad), view(rows), true), InvalidInput,
               "samples: features hold NaN or infinity; the first such row is 4");
}
