"""`cvt`: conversions between integer and floating-point types, with their rounding modes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ptx.arithmetic import flush
from ptx.program import Fault
from ptx.registers import DTYPES

_TO_INTEGER = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def bfloat16_to_float32(bits):
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def float32_to_bfloat16(value):
    """To nearest, ties to even. Any NaN becomes the canonical NaN."""
    bits = value.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(value), np.uint16(0x7FFF), rounded.astype(np.uint16))


def float64_to_bfloat16(value):
    """Correctly rounded, by way of float32 rounded to odd, which has more than two extra bits."""
    near = value.astype(np.float32)
    bits = near.view(np.uint32)
    wide = near.astype(np.float64)
    inexact = np.isfinite(near) & (wide != value) & (bits & np.uint32(1) == 0)
    away = np.where(np.abs(wide) < np.abs(value), np.uint32(1), np.uint32(0xFFFFFFFF))
    return float32_to_bfloat16(np.where(inexact, bits + away, bits).view(np.float32))


def conversion(target: str, source: str, modifiers: set[str]) -> Callable:
    """A function from values of type `source` to values of type `target`. Removes what it handles from `modifiers`."""
    to, of = DTYPES[target], DTYPES[source]
    roundings = [modifier for modifier in ("rn", "rz", "rni", "rzi", "rmi", "rpi") if modifier in modifiers]
    modifiers.difference_update(roundings)
    rounding = roundings[0] if len(roundings) == 1 else None
    saturate, to_zero = "sat" in modifiers, "ftz" in modifiers
    modifiers -= {"sat", "ftz"}
    if source == "bf16" and target != "bf16":
        narrower = conversion(target, "f32", set(roundings) | ({"sat"} if saturate else set()))
        return lambda value: narrower(bfloat16_to_float32(value))
    if target == "bf16":
        if rounding != "rn" or saturate or source not in ("f32", "f64"):
            raise Fault(f"unknown conversion from .{source} to .bf16")
        return float32_to_bfloat16 if source == "f32" else float64_to_bfloat16
    if to.kind != "f":
        return _to_integer(to, rounding) if of.kind == "f" else _between_integers(to, of, saturate, rounding)
    if of.kind != "f":
        if rounding != "rn" or saturate:
            raise Fault(f"unknown conversion from .{source} to .{target}")
        return lambda value: value.astype(to)
    convert = _between_floats(to, of, rounding)
    return _with_flush_and_saturation(convert, to, of, to_zero, saturate)


def _to_integer(to: np.dtype, rounding: str | None) -> Callable:
    if rounding not in _TO_INTEGER:
        raise Fault("a conversion to an integer needs a rounding mode")
    lowest, highest = np.iinfo(to).min, np.iinfo(to).max
    above = float(highest) + 1 if to.itemsize < 8 else 2.0 ** (64 if to.kind == "u" else 63)

    def convert(value):
        """Saturates at the ends of the range. NaN becomes 0."""
        rounded = _TO_INTEGER[rounding](value.astype(np.float64))
        inside = (rounded >= lowest) & (rounded < above)
        limit = np.where(rounded >= above, to.type(highest), to.type(lowest))
        outside = np.where(np.isnan(rounded), to.type(0), limit)
        return np.where(inside, np.where(inside, rounded, 0.0).astype(to), outside)

    return convert


def _between_integers(to: np.dtype, of: np.dtype, saturate: bool, rounding: str | None) -> Callable:
    if rounding is not None:
        raise Fault("a conversion between integers has no rounding mode")
    if not saturate:
        return lambda value: value.astype(to)
    lowest = max(np.iinfo(to).min, np.iinfo(of).min)
    highest = min(np.iinfo(to).max, np.iinfo(of).max)
    return lambda value: np.clip(value, of.type(lowest), of.type(highest)).astype(to)


def _between_floats(to: np.dtype, of: np.dtype, rounding: str | None) -> Callable:
    if rounding in _TO_INTEGER and to == of:
        return lambda value: _TO_INTEGER[rounding](value)
    narrowing = to.itemsize < of.itemsize
    if rounding == "rz" and narrowing:

        def towards_zero(value):
            near = value.astype(to)
            too_far = np.abs(near.astype(of)) > np.abs(value)
            return np.where(too_far, np.nextafter(near, to.type(0)), near)

        return towards_zero
    if rounding != ("rn" if narrowing else None):
        raise Fault(f"unknown rounding of a conversion: {rounding}")
    return lambda value: value.astype(to)


def _with_flush_and_saturation(
    convert: Callable, to: np.dtype, of: np.dtype, to_zero: bool, saturate: bool
) -> Callable:
    def converted(value):
        if to_zero and of == np.float32:
            value = flush(value)
        result = convert(value)
        if to_zero and to == np.float32:
            result = flush(result)
        if saturate:  # to [0, 1]; NaN becomes 0
            result = np.where(result > 0, np.minimum(result, to.type(1)), to.type(0))
        return result

    return converted if to_zero or saturate else convert
