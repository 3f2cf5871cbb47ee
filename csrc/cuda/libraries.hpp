// cuBLAS and cuSOLVER, loaded at first use, without their headers and without linking. A test checks these prototypes
// against NVIDIA's headers.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace fidfast::cuda {

using BlasHandle = void*;
using SolverHandle = void*;
using SolverParams = void*;

// Enumerations of the libraries are passed as int.
constexpr int kFillLower = 0;
constexpr int kNoTranspose = 0;
constexpr int kTranspose = 1;
constexpr int kSideLeft = 0;
constexpr int kSideRight = 1;
constexpr int kNonUnitDiagonal = 0;
constexpr int kValuesOnly = 0;
constexpr int kValuesAndVectors = 1;
constexpr int kSuccess = 0;
constexpr int kBlasOutOfMemory = 3;
constexpr int kSolverOutOfMemory = 2;

#define FIDFAST_CUBLAS(X)                                                                                             \
  X(cublasCreate_v2, int(BlasHandle*))                                                                                \
  X(cublasDestroy_v2, int(BlasHandle))                                                                                \
  X(cublasSetStream_v2, int(BlasHandle, cudaStream_t))                                                                \
  X(cublasGetProperty, int(libraryPropertyType, int*))                                                                \
  X(cublasDgemm_v2, int(BlasHandle, int, int, int, int, int, const double*, const double*, int, const double*, int,   \
                        const double*, double*, int))                                                                 \
  X(cublasDsyrk_v2,                                                                                                   \
    int(BlasHandle, int, int, int, int, const double*, const double*, int, const double*, double*, int))              \
  X(cublasDsymm_v2, int(BlasHandle, int, int, int, int, const double*, const double*, int, const double*, int,        \
                        const double*, double*, int))                                                                 \
  X(cublasDtrmm_v2, int(BlasHandle, int, int, int, int, int, int, const double*, const double*, int, const double*,   \
                        int, double*, int))                                                                           \
  X(cublasDtrsm_v2, int(BlasHandle, int, int, int, int, int, int, const double*, const double*, int, double*, int))   \
  X(cublasDgeam, int(BlasHandle, int, int, int, int, const double*, const double*, int, const double*, const double*, \
                     int, double*, int))

#define FIDFAST_CUSOLVER(X)                                                                                          \
  X(cusolverDnCreate, int(SolverHandle*))                                                                            \
  X(cusolverDnDestroy, int(SolverHandle))                                                                            \
  X(cusolverDnSetStream, int(SolverHandle, cudaStream_t))                                                            \
  X(cusolverGetVersion, int(int*))                                                                                   \
  X(cusolverDnCreateParams, int(SolverParams*))                                                                      \
  X(cusolverDnDestroyParams, int(SolverParams))                                                                      \
  X(cusolverDnXpotrf_bufferSize, int(SolverHandle, SolverParams, int, std::int64_t, cudaDataType, const void*,       \
                                     std::int64_t, cudaDataType, std::size_t*, std::size_t*))                        \
  X(cusolverDnXpotrf, int(SolverHandle, SolverParams, int, std::int64_t, cudaDataType, void*, std::int64_t,          \
                          cudaDataType, void*, std::size_t, void*, std::size_t, int*))                               \
  X(cusolverDnXsyevd_bufferSize,                                                                                     \
    int(SolverHandle, SolverParams, int, int, std::int64_t, cudaDataType, const void*, std::int64_t, cudaDataType,   \
        const void*, cudaDataType, std::size_t*, std::size_t*))                                                      \
  X(cusolverDnXsyevd, int(SolverHandle, SolverParams, int, int, std::int64_t, cudaDataType, void*, std::int64_t,     \
                          cudaDataType, void*, cudaDataType, void*, std::size_t, void*, std::size_t, int*))          \
  X(cusolverDnXgesvd_bufferSize,                                                                                     \
    int(SolverHandle, SolverParams, signed char, signed char, std::int64_t, std::int64_t, cudaDataType, const void*, \
        std::int64_t, cudaDataType, const void*, cudaDataType, const void*, std::int64_t, cudaDataType, const void*, \
        std::int64_t, cudaDataType, std::size_t*, std::size_t*))                                                     \
  X(cusolverDnXgesvd,                                                                                                \
    int(SolverHandle, SolverParams, signed char, signed char, std::int64_t, std::int64_t, cudaDataType, void*,       \
        std::int64_t, cudaDataType, void*, cudaDataType, void*, std::int64_t, cudaDataType, void*, std::int64_t,     \
        cudaDataType, void*, std::size_t, void*, std::size_t, int*))

/// Pointers to the functions, and the paths of the libraries.
struct Libraries {
#define FIDFAST_MEMBER(name, type) std::add_pointer_t<type> name = nullptr;
  FIDFAST_CUBLAS(FIDFAST_MEMBER)
  FIDFAST_CUSOLVER(FIDFAST_MEMBER)
#undef FIDFAST_MEMBER
  std::string cublas_path;
  std::string cusolver_path;
};

/// Loads the libraries at the first call: prefers those that another package such as torch has loaded, then those of
/// the nvidia-* packages, then those of the system. Throws Error if one is missing.
const Libraries& libraries();

}  // namespace fidfast::cuda
