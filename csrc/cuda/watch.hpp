// Keeps NaN and infinity out of moments without waiting for the device. Batches are checked in stream order; if one
// holds NaN or infinity, it and all later ones have no effect until the host has reported it.
#pragma once

#include <memory>

#include "core/matrix.hpp"
#include "core/moments/state.hpp"

namespace fidfast {

struct Cuda;

namespace cuda {

/// What the device has found, in memory that host and device share.
struct Finding {
  int found = 0;
  Index row = 0;       // first row of the batch that is not finite, or too large
  double largest = 0;  // its largest magnitude, infinite if it is not finite
  Index batch = 0;     // number of the batch
  RowCounts before;    // counts of the moments before that batch
};

class Watch {
 public:
  Watch();
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  /// While it exists, this thread's kernels do nothing if a batch was found not to be finite.
  class Watched {
   public:
    explicit Watched(const int* flag);
    ~Watched();
    Watched(const Watched&) = delete;
    Watched& operator=(const Watched&) = delete;
  };

  template <class S>
  Watched inspect(const FeatureView<S>& features, MomentsState<Cuda>& state);
  void settle(MomentsState<Cuda>& state);
  void forget(MomentsState<Cuda>& state);

 private:
  /// Number of thread blocks that check rows.
  static constexpr Index kParts = 256;

  void raise(MomentsState<Cuda>& state);

  struct FreeHost {
    void operator()(Finding* finding) const;
  };

  Matrix<Cuda, int> flag_;                      // (1, 1), nonzero once something was found
  Matrix<Cuda, Index> first_rows_;              // (kParts, 1)
  std::unique_ptr<Finding, FreeHost> finding_;  // mapped host memory
  Index batches_ = 0;
  bool open_ = false;  // whether batches were inspected since the last settle()
};

}  // namespace cuda
}  // namespace fidfast
