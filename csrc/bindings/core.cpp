// The extension module fidfast._core: the metrics on the host.
#include "bindings/bind.hpp"
#include "bindings/ngrams.hpp"
#include "bindings/scipy_blas.hpp"
#include "cpu/device.hpp"

PYBIND11_MODULE(_core, module) {
  module.doc() = "The compiled core of fidfast: moments, Gaussians and what is computed of them and of features.";
  module.attr("__version__") = FIDFAST_VERSION;
  fidfast::bindings::bind<fidfast::Cpu>(module, &fidfast::bindings::require_blas);
  fidfast::bindings::bind_ngrams(module);
}
