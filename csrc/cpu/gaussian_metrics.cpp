// Gaussians on the CPU, the distance between them, and its jackknife.
#include "cpu/instances.hpp"

namespace fidfast {

template class Gaussian<Cpu>;
template class Jackknife<Cpu>;
template WithoutRow Jackknife<Cpu>::without(Operand, const FeatureView<Float16>&);
template WithoutRow Jackknife<Cpu>::without(Operand, const FeatureView<BFloat16>&);
template WithoutRow Jackknife<Cpu>::without(Operand, const FeatureView<float>&);
template WithoutRow Jackknife<Cpu>::without(Operand, const FeatureView<double>&);
template FrechetTerms frechet_terms(const Gaussian<Cpu>&, const Gaussian<Cpu>&, detail::Bound);
template double frechet_distance(const Gaussian<Cpu>&, const Gaussian<Cpu>&);
template Matrix<Cpu> transport_map(const Gaussian<Cpu>&, const Gaussian<Cpu>&);

}  // namespace fidfast
