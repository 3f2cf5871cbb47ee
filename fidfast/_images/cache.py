"""Cache of the moments of images, keyed by image content and extractor."""

from __future__ import annotations

import hashlib
import os
import re
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fidfast import _core
from fidfast._arguments import optional, require_bool, require_real
from fidfast._files import TEMPORARY_NAME, State, read_state, write_state
from fidfast._images.decode import open_regular
from fidfast._images.hashes import HASH_FOLDER, folder
from fidfast._images.images import Images
from fidfast._results import Result
from fidfast._stats import Moments
from fidfast._text import printable

__all__ = ["CachedMoments", "ImageCache", "cache_file", "folder", "image_cache", "load", "save"]

_FILE_NAME = re.compile(r"[0-9a-f]{64}\.npz")
_HASH_NAME = re.compile(r"[0-9a-f]{32}")
_TEMPORARY_NAME = re.compile(
    rf"{TEMPORARY_NAME}|\.([0-9a-f]{{64}}\.npz|[0-9a-f]{{32}})\..*\.tmp"
)  # also of earlier versions

#: Temporary files of other processes are removed after this number of seconds.
_SECONDS_OF_WRITING = 3600.0


def cache_file(images: Images, extractor: str, *, progress: bool = False) -> Path:
    """The cache file for these images and this extractor; it need not exist.

    The name is a hash of the bytes of all images, the extractor's full name with its resize, and the package version. A
    changed image, another resize or another version gives another file.
    """
    key = "\n".join(("content", images.fingerprint(progress=progress), extractor, _core.__version__))
    return folder() / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"


def load(path: Path, images: Images) -> Moments | None:
    """The cached moments of the images; None if the file is missing, damaged or does not hold their number."""
    try:
        moments = read_state(path, "Moments", Moments.from_state)
    except (OSError, ValueError):
        return None
    if moments.num_samples != len(images):
        return None
    with suppress(OSError):
        os.utime(path)  # the time of the last use, for `image_cache`
    return moments


def save(path: Path, moments: Moments, images: Images) -> None:
    """Write the moments of the images, unless the images changed since they were hashed.

    On a full or read-only disk nothing is written.
    """
    if images.have_changed():
        return
    origin = images.origin.resolve() if isinstance(images.origin, Path) else images.origin
    described = {"source": np.asarray(str(origin)), "num_images": np.asarray(len(images))}
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_state(path, State("Moments", {**moments.state(), **described}))


@dataclass(frozen=True)
class CachedMoments(Result):
    """One file of the cache."""

    file: str
    #: Bytes.
    size: int
    #: Days since the last use.
    age: float
    #: Name of the extractor with resize and arithmetic; None if the file is damaged.
    extractor: str | None
    num_images: int | None
    #: Folder or file of the images when they were read; None in files of earlier versions, which are no longer used.
    source: str | None

    def __str__(self) -> str:
        what = self.extractor or "damaged"
        images = "" if self.num_images is None else f"{self.num_images:,} images, "
        source = self.source or "from an earlier version, not used"
        return printable(f"{what}, {images}{source}, {size_text(self.size)}, used {_age_text(self.age)}")


@dataclass(frozen=True)
class ImageCache(Result):
    """Content of the cache; returned by `image_cache`."""

    folder: str
    #: The moments of sets of images, the last used first.
    entries: list[CachedMoments] = field(repr=False)
    #: Bytes of the hashes of image files, which are kept so that unchanged files are not read again.
    hashes_size: int
    #: Number of files removed by this call.
    removed: int

    _properties: ClassVar[tuple[str, ...]] = ("size",)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self.hashes_size + sum(entry.size for entry in self.entries)

    def __str__(self) -> str:
        removed = f", {self.removed} files removed" if self.removed else ""
        number = f"{len(self.entries)} set{'' if len(self.entries) == 1 else 's'} of images"
        return f"{self.folder}: {number}, {size_text(self.size)}{removed}"

    def table(self) -> str:
        """The summary and one line for each set of images."""
        return "\n".join([str(self), *(f"  {entry}" for entry in self.entries)])


def image_cache(*, older_than: float | None = None, max_size: float | None = None, clear: bool = False) -> ImageCache:
    """Describe the cache of the moments of images, and remove files from it.

    Parameters
    ----------
    older_than : float, optional
        Remove what was not used for this number of days.
    max_size : float, optional
        Remove what was not used for the longest time until the rest has at most this number of bytes.
    clear : bool, default False
        Remove everything.

    Returns
    -------
    ImageCache
        What is left.

    Raises
    ------
    ValueError
        If a number is negative or NaN.
    OSError
        If a file cannot be removed.

    Notes
    -----
    The folder is ``$FIDFAST_CACHE``, ``$XDG_CACHE_HOME/fidfast``, ``~/.cache/fidfast`` or, on macOS,
    ``~/Library/Caches/fidfast``. Only files that fidfast wrote are removed.
    """
    for name, value in (("older_than", older_than), ("max_size", max_size)):
        optional(require_real, name, value, lambda number: number >= 0, "at least 0")
    clear = require_bool("clear", clear)
    now = time.time()
    files = {path: status for path in _files() if (status := _status(path)) is not None}
    # Files that are being written by another process stay.
    writing = {path for path in files if path.suffix == ".tmp" and now - files[path].st_mtime < _SECONDS_OF_WRITING}
    oldest_first = sorted(files.keys() - writing, key=lambda path: files[path].st_mtime)
    total = sum(files[path].st_size for path in oldest_first)
    kept, removed = [], 0
    for path in oldest_first:
        old = older_than is not None and now - files[path].st_mtime > older_than * 86400
        if clear or old or path.suffix == ".tmp" or (max_size is not None and total > max_size):
            path.unlink(missing_ok=True)
            total -= files[path].st_size
            removed += 1
        else:
            kept.append(path)
    entries = [_describe(path, files[path], now) for path in reversed(kept) if path.suffix == ".npz"]
    hashes_size = sum(files[path].st_size for path in kept if path.suffix != ".npz")
    return ImageCache(str(folder()), entries, hashes_size, removed)


def size_text(size: float) -> str:
    """``33.6 MB``."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"


def _age_text(days: float) -> str:
    return "today" if days < 1 else f"{days:.0f} day{'' if round(days) == 1 else 's'} ago"


def _files() -> list[Path]:
    """The files in the cache folder that have names of this package."""
    patterns = ((folder(), _FILE_NAME), (folder() / HASH_FOLDER, _HASH_NAME))
    found = []
    for parent, pattern in patterns:
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in parent.iterdir():
                if pattern.fullmatch(path.name) or _TEMPORARY_NAME.fullmatch(path.name):
                    found.append(path)
    return found


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:  # removed by another process
        return None


def _describe(path: Path, status: os.stat_result, now: float) -> CachedMoments:
    found: dict[str, Any] = {}
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), open_regular(path) as file:
        entries = np.load(file)
        found["extractor"] = str(entries["extractor"])
        found["num_images"] = int(entries["num_images"])
        found["source"] = str(entries["source"])
    values = {key: found.get(key) for key in ("extractor", "num_images", "source")}
    return CachedMoments(str(path), status.st_size, max(now - status.st_mtime, 0) / 86400, **values)
