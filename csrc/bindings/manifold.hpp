// The Python face of the metrics of neighbours, once for every device. No arithmetic.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <vector>

#include "bindings/arrays.hpp"
#include "core/neighbours/manifold.hpp"

namespace fidfast::bindings {

template <class Device>
void bind_manifold(py::module_& module, void (*prepare)()) {
  using Rule = std::tuple<Index, bool, bool>;
  using Shares = std::tuple<double, double, double, double>;
  module.def(
      "manifold_metrics",
      [prepare](const py::object& reference, const py::object& generated, const std::vector<Rule>& rules) {
        const Features of_reference = import_named(reference, "reference");
        const Features of_generated = import_named(generated, "generated");
        std::vector<BallRule> balls;
        for (const auto& [k, inclusive, recall] : rules) balls.push_back({k, inclusive, recall});
        prepare();
        std::vector<Shares> result;
        const py::gil_scoped_release release;
        for (const ManifoldMetrics& of_rule : manifold_metrics<Device>(of_reference.view, of_generated.view, balls)) {
          result.emplace_back(of_rule.precision, of_rule.recall, of_rule.density, of_rule.coverage);
        }
        return result;
      },
      py::arg("reference"), py::arg("generated"), py::arg("rules"));
  module.def(
      "mean_nearest_cosine_distance",
      [prepare](const py::object& reference, const py::object& generated, bool over_generated) {
        const Features of_reference = import_named(reference, "reference");
        const Features of_generated = import_named(generated, "generated");
        prepare();
        const py::gil_scoped_release release;
        return mean_nearest_cosine_distance<Device>(of_reference.view, of_generated.view, over_generated);
      },
      py::arg("reference"), py::arg("generated"), py::arg("over_generated"));
}

}  // namespace fidfast::bindings
