"""Moments, statistics, features and distances of sets of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fidfast._arguments import require_integer
from fidfast._files import SourcePart
from fidfast._images import warn_of_statistics
from fidfast._images.selection import unread_pictures
from fidfast._parts import save_parts
from fidfast._stats import GaussianStats, Moments
from fidfast._warnings import warn_user
from fidfast.torch._extractors.conventions import convention_of
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._images.checkpoint import Checkpoint, removed_after
from fidfast.torch._images.checks import check_images, check_images_of_several
from fidfast.torch._images.collection import (
    Collection,
    ImageResult,
    Need,
    collect_of_source,
    describe_source,
    summary_of,
)
from fidfast.torch._images.options import FeatureKeywords, ImageKeywords, ImageOptions, merge_options, processes_of
from fidfast.torch._images.parts import moments_of_several, parts_of_source
from fidfast.torch._images.sources import open_source

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
    "names_of_extractors",
    "stats_by_extractor",
    "stats_of_collection",
    "stats_of_images",
    "warn_of_skipped",
]


class _PartOfSource(ImageResult):
    #: With the option `shard`, the part of the source, else empty.
    parts: Sequence[SourcePart] = ()


@dataclass(frozen=True, eq=False)
class ImageMoments(_PartOfSource):
    """Moments of the features of a set of images."""

    moments: Moments
    #: One message for each broken image that was skipped, beginning with the image's path.
    skipped: list[str]

    def __str__(self) -> str:
        moments = self.moments
        return summary_of(self, moments.num_samples, moments.dim, moments.extractor, self.skipped)

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
            **({"parts": [part.to_dict() for part in self.parts]} if self.parts else {}),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the moments and the part of the source that they are of, which `fidfast.merge_parts` checks.

        `fidfast.Moments.load` reads the moments.

        Parameters
        ----------
        path : path
            ``.npz`` is appended if the name does not end in it. The file is written atomically.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        save_parts(path, self.moments, self.parts)


@dataclass(frozen=True, eq=False)
class ImageFeatures(ImageResult):
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
        return summary_of(self, num_samples, dim, self.extractor, self.skipped)

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
    with processes_of(options):
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
    parts = parts_of_source(source, options)
    found, checkpoint = moments_of_several(source, [extractor], options)
    moments = found.parts[0].moments
    assert moments is not None
    result = ImageMoments(moments, found.skipped)
    describe_source(result, source, from_cache=found.from_cache)
    object.__setattr__(result, "parts", [replace(part, skipped=found.skipped) for part in parts])
    return result, checkpoint


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
    with processes_of(options):
        checked = check_images({"source": open_source(source, options)}, extractor, options=options, min_images=1)
        assert checked.extractor is not None
        return features_of_source(checked.sources["source"], checked.extractor, checked.options)


def features_of_source(source: Any, extractor: Extractor, options: ImageOptions) -> ImageFeatures:
    """Features of a source that `check_images` has opened, with its extractor and options."""
    found, _ = collect_of_source(source, [Need(extractor, rows=True)], replace(options, checkpoint=None))
    (part,) = found.parts
    assert part.rows is not None
    result = ImageFeatures(part.rows, found.names, found.skipped, part.extractor, found.indices)
    describe_source(result, source)
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
    with processes_of(options):
        warn_of_statistics(source)
        checked = check_images(
            {"source": open_source(source, options)}, extractor, like=like, options=options, min_images=max(2, ddof + 1)
        )
        assert checked.extractor is not None
        found, checkpoint = moments_of_source(checked.sources["source"], checked.extractor, checked.options)
        with removed_after(checkpoint):
            warn_of_skipped(found, "source")
            return found.moments.stats(ddof=ddof)


def stats_by_extractor(
    source: Any,
    extractors: Sequence[Any],
    *,
    ddof: int | None = None,
    like: str | None = None,
    options: ImageOptions | None = None,
    **keywords: Unpack[ImageKeywords],
) -> dict[str, GaussianStats]:
    """Mean and covariance of the features of several extractors, from one pass over images.

    Each image is decoded once, resized once for each distinct input size and resize, and extractors of one network,
    such as "inception" and "inception-spatial", run it once.

    Parameters
    ----------
    source
        As in `moments_of_images`.
    extractors : sequence of str, Extractor, callable or network
        Each as in `moments_of_images`.
    ddof : int, optional
        As in `stats_of_images`.
    like : str, optional
        One of `LIKE`, for the extractors of the Inception network that are given by name.
    options, **keywords
        As in `moments_of_images`. An image that is broken for one extractor is skipped for all.

    Returns
    -------
    dict of str to GaussianStats
        In the order of the extractors, by name: as given, or `Extractor.name`. `fidfast.save_stats` writes it to one
        file.

    Raises
    ------
    BrokenImageError, FileNotFoundError, TypeError, ValueError
        As `moments_of_images`, and if two extractors have the same name.

    Warns
    -----
    UserWarning
        As `moments_of_images`, and if images were skipped.
    """
    options = merge_options(options, keywords, "stats_by_extractor")
    ddof = ddof_of(ddof, like)
    with processes_of(options):
        warn_of_statistics(source)
        opened, networks, options = check_images_of_several(
            source, extractors, like=like, options=options, min_images=max(2, ddof + 1)
        )
        names = names_of_extractors(extractors, networks)
        found, checkpoint = moments_of_several(opened, networks, options)
        with removed_after(checkpoint):
            warn_of_skipped(found, "source")
            return stats_of_collection(found, names, ddof)


def names_of_extractors(given: Sequence[Any], networks: Sequence[Extractor]) -> list[str]:
    """The names under which the statistics of several extractors are stored; raises a ValueError if two are equal."""
    names = [one if isinstance(one, str) else network.name for one, network in zip(given, networks, strict=True)]
    for number, name in enumerate(names):
        if (first := names.index(name)) < number:
            raise ValueError(f"extractors[{first}] and extractors[{number}] have the same name {name!r}")
    return names


def stats_of_collection(found: Collection, names: Sequence[str], ddof: int) -> dict[str, GaussianStats]:
    """The statistics of a collection of moments, by the names of the extractors."""
    moments = [part.moments for part in found.parts]
    return {name: one.stats(ddof=ddof) for name, one in zip(names, moments, strict=True) if one is not None}


def ddof_of(ddof: int | None, like: str | None) -> int:
    """The given ddof, or that of a tool, or 1."""
    if ddof is not None:
        return require_integer("ddof", ddof, 0)
    return 1 if like is None else convention_of(like).ddof


def warn_of_skipped(found: ImageMoments | ImageFeatures | Collection, name: str) -> None:
    """Warn of images that were skipped or are not read in a function whose result does not list them."""
    if found.skipped:
        images = "1 image" if len(found.skipped) == 1 else f"{len(found.skipped)} images"
        warn_user(f"{name}: skipped {images}; the first: {found.skipped[0]}")
    if unread := unread_pictures(found.ignored):
        reasons = ", ".join(f"{number} {reason}" for reason, number in unread.items())
        warn_user(f"{name}: not read: {reasons}")
