"""Files of ``torch.save``, read without torch: its pickle by `read_pickle`, tensors when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fidfast._files.buffers import (
    ByteOrder,
    Bytes,
    checked_shape,
    dtype_of,
    nbytes_of,
    require_plausible,
    strided_entry,
)
from fidfast._files.objects import Function, Name, Objects, PickleError, opaque, require
from fidfast._files.pickles import read_pickle
from fidfast._files.records import Entry
from fidfast._files.zips import Member, members_of

__all__ = ["read_torch"]

#: Dtypes of storages by the name of their class.
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_DTYPES = [
    *_STORAGES.values(),
    *(f"uint{bits}" for bits in (16, 32, 64)),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
]
_UNTYPED = ("torch.storage.UntypedStorage", "torch.UntypedStorage")
_NAMES = frozenset(
    [
        *_UNTYPED,
        *(f"torch.{place}{name}" for place in ("", "cuda.") for name in _STORAGES),
        *(f"torch.{dtype}" for dtype in _DTYPES),
        *("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"),
    ]
)

#: Number at the start of files of torch before 1.6.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001


@dataclass
class _Storage:
    """Numbers of one dtype, or bytes, that tensors share."""

    dtype: str | None
    nbytes: int
    byte_order: ByteOrder
    load: Callable[[], Bytes] | None = None

    def bytes(self) -> Bytes:
        assert self.load is not None
        return self.load()


def read_torch(path: Path) -> Any:
    """The object in plain containers, with entries for tensors and arrays.

    Raises
    ------
    ValueError
        If the file is damaged, or holds more than tensors, arrays and plain containers.
    """
    with open(path, "rb") as file:
        is_zip = file.read(4) == b"PK\3\4"
    return _read_zip(path) if is_zip else _read_legacy(path)


def _read_zip(path: Path) -> Any:
    members = members_of(path)
    found = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1:
        raise ValueError(f"{path} is not a file of torch.save: it holds {len(found)} members data.pkl")
    folder = found[0].removesuffix("data.pkl")
    order = members.get(folder + "byteorder")
    byte_order: ByteOrder = ">" if order is not None and order.head(10) == b"big" else "<"
    storages: dict[str, _Storage] = {}

    def persistent(value: Any) -> _Storage:
        key, storage = _described_storage(value, 5, byte_order)
        member = members.get(f"{folder}data/{key}")
        if member is None or member.size != storage.nbytes:
            size = 0 if member is None else member.size
            raise PickleError(f"the storage {key[:50]!r} has {storage.nbytes:,} bytes, but the file {size:,} for it")
        storage.load = _verified_once(member)
        return _same(storages.setdefault(key, storage), storage)

    data = _without_missing_crc(members[found[0]]).read().tobytes()
    return read_pickle(data, functions=_FUNCTIONS, names=_NAMES, persistent=persistent)[0]


def _without_missing_crc(member: Member) -> Member:
    """The member; ``torch.serialization.set_crc32_options(False)`` writes 0 instead of checksums."""
    return replace(member, crc=None) if member.crc == 0 else member


def _verified_once(member: Member) -> Callable[[], Bytes]:
    """A function that maps the member, and verifies its checksum at the first call."""
    kept: list[Bytes] = []

    def load() -> Bytes:
        if not kept:
            kept.append(_without_missing_crc(member).map())
        return kept[0]

    return load


def _read_legacy(path: Path) -> Any:
    """A file of torch before 1.6: pickles of a magic number, version, system, object and keys; then the storages."""
    data = path.read_bytes()
    position = 0
    header = []
    try:
        for _ in range(3):
            value, position = read_pickle(data, position)
            header.append(value)
    except ValueError:
        header = [None, None, None]
    magic, version, system = header
    if type(magic) is not int or (magic, version) != (_LEGACY_MAGIC, _LEGACY_VERSION) or not isinstance(system, dict):
        raise ValueError(f"{path} is not a file of torch.save that can be read: save it again with torch 1.6 or later")
    byte_order: ByteOrder = ">" if system.get("little_endian") is False else "<"
    storages: dict[str, _Storage] = {}

    def persistent(value: Any) -> _Storage:
        if isinstance(value, tuple) and len(value) == 6 and value[5] is not None:
            raise PickleError("views of storages are not supported: save it again with torch 1.6 or later")
        key, storage = _described_storage(value[:5] if isinstance(value, tuple) else value, 5, byte_order)
        return _same(storages.setdefault(key, storage), storage)

    result, position = read_pickle(data, position, functions=_FUNCTIONS, names=_NAMES, persistent=persistent)
    keys, position = read_pickle(data, position)
    require(isinstance(keys, list) and all(isinstance(key, str) for key in keys), "the list of storages")
    require(len(set(keys)) == len(keys) and set(keys) == set(storages), "the list of storages")
    for key in keys:
        storage, first = storages[key], position + 8
        dtype = dtype_of(storage.dtype or "uint8")
        assert dtype is not None
        numel = int.from_bytes(data[position:first], "little")
        position = first + storage.nbytes
        if numel * dtype.itemsize != storage.nbytes or position > len(data):
            raise PickleError(f"the storage {key[:50]!r} is damaged or incomplete")
        storage.load = lambda first=first, size=storage.nbytes: np.frombuffer(data, np.uint8, size, first)
    return result


def _described_storage(value: Any, length: int, byte_order: ByteOrder) -> tuple[str, _Storage]:
    """Key and storage of a persistent id ("storage", class, key, location, number of items)."""
    require(isinstance(value, tuple) and len(value) == length and isinstance(value[0], str), "a storage")
    word, kind, key, _, numel = value
    require(word == "storage" and isinstance(kind, Name) and isinstance(key, str) and type(numel) is int, "a storage")
    name = None if kind.name in _UNTYPED else _STORAGES.get(kind.name.rpartition(".")[2], "")
    dtype = dtype_of("uint8" if name is None else name)
    require(dtype is not None, "a storage")
    assert dtype is not None
    return key, _Storage(name, nbytes_of(checked_shape([numel]), dtype.itemsize), byte_order)


def _same(known: _Storage, described: _Storage) -> _Storage:
    require((known.dtype, known.nbytes) == (described.dtype, described.nbytes), "a storage")
    return known


# Functions of torch that pickles name -------------------------------------------------------------------------------


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _gradient: Any = None, _hooks: Any = None, metadata: Any = None
) -> Entry:
    require(isinstance(storage, _Storage) and storage.dtype is not None, "a tensor")
    return _tensor_of_dtype(
        storage, offset, shape, strides, _gradient, _hooks, Name(f"torch.{storage.dtype}"), metadata
    )


def _tensor_of_dtype(
    storage: Any, offset: Any, shape: Any, strides: Any, _gradient: Any, _hooks: Any, dtype: Any, metadata: Any = None
) -> Entry:
    require(isinstance(storage, _Storage) and isinstance(dtype, Name), "a tensor")
    require(dtype.name.removeprefix("torch.") in _DTYPES, "the dtype of a tensor")
    name = dtype.name.removeprefix("torch.")
    marks = metadata if isinstance(metadata, dict) else {}

    def finish(array: Any) -> Any:
        array = array.conj() if marks.get("conj") is True else array
        return -array if marks.get("neg") is True else array

    return strided_entry(
        storage.bytes, storage.nbytes, name, shape, strides, offset, byte_order=storage.byte_order, finish=finish
    )


def _parameter(data: Any, *_rest: Any) -> Entry:
    require(isinstance(data, Entry), "a parameter")
    entry: Entry = data
    return entry


def _tensor_with_attributes(function: Any, kind: Any, arguments: Any, _attributes: Any) -> Any:
    require(isinstance(function, Name) and function.name in _REBUILD and isinstance(arguments, tuple), "a tensor")
    return _FUNCTIONS[function.name](*arguments)


def _size(shape: Any = ()) -> tuple[int, ...]:
    return checked_shape(shape)


def _layout(name: Any) -> str:
    require(isinstance(name, str), "a layout")
    return str(name)


def _device(kind: Any, index: Any = None) -> str:
    require(isinstance(kind, str) and (index is None or type(index) is int), "a device")
    return str(kind) if index is None else f"{kind}:{index}"


def _sparse_tensor(layout: Any, parts: Any) -> Entry | Objects:
    require(isinstance(layout, str) and isinstance(parts, tuple) and 3 <= len(parts) <= 5, "a sparse tensor")
    indices, values, shape = (parts if layout == "torch.sparse_coo" else (parts[:2], *parts[2:]))[:3]
    arrays = [indices] if layout == "torch.sparse_coo" else list(indices)
    shape = checked_shape(shape)
    if layout not in ("torch.sparse_coo", "torch.sparse_csr", "torch.sparse_csc"):
        return opaque()
    require(all(isinstance(part, Entry) for part in (*arrays, values)), "a sparse tensor")
    require(all(part.dtype in ("int32", "int64") for part in arrays), "the indices of a sparse tensor")
    stored = sum(nbytes_of(part.shape, 8) for part in (*arrays, values))
    require_plausible(nbytes_of(shape, 8), stored, f"a sparse tensor of shape {shape}")

    def load() -> Any:
        numbers = values.load()
        if layout == "torch.sparse_coo":
            places = arrays[0].load()
        else:
            starts, inner = (part.load() for part in arrays)
            require(starts.ndim == 1 and inner.ndim == 1 and bool(np.all(np.diff(starts) >= 0)), "a sparse tensor")
            outer = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            require(len(outer) == len(inner), "a sparse tensor")
            places = np.stack([outer, inner] if layout == "torch.sparse_csr" else [inner, outer])
        require(places.ndim == 2 and places.shape[0] <= len(shape), "the indices of a sparse tensor")
        limits = np.array(shape[: len(places)])[:, np.newaxis]
        require(bool(np.all((places >= 0) & (places < limits))), "the indices of a sparse tensor")
        require(numbers.shape == (places.shape[1], *shape[len(places) :]), "the values of a sparse tensor")
        dense = np.zeros(shape, numbers.dtype)
        np.add.at(dense, tuple(places), numbers)
        return dense

    return Entry(shape, values.dtype, load)


_REBUILD: dict[str, Function] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_sparse_tensor": _sparse_tensor,
}
_FUNCTIONS: dict[str, Function] = {
    **_REBUILD,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
    "torch._utils._rebuild_nested_tensor": opaque,
    "torch._utils._rebuild_meta_tensor_no_storage": opaque,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.serialization._get_layout": _layout,
    "torch.Size": _size,
    "torch.device": _device,
}
