"""The state of a collector as bytes: without pickle, and read without a copy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._stats.class_moments import ClassMoments
from fidfast._stats.moments import Moments

__all__ = ["pack_moments", "unpack_moments"]

#: Arrays begin at multiples of this number of bytes.
_ALIGNMENT = 64


def pack_moments(moments: Moments | ClassMoments) -> bytes:
    """The state of moments as bytes: the length of a header, the header, and the arrays.

    The header is JSON: the names, dtypes and shapes of the arrays.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in moments.state().items()}
    header = json.dumps([[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]).encode()
    parts: list[Any] = [len(header).to_bytes(8, "little"), header]
    size = 8 + len(header)
    for array in arrays.values():
        padding = -size % _ALIGNMENT
        parts += [bytes(padding), array.reshape(-1).view(np.uint8).data]
        size += padding + array.nbytes
    return b"".join(parts)


def unpack_moments(packed: Any) -> Moments | ClassMoments:
    """Inverse of `pack_moments`, from bytes or any other buffer.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the bytes are not the state of moments.
    """
    state = _arrays(memoryview(packed).cast("B"))
    return ClassMoments.from_state(state) if "labels" in state else Moments.from_state(state)


def _arrays(packed: memoryview) -> Mapping[str, NDArray[Any]]:
    """The arrays, which share memory with the buffer."""
    first = 8 + int.from_bytes(packed[:8], "little")
    arrays = {}
    for name, dtype, shape in json.loads(bytes(packed[8:first])):
        first += -first % _ALIGNMENT
        count = int(np.prod(shape, dtype=np.int64))
        size = count * np.dtype(dtype).itemsize
        if first + size > len(packed):
            raise ValueError(f"packed moments need {first + size} bytes, got {len(packed)}")
        arrays[name] = np.frombuffer(packed[first : first + size], dtype).reshape(shape)
        first += size
    return arrays
