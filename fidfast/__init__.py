"""Streaming moments of features and the Fréchet distance between them.

>>> import numpy as np, fidfast
>>> rng = np.random.default_rng(0)
>>> round(fidfast.fid(rng.normal(size=(500, 8)), rng.normal(size=(500, 8)) + 1.0), 1)
8.6

``fid`` takes arrays, tensors, `Moments`, `GaussianStats` or paths. `Moments` collects the features of a stream in
bounded memory; `frechet_terms` shows what the distance is made of and bounds its rounding error.
"""

try:
    from fidfast import _core
except ImportError as error:
    raise ImportError(
        "fidfast is not compiled for this Python: run `pip install .` in the source tree "
        "(it needs a C++17 compiler), and import fidfast from outside of it"
    ) from error

from fidfast._metrics.classwise import ClassDistances, class_distances
from fidfast._metrics.extrapolation import Extrapolation, fid_infinity
from fidfast._metrics.frechet import FrechetTerms, fid, frechet_distance, frechet_terms, transport_map
from fidfast._metrics.inception_score import InceptionScore, InceptionScoreResult, inception_score
from fidfast._metrics.kernel import KernelDistance, SubsetKernelDistance, cmmd, kid, kid_subsets
from fidfast._metrics.neighbours import (
    DensityCoverage,
    ManifoldMetrics,
    PrecisionRecall,
    density_coverage,
    manifold_metrics,
    mifid,
    precision_recall,
)
from fidfast._metrics.ngrams import NgramCounts, ngram_jsd
from fidfast._metrics.uncertainty import Comparison, Estimate, compare, estimate, influence
from fidfast._report.build import HarmfulSample, Report, Trimmed, report
from fidfast._stats.class_moments import ClassMoments
from fidfast._stats.gaussian import GaussianStats
from fidfast._stats.moments import Moments

__version__: str = _core.__version__

__all__ = [
    "ClassDistances",
    "ClassMoments",
    "Comparison",
    "DensityCoverage",
    "Estimate",
    "Extrapolation",
    "FrechetTerms",
    "GaussianStats",
    "HarmfulSample",
    "InceptionScore",
    "InceptionScoreResult",
    "KernelDistance",
    "ManifoldMetrics",
    "Moments",
    "NgramCounts",
    "PrecisionRecall",
    "Report",
    "SubsetKernelDistance",
    "Trimmed",
    "__version__",
    "class_distances",
    "cmmd",
    "compare",
    "density_coverage",
    "estimate",
    "fid",
    "fid_infinity",
    "frechet_distance",
    "frechet_terms",
    "inception_score",
    "influence",
    "kid",
    "kid_subsets",
    "manifold_metrics",
    "mifid",
    "ngram_jsd",
    "precision_recall",
    "report",
    "transport_map",
]
