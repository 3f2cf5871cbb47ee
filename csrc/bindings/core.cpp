// The extension module fidfast._core: the metrics on the host.
#include "bindings/bind.hpp"
#include "bindings/cpu.hpp"
#include "bindings/gather.hpp"
#include "bindings/kernel.hpp"
#include "bindings/manifold.hpp"
#include "bindings/ngrams.hpp"

PYBIND11_MODULE(_core, module) {
  using namespace fidfast::bindings;
  module.doc() = "The compiled core of fidfast: moments, Gaussians and what is computed of them and of features.";
  module.attr("__version__") = FIDFAST_VERSION;
  bind<CpuBinding>(module);
  bind_gather(module);
  bind_kernel<fidfast::Cpu>(module, &CpuBinding::prepare);
  bind_manifold<fidfast::Cpu>(module, &CpuBinding::prepare);
  bind_ngrams(module);
}
