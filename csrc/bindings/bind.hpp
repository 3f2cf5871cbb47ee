// The bindings that all backends have. Declared here and compiled in other files than the rest of an extension, so that
// the files compile side by side.
#pragma once

#include <pybind11/pybind11.h>

namespace fidfast::bindings {

namespace py = pybind11;

template <class Binding>
void bind_gaussian(py::module_& module);
template <class Binding>
void bind_moments(py::module_& module);
template <class Binding>
void bind_frechet(py::module_& module);
template <class Binding>
void bind_jackknife(py::module_& module);

template <class Binding>
void bind(py::module_& module) {
  bind_gaussian<Binding>(module);
  bind_moments<Binding>(module);
  bind_frechet<Binding>(module);
  bind_jackknife<Binding>(module);
}

}  // namespace fidfast::bindings
