// The bindings that all backends have.
#pragma once

#include "bindings/arrays.hpp"
#include "bindings/frechet.hpp"
#include "bindings/jackknife.hpp"
#include "bindings/moments.hpp"

namespace fidfast::bindings {

template <class Binding>
void bind(py::module_& module) {
  bind_gaussian<Binding>(module);
  bind_moments<Binding>(module);
  bind_frechet<Binding>(module);
  bind_jackknife<Binding>(module);
}

}  // namespace fidfast::bindings
