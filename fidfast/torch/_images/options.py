"""Options of the functions that compute features of images."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

import torch

from fidfast._arguments import (
    MAX_BLOCKS,
    optional,
    require_bool,
    require_choice,
    require_integer,
    require_path,
    require_precision,
    require_text,
)
from fidfast._images.decode import Decoding
from fidfast._images.selection import as_suffixes
from fidfast._shards import Shard
from fidfast.torch._extractors.devices import check_device, resolve_device
from fidfast.torch._processes.ranks import Ranks, require_group, sharing

__all__ = [
    "FeatureKeywords",
    "ImageKeywords",
    "ImageOptions",
    "check_device",
    "default_num_workers",
    "merge_options",
    "processes_of",
    "resolve_device",
    "with_label",
]


class FeatureKeywords(TypedDict, total=False):
    """Types of the keyword arguments of `features_of_images`: the fields of `ImageOptions` that it uses."""

    batch_size: int | None
    num_workers: int | None
    device: torch.device | str | None
    dtype: str | None
    compile: str | bool
    image_key: str | None
    skip_broken: bool
    suffix: str | Sequence[str] | None
    max_value: float | None
    max_pixels: int | None
    progress: bool | str
    distributed: bool
    group: Any


class ImageKeywords(FeatureKeywords, total=False):
    """Types of the keyword arguments of the other functions: all fields of `ImageOptions`."""

    precision: str | None
    blocks: int
    checkpoint: str | os.PathLike[str] | None
    use_cache: bool
    shard: str | None


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Options of `moments_of_images`, `stats_of_images`, `features_of_images` and `fid_of_images`.

    These functions accept an `ImageOptions`, the fields as keyword arguments, or both; keyword arguments have
    precedence.

    Parameters
    ----------
    batch_size : int, optional
        Images per batch. By default 8 on CPUs, so that a batch fits in the cache, and 128 on CUDA.
    num_workers : int, optional
        Number of processes that decode and resize. By default up to 8 with CUDA, and on CPUs the number of cores minus
        2, at most 2; 0 for few images.
    device : torch.device, optional
        Device of the network. By default CUDA if available.
    dtype : {"float32", "bfloat16"}, optional
        Arithmetic of the network, as in `prepare`. By default "float32", or that of a prepared extractor.
    compile : {"auto", True, False}, default "auto"
        Whether to compile the network, as in `prepare`.
    precision : {"float32", "float64"}, optional
        Arithmetic of products, as in `fidfast.Moments`. By default "float64" for the moments of images, whose features
        usually take far longer than the products, and "float32" for given features and for metrics of rows. Not used by
        `features_of_images`.
    blocks : int, default 1
        Number of blocks of the moments, as in `fidfast.Moments`; with 20 or more, `fidfast.estimate` can compute an
        error bar. Not used by `features_of_images`.
    image_key : str, optional
        Key of the image, if items are dictionaries: the column of a Hugging Face dataset, the suffix of a WebDataset
        sample. By default the only key that is usual for images ("image", "img", "pixel_values", "jpg", "png", ...), or
        else the only entry that is an image.
    skip_broken : bool, default False
        Whether to skip and list images that cannot be read, or whose features are NaN or infinite. By default they
        raise an error.
    suffix : str or sequence of str, optional
        In folders and archives, only the files with these suffixes; several are separated by commas. The suffix of a
        file is what follows the first dot of its name: "jpg" for ``0001.jpg``, "mask.png" for ``0001.mask.png``. If no
        file has one of the suffixes, names that end with one are meant. Also reads image formats that are not read by
        default, for example "jpg,jfif,gif" (the first frame). By default all images; of a ``.tar`` one image per
        sample, and "*" for all.
    max_value : float, optional
        Value of white in images with more than 8 bits per pixel: 255, 1023 or 4095 if 16-bit files hold 8, 10 or 12
        bits, 1.0 for floats from 0 to 1. Larger values are an error. By default 65,535 for integers; floating point
        files need it. Does not apply to colour of 16 bits per channel, of which Pillow reads the upper 8 bits.
    max_pixels : int, optional
        Largest number of pixels (height times width) of an image that is decoded. By default Pillow's limit against
        decompression bombs, 178,956,970.
    checkpoint : path, optional
        File to which the moments are written once a minute (less often if that takes more than 2 s) and after any
        error, and from which the same call continues with identical results; removed when the function returns. If it
        cannot be written during the run, a warning says so. A file that is not a checkpoint, and a checkpoint of other
        images, of other options that change pixels, or of an extractor with another name, structure, weights or code,
        is rejected and stays as it is. Of paths, arrays and lists of images the bytes are compared; of a torch Dataset
        or DataLoader only the length. Sources without a fixed order (iterables, a DataLoader that shuffles) are
        rejected. Not used by `features_of_images`.
    use_cache : bool, default False
        Whether to cache the moments, keyed by the bytes of the images and the extractor. Only for paths, and for
        extractors that `load_extractor` loads by name. Not used by `features_of_images`.
    shard : str, optional
        Part ``"K/N"`` of the source, K from 1 to N: the n images from ``n * (K - 1) // N`` to ``n * K // N`` in their
        fixed order. `ImageMoments.save` writes the moments of a part, and `fidfast.merge_parts` merges all of them. By
        default all images. Only for `moments_of_images`, since statistics and distances of parts cannot be merged.
    progress : bool or str, default False
        Whether to show progress on standard error: a bar on a terminal or in a notebook, else a line every 30 seconds.
        A string is its label.
    distributed : bool, default False
        Whether all processes of a process group make the call and share the images: each runs the extractor on
        consecutive images, and all return the same result, that of all images. docs/torchrun.md describes it.
    group : torch.distributed.ProcessGroup, optional
        The processes that share the images, with ``distributed=True``. By default the default group.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    batch_size: int | None = None
    num_workers: int | None = None
    device: torch.device | str | None = None
    dtype: str | None = None
    compile: str | bool = "auto"
    image_key: str | None = None
    precision: str | None = None
    blocks: int = 1
    skip_broken: bool = False
    suffix: str | Sequence[str] | None = None
    max_value: float | None = None
    max_pixels: int | None = None
    checkpoint: str | os.PathLike[str] | None = None
    use_cache: bool = False
    shard: str | None = None
    progress: bool | str = False
    distributed: bool = False
    group: Any = None

    @property
    def precision_of_moments(self) -> str:
        """Arithmetic of the moments of images."""
        return self.precision or "float64"

    @property
    def precision_of_rows(self) -> str:
        """Arithmetic of given features, and of metrics of rows."""
        return self.precision or "float32"

    @property
    def decoding(self) -> Decoding:
        """How files become pixels."""
        return Decoding(self.max_value, self.max_pixels)

    def __post_init__(self) -> None:
        as_suffixes(self.suffix)
        Decoding(self.max_value, self.max_pixels)
        for name, least, most in (("batch_size", 1, 2**31), ("num_workers", 0, 1024), ("blocks", 1, MAX_BLOCKS)):
            optional(require_integer, name, getattr(self, name), least, most)
        require_integer("blocks", self.blocks)
        if self.precision is not None:
            require_precision(self.precision)
        optional(require_text, "image_key", self.image_key)
        optional(require_path, "checkpoint", self.checkpoint)
        if self.shard is not None:
            Shard.from_text("shard", self.shard)
        for name in ("skip_broken", "use_cache", "distributed"):
            require_bool(name, getattr(self, name))
        require_group(self.distributed, self.group)
        if not isinstance(self.progress, str):
            require_bool("progress", self.progress)
        for name, choices in (
            ("dtype", (None, "float32", "bfloat16")),
            ("compile", ("auto", True, False)),
        ):
            require_choice(name, getattr(self, name), choices)


def processes_of(options: ImageOptions) -> AbstractContextManager[Ranks]:
    """The processes that share the images of a call, as `sharing`."""
    return sharing(options.distributed, options.group)


def with_label(options: ImageOptions, name: str) -> ImageOptions:
    """The options with the name of an argument as the label of its progress, unless there is a label."""
    return replace(options, progress=name) if options.progress is True else options


def merge_options(
    options: ImageOptions | None, keywords: Mapping[str, Any], function: str, *, moments: bool = True
) -> ImageOptions:
    """Return the options, with fields overridden by the keyword arguments of a function.

    Raises
    ------
    TypeError
        If `options` is not an ImageOptions, or a keyword is not the name of a field that the function uses; the
        message names the most similar field.
    ValueError
        If there is a shard, and the function is not `moments_of_images`.
    """
    if not isinstance(options, (ImageOptions, type(None))):
        raise TypeError(f"options must be an ImageOptions, got {type(options).__name__}")
    names = [field.name for field in fields(ImageOptions) if moments or field.name in FeatureKeywords.__annotations__]
    for keyword in keywords:
        if keyword not in names:
            similar = difflib.get_close_matches(keyword, names, n=1)
            hint = f"; did you mean {similar[0]!r}?" if similar else f"; its options are {', '.join(names)}"
            raise TypeError(f"{function} got an unexpected keyword argument {keyword!r}{hint}")
    merged = replace(options or ImageOptions(), **keywords)
    if merged.shard is not None and function != "moments_of_images":
        raise ValueError(
            f"shard applies to moments_of_images, whose results fidfast.merge_parts merges, not to {function}"
        )
    return merged


def default_num_workers(device: torch.device | str | None = None, processes: int = 1) -> int:
    """Number of processes that decode and resize: up to 8 with CUDA, up to 2 with a network on the CPU.

    0 on 2 cores: there two workers cost an eighth of the throughput, measured with an Inception network in bfloat16.
    The cores are divided by the number of `processes` that share the machine.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = max(1, cores // processes)
    return min(cores, 8) if resolve_device(device).type == "cuda" else max(0, min(cores - 2, 2))
