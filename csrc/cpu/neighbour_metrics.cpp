// Nearest-neighbour metrics on the CPU.
#include "cpu/instances.hpp"

namespace fidfast {

template std::vector<ManifoldMetrics> manifold_metrics<Cpu>(const AnyFeatures&, const AnyFeatures&,
                                                            const std::vector<BallRule>&);
template double mean_nearest_cosine_distance<Cpu>(const AnyFeatures&, const AnyFeatures&, bool);
template std::pair<double, double> rounded_precision_recall<Cpu>(const AnyFeatures&, const AnyFeatures&, Index,
                                                                 DistanceTool, Index);

}  // namespace fidfast
