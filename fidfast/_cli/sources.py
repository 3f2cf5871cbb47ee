"""Opens and checks the sources that the arguments of a command name, and computes their statistics and features."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._cli.arguments import IMAGE_OPTIONS
from fidfast._cli.output import Output
from fidfast._files import require_writable
from fidfast._images import Images, holds_images, open_images
from fidfast._inputs import Input, open_input, require_same_dim, warn_of_extractors
from fidfast._stats import GaussianStats

__all__ = ["OpenedSource", "Sources", "ddof_of"]


@dataclass(frozen=True)
class OpenedSource:
    """Features, moments or statistics, and the images of the rows if there are any."""

    source: Input
    #: By row; None without images.
    names: Sequence[str] | None = None
    images: Sequence[NDArray[np.uint8]] | None = None


@dataclass(frozen=True)
class _Named:
    """The name of an extractor, for `warn_of_extractors`."""

    extractor: str | None


class Sources:
    """The sources of one command.

    The constructor checks everything that can be checked before a network runs, so that a mistake in the last argument
    is not found after hours of work on the first.

    Parameters
    ----------
    options : argparse.Namespace
    output : Output
    paths : mapping
        Path of each source, by the name of the argument.
    images_of_samples : path, optional
        The images of the features in `samples`.
    writes : sequence of paths
        Files that the command will write.
    ddof : int, default 1
        Of the covariances.

    Raises
    ------
    OSError, TypeError, ValueError, ImportError
        If the command would fail later.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        output: Output,
        paths: Mapping[str, str],
        *,
        images_of_samples: str | None = None,
        writes: Sequence[str] = (),
        ddof: int = 1,
    ) -> None:
        self._options = options
        self._paths = paths
        self._ddof = ddof
        #: By path: one message for each broken image that was skipped.
        self.skipped: dict[str, list[str]] = {}
        _require_applicable(options, list(paths.values()))
        inputs = [*paths.values(), *([] if images_of_samples is None else [images_of_samples])]
        _check_writes(writes, inputs)
        self._images: dict[str, Images] = {}
        self._files: dict[str, Input] = {}
        for name, path in paths.items():
            if holds_images(path):
                self._images[name] = _open_enough_images(path, name, 1 + ddof)
            else:
                self._files[name] = open_input(path, name, precision=options.precision, extractor=options.extractor)
        dims = {name: file.stats_with(ddof=ddof).dim for name, file in self._files.items()}
        self._images_of_samples = self._open_images_of_samples(images_of_samples)
        if len(dims) == 2:
            require_same_dim(dims["samples"], dims["reference"], "samples", "reference")
        if self._images:
            self._prepare_extraction(dims)

    def _open_images_of_samples(self, path: str | None) -> Images | None:
        if path is None:
            return None
        samples = self._paths["samples"]
        if "samples" in self._images:
            raise ValueError(f"--images applies to a file of features, but {samples} holds images")
        file = self._files["samples"]
        if file.rows is None:
            raise ValueError(f"--images applies to a file of features, but {samples} holds statistics or moments")
        images = open_images(path)
        if len(images) != file.num_samples:
            raise ValueError(f"samples has {file.num_samples} rows, but there are {len(images)} images")
        return images

    # Extraction ------------------------------------------------------------------------------------------------------

    def _prepare_extraction(self, dims: Mapping[str, int]) -> None:
        """Load the extractor, and check it against the files on the other side."""
        from fidfast.torch import ImageOptions, load_extractor
        from fidfast.torch._images.options import check_device

        options = self._options
        if "" not in sys.path:
            sys.path.insert(0, "")  # as with `python -m`, for modules in the current folder
        device = check_device(options.device)
        chosen = {"weights": options.weights, "like": options.like, "resize": options.resize}
        stored = next(((name, file.extractor) for name, file in self._files.items() if file.extractor), None)
        dtype = None
        if options.extractor is None and stored is not None:
            self._extractor, dtype = _load_stored(self._paths[stored[0]], stored[1] or "", chosen)
        else:
            self._extractor = load_extractor(options.extractor or "inception", **chosen)
        self._image_options = ImageOptions(
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            device=options.device and device,
            dtype="bfloat16" if options.bfloat16 else dtype,
            compile={"yes": True, "no": False}.get(options.compile, "auto"),
            precision=options.precision,
            skip_broken=options.skip_broken,
            use_cache=not options.no_cache,
        )
        planned = replace(self._extractor, dtype=self._image_options.dtype or self._extractor.dtype).full_name
        for name, dim in dims.items():
            expected = self._num_features(device)
            if expected not in (None, dim):
                raise ValueError(
                    f"{name} has dim {dim}, but the extractor {self._extractor.name} has {expected} features: "
                    f"pass --extractor, the network that computed {self._paths[name]}"
                )
            sides = {name: self._files[name].extractor, next(iter(self._images)): planned}
            warn_of_extractors(*(_Named(sides[side]) for side in self._paths))

    def _num_features(self, device: Any) -> int | None:
        """Number of features; of a network that does not specify it, from the first image."""
        import torch

        from fidfast.torch._images.batches import DecodedImages

        extractor = self._extractor
        if extractor.num_features is not None:
            return int(extractor.num_features)
        pixels = DecodedImages(next(iter(self._images.values())), extractor)[0].pixels
        if pixels is None:  # the first image is broken
            return None
        ready = extractor.prepared(dtype=self._image_options.dtype, compile=False, device=device)
        with torch.inference_mode():
            return int(ready(pixels[None].to(device)).shape[1])

    def _options_of(self, name: str, checkpoint: str | None = None) -> Any:
        label = _short(self._paths[name])
        label = label if len(self._paths) == 1 else f"{name} {label}"
        return replace(self._image_options, checkpoint=checkpoint, progress=not self._options.quiet and label)

    # Results ---------------------------------------------------------------------------------------------------------

    def stats(self, name: str, checkpoint: str | None = None) -> GaussianStats:
        """Statistics of the argument `name`; of images, resumed from `checkpoint` if it exists."""
        if name in self._files:
            return self._files[name].stats_with(ddof=self._ddof)
        from fidfast.torch import moments_of_images

        found = moments_of_images(self._images[name], self._extractor, options=self._options_of(name, checkpoint))
        if found.skipped:
            self.skipped[self._paths[name]] = found.skipped
        return found.moments.stats(ddof=self._ddof)

    def samples(self, name: str) -> OpenedSource:
        """Features, moments or statistics of the argument `name`."""
        if name in self._files:
            images = self._images_of_samples if name == "samples" else None
            return OpenedSource(self._files[name], None if images is None else images.names, images)
        from torch.utils.data import Subset

        from fidfast.torch import features_of_images

        found = features_of_images(self._images[name], self._extractor, options=self._options_of(name))
        if found.skipped:
            self.skipped[self._paths[name]] = found.skipped
        source = Input(name, rows=found.features, extractor=found.extractor, precision=self._options.precision)
        # By index, since an archive may contain a name twice.
        subset: Any = Subset(self._images[name], found.indices)
        return OpenedSource(source, found.names, subset)


def ddof_of(options: argparse.Namespace) -> int:
    """Delta degrees of freedom of the covariance in the tool of ``--like``."""
    if options.like is None:
        return 1
    from fidfast.torch._extractors.conventions import convention_of

    return convention_of(options.like).ddof


def _require_applicable(options: argparse.Namespace, paths: Sequence[str]) -> None:
    """Raise ValueError if an option that applies to images only is given without images."""
    given = [name for name in IMAGE_OPTIONS if getattr(options, name) not in (None, False)]
    if given and all(os.path.exists(path) and not holds_images(path) for path in paths):
        option = "--" + given[0].replace("_", "-")
        raise ValueError(f"{option} applies to images, but there are none in {' or '.join(paths)}")


def _check_writes(writes: Sequence[str], inputs: Sequence[str]) -> None:
    for write in writes:
        require_writable(write)
        for path in inputs:
            if os.path.exists(write) and os.path.exists(path) and os.path.samefile(write, path):
                raise ValueError(f"{write} would replace the input {path}: pass another name")


def _open_enough_images(path: str, name: str, least: int) -> Images:
    images = open_images(path)
    if len(images) < least:
        count = "1 image" if len(images) == 1 else f"{len(images)} images"
        raise ValueError(f"{name}: {path} holds {count}; a covariance needs at least {least}")
    return images


def _load_stored(path: str, full_name: str, chosen: Mapping[str, str | None]) -> tuple[Any, str | None]:
    from fidfast.torch._extractors.stored import load_stored_extractor

    try:
        return load_stored_extractor(full_name, **chosen)
    except (ValueError, TypeError, ImportError) as error:
        raise ValueError(
            f"the features of {path} are from {full_name!r}: {error}; pass --extractor, the network that computed them"
        ) from error


def _short(path: str) -> str:
    """The last part of a path, of at most 30 characters."""
    name = Path(path).resolve().name or path
    return name if len(name) <= 30 else f"...{name[-27:]}"
