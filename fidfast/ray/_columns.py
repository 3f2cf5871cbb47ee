"""Features, labels and images in the columns of Ray's Arrow blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["column_of", "features_of", "holds_features", "images_of", "labels_of"]


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column without missing rows.

    Raises
    ------
    ValueError
        If there is no such column, or a row is missing.
    """
    if name not in table.column_names:
        listed = ", ".join(map(repr, table.column_names)) or "none"
        raise ValueError(f"there is no column {name!r}; the columns are {listed}")
    column = table.column(name)
    if column.null_count > 0:
        raise ValueError(f"column {name!r} is missing in {column.null_count} of {len(column)} rows: filter these rows")
    return column


def features_of(table: pa.Table, name: str) -> Iterator[NDArray[Any]]:
    """The features of a column as arrays (n, dim), which share memory with the table if all rows have one shape.

    Raises
    ------
    TypeError, ValueError
        If the column does not hold features; the message names the column.
    """
    for chunk in column_of(table, name).chunks:
        if len(chunk) == 0:
            continue
        array = _array_of(chunk, name)
        if array.dtype == object:
            array = _stacked(list(array), name)
        if array.ndim == 1 or array.dtype.kind != "f":
            raise TypeError(
                f"column {name!r} must hold the floating-point features of each row, got {chunk.type}; images need "
                "extractor="
            )
        yield array


def holds_features(dataset: Any, name: str) -> bool:
    """Whether the first row of a column is features, and not an image."""
    first = dataset.take_batch(1, batch_format="pyarrow")
    try:
        return all(array.ndim == 2 for array in features_of(first, name))
    except TypeError:
        return False


def labels_of(table: pa.Table, name: str) -> NDArray[Any]:
    """(n,) the labels of a column.

    Raises
    ------
    ValueError
        If they are bytes that are not UTF-8.
    """
    arrays = [_labels(chunk, name).to_numpy(zero_copy_only=False) for chunk in column_of(table, name).chunks]
    return arrays[0] if len(arrays) == 1 else np.concatenate([*arrays])


def _labels(chunk: pa.Array, name: str) -> pa.Array:
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    if not (pa.types.is_binary(chunk.type) or pa.types.is_large_binary(chunk.type)):
        return chunk
    try:
        return chunk.cast(pa.large_string())  # TFRecord has no other strings than bytes
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"column {name!r} must hold integers or strings, got bytes that are not UTF-8: map them to one of these"
        ) from error


def images_of(table: pa.Table, name: str) -> Iterator[Any]:
    """The images of a column, one for each row, as `fidfast.torch` decodes them.

    An image is an array, encoded bytes, a path, or a dictionary with "bytes" or "path".
    """
    for chunk in column_of(table, name).chunks:
        if isinstance(chunk, pa.ExtensionArray):
            yield from _array_of(chunk, name)
        elif pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type) or _is_fixed_list(chunk.type):
            dtype = _numbers_in(chunk.type).to_pandas_dtype()
            yield from (np.array(image.as_py(), dtype) for image in chunk)
        else:
            yield from map(_image_of, chunk)


def _image_of(scalar: pa.Scalar) -> Any:
    image = scalar.as_py()
    if isinstance(image, dict):
        return {"bytes": image.get("bytes"), "path": image.get("path")}
    return image


def _array_of(chunk: pa.Array, name: str) -> NDArray[Any]:
    """A chunk as an array, of objects if rows have several shapes."""
    if isinstance(chunk, pa.ExtensionArray):
        convert = getattr(chunk, "to_numpy_ndarray", None) or chunk.to_numpy  # of tensors of Arrow, and of Ray
        return np.asarray(convert())
    if _is_fixed_list(chunk.type):
        return _numbers(chunk.flatten(), name).reshape(len(chunk), -1)
    if pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type):
        lengths = np.diff(chunk.offsets.to_numpy())
        _require_equal(lengths, name)
        return _numbers(chunk.flatten(), name).reshape(len(chunk), -1)
    raise TypeError(f"column {name!r} must hold lists or tensors of numbers, got {chunk.type}")


def _numbers(values: pa.Array, name: str) -> NDArray[Any]:
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise TypeError(f"column {name!r} must hold lists or tensors of numbers, got lists of {values.type}")
    if values.null_count > 0:
        raise ValueError(f"column {name!r} lacks {values.null_count} of its numbers: filter these rows")
    return np.asarray(values.to_numpy(zero_copy_only=True))


def _numbers_in(nested: pa.DataType) -> pa.DataType:
    while not isinstance(nested, pa.ExtensionType) and hasattr(nested, "value_type"):
        nested = nested.value_type
    return nested


def _is_fixed_list(of: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(of))


def _stacked(rows: Sequence[Any], name: str) -> NDArray[Any]:
    try:
        arrays = [np.asarray(row) for row in rows]
    except Exception as error:
        raise TypeError(f"column {name!r} must hold features, got objects of {type(rows[0]).__name__}") from error
    _require_equal(np.array([array.size for array in arrays]), name)
    return np.stack(arrays)


def _require_equal(lengths: NDArray[Any], name: str) -> None:
    for row in np.flatnonzero(lengths != lengths[:1]):
        raise ValueError(
            f"column {name!r} must have equally many numbers in all rows, got {lengths[0]} and {lengths[row]}"
        )
