"""Files of safetensors, read without that package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fidfast._files.buffers import Bytes, array_entry, checked_shape
from fidfast._files.records import Entry, Tree

__all__ = ["open_safetensors"]

#: Largest header, as in the format's own package.
_MAX_HEADER = 100_000_000

#: Names of the dtypes, besides F32, I8, U16, ...
_DTYPES = {
    "BOOL": "bool",
    "BF16": "bfloat16",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    **{
        f"{letter}{bits}": f"{kind}{bits}" for letter, kind in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
    },
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
}

#: Those that are converted when they are read; of others, the memory map itself is used.
_CONVERTED = frozenset(dtype for dtype in _DTYPES if dtype.startswith(("BF", "F8")))


def open_safetensors(path: Path) -> Tree:
    """The tensors by name, and the metadata as strings.

    Raises
    ------
    ValueError
        If the header is damaged, or the tensors do not fill the file without gap and overlap.
    """
    with open(path, "rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise ValueError(f"a header of {length:,} bytes in a file of {size:,} bytes")
        text = file.read(length)
    header = json.loads(text, object_pairs_hook=_without_duplicates)
    if not isinstance(header, dict):
        raise ValueError("the header is not a dictionary")
    start, end = 8 + length, 0
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__ must be strings by name")
    tree: dict[str, Entry | Tree] = {key: _text_entry(value) for key, value in metadata.items()}
    tensors = [(*_described(name, value), name) for name, value in header.items()]
    for first, last, dtype, shape, name in sorted(tensors, key=lambda tensor: tensor[:2]):
        if first != end or last > size - start:
            raise ValueError(f"tensor {name!r} has the bytes {first:,} to {last:,} of {size - start:,}, after {end:,}")
        end = last
        tree[name] = _entry(path, start + first, last - first, dtype, shape, name)
    if end != size - start:
        raise ValueError(f"its tensors have {end:,} bytes, but {size - start:,} bytes follow the header")
    return {name: tree[name] for name in (*metadata, *header)}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("its header has a name twice")
    return result


def _described(name: str, value: Any) -> tuple[int, int, str, tuple[int, ...]]:
    """First byte, byte after the last, dtype and shape."""
    fits = isinstance(value, dict) and value.keys() == {"dtype", "shape", "data_offsets"}
    if not fits or not isinstance(value["dtype"], str):
        raise ValueError(f"tensor {name!r} must have dtype, shape and data_offsets")
    offsets = checked_shape(value["data_offsets"])
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"the data_offsets of tensor {name!r} must be two ascending integers")
    return offsets[0], offsets[1], value["dtype"], checked_shape(value["shape"])


def _entry(path: Path, start: int, size: int, dtype: str, shape: tuple[int, ...], name: str) -> Entry:
    if dtype not in _DTYPES:

        def refuse() -> Any:
            raise ValueError(f"tensor {name!r} has dtype {dtype}, which is not supported: convert it to F32")

        return Entry(shape, dtype, refuse)

    def load() -> Bytes:
        return np.memmap(path, np.uint8, "r", start, (size,))

    try:
        return array_entry(load, size, _DTYPES[dtype], shape, byte_order="<", is_mapped=dtype in _CONVERTED)
    except ValueError as error:
        raise ValueError(f"tensor {name!r}: {error}") from error


def _text_entry(text: str) -> Entry:
    array = np.asarray(text)
    return Entry((), array.dtype.name, lambda: array)
