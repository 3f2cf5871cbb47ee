"""Whether a path that may hold images and statistics is read as images."""

from __future__ import annotations

import os
from pathlib import Path

from fidfast._files import catalog_of, is_stats_folder
from fidfast._images.open import holds_images
from fidfast._warnings import warn_user

__all__ = ["note_of_images", "uses_images", "warn_of_statistics"]


def uses_images(path: str | os.PathLike[str], *, rows: bool = False, key: str | None = None) -> bool:
    """Whether a function should read the images of a path, and not statistics or features in the same file.

    Reads the headers of arrays only.

    Parameters
    ----------
    path : path
        A folder, archive or file; it need not exist.
    rows : bool, default False
        Whether the function needs images or rows of features: then images have precedence over statistics. Features
        have precedence over images. In a folder, images have precedence over statistics.
    key : str, optional
        What the key names, statistics, features or images, has precedence. "images" names the images of any key.
    """
    holds = holds_images(path)
    if not _has_catalog(path) or (not holds and key is None):
        return holds
    catalog = catalog_of(path)
    if catalog.is_state or (key is not None and catalog.has(key)):
        return False
    if key is not None and catalog.has_images(key):
        return True
    are_first = "features" not in catalog.kinds and (rows or "statistics" not in catalog.kinds)
    return holds and (Path(path).is_dir() or are_first)


def note_of_images(path: str | os.PathLike[str], key: str | None = None) -> str | None:
    """Says that images are read if the file holds more: "images (the file also holds statistics)"; else None."""
    if not _has_catalog(path):
        return None
    catalog = catalog_of(path)
    used = (item for item in catalog.of_kind("images") if key is not None and item.key == key)
    return catalog.note("images", next(used, None))


def warn_of_statistics(source: object) -> None:
    """Warn if the statistics of images will be computed though their file holds statistics."""
    if isinstance(source, (str, os.PathLike)) and Path(source).exists() and _has_catalog(source):
        catalog = catalog_of(source)
        if statistics := catalog.of_kind("statistics"):
            keys = " and ".join(map(str, statistics))
            warn_user(
                f"{os.fspath(source)}: the images are used, though the file also holds statistics ({keys}), which may "
                "be those of more images; GaussianStats.load reads them, and fid compares with them"
            )


def _has_catalog(path: str | os.PathLike[str]) -> bool:
    """Whether the path may hold statistics besides images."""
    if Path(path).is_file():
        return Path(path).suffix.lower() in (".npy", ".npz")
    return is_stats_folder(path)
