"""From images to moments, or to the features themselves."""

from __future__ import annotations

import functools
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler

from fidfast import _core
from fidfast._images import cache
from fidfast._images import Images, open_images
from fidfast._metrics.frechet import frechet_distance
from fidfast._stats.gaussian import GaussianStats
from fidfast._stats.moments import Moments
from fidfast.torch._extractors.extractors import as_extractor
from fidfast.torch._extractors.named import load_extractor
from fidfast.torch._images.extraction_run import Run, number_of, place_of

__all__ = [
    "ImageFeatures",
    "ImageMoments",
    "features_of_images",
    "fid_of_images",
    "moments_of_images",
    "stats_of_images",
]


class ImageMoments(NamedTuple):
    """What came of a set of images."""

    moments: Moments
    #: One message for each broken image that was left out; it begins with the image's name.
    skipped: list[str]


def moments_of_images(
    source: Any,
    extractor: Any,
    *,
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: torch.device | str | None = None,
    precision: str | None = None,
    compile: str | bool = "auto",
    moments_precision: str = "float32",
    blocks: int = 1,
    skip_broken: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    use_cache: bool = False,
    progress: bool = False,
) -> ImageMoments:
    """Moments of the features of images.

    Parameters
    ----------
    source : path, array, Images, torch Dataset or DataLoader
        A folder, ``.zip``, WebDataset ``.tar``, ``.npz`` or ``.npy`` of images; a (n, height, width, 3) uint8 array;
        or what yields images, or batches of them, as uint8 or as floats from 0 to 1 (a label beside is ignored).
    extractor : str, Extractor, callable or network
        A name for `load_extractor`, or anything that `as_extractor` takes.
    batch_size : int, optional
        Images at a time; 8 on CPUs, whose caches hold no more, and 128 on CUDA unless given.
    num_workers : int, optional
        Processes that decode and resize; `usual_workers` unless given, and none for few images.
    device : torch.device, optional
        CUDA where there is one, unless given.
    precision, compile
        Of the network, as in `prepare`; an extractor that is prepared already stays as it is.
    moments_precision : {"float32", "float64"}, default "float32"
        Of the moments, as in `Moments`.
    blocks : int, default 1
        As in `Moments`; from some 20 on, `estimate` tells the error bar.
    skip_broken : bool, default False
        Whether images that cannot be read are left out and listed, instead of stopping the run.
    checkpoint : path, optional
        A file to which the moments go once a minute, and from which an interrupted run goes on; removed at the end.
        It is refused for other images, another extractor's name or other weights. Of a torch Dataset or DataLoader only
        the length is compared, and of a callable that is no module only the name.
    use_cache : bool, default False
        Whether to look for the moments of the same images under the same extractor, and to keep them. Only for paths,
        and for extractors that `load_extractor` knows by name.
    progress : bool, default False
        Whether to show a bar, where standard error is a terminal.

    Returns
    -------
    ImageMoments

    Raises
    ------
    BrokenImageError
        If an image cannot be read; the message names it. A ValueError.
    FileNotFoundError, TypeError, ValueError
        If the source or the extractor is not usable.
    """
    extractor = load_extractor(extractor) if isinstance(extractor, str) else as_extractor(extractor)
    place = place_of(device)
    images, num_images = _opened(source, batch_size)
    if checkpoint is not None and isinstance(images, DataLoader) and not isinstance(images.sampler, SequentialSampler):
        raise ValueError("a run over a DataLoader without a fixed order cannot go on from a checkpoint")
    kept = None
    if use_cache and isinstance(images, Images) and extractor.reproducible:
        name = replace(extractor, precision=precision or extractor.precision).full_name
        kept = cache.path_of(images, f"{name} {moments_precision}" + (f" {blocks} blocks" if blocks > 1 else ""))
        if (found := _kept(kept)) is not None:
            if checkpoint is not None:
                Path(checkpoint).unlink(missing_ok=True)
            return ImageMoments(found, [])
    batch_size = batch_size or _usual_batch(place)
    extractor = extractor.prepared(precision, compile, num_images=num_images, batch_size=batch_size, device=place)
    empty = functools.partial(Moments, precision=moments_precision, extractor=extractor.full_name, blocks=blocks)
    run = Run(images, extractor, place, empty, Path(checkpoint) if checkpoint is not None else None)
    run.extract(batch_size, num_workers, skip_broken, _bar(num_images, progress))
    moments = run.collected()
    if kept is not None and not run.skipped:
        with suppress(OSError):  # a full or read-only disk costs time later, and nothing now
            kept.parent.mkdir(parents=True, exist_ok=True)
            moments.save(kept)
    return ImageMoments(moments, run.skipped)


class ImageFeatures(NamedTuple):
    """The features of a set of images themselves, for what needs more of them than their moments."""

    #: (n, dim) float32
    features: NDArray[np.float32]
    #: Names of the images behind the rows; their numbers where they have no names.
    names: list[str]
    #: One message for each broken image that was left out; it begins with the image's name.
    skipped: list[str]
    #: Name of the extractor, with resize and arithmetic.
    extractor: str
    #: Numbers of the images behind the rows, where broken ones were left out.
    places: list[int]


def features_of_images(
    source: Any,
    extractor: Any,
    *,
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: torch.device | str | None = None,
    precision: str | None = None,
    compile: str | bool = "auto",
    skip_broken: bool = False,
    progress: bool = False,
) -> ImageFeatures:
    """Features of images, for `estimate`, `influence` and all else that needs the rows; 4 bytes a number.

    Arguments and errors are those of `moments_of_images`.

    Returns
    -------
    ImageFeatures
    """
    extractor = load_extractor(extractor) if isinstance(extractor, str) else as_extractor(extractor)
    place = place_of(device)
    images, num_images = _opened(source, batch_size)
    batch_size = batch_size or _usual_batch(place)
    extractor = extractor.prepared(precision, compile, num_images=num_images, batch_size=batch_size, device=place)
    run = Run(images, extractor, place, lambda dim: _Rows(), None)
    run.extract(batch_size, num_workers, skip_broken, _bar(num_images, progress))
    features = np.concatenate(run.collected().rows)
    known = images.names if isinstance(images, Images) else None
    names = [str(number) if known is None else known[number] for number in run.places]
    return ImageFeatures(features, names, run.skipped, extractor.full_name, run.places)


class _Rows:
    """Collects features themselves."""

    def __init__(self) -> None:
        self.rows: list[NDArray[np.float32]] = []

    def update(self, features: torch.Tensor) -> None:
        _core.require_finite(features)
        self.rows.append(features.float().numpy())


def _opened(source: Any, batch_size: int | None) -> tuple[Any, int | None]:
    """Images in a form that a run takes, and how many there are where that is known."""
    images: Any = source if isinstance(source, (Images, Dataset, DataLoader)) else open_images(source)
    if isinstance(images, IterableDataset):
        images = DataLoader(images, batch_size or 8)
    return images, number_of(images.dataset if isinstance(images, DataLoader) else images)


def _usual_batch(place: torch.device) -> int:
    return 128 if place.type == "cuda" else 8


def stats_of_images(source: Any, extractor: Any, *, ddof: int = 1, **options: Any) -> GaussianStats:
    """Mean and covariance of the features of images; arguments as in `moments_of_images`, `ddof` as in `Moments`."""
    return moments_of_images(source, extractor, **options).moments.stats(ddof)


def fid_of_images(images_a: Any, images_b: Any, extractor: Any = "inception", **options: Any) -> float:
    """Fréchet distance between the features of two sets of images; the FID for the extractor "inception".

    Parameters
    ----------
    images_a, images_b
        Any source that `moments_of_images` takes, or `GaussianStats`.
    extractor : str, Extractor, callable or network, default "inception"
    **options
        As in `moments_of_images`, and `ddof`.

    Returns
    -------
    float
        As `fidfast.frechet_distance`.
    """
    extractor = load_extractor(extractor) if isinstance(extractor, str) else extractor
    sides = [
        side if isinstance(side, GaussianStats) else stats_of_images(side, extractor, **options)
        for side in (images_a, images_b)
    ]
    return frechet_distance(*sides)


def _kept(path: Path) -> Moments | None:
    try:
        return Moments.load(path)
    except (OSError, ValueError):
        return None


def _bar(total: int | None, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit=" images", smoothing=0.05, disable=not (progress and sys.stderr.isatty()))
