"""Moments, statistics, features and distances of sets of images."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import require_integer
from fidfast._files import npz_path
from fidfast._images import cache, warn_of_statistics
from fidfast._images.selection import unread_pictures
from fidfast._progress import progress_bar
from fidfast._results import Result
from fidfast._stats import GaussianStats, Moments
from fidfast._text import printable
from fidfast._warnings import warn_user
from fidfast.torch._extractors.conventions import convention_of
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._images.checkpoint import Checkpoint, kept_after_error, removed_after
from fidfast.torch._images.checks import check_images, prepared_for
from fidfast.torch._images.extraction_pass import ExtractionPass
from fidfast.torch._images.options import FeatureKeywords, ImageKeywords, ImageOptions, merge_options
from fidfast.torch._images.sources import ImageSource, open_source

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "ImageFeatures",
    "ImageMoments",
    "ddof_of",
    "features_of_images",
    "features_of_source",
    "moments_of_images",
    "moments_of_source",
    "stats_of_images",
    "warn_of_skipped",
]


class _ImageResult(Result):
    """What results on images say about their source, besides their fields."""

    #: Number of files of the source that are not read, by reason, each with an example: ``{".gif (a/b.gif)": 3}``.
    ignored: Mapping[str, int] = MappingProxyType({})
    #: Whether the result is from the cache.
    from_cache: bool = False

    def _describe_source(self, source: ImageSource, *, from_cache: bool = False) -> None:
        object.__setattr__(self, "ignored", {} if source.images is None else dict(source.images.ignored))
        object.__setattr__(self, "from_cache", from_cache)

    def _summary(self, num_samples: int, dim: int, extractor: str | None, skipped: list[str]) -> str:
        not_read = f", {sum(self.ignored.values())} files not read" if self.ignored else ""
        cached = ", from the cache" if self.from_cache else ""
        images = f"{num_samples} images ({len(skipped)} skipped{not_read})"
        return f"{images}, {dim} features of {printable(extractor or 'unknown')}{cached}"


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
    source : path, array, tensor, Images, Dataset, DataLoader, sequence or iterable
        A folder, ``.zip``, WebDataset ``.tar``, ``.npz`` or ``.npy`` of images; an array or tensor (n, height, width),
        (n, height, width, channels) or (n, channels, height, width), uint8 or floats from 0 to 1; a torch or Hugging
        Face dataset, a list, a generator or any other iterable of images or batches. An item may be an array, a tensor,
        a PIL image, a path, the bytes of an image file, a dictionary with one of these, or a tuple that contains one of
        these, such as (image, label).
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
        If an image cannot be read, or its features are NaN or infinite, and ``skip_broken`` is False; the message names
        the image. A ValueError.
    FileNotFoundError, PermissionError, TypeError, ValueError
        If an argument is invalid. Everything that can be known is checked before the network runs.

    Warns
    -----
    UserWarning
        If the file of the images also holds statistics, as ADM's reference batches do: those of more images.

    Examples
    --------
    >>> import fidfast.torch
    >>> moments, skipped = fidfast.torch.moments_of_images(
    ...     "samples/", "efficientnet-lite0", skip_broken=True
    ... )  # doctest: +SKIP
    """
    options = merge_options(options, keywords, "moments_of_images")
    warn_of_statistics(source)
    checked = check_images({"source": open_source(source, options)}, extractor, options=options, min_images=1)
    assert checked.extractor is not None
    found, checkpoint = moments_of_source(checked.sources["source"], checked.extractor, checked.options)
    if checkpoint is not None:
        checkpoint.remove()
    return found


def moments_of_source(
    source: Any, extractor: Extractor, options: ImageOptions
) -> tuple[ImageMoments, Checkpoint | None]:
    """Moments of a source that `check_images` has opened, and the checkpoint, for `removed_after`."""
    cached = None
    if options.use_cache and source.images is not None and extractor.reproducible:
        name = replace(extractor, dtype=options.dtype or extractor.dtype).full_name
        blocks = f" {options.blocks} blocks" if options.blocks > 1 else ""
        key = f"{name} {options.precision}{blocks}"
        cached = cache.cache_file(source.images, key, progress=options.progress is not False)
        if (moments := cache.load(cached, source.images)) is not None:
            checkpoint = None
            if options.checkpoint is not None and os.path.exists(npz_path(options.checkpoint)):
                checkpoint = _extraction_of(source, extractor, options).checkpoint
            with _progress(source, options, "from the cache", initial=source.length):
                result = ImageMoments(moments, [])
                result._describe_source(source, from_cache=True)
                return result, checkpoint
    extraction = _extraction_of(source, extractor, options)
    moments = extraction.run(functools.partial(_progress, source, options))
    with kept_after_error(extraction.checkpoint):
        if cached is not None and not extraction.skipped:
            cache.save(cached, moments, source.images)
        result = ImageMoments(moments, extraction.skipped)
        result._describe_source(source)
    return result, extraction.checkpoint


def _extraction_of(source: Any, extractor: Extractor, options: ImageOptions) -> ExtractionPass:
    """A pass that collects moments."""
    extractor, options = prepared_for(extractor, source.length, options)
    make_moments = functools.partial(
        Moments, precision=options.precision, extractor=extractor.full_name, blocks=options.blocks
    )
    return ExtractionPass(source, extractor, options, make_moments)


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
    options = replace(options, checkpoint=None, use_cache=False)
    checked = check_images({"source": open_source(source, options)}, extractor, options=options, min_images=1)
    assert checked.extractor is not None
    return features_of_source(checked.sources["source"], checked.extractor, checked.options)


def features_of_source(source: Any, extractor: Extractor, options: ImageOptions) -> ImageFeatures:
    """Features of a source that `check_images` has opened, with its extractor and options."""
    extractor, options = prepared_for(extractor, source.length, replace(options, checkpoint=None))
    extraction = ExtractionPass(source, extractor, options, lambda dim: _FeatureRows())
    features = np.concatenate(extraction.run(functools.partial(_progress, source, options)).batches)
    result = ImageFeatures(features, extraction.names, extraction.skipped, extractor.full_name, extraction.indices)
    result._describe_source(source)
    return result


def stats_of_images(
    source: Any,
    extractor: Any,
    *,
    ddof: int | None = None,
    like: str | None = None,
    options: ImageOptions | None = None,
    **keywords: Unpack[ImageKeywords],
) -> GaussianStats:
    """Mean and covariance of the features of images.

    Parameters
    ----------
    source, extractor
        As in `moments_of_images`.
    ddof : int, optional
        The covariance is the scatter divided by ``num_samples - ddof``. By default that of `like`, or 1.
    like : str, optional
        One of `LIKE`: the tool whose resize, pixel range and ddof are used. For the extractor "inception".
    options, **keywords
        As in `moments_of_images`.

    Returns
    -------
    GaussianStats

    Raises
    ------
    BrokenImageError, FileNotFoundError, TypeError, ValueError
        As `moments_of_images`.

    Warns
    -----
    UserWarning
        As `moments_of_images`, and if images were skipped.
    """
    options = merge_options(options, keywords, "stats_of_images")
    ddof = ddof_of(ddof, like)
    warn_of_statistics(source)
    checked = check_images(
        {"source": open_source(source, options)}, extractor, like=like, options=options, min_images=max(2, ddof + 1)
    )
    assert checked.extractor is not None
    found, checkpoint = moments_of_source(checked.sources["source"], checked.extractor, checked.options)
    with removed_after(checkpoint):
        warn_of_skipped(found, "source")
        return found.moments.stats(ddof=ddof)


def ddof_of(ddof: int | None, like: str | None) -> int:
    """The given ddof, or that of a tool, or 1."""
    if ddof is not None:
        return require_integer("ddof", ddof, 0)
    return 1 if like is None else convention_of(like).ddof


def warn_of_skipped(found: ImageMoments | ImageFeatures, name: str) -> None:
    """Warn of images that were skipped or are not read in a function whose result does not list them."""
    if found.skipped:
        images = "1 image" if len(found.skipped) == 1 else f"{len(found.skipped)} images"
        warn_user(f"{name}: skipped {images}; the first: {found.skipped[0]}")
    if unread := unread_pictures(found.ignored):
        reasons = ", ".join(f"{number} {reason}" for reason, number in unread.items())
        warn_user(f"{name}: not read: {reasons}")


class _FeatureRows:
    """Collector of the features themselves."""

    def __init__(self) -> None:
        self.batches: list[NDArray[np.float32]] = []

    def update(self, features: torch.Tensor) -> None:
        _core.require_finite(features)
        self.batches.append(features.float().numpy())


def _progress(source: Any, options: ImageOptions, note: str = "", *, initial: int = 0) -> AbstractContextManager[Any]:
    """The progress of a pass over images, of which `initial` are done; `note` is added to its label."""
    label = options.progress if isinstance(options.progress, str) else ""
    label = f"{label} ({note})" if label and note else label or note
    return progress_bar(source.length, options.progress is not False, label=label, initial=initial)
