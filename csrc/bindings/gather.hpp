// Binding of gather.
#pragma once

#include <pybind11/pybind11.h>

#include <variant>
#include <vector>

#include "bindings/arrays.hpp"
#include "core/gather.hpp"
#include "cpu/device.hpp"

namespace fidfast::bindings {

inline void bind_gather(py::module_& module) {
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
