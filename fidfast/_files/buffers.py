"""Arrays in the bytes of a file: shapes and dtypes are checked against the number of bytes before they are used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fidfast._files.records import Entry

__all__ = [
    "ByteOrder",
    "Bytes",
    "array_entry",
    "checked_shape",
    "dtype_of",
    "is_narrow",
    "nbytes_of",
    "require_plausible",
    "strided_entry",
]

#: Bytes of a file, for example a memory map; (n,) uint8.
Bytes = NDArray[np.uint8]

ByteOrder = Literal["<", ">", "="]

#: The names of dtypes that are read: no objects, dates, fields or arrays of arrays.
_NAMES = re.compile(r"[?bhilqBHILQefdgFDGUS]|[biufcUS]\d{1,9}|bool|(?:u?int|float|complex)\d{1,3}")

#: Sizes in bytes of the items of each kind.
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8, 16), "c": (8, 16, 32)}

#: Bits of exponent and mantissa, and bias, of the floating-point types that NumPy lacks; they are loaded as float32.
_NARROW = {
    "bfloat16": (8, 7, 127),
    "float8_e4m3fn": (4, 3, 7),
    "float8_e4m3fnuz": (4, 3, 8),
    "float8_e5m2": (5, 2, 15),
    "float8_e5m2fnuz": (5, 2, 16),
    "float8_e8m0fnu": (8, 0, 127),
}

#: An array may have this many bytes, or `_MAX_RATIO` times the bytes that the file has for it.
_MAX_UNPACKED = 2**30
_MAX_RATIO = 100

#: Rows of an array that are converted at a time.
_ROWS = 1024


def dtype_of(name: str, byte_order: ByteOrder = "=") -> np.dtype[Any] | None:
    """The dtype of a name such as "f8", "U5" or "float32"; None for anything but numbers and text."""
    if name in _NARROW:
        return np.dtype("u2" if name == "bfloat16" else "u1").newbyteorder(byte_order)
    try:
        dtype = np.dtype(name) if _NAMES.fullmatch(name) else np.dtype(object)
    except (TypeError, ValueError):
        return None
    if dtype.kind not in "US" and dtype.itemsize not in _SIZES.get(dtype.kind, ()):
        return None
    return dtype.newbyteorder(byte_order) if byte_order != "=" else dtype


def is_narrow(entry: Entry) -> bool:
    """Whether the dtype is a floating-point type that NumPy lacks, which is loaded as float32."""
    return entry.dtype in _NARROW


def checked_shape(shape: Any) -> tuple[int, ...]:
    """The shape as a tuple; ValueError if it is not a sequence of at most 32 integers from 0 to 2^63 - 1."""
    if (
        not isinstance(shape, (tuple, list))
        or len(shape) > 32
        or not all(type(length) is int and 0 <= length < 2**63 for length in shape)
    ):
        raise ValueError("the shape of an array must be a tuple of at most 32 integers of at least 0")
    return tuple(shape)


def nbytes_of(shape: Sequence[int], itemsize: int) -> int:
    """Number of bytes of an array; ValueError if NumPy cannot have such an array."""
    size = itemsize
    for length in shape:
        size *= length or 1
    if size >= 2**63:
        raise ValueError(f"an array of shape {tuple(shape)} is larger than the address space")
    return 0 if 0 in shape else size


def require_plausible(nbytes: int, stored: int, what: str) -> None:
    """Raise a ValueError if `stored` bytes of a file would become far more bytes in memory."""
    if nbytes > max(_MAX_UNPACKED, _MAX_RATIO * stored):
        raise ValueError(
            f"{what} would have {nbytes:,} bytes in memory, but {stored:,} bytes in the file; if that is intended, "
            "load it yourself and pass the array"
        )


def array_entry(
    load: Callable[[], Bytes],
    nbytes: int,
    name: str,
    shape: Any,
    *,
    order: str = "C",
    byte_order: ByteOrder = "=",
    is_mapped: bool = False,
) -> Entry:
    """The entry of a contiguous array.

    Parameters
    ----------
    load : callable
        Returns the bytes.
    nbytes : int
        Their number.
    name, byte_order
        As in `dtype_of`.
    shape : tuple or list of int
        Not checked before.
    order : {"C", "F"}
    is_mapped : bool, default False
        Whether `load` returns a memory map, of which slices can be read.

    Raises
    ------
    ValueError
        If the dtype is not one of numbers or text, or the shape does not have this number of bytes.
    """
    shape, dtype = checked_shape(shape), dtype_of(name, byte_order)
    if dtype is None:
        raise ValueError(f"arrays of dtype {name!r} are not supported, only numbers and text")
    if nbytes_of(shape, dtype.itemsize) != nbytes:
        raise ValueError(
            f"an array of shape {shape} and dtype {name} has {nbytes_of(shape, dtype.itemsize):,} bytes, but the file "
            f"has {nbytes:,} bytes for it"
        )
    if dtype.itemsize == 0 and nbytes_of(shape, 1) > 1:
        raise ValueError(f"an array of shape {shape} has items of 0 bytes")

    def read() -> Any:
        if nbytes == 0:
            return np.zeros(shape, dtype, order="F" if order == "F" else "C")
        array = load().view(dtype).reshape(shape, order="F" if order == "F" else "C")
        return _converted(name, array)

    def blocks(first: int) -> Iterator[NDArray[Any]]:
        rows = load().view(dtype).reshape(shape)
        for start in range(first, shape[0], _ROWS):
            yield _converted(name, rows[start : start + _ROWS])

    is_sliced = is_mapped and order != "F" and len(shape) > 1
    return Entry(shape, name if name in _NARROW else dtype.name, read, blocks if is_sliced else None)


def strided_entry(
    load: Callable[[], Bytes],
    nbytes: int,
    name: str,
    shape: Any,
    strides: Any,
    offset: Any,
    *,
    byte_order: ByteOrder = "=",
    finish: Callable[[Any], Any] = lambda array: array,
) -> Entry:
    """The entry of an array with `strides` in items, from item `offset` of the bytes.

    The other parameters and errors are those of `array_entry`. `finish` is applied to the array when it is read.
    """
    shape, strides, dtype = checked_shape(shape), checked_shape(strides), dtype_of(name, byte_order)
    (offset,) = checked_shape([offset])
    if dtype is None or len(strides) != len(shape) or nbytes % dtype.itemsize:
        raise ValueError(f"a tensor of shape {shape}, strides {strides} and dtype {name} in {nbytes:,} bytes")
    end = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True)) + 1
    if 0 not in shape and end > nbytes // dtype.itemsize:
        raise ValueError(
            f"a tensor of shape {shape}, strides {strides} and offset {offset} exceeds its storage of "
            f"{nbytes // dtype.itemsize:,} numbers"
        )
    require_plausible(nbytes_of(shape, dtype.itemsize), nbytes, f"a tensor of shape {shape}")
    steps = [stride * dtype.itemsize for stride in strides]

    def read() -> Any:
        if 0 in shape:
            return finish(_converted(name, np.zeros(shape, dtype)))
        items = load().view(dtype)[offset:]
        array = np.lib.stride_tricks.as_strided(items, shape, steps, writeable=False)
        return finish(_converted(name, array))

    return Entry(shape, name if name in _NARROW else dtype.name, read)


def _converted(name: str, array: NDArray[Any]) -> Any:
    """An aligned array; float32 for the types that NumPy lacks."""
    if array.dtype.kind == "b":  # the bytes may be others than 0 and 1
        return array.view(np.uint8) != 0
    if name == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    if name in _NARROW:
        return _float8_values(name)[array]
    return array if array.flags.aligned else array.copy(order="K")


def _float8_values(name: str) -> NDArray[np.float32]:
    """The values of all 256 codes."""
    _, mantissa_bits, bias = _NARROW[name]
    codes = np.arange(256)
    if name == "float8_e8m0fnu":  # no sign
        values = np.ldexp(1.0, codes - bias)
        values[255] = np.nan
        return np.asarray(values, np.float32)
    exponent, mantissa = (codes & 127) >> mantissa_bits, codes & (2**mantissa_bits - 1)
    fraction = mantissa / 2**mantissa_bits + (exponent > 0)
    values = np.ldexp(fraction, np.maximum(exponent, 1) - bias) * np.where(codes < 128, 1.0, -1.0)
    if name.endswith("fnuz"):
        values[128] = np.nan
    elif name.endswith("fn"):
        values[[127, 255]] = np.nan
    else:  # as in IEEE 754
        largest = exponent == 31
        values[largest] = np.where(mantissa == 0, np.copysign(np.inf, values), np.nan)[largest]
    return np.asarray(values, np.float32)
