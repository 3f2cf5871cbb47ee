"""Features in one or several files, which are read in slices."""

from __future__ import annotations

import bisect
import errno
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._files.buffers import is_narrow, nbytes_of
from fidfast._files.records import Entry

__all__ = ["MAX_IN_MEMORY", "RowPart", "Rows", "dtype_of_rows", "part_of", "rows_of", "rows_of_chunks", "sliced_entry"]

#: Features of at most this many bytes are read at once.
MAX_IN_MEMORY = 2**27

#: Rows that are read at a time for the temporary file.
_ROWS = 8192


@dataclass(frozen=True)
class RowPart:
    """Consecutive rows in one file."""

    #: Name of the file, for messages.
    file: str
    #: Number of rows.
    n: int
    #: Returns the rows from a row on in blocks of any size, (m, dim) or (m, dim, 1, 1).
    blocks: Callable[[int], Iterator[NDArray[Any]]]


class Rows:
    """An (n, dim) array of floating-point numbers in files.

    Slices are read from the files, in memory that does not depend on n if they are read in order. Anything else, such
    as conversion to an array, uses a memory map of a temporary file (`mapped`).

    Parameters
    ----------
    parts : sequence of RowPart
        At least one.
    dim : int
        Number of columns.
    dtype : dtype
        Of the rows, in the byte order of the machine.
    """

    ndim = 2

    def __init__(self, parts: Sequence[RowPart], dim: int, dtype: Any) -> None:
        self._parts = list(parts)
        #: Number of the row after each part.
        self._ends = list(itertools.accumulate(part.n for part in parts))
        self.shape: tuple[int, int] = (self._ends[-1], dim)
        self.dtype = np.dtype(dtype)
        self._mapped: NDArray[Any] | None = None
        self._lock = threading.RLock()
        # Where reading continues: the number of the next row, and the rows from there on that have been read.
        self._next = -1
        self._blocks: Iterator[NDArray[Any]] = iter(())
        self._rest: NDArray[Any] | None = None

    @property
    def nbytes(self) -> int:
        """Number of bytes of all rows."""
        return int(self.shape[0] * self.shape[1] * self.dtype.itemsize)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if isinstance(key, slice) and key.step in (None, 1) and self._mapped is None:
            first, last, _ = key.indices(len(self))
            return self._read(first, max(first, last))
        selected: NDArray[Any] = self.mapped()[key]
        return selected

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        mapped = self.mapped()
        return np.array(mapped, dtype) if copy else mapped if dtype is None else mapped.astype(dtype, copy=False)

    def mapped(self) -> NDArray[Any]:
        """All rows as an array: up to 128 MiB in memory, else a memory map of a temporary file.

        The file has no name, so the system removes it at the end of the process at the latest.

        Raises
        ------
        OSError
            If the disk of temporary files is too small.
        ValueError
            If a file is damaged, or a row is not finite.
        """
        with self._lock:
            if self._mapped is None:
                in_memory = self.nbytes <= MAX_IN_MEMORY
                self._mapped = self._read(0, len(self)) if in_memory else self._copied_to_disk()
            return self._mapped

    def _copied_to_disk(self) -> NDArray[Any]:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        advice = f"the rows have {self.nbytes:,} bytes, and are copied to a temporary file in {folder}"
        if free < self.nbytes:
            raise OSError(errno.ENOSPC, f"{advice}, where {free:,} bytes are free: set TMPDIR to another folder")
        with tempfile.TemporaryFile(prefix="fidfast-") as file:
            for first in range(0, len(self), _ROWS):
                rows = np.ascontiguousarray(self._read(first, min(first + _ROWS, len(self))))
                try:
                    file.write(rows.data)
                    file.flush()
                except OSError as error:
                    reason = f"{advice}, which failed ({error.strerror}): set TMPDIR to another folder"
                    raise OSError(error.errno, reason) from error
            return np.memmap(file, self.dtype, "r", shape=self.shape)

    def _read(self, first: int, last: int) -> NDArray[Any]:
        """The rows from `first` to `last`."""
        pieces = [np.empty((0, self.shape[1]), self.dtype)]
        with self._lock:
            while first < last:
                number = bisect.bisect_right(self._ends, first)
                part = self._parts[number]
                start = self._ends[number] - part.n
                block = self._block_at(first, part, start)
                piece, self._rest = block[: last - first], block[last - first :]
                self._require_finite(piece, part.file, first - start)
                pieces.append(piece)
                first += len(piece)
                self._next = first
        return pieces[1] if len(pieces) == 2 else np.concatenate(pieces)

    def _block_at(self, first: int, part: RowPart, start: int) -> NDArray[Any]:
        """The rows from `first` on, as far as they are read together."""
        if self._next != first or first == start:
            self._blocks, self._rest = _naming_file(part.blocks(first - start), part.file), None
        self._next = -1  # after an error, nothing can be continued
        block = self._rest
        while block is None or len(block) == 0:
            found = next(self._blocks, None)
            if found is None:
                raise ValueError(f"{part.file} is damaged: it holds {first - start:,} rows of {part.n:,}")
            block = self._checked(found, part, first - start)
        return block

    def _checked(self, block: NDArray[Any], part: RowPart, first: int) -> NDArray[Any]:
        if first + len(block) > part.n or block.size != len(block) * self.shape[1]:
            raise ValueError(
                f"{part.file} is damaged: it holds rows {first:,} to {first + len(block) - 1:,} of shape "
                f"{block.shape[1:]}, but should hold {part.n:,} rows of dim {self.shape[1]}"
            )
        return block.reshape(len(block), self.shape[1]).astype(self.dtype, copy=False)

    @staticmethod
    def _require_finite(rows: NDArray[Any], file: str, first: int) -> None:
        try:
            _core.require_finite(rows, first_row=first)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None


def _naming_file(blocks: Iterator[NDArray[Any]], file: str) -> Iterator[NDArray[Any]]:
    """The blocks; what a library raises for a damaged file becomes a ValueError that names it."""
    try:
        yield from blocks
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        if file in str(error):
            raise ValueError(str(error)) from error
        raise ValueError(f"{file} is damaged: {error}") from error


def sliced_entry(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    dtype: str,
    blocks: Callable[[int], Iterator[NDArray[Any]]],
    columns: tuple[str, ...] = (),
) -> Entry:
    """The entry of features (n, dim) or (n, dim, 1, 1) in a file of which only `blocks` are read."""
    file = os.fspath(path)

    def load() -> Any:
        return Rows([RowPart(file, shape[0], blocks)], int(np.prod(shape[1:])), dtype).mapped()

    return Entry(shape, dtype, load, blocks, file, columns)


def rows_of_chunks(array: Any, shape: tuple[int, ...]) -> Rows | None:
    """The rows of an object that stores an array in chunks, as those of zarr, h5py and dask; None for any other."""
    dtype = str(getattr(array, "dtype", ""))
    chunks = getattr(array, "chunks", None)
    if len(shape) != 2 or dtype not in ("float16", "float32", "float64") or hasattr(array, "__dlpack__"):
        return None
    if not hasattr(array, "chunks") or not hasattr(array, "__array__"):  # h5py's are None if there is one chunk
        return None
    step = chunks[0] if isinstance(chunks, tuple) and isinstance(chunks[0], int) else _ROWS

    def blocks(first: int) -> Iterator[NDArray[Any]]:
        while first < shape[0]:
            last = min(first // step * step + step, shape[0])
            yield np.asarray(array[first:last])
            first = last

    return Rows([RowPart(f"the {type(array).__name__}", shape[0], blocks)], shape[1], dtype)


def part_of(entry: Entry, file: str | os.PathLike[str]) -> RowPart:
    """The rows of an entry (n, dim) or (n, dim, 1, 1)."""
    blocks = entry.blocks

    def read(first: int) -> Iterator[NDArray[Any]]:
        if blocks is None:
            yield entry.load()[first:]
        else:
            yield from blocks(first)

    return RowPart(os.fspath(file), entry.shape[0], read)


def dtype_of_rows(entry: Entry) -> str | None:
    """The dtype in which features are read: float32 for the types that NumPy lacks; None for unsupported ones."""
    return entry.dtype if entry.dtype in ("float16", "float32", "float64") else "float32" if is_narrow(entry) else None


def rows_of(entry: Entry) -> Any:
    """The features of an entry: an array, or `Rows` if they are in slices in a file and do not fit `MAX_IN_MEMORY`."""
    dtype = dtype_of_rows(entry)
    if entry.blocks is None or dtype is None or nbytes_of(entry.shape, np.dtype(dtype).itemsize) <= MAX_IN_MEMORY:
        return entry.load()
    return Rows([part_of(entry, entry.file)], int(np.prod(entry.shape[1:])), dtype)
