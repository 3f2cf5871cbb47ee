"""Images of ``.zip`` and ``.tar`` archives."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._images.decode import decode
from fidfast._images.images import Images, is_image_name, require_images

__all__ = ["TarImages", "ZipImages"]


class ZipImages(Images):
    """The image files of a ``.zip``, sorted by name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if is_image_name(member.filename)]
        self._members = sorted(members, key=lambda member: member.filename)
        self._names = [member.filename for member in self._members]
        self._open: tuple[int, zipfile.ZipFile] | None = None
        require_images(self._names, path)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def _identity(self) -> Iterable[str]:
        return (f"{member.filename}\t{member.file_size}\t{member.CRC}" for member in self._members)

    def _read(self, index: int) -> NDArray[np.uint8]:
        if self._open is None or self._open[0] != os.getpid():  # processes must not share one file position
            self._open = os.getpid(), zipfile.ZipFile(self._path)
        return decode(io.BytesIO(self._open[1].read(self._members[index])))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


class TarImages(Images):
    """The image files of an uncompressed ``.tar`` (for example a WebDataset shard), in stored order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with tarfile.open(path, "r:") as archive:
            members = [member for member in archive if member.isfile() and is_image_name(member.name)]
            self._members = [(member.offset_data, member.size, int(member.mtime)) for member in members]
        self._names = [member.name for member in members]
        require_images(self._names, path)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def _identity(self) -> Iterable[str]:
        status = self._path.stat()
        yield f"{status.st_size}\t{status.st_mtime_ns}"
        for name, (_, size, mtime) in zip(self._names, self._members, strict=True):
            yield f"{name}\t{size}\t{mtime}"

    def _read(self, index: int) -> NDArray[np.uint8]:
        offset, size, _ = self._members[index]
        with open(self._path, "rb") as file:
            file.seek(offset)
            return decode(io.BytesIO(file.read(size)))
