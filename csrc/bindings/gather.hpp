// The Python face of what looks at features on the host, and picks rows. No arithmetic.
#pragma once

#include <pybind11/pybind11.h>

#include <variant>
#include <vector>

#include "bindings/arrays.hpp"
#include "core/gather.hpp"
#include "cpu/device.hpp"

namespace fidfast::bindings {

inline void bind_gather(py::module_& module) {
  // The shape of features all of whose values are finite; throws for everything else.
  module.def(
      "require_finite",
      [](const py::object& features) {
        const Features borrowed = import_features(features);
        return std::visit(
            [](const auto& view) {
              without_gil([] {}, [&] { require_finite<Cpu>(view); });
              return py::make_tuple(view.n, view.dim);
            },
            borrowed.view);
      },
      py::arg("features"));
  module.def(
      "gather",
      [](const py::object& features, const Array<Index>& rows) {
        const Features borrowed = import_features(features);
        const std::vector<Index> wanted(rows.data(), rows.data() + rows.size());
        return std::visit(
            [&](const auto& view) {
              const auto columns = without_gil([] {}, [&] { return gather<Cpu>(view, wanted); });
              return array_of(columns, {columns.cols(), columns.rows()});
            },
            borrowed.view);
      },
      py::arg("features"), py::arg("rows"));
}

}  // namespace fidfast::bindings
