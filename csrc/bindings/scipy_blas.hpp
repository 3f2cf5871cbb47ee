// Finds BLAS and LAPACK in SciPy, through the function pointers that scipy.linalg.cython_blas and cython_lapack export.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdlib>
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
    if (modules.contains("scipy.linalg") || std::getenv(kTimeout) != nullptr) return;
    const py::str cycles("20");
    set_ = run_python([&] { return PyMapping_SetItemString(environment_.ptr(), kTimeout, cycles.ptr()); }) == 0;
    if (!set_) throw py::error_already_set();
  }
  ~IdleThreadsSleep() {
    if (!set_) return;
    const py::error_scope earlier;
    if (run_python([&] { return PyMapping_DelItemString(environment_.ptr(), kTimeout); }) != 0) PyErr_Clear();
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
  static bool loaded = false;  // changed with the GIL held
  if (loaded) return;
  {
    const IdleThreadsSleep sleep;
    import_python("scipy.linalg.cython_blas");
    import_python("scipy.linalg.cython_lapack");
  }
  // The imports may release the GIL, and another thread may have got here meanwhile; what follows does not release it.
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
