// The bindings that all backends have.
#pragma once

#include "bindings/arrays.hpp"
#include "bindings/frechet.hpp"
#include "bindings/jackknife.hpp"
#include "bindings/moments.hpp"

namespace fidfast::bindings {

template <class Binding>
void bind(py::module_& module) {
  py::dtype::of<double>();  // pybind11 looks up NumPy now: later it would release the GIL by its own guards
  bind_gaussian<Binding>(module);
  bind_moments<Binding>(module);
  bind_frechet<Binding>(module);
  bind_jackknife<Binding>(module);
}

}  // namespace fidfast::bindings
