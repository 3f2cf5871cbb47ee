"""Zip archives whose members are checked before any is read, and arrays in NumPy's format."""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from fidfast._files.buffers import Bytes, checked_shape, require_plausible

__all__ = ["Member", "members_of", "read_npy_header"]

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
#: Bytes that are read or checked at a time.
_CHUNK = 2**24
#: Bytes that are copied at a time, so that their checksum is computed in the cache.
_IN_CACHE = 2**18
#: NumPy limits the header of an array to 10,000 bytes.
_NPY_HEADER = 2**14
#: Largest size of checksum and sizes after the data of a member.
_DESCRIPTOR = 24


@dataclass(frozen=True)
class Member:
    """A file in a zip archive."""

    path: Path
    name: str
    #: Number of bytes, uncompressed.
    size: int
    #: First byte in the archive, and number of bytes there.
    start: int
    stored_size: int
    is_compressed: bool
    #: CRC-32, or None if it is not known.
    crc: int | None

    def head(self, size: int = _NPY_HEADER) -> bytes:
        """The first bytes, not verified."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            if not self.is_compressed:
                return file.read(min(size, self.size))
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(min(2 * size, self.stored_size)), size)

    def npy_header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
        """Shape, Fortran order and dtype of an array in NumPy's format, and the position of its first byte.

        Raises
        ------
        ValueError
            If it is not such an array, or its shape does not fit the size of the member.
        """
        file = io.BytesIO(self.head())
        try:
            shape, fortran, dtype = read_npy_header(file, size=self.size)
        except ValueError as error:
            raise ValueError(f"{self.path}: {self.name!r}: {error}") from error
        return shape, fortran, dtype, file.tell()

    def map(self) -> Bytes:
        """All bytes (size,): a memory map if the member is not compressed, else as `read`. Raises as `read` does."""
        if self.is_compressed or self.size == 0:
            return self.read()
        data = np.memmap(self.path, np.uint8, "r", self.start, (self.size,))
        crc = 0
        for first in range(0, 0 if self.crc is None else self.size, _CHUNK):
            crc = zlib.crc32(data[first : first + _CHUNK].data, crc)
        self._require(self.crc in (crc, None), "its checksum does not match")
        return data

    def read(self) -> Bytes:
        """All bytes (size,), in memory. Raises ValueError if the data are damaged."""
        require_plausible(self.size, self.stored_size, f"{self.path}: {self.name!r}")
        data = np.empty(self.size, np.uint8)
        with open(self.path, "rb") as file:
            file.seek(self.start)
            crc, filled = (self._inflate if self.is_compressed else self._copy)(file, data)
        self._require(filled == self.size, f"it has {filled:,} bytes of {self.size:,}")
        self._require(self.crc in (crc, None), "its checksum does not match")
        return data

    def _copy(self, file: IO[bytes], data: Bytes) -> tuple[int, int]:
        """Read stored data into an array; return their CRC-32 and their number."""
        crc, filled, to = 0, 0, data.data
        while filled < self.size and (number := file.readinto(to[filled : filled + _IN_CACHE])):  # type: ignore[attr-defined]
            crc, filled = zlib.crc32(to[filled : filled + number], crc), filled + number
        return crc, filled

    def _inflate(self, file: IO[bytes], data: Bytes) -> tuple[int, int]:
        """Read compressed data into an array; return their CRC-32 and their number."""
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        crc, filled, left = 0, 0, self.stored_size
        pending = b""
        while not inflate.eof:
            chunk = pending or file.read(min(_CHUNK, left))
            if not chunk:
                break
            left -= 0 if pending else len(chunk)
            # One byte more than allowed shows that the data are too long.
            chunk = inflate.decompress(chunk, min(_CHUNK, self.size - filled + 1))
            pending = inflate.unconsumed_tail
            self._require(filled + len(chunk) <= self.size, "its data are longer than its size")
            data[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
            crc, filled = zlib.crc32(chunk, crc), filled + len(chunk)
        return crc, filled

    def _require(self, condition: bool, problem: str) -> None:
        if not condition:
            raise ValueError(f"{self.path}: {self.name!r} is damaged: {problem}")


def members_of(path: Path) -> dict[str, Member]:
    """The members of a zip archive by name, without folders.

    Raises
    ------
    ValueError, zipfile.BadZipFile
        If the archive is damaged: the directory differs from the headers of the members, members overlap, are missing,
        have equal names or exceed the file; or if a member is encrypted, or compressed in another way than deflate.
    """
    members: dict[str, Member] = {}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        # The first member may follow other data, for example the program of a self-extracting archive.
        end, slack = 0, 0 if file.read(4) == b"PK\3\4" else archive.start_dir
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            label = f"{path}: {info.filename!r}"
            if not end <= info.header_offset <= end + slack:
                raise ValueError(f"{label} does not follow the member before it: the archive is damaged")
            start = _start_of_data(file, info, label)
            end = start + info.compress_size
            slack = _DESCRIPTOR if info.flag_bits & 8 else 0
            if end > archive.start_dir:
                raise ValueError(f"{label} exceeds the archive: the file is damaged or incomplete")
            if info.is_dir():
                continue
            if info.filename in members:
                raise ValueError(f"{label} occurs twice in the archive")
            members[info.filename] = _member(path, info, start, label)
        if archive.start_dir > end + slack:
            raise ValueError(f"{path} holds a member that its directory does not list: the file is damaged")
        order = [info.filename for info in archive.infolist() if info.filename in members]
    return {name: members[name] for name in order}


def _member(path: Path, info: zipfile.ZipInfo, start: int, label: str) -> Member:
    if info.flag_bits & 1:
        raise ValueError(f"{label} is encrypted: extract it first")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{label} is compressed with method {info.compress_type}: save it again with numpy.savez")
    is_compressed = info.compress_type == zipfile.ZIP_DEFLATED
    # Deflate compresses to 1/1032 at best.
    if info.file_size > 1032 * info.compress_size if is_compressed else info.file_size != info.compress_size:
        raise ValueError(
            f"{label} cannot have {info.file_size:,} bytes: the archive has {info.compress_size:,} bytes for it"
        )
    return Member(path, info.filename, info.file_size, start, info.compress_size, is_compressed, info.CRC)


def _start_of_data(file: IO[bytes], info: zipfile.ZipInfo, label: str) -> int:
    """Position of the data after the local header, which must agree with the directory."""
    file.seek(info.header_offset)
    raw = file.read(_LOCAL_HEADER.size)
    if len(raw) == _LOCAL_HEADER.size:
        signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL_HEADER.unpack(raw)
        name = file.read(name_length)
        # Sizes follow the data (bit 3), or are in the extra field (2^32 - 1).
        sizes = [(packed, info.compress_size), (size, info.file_size)]
        same_sizes = flags & 8 or (crc == info.CRC and all(a in (b, 2**32 - 1) for a, b in sizes))
        same_name = name.decode("utf-8" if flags & 0x800 else "cp437", "replace") == info.orig_filename
        if signature == b"PK\3\4" and method == info.compress_type and same_sizes and same_name:
            return int(info.header_offset + len(raw) + name_length + extra_length)
    raise ValueError(f"{label}: the header of the member differs from the archive's directory: the file is damaged")


def read_npy_header(file: IO[bytes], *, size: int | None = None) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype of an array in NumPy's format; the data follow at the position of the file.

    Raises
    ------
    ValueError
        If it is not such a header, or the header and the data do not have `size` bytes together. Pickled objects may
        have any size.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        header, fortran, dtype = read(file)
    except (
        MemoryError,
        LookupError,
        SyntaxError,
        TypeError,
        RecursionError,
        OverflowError,
        tokenize.TokenError,
    ) as error:
        raise ValueError(f"the header of the array is damaged: {error}") from error
    shape = checked_shape(header)
    if size is not None and not dtype.hasobject:
        found, needed = size - file.tell(), dtype.itemsize
        for length in shape:
            needed *= length
        if found != needed:
            cause = "is damaged or incomplete" if found < needed else "is damaged or holds more than one array"
            raise ValueError(
                f"an array of shape {shape} and dtype {dtype} has {needed:,} bytes, but {found:,} bytes follow its "
                f"header: the file {cause}"
            )
    return shape, fortran, dtype
