"""PTX arithmetic on NumPy arrays, for operations that NumPy lacks or defines differently. Bit-exact by the PTX ISA.

Arguments are arrays or NumPy scalars of the instruction's type. Integer overflow wraps around.
"""

from __future__ import annotations

import ctypes
import ctypes.util

import numpy as np

_libm = ctypes.CDLL(ctypes.util.find_library("m"))
_libm.fma.restype = ctypes.c_double
_libm.fma.argtypes = [ctypes.c_double] * 3


def unsigned(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"u{dtype.itemsize}")


# Integers.


def divide(a, b):
    """Quotient rounded towards zero. The result for a zero divisor is unspecified; the caller rejects it."""
    return np.floor_divide(a - np.fmod(a, b), b)


def remainder(a, b):
    return np.fmod(a, b)


def multiply_wide(a, b):
    wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
    return a.astype(wide) * b.astype(wide)


def multiply_high(a, b):
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        return (multiply_wide(a, b) >> bits).astype(a.dtype)
    shift, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    x, y = a.view(np.uint64), b.view(np.uint64)
    x_high, x_low, y_high, y_low = x >> shift, x & low, y >> shift, y & low
    middle = x_high * y_low + (x_low * y_low >> shift)
    other_middle = x_low * y_high + (middle & low)
    high = x_high * y_high + (middle >> shift) + (other_middle >> shift)
    if a.dtype.kind == "i":  # the unsigned product counts a negative factor as 2^64 more
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.view(a.dtype)


def shift_left(a, amount):
    """`amount` is uint32. Amounts of the width or more give zero."""
    width = 8 * a.dtype.itemsize
    kept = a << np.minimum(amount, width - 1).astype(a.dtype)
    return np.where(amount < width, kept, a.dtype.type(0))


def shift_right(a, amount):
    """Arithmetic for signed types, logical for others. Amounts of the width or more leave only the sign."""
    width = 8 * a.dtype.itemsize
    kept = a >> np.minimum(amount, width - 1).astype(a.dtype)
    return kept if a.dtype.kind == "i" else np.where(amount < width, kept, a.dtype.type(0))


def funnel_shift(low, high, amount, left: bool, wrap: bool):
    """The upper (left) or lower (right) half of `high:low`, shifted as 64 bits by up to 32."""
    amount = (amount & np.uint32(31) if wrap else np.minimum(amount, np.uint32(32))).astype(np.uint64)
    both = high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)
    return ((both << amount) >> np.uint64(32) if left else both >> amount).astype(np.uint32)


def extract_bits(a, position, length):
    """`bfe`: `length` bits of `a` starting at `position`, sign-extended for signed types."""
    width = 8 * a.dtype.itemsize
    position, length = position & np.uint32(255), length & np.uint32(255)
    top = np.minimum(position + length, np.uint32(width))  # one past the field's last bit
    # Shift the field to the upper end and back: the right shift extends the sign. A field that starts beyond the top
    # is zero for unsigned types and the sign of `a` for signed types.
    field = shift_right(
        shift_left(a, width - top), (width - np.minimum(top - np.minimum(position, top), width)).astype(np.uint32)
    )
    beyond = shift_right(a, np.uint32(width)) if a.dtype.kind == "i" else a.dtype.type(0)
    field = np.where(position >= width, beyond, field)
    return np.where(length == 0, a.dtype.type(0), field)


def insert_bits(field, into, position, length):
    """`bfi`: the low `length` bits of `field` put into `into` at `position`."""
    position, length = position & np.uint32(255), length & np.uint32(255)
    ones = ~field.dtype.type(0)
    mask = shift_left(~shift_left(np.full(np.shape(length), ones), length), position)
    return (into & ~mask) | (shift_left(field, position) & mask)


def permute_bytes(a, b, selector):
    """`prmt` without a mode: each nibble of the selector takes a byte of `b:a`, or its sign bit eight times."""
    both = b.astype(np.uint64) << np.uint64(32) | a.astype(np.uint64)
    result = np.uint32(0)
    for index in range(4):
        nibble = (selector >> np.uint32(4 * index)).astype(np.uint64)
        byte = (both >> ((nibble & np.uint64(7)) << np.uint64(3))) & np.uint64(0xFF)
        sign = np.where(byte >> np.uint64(7), np.uint64(0xFF), np.uint64(0))
        byte = np.where(nibble & np.uint64(8), sign, byte)
        result = result | byte.astype(np.uint32) << np.uint32(8 * index)
    return result


def logic_by_table(a, b, c, table):
    """`lop3`: bit i of `table` is the result for bits a, b, c with 4 a + 2 b + c = i."""
    result = a.dtype.type(0)
    for row in range(8):
        if int(table) >> row & 1:
            chosen = (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
            result = result | chosen
    return result


def count_ones(a):
    count = np.uint32(0)
    for shift in range(8 * a.dtype.itemsize):
        count = count + (a >> a.dtype.type(shift) & a.dtype.type(1)).astype(np.uint32)
    return count


def count_leading_zeros(a):
    spread = a
    for shift in (1, 2, 4, 8, 16, 32)[: 5 if a.dtype.itemsize == 4 else 6]:
        spread = spread | spread >> a.dtype.type(shift)
    return np.uint32(8 * a.dtype.itemsize) - count_ones(spread)


def reverse_bits(a):
    result = a.dtype.type(0)
    width = 8 * a.dtype.itemsize
    for index in range(width):
        bit = a >> a.dtype.type(index) & a.dtype.type(1)
        result = result | bit << a.dtype.type(width - 1 - index)
    return result


# Floating point.


def flush(a):
    """Subnormal float32 values to zeros of their sign: `.ftz`."""
    return np.where(np.abs(a) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), a), a)


def maximum(a, b, keep_nan: bool):
    """A number wins over NaN unless `keep_nan`. +0 is larger than -0, which NumPy leaves undefined."""
    return _extremum(np.maximum if keep_nan else np.fmax, np.bitwise_and, a, b)


def minimum(a, b, keep_nan: bool):
    return _extremum(np.minimum if keep_nan else np.fmin, np.bitwise_or, a, b)


def _extremum(choose, choose_between_zeros, a, b):
    if a.dtype.kind != "f":
        return choose(a, b)
    bits = unsigned(a.dtype)
    # Equal values have equal bits except for zeros, where only the sign bit can be set.
    return np.where(a == b, choose_between_zeros(a.view(bits), b.view(bits)).view(a.dtype), choose(a, b))


def is_subnormal(a):
    return (a != 0) & (np.abs(a) < np.finfo(a.dtype).tiny)


def _two_sum(a, b):
    """Knuth: a + b = total + error exactly."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def _two_product(a, b):
    """Dekker with Veltkamp's splitting: a * b = product + error exactly, far from overflow and underflow."""
    product = a * b
    a_scaled, b_scaled = a * 134217729.0, b * 134217729.0  # 2^27 + 1
    a_high, b_high = a_scaled - (a_scaled - a), b_scaled - (b_scaled - b)
    a_low, b_low = a - a_high, b - b_high
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _add_to_odd(a, b):
    """The sum in float64, rounded to odd. Rounding it again to fewer bits gives the correctly rounded exact sum.

    Boldo and Melquiond, Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd (2008).
    """
    total, error = _two_sum(a, b)
    bits = np.atleast_1d(total).view(np.int64).reshape(np.shape(total))
    inexact = np.isfinite(error) & (error != 0) & (bits & 1 == 0)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(inexact, bits + step, bits).view(np.float64)


def fused_multiply_add(a, b, c):
    """The value of a * b + c, rounded once, in the type of the arguments."""
    if a.dtype != np.float64:
        return fused_multiply_add_to_odd(a, b, c).astype(a.dtype)
    a, b, c = (np.atleast_1d(value) for value in np.broadcast_arrays(a, b, c))
    product, error = _two_product(a, b)
    result = product + c  # correct if the product is exact, infinite or NaN
    inexact = np.flatnonzero((error != 0) & np.isfinite(a) & np.isfinite(b))
    if inexact.size:
        result[inexact] = _round_product_sum(a[inexact], b[inexact], c[inexact], product[inexact], error[inexact])
    underflowed = (np.abs(product) < 2.0**-900) & (a != 0) & (b != 0)  # the error of the product underflows
    for index in np.flatnonzero(underflowed):
        result[index] = _libm.fma(a[index], b[index], c[index])
    return result


def fused_multiply_add_to_odd(a, b, c):
    """Compute a * b + c for float32 or float16 arguments as float64, rounded to odd. Products are exact."""
    return _add_to_odd(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64))


def _round_product_sum(a, b, c, product, error):
    """Compute product + error + c, rounded once, by libm if Dekker's splitting could overflow or underflow."""
    upper, lower = _two_sum(c, error)
    top, rest = _two_sum(product, upper)
    result = top + _add_to_odd(rest, lower)
    magnitude_a, magnitude_b, magnitude_c = np.abs(a), np.abs(b), np.abs(c)
    safe = (magnitude_a < 2.0**400) & (magnitude_b < 2.0**400) & (magnitude_c < 2.0**900)
    safe &= (magnitude_a > 2.0**-400) & (magnitude_b > 2.0**-400)
    for index in np.flatnonzero(~safe):
        result[index] = _libm.fma(a[index], b[index], c[index])
    return result
