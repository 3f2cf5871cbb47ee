"""Images of ``.zip`` and ``.tar`` archives."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from fidfast._images.decode import Decoding
from fidfast._images.images import EncodedImages, require_images
from fidfast._images.selection import Ignored, is_picture, select

__all__ = ["TarImages", "ZipImages"]


class _ArchiveImages(EncodedImages):
    """Images of one file."""

    origin: Path
    _names: Sequence[str]

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def files(self) -> Sequence[Path]:
        return [self.origin]

    def _identity(self) -> Iterable[str]:
        return self._names


class ZipImages(_ArchiveImages):
    """The image files of a ``.zip``, sorted by name."""

    def __init__(self, path: Path, suffixes: tuple[str, ...] | None, decoding: Decoding) -> None:
        ignored = Ignored()
        last: dict[str, zipfile.ZipInfo] = {}
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if stat.S_ISLNK(member.external_attr >> 16):
                    ignored.add("link", member.filename)
                elif not member.is_dir():
                    _count_replaced(last, member.filename, ignored)
                    last[member.filename] = member
        names = sorted(last)
        self._names = [names[i] for i in select(names, suffixes, ignored, path, archive=False)]
        self._members = [last[name] for name in self._names]
        self.origin = path
        self.decoding = decoding
        self.ignored = ignored.to_dict()
        self._open: tuple[int, zipfile.ZipFile] | None = None
        require_images(self._names, path, ignored)

    def open_file(self, index: int) -> IO[bytes]:
        if self._open is None or self._open[0] != os.getpid():  # processes must not share one file position
            self._open = os.getpid(), zipfile.ZipFile(self.origin)
        return io.BytesIO(self._open[1].read(self._members[index]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


class TarImages(_ArchiveImages):
    """The image files of an uncompressed ``.tar`` (for example a WebDataset shard), in stored order."""

    def __init__(self, path: Path, suffixes: tuple[str, ...] | None, decoding: Decoding) -> None:
        ignored = Ignored()
        last: dict[str, tuple[int, int]] = {}  # offset and size
        contents: dict[str, tuple[int, int]] = {}  # also of files that are replaced, for hard links to them
        with tarfile.open(path, "r:") as archive:
            for member in _members_of(archive):
                content = _content_of(member, contents)
                if content is not None:
                    _count_replaced(last, member.name, ignored)
                    last.pop(member.name, None)  # in the order of the last
                    last[member.name] = contents[member.name] = content
                elif not member.isdir() and is_picture(member.name):
                    kind = "link" if member.issym() or member.islnk() else "sparse file" if member.sparse else None
                    ignored.add(kind or "not a regular file", member.name)
        names = list(last)
        self._names = [names[i] for i in select(names, suffixes, ignored, path, archive=True)]
        self._members = [last[name] for name in self._names]
        self.origin = path
        self.decoding = decoding
        self.ignored = ignored.to_dict()
        require_images(self._names, path, ignored)

    def open_file(self, index: int) -> IO[bytes]:
        offset, size = self._members[index]
        with open(self.origin, "rb") as file:
            file.seek(offset)
            return io.BytesIO(file.read(size))


def _members_of(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members, also of archives that follow the end mark (``cat a.tar b.tar``).

    Raises
    ------
    tarfile.ReadError
        If other data than zeros and archives follow the end mark.
    """
    yield from archive
    file = archive.fileobj
    assert file is not None
    while (offset := _first_block(file, archive.offset)) is not None:
        file.seek(offset)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            if archive.next() is None:
                raise tarfile.ReadError(f"invalid data at byte {offset:,}")
            yield from archive


def _first_block(file: Any, offset: int) -> int | None:
    """Offset of the first block from `offset` that is not zero; None at the end of the file."""
    file.seek(offset)
    while block := file.read(tarfile.BLOCKSIZE):
        if any(block):
            return offset
        offset += len(block)
    return None


def _content_of(member: tarfile.TarInfo, contents: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Offset and size of a file, or of the earlier file to which a hard link points; None without such content."""
    if member.islnk():
        return contents.get(member.linkname)
    return (member.offset_data, member.size) if member.isreg() and not member.issparse() else None


def _count_replaced(members: Mapping[str, Any], name: str, ignored: Ignored) -> None:
    """Count the earlier file of this name, which unpacking would overwrite."""
    if name in members and is_picture(name):
        ignored.add("replaced by a later file of the same name", name)
