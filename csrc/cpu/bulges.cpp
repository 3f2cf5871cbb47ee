// Second stage of tridiagonalization: reduces a band matrix to a tridiagonal one by bulge chasing.
#include "cpu/wide_blocks.hpp"

#ifdef FIDFAST_WIDE

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "core/parallel.hpp"
#include "cpu/band.hpp"

namespace fidfast {

namespace {

FIDFAST_WIDE_BEGIN

constexpr Index kStride = kBandHeight - 1;  // between the columns of a block of the matrix

/// I - tau v v^T, v[0] = 1.
struct Reflector {
  Block v;
  double values[kBand];  // v as an array
  double tau = 0;
};

/// The reflector that maps x (kBand) to (beta, 0, ..., 0), which replaces x.
inline Reflector reflect(double* x) {
  Reflector result;
  const double alpha = x[0];
  x[0] = 0;
  const Block tail = Block::load(x);
  const double squares = tail.dot(tail);
  const double beta = -std::copysign(std::sqrt(alpha * alpha + squares), alpha);
  const double scale = squares == 0 ? 0 : 1.0 / (alpha - beta);
  result.tau = squares == 0 ? 0 : (beta - alpha) / beta;
  result.v = tail.times(scale);
  result.v.a[0] = 1.0;
  result.v.store(result.values);
  Block::zero().store(x);
  x[0] = squares == 0 ? alpha : beta;
  return result;
}

/// rows[c] masks the lower triangle in column c: 1 from row c on, 0 before.
struct LowerTriangle {
  double rows[kBand][kBand];
};
constexpr LowerTriangle lower_triangle() {
  LowerTriangle result{};
  for (Index c = 0; c < kBand; ++c) {
    for (Index r = 0; r < kBand; ++r) result.rows[c][r] = r < c ? 0.0 : 1.0;
  }
  return result;
}
constexpr LowerTriangle kLower = lower_triangle();

/// d <- H d H for the lower triangle of a diagonal block; columns are `stride` apart. The memory of the upper triangle
/// belongs to other columns of the band, so it is masked in loads and stored unchanged.
inline void reflect_both_sides(double* d, Index stride, const Reflector& h) {
  Block w = Block::zero();
  double of_rows[kBand];
  for (Index c = 0; c < kBand; ++c) {
    const Block column = Block::load(d + c * stride).times(Block::load(kLower.rows[c]));
    of_rows[c] = column.dot(h.v) - d[c + c * stride] * h.values[c];
    w.add(h.values[c], column);
  }
  w.add(1.0, Block::load(of_rows));
  // H d H = d - v w^T - w v^T with this w.
  w.add(-0.5 * h.tau * w.dot(h.v), h.v);
  w = w.times(h.tau);
  double ws[kBand];
  w.store(ws);
  for (Index c = 0; c < kBand; ++c) {
    Block change = h.v.times(ws[c]);
    change.add(h.values[c], w);
    Block column = Block::load(d + c * stride);
    column.add(-1.0, change.times(Block::load(kLower.rows[c])));
    column.store(d + c * stride);
  }
}

/// b <- G b H for the block below the diagonal, where G is the reflector that clears its first column. Returns G.
inline Reflector chase(double* b, Index stride, const Reflector& h) {
  Block even = Block::zero();
  Block odd = Block::zero();
  for (Index c = 0; c < kBand; c += 2) {
    even.add(h.values[c], Block::load(b + c * stride));
    odd.add(h.values[c + 1], Block::load(b + (c + 1) * stride));
  }
  Block w = even;
  w.add(1.0, odd);
  w = w.times(h.tau);
  Block first = Block::load(b);
  first.add(-1.0, w);
  first.store(b);
  const Reflector g = reflect(b);
  for (Index c = 1; c < kBand; ++c) {
    Block column = Block::load(b + c * stride);
    column.add(-h.values[c], w);
    column.add(-g.tau * column.dot(g.v), g.v);
    column.store(b + c * stride);
  }
  return g;
}

/// One sweep: clears column j below its second element and chases the resulting bulge along the band, one block a step.
class Sweep {
 public:
  Sweep() = default;
  Sweep(double* band, Index n, Index j) : band_(band), n_(n), row_(j + 1), h_(reflect(band + 1 + j * kBandHeight)) {}

  /// Whether there is still a bulge to chase.
  bool goes_on() const { return row_ < n_ && h_.tau != 0; }

  /// Accesses only the columns [row, row + kBand) of the band.
  void step() {
    double* const block = band_ + row_ * kBandHeight;
    reflect_both_sides(block, kStride, h_);
    h_ = chase(block + kBand, kStride, h_);
    row_ += kBand;
  }

 private:
  double* band_ = nullptr;
  Index n_ = 0;
  Index row_ = 0;
  Reflector h_;
};

FIDFAST_WIDE_END

/// Sweeps that one thread interleaves, each one step behind the one before, so that it finds its columns in the cache.
constexpr Index kGroup = 8;
constexpr Index kAllSteps = std::numeric_limits<Index>::max();

}  // namespace

// Step s of sweep j accesses the columns [c, c + kBand) with c = j + 1 + s kBand. In sweep j - 1 these columns belong
// to the steps s and s + 1, which begin at c - 1 and c - 1 + kBand; the initial reflect() accesses column j, which
// belongs to step 0. So step s may run once step s + 1 of sweep j - 1 is done. That step has waited for sweep j - 2 in
// the same way, and so on. The results are bit for bit those of sequential sweeps.
void chase_bulges(Matrix<Cpu>& band, Index threads) {
  const Index n = band.cols() - 2 * kBand;
  const Index sweeps = std::max<Index>(0, n - 2);
  const Index groups = (sweeps + kGroup - 1) / kGroup;
  // Number of steps that the last sweep of each group, and so all sweeps before it, have done.
  std::vector<std::atomic<Index>> done(static_cast<std::size_t>(groups));
  StopOnFailure stop;
  parallel_for(groups, threads, [&](Index group) {
    stop.guard([&] {
      const Index first = group * kGroup;
      const Index size = std::min(kGroup, sweeps - first);
      const auto wait_for_step = [&](Index step) {
        if (group == 0) return;
        const std::atomic<Index>& before = done[static_cast<std::size_t>(group - 1)];
        stop.wait_until([&] { return before.load(std::memory_order_acquire) > step; });
      };
      std::atomic<Index>& mine = done[static_cast<std::size_t>(group)];
      Sweep running[kGroup];
      bool any = true;
      for (Index time = 0; any; ++time) {  // sweep k of the group does step time - k
        wait_for_step(time + 1);
        any = time + 1 < size;
        for (Index k = 0; k < std::min(size, time + 1); ++k) {
          if (k == time) running[k] = Sweep(band.data(), n, first + k);
          if (!running[k].goes_on()) continue;
          running[k].step();
          any = true;
        }
        if (time + 1 >= size) mine.store(time - size + 2, std::memory_order_release);
      }
      mine.store(kAllSteps, std::memory_order_release);
    });
  });
}

}  // namespace fidfast

#endif
