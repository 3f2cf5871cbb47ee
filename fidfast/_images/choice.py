"""Whether a path that may hold images and statistics is read as images."""

from __future__ import annotations

import os
from pathlib import Path

from fidfast._files import catalog_of
from fidfast._images.open import holds_images

__all__ = ["note_of_images", "uses_images"]


def uses_images(path: str | os.PathLike[str], *, rows: bool = False, key: str | None = None) -> bool:
    """Whether a function should read the images of a path, and not statistics or features in the same file.

    Reads the headers of arrays only.

    Parameters
    ----------
    path : path
        A folder, archive or file; it need not exist.
    rows : bool, default False
        Whether the function needs images or rows of features: then images have precedence over statistics. Features
        have precedence over images.
    key : str, optional
        What the key names, statistics, features or images, has precedence.
    """
    holds = holds_images(path)
    if not _is_array_file(path) or (not holds and key is None):
        return holds
    catalog = catalog_of(path)
    if catalog.is_state or (key is not None and catalog.has(key)):
        return False
    if key is not None and catalog.has_images(key):
        return True
    return holds and "features" not in catalog.kinds and (rows or "statistics" not in catalog.kinds)


def note_of_images(path: str | os.PathLike[str], key: str | None = None) -> str | None:
    """Says that images are read if the file holds more: "images (the file also holds statistics)"; else None."""
    if not _is_array_file(path):
        return None
    catalog = catalog_of(path)
    used = (item for item in catalog.of_kind("images") if key is not None and item.key == key)
    return catalog.note("images", next(used, None))


def _is_array_file(path: str | os.PathLike[str]) -> bool:
    return Path(path).is_file() and Path(path).suffix.lower() in (".npy", ".npz")
