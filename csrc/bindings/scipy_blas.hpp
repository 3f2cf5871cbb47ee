// Finds BLAS and LAPACK in SciPy, through the function pointers that scipy.linalg.cython_blas and cython_lapack export.
#pragma once

#include <pybind11/gil_safe_call_once.h>
#include <pybind11/pybind11.h>

#include <string>

#include "bindings/gil.hpp"
#include "cpu/lapack.hpp"

namespace fidfast::bindings {

namespace py = pybind11;

/// Capsule of a routine; the name of the capsule is the C signature.
inline py::object routine_capsule(const char* module, const char* name) {
  const std::string path = std::string("scipy.linalg.") + module;
  return import_python(path.c_str()).attr("__pyx_capi__")[name];
}

inline lapack::IntegerWidth integer_width() {
  const py::object capsule = routine_capsule("cython_lapack", "dpotrf");
  const std::string signature = PyCapsule_GetName(capsule.ptr());
  if (signature.find("int64_t *") != std::string::npos) return lapack::IntegerWidth::k64;
  if (signature.find(" int *") != std::string::npos) return lapack::IntegerWidth::k32;
  throw py::import_error("dpotrf of this SciPy has an unknown signature: " + signature);
}

/// If OpenBLAS is loaded while this exists, its idle threads sleep after 2^20 cycles, about 0.3 ms. By default they
/// spin for 0.1 s and occupy cores that our threads need between BLAS calls, which makes a distance at dim 2048 a
/// quarter slower. Has no effect if the user has set the variable or loaded SciPy before.
class IdleThreadsSleep {
 public:
  IdleThreadsSleep() : environment_(py::module_::import("os").attr("environ")) {
    const py::object modules = py::module_::import("sys").attr("modules");
    set_ = !modules.contains("scipy.linalg") && !environment_.contains(kTimeout);
    if (set_) environment_[kTimeout] = "20";
  }
  ~IdleThreadsSleep() {
    if (set_) environment_.attr("pop")(kTimeout, py::none());
  }
  IdleThreadsSleep(const IdleThreadsSleep&) = delete;
  IdleThreadsSleep& operator=(const IdleThreadsSleep&) = delete;

 private:
  static constexpr const char* kTimeout = "OPENBLAS_THREAD_TIMEOUT";
  py::object environment_;
  bool set_ = false;
};

/// Finds SciPy's BLAS at first use, so that importing the package does not import SciPy. Call with the GIL held.
inline void require_blas() {
  // The import may release the GIL. Other threads that get here meanwhile must not hold the GIL while they wait.
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<bool> loaded;
  loaded.call_once_and_store_result([] {
    const IdleThreadsSleep sleep;
    lapack::load(
        [](const char* module, const char* name) {
          const py::object capsule = routine_capsule(module, name);
          return PyCapsule_GetPointer(capsule.ptr(), PyCapsule_GetName(capsule.ptr()));
        },
        integer_width());
    return true;
  });
}

}  // namespace fidfast::bindings
