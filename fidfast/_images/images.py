"""Images of a folder, an archive or an array, one at a time as (height, width, 3) uint8.

`open_images` finds out what a path holds. Pixels are those that the field's tools see (``PIL.Image.convert("RGB")``):
grey is repeated, palettes are looked up, CMYK is converted, an alpha channel is dropped, and the orientation that a
camera notes in EXIF is left alone. Where that would be nonsense ours differs: 16 bits are scaled to 8, not clipped.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import warnings
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXTENSIONS", "BrokenImageError", "Images", "holds_images", "open_images"]

#: Endings of files that are taken for images.
EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

#: The names under which tools keep images in an ``.npz`` (ADM, then torch-fidelity and others).
_IMAGE_KEYS = ("arr_0", "images", "samples")


class BrokenImageError(ValueError):
    """An image that cannot be read; its name and the reason are the message."""


class Images(ABC, Sequence[NDArray[np.uint8]]):
    """A sequence of images, each (height, width, 3) uint8; safe to hand to worker processes."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """A name for each image, for messages."""

    @abstractmethod
    def _facts(self) -> Iterable[str]:
        """What identifies the content, as far as it can be told without reading all of it."""

    @abstractmethod
    def _read(self, index: int) -> NDArray[np.uint8]: ...

    def fingerprint(self) -> str:
        """SHA-256 over names inside, sizes and times of change: equal content in the same place has an equal one."""
        digest = hashlib.sha256(type(self).__name__.encode())
        for fact in self._facts():
            digest.update(b"\n" + os.fsencode(fact))
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """The image; `BrokenImageError` where it cannot be read."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index %= len(self)
        try:
            return self._read(index)
        except BrokenImageError:
            raise
        except Exception as error:  # decoders raise what they like: OSError, SyntaxError, struct.error, ...
            raise BrokenImageError(f"{self.names[index]}: {error or type(error).__name__}") from error


def holds_images(path: str | os.PathLike[str]) -> bool:
    """Whether `open_images` is the way to read this: a folder, an archive, or an array of 3 or 4 dimensions."""
    path = Path(path)
    if path.is_dir() or path.suffix.lower() in (".zip", ".tar"):
        return True
    try:
        if path.suffix.lower() == ".npy":
            return bool(np.load(path, mmap_mode="r").ndim > 2)
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                member = _image_member(archive)
                return member is not None and len(_header_of(archive, member)[0]) > 2
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        pass  # whoever reads it says what is wrong
    return False


def open_images(source: str | os.PathLike[str] | NDArray[np.uint8]) -> Images:
    """The images of a folder, ``.zip``, ``.tar`` (WebDataset), ``.npz`` or ``.npy``, or of an array.

    Parameters
    ----------
    source : path or (n, height, width[, channels]) or (n, channels, height, width) uint8 array
        Folders are read recursively, in the order of the sorted names; so are archives. Of an ``.npz`` the entry
        ``arr_0`` (as ADM writes it), ``images`` or ``samples``.

    Raises
    ------
    FileNotFoundError
        If the path leads nowhere.
    TypeError, ValueError
        If there is no image in it, or the array is not uint8 of such a shape.
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
        if suffix == ".npz":
            return _images_of_npz(path)
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise ValueError(f"{path} is damaged or not a {suffix} file: {error}") from error
    if suffix == ".npy":
        return ArrayImages(np.load(path, mmap_mode="r"), path)
    raise ValueError(f"{path}: images are read from folders, .zip, .tar, .npz and .npy, not from {suffix or 'this'}")


# Sources ------------------------------------------------------------------------------------------------------------


class FolderImages(Images):
    """The image files of a folder and the folders in it, in the order of their sorted relative names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = sorted(path.relative_to(folder).as_posix() for path in _files_below(folder))
        _require_some(self._names, folder)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def _facts(self) -> Iterable[str]:
        for name in self._names:
            known = (self._folder / name).stat()
            yield f"{name}\t{known.st_size}\t{known.st_mtime_ns}"

    def _read(self, index: int) -> NDArray[np.uint8]:
        with open(self._folder / self._names[index], "rb") as file:
            return decode(file)


class ZipImages(Images):
    """The image files of a ``.zip``, in the order of their sorted names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if _is_image(member.filename)]
        self._members = sorted(members, key=lambda member: member.filename)
        self._names = [member.filename for member in self._members]
        self._open: tuple[int, zipfile.ZipFile] | None = None
        _require_some(self._names, path)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def _facts(self) -> Iterable[str]:
        return (f"{member.filename}\t{member.file_size}\t{member.CRC}" for member in self._members)

    def _read(self, index: int) -> NDArray[np.uint8]:
        if self._open is None or self._open[0] != os.getpid():  # processes must not share one file position
            self._open = os.getpid(), zipfile.ZipFile(self._path)
        return decode(io.BytesIO(self._open[1].read(self._members[index])))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


class TarImages(Images):
    """The image files of an uncompressed ``.tar``, a WebDataset shard say, in the order in which they are stored."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with tarfile.open(path, "r:") as archive:
            members = [member for member in archive if member.isfile() and _is_image(member.name)]
            self._places = [(member.offset_data, member.size, int(member.mtime)) for member in members]
        self._names = [member.name for member in members]
        _require_some(self._names, path)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def _facts(self) -> Iterable[str]:
        known = self._path.stat()
        yield f"{known.st_size}\t{known.st_mtime_ns}"
        for name, (_, size, mtime) in zip(self._names, self._places, strict=True):
            yield f"{name}\t{size}\t{mtime}"

    def _read(self, index: int) -> NDArray[np.uint8]:
        start, size, _ = self._places[index]
        with open(self._path, "rb") as file:
            file.seek(start)
            return decode(io.BytesIO(file.read(size)))


class ArrayImages(Images):
    """The images of one uint8 array, perhaps a memory map; channels last, channels first, or grey."""

    def __init__(self, array: NDArray[np.uint8], origin: Path | str) -> None:
        if array.dtype != np.uint8:
            raise TypeError(f"{origin}: images must be uint8, got dtype {array.dtype}")
        shape = array.shape
        if array.ndim == 3:
            array = array[..., np.newaxis]
        elif array.ndim == 4 and shape[3] not in (1, 3, 4) and shape[1] in (1, 3, 4):
            array = np.moveaxis(array, 1, 3)
        if array.ndim != 4 or array.shape[3] not in (1, 3, 4):
            wanted = "(n, height, width), (n, height, width, channels) or (n, channels, height, width)"
            raise ValueError(f"{origin}: images must be {wanted} with 1, 3 or 4 channels, got shape {shape}")
        self._array = array
        self._origin = origin
        self._names = [f"{origin}[{i}]" for i in range(len(array))]
        _require_some(self._names, origin)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def _facts(self) -> Iterable[str]:
        yield str(self._array.shape)
        if isinstance(self._origin, Path):
            known = self._origin.stat()
            yield f"{known.st_size}\t{known.st_mtime_ns}"
        else:
            yield hashlib.sha256(self._array.tobytes()).hexdigest()

    def __reduce__(self) -> Any:
        if isinstance(self._origin, Path):  # a memory map would travel to another process as all its numbers
            return open_images, (self._origin,)
        return super().__reduce__()

    def _read(self, index: int) -> NDArray[np.uint8]:
        image = self._array[index]
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.array(image[:, :, :3])


def _images_of_npz(path: Path) -> ArrayImages:
    with zipfile.ZipFile(path) as archive:
        member = _image_member(archive)
        if member is None:
            keys = ", ".join(repr(name.removesuffix(".npy")) for name in archive.namelist()) or "none"
            wanted = " or ".join(map(repr, _IMAGE_KEYS))
            raise ValueError(f"{path} holds no images under {wanted}; its keys are {keys}")
        shape, fortran, dtype, start = _header_of(archive, member)
    if member.compress_type == zipfile.ZIP_STORED:  # as np.savez writes it: mapped, whatever its size
        array = np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
        return ArrayImages(array, path)
    with np.load(path, allow_pickle=False) as archive:
        return ArrayImages(archive[member.filename.removesuffix(".npy")], path)


def _image_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo | None:
    members = {member.filename: member for member in archive.infolist()}
    return next((members[f"{key}.npy"] for key in _IMAGE_KEYS if f"{key}.npy" in members), None)


def _header_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, dtype, and where the numbers of a stored member begin in the archive's file."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        header = file.tell()
    assert archive.fp is not None
    archive.fp.seek(member.header_offset + 26)  # lengths of the name and of the extra field in the local header
    name, extra = (int.from_bytes(archive.fp.read(2), "little") for _ in range(2))
    return shape, fortran, dtype, member.header_offset + 30 + name + extra + header


def _files_below(folder: Path) -> Iterator[Path]:
    """The image files in all folders below this one, linked ones too; an OSError where one cannot be read."""

    def stop(error: OSError) -> None:
        raise error

    seen = {os.path.realpath(folder)}
    for here, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        places = {name: os.path.realpath(os.path.join(here, name)) for name in folders}
        # A link back to a folder above would be followed for ever.
        folders[:] = [name for name in folders if places[name] not in seen]
        seen.update(places.values())
        yield from (Path(here, name) for name in names if _is_image(name))


def _is_image(name: str) -> bool:
    """By its ending; what macOS writes beside images, under their names, is none."""
    hidden = name.startswith("__MACOSX/") or os.path.basename(name).startswith("._")
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not hidden


def _require_some(names: Sequence[str], origin: Path | str) -> None:
    if not names:
        raise ValueError(f"{origin} holds no images; the endings looked for are {', '.join(sorted(EXTENSIONS))}")


# Decoding -----------------------------------------------------------------------------------------------------------


def decode(file: IO[bytes]) -> NDArray[np.uint8]:
    """The pixels of an encoded image as (height, width, 3) uint8."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return as_rgb(image)
    except UnidentifiedImageError:
        raise ValueError("not an image, or of an unknown kind") from None


def as_rgb(image: Any) -> NDArray[np.uint8]:
    """The pixels of a PIL image as (height, width, 3) uint8."""
    if image.mode.startswith("I"):  # 16 bits of grey, which PIL would clip at 255
        wide = np.asarray(image).astype(np.int64)
        grey = ((np.clip(wide, 0, 65535) * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if image.mode == "F":
        raise ValueError("pixels in floating point are not supported")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of palettes with transparency, which is dropped here
        return np.array(image.convert("RGB"))
