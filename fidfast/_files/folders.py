"""Folders of statistics: ``mu.npy`` and ``cov.npy``, as fadtk caches them, for one network or several."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fidfast._files.items import COUNT_KEYS, COVARIANCES, MEANS
from fidfast._files.records import Entry, Tree

__all__ = ["is_stats_folder", "open_folder"]

#: fadtk writes ``stats/MODEL/mu.npy`` and ``stats/MODEL/cov.npy`` into the folder of the sounds.
_CACHE = "stats"

#: Largest number of networks in the cache.
_MAX_NETWORKS = 1000

#: Names of the files without ``.npy``.
_NAMES = (*MEANS, "m", *COVARIANCES, "s", *COUNT_KEYS)


def is_stats_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the mean and the covariance of one network as ``.npy`` files, or of several."""
    return _has_pair(Path(path)) or any(True for _ in _networks(Path(path)))


def open_folder(path: Path, open_npy: Callable[[Path], Tree]) -> Tree:
    """The entries of a folder of statistics: those of its ``.npy`` files, or a dictionary for each network."""
    if _has_pair(path):
        name = path.resolve().name if path.resolve().parent.name == _CACHE else None
        return _entries(path, name, open_npy)
    return {folder.name: _entries(folder, folder.name, open_npy) for folder in _networks(path)}


def _entries(folder: Path, extractor: str | None, open_npy: Callable[[Path], Tree]) -> Tree:
    tree: dict[str, Entry | Tree] = {}
    for name in _NAMES:
        file = folder / f"{name}.npy"
        if os.path.isfile(file):
            entries = open_npy(file)
            tree[name] = entries.get("", entries)
    if extractor is not None:
        text = np.asarray(extractor)
        tree["extractor"] = Entry((), text.dtype.name, lambda: text)
    return tree


def _networks(path: Path) -> Iterator[Path]:
    try:
        with os.scandir(path / _CACHE) as scan:
            names = sorted(entry.name for entry in itertools.islice(scan, _MAX_NETWORKS) if entry.is_dir())
    except OSError:
        return
    yield from (folder for name in names if _has_pair(folder := path / _CACHE / name))


def _has_pair(folder: Path) -> bool:
    """Whether one file has the name of a mean and another that of a covariance."""
    return all(
        any(os.path.isfile(folder / f"{name}.npy") for name in names) for names in ((*MEANS, "m"), (*COVARIANCES, "s"))
    )
