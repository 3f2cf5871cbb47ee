# fidfast._cuda: needs only the CUDA compiler and its headers. cudart is shared, so that a process with torch has one
# copy; cuBLAS and cuSOLVER are loaded at run time.
include(${CMAKE_CURRENT_LIST_DIR}/cuda_architectures.cmake)
set(CMAKE_CUDA_ARCHITECTURES OFF)  # set below, once the version of the compiler is available
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
enable_language(CUDA)
set(architectures ${FIDFAST_CUDA_ARCHITECTURES})
if(NOT architectures)
  local_cuda_architectures(${CMAKE_CUDA_COMPILER} architectures)
elseif(architectures STREQUAL "all")
  all_cuda_architectures(${CMAKE_CUDA_COMPILER_VERSION} architectures)
endif()
set(CMAKE_CUDA_ARCHITECTURES ${architectures})

add_library(
  fidfast_cuda STATIC
  csrc/cuda/context.cpp
  csrc/cuda/device.cpp
  csrc/cuda/elements.cu
  csrc/cuda/libraries.cpp
  csrc/cuda/linalg.cu
  csrc/cuda/pivoted_cholesky.cu
  csrc/cuda/rank_update.cu
  csrc/cuda/rows.cu
  csrc/cuda/watch.cu)
target_include_directories(fidfast_cuda PUBLIC csrc)
target_include_directories(fidfast_cuda SYSTEM PUBLIC ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_link_libraries(fidfast_cuda PUBLIC ${CMAKE_DL_LIBS} Threads::Threads)
set_target_properties(fidfast_cuda PROPERTIES CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden)
target_compile_options(fidfast_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--extended-lambda --expt-relaxed-constexpr>)
# Architectures side by side: one large source file is compiled last.
list(LENGTH architectures count)
if(count GREATER 1)
  target_compile_options(fidfast_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--threads=${count}>)
endif()
# Register spills and arrays in local memory make kernels slow, so they are errors. Older compilers, which are not tested,
# may warn.
if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  target_compile_options(
    fidfast_cuda
    PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings
            -Xptxas=--warn-on-spills,--warn-on-local-memory-usage,-Werror
            -Xcompiler=-Wall,-Wextra,-Werror>)
endif()

pybind11_add_module(_cuda NO_EXTRAS csrc/bindings/cuda.cpp)
target_link_libraries(_cuda PRIVATE fidfast_cuda)
set_target_properties(
  _cuda PROPERTIES CUDA_RUNTIME_LIBRARY Shared
                   BUILD_WITH_INSTALL_RPATH ON
                   # Library folders of the nvidia-* packages for CUDA 13 and CUDA 12.
                   INSTALL_RPATH
                   "$ORIGIN/../nvidia/cu13/lib;$ORIGIN/../nvidia/cuda_runtime/lib;$ORIGIN/../nvidia/cublas/lib;$ORIGIN/../nvidia/cusolver/lib")
list(JOIN architectures " " architectures_text)
target_compile_definitions(_cuda PRIVATE FIDFAST_VERSION="${FIDFAST_VERSION}"
                                         FIDFAST_CUDA_ARCHITECTURES="${architectures_text}")
install(TARGETS _cuda LIBRARY DESTINATION fidfast)
