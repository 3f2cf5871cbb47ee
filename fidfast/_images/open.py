"""Opens any image source."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fidfast._images.archives import TarImages, ZipImages
from fidfast._images.arrays import ArrayImages, array_ndim, open_array
from fidfast._images.folders import FolderImages
from fidfast._images.images import Images

__all__ = ["holds_images", "open_images"]


def holds_images(path: str | os.PathLike[str]) -> bool:
    """Whether the path is a folder, an archive, or an array of 3 or more dimensions, which `open_images` reads."""
    path = Path(path)
    if path.is_dir() or path.suffix.lower() in (".zip", ".tar"):
        return True
    if path.suffix.lower() not in (".npy", ".npz"):
        return False
    try:
        return (array_ndim(path) or 0) > 2
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return False  # the function that reads the file reports the error


def open_images(source: str | os.PathLike[str] | NDArray[np.uint8]) -> Images:
    """The images of a folder, ``.zip``, ``.tar`` (WebDataset), ``.npz`` or ``.npy``, or of an array.

    Parameters
    ----------
    source : path or (n, height, width[, channels]) or (n, channels, height, width) uint8 array
        Folders and ``.zip`` files are read recursively, sorted by name; a ``.tar`` in stored order. An ``.npz`` must
        have a key ``arr_0`` (as ADM writes it), ``images`` or ``samples``.

    Raises
    ------
    FileNotFoundError
        If the path does not exist.
    TypeError, ValueError
        If it holds no images, or the array does not have this dtype or shape.
    """
    if not isinstance(source, (str, os.PathLike)):
        return ArrayImages(np.asarray(source), "images")
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    if path.is_dir():
        return FolderImages(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".zip":
            return ZipImages(path)
        if suffix == ".tar":
            return TarImages(path)
        if suffix in (".npy", ".npz"):
            return open_array(path)
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise ValueError(f"{path} is damaged or not a {suffix} file: {error}") from error
    kind = f"a {suffix} file" if suffix else "a file without an extension"
    raise ValueError(f"{path}: images are read from folders, .zip, .tar, .npz and .npy, not from {kind}")
