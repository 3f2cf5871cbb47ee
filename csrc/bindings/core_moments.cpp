// Moments and Gaussians of the extension module fidfast._core.
#include "bindings/cpu.hpp"
#include "bindings/frechet.hpp"
#include "bindings/jackknife.hpp"
#include "bindings/moments.hpp"
#include "cpu/instances.hpp"

namespace fidfast::bindings {

template void bind_gaussian<CpuBinding>(py::module_&);
template void bind_moments<CpuBinding>(py::module_&);
template void bind_frechet<CpuBinding>(py::module_&);
template void bind_jackknife<CpuBinding>(py::module_&);

}  // namespace fidfast::bindings
