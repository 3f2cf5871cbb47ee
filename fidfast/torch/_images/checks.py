"""Checks of everything that can be known before a network processes the images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fidfast._arguments import require_bool, require_instance, require_integer, require_mapping, shape_of_array
from fidfast._images import BrokenImageError, warn_of_frames, warn_of_range
from fidfast._inputs import Input, open_input, require_same_dim, warn_of_extractors
from fidfast._results import Result
from fidfast._sources import is_image_source
from fidfast._stats import GaussianStats, Moments
from fidfast.torch._extractors.conventions import convention_of
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.inception import INCEPTION_OUTPUTS
from fidfast.torch._extractors.named import load_extractor, name_of_extractor, open_extractor, open_extractors
from fidfast.torch._extractors.stored import extractor_of_statistics
from fidfast.torch._images.batches import DecodedImage, Decoder, features_of_batch
from fidfast.torch._images.checkpoint import check_checkpoint
from fidfast.torch._images.options import ImageOptions, check_device, processes_of, resolve_device
from fidfast.torch._images.sources import ImageSource, open_source
from fidfast.torch._processes.reduction import rank_and_size

__all__ = [
    "CheckedExtractors",
    "CheckedImages",
    "check_images",
    "check_images_of_several",
    "dim_of_image",
    "first_image",
    "is_source_of_images",
    "open_images_of",
    "prepared_for",
    "require_order",
]


#: If these cannot be read, and broken images are skipped, the first batch is not checked further.
_FIRST_IMAGES = 10


class CheckedImages(NamedTuple):
    """What `check_images` has opened."""

    #: By name of the argument: opened images, or opened features, moments or statistics.
    sources: dict[str, ImageSource | Input]
    #: None if no source holds images.
    extractor: Extractor | None
    #: The options, with the arithmetic of the extractor.
    options: ImageOptions


def check_images(
    sources: Mapping[str, Any],
    extractor: Any = None,
    *,
    like: str | None = None,
    options: ImageOptions | None = None,
    min_images: int = 2,
    rows: bool = False,
) -> CheckedImages:
    """Open the arguments of a function of images, and raise every error that can be found before the network runs.

    Parameters
    ----------
    sources : mapping
        One or two sources by the name of the argument: images as in `moments_of_images`, features, moments, statistics,
        or a path of any of these.
    extractor : str, Extractor, callable or network, optional
        By default that of the statistics, if one of the sources has a name that `load_extractor` can load, else
        "inception".
    like : str, optional
        One of `LIKE`, for the extractor "inception".
    options : ImageOptions, optional
    min_images : int, default 2
        Smallest number of images of each source.
    rows : bool, default False
        Whether images and features have precedence over statistics in the same file.

    Returns
    -------
    CheckedImages
        `moments_of_images` and `features_of_images` accept its sources and its extractor.

    Raises
    ------
    FileNotFoundError
        If a path, or the folder of the checkpoint, does not exist.
    PermissionError, IsADirectoryError, OSError
        If the checkpoint cannot be written.
    BrokenImageError
        If the first image of a source cannot be read and ``skip_broken`` is False.
    TypeError, ValueError, ImportError
        If an argument is invalid: an unknown device or resize, too few images, statistics of another dim than that of
        the extractor, statistics of an unknown extractor while none is given.

    Warns
    -----
    UserWarning
        If the sources have different extractors.
    """
    options = ImageOptions() if options is None else require_instance("options", options, ImageOptions)
    require_mapping("sources", sources)
    min_images, rows = require_integer("min_images", min_images, 1), require_bool("rows", rows)
    check_device(options.device)
    _check_checkpoint(options)
    if like is not None:
        convention_of(like)
    if like is not None and not (extractor is None or (isinstance(extractor, str) and extractor in INCEPTION_OUTPUTS)):
        name = extractor if isinstance(extractor, str) else type(extractor).__name__
        raise ValueError(f"like is an option of the extractor inception, not of {name}")
    opened: dict[str, ImageSource | Input] = {}
    for name, source in sources.items():
        if is_source_of_images(source, rows=rows):
            opened[name] = open_images_of(source, name, options, min_images)
        else:
            asked = name_of_extractor(extractor)
            opened[name] = open_input(source, name, precision=options.precision_of_rows, extractor=asked, rows=rows)
    files = [source for source in opened.values() if isinstance(source, Input)]
    images = {name: source for name, source in opened.items() if isinstance(source, ImageSource)}
    dims = [file.dim for file in files]  # raises if a file cannot be used
    if len(files) == 2:
        require_same_dim(dims[0], dims[1], files[0].name, files[1].name)
        warn_of_extractors(*files)
    if not images:
        return CheckedImages(opened, None, options)
    first = None
    for name, source in images.items():
        first = _checked_first_image(source, name, options)
    with processes_of(options) as ranks, ranks.after_first_of_machine():
        network, options = _open_extractor(extractor, like, files, options)
    name_of_network = replace(network, dtype=options.dtype or network.dtype).full_name
    if files:
        warn_of_extractors(
            *(side if isinstance(side, Input) else Input("", extractor=name_of_network) for side in opened.values())
        )
    for file in files:
        if network.num_features is not None:
            _require_dim(file, network, network.num_features)
    if options.use_cache and network.reproducible:
        return CheckedImages(opened, network, options)  # not prepared, since the moments may be in the cache
    lengths = [source.length for source in images.values() if source.length is not None]
    (network,), options = prepared_for([network], sum(lengths) if len(lengths) == len(images) else None, options)
    if files and network.num_features is None and first is not None:
        _require_dim(files[0], network, dim_of_image(network, first, options))
    return CheckedImages(opened, network, options)


class CheckedExtractors(NamedTuple):
    """What `check_images_of_several` has opened, for `collect_of_source`."""

    source: ImageSource
    extractors: list[Extractor]
    #: The options, with the device and the batch size if the extractors are prepared.
    options: ImageOptions


def check_images_of_several(
    source: Any, extractors: Any, *, like: str | None = None, options: ImageOptions, min_images: int = 2
) -> CheckedExtractors:
    """Open images and extractors, and raise every error that can be found before the networks run.

    Parameters
    ----------
    source
        Images as in `moments_of_images`.
    extractors : sequence
        Each as in `check_images`.
    like, options, min_images
        As in `check_images`.
    """
    check_device(options.device)
    _check_checkpoint(options)
    opened = open_images_of(source, "source", options, min_images)
    _checked_first_image(opened, "source", options)
    with processes_of(options) as ranks, ranks.after_first_of_machine():
        networks = open_extractors(extractors, like=like)
    if not (options.use_cache and all(network.reproducible for network in networks)):
        networks, options = prepared_for(networks, opened.length, options)
    return CheckedExtractors(opened, networks, options)


def _check_checkpoint(options: ImageOptions) -> None:
    if options.checkpoint is not None:
        with processes_of(options) as ranks:
            check_checkpoint(options.checkpoint, ranks)


def require_order(source: ImageSource, name: str, options: ImageOptions) -> None:
    """Raise a ValueError if the options need images in a fixed order, and the source has none."""
    if options.checkpoint is not None and source.unordered is not None:
        raise ValueError(f"checkpoint needs a fixed order of images, but {source.unordered}")
    if options.distributed and (source.unordered is not None or source.length is None):
        reason = source.unordered or f"the number of {name} is unknown: pass a path, a list or a Dataset"
        raise ValueError(f"distributed=True needs a fixed order of images, but {reason}")


def _checked_first_image(source: ImageSource, name: str, options: ImageOptions) -> DecodedImage | None:
    """As `first_image`, if the source has the order that the options need."""
    require_order(source, name, options)
    return first_image(source, name, options)


def is_source_of_images(source: Any, *, rows: bool = False) -> bool:
    """Whether an argument of a function of images holds images, unlike features, moments or statistics."""
    if isinstance(source, ImageSource) or is_image_source(source, rows=rows):
        return True
    if isinstance(source, (str, os.PathLike)):
        return not Path(source).exists()  # opening it raises the error
    if isinstance(source, (Input, Moments, GaussianStats, Mapping, Result)) or source is None:
        return False
    if hasattr(source, "__array__"):
        return len(shape_of_array(source)) in (1, 3)
    is_pair = isinstance(source, (list, tuple)) and len(source) > 0 and len(getattr(source[0], "shape", ())) == 1
    return not is_pair  # else mu and sigma


def prepared_for(
    extractors: Sequence[Extractor], num_images: int | None, options: ImageOptions
) -> tuple[list[Extractor], ImageOptions]:
    """The extractors ready for this number of images of all processes, and the options with device and batch size.

    Extractors that share a network share the prepared one.
    """
    device = resolve_device(options.device)
    if num_images is not None:
        num_images //= rank_and_size(options.group, options.distributed)[1]
    batch_size = options.batch_size or (128 if device.type == "cuda" else 8)
    ready: dict[tuple[int, bool], Extractor] = {}
    for extractor in extractors:
        if (key := (id(extractor.model), extractor.takes_uint8)) not in ready:
            ready[key] = extractor.prepared(
                dtype=options.dtype,
                compile=options.compile,
                num_images=num_images,
                batch_size=batch_size,
                device=device,
            )
    shared = [ready[id(extractor.model), extractor.takes_uint8] for extractor in extractors]
    prepared = [
        replace(extractor, model=one.model, dtype=one.dtype) for extractor, one in zip(extractors, shared, strict=True)
    ]
    return prepared, replace(options, device=device, batch_size=batch_size)


def open_images_of(source: Any, name: str, options: ImageOptions, min_images: int) -> ImageSource:
    """Open the images of an argument; warn of their range and frames.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If they cannot be opened, or there are fewer than `min_images`.
    """
    opened = open_source(source, options, name=name)
    for warn in (warn_of_range, warn_of_frames):
        if opened.images is not None:
            warn(opened.images, opened.images.decoding, opened.images.origin)
        elif isinstance(opened.indexed, (list, tuple)) or hasattr(opened.indexed, "__array__"):
            warn(opened.indexed, options.decoding, name)
    length = opened.complete.length  # a part may be empty
    if length is None:  # at least the first images of a stream can be counted
        try:
            opened.read(min_images - 1)
        except IndexError:
            length = sum(1 for _ in opened.stream())
    if length == 0:
        raise ValueError(f"{name}: there are no images")
    if length is not None and length < min_images:
        raise ValueError(f"{name}: a covariance needs at least {min_images} images, got {length}")
    return opened


def _open_extractor(
    extractor: Any, like: str | None, files: list[Input], options: ImageOptions
) -> tuple[Extractor, ImageOptions]:
    if extractor is not None and like is None:
        return open_extractor(extractor), options
    try:
        for file in files:
            if file.extractor is not None and like is None:
                found, dtype = extractor_of_statistics(file.extractor, file.name)
                return found, replace(options, dtype=options.dtype or dtype)
        return load_extractor(extractor or "inception", like=like), options
    except FileNotFoundError as error:
        hint = "or choose another network: fidfast.torch.fid_of_images(samples, reference, 'efficientnet-lite0')"
        raise FileNotFoundError(f"{error}; {hint}") from error
    except ImportError as error:
        if "pip install" in str(error):
            raise
        raise ImportError(
            f"the extractor inception needs torch-fidelity: pip install 'fidfast[images]' ({error})"
        ) from error


def first_image(source: ImageSource, name: str, options: ImageOptions) -> DecodedImage | None:
    """The first image of the source that can be read; None if none of the first ones can.

    Raises
    ------
    BrokenImageError, TypeError
        If the first image cannot be read and broken images are not skipped.
    """
    decoder = Decoder([None], options.image_key, options.decoding)
    for index in range(_FIRST_IMAGES):
        if source.indexed is None:
            try:
                item = source.read(index)
            except IndexError:
                return None
            image = decoder(lambda: item, source.first + index)  # noqa: B023
        elif index == source.length:
            return None
        else:
            path = None if source.images is None else source.images.names[index]
            image = decoder(lambda: source.read(index), source.first + index, path)  # noqa: B023
        if image.broken is None:
            return image
        if not options.skip_broken:
            message = image.broken if image.name is not None or name == "source" else f"{name}: {image.broken}"
            raise (TypeError if type(image.cause) is TypeError else BrokenImageError)(message) from image.cause
    return None


def dim_of_image(network: Extractor, image: DecodedImage, options: ImageOptions) -> int:
    """Number of features that a prepared network computes of an image that is not broken."""
    assert image.pixels is not None
    pixels = image.pixels[0].round().to(torch.uint8)[None]
    return int(features_of_batch(network, pixels, resolve_device(options.device)).shape[1])


def _require_dim(file: Input, extractor: Extractor, dim: int) -> None:
    if dim != file.dim:
        raise ValueError(
            f"{file.name} has dim {file.dim}, but the extractor {extractor.name} has dim {dim}: "
            f"pass the extractor that computed {file.name}"
        )
