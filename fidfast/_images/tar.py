"""The members of a tar archive: v7, ustar, GNU and pax.

Python's `tarfile` takes a damaged header for the end of the archive, and an archive without an end mark for a complete
one. Here both are errors, so that a damaged archive is never read as a shorter one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import IO, NamedTuple

__all__ = ["TarError", "TarMember", "tar_members"]

_BLOCK = 512
#: Largest number of bytes of a name; systems allow 4096 or fewer.
_MAX_NAME = 2**16
_RECORD = re.compile(rb"(\d{1,12}) ([^=\n]{1,200})=")
_KINDS = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hard link",
    b"2": "link",
    b"5": "folder",
    b"S": "sparse file",
}
#: Fields of pax headers; the last three are of the three versions of sparse files.
_FIELDS = {
    b"path": "path",
    b"linkpath": "linkpath",
    b"size": "size",
    b"GNU.sparse.name": "name of sparse file",
    b"GNU.sparse.map": "sparse",
    b"GNU.sparse.size": "sparse",
    b"GNU.sparse.major": "sparse",
}
#: Types that have no content, whatever their size says.
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")


class TarError(ValueError):
    """The archive is damaged, or not a tar archive."""


class TarMember(NamedTuple):
    """One entry of an archive."""

    name: str
    #: "file", "folder", "hard link", "link", "sparse file" or "not a regular file".
    kind: str
    #: Position of the content in the archive, in bytes.
    offset: int
    #: Bytes of the content.
    size: int
    #: Name of the member to which a link points.
    target: str


def tar_members(file: IO[bytes]) -> Iterator[TarMember]:
    """The members in stored order, also those of archives that follow the end mark (``cat a.tar b.tar``).

    Raises
    ------
    TarError
        If a header is damaged, the content of a member or the end mark is missing, or other data follow the end mark.
    """
    end = file.seek(0, 2)
    offset, complete = 0, False
    shared: dict[str, bytes] = {}  # of the global extended headers
    own: dict[str, bytes] = {}  # of the extended headers of the next member
    while offset < end:
        file.seek(offset)
        header = file.read(_BLOCK)
        if not any(header) and not own:
            complete = complete or len(header) == _BLOCK
            offset += len(header)
            continue
        try:
            kind, size, start = header[156:157], _size_in(header, offset), offset + _BLOCK
        except TarError as error:
            if not complete:
                raise
            problem = f"other data follow its end, at byte {offset:,}, which are not an archive ({error})"
            raise TarError(f"{problem}; to drop them: truncate -s {offset} FILE") from None
        complete = False
        if kind in (b"x", b"X", b"g", b"L", b"K"):
            _require_end(start + size, end, "an extended header")
            content = file.read(size)
            if kind in (b"x", b"X", b"g"):
                (shared if kind == b"g" else own).update(_records(content, offset))
            else:  # GNU's long names
                own["path" if kind == b"L" else "linkpath"] = content.partition(b"\0")[0]
        else:
            fields = {**shared, **own}
            own = {}
            if "size" in fields:
                size = _number(fields["size"], 10, offset)
            more = kind == b"S" and header[482]
            while more:  # further blocks of GNU's list of holes
                more = file.read(_BLOCK).ljust(_BLOCK, b"\0")[504]
                start += _BLOCK
            member = _member(header, kind, fields, start, 0 if kind in _WITHOUT_CONTENT else size)
            size = member.size
            _require_end(start + size, end, repr(member.name))
            yield member
        offset = start + -(-size // _BLOCK) * _BLOCK
    if not complete or own:
        raise TarError(
            f"its end mark is missing, at byte {end:,}: copy or write it again; if no image is missing, add the mark: "
            "head -c 1024 /dev/zero >> FILE"
        )


def _member(header: bytes, kind: bytes, fields: Mapping[str, bytes], start: int, size: int) -> TarMember:
    prefix = _text(header[345:500]) + b"/" if header[257:263] == b"ustar\0" and header[345] else b""
    name = fields.get("name of sparse file") or fields.get("path") or prefix + _text(header[:100])
    target = fields.get("linkpath") or _text(header[157:257])
    if max(len(name), len(target)) > _MAX_NAME:  # a global header would repeat it for each member
        raise TarError(f"a name has {max(len(name), len(target)):,} bytes")
    what = _KINDS.get(kind, "not a regular file")
    if "sparse" in fields:
        what = "sparse file"
    if kind == b"\0" and name.endswith(b"/"):  # of v7
        what, size = "folder", 0
    return TarMember(_decoded(name), what, start, size, _decoded(target))


def _size_in(header: bytes, offset: int) -> int:
    """The size in a header, whose checksum is correct."""
    if len(header) < _BLOCK:
        raise TarError(f"the header at byte {offset:,} is truncated")
    stored = _number(header[148:156], 8, offset)
    checked = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(checked)
    if stored not in (unsigned, unsigned - 256 * sum(byte > 127 for byte in checked)):  # old tools added signed bytes
        raise TarError(f"invalid header at byte {offset:,}")
    field = header[124:136]
    if field[0] == 0x80:  # binary, of 8 GiB and more
        return int.from_bytes(field[1:], "big")
    return _number(field, 8, offset)


def _number(field: bytes, base: int, offset: int) -> int:
    text = _text(field).strip() or b"0"
    if not (text.isdigit() and len(text) < 20 and max(text) < ord("0") + base):
        raise TarError(f"invalid number in the header at byte {offset:,}")
    return int(text, base)


def _records(content: bytes, offset: int) -> dict[str, bytes]:
    """The fields of a pax header that are used; a record is its length, a space, ``field=value`` and a line feed."""
    found, position = {}, 0
    content = content.rstrip(b"\0")
    while position < len(content):
        match = _RECORD.match(content, position)
        stop = position + int(match[1]) if match is not None else 0
        if match is None or stop <= match.end() or stop > len(content) or content[stop - 1] != ord("\n"):
            raise TarError(f"invalid extended header at byte {offset:,}")
        if match[2] in _FIELDS:
            found[_FIELDS[match[2]]] = content[match.end() : stop - 1]
        position = stop
    return found


def _require_end(stop: int, end: int, what: str) -> None:
    if stop > end:
        raise TarError(f"{what} ends at byte {stop:,}, but the archive ends at byte {end:,}")


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
