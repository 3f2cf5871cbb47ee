// Bindings of Moments.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "bindings/arrays.hpp"
#include "core/gaussian.hpp"
#include "core/moments/moments.hpp"
#include "core/moments/together.hpp"

namespace fidfast::bindings {

/// The state as stored in pickles and checkpoints.
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
  result["product_errors"] = array_of(state.errors, {state.count > 0 ? state.errors.rows() : 0});
  return result;
}

inline py::object entry(const py::dict& state, const char* name) {
  if (!state.contains(name)) throw py::value_error(std::string("the state of Moments has no '") + name + "'");
  return state[name];
}

/// An entry as an array with the given shape; -1 matches any length.
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
PendingRows<Device, T> pending_of(const py::dict& state, const char* name, Index dim) {
  const Array<T> rows = array_entry<T>(state, name, {-1, dim});
  return {matrix_of<Device, T>(rows), rows.shape(0)};
}

template <class Device>
MomentsState<Device> state_of(const py::dict& dict) {
  MomentsState<Device> state;
  state.dim = py::cast<Index>(entry(dict, "dim"));
  state.precision = precision_of(py::cast<std::string>(entry(dict, "precision")));
  state.count = py::cast<Index>(entry(dict, "count"));
  if (state.dim < 1 || state.count < 0) throw py::value_error("the state of Moments has an invalid dim or count");
  state.narrow = pending_of<Device, float>(dict, "narrow_rows", state.dim);
  state.wide = pending_of<Device, double>(dict, "wide_rows", state.dim);
  if (state.count == 0) return state;
  state.mean.high = vector_of<Device>(array_entry<double>(dict, "mean", {state.dim}));
  state.mean.low = vector_of<Device>(array_entry<double>(dict, "mean_low", {state.dim}));
  state.scatter = matrix_of<Device, double>(array_entry<double>(dict, "scatter", {state.dim, state.dim}));
  // Older states have no such entry.
  if (dict.contains("product_errors") && py::len(dict["product_errors"]) > 0) {
    const Array<double> errors = array_entry<double>(dict, "product_errors", {state.dim});
    if (!all_errors(errors.data(), state.dim)) throw py::value_error("product_errors must be finite and not negative");
    state.errors = vector_of<Device>(errors);
  }
  return state;
}

/// At least one, all on one device.
template <class M>
std::vector<M*> pointers(const std::vector<std::shared_ptr<M>>& moments) {
  std::vector<M*> result;
  result.reserve(moments.size());
  for (const std::shared_ptr<M>& each : moments) {
    if (!each) throw py::type_error("moments must be Moments, got None");
    require_same_device(*moments.front(), *each);
    result.push_back(each.get());
  }
  if (result.empty()) throw py::value_error("moments must not be empty");
  return result;
}

template <class Binding>
void bind_moments(py::module_& module) {
  using Device = typename Binding::Device;
  using Session = typename Binding::Session;
  using M = Moments<Device>;
  py::class_<M, std::shared_ptr<M>>(module, "Moments")
      .def(py::init([](Index dim, const std::string& precision, int device) {
             const Precision arithmetic = precision_of(precision);
             const Session session(device);
             return without_gil([] {}, [&] { return std::make_shared<M>(dim, arithmetic); });
           }),
           py::arg("dim"), py::arg("precision"), py::arg("device") = 0)
      .def_property_readonly("dim", &M::dim)
      .def_property_readonly("device", [](const M& self) { return self.device(); })
      .def_property_readonly("precision", [](const M& self) { return name_of(self.precision()); })
      .def_property_readonly("num_samples",
                             [](const M& self) { return without_gil([] {}, [&] { return self.num_samples(); }); })
      .def(
          "update",
          [](M& self, const py::object& features, const py::object& stream) {
            const Session session(self.device());
            typename Binding::Features borrowed(features, self.device(), stream);
            without_gil(&Binding::prepare, [&] {
              std::visit([&](const auto& view) { self.update(view, [&] { borrowed.done(); }); }, borrowed.view());
            });
          },
          py::arg("features"), py::arg("stream") = py::none())
      .def_static(
          "update_all",
          [](const std::vector<std::shared_ptr<M>>& moments, const py::object& features,
             const std::vector<Index>& counts, const py::object& stream) {
            const std::vector<M*> all = pointers(moments);
            const Session session(all.front()->device());
            typename Binding::Features borrowed(features, all.front()->device(), stream);
            without_gil(&Binding::prepare, [&] {
              std::visit(
                  [&](const auto& view) {
                    MomentsTogether<Device>::update(all, counts, view, [&] { borrowed.done(); });
                  },
                  borrowed.view());
            });
          },
          py::arg("moments"), py::arg("features"), py::arg("counts") = std::vector<Index>(),
          py::arg("stream") = py::none())
      .def_static(
          "exchange",
          [](const std::vector<std::shared_ptr<M>>& moments, const std::vector<std::shared_ptr<M>>& others) {
            const std::vector<M*> all = pointers(moments);
            const std::vector<M*> theirs = pointers(others);
            require_same_device(*all.front(), *theirs.front());
            run_on<Binding>(all.front()->device(), [&] { MomentsTogether<Device>::exchange(all, theirs); });
          },
          py::arg("moments"), py::arg("others"))
      .def(
          "merge",
          [](M& self, const M& other) {
            require_same_device(self, other);
            run_on<Binding>(self.device(), [&] { self.merge(other); });
          },
          py::arg("other"))
      .def(
          "unmerge",
          [](M& self, const M& other) {
            require_same_device(self, other);
            run_on<Binding>(self.device(), [&] { self.unmerge(other); });
          },
          py::arg("other"))
      .def("reset",
           [](M& self) {
             const Session session(self.device());
             without_gil([] {}, [&] { self.reset(); });
           })
      .def(
          "stats",
          [](const M& self, Index ddof) {
            return run_on<Binding>(self.device(), [&] { return std::make_shared<Gaussian<Device>>(self.stats(ddof)); });
          },
          py::arg("ddof"))
      .def("copy",
           [](const M& self) {
             const Session session(self.device());
             return without_gil([] {}, [&] { return std::make_shared<M>(self); });
           })
      .def("state",
           [](const M& self) {
             const Session session(self.device());
             return dict_of(without_gil([] {}, [&] { return self.state(); }));
           })
      .def_static(
          "from_state",
          [](const py::dict& state, int device) {
            const Session session(device);
            return std::make_shared<M>(state_of<Device>(state));
          },
          py::arg("state"), py::arg("device") = 0)
      .def(
          "equals",
          [](const M& self, const M& other) {
            require_same_device(self, other);
            const Session session(self.device());
            return without_gil([] {}, [&] { return self.state() == other.state(); });
          },
          py::arg("other"));
  // Returns the shape of the features. for_moments: whether squares of the features must be finite too.
  module.def(
      "require_finite",
      [](const py::object& features, int device, const py::object& stream, Index first_row, bool for_moments) {
        const Session session(device);
        typename Binding::Features borrowed(features, device, stream);
        const std::pair<Index, Index> shape = without_gil([] {},
                                                          [&] {
                                                            return std::visit(  // synchronous
                                                                [&](const auto& view) {
                                                                  if (for_moments) {
                                                                    require_squarable<Device>(view, first_row);
                                                                  } else {
                                                                    require_finite<Device>(view, first_row);
                                                                  }
                                                                  return std::make_pair(view.n, view.dim);
                                                                },
                                                                borrowed.view());
                                                          });
        return shape;
      },
      py::arg("features"), py::arg("device") = 0, py::arg("stream") = py::none(), py::arg("first_row") = 0,
      py::arg("for_moments") = false);
}

}  // namespace fidfast::bindings
