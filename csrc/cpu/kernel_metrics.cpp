// Kernel distances on the CPU.
#include "cpu/instances.hpp"

namespace fidfast {

template KernelDistance kid<Cpu>(const PolynomialOptions&, const AnyFeatures&, const AnyFeatures&, Precision);
template std::vector<double> kid_of_subsets<Cpu>(const PolynomialOptions&, const AnyFeatures&, const AnyFeatures&,
                                                 const Subsets&, const Subsets&, Precision);
template double gaussian_mmd<Cpu>(const GaussianKernel&, const AnyFeatures&, const AnyFeatures&, Precision);

}  // namespace fidfast
