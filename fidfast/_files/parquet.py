"""Parquet files of features: a column of lists, or a column for each feature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._files.buffers import nbytes_of, require_plausible
from fidfast._files.records import Entry, Tree
from fidfast._files.rows import sliced_entry

__all__ = ["open_parquet"]

#: Bytes of the file that are read at a time, of all columns together.
_BUFFER = 2**24

#: Bytes of the rows that are converted at a time.
_BLOCK = 2**24


def open_parquet(path: Path) -> Tree:
    """The columns of lists by name, or all columns of floating-point numbers as one array under the key "".

    A list is ``list<float>``, a list of fixed size, or Arrow's ``fixed_shape_tensor``. Columns of other types are
    listed but not read, as is the index that pandas stores.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    ValueError
        If the file is damaged.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(f"{path}: Parquet needs pyarrow: pip install 'fidfast[features]' ({error})") from error
    try:
        with _opened(pq, path) as file:
            schema, n = file.schema_arrow, file.metadata.num_rows
            tree: dict[str, Entry] = {}
            numbers = []
            for field in schema:
                dim, dtype = _lists_of(pa, field.type)
                if dtype is not None:
                    tree[field.name] = _entry(
                        path, [field.name], n, _dim_of(file, field.name) if dim < 0 else dim, dtype
                    )
                elif pa.types.is_floating(field.type) and not field.name.startswith("__index_level_"):
                    numbers.append(field)
                else:
                    tree[field.name] = Entry((n,), "object", _refusal(path, field))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(str(error)) from error
    if numbers and not any(entry.blocks for entry in tree.values()):
        tree[""] = _entry_of_columns(path, n, numbers)
    for field in numbers if "" not in tree else []:
        tree[field.name] = Entry((n,), "object", _refusal(path, field))
    extractor = (schema.metadata or {}).get(b"extractor")
    if extractor:
        text = np.asarray(extractor.decode())
        tree["extractor"] = Entry((), text.dtype.name, lambda: text)
    return tree


def _opened(pq: Any, path: Path, num_columns: int = 16) -> Any:
    return pq.ParquetFile(path, buffer_size=max(2**12, _BUFFER // num_columns), pre_buffer=False, memory_map=False)


def _lists_of(pa: Any, kind: Any) -> tuple[int, str | None]:
    """Length of the lists, -1 if only the rows say it, and dtype of their numbers; None for another type of column."""
    shape = kind.shape if isinstance(kind, pa.FixedShapeTensorType) else None
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    is_fixed = pa.types.is_fixed_size_list(kind)
    if not (is_fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return 0, None
    if not pa.types.is_floating(kind.value_type):
        return 0, None
    dim = kind.list_size if is_fixed else -1
    return (int(np.prod(shape, dtype=object)) if shape is not None else dim), _name(kind.value_type)


def _name(kind: Any) -> str:
    return str(np.dtype(kind.to_pandas_dtype()).name)


def _dim_of(file: Any, name: str) -> int:
    """The length of the first list."""
    for batch in file.iter_batches(1, columns=[name], use_threads=False):
        if len(batch) > 0 and batch.column(0).null_count == 0:
            return len(batch.column(0)[0])
    return 0


def _entry_of_columns(path: Path, n: int, fields: list[Any]) -> Entry:
    names = [field.name for field in fields]
    kinds = {_name(field.type): field.name for field in fields}
    if len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        reason = f"its columns of numbers have several types, {one} ({first!r}) and {other} ({second!r})"

        def refuse() -> Any:
            raise ValueError(f"{path}: {reason}: write features of one type, without other numbers")

        return Entry((n, len(names)), "object", refuse)
    return _entry(path, names, n, len(names), next(iter(kinds)), are_columns=True)


def _entry(path: Path, names: list[str], n: int, dim: int, dtype: str, *, are_columns: bool = False) -> Entry:
    nbytes = nbytes_of((n, dim), np.dtype(dtype).itemsize)
    require_plausible(nbytes, path.stat().st_size, f"{path}: an array of shape ({n}, {dim})")

    def blocks(first: int) -> Iterator[NDArray[Any]]:
        yield from _blocks(path, names, first, dim, dtype, are_columns)

    return sliced_entry(path, (n, dim), dtype, blocks, tuple(names) if are_columns else ())


def _blocks(
    path: Path, names: list[str], first: int, dim: int, dtype: str, are_columns: bool
) -> Iterator[NDArray[Any]]:
    """The rows from `first` on; begins with the row group that holds it."""
    import pyarrow.parquet as pq

    size = max(1, _BLOCK // max(1, dim * np.dtype(dtype).itemsize))
    with _opened(pq, path, len(names)) as file:
        groups: list[int] = []
        start = 0  # the first row of these groups
        for group in range(file.num_row_groups):
            in_group = file.metadata.row_group(group).num_rows
            if groups or start + in_group > first:
                groups.append(group)
            else:
                start += in_group
        for batch in file.iter_batches(size, row_groups=groups, columns=names, use_threads=False):
            rows = _array_of(batch, names, start, dim, are_columns)
            start += len(rows)
            if start > first:
                yield rows[max(0, len(rows) - (start - first)) :]


def _array_of(batch: Any, names: list[str], start: int, dim: int, are_columns: bool) -> NDArray[Any]:
    """A batch as (m, dim) array; `start` is the number of its first row."""
    columns = [batch.column(name) for name in names]
    for name, column in zip(names, columns, strict=True):
        _require_valid(column, start, name)
    if are_columns:
        rows = np.empty((len(batch), dim), columns[0].to_numpy(zero_copy_only=False).dtype)
        for j, column in enumerate(columns):
            rows[:, j] = column.to_numpy(zero_copy_only=False)
        return rows
    (column,) = columns
    column = getattr(column, "storage", column)
    lengths = np.asarray(column.value_lengths()) if hasattr(column, "value_lengths") else np.full(len(column), dim)
    if (lengths != dim).any():
        row = int(np.argmax(lengths != dim))
        raise ValueError(f"row {start + row} of {names[0]!r} has {lengths[row]} numbers, but row 0 has {dim}")
    values = column.flatten()
    if values.null_count > 0:
        row = int(np.argmax(np.asarray(values.is_null()))) // dim
        raise ValueError(f"row {start + row} of {names[0]!r} has a null")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), dim)


def _require_valid(column: Any, start: int, name: str) -> None:
    if column.null_count > 0:
        row = int(np.argmax(np.asarray(column.is_null())))
        raise ValueError(f"row {start + row} of {name!r} is null")


def _refusal(path: Path, field: Any) -> Any:
    def refuse() -> Any:
        raise ValueError(f"{path}: {field.name!r} has type {field.type}, not lists of floating-point numbers")

    return refuse
