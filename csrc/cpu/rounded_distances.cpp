// RowOps for distances in float16 and float32. Compiled without fused multiply-add, since each operation rounds.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <vector>

#include "core/float16.hpp"
#include "core/parallel.hpp"
#include "cpu/device.hpp"
#include "cpu/widen.hpp"
#include "cpu/widest_vectors.hpp"

namespace fidfast {

namespace {

/// Calls work(first, last) for ranges of [0, n) in threads, where each index stands for `numbers` numbers.
template <class Work>
void in_pieces(Index n, Index numbers, const Work& work) {
  constexpr Index kWorthAThread = Index{1} << 18;
  const Index size = std::max<Index>(1, kWorthAThread / std::max<Index>(1, numbers));
  parallel_for((n + size - 1) / size, num_threads(), [&](Index piece) {
    const Index first = piece * size;
    in_widest_vectors([&] { work(first, std::min(first + size, n)); });
  });
}

/// Rounds a row in place, and returns the rounded sum of its rounded squares. Squares of float16 numbers are at most
/// 2^32, and multiples of 2^-24 once rounded: the sum is exact in float64.
template <bool Half>
float round_row(float* row, Index dim) {
  const auto rounded = [](float value) { return Half ? to_float16(value) : value; };
  constexpr Index kLanes = 16;
  double lanes[kLanes] = {};
  Index j = 0;
  for (; j + kLanes <= dim; j += kLanes) {
    for (Index lane = 0; lane < kLanes; ++lane) {
      const float value = rounded(row[j + lane]);
      row[j + lane] = value;
      lanes[lane] += static_cast<double>(rounded(value * value));
    }
  }
  for (; j < dim; ++j) {
    row[j] = rounded(row[j]);
    lanes[0] += static_cast<double>(rounded(row[j] * row[j]));
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return rounded(static_cast<float>(sum));
}

template <Rounding R>
inline float distance(float product, float first, float second) {
  float sum = 0;
  if constexpr (R == Rounding::kFloat16AfterSumming) {
    sum = to_float16((first + second) - 2 * product);
  } else if constexpr (R == Rounding::kFloat16) {
    sum = to_float16(to_float16(first - to_float16(2 * to_float16(product))) + second);
  } else {
    sum = (first - 2 * product) + second;
  }
  return sum < 0 ? 0.0F : sum;  // NaN stays
}

/// Returns whether all are finite.
template <Rounding R>
bool fill(const Matrix<Cpu, float>& products, const std::vector<float>& row_norms,
          const std::vector<float>& column_norms, bool column_first, Matrix<Cpu, float>& distances) {
  const auto m = static_cast<Index>(row_norms.size());
  const auto n = static_cast<Index>(column_norms.size());
  std::vector<char> finite(static_cast<std::size_t>(n), '\0');
  in_pieces(n, m, [&](Index begin, Index end) {
    const float* const row_norm = row_norms.data();
    for (Index j = begin; j < end; ++j) {
      const float* const from = products.column(j);
      float* const to = distances.column(j);
      const float norm = column_norms[static_cast<std::size_t>(j)];
      std::int32_t infinite = 0;
      if (column_first) {
        for (Index i = 0; i < m; ++i) to[i] = distance<R>(from[i], norm, row_norm[i]);
      } else {
        for (Index i = 0; i < m; ++i) to[i] = distance<R>(from[i], row_norm[i], norm);
      }
      for (Index i = 0; i < m; ++i) infinite |= std::isfinite(to[i]) ? 0 : 1;
      finite[static_cast<std::size_t>(j)] = infinite == 0 ? '\1' : '\0';
    }
  });
  return std::all_of(finite.begin(), finite.end(), [](char all) { return all != '\0'; });
}

}  // namespace

template <>
template <class S>
void RowOps<Cpu>::round_rows(const FeatureView<S>& features, Range rows, bool half, Matrix<Cpu, float>& columns,
                             std::vector<float>& squared_norms) {
  squared_norms.assign(static_cast<std::size_t>(rows.last - rows.first), 0.0F);
  in_pieces(rows.last - rows.first, features.dim, [&](Index begin, Index end) {
    for (Index p = begin; p < end; ++p) {
      float* const column = columns.column(p);
      for_each_column(features, rows.first + p,
                      [&](Index j, const S& value) { column[j] = static_cast<float>(widen(value)); });
      squared_norms[static_cast<std::size_t>(p)] =
          half ? round_row<true>(column, features.dim) : round_row<false>(column, features.dim);
    }
  });
}

template <>
bool RowOps<Cpu>::rounded_distances(Rounding rounding, const Matrix<Cpu, float>& products,
                                    const std::vector<float>& row_norms, const std::vector<float>& column_norms,
                                    bool column_first, Matrix<Cpu, float>& distances) {
  const auto with = [&](auto fill_with) {
    return fill_with(products, row_norms, column_norms, column_first, distances);
  };
  if (rounding == Rounding::kFloat16) return with(fill<Rounding::kFloat16>);
  if (rounding == Rounding::kFloat16AfterSumming) return with(fill<Rounding::kFloat16AfterSumming>);
  return with(fill<Rounding::kFloat32>);
}

template <>
void RowOps<Cpu>::mark_within(const Matrix<Cpu, float>& distances, const std::vector<float>& row_limits,
                              const std::vector<float>& column_limits, std::vector<char>& rows_within,
                              std::vector<char>& columns_within) {
  const auto m = static_cast<Index>(row_limits.size());
  const auto n = static_cast<Index>(column_limits.size());
  std::mutex mutex;
  in_pieces(n, m, [&](Index begin, Index end) {
    std::vector<std::int32_t> within(static_cast<std::size_t>(m), 0);
    std::int32_t* const rows = within.data();
    const float* const row_limit = row_limits.data();
    for (Index j = begin; j < end; ++j) {
      const float* const column = distances.column(j);
      const float limit = column_limits[static_cast<std::size_t>(j)];
      std::int32_t any = 0;
      for (Index i = 0; i < m; ++i) {
        rows[i] |= column[i] <= limit ? 1 : 0;
        any |= column[i] <= row_limit[i] ? 1 : 0;
      }
      if (any != 0) columns_within[static_cast<std::size_t>(j)] = '\1';
    }
    const std::lock_guard<std::mutex> lock(mutex);
    for (std::size_t i = 0; i < within.size(); ++i) {
      if (rows[i] != 0) rows_within[i] = '\1';
    }
  });
}

#define FIDFAST_SOURCE(S) \
  template void RowOps<Cpu>::round_rows(const FeatureView<S>&, Range, bool, Matrix<Cpu, float>&, std::vector<float>&);
FIDFAST_SOURCE(Float16)
FIDFAST_SOURCE(BFloat16)
FIDFAST_SOURCE(float)
FIDFAST_SOURCE(double)

}  // namespace fidfast
