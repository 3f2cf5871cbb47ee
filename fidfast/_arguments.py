"""Checks of arguments. Each function returns the value in its plain type, or raises an error that names the argument.

Wrong types are a TypeError, wrong values a ValueError.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from fidfast._masked import require_unmasked

__all__ = [
    "MAX_BLOCKS",
    "MAX_DIM",
    "MAX_INTEGER",
    "MAX_SEED",
    "PRECISIONS",
    "as_array",
    "as_dense",
    "optional",
    "require_bool",
    "require_callable",
    "require_choice",
    "require_instance",
    "require_integer",
    "require_mapping",
    "require_path",
    "require_precision",
    "require_real",
    "require_sequence",
    "require_text",
    "shape_of_array",
    "shown",
    "why_not_dense",
]

_T = TypeVar("_T")

PRECISIONS = ("float32", "float64")

#: Largest number of columns of features, whose scatter has 2 PB, and largest number of blocks of moments.
MAX_DIM = 2**24
MAX_BLOCKS = 2**16

#: Largest seed of NumPy's RandomState.
MAX_SEED = 2**32 - 1

#: Largest number of the core's index type.
MAX_INTEGER = 2**63 - 1


def shown(value: Any) -> str:
    """Short text of a value for messages: numbers and strings as they are, other objects by their type."""
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        text = repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "an integer of many digits"
        return text if len(text) <= 60 else f"{text[:56]}..."
    return str(value) if type(value).__name__ in ("dtype", "device") else type(value).__name__


def optional(check: Callable[..., _T], name: str, value: Any, *limits: Any) -> _T | None:
    """The result of `check`, or None if the value is None."""
    return None if value is None else check(name, value, *limits)


def require_integer(name: str, value: Any, least: int = -MAX_INTEGER, most: int = MAX_INTEGER) -> int:
    """An int from `least` to `most`; anything with ``__index__`` except bool."""
    try:
        if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError
        number = operator.index(value)
    except Exception:  # of tensors without data, for example
        raise TypeError(f"{name} must be an integer, got {shown(value)}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {shown(number)}")
    if number > most:
        raise ValueError(f"{name} must be at most {most}, got {shown(number)}")
    return number


def require_real(
    name: str, value: Any, valid: Callable[[float], bool] = math.isfinite, allowed: str = "a finite number"
) -> float:
    """A float for which `valid` is true, as `allowed` says; anything with ``__float__`` except bool."""
    refused = (bool, str, bytes, bytearray, complex, np.bool_, np.complexfloating, np.datetime64, np.timedelta64)
    try:
        if isinstance(value, refused) or getattr(value, "shape", ()) != ():
            raise TypeError
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} must be {allowed}, got {shown(value)}") from None
    except Exception:  # of tensors without data, for example
        raise TypeError(f"{name} must be a number, got {shown(value)}") from None
    if not valid(number):
        raise ValueError(f"{name} must be {allowed}, got {shown(value)}")
    return number


def require_bool(name: str, value: Any) -> bool:
    """A bool; also accepts NumPy's, and the integers 0 and 1."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {shown(value)}")


def require_text(name: str, value: Any) -> str:
    """A str."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {shown(value)}")
    return value


def require_choice(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """One of the choices, which are strings, bools or None."""
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
        if isinstance(value, str) and isinstance(choice, str) and value == choice:  # subclasses, such as enums
            return choice
    listed = " or ".join(map(repr, choices)) if len(choices) < 3 else f"one of {', '.join(map(repr, choices))}"
    raise ValueError(f"{name} must be {listed}, got {shown(value)}")


def require_precision(value: Any) -> str:
    """The argument `precision` of many functions."""
    return str(require_choice("precision", value, PRECISIONS))


def require_path(name: str, value: Any) -> str:
    """The path as a str."""
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(path, str):
        raise TypeError(f"{name} must be a path (str or os.PathLike), got {shown(value)}")
    if not path:
        raise ValueError(f"{name} must not be empty")
    if "\0" in path:
        raise ValueError(f"{name} must not contain null characters, got {shown(path)}")
    return path


def require_instance(name: str, value: Any, kind: type[_T]) -> _T:
    """An instance of a class."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise TypeError(f"{name} must be {article} {kind.__name__}, got {shown(value)}")
    return value


def require_sequence(name: str, value: Any, kind: type = object, *, least: int = 0) -> list[Any]:
    """At least `least` items, of this class, of an iterable; strings and mappings are refused."""
    try:
        if isinstance(value, (str, bytes, bytearray, Mapping)):
            raise TypeError
        items = list(value)
    except Exception:  # of nested tensors, for example
        raise TypeError(f"{name} must be a sequence, got {shown(value)}") from None
    if len(items) < least:
        raise ValueError(f"{name} must contain at least {least} {kind.__name__}, got {len(items)}")
    return [require_instance(f"{name}[{i}]", item, kind) for i, item in enumerate(items)]


def require_mapping(name: str, value: Any) -> Mapping[Any, Any]:
    """A dictionary or other mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, got {shown(value)}")
    return value


def require_callable(name: str, value: Any, signature: str = "") -> Callable[..., Any]:
    """A callable; `signature` says how it is called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable{': ' * bool(signature)}{signature}, got {type(value).__name__}")
    return value  # type: ignore[no-any-return]


def why_not_dense(array: Any) -> str | None:
    """Why the numbers of an array or tensor are not in memory one by one, and what to do; None if they are.

    Sparse, nested and quantized tensors, and those without data, are refused: their libraries raise errors of many
    types, or export a null pointer.
    """
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(array, jax.Array):
        if isinstance(array, jax.core.Tracer):
            return "it is traced; call fidfast outside of jit, grad and vmap, or in jax.pure_callback"
        if not (array.is_fully_addressable or array.is_fully_replicated):
            return "its shards belong to several processes; pass the data of its addressable_shards"
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(array, torch.Tensor):
        is_sparse = hasattr(array, "nnz") and hasattr(array, "toarray")  # of SciPy and CuPy
        return "it is sparse; convert it with .toarray()" if is_sparse else None
    if array.is_nested:
        return "it is a nested tensor; pad it, or concatenate its parts"
    if array.layout != torch.strided:
        return f"its layout is {str(array.layout).removeprefix('torch.')}; convert it with .to_dense()"
    if array.is_quantized:
        return "it is quantized; convert it with .dequantize()"
    fake = sys.modules.get("torch._subclasses.fake_tensor")
    if array.is_meta or (fake is not None and isinstance(array, fake.FakeTensor)):
        return "it has a shape but no data"
    return None


def shape_of_array(array: Any) -> tuple[int, ...]:
    """The attribute ``shape`` if it is a tuple of numbers, else ()."""
    try:
        return tuple(map(int, getattr(array, "shape", ())))
    except Exception:  # of nested tensors, for example
        return ()


def as_dense(array: Any, name: str = "features") -> Any:
    """The array, or the tensor without its gradient and with its conjugate and negative bits applied.

    An array of JAX that is sharded over several devices is copied to the host.

    Raises
    ------
    TypeError
        For the reasons of `why_not_dense`.
    ValueError
        If values are masked.
    """
    require_unmasked(array, name)
    if isinstance(array, type):
        raise TypeError(f"{name} must be an array or tensor, got the class {array.__name__}")
    reason = why_not_dense(array)
    if reason is not None:
        raise TypeError(f"{name} must be a dense array or tensor, got {type(array).__name__}: {reason}")
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(array, jax.Array) and len(array.sharding.device_set) > 1:
        return np.asarray(array.addressable_data(0) if array.is_fully_replicated else array)  # DLPack has one device
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(array, torch.Tensor):
        return array
    if array.is_conj() or array.is_neg():
        array = array.resolve_conj().resolve_neg()
    return array.detach() if array.requires_grad else array  # the same object if possible


def as_array(name: str, value: Any, what: str = "an array") -> np.ndarray[Any, Any]:
    """The value as NumPy converts it; errors, which may have any type, become a TypeError."""
    require_unmasked(value, name)
    try:
        if (reason := why_not_dense(value)) is not None:
            raise TypeError(reason)
        value = as_dense(value, name)
        is_tensor = callable(getattr(value, "is_floating_point", None))
        return np.asarray(value.double() if is_tensor and value.is_floating_point() else value)  # NumPy lacks bfloat16
    except Exception as error:
        raise TypeError(f"{name} must be {what}: {error}") from error
