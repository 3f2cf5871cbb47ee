// Bindings of the kernel distances.
#pragma once

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "core/kernel/kernel.hpp"

namespace fidfast::bindings {

inline Subsets subsets_of(const Array<Index>& rows, const char* name) {
  if (rows.ndim() != 2) {
    throw py::value_error(std::string(name) + " must be 2-D (subsets, subset_size), got shape " +
                          shape_text(rows.shape(), rows.ndim()));
  }
  return {{rows.data(), rows.data() + rows.size()}, rows.shape(0), rows.shape(1)};
}

template <class Device>
void bind_kernel(py::module_& module, void (*prepare)()) {
  module.def(
      "kid",
      [prepare](const py::object& samples, const py::object& reference, Index degree, std::optional<double> gamma,
                double coef0, const std::string& precision) {
        const Features a = import_named(samples, "samples");
        const Features b = import_named(reference, "reference");
        const Precision of_products = precision_of(precision);
        const KernelDistance result = without_gil(
            prepare, [&] { return kid<Device>(PolynomialOptions{degree, gamma, coef0}, a.view, b.view, of_products); });
        return std::make_tuple(result.value, result.standard_error, result.num_a, result.num_b);
      },
      py::arg("samples"), py::arg("reference"), py::arg("degree"), py::arg("gamma"), py::arg("coef0"),
      py::arg("precision"));
  module.def(
      "kid_of_subsets",
      [prepare](const py::object& samples, const py::object& reference, const Array<Index>& sample_rows,
                const Array<Index>& reference_rows, Index degree, std::optional<double> gamma, double coef0,
                const std::string& precision) {
        const Features a = import_named(samples, "samples");
        const Features b = import_named(reference, "reference");
        const Precision of_products = precision_of(precision);
        const Subsets sample_subsets = subsets_of(sample_rows, "sample_rows");
        const Subsets reference_subsets = subsets_of(reference_rows, "reference_rows");
        return without_gil(prepare, [&] {
          return kid_of_subsets<Device>(PolynomialOptions{degree, gamma, coef0}, a.view, b.view, sample_subsets,
                                        reference_subsets, of_products);
        });
      },
      py::arg("samples"), py::arg("reference"), py::arg("sample_rows"), py::arg("reference_rows"), py::arg("degree"),
      py::arg("gamma"), py::arg("coef0"), py::arg("precision"));
  module.def(
      "gaussian_mmd",
      [prepare](const py::object& samples, const py::object& reference, double sigma, const std::string& precision) {
        const Features a = import_named(samples, "samples");
        const Features b = import_named(reference, "reference");
        const Precision of_products = precision_of(precision);
        return without_gil(prepare,
                           [&] { return gaussian_mmd<Device>(GaussianKernel{sigma}, a.view, b.view, of_products); });
      },
      py::arg("samples"), py::arg("reference"), py::arg("sigma"), py::arg("precision"));
}

}  // namespace fidfast::bindings
