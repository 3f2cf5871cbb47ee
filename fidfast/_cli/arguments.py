"""What the arguments of a command name: the options of images, and the way from a path to statistics or features."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast._files import formats
from fidfast._files.formats import Features
from fidfast._images import holds_images, open_images
from fidfast._inputs import stats_of_file
from fidfast._stats.gaussian import GaussianStats
from fidfast._stats.moments import Moments

__all__ = ["Sample", "Sources", "add_image_options"]

#: Options that say something of images only.
IMAGE_OPTIONS = ("weights", "resize", "bfloat16", "batch_size", "num_workers", "device", "skip_broken")


def add_image_options(command: argparse.ArgumentParser) -> None:
    """Those of every command that may read images."""
    group = command.add_argument_group("images")
    group.add_argument(
        "--extractor",
        metavar="NAME",
        help="the network: inception (default), efficientnet-lite0, or package.module:factory; "
        "of features, the name of the network that made them",
    )
    group.add_argument("--weights", metavar="FILE", help="of inception, instead of a download")
    group.add_argument(
        "--like",
        metavar="TOOL",
        help="the number of pytorch-fid, torch-fidelity, clean-fid, torchmetrics or stylegan3",
    )
    group.add_argument("--resize", metavar="METHOD", help="how images come to the network's size")
    group.add_argument("--bfloat16", action="store_true", help="run the network in bfloat16: faster, other by 1-2 %%")
    group.add_argument(
        "--compile", choices=("auto", "yes", "no"), default="auto", help="compile the network (default: %(default)s)"
    )
    group.add_argument("--batch-size", type=_positive, metavar="N")
    group.add_argument("--num-workers", type=int, metavar="N", help="processes that decode and resize")
    group.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    group.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be read, and list them")
    group.add_argument(
        "--no-cache", action="store_true", help="neither look for the same images' statistics nor keep them"
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


class Sample(NamedTuple):
    """One side: the features where they are to be had, and what is known of the images behind them."""

    source: Features | Moments | GaussianStats
    #: By row; None where there are no images.
    names: Sequence[str] | None = None
    images: Sequence[NDArray[np.uint8]] | None = None


class Sources:
    """What the arguments name, as statistics or features; the network is loaded at the first images, once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._extractor: Any = None
        #: Messages on images that were left out, by argument.
        self.skipped: dict[str, list[str]] = {}

    def stats(self, path: str, checkpoint: str | None = None) -> GaussianStats:
        options = self._options
        if not holds_images(path):
            return stats_of_file(path, options.precision, options.extractor, self._ddof())
        from fidfast.torch import moments_of_images

        moments, skipped = moments_of_images(
            path,
            moments_precision=options.precision,
            checkpoint=checkpoint,
            use_cache=not options.no_cache,
            **self._of_the_network(),
        )
        if skipped:
            self.skipped[path] = skipped
        return moments.stats(self._ddof())

    def sample(self, path: str, images_behind: str | None = None) -> Sample:
        """The features themselves, or blocks of them, where they are to be had.

        `images_behind` are those that features were made of.
        """
        if not holds_images(path):
            content = formats.read(path)
            if not isinstance(content, Features):
                if images_behind is not None:
                    raise ValueError(f"--images are those behind features, and {path} holds {content.what}")
                if isinstance(content, formats.Checkpoint) and content.progress is None:
                    return Sample(Moments._of_blocks(content.blocks, content.extractor or self._options.extractor))
                return Sample(self.stats(path))
            known = replace(content, extractor=content.extractor or self._options.extractor)
            if images_behind is None:
                return Sample(known)
            behind = open_images(images_behind)
            return Sample(known, behind.names, behind)
        if images_behind is not None:
            raise ValueError(f"--images are those behind features, and {path} holds images itself")
        from torch.utils.data import Subset

        from fidfast.torch import features_of_images

        found = features_of_images(path, **self._of_the_network())
        if found.skipped:
            self.skipped[path] = found.skipped
        # Numbers, not names, say which images were left out: an archive may hold a name twice.
        behind_rows: Any = Subset(open_images(path), found.places)
        return Sample(Features(found.features, found.extractor), found.names, behind_rows)

    def _of_the_network(self) -> dict[str, Any]:
        """Arguments of what makes features of images."""
        from fidfast.torch import load_extractor
        from fidfast.torch._images.extraction_run import usual_workers

        options = self._options
        if self._extractor is None:
            sys.path.insert(0, "")  # as for `python -m`: the user's own modules lie in the folder where this is typed
            self._extractor = load_extractor(
                options.extractor or "inception", weights=options.weights, like=options.like, resize=options.resize
            )
        return {
            "extractor": self._extractor,
            "batch_size": options.batch_size,
            "num_workers": usual_workers(options.device) if options.num_workers is None else options.num_workers,
            "device": options.device,
            "precision": "bfloat16" if options.bfloat16 else None,
            "compile": {"yes": True, "no": False}.get(options.compile, "auto"),
            "skip_broken": options.skip_broken,
            "progress": not options.quiet,
        }

    def _ddof(self) -> int:
        """What the tool that is to be matched subtracts from the number of samples."""
        if self._options.like is None:
            return 1
        from fidfast.torch import LIKE

        if self._options.like not in LIKE:
            raise ValueError(f"unknown tool {self._options.like!r}; known are {', '.join(LIKE)}")
        return LIKE[self._options.like].ddof

    def require_images(self, *paths: str) -> None:
        """Options of images are refused where there are none, instead of being passed over."""
        given = [name for name in IMAGE_OPTIONS if getattr(self._options, name) not in (None, False)]
        if given and not any(map(holds_images, paths)):
            option = "--" + given[0].replace("_", "-")
            raise ValueError(f"{option} is an option of images, and there are none in {' or '.join(paths)}")

    def report_skipped(self) -> None:
        for path, messages in self.skipped.items():
            print(f"{path}: {len(messages)} broken images left out")
            for message in messages:
                print(f"  {message}")
