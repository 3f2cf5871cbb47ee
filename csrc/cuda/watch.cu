#include <cmath>
#include <string>

#include "core/errors.hpp"
#include "core/gather.hpp"
#include "cuda/kernels.cuh"
#include "cuda/watch.hpp"

namespace fidfast::cuda {

Watch::Watched::Watched(const int* flag) { skip_flag = flag; }
Watch::Watched::~Watched() { skip_flag = nullptr; }

Watch::Watch() : flag_(Matrix<Cuda, int>::zeros(1, 1)), first_rows_(kParts, 1) {
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, sizeof(Finding), cudaHostAllocMapped | cudaHostAllocPortable), "cudaHostAlloc");
  finding_.reset(new (memory) Finding);
}

Watch::~Watch() = default;

void Watch::FreeHost::operator()(Finding* finding) const { (void)cudaFreeHost(finding); }

template <class S>
Watch::Watched Watch::inspect(const FeatureView<S>& features, MomentsState<Cuda>& state) {
  // Check without waiting: the device may have found something in an earlier batch.
  if (*static_cast<volatile int*>(&finding_->found) != 0) settle(state);
  if (features.n > 0) {
    open_ = true;
    ++batches_;
    const Index n = features.n;
    const Index parts = std::min(n, kParts);
    Index* const first_rows = first_rows_.data();
    // Part k checks the rows k, k + parts, ...
    for_each_item(
        parts, features.dim, n,
        [=] __device__(Index k, Index j) {
          for (Index i = k; i < n; i += parts) {
            if (!(fabs(static_cast<double>(at(features, i, j))) <= kLargestFeature)) return i;
          }
          return n;
        },
        Smallest(), [=] __device__(Index k, Index row) { first_rows[k] = row; });
    int* const flag = flag_.data();
    Finding* const finding = finding_.get();
    const Index batch = batches_;
    const RowCounts before = state.counts();
    for_each_item(
        1, parts, n, [=] __device__(Index, Index k) { return first_rows[k]; }, Smallest(),
        [=] __device__(Index, Index row) {
          if (row == n || *flag != 0) return;
          *flag = 1;
          double largest = 0;
          for (Index j = 0; j < features.dim; ++j) {
            const double value = at(features, row, j);
            largest = isfinite(value) ? fmax(largest, fabs(value)) : INFINITY;
          }
          finding->row = row;
          finding->largest = largest;
          finding->batch = batch;
          finding->before = before;
          finding->found = 1;
        });
  }
  return Watched(flag_.data());
}

void Watch::settle(MomentsState<Cuda>& state) {
  if (!open_) return;
  current().synchronize();
  if (finding_->found != 0) raise(state);
  open_ = false;
}

void Watch::forget(MomentsState<Cuda>& state) {
  if (!open_) return;
  current().synchronize();
  if (finding_->found != 0) state.set_counts(finding_->before);
  Cuda::clear(flag_.data(), sizeof(int));
  *finding_ = Finding();
  open_ = false;
}

void Watch::raise(MomentsState<Cuda>& state) {
  const Finding found = *finding_;
  const Index later = batches_ - found.batch;
  forget(state);
  std::string message = std::isfinite(found.largest)
                            ? overflow_text(found.largest, found.row)
                            : "features hold NaN or infinity; the first such row is " + std::to_string(found.row);
  if (later > 0) {
    message += " of an earlier batch; that batch and all later ones (" + std::to_string(later) + ") were left out";
  }
  throw InvalidInput(message);
}

template Watch::Watched Watch::inspect(const FeatureView<Float16>&, MomentsState<Cuda>&);
template Watch::Watched Watch::inspect(const FeatureView<BFloat16>&, MomentsState<Cuda>&);
template Watch::Watched Watch::inspect(const FeatureView<float>&, MomentsState<Cuda>&);
template Watch::Watched Watch::inspect(const FeatureView<double>&, MomentsState<Cuda>&);

}  // namespace fidfast::cuda
