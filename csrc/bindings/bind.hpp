// The Python face of Moments, Gaussian and the distance, once for every device. No arithmetic.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bind_manifold.hpp"
#include "bindings/dlpack.hpp"
#include "core/frechet.hpp"
#include "core/gather.hpp"
#include "core/gaussian.hpp"
#include "core/moments.hpp"

namespace fidfast::bindings {

/// Row-major arrays, converted to T where they are not.
template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

/// What a device needs before its first verb; called with the GIL held.
using Prepare = void (*)();

/// Runs work() without the GIL.
template <class Work>
auto without_gil(Prepare prepare, Work work) {
  prepare();
  const py::gil_scoped_release release;
  return work();
}

/// A row-major (n, m) array as the column-major (m, n) matrix of the same bytes.
template <class Device, class T>
Matrix<Device, T> matrix_of(const Array<T>& array) {
  Matrix<Device, T> result(array.ndim() > 1 ? array.shape(1) : array.shape(0), array.ndim() > 1 ? array.shape(0) : 1);
  Device::copy(result.data(), array.data(), static_cast<std::size_t>(result.size()) * sizeof(T));
  return result;
}

template <class Device>
Vector<Device> vector_of(const Array<double>& array) {
  Vector<Device> result;
  result.Matrix<Device>::operator=(matrix_of<Device, double>(array));
  return result;
}

/// The bytes of a matrix as a row-major array of this shape.
template <class Device, class T>
py::array array_of(const Matrix<Device, T>& matrix, std::vector<Index> shape) {
  Array<T> result(std::move(shape));
  Device::copy(result.mutable_data(), matrix.data(), static_cast<std::size_t>(result.nbytes()));
  return std::move(result);
}

/// A read-only array that looks at memory which `owner` holds.
inline py::array look_at(const double* data, std::vector<Index> shape, const py::handle& owner) {
  py::array_t<double> result(std::move(shape), data, owner);
  result.attr("setflags")(py::arg("write") = false);
  return std::move(result);
}

inline Precision precision_of(const std::string& name) {
  if (name == "float32") return Precision::kFloat32;
  if (name == "float64") return Precision::kFloat64;
  throw py::value_error("precision must be 'float32' or 'float64', got '" + name + "'");
}

inline const char* name_of(Precision precision) { return precision == Precision::kFloat32 ? "float32" : "float64"; }

/// The state as plain data: what pickles and checkpoints hold.
template <class Device>
py::dict dict_of(const MomentsState<Device>& state) {
  py::dict result;
  result["dim"] = state.dim;
  result["precision"] = name_of(state.precision);
  result["count"] = state.count;
  result["narrow_rows"] = array_of(state.narrow.columns, {state.narrow.count, state.dim});
  result["wide_rows"] = array_of(state.wide.columns, {state.wide.count, state.dim});
  const Index folded = state.count > 0 ? state.dim : 0;
  result["mean"] = array_of(state.mean.high, {folded});
  result["mean_low"] = array_of(state.mean.low, {folded});
  result["scatter"] = array_of(state.scatter, {folded, folded});
  return result;
}

inline py::object entry(const py::dict& state, const char* name) {
  if (!state.contains(name)) throw py::value_error(std::string("the state of Moments lacks '") + name + "'");
  return state[name];
}

/// An entry as an array of this shape; -1 fits any length.
template <class T>
Array<T> array_entry(const py::dict& state, const char* name, const std::vector<Index>& shape) {
  const Array<T> array = py::cast<Array<T>>(entry(state, name));
  bool fits = array.ndim() == static_cast<py::ssize_t>(shape.size());
  for (std::size_t i = 0; fits && i < shape.size(); ++i) {
    fits = shape[i] < 0 || array.shape(static_cast<py::ssize_t>(i)) == shape[i];
  }
  if (!fits) {
    throw py::value_error(std::string("'") + name + "' in the state of Moments has shape " +
                          shape_text(array.shape(), array.ndim()));
  }
  return array;
}

template <class Device, class T>
WaitingRows<Device, T> waiting_of(const py::dict& state, const char* name, Index dim) {
  const Array<T> rows = array_entry<T>(state, name, {-1, dim});
  return {matrix_of<Device, T>(rows), rows.shape(0)};
}

template <class Device>
MomentsState<Device> state_of(const py::dict& dict) {
  MomentsState<Device> state;
  state.dim = py::cast<Index>(entry(dict, "dim"));
  state.precision = precision_of(py::cast<std::string>(entry(dict, "precision")));
  state.count = py::cast<Index>(entry(dict, "count"));
  if (state.dim < 1 || state.count < 0) throw py::value_error("the state of Moments has no valid dim and count");
  state.narrow = waiting_of<Device, float>(dict, "narrow_rows", state.dim);
  state.wide = waiting_of<Device, double>(dict, "wide_rows", state.dim);
  if (state.count == 0) return state;
  state.mean.high = vector_of<Device>(array_entry<double>(dict, "mean", {state.dim}));
  state.mean.low = vector_of<Device>(array_entry<double>(dict, "mean_low", {state.dim}));
  state.scatter = matrix_of<Device, double>(array_entry<double>(dict, "scatter", {state.dim, state.dim}));
  return state;
}

template <class Device>
void bind_gaussian(py::module_& module, Prepare prepare) {
  using G = Gaussian<Device>;
  py::class_<G, std::shared_ptr<G>>(module, "Gaussian")
      .def(py::init([prepare](const Array<double>& mu, const Array<double>& sigma, Index num_samples) {
             if (mu.ndim() != 1) {
               throw py::value_error("mu must be 1-D (dim,), got shape " + shape_text(mu.shape(), mu.ndim()));
             }
             if (sigma.ndim() != 2) {
               throw py::value_error("sigma must be 2-D (dim, dim), got shape " +
                                     shape_text(sigma.shape(), sigma.ndim()));
             }
             Vector<Device> mean = vector_of<Device>(mu);
             Matrix<Device> covariance = matrix_of<Device, double>(sigma);
             return without_gil(prepare, [&] {
               return std::make_shared<G>(G::checked(std::move(mean), std::move(covariance), num_samples));
             });
           }),
           py::arg("mu"), py::arg("sigma"), py::arg("num_samples"))
      .def_static(
          "from_columns",
          [](const Array<double>& mu, const Array<double>& columns, Index num_samples) {
            return std::make_shared<G>(
                G::from_factor(vector_of<Device>(mu), matrix_of<Device, double>(columns), num_samples));
          },
          py::arg("mu"), py::arg("columns"), py::arg("num_samples"))
      .def_property_readonly("dim", &G::dim)
      .def_property_readonly("num_samples", &G::num_samples)
      .def_property_readonly("columns",
                             [](const py::object& self) -> py::object {
                               const G& gaussian = py::cast<const G&>(self);
                               if (!gaussian.low_rank()) return py::none();
                               const Matrix<Device>& columns = gaussian.columns();
                               return look_at(columns.data(), {columns.cols(), columns.rows()}, self);
                             })
      .def_property_readonly("factor",
                             [prepare](const G& self) {
                               const Matrix<Device> f =
                                   without_gil(prepare, [&] { return self.factor_of_all_units(); });
                               return array_of(f, {f.cols(), f.rows()});
                             })
      .def_property_readonly("mu",
                             [](const py::object& self) {
                               const G& gaussian = py::cast<const G&>(self);
                               return look_at(gaussian.mu().data(), {gaussian.dim()}, self);
                             })
      .def_property_readonly("sigma", [prepare](const py::object& self) {
        const G& gaussian = py::cast<const G&>(self);
        const double* const data = without_gil(prepare, [&] { return gaussian.sigma().data(); });
        return look_at(data, {gaussian.dim(), gaussian.dim()}, self);
      });
}

template <class Device>
void bind_moments(py::module_& module, Prepare prepare) {
  using M = Moments<Device>;
  py::class_<M, std::shared_ptr<M>>(module, "Moments")
      .def(py::init([](Index dim, const std::string& precision) {
             return std::make_shared<M>(dim, precision_of(precision));
           }),
           py::arg("dim"), py::arg("precision"))
      .def_property_readonly("dim", &M::dim)
      .def_property_readonly("precision", [](const M& self) { return name_of(self.precision()); })
      .def_property_readonly("num_samples",
                             [](const M& self) { return without_gil([] {}, [&] { return self.num_samples(); }); })
      .def(
          "update",
          [prepare](M& self, const py::object& features) {
            const Features borrowed = import_features(features);
            without_gil(prepare, [&] { std::visit([&](const auto& view) { self.update(view); }, borrowed.view); });
          },
          py::arg("features"))
      .def(
          "merge", [prepare](M& self, const M& other) { without_gil(prepare, [&] { self.merge(other); }); },
          py::arg("other"))
      .def(
          "unmerge", [prepare](M& self, const M& other) { without_gil(prepare, [&] { self.unmerge(other); }); },
          py::arg("other"))
      .def("reset", &M::reset, py::call_guard<py::gil_scoped_release>())
      .def(
          "stats",
          [prepare](const M& self, Index ddof) {
            return without_gil(prepare, [&] { return std::make_shared<Gaussian<Device>>(self.stats(ddof)); });
          },
          py::arg("ddof"))
      .def(
          "copy", [](const M& self) { return std::make_shared<M>(self); }, py::call_guard<py::gil_scoped_release>())
      .def("state", [](const M& self) { return dict_of(without_gil([] {}, [&] { return self.state(); })); })
      .def_static(
          "from_state", [](const py::dict& state) { return std::make_shared<M>(state_of<Device>(state)); },
          py::arg("state"))
      .def(
          "equals", [](const M& self, const M& other) { return self.state() == other.state(); }, py::arg("other"),
          py::call_guard<py::gil_scoped_release>());
}

template <class Device>
void bind_frechet(py::module_& module, Prepare prepare) {
  using G = Gaussian<Device>;
  py::class_<FrechetTerms>(module, "FrechetTerms")
      .def_readonly("mean_term", &FrechetTerms::mean_term)
      .def_readonly("trace1", &FrechetTerms::trace1)
      .def_readonly("trace2", &FrechetTerms::trace2)
      .def_readonly("trace_root", &FrechetTerms::trace_root)
      .def_readonly("rank", &FrechetTerms::rank)
      .def_readonly("rounding", &FrechetTerms::rounding)
      .def_property_readonly("distance", &FrechetTerms::distance);
  module.def(
      "frechet_terms",
      [prepare](const G& a, const G& b) { return without_gil(prepare, [&] { return frechet_terms(a, b); }); },
      py::arg("gaussian1"), py::arg("gaussian2"));
  module.def(
      "frechet_distance",
      [prepare](const G& a, const G& b) { return without_gil(prepare, [&] { return frechet_distance(a, b); }); },
      py::arg("gaussian1"), py::arg("gaussian2"));
  module.def(
      "transport_map",
      [prepare](const G& a, const G& b) {
        const Matrix<Device> map = without_gil(prepare, [&] { return transport_map(a, b); });
        return array_of(map, {map.rows(), map.cols()});
      },
      py::arg("gaussian1"), py::arg("gaussian2"));
}

template <class Device>
void bind_gather(py::module_& module) {
  // The shape of features all of whose values are finite; throws for everything else.
  module.def(
      "require_finite",
      [](const py::object& features) {
        const Features borrowed = import_features(features);
        return std::visit(
            [](const auto& view) {
              without_gil([] {}, [&] { require_finite<Device>(view); });
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
              const auto columns = without_gil([] {}, [&] { return gather<Device>(view, wanted); });
              return array_of(columns, {columns.cols(), columns.rows()});
            },
            borrowed.view);
      },
      py::arg("features"), py::arg("rows"));
}

/// Everything a device offers to Python.
template <class Device>
void bind(py::module_& module, Prepare prepare) {
  bind_gaussian<Device>(module, prepare);
  bind_moments<Device>(module, prepare);
  bind_frechet<Device>(module, prepare);
  bind_gather<Device>(module);
  bind_manifold<Device>(module, prepare);
}

}  // namespace fidfast::bindings
