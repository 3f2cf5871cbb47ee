// The extension module fidfast._core: the metrics on the host.
#include "bindings/bind.hpp"
#include "bindings/bind_jackknife.hpp"
#include "bindings/ngrams.hpp"
#include "bindings/bind_kernel.hpp"
#include "bindings/scipy_blas.hpp"
#include "cpu/device.hpp"

PYBIND11_MODULE(_core, module) {
  module.doc() = "The compiled core of fidfast: moments, Gaussians and the Frechet distance on the host.";
  module.attr("__version__") = FIDFAST_VERSION;
  fidfast::bindings::bind<fidfast::Cpu>(module, &fidfast::bindings::require_blas);
  fidfast::bindings::bind_jackknife<fidfast::Cpu>(module, &fidfast::bindings::require_blas);
  fidfast::bindings::bind_ngrams(module);
  fidfast::bindings::bind_kernel<fidfast::Cpu>(module, &fidfast::bindings::require_blas);
}
