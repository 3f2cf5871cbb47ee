"""Streaming moments of features and the Fréchet distance between them.

>>> import numpy as np, fidfast
>>> rng = np.random.default_rng(0)
>>> round(fidfast.fid(rng.normal(size=(500, 8)), rng.normal(size=(500, 8)) + 1.0), 1)
8.6

`fid` takes arrays, tensors, `Moments`, `GaussianStats`, or paths of these or of images. `Moments` collects the features
of a stream in bounded memory; `frechet_terms` returns the terms of the distance and a bound on its rounding error.
"""

import importlib.util as _util

if _util.find_spec("fidfast._core") is None:
    raise ImportError(
        "fidfast is not compiled for this Python: run `pip install .` in the source tree (it needs a C++17 compiler), "
        "and import fidfast from another folder"
    )

from fidfast import _command_path, _core  # noqa: F401  # the first of them before any other import
from fidfast._environment import Environment, environment
from fidfast._feature_demo import FeatureDemo, demo_of_features
from fidfast._fid import fid
from fidfast._files import SourcePart
from fidfast._images.cache import CachedMoments, ImageCache, image_cache
from fidfast._info import FileInfo, file_info
from fidfast._merging import merge_parts
from fidfast._metrics.classwise import ClassDistances, class_distances
from fidfast._metrics.comparison import Comparison, compare
from fidfast._metrics.extrapolation import Extrapolation, fid_infinity
from fidfast._metrics.frechet import FrechetTerms, frechet_distance, frechet_terms, transport_map
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
from fidfast._metrics.sliced import SlicedDistance, mind
from fidfast._metrics.uncertainty import Estimate, estimate, influence
from fidfast._metrics.vendi import VendiScore, vendi
from fidfast._parts import SourceMoments, moments_of_features
from fidfast._report import HarmfulSample, ReferenceSample, Report, Trimmed, report
from fidfast._stats import ClassMoments, GaussianStats, Moments, save_stats

__version__: str = _core.__version__

__all__ = [
    "CachedMoments",
    "ClassDistances",
    "ClassMoments",
    "Comparison",
    "DensityCoverage",
    "Environment",
    "Estimate",
    "Extrapolation",
    "FeatureDemo",
    "FileInfo",
    "FrechetTerms",
    "GaussianStats",
    "HarmfulSample",
    "ImageCache",
    "InceptionScore",
    "InceptionScoreResult",
    "KernelDistance",
    "ManifoldMetrics",
    "Moments",
    "NgramCounts",
    "PrecisionRecall",
    "ReferenceSample",
    "Report",
    "SlicedDistance",
    "SourceMoments",
    "SourcePart",
    "SubsetKernelDistance",
    "Trimmed",
    "VendiScore",
    "__version__",
    "class_distances",
    "cmmd",
    "compare",
    "demo_of_features",
    "density_coverage",
    "environment",
    "estimate",
    "fid",
    "fid_infinity",
    "file_info",
    "frechet_distance",
    "frechet_terms",
    "image_cache",
    "inception_score",
    "influence",
    "kid",
    "kid_subsets",
    "manifold_metrics",
    "merge_parts",
    "mifid",
    "mind",
    "moments_of_features",
    "ngram_jsd",
    "precision_recall",
    "report",
    "save_stats",
    "transport_map",
    "vendi",
]

# Pickles, messages and documentation use this public path; the defining modules may change.
for _name in __all__:
    if hasattr(globals()[_name], "__qualname__"):
        globals()[_name].__module__ = __name__
