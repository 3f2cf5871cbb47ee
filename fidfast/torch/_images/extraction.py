"""Moments, statistics, features and distances of sets of images."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler

from fidfast import _core
from fidfast._images import Images, cache, holds_images, open_images, warn_of_range
from fidfast._inputs import open_input
from fidfast._metrics.frechet import frechet_distance
from fidfast._progress import progress_bar
from fidfast._results import Result
from fidfast._stats import GaussianStats, Moments
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.named import open_extractor
from fidfast.torch._images.extraction_pass import ExtractionPass, length_of
from fidfast.torch._images.options import FeatureKeywords, ImageKeywords, ImageOptions, merge_options, resolve_device

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "ImageFeatures",
    "ImageMoments",
    "features_of_images",
    "fid_of_images",
    "moments_of_images",
    "stats_of_images",
]


class _ImageResult(Result):
    """What results on images say about their source, besides their fields."""

    #: Number of files of the source that are not read, by reason, each with an example: ``{".gif (a/b.gif)": 3}``.
    ignored: Mapping[str, int] = MappingProxyType({})
    #: Whether the result is from the cache.
    from_cache: bool = False

    def _describe_source(self, images: Any, *, from_cache: bool = False) -> None:
        ignored = images.ignored if isinstance(images, Images) else {}
        object.__setattr__(self, "ignored", dict(ignored))
        object.__setattr__(self, "from_cache", from_cache)

    def _summary(self, num_samples: int, dim: int, extractor: str | None, skipped: list[str]) -> str:
        not_read = f", {sum(self.ignored.values())} files not read" if self.ignored else ""
        cached = ", from the cache" if self.from_cache else ""
        images = f"{num_samples} images ({len(skipped)} skipped{not_read})"
        return f"{images}, {dim} features of {extractor or 'unknown'}{cached}"


@dataclass(frozen=True, eq=False)
class ImageMoments(_ImageResult):
    """Moments of the features of a set of images."""

    moments: Moments
    #: One message for each broken image that was skipped, beginning with the image's path.
    skipped: list[str]

    def __str__(self) -> str:
        moments = self.moments
        return self._summary(moments.num_samples, moments.dim, moments.extractor, self.skipped)

    def to_dict(self) -> dict[str, Any]:
        """Numbers that describe the moments, and `skipped`, in JSON types."""
        moments = self.moments
        return {
            "num_samples": moments.num_samples,
            "dim": moments.dim,
            "extractor": moments.extractor,
            "precision": moments.precision,
            "blocks": len(moments.blocks),
            "skipped": list(self.skipped),
            "ignored": dict(self.ignored),
            "from_cache": self.from_cache,
        }


@dataclass(frozen=True, eq=False)
class ImageFeatures(_ImageResult):
    """Features of a set of images, one row per image."""

    #: (n, dim) float32
    features: NDArray[np.float32]
    #: Name of the image of each row; its index if the images have no names.
    names: list[str]
    #: One message for each broken image that was skipped, beginning with the image's path.
    skipped: list[str]
    #: Name of the extractor, with resize and arithmetic.
    extractor: str
    #: Index of the image of each row among all images, including broken ones.
    indices: list[int]

    def __str__(self) -> str:
        num_samples, dim = self.features.shape
        return self._summary(num_samples, dim, self.extractor, self.skipped)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the features, whose shape is `num_samples` and `dim`, in JSON types."""
        num_samples, dim = self.features.shape
        return {
            "num_samples": num_samples,
            "dim": dim,
            "extractor": self.extractor,
            "names": list(self.names),
            "indices": list(self.indices),
            "skipped": list(self.skipped),
            "ignored": dict(self.ignored),
        }


def moments_of_images(
    source: Any, extractor: Any, *, options: ImageOptions | None = None, **keywords: Unpack[ImageKeywords]
) -> ImageMoments:
    """Moments of the features of images.

    Parameters
    ----------
    source : path, array, Images, torch Dataset or DataLoader
        A folder, ``.zip``, WebDataset ``.tar``, ``.npz`` or ``.npy`` of images; an (n, height, width, 3) uint8 array;
        or a dataset or loader of images or batches, uint8 or floats from 0 to 1 (labels are ignored).
    extractor : str, Extractor, callable or network
        A name for `load_extractor`, or anything that `as_extractor` accepts.
    options : ImageOptions, optional
    **keywords
        Fields of `ImageOptions`, which have precedence over `options`.

    Returns
    -------
    ImageMoments

    Raises
    ------
    BrokenImageError
        If an image cannot be read and ``skip_broken`` is False; the message names the image. A ValueError.
    FileNotFoundError, TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fidfast.torch
    >>> moments, skipped = fidfast.torch.moments_of_images(
    ...     "samples/", "efficientnet-lite0", skip_broken=True
    ... )  # doctest: +SKIP
    """
    options = merge_options(options, keywords, "moments_of_images")
    extractor = open_extractor(extractor)
    images = _open(source, options)
    if (
        options.checkpoint is not None
        and isinstance(images, DataLoader)
        and not isinstance(images.sampler, SequentialSampler)
    ):
        raise ValueError("checkpoint needs a fixed order of images, but the DataLoader shuffles: pass shuffle=False")
    cached = None
    if options.use_cache and isinstance(images, Images) and extractor.reproducible:
        name = replace(extractor, dtype=options.dtype or extractor.dtype).full_name
        blocks = f" {options.blocks} blocks" if options.blocks > 1 else ""
        cached = cache.cache_file(images, f"{name} {options.precision}{blocks}", progress=options.progress is not False)
        if (moments := cache.load(cached, images)) is not None:
            if options.checkpoint is not None:
                Path(options.checkpoint).unlink(missing_ok=True)
            result = ImageMoments(moments, [])
            result._describe_source(images, from_cache=True)
            with _progress(images, options, "from the cache", initial=len(images)):
                return result
    extractor, options = _prepare(extractor, images, options)
    make_moments = functools.partial(
        Moments, precision=options.precision, extractor=extractor.full_name, blocks=options.blocks
    )
    extraction = ExtractionPass(images, extractor, options, make_moments)
    moments = extraction.run(functools.partial(_progress, images, options))
    if cached is not None and not extraction.skipped:
        cache.save(cached, moments, images)
    result = ImageMoments(moments, extraction.skipped)
    result._describe_source(images)
    return result


def features_of_images(
    source: Any, extractor: Any, *, options: ImageOptions | None = None, **keywords: Unpack[FeatureKeywords]
) -> ImageFeatures:
    """Features of images, for functions that need them row by row, such as `estimate` and `kid`.

    Parameters
    ----------
    source, extractor
        As in `moments_of_images`.
    options : ImageOptions, optional
        The fields that concern moments (`precision`, `blocks`, `checkpoint`, `use_cache`) are not used.
    **keywords
        The other fields of `ImageOptions`, which have precedence over `options`.

    Returns
    -------
    ImageFeatures
        Its features take 4 bytes per number.

    Raises
    ------
    BrokenImageError, FileNotFoundError, TypeError, ValueError
        As `moments_of_images`.
    """
    options = merge_options(options, keywords, "features_of_images", moments=False)
    options = replace(options, checkpoint=None)
    extractor, images = open_extractor(extractor), _open(source, options)
    extractor, options = _prepare(extractor, images, options)
    extraction = ExtractionPass(images, extractor, options, lambda dim: _FeatureRows())
    features = np.concatenate(extraction.run(functools.partial(_progress, images, options)).batches)
    names = images.names if isinstance(images, Images) else None
    row_names = [str(index) if names is None else names[index] for index in extraction.indices]
    result = ImageFeatures(features, row_names, extraction.skipped, extractor.full_name, extraction.indices)
    result._describe_source(images)
    return result


def stats_of_images(
    source: Any,
    extractor: Any,
    *,
    ddof: int = 1,
    options: ImageOptions | None = None,
    **keywords: Unpack[ImageKeywords],
) -> GaussianStats:
    """Mean and covariance of the features of images.

    Parameters
    ----------
    source, extractor
        As in `moments_of_images`.
    ddof : int, default 1
        The covariance is the scatter divided by ``num_samples - ddof``.
    options, **keywords
        As in `moments_of_images`.

    Returns
    -------
    GaussianStats

    Raises
    ------
    BrokenImageError, FileNotFoundError, TypeError, ValueError
        As `moments_of_images`.
    """
    options = merge_options(options, keywords, "stats_of_images")
    return moments_of_images(source, extractor, options=options).moments.stats(ddof=ddof)


def fid_of_images(
    samples: Any,
    reference: Any,
    extractor: Any = "inception",
    *,
    ddof: int = 1,
    options: ImageOptions | None = None,
    **keywords: Unpack[ImageKeywords],
) -> float:
    """Fréchet distance between the features of two sets of images; the FID for the extractor "inception".

    Parameters
    ----------
    samples, reference
        Any source that `moments_of_images` accepts; or a file of statistics, features or moments, `GaussianStats` or
        `Moments`.
    extractor : str, Extractor, callable or network, default "inception"
        As in `moments_of_images`. Not loaded if neither side has images.
    ddof : int, default 1
        The covariances are the scatters divided by ``num_samples - ddof``. Statistics keep their own.
    options : ImageOptions, optional
    **keywords
        Fields of `ImageOptions`, which have precedence over `options`. A `checkpoint` is rejected, since there are two
        passes over images: save the moments with `moments_of_images` instead.

    Returns
    -------
    float
        As `fidfast.frechet_distance`; never negative.

    Raises
    ------
    BrokenImageError, FileNotFoundError, TypeError, ValueError
        As `moments_of_images`.
    """
    options = merge_options(options, keywords, "fid_of_images")
    if options.checkpoint is not None:
        raise ValueError("checkpoint applies to one set of images: call moments_of_images for each of the two")
    sources = {"samples": samples, "reference": reference}
    # Files are opened first, so that their errors are raised before the network runs.
    opened = {
        name: open_input(source, name, precision=options.precision)
        for name, source in sources.items()
        if not _is_image_source(source)
    }
    if len(opened) < len(sources):
        extractor = open_extractor(extractor)
    stats = [
        opened[name].stats_with(ddof=ddof)
        if name in opened
        else stats_of_images(source, extractor, ddof=ddof, options=options)
        for name, source in sources.items()
    ]
    return frechet_distance(*stats)


def _is_image_source(source: Any) -> bool:
    """Whether the source is not statistics, moments or a file of them or of features."""
    if isinstance(source, (str, os.PathLike)):
        return not Path(source).exists() or holds_images(source)
    return not isinstance(source, (GaussianStats, Moments))


class _FeatureRows:
    """Collector of the features themselves."""

    def __init__(self) -> None:
        self.batches: list[NDArray[np.float32]] = []

    def update(self, features: torch.Tensor) -> None:
        _core.require_finite(features)
        self.batches.append(features.float().numpy())


def _open(source: Any, options: ImageOptions) -> Any:
    """The images as an `Images`, Dataset of known length or DataLoader."""
    if isinstance(source, (Images, Dataset, DataLoader)):
        images: Any = source
    else:
        images = open_images(source, suffix=options.suffix, max_value=options.max_value, max_pixels=options.max_pixels)
    if isinstance(images, Images):
        warn_of_range(images)
    return DataLoader(images, options.batch_size or 8) if isinstance(images, IterableDataset) else images


def _num_images(images: Any) -> int | None:
    return length_of(images.dataset if isinstance(images, DataLoader) else images)


def _progress(images: Any, options: ImageOptions, note: str = "", *, initial: int = 0) -> AbstractContextManager[Any]:
    """The progress of a pass over images, of which `initial` are done; `note` is added to its label."""
    label = options.progress if isinstance(options.progress, str) else ""
    label = f"{label} ({note})" if label and note else label or note
    return progress_bar(_num_images(images), options.progress is not False, label=label, initial=initial)


def _prepare(extractor: Extractor, images: Any, options: ImageOptions) -> tuple[Extractor, ImageOptions]:
    """The extractor ready for these images, and the options with device and batch size."""
    device = resolve_device(options.device)
    batch_size = options.batch_size or (128 if device.type == "cuda" else 8)
    extractor = extractor.prepared(
        dtype=options.dtype,
        compile=options.compile,
        num_images=_num_images(images),
        batch_size=batch_size,
        device=device,
    )
    return extractor, replace(options, device=device, batch_size=batch_size)
