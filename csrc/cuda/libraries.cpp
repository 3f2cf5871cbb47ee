#include "cuda/libraries.hpp"

#include <dlfcn.h>

#include <initializer_list>
#include <string>

#include "cuda/context.hpp"

namespace fidfast::cuda {

namespace {

// The major version of the toolkit that compiled this is tried first; another one works as well.
#if CUDART_VERSION >= 13000
constexpr std::initializer_list<const char*> kCublas = {"libcublas.so.13", "libcublas.so.12"};
constexpr std::initializer_list<const char*> kCusolver = {"libcusolver.so.12", "libcusolver.so.11"};
#else
constexpr std::initializer_list<const char*> kCublas = {"libcublas.so.12", "libcublas.so.13"};
constexpr std::initializer_list<const char*> kCusolver = {"libcusolver.so.11", "libcusolver.so.12"};
#endif

/// Opens the first library that is loaded already; else the first one found by the RUNPATH of this file or the system.
void* open(std::initializer_list<const char*> names) {
  for (const char* const name : names) {
    if (void* const library = dlopen(name, RTLD_NOW | RTLD_NOLOAD)) return library;
  }
  std::string why;
  for (const char* const name : names) {
    if (void* const library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
    if (why.empty()) why = dlerror();
  }
  throw Error("cannot load " + std::string(*names.begin()) + " (" + why +
              "): install the packages nvidia-cublas and nvidia-cusolver, or a CUDA toolkit");
}

template <class Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (function == nullptr) throw Error(std::string("the CUDA libraries of this process have no ") + name);
}

template <class Function>
std::string path_of(Function* function) {
  Dl_info info;
  return dladdr(reinterpret_cast<void*>(function), &info) != 0 ? info.dli_fname : "";
}

Libraries load() {
  Libraries result;
  void* const cublas = open(kCublas);
  void* const cusolver = open(kCusolver);
#define FIDFAST_FIND(name, type) find(cublas, #name, result.name);
  FIDFAST_CUBLAS(FIDFAST_FIND)
#undef FIDFAST_FIND
#define FIDFAST_FIND(name, type) find(cusolver, #name, result.name);
  FIDFAST_CUSOLVER(FIDFAST_FIND)
#undef FIDFAST_FIND
  result.cublas_path = path_of(result.cublasCreate_v2);
  result.cusolver_path = path_of(result.cusolverDnCreate);
  return result;
}

}  // namespace

const Libraries& libraries() {
  static const Libraries loaded = load();  // if load() throws, the next call tries again
  return loaded;
}

}  // namespace fidfast::cuda
