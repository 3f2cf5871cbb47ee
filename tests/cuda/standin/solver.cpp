// libcusolver: the 64-bit dense routines that fidfast calls, for float64.
#include <cuda_runtime_api.h>
#include <library_types.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "decompositions.hpp"
#include "dense.hpp"
#include "library.hpp"
#include "solver_outcome.hpp"

using namespace standin;

namespace {

constexpr int kVersion = 12004;
constexpr int kLower = 0, kUpper = 1;
constexpr int kNoVectors = 0, kVectors = 1;
// Patterns in a workspace before and after a routine, unlike any result.
constexpr int kBefore = 0xa5, kAfter = 0x5a;

LibraryHandles& handles() {
  static auto* all = new LibraryHandles(Library::kSolver,
                                        "cusolver handle");  // never destroyed: destructors may still use handles
  return *all;
}

struct Params {};
Handles<Params>& params() {
  static auto* all = new Handles<Params>("cusolver params");  // never destroyed: destructors may still use handles
  return *all;
}

Part part_of(int uplo) {
  if (uplo != kLower && uplo != kUpper) throw Misuse(text("uplo is ", uplo));
  return uplo == kLower ? Part::kLower : Part::kUpper;
}

void check_float64(std::initializer_list<cudaDataType> types) {
  for (const cudaDataType type : types)
    if (type != CUDA_R_64F) throw Misuse(text("the stand-in knows float64 alone, not type ", static_cast<int>(type)));
}

void check_leading(std::int64_t rows, std::int64_t leading, const char* name) {
  if (rows < 0 || leading < std::max<std::int64_t>(1, rows))
    throw Misuse(text(name, " has ", rows, " rows and the leading dimension ", leading));
}

struct Sizes {
  std::size_t device, host;  // bytes
};
// A different odd number for each routine, so that no other size is correct by chance.
Sizes workspace_of(std::int64_t rows, std::int64_t columns, std::size_t routine) {
  const auto entries = static_cast<std::size_t>(rows + 3 * columns);
  return {64 * entries + 129 * routine, 8 * entries + 17 * routine};
}
Sizes potrf_workspace(std::int64_t n) { return workspace_of(n, n, 1); }
Sizes syevd_workspace(std::int64_t n, int job) { return workspace_of(n, n, job == kVectors ? 3 : 2); }
Sizes gesvd_workspace(std::int64_t m, std::int64_t n) { return workspace_of(m, n, 5); }

int answer_sizes(const char* name, void* handle, void* parameters, std::size_t* device, std::size_t* host,
                 const std::function<Sizes()>& sizes) {
  return handles().call(name, handle, [&](const LibraryHandle&) {
    params().get(parameters);
    const Sizes answer = sizes();
    *device = answer.device;
    *host = answer.host;
    return 0;
  });
}

struct Workspace {
  void* device;
  std::size_t device_bytes;
  void* host;
  std::size_t host_bytes;
};

using Matrix = DeviceMatrix<double>;

// A call of a routine. Operands, workspace and info must not overlap.
class Routine {
 public:
  Routine(const char* name, const LibraryHandle& handle, const Workspace& given, Sizes needed, int* info,
          const std::vector<Matrix>& operands)
      : name_(name), queue_(handle.queue()) {
    if (given.device_bytes < needed.device || given.host_bytes < needed.host)
      throw Misuse(text("a workspace of ", given.device_bytes, " bytes on the device and ", given.host_bytes,
                        " on the host where ", needed.device, " and ", needed.host, " are needed"));
    workspace_ = region(given.device, given.device_bytes, handle.device, "the workspace");
    info_ = region(info, sizeof(int), handle.device, "info");
    scribble_on_host(given);
    check_operands(operands);
  }

  // `body` returns info.
  void enqueue(std::function<int()> body) const {
    standin::enqueue(queue_, name_, [body = std::move(body), workspace = workspace_, info = info_] {
      scribble(workspace, kBefore);
      const int outcome = body();
      scribble(workspace, kAfter);
      store(info, 0, sizeof outcome, &outcome);
    });
  }

 private:
  static void scribble(const Region& workspace, int pattern) {
    const std::vector<char> bytes(workspace.bytes, static_cast<char>(pattern));
    store(workspace, 0, workspace.bytes, bytes.data());
    spoil_written(workspace);
  }

  // The workspace is undefined after the call.
  static void spoil_written(const Region& workspace) {
    Allocation& owner = *find(workspace.allocation);
    if (!owner.pinned) std::memset(owner.written.data() + (workspace.data - owner.data), 0, workspace.bytes);
  }

  // Used during the call only: callers free it before the work has run.
  static void scribble_on_host(const Workspace& given) {
    if (given.host == nullptr) throw Misuse("the workspace on the host is null");
    if (const Allocation* found = find(given.host); found != nullptr && !found->pinned)
      throw Misuse("the workspace on the host is device memory");
    std::memset(given.host, kBefore, given.host_bytes);
  }

  void check_operands(const std::vector<Matrix>& operands) const {
    const auto meets = [](const Region& region, const auto& other) {
      return region.bytes != 0 && other.touches(region.data, region.data + region.bytes);
    };
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (meets(workspace_, operands[i])) throw Misuse(operands[i].memory().what + " overlaps the workspace");
      if (meets(info_, operands[i])) throw Misuse(operands[i].memory().what + " overlaps info");
      for (std::size_t j = 0; j < i; ++j)
        if (operands[i].overlaps(operands[j]))
          throw Misuse(operands[i].memory().what + " overlaps " + operands[j].memory().what);
    }
    if (workspace_.data < info_.data + info_.bytes && info_.data < workspace_.data + workspace_.bytes)
      throw Misuse("info overlaps the workspace");
  }

  const char* name_;
  std::shared_ptr<Stream> queue_;
  Region workspace_, info_;
};

Matrix matrix(const LibraryHandle& handle, const void* data, std::int64_t rows, std::int64_t columns,
              std::int64_t leading, const char* name) {
  return {static_cast<const double*>(data), rows, columns, leading, handle.device, name};
}

Matrix vector(const LibraryHandle& handle, const void* data, std::int64_t size, const char* name) {
  return matrix(handle, data, size, 1, std::max<std::int64_t>(1, size), name);
}

Dense column_of(const std::vector<double>& values) {
  Dense result(static_cast<std::int64_t>(values.size()), 1);
  for (std::size_t i = 0; i < values.size(); ++i) result(static_cast<std::int64_t>(i), 0) = values[i];
  return result;
}

// The stored triangle, as a lower triangle.
Dense load_lower(const Matrix& stored, Part part) {
  return part == Part::kLower ? stored.load(part) : transposed(stored.load(part));
}

struct Shapes {
  std::int64_t left_columns, right_rows;  // of U and of V^T; 0: not computed
};
Shapes gesvd_shapes(signed char jobu, signed char jobvt, std::int64_t m, std::int64_t n) {
  for (const signed char job : {jobu, jobvt})
    if (job != 'N' && job != 'S' && job != 'A') throw Misuse(text("a job is '", static_cast<char>(job), "'"));
  if (m < n) throw Misuse(text("gesvd takes at least as many rows as columns, not ", m, " and ", n));
  return {jobu == 'A' ? m : jobu == 'S' ? n : 0, jobvt == 'N' ? 0 : n};
}

}  // namespace

extern "C" {

int cusolverGetVersion(int* version) {
  return guarded(Library::kSolver, {__func__, Kind::kNoDriver}, [&] {
    *version = kVersion;
    return 0;
  });
}

int cusolverDnCreate(void** handle) { return handles().create(__func__, handle); }
int cusolverDnDestroy(void* handle) { return handles().destroy(__func__, handle); }
int cusolverDnSetStream(void* handle, cudaStream_t stream) { return handles().set_stream(__func__, handle, stream); }

int cusolverDnCreateParams(void** parameters) {
  return guarded(Library::kSolver, {__func__, Kind::kAllocates}, [&] {
    *parameters = params().add(std::make_shared<Params>());
    return 0;
  });
}

int cusolverDnDestroyParams(void* parameters) {
  return guarded(Library::kSolver, {__func__, Kind::kReleases}, [&] {
    params().remove(parameters);
    return 0;
  });
}

int cusolverDnXpotrf_bufferSize(void* handle, void* parameters, int uplo, std::int64_t n, cudaDataType type,
                                const void* /*a*/, std::int64_t lda, cudaDataType compute_type,
                                std::size_t* device_bytes, std::size_t* host_bytes) {
  return answer_sizes(__func__, handle, parameters, device_bytes, host_bytes, [&] {
    part_of(uplo);
    check_float64({type, compute_type});
    check_leading(n, lda, "A");
    return potrf_workspace(n);
  });
}

int cusolverDnXpotrf(void* handle, void* parameters, int uplo, std::int64_t n, cudaDataType type, void* a,
                     std::int64_t lda, cudaDataType compute_type, void* device_buffer, std::size_t device_bytes,
                     void* host_buffer, std::size_t host_bytes, int* info) {
  return handles().call(__func__, handle, [&, name = __func__](const LibraryHandle& owner) {
    params().get(parameters);
    const Part part = part_of(uplo);
    check_float64({type, compute_type});
    const Matrix symmetric = matrix(owner, a, n, n, lda, "A");
    const Routine routine(name, owner, {device_buffer, device_bytes, host_buffer, host_bytes}, potrf_workspace(n), info,
                          {symmetric});
    routine.enqueue([=] {
      Dense lower = load_lower(symmetric, part);
      int outcome = take_next_info();
      if (outcome == 0) outcome = cholesky(lower);
      if (outcome == 0) {
        symmetric.store(part == Part::kLower ? lower : transposed(lower), part);
      } else {
        symmetric.spoil(part);  // partial factor
      }
      return outcome;
    });
    return 0;
  });
}

int cusolverDnXsyevd_bufferSize(void* handle, void* parameters, int job, int uplo, std::int64_t n, cudaDataType type,
                                const void* /*a*/, std::int64_t lda, cudaDataType type_w, const void* /*w*/,
                                cudaDataType compute_type, std::size_t* device_bytes, std::size_t* host_bytes) {
  return answer_sizes(__func__, handle, parameters, device_bytes, host_bytes, [&] {
    part_of(uplo);
    check_float64({type, type_w, compute_type});
    check_leading(n, lda, "A");
    return syevd_workspace(n, job);
  });
}

int cusolverDnXsyevd(void* handle, void* parameters, int job, int uplo, std::int64_t n, cudaDataType type, void* a,
                     std::int64_t lda, cudaDataType type_w, void* w, cudaDataType compute_type, void* device_buffer,
                     std::size_t device_bytes, void* host_buffer, std::size_t host_bytes, int* info) {
  return handles().call(__func__, handle, [&, name = __func__](const LibraryHandle& owner) {
    params().get(parameters);
    if (job != kNoVectors && job != kVectors) throw Misuse(text("jobz is ", job));
    const Part part = part_of(uplo);
    check_float64({type, type_w, compute_type});
    const Matrix symmetric = matrix(owner, a, n, n, lda, "A");
    const Matrix values = vector(owner, w, n, "W");
    const Routine routine(name, owner, {device_buffer, device_bytes, host_buffer, host_bytes}, syevd_workspace(n, job),
                          info, {symmetric, values});
    routine.enqueue([=] {
      Dense full = load_lower(symmetric, part);
      for (std::int64_t j = 0; j < n; ++j)
        for (std::int64_t i = 0; i < j; ++i) full(i, j) = full(j, i);
      symmetric.spoil();
      if (const int outcome = take_next_info(); outcome != 0) {
        values.spoil();
        return outcome;
      }
      const Eigen eigen = symmetric_eigen(full);
      values.store(column_of(eigen.values));
      if (job == kVectors) symmetric.store(eigen.vectors);
      return 0;
    });
    return 0;
  });
}

int cusolverDnXgesvd_bufferSize(void* handle, void* parameters, signed char jobu, signed char jobvt, std::int64_t m,
                                std::int64_t n, cudaDataType type_a, const void* /*a*/, std::int64_t lda,
                                cudaDataType type_s, const void* /*s*/, cudaDataType type_u, const void* /*u*/,
                                std::int64_t ldu, cudaDataType type_vt, const void* /*vt*/, std::int64_t ldvt,
                                cudaDataType compute_type, std::size_t* device_bytes, std::size_t* host_bytes) {
  return answer_sizes(__func__, handle, parameters, device_bytes, host_bytes, [&] {
    check_float64({type_a, type_s, type_u, type_vt, compute_type});
    const Shapes shapes = gesvd_shapes(jobu, jobvt, m, n);
    check_leading(m, lda, "A");
    check_leading(shapes.left_columns == 0 ? 0 : m, ldu, "U");
    check_leading(shapes.right_rows, ldvt, "VT");
    return gesvd_workspace(m, n);
  });
}

int cusolverDnXgesvd(void* handle, void* parameters, signed char jobu, signed char jobvt, std::int64_t m,
                     std::int64_t n, cudaDataType type_a, void* a, std::int64_t lda, cudaDataType type_s, void* s,
                     cudaDataType type_u, void* u, std::int64_t ldu, cudaDataType type_vt, void* vt, std::int64_t ldvt,
                     cudaDataType compute_type, void* device_buffer, std::size_t device_bytes, void* host_buffer,
                     std::size_t host_bytes, int* info) {
  return handles().call(__func__, handle, [&, name = __func__](const LibraryHandle& owner) {
    params().get(parameters);
    check_float64({type_a, type_s, type_u, type_vt, compute_type});
    const Shapes shapes = gesvd_shapes(jobu, jobvt, m, n);
    const Matrix input = matrix(owner, a, m, n, lda, "A");
    const Matrix values = vector(owner, s, n, "S");
    const Matrix left = matrix(owner, u, shapes.left_columns == 0 ? 0 : m, shapes.left_columns, ldu, "U");
    const Matrix right = matrix(owner, vt, shapes.right_rows, shapes.right_rows, ldvt, "VT");
    const Routine routine(name, owner, {device_buffer, device_bytes, host_buffer, host_bytes}, gesvd_workspace(m, n),
                          info, {input, values, left, right});
    routine.enqueue([=] {
      const Dense full = input.load();
      input.spoil();
      if (const int outcome = take_next_info(); outcome != 0) {
        values.spoil();
        left.spoil();
        right.spoil();
        return outcome;
      }
      const Singular result = singular_values(full);
      values.store(column_of(result.values));
      left.store(result.left);  // its first columns
      right.store(transposed(result.right));
      return 0;
    });
    return 0;
  });
}

}  // extern "C"
