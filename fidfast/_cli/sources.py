"""Opens and checks the sources that the arguments of a command name, and computes their statistics and features."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._cli.argument_types import precision_of_rows
from fidfast._cli.arguments import IMAGE_OPTIONS
from fidfast._cli.output import lines_of_images
from fidfast._files import catalog_of, is_supported, require_writable
from fidfast._images import Images, holds_images, note_of_images, open_images
from fidfast._inputs import Input, open_input, require_same_dim
from fidfast._parts import SourceMoments, moments_of_input, require_divisible
from fidfast._sources import is_image_source
from fidfast._stats import GaussianStats

__all__ = [
    "OpenedSource",
    "Sources",
    "add_current_folder",
    "check_writes",
    "ddof_of",
    "image_options",
    "require_applicable",
]


@dataclass(frozen=True)
class OpenedSource:
    """Features, moments or statistics, and the images of the rows if there are any."""

    source: Input
    #: By row; None without images.
    names: Sequence[str] | None = None
    images: Sequence[NDArray[np.uint8]] | None = None


class Sources:
    """The sources of one command.

    The constructor checks everything that can be checked before a network runs, so that a mistake in the last argument
    is not found after hours of work on the first.

    Parameters
    ----------
    options : argparse.Namespace
    paths : mapping
        Path of each source, by the name of the argument.
    images_of_samples : path, optional
        The images of the features in `samples`.
    writes : sequence of paths
        Files that the command will write.
    checkpoint : path, optional
        File from which the extraction of a single source is resumed.
    ddof : int, default 1
        Of the covariances.
    rows : bool, default False
        Whether the command needs images or features where a file holds statistics as well.
    moments : bool, default False
        Whether the command needs the moments of a single source, or of the shard of the options.

    Raises
    ------
    OSError, TypeError, ValueError, ImportError
        If the command would fail later.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        paths: Mapping[str, str],
        *,
        images_of_samples: str | None = None,
        writes: Sequence[str] = (),
        checkpoint: str | None = None,
        ddof: int = 1,
        rows: bool = False,
        moments: bool = False,
    ) -> None:
        self._options = options
        self._paths = paths
        self._ddof = ddof
        #: By path: one message for each broken image that was skipped.
        self.skipped: dict[str, list[str]] = {}
        #: By path: number of files that are not read, by reason.
        self.ignored: dict[str, Mapping[str, int]] = {}
        #: Paths whose moments are from the cache.
        self.cached: list[str] = []
        #: By path: what was used of a file that holds more.
        self.used: dict[str, str] = {}
        self._checkpoint: Any = None
        #: Names of several extractors, which need images.
        self._extractors: list[str] | None = getattr(options, "extractors", None)
        rows = rows or moments or self._extractors is not None
        self._min_images = 1 if moments else 1 + ddof
        keys = _keys_of(options, paths)
        with_images = [name for name, path in paths.items() if is_image_source(path, rows=rows, key=keys[name])]
        require_applicable(options, paths, with_images)
        check_writes(writes, [*paths.values(), *([] if images_of_samples is None else [images_of_samples])])
        self._files: dict[str, Input] = {}
        for name, path in paths.items():
            if name in with_images:
                note = note_of_images(path, keys[name])
            else:
                self._files[name] = open_input(
                    path,
                    name,
                    precision=precision_of_rows(options),
                    extractor=options.extractor,
                    key=keys[name],
                    rows=rows,
                    negative_tolerance=options.negative_tolerance,
                )
                note = self._files[name].note
            if note is not None:
                self.used[path] = note
        self._images_of_samples = self._open_images_of_samples(images_of_samples)
        if moments:
            for file in self._files.values():
                require_divisible(file, "a file of moments" if options.shard == "1/1" else "--shard")
        dims = [] if moments else [(name, file.stats_with(ddof=ddof).dim) for name, file in self._files.items()]
        if len(dims) == 2:
            try:
                require_same_dim(dims[0][1], dims[1][1], dims[0][0], dims[1][0])
            except ValueError as error:
                raise ValueError(f"{error}{self._other_statistics(options.key)}") from None
        self._checked: Any = self._check_images(with_images, keys, checkpoint) if with_images else None

    def _other_statistics(self, key: list[str] | None) -> str:
        """A hint to ``--key``, as the end of a message, if a file holds statistics besides those that are used."""
        several = {}
        for path in dict.fromkeys(self._paths.values()):
            items = catalog_of(path).of_kind("statistics") if is_supported(path) else []
            if len(items) > 1:
                several[path] = " and ".join(repr(item.key) for item in items)
        if not several:
            return ""
        held = ", and ".join(f"{path} holds statistics {keys}" for path, keys in several.items())
        return f"; {held}: choose with --key" + (" for each side" if key else "")

    def _open_images_of_samples(self, path: str | None) -> Images | None:
        if path is None:
            return None
        samples = self._paths["samples"]
        if "samples" not in self._files:
            raise ValueError(f"--images applies to a file of features, but {samples} holds images")
        file = self._files["samples"]
        if file.rows is None:
            raise ValueError(f"--images applies to a file of features, but {samples} holds statistics or moments")
        given = self._options
        images = open_images(path, suffix=given.suffix, max_value=given.max_value, max_pixels=given.max_pixels)
        if len(images) != file.num_samples:
            raise ValueError(f"samples has {file.num_samples} rows, but there are {len(images)} images")
        return images

    def _check_images(self, names: Sequence[str], keys: Mapping[str, str | None], checkpoint: str | None) -> Any:
        """Open the images, load the extractor, and check them against the files on the other side."""
        from fidfast.torch import load_extractors
        from fidfast.torch._images.checks import check_images, check_images_of_several
        from fidfast.torch._images.extraction import names_of_extractors
        from fidfast.torch._images.options import check_device, processes_of
        from fidfast.torch._images.sources import open_source

        given = self._options
        add_current_folder(",".join(self._extractors or [given.extractor or ""]))
        options = image_options(given, checkpoint)
        check_device(options.device)
        images = {name: open_source(self._paths[name], options, keys[name]) for name in names}
        if self._extractors is not None:
            with processes_of(options) as ranks, ranks.after_first_of_machine():
                networks = load_extractors(
                    self._extractors, weights=given.weights, like=given.like, resize=given.resize
                )
            names_of_extractors(self._extractors, networks)
            return check_images_of_several(images["source"], networks, options=options, min_images=self._min_images)
        with processes_of(options) as ranks, ranks.after_first_of_machine():
            extractor, dtype = self._load_extractor()
        options = replace(options, dtype=options.dtype or dtype)
        sources = {name: images[name] if name in images else self._files[name] for name in self._paths}
        return check_images(sources, extractor, options=options, min_images=self._min_images)

    def _load_extractor(self) -> tuple[Any, str | None]:
        """The extractor of the options, or of a file's features, and the arithmetic of the latter."""
        from fidfast.torch import load_extractors
        from fidfast.torch._extractors.resize import check_resize
        from fidfast.torch._extractors.stored import extractor_of_statistics

        given = self._options
        stored = next((name for name, file in self._files.items() if file.extractor is not None), None)
        if stored is None or given.extractor or given.like:
            name = given.extractor or "inception"
            return load_extractors([name], weights=given.weights, like=given.like, resize=given.resize)[0], None
        extractor, dtype = extractor_of_statistics(
            self._files[stored].extractor or "", self._paths[stored], weights=given.weights
        )
        return (replace(extractor, resize=check_resize(given.resize)) if given.resize else extractor), dtype

    def _options_of(self, name: str) -> Any:
        """The options with a label for the progress bar."""
        label = _short(self._paths[name])
        label = label if len(self._paths) == 1 else f"{name} {label}"
        return replace(self._checked.options, progress=not self._options.quiet and label)

    # Results ---------------------------------------------------------------------------------------------------------

    def stats(self, name: str) -> GaussianStats:
        """Statistics of the argument `name`."""
        if name in self._files:
            return self._files[name].stats_with(ddof=self._ddof)
        from fidfast.torch._images.extraction import moments_of_source

        source = self._checked.sources[name]
        found, self._checkpoint = moments_of_source(source, self._checked.extractor, self._options_of(name))
        self._note(name, found)
        return found.moments.stats(ddof=self._ddof)

    def stats_by_extractor(self) -> dict[str, GaussianStats]:
        """Statistics of the argument `source`, by the names of ``--extractors``."""
        from fidfast.torch._images.extraction import names_of_extractors, stats_of_collection
        from fidfast.torch._images.parts import moments_of_several

        checked = self._checked
        found, self._checkpoint = moments_of_several(checked.source, checked.extractors, self._options_of("source"))
        self._note("source", found)
        names = names_of_extractors(self._extractors or [], checked.extractors)
        return stats_of_collection(found, names, self._ddof)

    def moments(self) -> list[SourceMoments]:
        """Moments of the shard of the argument `source`, one for each extractor."""
        if "source" in self._files:
            given = self._options
            return [moments_of_input(self._files["source"], given.shard, precision_of_rows(given), "stats")]
        from fidfast.torch._images.parts import moments_of_several, parts_of_source

        checked, options = self._checked, self._options_of("source")
        source, extractors = (
            (checked.sources["source"], [checked.extractor])
            if self._extractors is None
            else (checked.source, checked.extractors)
        )
        parts = parts_of_source(source, options)
        found, self._checkpoint = moments_of_several(source, extractors, options)
        self._note("source", found)
        parts = [replace(part, skipped=found.skipped) for part in parts]
        every = [one.moments for one in found.parts]
        return [SourceMoments(one, found.skipped, parts) for one in every if one is not None]

    def removing_checkpoint(self) -> AbstractContextManager[None]:
        """Removes the checkpoint after the block, which writes the result."""
        if self._checkpoint is None:
            return nullcontext()
        from fidfast.torch._images.checkpoint import removed_after

        return removed_after(self._checkpoint)

    def samples(self, name: str) -> OpenedSource:
        """Features, moments or statistics of the argument `name`."""
        if name in self._files:
            images = self._images_of_samples if name == "samples" else None
            return OpenedSource(self._files[name], None if images is None else images.names, images)
        from torch.utils.data import Subset

        from fidfast.torch._images.extraction import features_of_source

        source = self._checked.sources[name]
        found = features_of_source(source, self._checked.extractor, self._options_of(name))
        self._note(name, found)
        rows = Input(name, rows=found.features, extractor=found.extractor, precision=precision_of_rows(self._options))
        # By index, since an archive may contain a name twice.
        subset: Any = Subset(source.images, found.indices)
        return OpenedSource(rows, found.names, subset)

    def facts(self) -> dict[str, Any]:
        """What was used, not read and not computed, for JSON."""
        of_images = {} if self._checked is None else {"ignored": self.ignored, "from_cache": self.cached}
        return {"skipped": self.skipped, **of_images, **({"used": self.used} if self.used else {})}

    def lines(self) -> Iterator[str]:
        """What was used of files that hold more, what was not read, and the images that were skipped."""
        yield from (f"{path}: {note}" for path, note in self.used.items())
        yield from lines_of_images(self.ignored, self.skipped)

    def _note(self, name: str, found: Any) -> None:
        """Keep what a result says about the images of an argument."""
        path = self._paths[name]
        if found.skipped:
            self.skipped[path] = found.skipped
        if found.ignored:
            self.ignored[path] = found.ignored
        if found.from_cache:
            self.cached.append(path)


def image_options(options: argparse.Namespace, checkpoint: str | None = None) -> Any:
    """The `ImageOptions` of a command line."""
    from fidfast.torch import ImageOptions

    return ImageOptions(
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        device=options.device,
        dtype="bfloat16" if options.bfloat16 else None,
        compile={"yes": True, "no": False}.get(options.compile, "auto"),
        precision=options.precision,
        skip_broken=options.skip_broken,
        suffix=options.suffix,
        max_value=options.max_value,
        max_pixels=options.max_pixels,
        checkpoint=checkpoint,
        use_cache=not options.no_cache,
        distributed=options.launch.join(options.device),
        shard=getattr(options, "shard", None),
    )


def add_current_folder(extractor: str | None) -> None:
    """Add the current folder to the module path for ``module:factory``."""
    if ":" in (extractor or "") and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that files there do not replace installed modules


def ddof_of(options: argparse.Namespace) -> int:
    """Delta degrees of freedom of the covariance in the tool of ``--like``."""
    if options.like is None:
        return 1
    from fidfast.torch._extractors.conventions import convention_of

    return convention_of(options.like).ddof


def require_applicable(options: argparse.Namespace, paths: Mapping[str, str], with_images: Collection[str]) -> None:
    """Raise ValueError if an option that applies to images only is given without images."""
    given = [name for name in IMAGE_OPTIONS if getattr(options, name, None) not in (None, False)]
    if given and not with_images and all(map(os.path.exists, paths.values())):
        option = "--" + given[0].replace("_", "-")
        held = "there are none in" if not any(map(holds_images, paths.values())) else "none are used of"
        raise ValueError(f"{option} applies to images, but {held} {' or '.join(paths.values())}")


def _keys_of(options: argparse.Namespace, paths: Mapping[str, str]) -> dict[str, str | None]:
    """The key of each source: ``--key`` once for the files that have it, or once for each source."""
    given = options.key or []
    if not given:
        return dict.fromkeys(paths)
    if len(given) > 1:
        if len(given) != len(paths):
            raise ValueError(f"--key is given {len(given)} times for {len(paths)} sources")
        return {name: key or None for name, key in zip(paths, given, strict=True)}
    keys: dict[str, str | None] = dict.fromkeys(paths)
    (key,) = given
    without = []
    for name, path in paths.items():
        catalog = catalog_of(path) if is_supported(path) else None
        if catalog is None or not catalog.entries.keys() - {""}:
            continue  # images or a single array
        # Both sides of a distance are the same pair of entries, but only one of them may be of EDM2.
        if (
            key in catalog.keys
            or catalog.has(key)
            or catalog.has_images(key)
            or (key == "images" and holds_images(path))
            or ("," in key and catalog.of_kind("statistics"))
        ):
            keys[name] = key
        else:
            without.append(catalog)
    if not any(keys.values()):
        if without:
            without[0].read(key=key)  # raises an error that lists the keys
        raise ValueError(f"--key applies to files of several arrays, not to {' and '.join(paths.values())}")
    return keys


def check_writes(writes: Sequence[str], inputs: Sequence[str]) -> None:
    """Raise an error if a file cannot be written, would replace an input, or is written twice."""
    for write in writes:
        require_writable(write)
        for path in inputs:
            if os.path.exists(write) and os.path.exists(path) and os.path.samefile(write, path):
                raise ValueError(f"{write} would replace the input {path}: pass another name")
    files = [os.path.realpath(write) for write in dict.fromkeys(writes)]
    if len(set(files)) < len(files):
        raise ValueError(f"the outputs {' and '.join(dict.fromkeys(writes))} are the same file: pass another name")


def _short(path: str) -> str:
    """The last part of a path, of at most 30 characters."""
    name = os.path.basename(os.path.abspath(path)) or path
    return name if len(name) <= 30 else f"...{name[-27:]}"
