// Bindings of the nearest neighbour metrics.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <vector>

#include "bindings/arrays.hpp"
#include "core/neighbours/manifold.hpp"
#include "core/neighbours/rounded.hpp"

namespace fidfast::bindings {

template <class Device>
void bind_manifold(py::module_& module, void (*prepare)()) {
  using Rule = std::tuple<Index, bool, bool>;
  using Shares = std::tuple<double, double, double, double>;
  module.def(
      "manifold_metrics",
      [prepare](const py::object& samples, const py::object& reference, const std::vector<Rule>& rules) {
        const Features of_samples = import_named(samples, "samples");
        const Features of_reference = import_named(reference, "reference");
        std::vector<BallRule> balls;
        for (const auto& [k, inclusive, recall] : rules) balls.push_back({k, inclusive, recall});
        return without_gil(prepare, [&] {
          std::vector<Shares> result;
          for (const ManifoldMetrics& of_rule : manifold_metrics<Device>(of_samples.view, of_reference.view, balls)) {
            result.emplace_back(of_rule.precision, of_rule.recall, of_rule.density, of_rule.coverage);
          }
          return result;
        });
      },
      py::arg("samples"), py::arg("reference"), py::arg("rules"));
  module.def(
      "rounded_precision_recall",
      [prepare](const py::object& samples, const py::object& reference, Index k, bool like_stylegan3, Index block) {
        const Features of_samples = import_named(samples, "samples");
        const Features of_reference = import_named(reference, "reference");
        const DistanceTool tool = like_stylegan3 ? DistanceTool::kStyleGan3 : DistanceTool::kGuidedDiffusion;
        return without_gil(prepare, [&] {
          return rounded_precision_recall<Device>(of_samples.view, of_reference.view, k, tool, block);
        });
      },
      py::arg("samples"), py::arg("reference"), py::arg("k"), py::arg("like_stylegan3"), py::arg("block") = 10000);
  module.def(
      "mean_nearest_cosine_distance",
      [prepare](const py::object& samples, const py::object& reference, bool over_samples) {
        const Features of_samples = import_named(samples, "samples");
        const Features of_reference = import_named(reference, "reference");
        return without_gil(prepare, [&] {
          return mean_nearest_cosine_distance<Device>(of_samples.view, of_reference.view, over_samples);
        });
      },
      py::arg("samples"), py::arg("reference"), py::arg("over_samples"));
}

}  // namespace fidfast::bindings
