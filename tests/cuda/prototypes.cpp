// Compile-time check that the prototypes and constants of csrc/cuda/libraries.hpp match NVIDIA's headers. The messages
// of its static assertions name what differs.
#include <cublas_v2.h>
#include <cusolverDn.h>

#include <type_traits>

#include "cuda/libraries.hpp"

namespace {

using namespace fidfast::cuda;

/// The type that libraries.hpp declares for T: pointers to void for handles, int for enumerations.
template <class T, class = void>
struct Passed {
  using Type = T;
};
template <class T>
struct Passed<T, std::enable_if_t<std::is_enum_v<T>>> {
  static_assert(sizeof(T) == sizeof(int), "an enumeration is not passed as int");
  using Type = int;
};
template <>
struct Passed<cudaDataType> {  // declared by the runtime headers, which libraries.hpp includes
  using Type = cudaDataType;
};
template <>
struct Passed<libraryPropertyType> {  // likewise
  using Type = libraryPropertyType;
};
template <>
struct Passed<cublasHandle_t> {
  using Type = BlasHandle;
};
template <>
struct Passed<cusolverDnHandle_t> {
  using Type = SolverHandle;
};
template <>
struct Passed<cusolverDnParams_t> {
  using Type = SolverParams;
};
template <class T>
struct Passed<T*> {
  using Type = typename Passed<T>::Type*;
};
template <class Result, class... Parameters>
struct Passed<Result(Parameters...)> {
  using Type = typename Passed<Result>::Type(typename Passed<Parameters>::Type...);
};

#define PROTOTYPE(name, type) \
  static_assert(std::is_same_v<Passed<decltype(::name)>::Type, type>, #name " differs from NVIDIA's header");
FIDFAST_CUBLAS(PROTOTYPE)
FIDFAST_CUSOLVER(PROTOTYPE)

#define CONSTANT(name, theirs) \
  static_assert(name == static_cast<int>(theirs), #name " differs from " #theirs " in NVIDIA's header");
CONSTANT(kFillLower, CUBLAS_FILL_MODE_LOWER)
CONSTANT(kNoTranspose, CUBLAS_OP_N)
CONSTANT(kTranspose, CUBLAS_OP_T)
CONSTANT(kSideLeft, CUBLAS_SIDE_LEFT)
CONSTANT(kSideRight, CUBLAS_SIDE_RIGHT)
CONSTANT(kNonUnitDiagonal, CUBLAS_DIAG_NON_UNIT)
CONSTANT(kValuesOnly, CUSOLVER_EIG_MODE_NOVECTOR)
CONSTANT(kValuesAndVectors, CUSOLVER_EIG_MODE_VECTOR)
CONSTANT(kSuccess, CUBLAS_STATUS_SUCCESS)
CONSTANT(kSuccess, CUSOLVER_STATUS_SUCCESS)
CONSTANT(kBlasOutOfMemory, CUBLAS_STATUS_ALLOC_FAILED)
CONSTANT(kSolverOutOfMemory, CUSOLVER_STATUS_ALLOC_FAILED)

}  // namespace
