// Scratch memory for folding a block of rows, reused from block to block and never copied.
#pragma once

#include <type_traits>

#include "core/backend.hpp"
#include "core/matrix.hpp"
#include "core/moments/state.hpp"

namespace fidfast {

/// Rows in a block: enough for the products to dominate the passes over the scatter, few enough for float32 sums.
constexpr Index kMomentsBlock = 1024;

template <class Device>
struct MomentsWorkspace {
  /// Memory for products in T.
  template <class T>
  struct OfBlock {
    Matrix<Device, T> centred;    // (dim, kMomentsBlock)
    Vector<Device, T> origin;     // (dim,)
    Vector<Device, T> unit_info;  // (dim,)
    Matrix<Device, T> product;    // (dim, dim), empty if products are added to the scatter directly (as for double)
  };

  OfBlock<float> float32;
  OfBlock<double> float64;
  Mean<Device> block_mean;       // (dim,)
  Vector<Device> remainder;      // (dim,)
  Vector<Device> d;              // (dim,)
  Vector<Device> squares;        // (dim,), for products in float
  Mean<Device> spare_mean;       // (dim,), for asynchronous devices
  Matrix<Device> spare_scatter;  // (dim, dim), likewise
  Vector<Device> spare_errors;   // (dim,) if products may be float, likewise

  template <class T>
  OfBlock<T>& in() {
    if constexpr (std::is_same_v<T, float>) return float32;
    if constexpr (std::is_same_v<T, double>) return float64;
  }

  /// Allocates what is still missing for a fold: mean and scatter of the state, and this scratch memory. `floats`:
  /// products may be float32.
  void make_foldable(MomentsState<Device>& state, bool floats) {
    const Index dim = state.dim;
    if (state.scatter.empty()) {
      state.mean = Mean<Device>::zeros(dim);
      state.scatter = Matrix<Device>::zeros(dim, dim);  // last: its presence means that both exist
    }
    if (d.empty()) {
      block_mean = Mean<Device>::zeros(dim);
      remainder = Vector<Device>(dim);
      d = Vector<Device>(dim);
    }
    if (floats && state.errors.empty()) state.errors = Vector<Device>::zeros(dim);
    if (floats && float32.centred.empty()) {
      squares = Vector<Device>(dim);
      float32.origin = Vector<Device, float>(dim);
      float32.unit_info = Vector<Device, float>(dim);
      if (Device::kFloatProducts) float32.product = Matrix<Device, float>(dim, dim);
      float32.centred = Matrix<Device, float>(dim, kMomentsBlock);
    }
    if (float64.centred.empty()) {
      float64.origin = Vector<Device>(dim);
      float64.unit_info = Vector<Device>(dim);
      float64.centred = Matrix<Device>(dim, kMomentsBlock);
    }
  }

  void make_spare(Index dim, bool floats) {
    spare_mean = Mean<Device>::zeros(dim);
    spare_scatter = Matrix<Device>(dim, dim);
    if (floats) spare_errors = Vector<Device>(dim);
  }
};

}  // namespace fidfast
