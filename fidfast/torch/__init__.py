"""Extractors, features of images, and metrics and losses for training with torch.

>>> from fidfast.torch import fid_of_images, load_extractor
>>> fid_of_images("samples/", "reference/", load_extractor("efficientnet-lite0"))  # doctest: +SKIP
"""

import inspect as _inspect

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("fidfast.torch needs torch: pip install 'fidfast[images]'") from error

from fidfast._images import BrokenImageError, Images
from fidfast._network_table import FDR_DISTANCES, NETWORKS, PretrainedNetwork
from fidfast.torch._demo import DemoResult, GrowingSample, demo
from fidfast.torch._evaluation.evaluate import evaluate
from fidfast.torch._evaluation.result import Evaluation
from fidfast.torch._extractors.adapters import LayerFeatures, PooledFeatures, ScriptFeatures, as_extractor, at_layer
from fidfast.torch._extractors.conventions import LIKE, Convention
from fidfast.torch._extractors.efficientnet import PooledEfficientNet
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.inception import InceptionNetwork, ToFloat32
from fidfast.torch._extractors.named import extractor_names, load_extractor, load_extractors
from fidfast.torch._extractors.prepare import PreparedNetwork, prepare
from fidfast.torch._extractors.pretrained import PretrainedFeatures
from fidfast.torch._extractors.resize import RESIZES, resize
from fidfast.torch._images.checks import CheckedImages, check_images
from fidfast.torch._images.distances import estimate_of_images, fid_of_images
from fidfast.torch._images.extraction import (
    ImageFeatures,
    ImageMoments,
    features_of_images,
    moments_of_images,
    stats_by_extractor,
    stats_of_images,
)
from fidfast.torch._images.options import ImageOptions
from fidfast.torch._processes.reduction import all_reduce
from fidfast.torch._training.loss import FrechetLoss, frechet_loss
from fidfast.torch._training.metric import FrechetDistance
from fidfast.torch._training.running_stats import FeatureQueue, MovingMoments
from fidfast.torch._training.samples import features_of_samples, fid_of_samples, moments_of_samples

__all__ = [
    "FDR_DISTANCES",
    "LIKE",
    "NETWORKS",
    "RESIZES",
    "BrokenImageError",
    "CheckedImages",
    "Convention",
    "DemoResult",
    "Evaluation",
    "Extractor",
    "FeatureQueue",
    "FrechetDistance",
    "FrechetLoss",
    "GrowingSample",
    "ImageFeatures",
    "ImageMoments",
    "ImageOptions",
    "Images",
    "MovingMoments",
    "PretrainedNetwork",
    "all_reduce",
    "as_extractor",
    "at_layer",
    "check_images",
    "demo",
    "estimate_of_images",
    "evaluate",
    "extractor_names",
    "features_of_images",
    "features_of_samples",
    "fid_of_images",
    "fid_of_samples",
    "frechet_loss",
    "load_extractor",
    "load_extractors",
    "moments_of_images",
    "moments_of_samples",
    "prepare",
    "resize",
    "stats_by_extractor",
    "stats_of_images",
]

# Pickles and repr contain the public module. The classes that are not in __all__ are modules inside extractors.
_PICKLED = (
    InceptionNetwork,
    LayerFeatures,
    PooledEfficientNet,
    PooledFeatures,
    PreparedNetwork,
    PretrainedFeatures,
    ScriptFeatures,
    ToFloat32,
)
for _object in (*(globals()[_name] for _name in __all__), *_PICKLED):
    if _inspect.isclass(_object) or _inspect.isfunction(_object):
        _object.__module__ = __name__
