"""The Fréchet distance between any two sources: features, statistics or images."""

from __future__ import annotations

from typing import Any

from fidfast._arguments import require_precision
from fidfast._inputs import open_input, open_pair
from fidfast._metrics.frechet import distance_of_inputs
from fidfast._sources import is_image_source
from fidfast._stats import NEGATIVE_TOLERANCE

__all__ = ["fid"]

_NAMES = ("features_a", "features_b")


def fid(
    features_a: Any, features_b: Any, *, precision: str | None = None, negative_tolerance: float = NEGATIVE_TOLERANCE
) -> float:
    """Fréchet distance between two sets of features or of images (the FID, for the 2015 Inception network).

    Parameters
    ----------
    features_a, features_b : array, tensor, Moments, GaussianStats or path
        (n, dim) features in float16, bfloat16, float32 or float64; or their moments or statistics; or a file with any
        of these; or a folder, or a pattern such as ``"shards/*.parquet"``, of files of features. Or images: a folder,
        ``.zip`` or ``.tar``, a ``.npz``, ``.npy`` or array of uint8 images, or another source that
        `fidfast.torch.fid_of_images` accepts.
    precision : {"float32", "float64"}, optional
        Arithmetic of products, as in `Moments`. By default "float32" for features, and "float64" for images, whose
        features usually take far longer than the products.
    negative_tolerance : float, default 1e-6
        As in `GaussianStats`, for files of statistics.

    Returns
    -------
    float
        Squared 2-Wasserstein distance between the Gaussians with the unbiased covariances of the two sets.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used; the message names it.
    FileNotFoundError
        If a path does not exist, or the weights of the Inception network can be neither found nor downloaded.
    ImportError
        If there are images, and torch or torch-fidelity is not installed.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.

    Notes
    -----
    Heusel et al. (2017). The value of a finite sample is biased upwards; compare equal numbers of samples. With at most
    `dim` samples it is mostly bias, which a number alone does not show: `frechet_terms` says so in its text, and
    `estimate` returns the bias.

    The features of images are those of the extractor of the statistics on the other side, if they name one, else those
    of "inception"; `fidfast.torch.fid_of_images` takes any other extractor, and all options.
    """
    of_features = require_precision("float32" if precision is None else precision)
    sources = dict(zip(_NAMES, (features_a, features_b), strict=True))
    with_images = [name for name, source in sources.items() if is_image_source(source)]
    if not with_images:
        both = open_pair(
            features_a, features_b, _NAMES, precision=of_features, rows=False, negative_tolerance=negative_tolerance
        )
        return distance_of_inputs(*both)
    try:
        from fidfast.torch._images.distances import distance_of_images
        from fidfast.torch._images.options import ImageOptions
    except ImportError as error:
        raise ImportError(
            f"{' and '.join(with_images)} hold{'s' * (len(with_images) == 1)} images, whose features need torch: "
            f"pip install 'fidfast[images]', or pass features or statistics ({error})"
        ) from error
    for name in sources.keys() - with_images:
        sources[name] = open_input(sources[name], name, precision=of_features, negative_tolerance=negative_tolerance)
    return distance_of_images(sources, None, None, None, ImageOptions(precision=precision))
