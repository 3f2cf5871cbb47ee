// Moments on the CPU.
#include "cpu/instances.hpp"

namespace fidfast {

template class Moments<Cpu>;

}  // namespace fidfast
