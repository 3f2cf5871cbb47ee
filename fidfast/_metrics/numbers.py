"""Checks of options that are numbers."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

__all__ = ["checked_float", "checked_int"]

#: Larger integers are errors even where an option has no bound of its own: sums of two of them fit into 64 bits.
_LARGEST = 2**62


def checked_int(name: str, value: Any, least: int = -_LARGEST, most: int = _LARGEST) -> int:
    """The value as an int.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is not between `least` and `most`.
    """
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    try:
        number = operator.index(value)
    except TypeError:  # arrays
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if number > most:
        raise ValueError(f"{name} must be at most {most}, got {_short(number)}")
    return number


def checked_float(name: str, value: Any) -> float:
    """The value as a float.

    Raises
    ------
    TypeError
        If it is not a real number.
    ValueError
        If it exceeds the range of float64.
    """
    if isinstance(value, (bool, np.bool_, str, bytes)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be at most 1.8e308, got {_short(value)}") from None
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}") from None


def _short(number: int) -> str:
    """The number, or its size if it has many digits."""
    bits = int(number).bit_length()
    return str(number) if bits <= 128 else f"a number of {bits:,} bits"
