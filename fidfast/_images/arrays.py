"""Images of arrays, ``.npy`` and ``.npz`` files."""

from __future__ import annotations

import hashlib
import math
import os
import re
import tokenize
import zipfile
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fidfast._files import catalog_of
from fidfast._files.formats import read_npy_header
from fidfast._files.items import IMAGE_KEYS
from fidfast._images.archives import require_complete
from fidfast._images.decode import Decoding, open_regular, require_pixels, scaled
from fidfast._images.images import Images, require_images
from fidfast._images.selection import Ignored

__all__ = ["ArrayImages", "array_ndim", "open_array"]

_CHANNELS = (1, 3, 4)
_MOST_HEADER = 1 << 14
_BYTES_PER_READ = 1 << 24
#: Deflate compresses to a 1,032nd at best.
_MOST_RATIO = 1032
_Header = tuple[tuple[int, ...], bool, np.dtype[Any], int]
_LAYOUTS = "(n, height, width), (n, height, width, channels) or (n, channels, height, width) with 1, 3 or 4 channels"


class ArrayImages(Images):
    """The images of one or more uint8 arrays or memory maps: channels last, channels first, or grey.

    Parameters
    ----------
    arrays : dict of str to array
        Names and arrays, each (n, height, width[, channels]) or (n, channels, height, width); of several arrays, each
        may also be one image (height, width, channels) or (channels, height, width).
    origin : Path or str
        File of the arrays; a name for messages if they are in memory.
    decoding : Decoding
        `max_value` applies to arrays of wider integers and of floats, which need it.
    ignored : Ignored, optional
    key : str, optional
        With which `open_array` reads the arrays from the file.
    """

    _share_file = True

    def __init__(
        self,
        arrays: dict[str, NDArray[Any]],
        origin: Path | str,
        decoding: Decoding,
        ignored: Ignored | None = None,
        key: str | None = None,
    ) -> None:
        self._keys = list(arrays)
        self._key = key
        self._arrays = []
        labels = []
        # Of np.savez(file, *images).
        single = len(arrays) > 1 and all(_is_one_image(array.shape) for array in arrays.values())
        for name, array in arrays.items():
            label = f"{origin}[{name!r}]" if len(arrays) > 1 else str(origin)
            array = array[np.newaxis] if single else array
            _check_dtype(array, decoding.max_value, label)
            self._arrays.append(_channels_last(array, label))
            labels.append(label)
        self._ends = list(accumulate(map(len, self._arrays)))
        self._names = _Names(labels, self._ends, single, [0] * len(labels))
        ignored = ignored or Ignored()
        self.origin = origin
        self.decoding = decoding
        self.ignored = ignored.to_dict()
        require_images(self._names, origin, ignored)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def files(self) -> Sequence[Path]:
        return [self.origin] if isinstance(self.origin, Path) else []

    def path_of(self, index: int) -> str:
        return str(self._names[index])

    def _listing(self) -> Iterable[str]:
        return [f"{key!r} {array.shape} {array.dtype.str}" for key, array in zip(self._keys, self._arrays, strict=True)]

    def _content(self, index: int) -> bytes:
        return self.stored(index).tobytes()

    def _identity(self) -> Iterable[str]:
        for key, array in zip(self._keys, self._arrays, strict=True):
            yield f"{key!r} {array.shape} {array.dtype.str}"
            if not isinstance(self.origin, Path):
                digest = hashlib.blake2b()
                for i in range(len(array)):  # not at once, since a broadcast array may be larger than the memory
                    digest.update(np.ascontiguousarray(array[i]).data)
                yield digest.hexdigest()

    def _select(self, indices: range) -> None:
        kept: list[tuple[str, NDArray[Any], str, int]] = []
        for key, array, end, label in zip(self._keys, self._arrays, self._ends, self._names.labels, strict=True):
            first = max(indices.start - (end - len(array)), 0)
            rows = array[first : max(indices.stop - (end - len(array)), 0)]
            kept += [(key, rows, label, first)] if len(rows) else []
        self._keys, self._arrays = [one[0] for one in kept], [one[1] for one in kept]
        self._ends = list(accumulate(map(len, self._arrays)))
        labels, firsts = [one[2] for one in kept], [one[3] for one in kept]
        self._names = _Names(labels, self._ends, self._names.single, firsts)

    def __reduce__(self) -> Any:
        if isinstance(self.origin, Path):  # the pickle of a memory map would hold all of its data
            indices = None if self._part is None else self._part[0]
            return _reopened, (self.origin, self.decoding, self._key, indices)
        return super().__reduce__()

    def stored(self, index: int) -> NDArray[Any]:
        """The pixels (height, width, channels) in the dtype of the array, without an alpha channel."""
        k = bisect_right(self._ends, index)
        image: NDArray[Any] = self._arrays[k][index - self._ends[k]][:, :, :3]
        return image

    def _read(self, index: int) -> NDArray[np.uint8]:
        image = self.stored(index)
        require_pixels(image.shape[0], image.shape[1], self.decoding.max_pixels)
        if image.dtype == np.bool_:
            image = image.astype(np.uint8) * 255
        elif image.dtype != np.uint8:
            image = scaled(image, self.decoding.max_value)
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.array(image)


class _Names(Sequence[str]):
    """The label of an array with the number of the image there, or the label itself of an array of one image.

    `firsts` are the numbers of the first images of the arrays.
    """

    def __init__(self, labels: list[str], ends: list[int], single: bool, firsts: list[int]) -> None:
        self.labels, self._ends, self.single, self._firsts = labels, ends, single, firsts

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        k = bisect_right(self._ends, index)
        number = index - (self._ends[k - 1] if k else 0) + self._firsts[k]
        return self.labels[k] if self.single else f"{self.labels[k]}[{number}]"


def _check_dtype(array: NDArray[Any], max_value: float | None, label: str) -> None:
    if array.dtype in (np.uint8, np.bool_):
        return
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{label}: images must be uint8, got dtype {array.dtype}")
    if max_value is None:
        raise TypeError(
            f"{label}: images must be uint8, got dtype {array.dtype}; for other numbers pass max_value "
            "(--max-value), the value of white, for example 1, 255 or 65535"
        )


def _channels_last(array: NDArray[Any], label: str) -> NDArray[Any]:
    """The images as (n, height, width, channels); ValueError if the shape has no meaning or two."""
    shape = array.shape
    if array.ndim == 2:
        raise ValueError(f"{label}: images must be {_LAYOUTS}, got shape {shape}: for one grey image pass array[None]")
    if array.ndim == 3:
        if shape[2] in _CHANNELS:
            raise ValueError(
                f"{label}: shape {shape} is one image (height, width, {shape[2]}): for one image pass "
                "array[None]; images must be " + _LAYOUTS
            )
        if shape[0] == 3:
            raise ValueError(
                f"{label}: shape {shape} is one image (3, height, width) or 3 grey images: pass array[None] for one "
                "image, array[..., None] for grey images"
            )
        return array[..., np.newaxis]
    last, first = (shape[axis] if array.ndim == 4 and shape[axis] in _CHANNELS else 0 for axis in (3, 1))
    if last and first and (last == first or 4 not in (last, first)):
        raise ValueError(
            f"{label}: shape {shape} is (n, height, width, {last}) or (n, {first}, height, width): images of such a "
            "size are read from files or a torch Dataset only"
        )
    if not (last or first):
        raise ValueError(f"{label}: images must be {_LAYOUTS}, got shape {shape}")
    # If both are possible, the one without an alpha channel: (n, 4, 4, 3) are RGB images of 4 x 4 pixels.
    channels_last = last and (not first or first == 4)
    return array if channels_last else np.moveaxis(array, 1, 3)


def open_array(path: Path, decoding: Decoding, key: str | None = None, verify: bool = True) -> ArrayImages:
    """The images of a ``.npy`` or ``.npz`` file; not kept in memory unless the file is compressed.

    Raises ValueError if an ``.npz`` holds no images, or several and no `key`; and zipfile.BadZipFile if its checksums
    are wrong, which are computed if `verify`.
    """
    if path.suffix.lower() == ".npy":
        return ArrayImages({"": _map_npy(path)}, path, decoding, key=key)
    ignored = Ignored()
    with zipfile.ZipFile(path) as archive:
        require_complete(archive)
        if len(set(archive.namelist())) < len(archive.namelist()):
            raise ValueError("two arrays have the same name")
        for member in archive.infolist():
            archive.open(member).close()  # raises an error if a name is damaged
        named = key != "images" or f"{key}.npy" in archive.namelist()
        found = _image_members(archive, key if named else None)
        if not found:
            keys = ", ".join(repr(name.removesuffix(".npy")) for name in archive.namelist()) or "none"
            expected = " or ".join(map(repr, IMAGE_KEYS)) if key is None else repr(key)
            raise ValueError(f"{path} holds no images under {expected}; its keys are {keys}")
        if len(found) > 1:
            keys = ", ".join(repr(next(iter(members))) for members in found)
            raise ValueError(f"{path} holds several images: {keys}; choose one with --key")
        (members,) = found
        if catalog_of(path).kinds == ["images"]:  # else a note says what the file holds
            for name in archive.namelist():
                if name.removesuffix(".npy") not in members:
                    ignored.add("other array", name.removesuffix(".npy"))
        for member in members.values():
            _header(archive, member)  # checks it
            with archive.open(member) as file:  # compares the checksum at the end
                while verify and member.compress_type == zipfile.ZIP_STORED and file.read(_BYTES_PER_READ):
                    pass
        arrays = _arrays_of(path, archive, members)
    return ArrayImages(arrays, path, decoding, ignored, key)


def _reopened(path: Path, decoding: Decoding, key: str | None, indices: range | None) -> Images:
    """The images of a file that was verified before, or a part of them."""
    images = open_array(path, decoding, key, verify=False)
    return images if indices is None else images.part(indices)


def array_ndim(path: Path) -> int | None:
    """Number of dimensions of the array in a ``.npy``, or of the images in an ``.npz``; None if it holds none.

    2 for pooled feature maps, floats of the shape (n, dim, 1, 1).
    """
    if path.suffix.lower() == ".npy":
        with open_regular(path) as file:
            shape, _, dtype, _ = _read_header(file)
    else:
        with zipfile.ZipFile(path) as archive:
            found = _image_members(archive, None)
            if not found:
                return None
            shape, _, dtype, _ = _header(archive, next(iter(found[0].values())))
    return 2 if _is_pooled(shape, dtype) else len(shape)


def _image_members(archive: zipfile.ZipFile, key: str | None) -> list[dict[str, zipfile.ZipInfo]]:
    """The sets of images by key: that of `key`; else those of the usual names; else uint8 images of any name.

    The arrays ``arr_k`` of ``np.savez(file, *arrays)`` are one set: those of the kind of the first that has the shape
    of images.
    """
    members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    if key is not None:
        return [{key: members[key]}] if key in members else []
    numbered = sorted((name for name in members if re.fullmatch(r"arr_\d+", name)), key=lambda name: int(name[4:]))
    headers = {name: _header(archive, members[name]) for name in (*numbered, *IMAGE_KEYS) if name in members}
    usual = [name for name, (shape, _, dtype, _) in headers.items() if _has_shape_of_images(shape, dtype)]
    positional = [name for name in numbered if name in usual]
    found = [[name] for name in IMAGE_KEYS if name in usual and name not in numbered]
    if positional:
        first = headers[positional[0]]
        found.insert(0, [name for name in positional if _are_of_one_kind(first, headers[name])])
    if not found:
        found = [[name] for name in IMAGE_KEYS if name in members and len(headers[name][0]) > 2]
    if not found:
        found = [
            [name]
            for name, member in members.items()
            if member.filename.endswith(".npy") and _holds_bytes(*_header(archive, member)[::2])
        ]
    if not found:
        found = [[name] for name in IMAGE_KEYS if name in members][:1]
    return [{name: members[name] for name in names} for names in found]


def _has_shape_of_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    has_channels = len(shape) == 4 and (shape[1] in _CHANNELS or shape[3] in _CHANNELS)
    return (len(shape) == 3 or has_channels) and dtype.kind in "buif" and not _is_pooled(shape, dtype)


def _holds_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return dtype in (np.uint8, np.bool_) and _has_shape_of_images(shape, dtype)


def _is_pooled(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return len(shape) == 4 and shape[2:] == (1, 1) and dtype.kind == "f"


def _are_of_one_kind(a: _Header, b: _Header) -> bool:
    """Whether two arrays are images of one dtype and layout: batches, or single images; not images and masks."""
    if a[2] != b[2] or len(a[0]) != len(b[0]):
        return False
    if len(a[0]) == 3 and a[0][1:] == b[0][1:]:  # also grey batches of 1, 3 or 4 images
        return True
    return _channels_of(a[0]) == _channels_of(b[0])


def _channels_of(shape: tuple[int, ...]) -> tuple[bool, ...]:
    """Whether the last and the first axis of an image are its channels, and more than one."""
    axes = shape[-1], shape[-3]
    last = axes[0] in _CHANNELS
    first = not last and axes[1] in _CHANNELS
    return (last, first, last and axes[0] > 1, first and axes[1] > 1)


def _is_one_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and (shape[2] in _CHANNELS or shape[0] in _CHANNELS)


def _arrays_of(path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> dict[str, NDArray[Any]]:
    """The arrays by key; views of one memory map of the file, or in memory if they are compressed."""
    if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
        with np.load(path, allow_pickle=False) as loaded:
            return {key: loaded[key] for key in members}
    memory = np.memmap(path, np.uint8, "r")  # np.savez stores without compression
    arrays = {}
    for key, member in members.items():
        shape, fortran, dtype, offset = _header(archive, member)
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        data = memory[offset : offset + size].view(dtype)
        arrays[key] = data.reshape(shape, order="F" if fortran else "C")
    return arrays


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Header:
    """Shape, Fortran order, dtype, and offset of the data in the archive's file if the member is not compressed.

    Raises ValueError if the member is not as long as its header says.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename!r} is compressed by method {member.compress_type}, not by deflate")
    with archive.open(member) as file:
        shape, fortran, dtype, header = _read_header(file)
    _require_size(shape, dtype, member.file_size - header, member.filename)
    if member.file_size > _MOST_RATIO * member.compress_size:
        raise ValueError(
            f"{member.filename!r} cannot have {member.file_size:,} bytes, compressed to {member.compress_size:,}"
        )
    assert archive.fp is not None
    archive.fp.seek(member.header_offset + 26)  # lengths of the name and of the extra field in the local header
    name, extra = (int.from_bytes(archive.fp.read(2), "little") for _ in range(2))
    return shape, fortran, dtype, member.header_offset + 30 + name + extra + header


def _read_header(file: IO[bytes]) -> _Header:
    """Shape, Fortran order and dtype of an array in NumPy's format, and the length of the header."""
    start = BytesIO(file.read(_MOST_HEADER))
    try:
        return *read_npy_header(start), start.tell()
    except (tokenize.TokenError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"the header of an array is damaged: {error}") from error


def _require_size(shape: tuple[int, ...], dtype: np.dtype[Any], size: int, name: str) -> None:
    """Raise ValueError unless the data of an array have this number of bytes."""
    if not dtype.hasobject and (min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size):
        raise ValueError(f"{name!r} is damaged: its header says {dtype} {shape}, but {size:,} bytes follow")


def _map_npy(path: Path) -> NDArray[Any]:
    with open_regular(path) as file:
        shape, fortran, dtype, offset = _read_header(file)
        _require_size(shape, dtype, os.fstat(file.fileno()).st_size - offset, path.name)
        if dtype.hasobject:
            raise ValueError("holds pickled objects, which are not loaded")
        if 0 in shape or not shape:
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, "r", offset, shape, "F" if fortran else "C")
