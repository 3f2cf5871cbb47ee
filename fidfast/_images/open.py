"""Opens any image source."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._files import catalog_of, find_shards, is_stats_folder, is_zarr
from fidfast._images.archives import TarImages, ZipImages
from fidfast._images.arrays import ArrayImages, array_ndim, open_array
from fidfast._images.decode import Decoding
from fidfast._images.folders import FolderImages
from fidfast._images.images import Images
from fidfast._images.selection import as_suffixes, is_picture
from fidfast._images.tar import TarError
from fidfast._masked import require_unmasked

__all__ = ["holds_images", "open_images"]

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")

#: What `zipfile` and `numpy` raise for damaged archives.
_DAMAGED = (
    zipfile.BadZipFile,
    TarError,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    UnicodeError,
    struct.error,
    zlib.error,
)


def holds_images(path: str | os.PathLike[str]) -> bool:
    """Whether the path is a folder, an archive, or an array of 3 or more dimensions, which `open_images` reads.

    Not a folder of statistics or features without images, and not an array of zarr.

    Raises
    ------
    ValueError
        If a folder holds both images and files of features.
    """
    path = Path(path)
    if is_zarr(path):
        return False
    if path.is_dir():
        return _is_folder_of_images(path)
    if path.suffix.lower() in (".zip", ".tar") or path.name.lower().endswith(_COMPRESSED):
        return True
    if path.suffix.lower() not in (".npy", ".npz") or not path.is_file():
        return False
    try:
        return (array_ndim(path) or 0) > 2
    except (*_DAMAGED, OSError, ValueError):
        return False  # the function that reads the file reports the error


def _is_folder_of_images(path: Path) -> bool:
    shards = () if is_stats_folder(path) else find_shards(path)
    if not shards and not is_stats_folder(path):
        return True
    pictures = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if is_picture(name))
    picture = next(pictures, None)
    if not shards:
        return picture is not None
    if picture is None:
        return _holds_other_arrays(shards[0])
    for shard in {file.suffix.lower(): file for file in reversed(shards)}.values():  # the first of each format
        if _holds_features(shard):
            raise ValueError(
                f"{path} holds images, such as {picture}, and files of features, such as {shard}: move those of one "
                f"kind to another folder, or pass the pattern {str(path / ('*' + shard.suffix))!r}"
            )
    return True


def _holds_features(path: Path) -> bool:
    try:
        return catalog_of(path).kinds == ["features"]
    except (ImportError, OSError, ValueError):
        return False


def _holds_other_arrays(path: Path) -> bool:
    """Whether a ``.npy`` or ``.npz`` holds an image, for example, and neither features, statistics nor a checkpoint."""
    try:
        catalog = catalog_of(path)
    except (OSError, ValueError):
        return False  # the function that reads the file reports the error
    is_other = not catalog.is_state and not catalog.has_matrix and "statistics" not in catalog.kinds
    return is_other and path.suffix.lower() in (".npy", ".npz")


def open_images(
    source: str | os.PathLike[str] | NDArray[Any],
    *,
    suffix: str | Iterable[str] | None = None,
    max_value: float | None = None,
    max_pixels: int | None = None,
    key: str | None = None,
) -> Images:
    """The images of a folder, ``.zip``, ``.tar`` (WebDataset), ``.npz`` or ``.npy``, or of an array.

    Parameters
    ----------
    source : path or (n, height, width[, channels]) or (n, channels, height, width) array
        uint8 or bool; other numbers need `max_value`. Folders and ``.zip`` files are read recursively, sorted by name;
        a ``.tar`` in stored order. Of an ``.npz``, the key ``arr_0`` (as ADM writes it), ``images`` or ``samples``,
        the keys ``arr_0``, ``arr_1``, ... of ``np.savez(file, *images)``, or the only uint8 images of another key.
    suffix : str or strings, optional
        Of folders and archives, only the files with these suffixes, as in `ImageOptions`.
    max_value : float, optional
        Value of white in pixels wider than 8 bits, as in `ImageOptions`.
    max_pixels : int, optional
        Largest number of pixels of an image, as in `ImageOptions`.
    key : str, optional
        Of an ``.npz``, the key of the images.

    Raises
    ------
    FileNotFoundError
        If the path does not exist.
    TypeError, ValueError
        If it holds no images, or the array does not have this dtype or shape.
    """
    suffixes, decoding = as_suffixes(suffix), Decoding(max_value, max_pixels)
    if not isinstance(source, (str, os.PathLike)):
        require_unmasked(source, "images")
        return ArrayImages({"": np.asarray(source)}, "images", decoding)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    if path.is_dir():
        return FolderImages(path, suffixes, decoding)
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    if path.name.lower().endswith(_COMPRESSED):
        raise ValueError(f"{path} is compressed, so its images cannot be read in any order: decompress it to a .tar")
    kind = path.suffix.lower()
    try:
        if kind == ".zip":
            return ZipImages(path, suffixes, decoding)
        if kind == ".tar":
            return TarImages(path, suffixes, decoding)
        if kind in (".npy", ".npz"):
            return open_array(path, decoding, key)
    except (*_DAMAGED, OSError, ValueError) as error:  # OSError of offsets that cannot be read
        if str(path) in str(error):
            raise
        if kind == ".tar" and _is_compressed(path):
            raise ValueError(f"{path} is compressed: decompress it, for example with gunzip or xz -d") from error
        raise ValueError(f"{path} is damaged or not a {kind} file: {error}") from error
    what = f"a {kind} file" if kind else "a file without an extension"
    raise ValueError(f"{path}: images are read from folders, .zip, .tar, .npz and .npy, not from {what}")


def _is_compressed(path: Path) -> bool:
    """Whether a file begins with the mark of gzip, bzip2, xz or Zstandard."""
    with open(path, "rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
