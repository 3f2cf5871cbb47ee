"""Images of ``.zip`` and ``.tar`` archives."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from fidfast._images.decode import Decoding, open_regular, require_size
from fidfast._images.images import EncodedImages, require_images
from fidfast._images.selection import Ignored, is_picture, select
from fidfast._images.tar import TarMember, tar_members

__all__ = ["TarImages", "ZipImages", "require_complete"]

#: Of a zip archive: mark, number of files, length of the comment.
_END_RECORD = struct.Struct("<4s6xH8xH")
#: Bytes of the two records of zip64 before the end record.
_ZIP64_RECORDS = 76


class _ArchiveImages(EncodedImages):
    """Images of one file."""

    origin: Path
    _share_file = True
    _names: Sequence[str]
    _members: Sequence[Any]

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def files(self) -> Sequence[Path]:
        return [self.origin]

    def _identity(self) -> Iterable[str]:
        return self._names

    def _select(self, indices: range) -> None:
        self._names = self._names[indices.start : indices.stop]
        self._members = self._members[indices.start : indices.stop]


class ZipImages(_ArchiveImages):
    """The image files of a ``.zip``, sorted by name."""

    def __init__(self, path: Path, suffixes: tuple[str, ...] | None, decoding: Decoding) -> None:
        ignored = Ignored()
        last: dict[str, zipfile.ZipInfo] = {}
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            require_complete(archive)
            for member in archive.infolist():
                if stat.S_ISLNK(member.external_attr >> 16):
                    ignored.add("link", member.filename)
                elif not member.is_dir() or member.file_size > 0:
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
            open_regular(self.origin).close()
            self._open = os.getpid(), zipfile.ZipFile(self.origin)
        require_size(self._members[index].file_size, self.decoding)
        return io.BytesIO(self._open[1].read(self._members[index]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


class TarImages(_ArchiveImages):
    """The image files of an uncompressed ``.tar`` (for example a WebDataset shard), in stored order."""

    def __init__(self, path: Path, suffixes: tuple[str, ...] | None, decoding: Decoding) -> None:
        ignored = Ignored()
        last: dict[str, TarMember] = {}
        contents: dict[str, TarMember] = {}  # also of files that are replaced, for hard links to them
        with open_regular(path) as file:
            for member in tar_members(file):
                content = contents.get(member.target) if member.kind == "hard link" else member
                if content is not None and content.kind == "file":
                    _count_replaced(last, member.name, ignored)
                    last.pop(member.name, None)  # in the order of the last
                    last[member.name] = contents[member.name] = content
                elif member.kind != "folder" and is_picture(member.name):
                    ignored.add(member.kind.removeprefix("hard "), member.name)
        names = list(last)
        self._names = [names[i] for i in select(names, suffixes, ignored, path, archive=True)]
        self._members = [(last[name].offset, last[name].size) for name in self._names]
        self.origin = path
        self.decoding = decoding
        self.ignored = ignored.to_dict()
        require_images(self._names, path, ignored)

    def open_file(self, index: int) -> IO[bytes]:
        offset, size = self._members[index]
        require_size(size, self.decoding)
        with open_regular(self.origin) as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise ValueError(f"{self.origin} has become shorter since it was opened")
        return io.BytesIO(content)


def require_complete(archive: zipfile.ZipFile) -> None:
    """Check that a zip archive lists all of its files.

    Raises
    ------
    zipfile.BadZipFile
        If the number of files is not that in the end record, the end record is not at the end, or files overlap.
    """
    file, members = archive.fp, archive.infolist()
    assert file is not None
    end = file.seek(0, 2) - _END_RECORD.size - len(archive.comment)
    file.seek(max(end - _ZIP64_RECORDS, 0))
    records = file.read(min(end, _ZIP64_RECORDS) + _END_RECORD.size)
    mark, number, comment = _END_RECORD.unpack(records[-_END_RECORD.size :])
    if mark != b"PK\5\6" or comment != len(archive.comment):
        raise zipfile.BadZipFile("other data follow its end; repair it, for example with zip -FF FILE --out NEW")
    if number == 0xFFFF and records.startswith(b"PK\6\6"):
        number = int.from_bytes(records[32:40], "little")
    if number not in (len(members), len(members) & 0xFFFF):  # macOS stores the last 16 bits of larger numbers
        raise zipfile.BadZipFile(f"it lists {len(members):,} files, but its end record says {number:,}")
    file.seek(0)
    position = 0 if file.read(4) == b"PK\3\4" else None  # None after the program of a self-extracting archive
    for member in sorted(members, key=lambda member: member.header_offset):
        if position is not None and member.header_offset < position:
            raise zipfile.BadZipFile(f"{member.filename!r} overlaps another file")
        if position == 0 < member.header_offset:
            raise zipfile.BadZipFile("it begins with a file that it does not list")
        position = member.header_offset + 30 + len(member.filename) + member.compress_size  # at least


def _count_replaced(members: Mapping[str, Any], name: str, ignored: Ignored) -> None:
    """Count the earlier file of this name, which unpacking would overwrite."""
    if name in members and is_picture(name):
        ignored.add("replaced by a later file of the same name", name)
