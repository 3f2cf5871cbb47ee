// The extension module fidfast._core: the CPU backend.
#include "bindings/arrays.hpp"
#include "bindings/bind.hpp"
#include "bindings/cpu.hpp"
#include "bindings/gather.hpp"
#include "bindings/kernel.hpp"
#include "bindings/manifold.hpp"
#include "bindings/ngrams.hpp"
#include "cpu/instances.hpp"

PYBIND11_MODULE(_core, module) {
  using namespace fidfast::bindings;
  module.doc() = "Compiled core of fidfast: moments and metrics on the CPU.";
  module.attr("__version__") = FIDFAST_VERSION;
  module.attr("ROWS_PER_BLOCK") = fidfast::kMomentsBlock;
  prepare_for_exit();
  look_up_numpy();
  bind<CpuBinding>(module);
  bind_gather(module);
  bind_kernel<fidfast::Cpu>(module, &CpuBinding::prepare);
  bind_manifold<fidfast::Cpu>(module, &CpuBinding::prepare);
  bind_ngrams(module);
}
