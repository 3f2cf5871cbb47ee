"""Arrays and groups of zarr, formats 2 and 3, in folders and zip archives."""

from __future__ import annotations

import functools
import os
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._files.buffers import nbytes_of, require_plausible
from fidfast._files.records import Entry, Tree
from fidfast._files.rows import dtype_of_rows, sliced_entry
from fidfast._warnings import warn_user

__all__ = ["is_zarr", "open_zarr"]

#: Files of metadata at the root.
_ROOTS = ("zarr.json", ".zarray", ".zgroup")

#: Codecs that turn bytes into bytes or numbers. Others may execute code: ``pickle`` does.
_CODECS = (
    "adler32 bitround blosc bytes bz2 crc32 crc32c delta fixedscaleoffset fletcher32 gzip jenkins_lookup3 lz4 lzma "
    "packbits quantize sharding_indexed shuffle transpose zlib zstd"
)

#: Rows of a block, unless chunks have more.
_ROWS = 1024


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether the path is a zarr array or group: a folder, or a zip archive with the metadata at its root."""
    path = Path(path)
    if path.is_dir():
        return any((path / name).is_file() for name in _ROOTS)
    if path.suffix.lower() != ".zip" or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name in archive.NameToInfo for name in _ROOTS)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return False


def open_zarr(path: Path) -> Tree:
    """The array under the key "", or the arrays of a group and of its groups by name; and its attribute ``extractor``.

    Raises
    ------
    ImportError
        If zarr is not installed.
    ValueError
        If the metadata are damaged, or an array has a codec that may execute code.
    """
    try:
        import zarr
        from zarr.storage import LocalStore, ZipStore
    except ImportError as error:
        reason = "arrays of zarr need zarr 3, and Python 3.11 or later: pip install 'fidfast[features]'"
        raise ImportError(f"{path}: {reason} ({error})") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about members that are no part of the array
            store = LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r")
            root = zarr.open(store, mode="r")
            arrays = {"": root} if isinstance(root, zarr.Array) else dict(_arrays_of(root))
            text = root.attrs.get("extractor")
        stored = _size_of(path)
        tree: dict[str, Entry] = {key: _entry(path, key, array, stored) for key, array in arrays.items()}
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # of zarr and its codecs, of many types
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(str(error) or type(error).__name__) from error
    if isinstance(text, str) and text:
        name = np.asarray(text)
        tree["extractor"] = Entry((), name.dtype.name, lambda: name)
    return tree


def _arrays_of(group: Any, prefix: str = "", depth: int = 8) -> Iterator[tuple[str, Any]]:
    yield from ((prefix + key, array) for key, array in sorted(group.arrays()))
    if depth > 0:
        for key, inner in sorted(group.groups()):
            yield from _arrays_of(inner, f"{prefix}{key}/", depth - 1)


def _size_of(path: Path) -> int:
    """Bytes of all files."""
    if path.is_file():
        return path.stat().st_size
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def _entry(path: Path, key: str, array: Any, stored: int) -> Entry:
    shape, label = tuple(map(int, array.shape)), f"{path}: {repr(key) if key else 'the array'}"
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "fiub":
        return _refused(shape, f"{label} has dtype {dtype}, which is not supported")
    unknown = sorted(set(_codecs_of(array)).difference(_CODECS.split()))
    if unknown:
        return _refused(shape, f"{label} has the codec {unknown[0]!r}, which is not supported: store it with another")
    size = nbytes_of(shape, dtype.itemsize)
    require_plausible(size, stored, label)
    chunks = tuple(map(int, getattr(array, "shards", None) or array.chunks))
    require_plausible(nbytes_of(chunks, dtype.itemsize), stored, f"a chunk of {label}")

    def load() -> Any:
        try:
            return np.asarray(array[...])
        except Exception as error:  # of codecs, of many types
            raise ValueError(f"{label} is damaged: {error}") from error

    @functools.cache  # once, though the array may be read several times
    def warn() -> None:
        _warn_of_missing(array, label)

    def blocks(first: int) -> Iterator[NDArray[Any]]:
        warn()
        rows = max(chunks[0], _ROWS // chunks[0] * chunks[0])
        while first < shape[0]:
            last = min(first // rows * rows + rows, shape[0])
            yield np.asarray(array[first:last])
            first = last

    entry = Entry(shape, dtype.name, load)
    return sliced_entry(path, shape, dtype.name, blocks) if dtype_of_rows(entry) and len(shape) in (2, 4) else entry


def _refused(shape: tuple[int, ...], reason: str) -> Entry:
    def refuse() -> Any:
        raise ValueError(reason)

    return Entry(shape, "object", refuse)


def _codecs_of(array: Any) -> Iterable[str]:
    """Names of the codecs of an array, and of those inside."""
    metadata = array.metadata
    codecs = list(getattr(metadata, "codecs", None) or [])
    for codec in (*(getattr(metadata, "filters", None) or []), getattr(metadata, "compressor", None)):
        if codec is not None:
            codecs.append(codec)
    while codecs:
        codec = codecs.pop()
        codecs += [*(getattr(codec, "codecs", None) or []), *(getattr(codec, "index_codecs", None) or [])]
        yield _name_of(codec)


def _name_of(codec: Any) -> str:
    name = getattr(codec, "codec_id", None) or codec.to_dict().get("name", type(codec).__name__)
    return str(name).removeprefix("numcodecs.")


def _warn_of_missing(array: Any, label: str) -> None:
    """Warn of chunks that are not stored: zarr reads them as the fill value, also if a copy is incomplete."""
    missing = array.nchunks - array.nchunks_initialized if getattr(array, "shards", None) is None else 0
    if missing > 0:
        warn_user(
            f"{label}: {missing:,} of {array.nchunks:,} chunks are not stored, and are read as {array.fill_value}: "
            "check that the copy is complete"
        )
