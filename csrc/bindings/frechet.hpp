// Bindings of Gaussian, the Frechet distance, the transport map and eigenvalues.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "core/frechet.hpp"
#include "core/gaussian.hpp"

namespace fidfast::bindings {

template <class Binding>
void bind_gaussian(py::module_& module) {
  using Device = typename Binding::Device;
  using Session = typename Binding::Session;
  using G = Gaussian<Device>;
  py::class_<G, std::shared_ptr<G>>(module, "Gaussian")
      .def(py::init([](const Array<double>& mu, const Array<double>& sigma, Index num_samples, int device,
                       double negative_tolerance, std::vector<double> product_errors) {
             if (mu.ndim() != 1) {
               throw py::value_error("mu must be 1-D (dim,), got shape " + shape_text(mu.shape(), mu.ndim()));
             }
             if (sigma.ndim() != 2) {
               throw py::value_error("sigma must be 2-D (dim, dim), got shape " +
                                     shape_text(sigma.shape(), sigma.ndim()));
             }
             if (!product_errors.empty() && static_cast<Index>(product_errors.size()) != mu.shape(0)) {
               throw py::value_error("product_errors has length " + std::to_string(product_errors.size()) +
                                     ", but mu has length " + std::to_string(mu.shape(0)));
             }
             if (!all_errors(product_errors.data(), static_cast<Index>(product_errors.size()))) {
               throw py::value_error("product_errors must be finite and not negative");
             }
             const Session session(device);
             Vector<Device> mean = vector_of<Device>(mu);
             Matrix<Device> covariance = matrix_of<Device, double>(sigma);
             return without_gil(&Binding::prepare, [&] {
               return std::make_shared<G>(G::checked(std::move(mean), std::move(covariance), num_samples,
                                                     negative_tolerance, std::move(product_errors)));
             });
           }),
           py::arg("mu"), py::arg("sigma"), py::arg("num_samples"), py::arg("device") = 0,
           py::arg("negative_tolerance") = G::kNegativeTolerance, py::arg("product_errors") = std::vector<double>())
      .def_static(
          "from_columns",
          [](const Array<double>& mu, const Array<double>& columns, Index num_samples, int device) {
            const Session session(device);
            Vector<Device> mean = vector_of<Device>(mu);
            Matrix<Device> factor = matrix_of<Device, double>(columns);
            return without_gil(
                [] {},
                [&] { return std::make_shared<G>(G::from_factor(std::move(mean), std::move(factor), num_samples)); });
          },
          py::arg("mu"), py::arg("columns"), py::arg("num_samples"), py::arg("device") = 0)
      .def_property_readonly("dim", &G::dim)
      .def_property_readonly("device", [](const G& self) { return self.device(); })
      .def_property_readonly("num_samples", &G::num_samples)
      .def_property_readonly("clipped",
                             [](const G& self) {
                               const Clipped& clipped = self.clipped();
                               return py::make_tuple(clipped.least, clipped.largest, clipped.trace);
                             })
      .def_property_readonly("product_errors",
                             [](const G& self) {
                               const std::vector<double>& errors = self.product_errors();
                               return Array<double>(static_cast<py::ssize_t>(errors.size()), errors.data());
                             })
      .def_property_readonly("columns",
                             [](const py::object& self) -> py::object {
                               const G& gaussian = py::cast<const G&>(self);
                               if (!gaussian.low_rank()) return py::none();
                               const Session session(gaussian.device());
                               const Matrix<Device>& columns = gaussian.columns();
                               return Binding::read_only_array(columns, {columns.cols(), columns.rows()}, self);
                             })
      .def_property_readonly("factor",
                             [](const G& self) {
                               const Session session(self.device());
                               const Matrix<Device> f =
                                   without_gil(&Binding::prepare, [&] { return self.factor_of_all_units(); });
                               return array_of(f, {f.cols(), f.rows()});
                             })
      .def_property_readonly("mu",
                             [](const py::object& self) {
                               const G& gaussian = py::cast<const G&>(self);
                               const Session session(gaussian.device());
                               return Binding::read_only_array(gaussian.mu(), {gaussian.dim()}, self);
                             })
      .def_property_readonly("sigma", [](const py::object& self) {
        const G& gaussian = py::cast<const G&>(self);
        const Session session(gaussian.device());
        const Matrix<Device>* const sigma = without_gil(&Binding::prepare, [&] { return &gaussian.sigma(); });
        return Binding::read_only_array(*sigma, {gaussian.dim(), gaussian.dim()}, self);
      });
}

template <class Binding>
void bind_frechet(py::module_& module) {
  using Device = typename Binding::Device;
  using G = Gaussian<Device>;
  py::class_<FrechetTerms>(module, "FrechetTerms", py::module_local())  // both extensions define it
      .def_readonly("mean_term", &FrechetTerms::mean_term)
      .def_readonly("trace1", &FrechetTerms::trace1)
      .def_readonly("trace2", &FrechetTerms::trace2)
      .def_readonly("trace_root", &FrechetTerms::trace_root)
      .def_readonly("rank", &FrechetTerms::rank)
      .def_readonly("rounding", &FrechetTerms::rounding)
      .def_property_readonly("distance", &FrechetTerms::distance);
  module.def(
      "frechet_terms",
      [](const G& a, const G& b) {
        require_same_device(a, b);
        return run_on<Binding>(a.device(), [&] { return frechet_terms(a, b); });
      },
      py::arg("gaussian1"), py::arg("gaussian2"));
  module.def(
      "frechet_distance",
      [](const G& a, const G& b) {
        require_same_device(a, b);
        return run_on<Binding>(a.device(), [&] { return frechet_distance(a, b); });
      },
      py::arg("gaussian1"), py::arg("gaussian2"));
  module.def(
      "transport_map",
      [](const G& a, const G& b) {
        require_same_device(a, b);
        const typename Binding::Session session(a.device());
        const Matrix<Device> map = without_gil(&Binding::prepare, [&] { return transport_map(a, b); });
        return array_of(map, {map.rows(), map.cols()});
      },
      py::arg("gaussian1"), py::arg("gaussian2"));
  module.def(
      "eigenvalues",
      [](const Array<double>& symmetric, int device) {
        if (symmetric.ndim() != 2 || symmetric.shape(0) != symmetric.shape(1)) {
          throw py::value_error("symmetric must be a matrix (n, n), got shape " +
                                shape_text(symmetric.shape(), symmetric.ndim()));
        }
        const typename Binding::Session session(device);
        Matrix<Device> matrix = matrix_of<Device, double>(symmetric);
        const std::vector<double> values =
            without_gil(&Binding::prepare, [&] { return MatrixOps<Device>::eigenvalues(matrix); });
        return Array<double>(static_cast<py::ssize_t>(values.size()), values.data());
      },
      py::arg("symmetric"), py::arg("device") = 0);
}

}  // namespace fidfast::bindings
