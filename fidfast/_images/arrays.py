"""Images of arrays, ``.npy`` and ``.npz`` files."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._images.images import Images, require_images

__all__ = ["ArrayImages", "array_ndim", "open_array"]

#: Keys of images in an ``.npz``; ADM writes ``arr_0``.
_IMAGE_KEYS = ("arr_0", "images", "samples")


class ArrayImages(Images):
    """The images of one uint8 array or memory map: channels last, channels first, or grey."""

    def __init__(self, array: NDArray[np.uint8], origin: Path | str) -> None:
        if array.dtype != np.uint8:
            raise TypeError(f"{origin}: images must be uint8, got dtype {array.dtype}")
        shape = array.shape
        if array.ndim == 3:
            array = array[..., np.newaxis]
        elif array.ndim == 4 and shape[3] not in (1, 3, 4) and shape[1] in (1, 3, 4):
            array = np.moveaxis(array, 1, 3)
        if array.ndim != 4 or array.shape[3] not in (1, 3, 4):
            expected = "(n, height, width), (n, height, width, channels) or (n, channels, height, width)"
            raise ValueError(f"{origin}: images must be {expected} with 1, 3 or 4 channels, got shape {shape}")
        self._array = array
        self._origin = origin
        self._names = [f"{origin}[{i}]" for i in range(len(array))]
        require_images(self._names, origin)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def _identity(self) -> Iterable[str]:
        yield str(self._array.shape)
        if isinstance(self._origin, Path):
            status = self._origin.stat()
            yield f"{status.st_size}\t{status.st_mtime_ns}"
        else:
            yield hashlib.sha256(self._array.tobytes()).hexdigest()

    def __reduce__(self) -> Any:
        if isinstance(self._origin, Path):  # the pickle of a memory map would hold all of its data
            return open_array, (self._origin,)
        return super().__reduce__()

    def _read(self, index: int) -> NDArray[np.uint8]:
        image = self._array[index]
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.array(image[:, :, :3])


def open_array(path: Path) -> ArrayImages:
    """The images of a ``.npy`` or ``.npz`` file; not read into memory unless the file is compressed."""
    if path.suffix.lower() == ".npy":
        return ArrayImages(np.load(path, mmap_mode="r"), path)
    with zipfile.ZipFile(path) as archive:
        member = _image_member(archive)
        if member is None:
            keys = ", ".join(repr(name.removesuffix(".npy")) for name in archive.namelist()) or "none"
            expected = " or ".join(map(repr, _IMAGE_KEYS))
            raise ValueError(f"{path} holds no images under {expected}; its keys are {keys}")
        shape, fortran, dtype, offset = _header(archive, member)
    if member.compress_type == zipfile.ZIP_STORED:  # np.savez stores without compression
        return ArrayImages(np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C"), path)
    with np.load(path, allow_pickle=False) as archive:
        return ArrayImages(archive[member.filename.removesuffix(".npy")], path)


def array_ndim(path: Path) -> int | None:
    """Number of dimensions of the array in a ``.npy``, or of the images in an ``.npz``; None if it holds none.

    2 for pooled feature maps, floats of the shape (n, dim, 1, 1).
    """
    if path.suffix.lower() == ".npy":
        array = np.load(path, mmap_mode="r")
        shape, dtype = array.shape, array.dtype
    else:
        with zipfile.ZipFile(path) as archive:
            member = _image_member(archive)
            if member is None:
                return None
            shape, _, dtype, _ = _header(archive, member)
    return 2 if len(shape) == 4 and shape[2:] == (1, 1) and dtype.kind == "f" else len(shape)


def _image_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo | None:
    members = {member.filename: member for member in archive.infolist()}
    return next((members[f"{key}.npy"] for key in _IMAGE_KEYS if f"{key}.npy" in members), None)


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, dtype, and offset of the data in the archive's file if the member is not compressed."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        header = file.tell()
    assert archive.fp is not None
    archive.fp.seek(member.header_offset + 26)  # lengths of the name and of the extra field in the local header
    name, extra = (int.from_bytes(archive.fp.read(2), "little") for _ in range(2))
    return shape, fortran, dtype, member.header_offset + 30 + name + extra + header
