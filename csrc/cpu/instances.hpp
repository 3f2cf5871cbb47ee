// Moments and metrics of the CPU backend, which are compiled once, in moments.cpp, gaussian_metrics.cpp,
// kernel_metrics.cpp and neighbour_metrics.cpp, instead of in every file that uses them.
#pragma once

#include <utility>
#include <vector>

#include "core/frechet.hpp"
#include "core/gaussian.hpp"
#include "core/jackknife.hpp"
#include "core/kernel/kernel.hpp"
#include "core/moments/moments.hpp"
#include "core/neighbours/manifold.hpp"
#include "core/neighbours/rounded.hpp"
#include "cpu/device.hpp"

namespace fidfast {

extern template class Moments<Cpu>;

extern template class Gaussian<Cpu>;
extern template class Jackknife<Cpu>;
extern template WithoutRow Jackknife<Cpu>::without(Operand, const FeatureView<Float16>&);
extern template WithoutRow Jackknife<Cpu>::without(Operand, const FeatureView<BFloat16>&);
extern template WithoutRow Jackknife<Cpu>::without(Operand, const FeatureView<float>&);
extern template WithoutRow Jackknife<Cpu>::without(Operand, const FeatureView<double>&);
extern template FrechetTerms frechet_terms(const Gaussian<Cpu>&, const Gaussian<Cpu>&, detail::Bound);
extern template double frechet_distance(const Gaussian<Cpu>&, const Gaussian<Cpu>&);
extern template Matrix<Cpu> transport_map(const Gaussian<Cpu>&, const Gaussian<Cpu>&);

extern template KernelDistance kid<Cpu>(const PolynomialOptions&, const AnyFeatures&, const AnyFeatures&, Precision);
extern template std::vector<double> kid_of_subsets<Cpu>(const PolynomialOptions&, const AnyFeatures&,
                                                        const AnyFeatures&, const Subsets&, const Subsets&, Precision);
extern template double gaussian_mmd<Cpu>(const GaussianKernel&, const AnyFeatures&, const AnyFeatures&, Precision);

extern template std::vector<ManifoldMetrics> manifold_metrics<Cpu>(const AnyFeatures&, const AnyFeatures&,
                                                                   const std::vector<BallRule>&);
extern template double mean_nearest_cosine_distance<Cpu>(const AnyFeatures&, const AnyFeatures&, bool);
extern template std::pair<double, double> rounded_precision_recall<Cpu>(const AnyFeatures&, const AnyFeatures&, Index,
                                                                        DistanceTool, Index);

}  // namespace fidfast
