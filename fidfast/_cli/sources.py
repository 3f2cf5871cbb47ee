"""Opens the sources that the arguments of a command name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._cli.arguments import IMAGE_OPTIONS
from fidfast._images import holds_images, open_images
from fidfast._inputs import Input, open_input
from fidfast._stats import GaussianStats

__all__ = ["OpenedSource", "Sources", "require_images"]


@dataclass(frozen=True)
class OpenedSource:
    """An opened argument, and the images of its rows if there are any."""

    source: Input
    #: By row; None without images.
    names: Sequence[str] | None = None
    images: Sequence[NDArray[np.uint8]] | None = None


class Sources:
    """Opens arguments according to the options; loads the extractor once, when images need it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._extractor: Any = None
        #: By path: one message for each broken image that was skipped.
        self.skipped: dict[str, list[str]] = {}

    def stats(self, path: str, name: str, checkpoint: str | None = None) -> GaussianStats:
        """Statistics of the argument `name`; of images, resumed from `checkpoint` if it exists."""
        ddof = self._ddof()
        if not holds_images(path):
            return self._open_file(path, name).stats_with(ddof=ddof)
        from fidfast.torch import moments_of_images

        options = self._image_options(checkpoint)
        found = moments_of_images(path, self._load_extractor(), options=options)
        if found.skipped:
            self.skipped[path] = found.skipped
        return found.moments.stats(ddof=ddof)

    def samples(self, path: str, name: str, image_path: str | None = None) -> OpenedSource:
        """Features, moments or statistics of the argument `name`; `image_path` holds the images of its features."""
        if holds_images(path):
            if image_path is not None:
                raise ValueError(f"--images applies to a file of features, but {path} holds images")
            return self._samples_of_images(path, name)
        source = self._open_file(path, name)
        if image_path is None:
            return OpenedSource(source)
        if source.rows is None:
            raise ValueError(f"--images applies to a file of features, but {path} holds statistics or moments")
        images = open_images(image_path)
        return OpenedSource(source, images.names, images)

    def _open_file(self, path: str, name: str) -> Input:
        options = self._options
        return open_input(
            path,
            name,
            precision=options.precision,
            extractor=options.extractor,
            negative_tolerance=options.negative_tolerance,
        )

    def _samples_of_images(self, path: str, name: str) -> OpenedSource:
        from torch.utils.data import Subset

        from fidfast.torch import features_of_images

        found = features_of_images(path, self._load_extractor(), options=self._image_options(None))
        if found.skipped:
            self.skipped[path] = found.skipped
        source = Input(name, rows=found.features, extractor=found.extractor, precision=self._options.precision)
        # By index, since an archive may contain a name twice.
        images: Any = Subset(open_images(path), found.indices)
        return OpenedSource(source, found.names, images)

    def _load_extractor(self) -> Any:
        from fidfast.torch import load_extractor

        options = self._options
        if self._extractor is None:
            sys.path.insert(0, "")  # as with `python -m`, for modules in the current folder
            self._extractor = load_extractor(
                options.extractor or "inception", weights=options.weights, like=options.like, resize=options.resize
            )
        return self._extractor

    def _image_options(self, checkpoint: str | None) -> Any:
        from fidfast.torch import ImageOptions

        options = self._options
        return ImageOptions(
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            device=options.device,
            dtype="bfloat16" if options.bfloat16 else None,
            compile={"yes": True, "no": False}.get(options.compile, "auto"),
            precision=options.precision,
            skip_broken=options.skip_broken,
            checkpoint=checkpoint,
            use_cache=not options.no_cache,
            progress=not options.quiet,
        )

    def _ddof(self) -> int:
        """Delta degrees of freedom of the covariance in the tool of ``--like``."""
        if self._options.like is None:
            return 1
        from fidfast.torch._extractors.conventions import convention_of

        return convention_of(self._options.like).ddof


def require_images(options: argparse.Namespace, *paths: str) -> None:
    """Raise ValueError if an option that applies to images only is given without images."""
    given = [name for name in IMAGE_OPTIONS if getattr(options, name) not in (None, False)]
    if given and not any(map(holds_images, paths)):
        option = "--" + given[0].replace("_", "-")
        raise ValueError(f"{option} applies to images, but there are none in {' or '.join(paths)}")
