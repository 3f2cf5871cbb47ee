// The host's door.
#pragma once

#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/dlpack.hpp"
#include "bindings/scipy_blas.hpp"
#include "cpu/device.hpp"

namespace fidfast::bindings {

struct HostDoor {
  using Device = Cpu;

  static void prepare() { require_blas(); }
  static Cpu::Place place_of(int number) {
    if (number != 0) throw py::value_error("the host has no device " + std::to_string(number));
    return {};
  }
  static int number_of(const Cpu::Place&) { return 0; }

  struct Session {
    explicit Session(const Cpu::Place&) {}
  };

  class Features {
   public:
    Features(const py::object& array, const Cpu::Place&, const py::object& stream) : borrowed_(import_features(array)) {
      if (!stream.is_none())
        throw py::value_error("stream is for features on a GPU, and these are in the host's memory");
    }
    const AnyFeatures& view() const { return borrowed_.view; }
    void done() {}

   private:
    bindings::Features borrowed_;
  };

  static py::array look(const Matrix<Cpu>& matrix, std::vector<Index> shape, const py::handle& owner) {
    return look_at(matrix.data(), std::move(shape), owner);
  }
};

}  // namespace fidfast::bindings
