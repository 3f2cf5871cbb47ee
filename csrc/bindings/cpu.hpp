// The Binding of the CPU backend; see bindings/arrays.hpp.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/dlpack.hpp"
#include "bindings/scipy_blas.hpp"
#include "cpu/device.hpp"

namespace fidfast::bindings {

struct CpuBinding {
  using Device = Cpu;

  static void prepare() { require_blas(); }

  struct Session {
    explicit Session(int device) {
      if (device != 0) throw py::value_error("the CPU is device 0, got device=" + std::to_string(device));
    }
  };

  class Features {
   public:
    Features(const py::object& array, int, const py::object& stream) : borrowed_(import_features(array)) {
      if (!stream.is_none()) throw py::value_error("stream is for features on a GPU; these are in host memory");
    }
    const AnyFeatures& view() const { return borrowed_.view; }
    void done() {}

   private:
    bindings::Features borrowed_;
  };

  static py::array read_only_array(const Matrix<Cpu>& matrix, std::vector<Index> shape, const py::handle& owner) {
    py::array_t<double> result(std::move(shape), matrix.data(), owner);
    result.attr("setflags")(py::arg("write") = false);
    return std::move(result);
  }
};

}  // namespace fidfast::bindings
