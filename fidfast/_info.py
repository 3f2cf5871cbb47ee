"""Description of the content of a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fidfast._arguments import require_path
from fidfast._files import Catalog, Item, State, Stats, catalog_of, is_supported, naming, read, reading
from fidfast._images import describe_images, holds_images
from fidfast._results import Result, json_object
from fidfast._stats import ACCEPT_ALL, Moments, stats_from_record
from fidfast._text import printable

__all__ = ["FileInfo", "file_info"]


@dataclass(frozen=True)
class FileInfo(Result):
    """The content of a file; returned by `file_info`."""

    file: str
    #: "statistics", "features" or "images", several of them joined by "and", for example "a checkpoint of Moments", or
    #: "other arrays".
    holds: str
    #: Further properties by name. All have ``extractor`` if it can be stored. Features: ``shape`` and ``dtype``.
    #: Statistics: ``dim``, ``num_samples``, ``ddof``, ``trace`` of the covariance, ``dead_units``, the number of
    #: columns with zero variance, and ``least_eigenvalue`` if other functions need a `negative_tolerance`; those of the
    #: statistics that `fid` uses by default. A checkpoint of Moments: ``dim``, ``num_samples``, ``precision``, and
    #: ``images_done`` if its run is unfinished; if it stores one `SourcePart`, ``shard`` (K/N), ``indices`` (the first,
    #: and the last plus 1), ``source_samples``, ``source`` and ``skipped``, the number of images. Other checkpoints:
    #: their settings. None if unknown.
    properties: Mapping[str, Any]
    #: What ``key=`` and ``--key`` can select: "mu,sigma", "fd_dinov2", "features", ...
    keys: tuple[str, ...] = ()
    #: All arrays and values of the file by key: for example "float32 (1000, 2048)".
    entries: Mapping[str, str] = field(default_factory=dict)
    #: The properties of each of several statistics, features and images by key, and ``holds``; for a damaged one
    #: ``holds`` and ``problem``. Empty for a file of only one.
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """File, holds, all properties by name, keys, parts and entries."""
        common = {"file": self.file, "holds": self.holds}
        listed = {"keys": self.keys, "parts": self.parts, "entries": self.entries}
        return json_object({**common, **self.properties, **listed})

    def __str__(self) -> str:
        shown = [f"{name} {'unknown' if value is None else value}" for name, value in self.properties.items()]
        return printable(f"{self.file}: {', '.join([self.holds, *shown])}")


def file_info(path: str | os.PathLike[str]) -> FileInfo:
    """Describe a file of features, statistics, images or a checkpoint, or a folder or archive of images.

    Reads the headers of arrays, and all statistics one after the other; pickles and checkpoints completely; of a folder
    or archive the headers of at most 1,000 images.

    Parameters
    ----------
    path : path
        Any file or folder that `fid` accepts, a folder, ``.zip``, ``.tar``, ``.npz`` or ``.npy`` of images, or a
        checkpoint of a class with ``save``.

    Returns
    -------
    FileInfo

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged or of an unknown kind.
    """
    path = require_path("path", path)
    is_folder = os.path.isdir(path)
    pictures = describe_images(path) if (is_folder or not is_supported(path)) and holds_images(path) else None
    if pictures is not None and not is_supported(path):
        return FileInfo(os.fspath(path), "images", pictures)
    catalog = catalog_of(path)
    entries = {key: str(entry) for key, entry in catalog.entries.items()}
    with naming(path):
        if catalog.is_state:
            state = read(path)
            assert isinstance(state, State)
            return FileInfo(os.fspath(path), state.what, _properties_of_state(state), (), entries)
        parts = {item.key: _properties_of(item, path) for item in catalog.items}
        main = _main_of(catalog)
        properties = pictures if pictures is not None else {} if main is None else parts[main.key]
        if "problem" in properties:
            raise ValueError(properties["problem"])
        kinds = [*catalog.kinds, *(["images"] if pictures is not None else [])]
        return FileInfo(
            os.fspath(path),
            " and ".join(kinds) or "other arrays",
            {name: value for name, value in properties.items() if name != "holds"},
            catalog.keys,
            entries,
            parts if kinds != ["images"] and len(parts) + (pictures is not None) > 1 else {},
        )


def _main_of(catalog: Catalog) -> Item | None:
    """The statistics that `fid` uses by default, else the features or images; None if there is no default."""
    items = catalog.of_kind(catalog.kinds[0]) if catalog.kinds else []
    main = [item for item in items if item.is_main]
    if len(main) == 1:
        return main[0]
    return items[0] if len(items) == 1 or (items and main) else None


def _properties_of(item: Item, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        with reading(path):
            if item.what == "statistics":
                return {"holds": item.what, **_properties_of_stats(item.read())}
            found = {"holds": item.what, "shape": list(item.entry.shape), "dtype": item.entry.dtype}
            return found if item.what == "images" else {**found, "extractor": item.extractor}
    except ValueError as error:
        return {"holds": item.what, "problem": str(error)}


def _properties_of_stats(record: Stats) -> dict[str, Any]:
    stats = stats_from_record(record, ACCEPT_ALL)
    variances = stats.sigma.diagonal()
    return {
        "dim": stats.dim,
        "num_samples": stats.num_samples,
        "ddof": stats.ddof,
        "extractor": stats.extractor,
        "trace": float(variances.sum()),
        "dead_units": int((variances == 0).sum()),
        **({} if stats.caution is None else {"least_eigenvalue": stats.least_eigenvalue}),
    }


def _properties_of_state(state: State) -> dict[str, Any]:
    done: dict[str, Any] = {} if state.progress is None else {"images_done": state.progress.done}
    if state.kind != "Moments":
        settings = {key: value.item() for key, value in state.entries.items() if value.ndim == 0 and "/" not in key}
        return {**settings, **done}
    moments = Moments.from_state(state.entries)
    for part in state.parts if len(state.parts) == 1 else ():
        first, stop = part.indices.start, part.indices.stop
        done.update({"shard": f"{part.shard}/{part.shards}", "indices": [first, stop], "source": part.source})
        done.update({"source_samples": part.num_samples, "skipped": len(part.skipped)})
    return {
        "dim": moments.dim,
        "num_samples": moments.num_samples,
        "precision": moments.precision,
        "extractor": moments.extractor,
        **done,
    }
