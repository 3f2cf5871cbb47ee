// RowOps for nearest neighbours. The loops are compiled for several vector widths, selected at run time.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/parallel.hpp"
#include "cpu/device.hpp"
#include "cpu/widen.hpp"
#include "cpu/widest_vectors.hpp"

namespace fidfast {

namespace {

constexpr Index kLanes = 16;  // independent sums, so that vectorization does not change the order of summation

/// Calls work(j, lane) for every j < n, lane = j mod kLanes.
template <class Work>
inline void for_each_lane(Index n, Work work) {
  Index j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    for (Index lane = 0; lane < kLanes; ++lane) work(j + lane, lane);
  }
  for (Index lane = 0; j + lane < n; ++lane) work(j + lane, lane);
}

inline double sum_of_lanes(const double (&lanes)[kLanes]) {
  double half[kLanes / 2];
  for (Index lane = 0; lane < kLanes / 2; ++lane) half[lane] = lanes[lane] + lanes[lane + kLanes / 2];
  return ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]));
}

/// The smaller of float and double that represents every S exactly.
template <class S>
using Wide = decltype(widen(S{}));

/// Rows of features as contiguous floats or doubles. The features may be of any type that W represents exactly, so that
/// loops over rows are compiled for two types instead of four.
template <class W>
class ContiguousRows {
 public:
  const Index n;
  const Index dim;

  template <class S>
  explicit ContiguousRows(const FeatureView<S>& features)
      : n(features.n), dim(features.dim), features_(&features), read_(&read<S>) {}

  /// Row i: in place if it is stored so, else copied to `memory`.
  const W* row(Index i, std::vector<W>& memory) const { return read_(features_, i, memory); }

 private:
  template <class S>
  static const W* read(const void* all, Index i, std::vector<W>& memory) {
    const auto& features = *static_cast<const FeatureView<S>*>(all);
    if constexpr (std::is_same_v<S, W>) {
      if (features.column_stride == 1) return features.row(i);
    }
    memory.resize(static_cast<std::size_t>(features.dim));
    W* const to = memory.data();
    in_widest_vectors([&] { for_each_column(features, i, [to](Index j, const S& value) { to[j] = widen(value); }); });
    return to;
  }

  const void* features_;
  const W* (*read_)(const void*, Index, std::vector<W>&);
};

template <class S>
ContiguousRows(const FeatureView<S>&) -> ContiguousRows<Wide<S>>;

/// Divides a range into pieces of work for threads. Each index stands for `numbers` numbers; a piece takes longer than
/// starting a thread.
std::vector<Range> pieces_of(Range whole, Index numbers) {
  constexpr Index kWorthAThread = Index{1} << 18;
  const Index size = std::max<Index>(1, kWorthAThread / std::max<Index>(1, numbers));
  std::vector<Range> pieces;
  for (Index first = whole.first; first < whole.last; first += size) {
    pieces.push_back({first, std::min(first + size, whole.last)});
  }
  return pieces;
}

/// Rounds to the nearest value of T.
template <class T>
inline T nearest(double value) {
  if constexpr (std::is_integral_v<T>) {
    constexpr double kToIntegers = 0x1.8p52;  // doubles of this size have no fraction
    return static_cast<T>((value + kToIntegers) - kToIntegers);
  } else {
    return static_cast<T>(value);
  }
}

template <class W>
std::vector<double> magnitudes_of(const ContiguousRows<W>& features) {
  std::vector<double> magnitudes(static_cast<std::size_t>(features.n));
  const std::vector<Range> pieces = pieces_of({0, features.n}, features.dim);
  parallel_for(static_cast<Index>(pieces.size()), num_threads(), [&](Index piece) {
    std::vector<W> memory;
    const Range rows = pieces[static_cast<std::size_t>(piece)];
    in_widest_vectors([&] {
      for (Index i = rows.first; i < rows.last; ++i) {
        const W* const row = features.row(i, memory);
        W peaks[kLanes] = {};
        W finite[kLanes] = {};  // 0 times each number: NaN unless all are finite
        for_each_lane(features.dim, [&](Index j, Index lane) {
          peaks[lane] = std::max(peaks[lane], std::abs(row[j]));
          finite[lane] += 0 * row[j];
        });
        double largest = 0;
        for (Index lane = 0; lane < kLanes; ++lane) {
          largest = std::max(largest, static_cast<double>(peaks[lane]));
          if (std::isnan(finite[lane])) largest = std::numeric_limits<double>::quiet_NaN();
          if (std::isnan(largest)) break;
        }
        magnitudes[static_cast<std::size_t>(i)] = largest;
      }
    });
  });
  return magnitudes;
}

template <class W>
std::vector<std::uint64_t> hashes_of(const ContiguousRows<W>& features) {
  std::vector<std::uint64_t> hashes(static_cast<std::size_t>(features.n));
  const std::vector<Range> pieces = pieces_of({0, features.n}, features.dim);
  parallel_for(static_cast<Index>(pieces.size()), num_threads(), [&](Index piece) {
    std::vector<W> memory;
    const Range rows = pieces[static_cast<std::size_t>(piece)];
    for (Index i = rows.first; i < rows.last; ++i) {
      constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15;
      const W* const row = features.row(i, memory);
      std::uint64_t lanes[kLanes] = {};
      for_each_lane(features.dim, [&](Index j, Index lane) {
        const double value = static_cast<double>(row[j]) + 0.0;  // -0 becomes 0
        std::uint64_t bits = 0;
        std::memcpy(&bits, &value, sizeof bits);
        lanes[lane] = (lanes[lane] ^ bits) * kOdd;
        lanes[lane] ^= lanes[lane] >> 29;
      });
      std::uint64_t hash = 0;
      for (const std::uint64_t lane : lanes) {
        hash = (hash ^ lane) * kOdd;
        hash ^= hash >> 32;
      }
      hashes[static_cast<std::size_t>(i)] = hash;
    }
  });
  return hashes;
}

template <class W, class T>
void approximate_rows(const ContiguousRows<W>& features, const std::vector<Index>& rows, double unit,
                      const Vector<Cpu>& origin, const std::vector<double>& scale, Matrix<Cpu, T>& columns,
                      std::vector<double>& squared_norms, std::vector<double>& errors) {
  squared_norms.assign(rows.size(), 0.0);
  errors.assign(rows.size(), 0.0);
  const std::vector<Range> pieces = pieces_of({0, static_cast<Index>(rows.size())}, features.dim);
  parallel_for(static_cast<Index>(pieces.size()), num_threads(), [&](Index piece) {
    std::vector<W> memory;
    const Range some = pieces[static_cast<std::size_t>(piece)];
    in_widest_vectors([&] {
      const double* const from = origin.data();
      for (Index i = some.first; i < some.last; ++i) {
        const W* const row = features.row(rows[static_cast<std::size_t>(i)], memory);
        T* const column = columns.column(i);
        const double factor = scale[static_cast<std::size_t>(i)];
        if (factor == 0) {
          std::fill_n(column, features.dim, T{0});
          continue;
        }
        double squares[kLanes] = {};
        double misses[kLanes] = {};
        for_each_lane(features.dim, [&](Index j, Index lane) {
          const double value = factor * (unit * static_cast<double>(row[j]) - from[j]);
          const T number = nearest<T>(value);
          const double kept = static_cast<double>(number);
          column[j] = number;
          squares[lane] += kept * kept;
          misses[lane] += (kept - value) * (kept - value);
        });
        squared_norms[static_cast<std::size_t>(i)] = sum_of_lanes(squares);
        errors[static_cast<std::size_t>(i)] = std::sqrt(sum_of_lanes(misses));
      }
    });
  });
}

template <class W>
double deviation_of(const ContiguousRows<W>& features, const Vector<Cpu>& origin) {
  const std::vector<Range> pieces = pieces_of({0, features.n}, features.dim);
  std::vector<double> largest(pieces.size(), 0.0);
  parallel_for(static_cast<Index>(pieces.size()), num_threads(), [&](Index piece) {
    std::vector<W> memory;
    const Range rows = pieces[static_cast<std::size_t>(piece)];
    in_widest_vectors([&] {
      const double* const from = origin.data();
      double peaks[kLanes] = {};
      for (Index i = rows.first; i < rows.last; ++i) {
        const W* const row = features.row(i, memory);
        for_each_lane(features.dim, [&](Index j, Index lane) {
          peaks[lane] = std::max(peaks[lane], std::abs(static_cast<double>(row[j]) - from[j]));
        });
      }
      largest[static_cast<std::size_t>(piece)] = *std::max_element(peaks, peaks + kLanes);
    });
  });
  return largest.empty() ? 0.0 : *std::max_element(largest.begin(), largest.end());
}

template <class W>
void distances_of(const Matrix<Cpu>& x, const ContiguousRows<W>& features, const std::vector<Index>& rows,
                  const std::vector<double>& scale, std::vector<double>& distances) {
  distances.resize(rows.size() * static_cast<std::size_t>(x.cols()));
  std::vector<W> memory;
  std::vector<double> scaled(static_cast<std::size_t>(features.dim));
  in_widest_vectors([&] {
    for (std::size_t p = 0; p < rows.size(); ++p) {
      check_interrupt_at(static_cast<Index>(p));
      const W* const row = features.row(rows[p], memory);
      const double factor = scale[p];
      const auto measure = [&](Index c, auto value) {
        const double* const from = x.column(c);
        double squares[kLanes] = {};
        for_each_lane(features.dim, [&](Index j, Index lane) {
          const double difference = from[j] - value(j);
          squares[lane] += difference * difference;
        });
        distances[static_cast<std::size_t>(c) * rows.size() + p] = sum_of_lanes(squares);
      };
      const auto scaled_value = [&](Index j) { return factor * static_cast<double>(row[j]); };
      if (x.cols() == 1) {
        measure(0, scaled_value);
        continue;
      }
      double* const to = scaled.data();
      for (Index j = 0; j < features.dim; ++j) to[j] = scaled_value(j);
      for (Index c = 0; c < x.cols(); ++c) measure(c, [to](Index j) { return to[j]; });
    }
  });
}

template <class W>
double scaled_distance_of(const Vector<Cpu>& x, const ContiguousRows<W>& features, Index row, int& exponent) {
  std::vector<W> memory;
  const W* const other = features.row(row, memory);
  double half = 1;  // 1 / 2 if differences overflow
  const auto difference = [&](Index j) { return half * x.data()[j] - half * static_cast<double>(other[j]); };
  const auto peak = [&] {
    double result = 0;
    for (Index j = 0; j < features.dim; ++j) result = std::max(result, std::abs(difference(j)));
    return result;
  };
  double largest = peak();
  if (std::isinf(largest)) {
    half = 0.5;
    largest = peak();
  }
  exponent = 0;
  if (largest == 0) return 0;
  const int power = std::ilogb(largest);
  // Two factors: 2^-power may exceed the range of float64.
  const double factor = std::ldexp(1.0, -(power / 2));
  const double second = std::ldexp(1.0, power / 2 - power);
  double squares[kLanes] = {};
  for_each_lane(features.dim, [&](Index j, Index lane) {
    const double scaled = difference(j) * factor * second;
    squares[lane] += scaled * scaled;
  });
  exponent = 2 * (power + (half < 1 ? 1 : 0));
  return sum_of_lanes(squares);
}

template <class T>
void select_from(const Matrix<Cpu, T>& c, Range rows, Range columns, T sign, const T* row_limit, const T* column_limit,
                 std::vector<Element>& selected) {
  constexpr Index kAtOnce = 64;
  for (Index j = columns.first; j < columns.last; ++j) {
    const T* const column = c.column(j);
    const T limit = column_limit[j];
    for (Index first = rows.first; first < rows.last; first += kAtOnce) {
      const Index last = std::min(first + kAtOnce, rows.last);
      // Most stretches have no selected element; test for that without branches.
      int any = 0;
      if (last - first == kAtOnce) {
        for (Index i = first; i < first + kAtOnce; ++i) any |= sign * column[i] - row_limit[i] > limit ? 1 : 0;
      } else {
        any = 1;
      }
      if (any == 0) continue;
      for (Index i = first; i < last; ++i) {
        const T value = sign * column[i];
        if (value - row_limit[i] > limit) selected.push_back({i, j, static_cast<double>(value)});
      }
    }
  }
}

}  // namespace

template <>
template <class S>
std::vector<double> RowOps<Cpu>::row_magnitudes(const FeatureView<S>& features) {
  return magnitudes_of(ContiguousRows(features));
}

template <>
template <class S>
std::vector<std::uint64_t> RowOps<Cpu>::row_hashes(const FeatureView<S>& features, Index columns) {
  const FeatureView<S> first{features.data, features.n, columns, features.row_stride, features.column_stride};
  return hashes_of(ContiguousRows(first));
}

template <>
template <class S>
bool RowOps<Cpu>::equal_rows(const FeatureView<S>& features, Index one, Index other) {
  const ContiguousRows rows(features);
  std::vector<Wide<S>> memory[2];
  const auto* const a = rows.row(one, memory[0]);
  return std::equal(a, a + features.dim, rows.row(other, memory[1]));
}

template <>
template <class S, class T>
void RowOps<Cpu>::approximate(const FeatureView<S>& features, const std::vector<Index>& rows, double unit,
                              const Vector<Cpu>& origin, const std::vector<double>& scale, Matrix<Cpu, T>& columns,
                              std::vector<double>& squared_norms, std::vector<double>& errors) {
  approximate_rows(ContiguousRows(features), rows, unit, origin, scale, columns, squared_norms, errors);
}

template <>
template <class S>
double RowOps<Cpu>::largest_deviation(const FeatureView<S>& features, const Vector<Cpu>& origin) {
  return deviation_of(ContiguousRows(features), origin);
}

template <>
template <class S>
void RowOps<Cpu>::squared_distances(const Matrix<Cpu>& x, const FeatureView<S>& features,
                                    const std::vector<Index>& rows, const std::vector<double>& scale,
                                    std::vector<double>& distances) {
  distances_of(x, ContiguousRows(features), rows, scale, distances);
}

template <>
template <class S>
double RowOps<Cpu>::scaled_squared_distance(const Vector<Cpu>& x, const FeatureView<S>& features, Index row,
                                            int& exponent) {
  return scaled_distance_of(x, ContiguousRows(features), row, exponent);
}

template <>
template <class T>
void RowOps<Cpu>::select(const Matrix<Cpu, T>& c, Range rows, Range columns, T sign, const std::vector<T>& row_limit,
                         const std::vector<T>& column_limit, std::vector<Element>& selected) {
  const std::vector<Range> pieces = pieces_of(columns, length(rows));
  std::vector<std::vector<Element>> of_piece(pieces.size());
  parallel_for(static_cast<Index>(pieces.size()), num_threads(), [&](Index piece) {
    const auto p = static_cast<std::size_t>(piece);
    in_widest_vectors(
        [&] { select_from(c, rows, pieces[p], sign, row_limit.data(), column_limit.data(), of_piece[p]); });
  });
  for (const std::vector<Element>& some : of_piece) selected.insert(selected.end(), some.begin(), some.end());
}

#define FIDFAST_TARGET(S, T)                                                                                           \
  template void RowOps<Cpu>::approximate(const FeatureView<S>&, const std::vector<Index>&, double, const Vector<Cpu>&, \
                                         const std::vector<double>&, Matrix<Cpu, T>&, std::vector<double>&,            \
                                         std::vector<double>&);
#define FIDFAST_SOURCE(S)                                                                                            \
  FIDFAST_TARGET(S, std::int8_t)                                                                                     \
  FIDFAST_TARGET(S, std::int16_t)                                                                                    \
  FIDFAST_TARGET(S, float)                                                                                           \
  FIDFAST_TARGET(S, double)                                                                                          \
  template std::vector<double> RowOps<Cpu>::row_magnitudes(const FeatureView<S>&);                                   \
  template std::vector<std::uint64_t> RowOps<Cpu>::row_hashes(const FeatureView<S>&, Index);                         \
  template bool RowOps<Cpu>::equal_rows(const FeatureView<S>&, Index, Index);                                        \
  template double RowOps<Cpu>::largest_deviation(const FeatureView<S>&, const Vector<Cpu>&);                         \
  template void RowOps<Cpu>::squared_distances(const Matrix<Cpu>&, const FeatureView<S>&, const std::vector<Index>&, \
                                               const std::vector<double>&, std::vector<double>&);                    \
  template double RowOps<Cpu>::scaled_squared_distance(const Vector<Cpu>&, const FeatureView<S>&, Index, int&);
FIDFAST_SOURCE(Float16)
FIDFAST_SOURCE(BFloat16)
FIDFAST_SOURCE(float)
FIDFAST_SOURCE(double)

template void RowOps<Cpu>::select(const Matrix<Cpu, float>&, Range, Range, float, const std::vector<float>&,
                                  const std::vector<float>&, std::vector<Element>&);
template void RowOps<Cpu>::select(const Matrix<Cpu>&, Range, Range, double, const std::vector<double>&,
                                  const std::vector<double>&, std::vector<Element>&);

}  // namespace fidfast
