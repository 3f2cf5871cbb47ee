// Folding a block of rows into mean and scatter.
#pragma once

#include <type_traits>
#include <utility>

#include "core/backend.hpp"
#include "core/matrix.hpp"
#include "core/moments/float_products.hpp"
#include "core/moments/state.hpp"
#include "core/moments/workspace.hpp"

namespace fidfast {

/// Whether products of a block of narrow rows may be float32.
template <class Device>
bool narrow_is_float(const MomentsState<Device>& state, bool all_16_bit) {
  return products_in_float(state.precision, state.dim) && Device::multiplies_in_float(all_16_bit);
}

/// Folds a block with products in T. Returns false, with nothing changed, if T is float and not accurate enough: the
/// squares leave its range, or see float_products.hpp.
template <class T, class Device, class S>
bool fold_block_in(MomentsState<Device>& state, MomentsWorkspace<Device>& work, const FeatureView<S>& block) {
  auto& mine = work.template in<T>();
  const bool first = state.count == 0;
  const bool fits = RowOps<Device>::prepare_block(block, first ? nullptr : &state.mean, work.block_mean, mine.origin,
                                                  work.remainder, mine.unit_info, mine.centred, work.squares);
  Index far = 0;
  Similarity similarity;
  if constexpr (std::is_same_v<T, float>) {
    if (!fits) return false;
    far = RowOps<Device>::separate_far_rows(block, mine.origin, mine.unit_info, mine.centred, work.squares,
                                            work.float64.centred);
    similarity =
        RowOps<Device>::similarity(mine.centred, block.n, work.squares, work.remainder, work.float64.centred, far);
    if (!Device::kAsynchronous &&
        (far * kMostFar > block.n || similarity.correlation > kCorrelated || similarity.few_valued > kFewValued)) {
      return false;
    }
  }
  if (first) std::swap(state.mean, work.block_mean);
  MatrixOps<Device>::difference(first ? state.mean : work.block_mean, state.mean, work.d);
  const double n = static_cast<double>(block.n);
  const double share = n / (static_cast<double>(state.count) + n);
  const double weight = static_cast<double>(state.count) * share;
  if constexpr (std::is_same_v<T, float>) {
    RowOps<Device>::add_scatter_with_squares(mine.centred, mine.unit_info, block.n, work.squares, work.float64.centred,
                                             far, work.remainder, weight, work.d, state.scatter, mine.product);
    MatrixOps<Device>::add_in_quadrature(state.errors, product_error(block.n, similarity.cosine), work.squares);
  } else {
    RowOps<Device>::add_scatter(mine.centred, mine.unit_info, block.n, work.remainder, weight, work.d, state.scatter,
                                mine.product);
  }
  MatrixOps<Device>::advance(state.mean, share, work.d);
  state.count += block.n;
  return true;
}

/// Folds a block. all_16_bit: all rows are float16 or bfloat16.
template <class Device, class S>
void fold_block(MomentsState<Device>& state, MomentsWorkspace<Device>& work, const FeatureView<S>& block,
                bool all_16_bit) {
  if constexpr (!std::is_same_v<S, double>) {
    if (narrow_is_float(state, all_16_bit) && fold_block_in<float>(state, work, block)) return;
  }
  fold_block_in<double>(state, work, block);
}

}  // namespace fidfast
