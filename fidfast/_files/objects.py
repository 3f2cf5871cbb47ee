"""The objects of pickles of arrays: what they become, and the functions that pickles name for them.

Every function checks its arguments, which are values from a file, and compares no containers: nested references make
comparing them arbitrarily expensive.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from fidfast._files.buffers import ByteOrder, array_entry, checked_shape, dtype_of
from fidfast._files.records import Entry

__all__ = [
    "FUNCTIONS",
    "MAPPINGS",
    "MAX_INTEGER",
    "NAMES",
    "BuiltObject",
    "Function",
    "Name",
    "Objects",
    "PickleError",
    "PlainMapping",
    "decimal",
    "opaque",
    "plain_value",
    "require",
    "set_item",
]

#: Most bytes of an integer.
MAX_INTEGER = 16

#: Largest depth of containers.
_MAX_DEPTH = 100

_SCALARS = frozenset([type(None), bool, int, float, str, bytes])

#: Dtypes of numbers, and of text of a few hundred characters.
_SHORT = re.compile(r"(?:bool|int|uint|float|str)\d{0,4}")

_BUILTINS = ("builtins", "__builtin__")

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


def decimal(text: str) -> int:
    require(len(text) <= 3 * MAX_INTEGER, "an integer")
    try:
        return int(text.removesuffix("L"))
    except ValueError:
        raise PickleError(f"{text[:50]!r} is not an integer") from None


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


def _mapping(items: Any = None) -> PlainMapping:
    """A mapping of the items, a dictionary or a list of pairs; those of a defaultdict follow its factory."""
    result = PlainMapping()
    if isinstance(items, list):
        for pair in items:
            require(isinstance(pair, (list, tuple)) and len(pair) == 2, "a dictionary")
            set_item(result, *pair)
        return result
    require(items is None or isinstance(items, (dict, Name)), "a dictionary")
    if isinstance(items, dict):
        result.update(items)
    return result


def _reconstructor(kind: Any, base: Any, items: Any) -> PlainMapping:
    """A subclass of dict at protocols 0 and 1."""
    require(isinstance(kind, Name) and kind.name in MAPPINGS and isinstance(items, dict), "an object")
    return PlainMapping(items)


def set_item(mapping: Any, key: Any, value: Any) -> None:
    name = key if isinstance(key, str) else _name_of_key(key)
    if name in mapping:
        raise PickleError(f"a dictionary has the key {name[:50]!r} twice")
    mapping[name] = value


def _name_of_key(key: Any) -> str:
    """The text of a short key that is not a string; the file may repeat a key, so long ones could fill the memory."""
    if isinstance(key, Entry) and key.shape == () and _SHORT.fullmatch(key.dtype):
        return str(key.load())
    parts = key if isinstance(key, tuple) else (key,)
    if len(parts) > 8 or not all(type(part) in _SCALARS and len(str(part)) <= 1000 for part in parts):
        raise PickleError("the keys of dictionaries must be strings, numbers or short tuples of them")
    return str(key)


MAPPINGS = ("collections.OrderedDict", "collections.Counter", "collections.defaultdict", "dnnlib.util.EasyDict")

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
    **{f"{module}.{kind}": opaque for module in _BUILTINS for kind in ("set", "frozenset", "complex", "bytearray")},
    "copyreg._reconstructor": _reconstructor,
    "copy_reg._reconstructor": _reconstructor,
    **dict.fromkeys(MAPPINGS, _mapping),
}
NAMES = frozenset(
    [
        "numpy.ndarray",
        *(f"{module}.{kind}" for module in _BUILTINS for kind in ("dict", "list", "tuple", "int", "float", "str")),
    ]
)


def plain_value(value: Any, operations: int) -> Any:
    """A value in plain containers, in which every shared one is a copy.

    Nested references to one container can stand for far more values than the file has opcodes: then PickleError.
    """
    left = 200_000 + 10 * operations
    copies: dict[int, bytes] = {}  # of shared bytes

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
            if id(value) not in copies:
                copies[id(value)] = bytes(value)
            return copies[id(value)]
        return value if isinstance(value, Entry) or type(value) in _SCALARS else Objects((), [])

    return plain(value, 0)
