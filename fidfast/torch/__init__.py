"""Everything that needs torch: extractors, and the way from images to statistics.

>>> from fidfast.torch import fid_of_images, load_extractor
>>> fid_of_images("reference/", "samples/", load_extractor("efficientnet-lite0"))  # doctest: +SKIP
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("images need torch: pip install 'fidfast[images]'") from error

from fidfast.torch._extractors.extractors import Extractor, as_extractor, at_layer
from fidfast.torch._extractors.named import LIKE, Convention, load_extractor
from fidfast.torch._extractors.prepare import prepare
from fidfast.torch._extractors.resize import RESIZES, resize
from fidfast.torch._images.extraction import (
    ImageFeatures,
    ImageMoments,
    features_of_images,
    fid_of_images,
    moments_of_images,
    stats_of_images,
)
from fidfast.torch._training.distributed import all_reduce
from fidfast.torch._training.loss import FrechetLoss, frechet_loss
from fidfast.torch._training.metric import FrechetDistance
from fidfast.torch._training.running import FeatureQueue, MovingMoments

__all__ = [
    "LIKE",
    "RESIZES",
    "Convention",
    "Extractor",
    "FeatureQueue",
    "FrechetDistance",
    "FrechetLoss",
    "ImageFeatures",
    "ImageMoments",
    "MovingMoments",
    "all_reduce",
    "as_extractor",
    "at_layer",
    "features_of_images",
    "fid_of_images",
    "frechet_loss",
    "load_extractor",
    "moments_of_images",
    "prepare",
    "resize",
    "stats_of_images",
]
