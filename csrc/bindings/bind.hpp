// Everything a device offers to Python, once for every device.
#pragma once

#include "bindings/arrays.hpp"
#include "bindings/frechet.hpp"
#include "bindings/jackknife.hpp"
#include "bindings/kernel.hpp"
#include "bindings/manifold.hpp"
#include "bindings/moments.hpp"

namespace fidfast::bindings {

template <class Device>
void bind(py::module_& module, Prepare prepare) {
  bind_gaussian<Device>(module, prepare);
  bind_moments<Device>(module, prepare);
  bind_gather<Device>(module);
  bind_frechet<Device>(module, prepare);
  bind_jackknife<Device>(module, prepare);
  bind_kernel<Device>(module, prepare);
  bind_manifold<Device>(module, prepare);
}

}  // namespace fidfast::bindings
