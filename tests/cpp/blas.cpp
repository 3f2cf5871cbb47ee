#include "blas.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cpu/lapack.hpp"

namespace fidfast {

namespace {

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set; ctest sets it");
  return value;
}

}  // namespace

void load_blas_of_environment() {
  const std::string path = variable("FIDFAST_TEST_BLAS");
  const std::string integers = variable("FIDFAST_TEST_BLAS_INTEGERS");
  if (integers != "32" && integers != "64") {
    throw std::runtime_error("FIDFAST_TEST_BLAS_INTEGERS must be 32 or 64, got " + integers);
  }
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());

  // The packages rename the Fortran symbols, so that a process can have two BLAS libraries.
  const std::string suffix = integers == "64" ? "_64_" : "_";
  const lapack::Lookup lookup = [&](const char*, const char* name) {
    const std::string symbol = "scipy_" + std::string(name) + suffix;
    void* const address = dlsym(library, symbol.c_str());
    if (address == nullptr) throw std::runtime_error(path + " lacks " + symbol);
    return address;
  };
  lapack::load(lookup, integers == "64" ? lapack::IntegerWidth::k64 : lapack::IntegerWidth::k32);
}

}  // namespace fidfast
