// Bindings of Jackknife.
#pragma once

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "core/jackknife.hpp"

namespace fidfast::bindings {

template <class Binding>
void bind_jackknife(py::module_& module) {
  using Device = typename Binding::Device;
  using G = Gaussian<Device>;
  using J = Jackknife<Device>;
  const auto operand = [](bool second) { return second ? Operand::kSecond : Operand::kFirst; };
  py::class_<J, std::shared_ptr<J>>(module, "Jackknife")
      .def(py::init([](const G& gaussian1, const G& gaussian2, bool sampled1, bool sampled2,
                       const std::string& precision, bool with_rows) {
             const Precision arithmetic = precision_of(precision);
             require_same_device(gaussian1, gaussian2);
             return run_on<Binding>(gaussian1.device(), [&] {
               return std::make_shared<J>(gaussian1, gaussian2, std::array<bool, 2>{sampled1, sampled2}, arithmetic,
                                          with_rows);
             });
           }),
           py::arg("gaussian1"), py::arg("gaussian2"), py::arg("sampled1"), py::arg("sampled2"), py::arg("precision"),
           py::arg("with_rows"))
      .def_property_readonly("rank", &J::rank)
      .def_property_readonly("distance", &J::distance)
      .def_property_readonly("corrected", &J::corrected)
      .def_property_readonly("second_order", &J::second_order)
      .def("root_correction", &J::root_correction, py::arg("first"), py::arg("second"))
      .def(
          "gaussian_bias", [operand](const J& self, bool second) { return self.gaussian_bias(operand(second)); },
          py::arg("second"))
      .def("gaussian_bias_of", py::overload_cast<double>(&J::gaussian_bias, py::const_), py::arg("inverse"))
      .def(
          "without",
          [operand](J& self, bool second, const py::object& features, const py::object& stream) {
            const typename Binding::Session session(self.device());
            typename Binding::Features borrowed(features, self.device(), stream);
            const WithoutRow result = without_gil(&Binding::prepare, [&] {  // synchronous, so done() is not needed
              return std::visit([&](const auto& view) { return self.without(operand(second), view); }, borrowed.view());
            });
            return py::make_tuple(array_of_numbers(result.distance), array_of_numbers(result.corrected));
          },
          py::arg("second"), py::arg("features"), py::arg("stream") = py::none());
}

}  // namespace fidfast::bindings
