// What every device offers to Python, once for all of them.
#pragma once

#include "bindings/arrays.hpp"
#include "bindings/frechet.hpp"
#include "bindings/jackknife.hpp"
#include "bindings/moments.hpp"

namespace fidfast::bindings {

template <class Door>
void bind(py::module_& module) {
  bind_gaussian<Door>(module);
  bind_moments<Door>(module);
  bind_frechet<Door>(module);
  bind_jackknife<Door>(module);
}

}  // namespace fidfast::bindings
