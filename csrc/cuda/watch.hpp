// Keeps NaN and infinity out of moments without waiting for the device: a batch is inspected in the order of the
// stream, and where it holds any, it and all that follows are void until the host has looked.
#pragma once

#include <memory>

#include "core/matrix.hpp"
#include "core/moments/state.hpp"

namespace fidfast {

struct Cuda;

namespace cuda {

/// What the device has found, in memory that both sides see.
struct Finding {
  int found = 0;
  Index row = 0;     // of its batch, the first that is not finite
  Index batch = 0;   // as counted by the watch
  RowCounts before;  // the moments' counts before that batch
};

class Watch {
 public:
  Watch();
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  /// While it lives, this thread's kernels on rows and moments do nothing where a batch was found not to be finite.
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
  /// One for each of the blocks that look for rows that are not finite.
  static constexpr Index kParts = 256;

  void raise(MomentsState<Cuda>& state);

  struct FreeHost {
    void operator()(Finding* finding) const;
  };

  Matrix<Cuda, int> flag_;                      // (1, 1), not 0 once something was found
  Matrix<Cuda, Index> first_rows_;              // (kParts, 1)
  std::unique_ptr<Finding, FreeHost> finding_;  // on the host, and seen by the device
  Index batches_ = 0;
  bool open_ = false;  // whether batches were inspected since it last settled
};

}  // namespace cuda
}  // namespace fidfast
