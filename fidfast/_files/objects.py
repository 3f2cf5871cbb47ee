"""The objects of pickles of arrays: what they become, and the functions that pickles name for them.

Every function checks its arguments, which are values from a file, and compares no containers: nested references make
comparing them arbitrarily expensive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fidfast._files.buffers import ByteOrder, array_entry, checked_shape, dtype_of
from fidfast._files.records import Entry

__all__ = [
    "FUNCTIONS",
    "MAPPINGS",
    "NAMES",
    "BuiltObject",
    "Function",
    "Name",
    "Objects",
    "PickleError",
    "PlainMapping",
    "opaque",
    "plain_value",
    "require",
    "set_item",
]

#: Largest depth of containers.
_MAX_DEPTH = 100

_SCALARS = frozenset([type(None), bool, int, float, str, bytes])

Function = Callable[..., Any]


class PickleError(ValueError):
    """The pickle is damaged, or needs something that is not read."""


class Name:
    """A class or function that the file names."""

    def __init__(self, name: str) -> None:
        self.name = name


class Objects:
    """An array of objects, of which only a single one is read."""

    def __init__(self, shape: tuple[int, ...], items: list[Any]) -> None:
        self.shape = shape
        self.items = items


class BuiltObject:
    """An object whose state follows in the pickle."""

    def build(self, state: Any) -> None:
        """Set the state, which is any value from the file."""
        raise NotImplementedError


class PlainMapping(dict[str, Any], BuiltObject):
    """An OrderedDict or EasyDict; its attributes are not read."""

    def build(self, state: Any) -> None:
        require(isinstance(state, dict), "the attributes of a dictionary")


class _Dtype(BuiltObject):
    """A dtype of NumPy; only its byte order can be set."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.byte_order: ByteOrder = "="

    def build(self, state: Any) -> None:
        require(isinstance(state, tuple) and len(state) > 4 and state[1] in ("<", ">", "=", "|"), "a dtype")
        require(all(part is None for part in state[2:5]), "a dtype with fields or of arrays")
        self.byte_order = "=" if state[1] == "|" else state[1]


class _Array(BuiltObject):
    """An array of NumPy before and after its data are set."""

    value: Entry | Objects | None = None

    def build(self, state: Any) -> None:
        require(self.value is None and isinstance(state, tuple) and len(state) in (4, 5), "an array")
        shape, dtype, fortran, data = state[-4:]
        self.value = _array(data, dtype, shape, "F" if fortran is True else "C")


def require(condition: bool, what: str) -> None:
    if not condition:
        raise PickleError(f"{what} is damaged or not supported")


def _array(data: Any, dtype: Any, shape: Any, order: str) -> Entry | Objects:
    require(isinstance(dtype, _Dtype), "the dtype of an array")
    if dtype.name == "O":
        require(isinstance(data, list), "an array of objects")
        return Objects(checked_shape(shape), data)
    if isinstance(data, str):  # of Python 2
        data = data.encode("latin1")
    require(isinstance(data, (bytes, memoryview)), "the data of an array")
    return array_entry(
        lambda: np.frombuffer(data, np.uint8), len(data), dtype.name, shape, order=order, byte_order=dtype.byte_order
    )


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
    array = _Array()
    if order == "K":  # contiguous up to the order of its axes
        entry = _array(data, dtype, shape, "C")
        ndim = len(entry.shape)
        is_permutation = (
            isinstance(axes, tuple) and all(type(axis) is int for axis in axes) and set(axes) == {*range(ndim)}
        )
        require(isinstance(entry, Entry) and is_permutation and len(axes) == ndim, "the order of an array")
        assert isinstance(entry, Entry)
        turned = tuple(entry.shape[axis] for axis in axes)
        array.value = Entry(turned, entry.dtype, lambda: entry.load().transpose(axes))
    else:
        require(order in ("C", "F"), "the order of an array")
        array.value = _array(data, dtype, shape, order)
    return array


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    require(isinstance(kind, Name) and kind.name == "numpy.ndarray", "a subclass of ndarray")
    return _Array()


def _scalar(dtype: Any, data: Any = None) -> Entry:
    entry = _array(data, dtype, (), "C")
    require(isinstance(entry, Entry), "a scalar")
    assert isinstance(entry, Entry)
    return entry


def _dtype(name: Any, *_flags: Any) -> _Dtype:
    if not isinstance(name, str) or (name not in ("O", "O8") and dtype_of(name) is None):
        raise PickleError(
            f"dtype {name[:50] if isinstance(name, str) else ''!r} is not supported, only numbers and text"
        )
    return _Dtype("O" if name == "O8" else name)


def _encode(text: Any, encoding: Any) -> bytes:
    require(isinstance(text, str) and encoding in ("latin1", "latin-1"), "bytes")
    try:
        return bytes(text, "latin1")
    except UnicodeEncodeError:
        raise PickleError("bytes are damaged") from None


def opaque(*_arguments: Any) -> Objects:
    """An object that is not read, but may be beside others."""
    return Objects((), [])


def _no_bytes() -> bytes:
    return b""


def _mapping(*arguments: Any) -> PlainMapping:
    result = PlainMapping()
    if arguments:
        require(len(arguments) == 1 and isinstance(arguments[0], list), "a dictionary")
        for pair in arguments[0]:
            require(isinstance(pair, (list, tuple)) and len(pair) == 2, "a dictionary")
            set_item(result, *pair)
    return result


def _reconstructor(kind: Any, base: Any, items: Any) -> PlainMapping:
    """A subclass of dict at protocols 0 and 1."""
    require(isinstance(kind, Name) and kind.name in MAPPINGS and isinstance(items, dict), "an object")
    return PlainMapping(items)


def set_item(mapping: Any, key: Any, value: Any) -> None:
    if type(key) is int and -(2**63) <= key < 2**63:
        key = str(key)
    if not isinstance(key, str):
        raise PickleError(f"the keys of dictionaries must be strings or integers, got {type(key).__name__}")
    if key in mapping:
        raise PickleError(f"a dictionary has the key {key[:50]!r} twice")
    mapping[key] = value


MAPPINGS = ("collections.OrderedDict", "dnnlib.util.EasyDict")

#: By the names of NumPy 1 ("core") and NumPy 2 ("_core"); EasyDict is the dictionary of StyleGAN and EDM2.
FUNCTIONS: dict[str, Function] = {
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in (
            ("multiarray._reconstruct", _reconstruct),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _frombuffer),
        )
    },
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "builtins.bytes": _no_bytes,  # at protocols 0 to 2
    "__builtin__.bytes": _no_bytes,
    **{f"{module}.{kind}": opaque for module in ("builtins", "__builtin__") for kind in ("set", "frozenset")},
    "copyreg._reconstructor": _reconstructor,
    "copy_reg._reconstructor": _reconstructor,
    **dict.fromkeys(MAPPINGS, _mapping),
}
NAMES = frozenset(["numpy.ndarray", "builtins.dict", "__builtin__.dict"])


def plain_value(value: Any, operations: int) -> Any:
    """A value in plain containers, in which every shared one is a copy.

    Nested references to one container can stand for far more values than the file has opcodes: then PickleError.
    """
    left = 1000 + 10 * operations

    def plain_items(items: Any, depth: int) -> list[Any]:
        nonlocal left
        left -= len(items)
        if left < 0:
            raise PickleError("its containers refer to each other too often")
        return [item if type(item) in _SCALARS else plain(item, depth) for item in items]

    def plain(value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise PickleError(f"its containers are nested deeper than {_MAX_DEPTH} levels")
        if isinstance(value, _Array):
            require(value.value is not None, "an array without data")
            value = value.value
        if isinstance(value, Objects):
            return Objects(value.shape, plain_items(value.items, depth + 1))
        if isinstance(value, dict):
            return dict(zip(value, plain_items(value.values(), depth + 1), strict=True))
        if isinstance(value, (list, tuple)):
            return type(value)(plain_items(value, depth + 1))
        if isinstance(value, memoryview):
            return bytes(value)
        return value if isinstance(value, Entry) or type(value) in _SCALARS else Objects((), [])

    return plain(value, 0)
