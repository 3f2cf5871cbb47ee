// SciPy's BLAS and LAPACK: the addresses that scipy.linalg.cython_blas and cython_lapack offer to other compiled code.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "cpu/lapack.hpp"

namespace fidfast::bindings {

namespace py = pybind11;

/// The capsule of a routine; its name is the C signature.
inline py::object routine_capsule(const char* module, const char* name) {
  const std::string path = std::string("scipy.linalg.") + module;
  return py::module_::import(path.c_str()).attr("__pyx_capi__")[name];
}

inline lapack::IntegerWidth integer_width() {
  const py::object capsule = routine_capsule("cython_lapack", "dpotrf");
  const std::string signature = PyCapsule_GetName(capsule.ptr());
  if (signature.find("int64_t *") != std::string::npos) return lapack::IntegerWidth::k64;
  if (signature.find(" int *") != std::string::npos) return lapack::IntegerWidth::k32;
  throw py::import_error("this SciPy's dpotrf has the unknown signature " + signature);
}

/// Looks SciPy up at first use, so that importing the package does not. Call with the GIL held.
inline void require_blas() {
  static bool loaded = false;
  if (loaded) return;
  lapack::load(
      [](const char* module, const char* name) {
        const py::object capsule = routine_capsule(module, name);
        return PyCapsule_GetPointer(capsule.ptr(), PyCapsule_GetName(capsule.ptr()));
      },
      integer_width());
  loaded = true;
}

}  // namespace fidfast::bindings
