"""Base classes of all image sources: sequences of (height, width, 3) uint8 images with names."""

from __future__ import annotations

import copy
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fidfast._images.decode import Decoding, decode
from fidfast._images.hashes import FileState, hash_files, states_of
from fidfast._images.selection import EXTENSIONS, Ignored, is_picture
from fidfast._shards import sampled

__all__ = ["BrokenImageError", "EncodedImages", "Images", "reason_of", "require_images"]


class BrokenImageError(ValueError):
    """An image cannot be read; the message gives its path and the reason."""


class Images(ABC, Sequence[NDArray[np.uint8]]):
    """A sequence of images, each (height, width, 3) uint8; can be pickled for worker processes."""

    #: Number of files (or arrays) of the source that are not read, by reason; each reason ends with an example.
    ignored: Mapping[str, int]
    #: Folder or file that holds the images; a name for messages if it is an array.
    origin: Path | str
    #: How files become pixels.
    decoding: Decoding
    #: Of a part of a source, the indices of its images there, and the number of images there.
    _part: tuple[range, int] | None = None
    #: Whether one file holds all images.
    _share_file = False
    #: The fingerprint, and the state of the files from which it was computed.
    _hashed: tuple[str, list[FileState]] | None = None

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """Name of each image; in a folder or archive the name there."""

    @property
    @abstractmethod
    def files(self) -> Sequence[Path]:
        """The files that hold the images; empty for an array in memory."""

    @abstractmethod
    def _identity(self) -> Iterable[str]:
        """Strings that identify the images, together with the bytes of `files`."""

    def _listing(self) -> Iterable[str]:
        """Strings that name the images, without the path of the source."""
        return self.names

    @abstractmethod
    def _content(self, index: int) -> bytes:
        """The bytes of an image, before it is decoded."""

    @abstractmethod
    def _select(self, indices: range) -> None:
        """Keep only the images with these indices."""

    @abstractmethod
    def _read(self, index: int) -> NDArray[np.uint8]: ...

    def path_of(self, index: int) -> str:
        """Path of an image; of an image in an archive, its name there after the path of the archive."""
        return f"{self.origin}/{self.names[index]}"

    def fingerprint(self, *, progress: bool = False) -> str:
        """BLAKE2b of the names and of the bytes of all files; changes if and only if the images or names change.

        Hashes of unchanged files are kept in the cache folder, so that they are read once.

        Parameters
        ----------
        progress : bool, default False
            Whether to show a progress bar if there is much to read.
        """
        if self._hashed is not None and not self.have_changed():
            return self._hashed[0]
        digests, states = self._hashes(progress)
        total = hashlib.blake2b(f"{type(self).__name__}\n{self.decoding}".encode(), digest_size=32)
        if self._part is not None:
            indices, number = self._part
            total.update(f"\nimages {indices.start} to {indices.stop} of {number}".encode())
        for line in self._identity():
            total.update(b"\n" + os.fsencode(line))
        total.update(b"\n\n" + b"".join(digest or bytes(32) for digest in digests))
        self._hashed = total.hexdigest(), states
        return self._hashed[0]

    def _hashes(self, progress: bool) -> tuple[list[bytes], list[FileState]]:
        """Hashes of the files, or of the images of a part of one file; and the state of the files before."""
        indices, number = self._part or (range(0), 0)
        if len(indices) == number or not (self._share_file and self.files):
            return hash_files(self.files, Path(self.origin), progress=progress)
        states = states_of(self.files)
        return list(map(self._hash_of, range(len(self)))), states

    def _hash_of(self, index: int) -> bytes:
        """Hash of the bytes of an image, of none if they cannot be read: it is reported as broken when it is read."""
        content = b""
        with suppress(Exception):  # as in __getitem__
            content = self._content(index)
        return hashlib.blake2b(content, digest_size=32).digest()

    def digest(self) -> str:
        """Hash of the names and of the bytes of a few images; equal on machines with copies of the source."""
        total = hashlib.blake2b(f"{len(self)} images {self.decoding.max_value}".encode(), digest_size=16)
        for line in self._listing():
            total.update(b"\n" + os.fsencode(line))
        for index in sampled(len(self)):
            total.update(self._hash_of(index))
        return total.hexdigest()

    def part(self, indices: range) -> Images:
        """The images with these consecutive indices, with the same names; only their files are hashed."""
        part = copy.copy(self)
        part._hashed = None
        within, number = (range(len(self)), len(self)) if self._part is None else self._part
        part._part = within[indices.start : indices.stop], number
        part._select(indices)
        return part

    def have_changed(self) -> bool:
        """Whether a file has changed since `fingerprint` read it."""
        return self._hashed is not None and states_of(self.files) != self._hashed[1]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """The image, or a list of images for a slice; raises `BrokenImageError` if it cannot be read."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} images")
        index %= len(self)
        try:
            return self._read(index)
        except BrokenImageError:
            raise
        except Exception as error:  # decoders raise many types: OSError, SyntaxError, struct.error, ...
            raise BrokenImageError(f"{self.path_of(index)}: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, without the path that an OSError repeats."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


class EncodedImages(Images):
    """Image files, in a folder or archive."""

    @abstractmethod
    def open_file(self, index: int) -> IO[bytes]:
        """The file of an image, to be closed by the caller."""

    def _content(self, index: int) -> bytes:
        with self.open_file(index) as file:
            return file.read()

    def _read(self, index: int) -> NDArray[np.uint8]:
        with self.open_file(index) as file:
            return decode(file, self.decoding)


def require_images(names: Sequence[str], origin: Path | str, ignored: Ignored) -> None:
    """Raise ValueError if there are no images."""
    if names:
        return
    counts = ignored.to_dict()
    found = f"; not read: {', '.join(f'{number} {reason}' for reason, number in counts.items())}" if counts else ""
    if any(is_picture(f"x{reason.split(' (')[0]}") for reason in counts):
        found += "; pass suffix (--suffix) to read files with other extensions"
    raise ValueError(f"{origin} holds no images; supported extensions are {', '.join(sorted(EXTENSIONS))}{found}")
