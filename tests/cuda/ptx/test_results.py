"""Kernels compiled by nvcc and run by the interpreter give exactly the results of NumPy."""

import ctypes
import ctypes.util
import math
import struct
from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from ptx import arithmetic
from ptx.conversions import float64_to_bfloat16
from ptx.host import compile_kernels, compiler, launch

SOURCE = Path(__file__).with_name("kernels.cu")


@pytest.fixture(
    scope="session", params=[pytest.param(80, marks=pytest.mark.slow), pytest.param(90, marks=pytest.mark.slow), 100]
)
def kernels(request, tmp_path_factory):
    if compiler() is None:
        pytest.skip("nvcc is not on PATH")
    return compile_kernels(SOURCE.read_text(), request.param, tmp_path_factory.mktemp("ptx"))


def blocks_for(count: int, threads: int) -> int:
    return -(-count // threads)


def bits_equal(result: np.ndarray, expected: np.ndarray) -> bool:
    """Equal bits, except that all NaN are equal."""
    expected = np.asarray(expected, result.dtype)
    same = np.signbit(result) == np.signbit(expected)
    return bool(np.where(np.isnan(expected), np.isnan(result), (result == expected) & same).all())


#: Values at which conversions and comparisons have special cases.
EDGES = np.array(
    [
        *(0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-40, 1e-310, 6e-8, 65504.0, 65519.99, 65520.0, 1e30, -1e30, 3.4e38),
        *(2.0**31 - 1, 2.0**31, -(2.0**31), -(2.0**31) - 1, 2.0**32 - 1, 2.0**32, 2.0**63, -(2.0**63), 2.0**64, -1.0),
        *(math.inf, -math.inf, math.nan, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-11, 1 + 2.0**-24 + 2.0**-50, 255.5),
    ]
)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_conversion_of_strided_arrays_to_float64(kernels, rng, dtype):
    numbers = rng.normal(size=(83, 60)).astype(getattr(ml_dtypes, dtype, dtype))
    for x, row_stride, column_stride in (numbers[:, :45], 60, 1), (numbers.T, 1, 60), (numbers[::2, ::3], 120, 3):
        y = np.zeros(x.shape)
        kernel = kernels[f"widen_{dtype}"]
        grid = blocks_for(x.size, 128)
        launch(kernel, grid, 128, numbers, row_stride, column_stride, *x.shape, y, unwritten=[y])
        assert np.array_equal(y, x.astype(float))


def test_a_million_elements(kernels, rng):
    x, y = rng.normal(size=(1000, 1000)).astype(np.float16), np.zeros((1000, 1000))
    launch(kernels["widen_float16"], blocks_for(x.size, 256), 256, x, 1000, 1, *x.shape, y, unwritten=[y])
    assert np.array_equal(y, x)


def test_conversions_to_narrower_types(kernels, rng):
    x = np.concatenate([EDGES, rng.normal(size=300), rng.integers(-70000, 70000, 300) / 64])
    xf = x.astype(np.float32)
    f, zero, h, hd = (np.zeros(len(x), dtype) for dtype in (np.float32, np.float32, np.float16, np.float16))
    b = np.zeros(len(x), ml_dtypes.bfloat16)
    launch(kernels["narrow"], blocks_for(len(x), 64), 64, x, xf, len(x), f, h, b, hd, zero)
    with np.errstate(over="ignore"):
        near = x.astype(np.float32)
        assert bits_equal(h, xf.astype(np.float16))
        assert bits_equal(hd, x.astype(np.float16))
    assert bits_equal(f, near)
    assert bits_equal(b.astype(np.float32), xf.astype(ml_dtypes.bfloat16).astype(np.float32))
    assert bits_equal(zero, np.where(np.abs(near) > np.abs(x), np.nextafter(near, np.float32(0)), near))


def test_conversions_to_integers_saturate(kernels, rng):
    x = np.concatenate([EDGES, rng.normal(size=300) * 1e6, rng.normal(size=300) * 1e12])
    dtypes = (np.int32, np.uint32, np.int64, np.uint64, np.int32, np.int32, np.uint8, np.int16)
    results = [np.zeros(len(x), dtype) for dtype in dtypes]
    launch(kernels["to_integers"], blocks_for(len(x), 64), 64, x, len(x), *results, unwritten=results)

    def clamped(values, dtype):
        ends = np.iinfo(dtype)
        numbers = [0 if math.isnan(v) else v if math.isinf(v) else int(v) for v in values]
        return np.array([int(min(max(v, ends.min), ends.max)) for v in numbers], dtype)

    truncated = np.trunc(x)
    for result in results[:4]:
        assert np.array_equal(result, clamped(truncated, result.dtype))
    assert np.array_equal(results[4], clamped(np.rint(x.astype(np.float32)), np.int32))
    assert np.array_equal(results[5], clamped(np.floor(x), np.int32))
    assert np.array_equal(results[6], results[0].astype(np.uint8))
    assert np.array_equal(results[7], results[0].astype(np.int16))


def test_conversions_from_integers(kernels, rng):
    x = np.concatenate([rng.integers(-(2**63), 2**63 - 1, 500), rng.integers(-(2**17), 2**17, 500), [2**24 + 1, -1]])
    d, f, fu, d8, h = (np.zeros(len(x), dtype) for dtype in (float, np.float32, np.float32, float, np.float16))
    launch(kernels["from_integers"], blocks_for(len(x), 64), 64, x, len(x), d, f, fu, d8, h)
    assert np.array_equal(d, x.astype(float))
    assert np.array_equal(f, x.astype(np.float32))
    assert np.array_equal(fu, x.view(np.uint64).astype(np.float32))
    assert np.array_equal(d8, x.astype(np.int8).astype(float))
    with np.errstate(over="ignore"):
        assert np.array_equal(h, x.astype(np.int32).astype(np.float16))


@pytest.mark.parametrize("n", [1, 300, 20_000])
def test_block_reduction(kernels, rng, n):
    x, sums = rng.integers(-1000, 1000, n).astype(float), np.zeros(7)  # integers: sums are exact
    launch(kernels["block_sums"], 7, 256, x, n, sums, unwritten=[sums])
    blocks = np.arange(n) // 256 % 7
    assert np.array_equal(sums, [x[blocks == block].sum() for block in range(7)])


@pytest.mark.parametrize("shape", [(1024, 64), (5, 33), (1, 1)])
def test_column_sums(kernels, rng, shape):
    x, sums = rng.integers(-1000, 1000, shape).astype(np.float32), np.zeros(shape[1])
    launch(kernels["column_sums"], blocks_for(shape[1], 32), (32, 8), x, *shape, sums, unwritten=[sums])
    assert np.array_equal(sums, x.sum(axis=0, dtype=float))


@pytest.mark.parametrize(("name", "dtype"), [("transpose_16", np.uint16), ("transpose_64", np.float64)])
def test_transposition_through_shared_memory(kernels, rng, name, dtype):
    x = rng.integers(0, 60_000, (70, 101)).astype(dtype)
    y = np.zeros(x.shape[::-1], dtype)
    launch(kernels[name], (blocks_for(101, 32), blocks_for(70, 32)), (32, 8), x, *x.shape, y, unwritten=[y])
    assert np.array_equal(y, x.T)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_matrix_products_of_warps(kernels, rng, dtype):
    element = getattr(ml_dtypes, dtype, dtype)
    # 5 blocks of 3 warps; products and sums of small integers are exact in float32.
    a, b = (rng.integers(-8, 9, (15, size, 48)).astype(element) for size in (16, 8))
    d = np.zeros((15, 16, 8), np.float32)
    words = (matrix.view(np.uint32) for matrix in (a, b))
    launch(kernels[f"multiply_{dtype}"], 5, 96, *words, 48, d, unwritten=[d])
    assert np.array_equal(d, a.astype(float) @ b.astype(float).swapaxes(1, 2))


def test_matrix_products_by_ldmatrix(kernels, rng):
    a, b = (rng.integers(-8, 9, shape).astype(ml_dtypes.bfloat16) for shape in ((16, 16), (16, 8)))
    d = np.zeros((16, 8), np.float32)
    launch(kernels["multiply_by_ldmatrix"], 1, 32, a, b, d, unwritten=[d])
    assert np.array_equal(d, a.astype(float) @ b.astype(float))


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_integer_division(kernels, rng, dtype):
    ends = np.iinfo(dtype)
    a = np.concatenate([rng.integers(ends.min, ends.max, 500, dtype, endpoint=True), rng.integers(0, 99, 500, dtype)])
    b = np.concatenate([a[300:], rng.integers(1, 9, 300, dtype)])
    b[b == 0] = 3
    quotient, rest = np.zeros_like(a), np.zeros_like(a)
    launch(kernels[f"divide_{dtype}_t"], blocks_for(1000, 128), 128, a, b, 1000, quotient, rest)
    for x, y, q, r in zip(a.tolist(), b.tolist(), quotient.tolist(), rest.tolist(), strict=True):
        assert (q, r) == (math.trunc(Fraction(x, y)), int(math.copysign(1, x)) * (abs(x) % abs(y)))


def signed(value: int, bits: int) -> int:
    return (value & (1 << bits) - 1) - ((value >> bits - 1 & 1) << bits)


def test_integer_arithmetic_and_bits(kernels, rng):
    n = 200
    a, b = (rng.integers(0, 2**32, n, np.uint32) for _ in range(2))
    c = rng.integers(0, 2**64 - 1, n, np.uint64)
    a[:2], c[:2] = (0, 2**32 - 1), (0, 2**64 - 1)
    out, wide = np.zeros((n, 10), np.uint32), np.zeros((n, 4), np.uint64)
    launch(kernels["bits"], blocks_for(n, 96), 96, a, b, c, n, out, wide)
    ones32, ones64 = 2**32 - 1, 2**64 - 1
    for i, (x, y, z) in enumerate(zip(a.tolist(), b.tolist(), c.tolist(), strict=True)):
        both = y << 32 | x
        shift = y & 31
        picked = [both >> 8 * (y >> 4 * k & 7) & 255 for k in range(4)]  # __byte_perm ignores the sign bits
        assert out[i].tolist() == [
            x.bit_count(),
            32 - x.bit_length(),
            int(f"{x:032b}"[::-1], 2),
            sum(byte << 8 * k for k, byte in enumerate(picked)),
            (both << shift) >> 32 & ones32,
            both >> min(y, 32) & ones32,
            x * y >> 32,
            signed(x, 32) * signed(y, 32) >> 32 & ones32,
            (x >> shift) ^ (x << shift & ones32) ^ (signed(x, 32) >> shift & ones32),
            z.bit_count() + 100 * (64 - z.bit_length()),
        ]
        assert wide[i].tolist() == [
            z * (z ^ 0x123456789ABCDEF) >> 64,
            signed(z, 64) * signed(~signed(z, 64) * 3, 64) >> 64 & ones64,
            (z >> (y & 63) | z << (63 - (y & 63))) & ones64,
            int(f"{z:064b}"[::-1], 2),
        ]


def test_divergent_loops_with_early_return(kernels):
    steps = np.zeros(1000, np.int32)
    launch(kernels["collatz"], blocks_for(1000, 96), 96, 1000, steps, unwritten=[steps])

    def expected(i):
        value, count = i + 1, 0
        while value != 1 and count < 100:
            value, count = (3 * value + 1 if value % 2 else value // 2), count + 1
        return -1 if i > 500 and i % 2 else count

    assert steps.tolist() == [expected(i) for i in range(1000)]


def test_branches_by_index(kernels):
    which = np.arange(40, dtype=np.int32) % 10
    x = np.linspace(1, 90, 40).astype(np.float32)
    y = x.copy()
    launch(kernels["choose"], 1, 64, which, 40, y)
    one = np.float32(1)
    results = [
        x + one,
        x * x,
        np.sqrt(x),
        one / x,
        x / np.float32(3),
        -x,
        -x,
        np.abs(x - np.float32(100)),
        0 * x,
        0 * x,
    ]
    assert np.array_equal(y, np.choose(which, results))


def rounded(value: Fraction) -> float:
    """A Fraction rounded to the nearest float64, as Python's division of integers does."""
    return value.numerator / value.denominator


def test_fused_multiply_add_rounds_once(kernels, rng):
    n = 3000
    a, b, c = rng.normal(size=(3, n)) * 2.0 ** rng.integers(-300, 300, (3, n))
    c[: n // 2] = -a[: n // 2] * b[: n // 2] * (1 + 2.0 ** -rng.integers(20, 60, n // 2))  # most of it cancels
    af, bf, cf = (rng.normal(size=(3, n)) * 2.0 ** rng.integers(-40, 40, (3, n))).astype(np.float32)
    cf[: n // 2] = -af[: n // 2] * bf[: n // 2]
    # Just below the midpoint of two numbers: double rounding would give a wrong result.
    small, odd = 2.0 ** -rng.integers(27, 50, 99), 2.0 * rng.integers(0, 99, 99)
    a[:99], b[:99], c[:99] = 1 + small, 1 - small, 2.0**53 + odd
    small = 2.0 ** -rng.integers(12, 24, 99)
    af[:99], bf[:99], cf[:99] = 1 + small, 1 - small, 2.0**24 + odd
    d, df = np.zeros(n), np.zeros(n, np.float32)
    launch(kernels["fused"], blocks_for(n, 256), 256, a, b, c, af, bf, cf, n, d, df)
    exact = [Fraction(x) * Fraction(y) + Fraction(z) for x, y, z in zip(a, b, c, strict=True)]
    assert d.tolist() == [rounded(value) for value in exact]
    fmaf = ctypes.CDLL(ctypes.util.find_library("m")).fmaf
    fmaf.restype, fmaf.argtypes = ctypes.c_float, [ctypes.c_float] * 3
    assert df.tolist() == [fmaf(*values) for values in zip(af, bf, cf, strict=True)]


def test_fused_multiply_add_at_the_ends_of_the_range():
    fma = ctypes.CDLL(ctypes.util.find_library("m")).fma
    fma.restype, fma.argtypes = ctypes.c_double, [ctypes.c_double] * 3
    ends = [0.0, -0.0, 5e-324, -3e-310, 1e-200, 1 / 3, 1e200, -1.7e308, 2.0**1023, math.inf, -math.inf, math.nan]
    a, b, c = (values.ravel() for values in np.meshgrid(ends, ends, ends))
    with np.errstate(all="ignore"):
        result = arithmetic.fused_multiply_add(a, b, c)
    assert bits_equal(result, np.array([fma(*values) for values in zip(a, b, c, strict=True)]))


def test_fused_multiply_add_of_half_precision_rounds_once(rng):
    a, b, c = (rng.normal(size=(3, 500)) * 2.0 ** rng.integers(-6, 6, (3, 500))).astype(np.float16)
    c[:250] = -a[:250] * b[:250]
    exact = [Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c, strict=True)]
    expected = [struct.unpack("<e", struct.pack("<e", rounded(value)))[0] for value in exact]
    # Each exact value fits in float64: a product of 22 bits and a summand shifted by up to 30 bits.
    assert all(Fraction(rounded(value)) == value for value in exact)
    assert arithmetic.fused_multiply_add(a, b, c).tolist() == expected
    ties = np.array([1 + 2.0**-8, 1 + 2.0**-8 + 2.0**-40, 1 + 3 * 2.0**-8 - 2.0**-40, -(1 + 2.0**-8 + 2.0**-45)])
    assert float64_to_bfloat16(ties).tolist() == [0x3F80, 0x3F81, 0x3F81, 0xBF81]


def bit(value: int, index: int) -> int:
    return int(value) >> index & 1


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.uint64, np.int64])
def test_bit_fields_match_the_ptx_manual(rng, dtype):
    n, width = 400, np.iinfo(dtype).bits
    a, other = (rng.integers(0, 2**64 - 1, n, np.uint64).astype(dtype) for _ in range(2))
    position, length = (rng.choice([0, 1, 5, 31, 32, 40, 63, 64, 200, 255, 256], n).astype(np.uint32) for _ in range(2))
    extracted = arithmetic.extract_bits(a, position, length)
    unsigned = np.dtype(f"u{width // 8}")
    inserted = arithmetic.insert_bits(a.view(unsigned), other.view(unsigned), position, length)
    for x, y, p, count, field, combined in zip(
        a, other, position & 255, length & 255, extracted, inserted, strict=True
    ):
        p, count = int(p), int(count)
        sign = bit(x, min(p + count - 1, width - 1)) if np.iinfo(dtype).min < 0 and count else 0
        inside = [i < count and p + i < width for i in range(width)]
        assert [bit(field, i) for i in range(width)] == [bit(x, p + i) if inside[i] else sign for i in range(width)]
        expected = [bit(x, i - p) if p <= i < p + count else bit(y, i) for i in range(width)]
        assert [bit(combined, i) for i in range(width)] == expected


def test_byte_permutations_and_logic_tables(rng):
    a, b, c = rng.integers(0, 2**32, (3, 100), np.uint32)
    permuted = arithmetic.permute_bytes(a, b, c)
    for x, y, selector, result in zip(*(v.tolist() for v in (a, b, c, permuted)), strict=True):
        bytes_of = struct.pack("<II", x, y)
        nibbles = [selector >> 4 * k & 15 for k in range(4)]
        chosen = [bytes_of[n & 7] if n < 8 else 255 * (bytes_of[n & 7] >> 7) for n in nibbles]
        assert struct.pack("<I", result) == bytes(chosen)
    tables = {0xF0: a, 0xCC: b, 0xAA: c, 0x96: a ^ b ^ c, 0xE8: a & b | a & c | b & c}
    for table, expected in tables.items():
        assert np.array_equal(arithmetic.logic_by_table(a, b, c, np.uint32(table)), expected)


def test_comparisons_of_nan_and_zeros(kernels):
    values = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan]
    a, b = (grid.ravel() for grid in np.meshgrid(values, values))
    n = len(a)
    low, high, lowf, relations = np.zeros(n), np.zeros(n), np.zeros(n, np.float32), np.zeros(n, np.int32)
    launch(kernels["compare"], 1, 64, a, b, n, low, high, lowf, relations)
    negative = np.signbit(a) | np.signbit(b)
    zeros = (a == 0) & (b == 0)
    expected = np.where(zeros, np.where(negative, -0.0, 0.0), np.fmin(a, b))
    assert bits_equal(low, expected)
    assert bits_equal(lowf, expected)
    assert bits_equal(high, np.where(zeros, np.where(np.signbit(a) & np.signbit(b), -0.0, 0.0), np.fmax(a, b)))
    holds = [
        a < b,
        a <= b,
        a > b,
        a >= b,
        a == b,
        a != b,
        ~(a < b),
        ~(a >= b),
        np.isnan(a),
        np.isinf(a),
        np.isfinite(b),
    ]
    assert np.array_equal(relations, sum(relation.astype(int) << k for k, relation in enumerate(holds)))


def test_struct_by_value(kernels, rng):
    x, y = rng.normal(size=40).astype(np.float32), np.zeros(40, np.float32)
    offsets = rng.normal(size=4)
    launch(kernels["by_struct"], 1, 64, x, struct.pack("<f4x4dh6x", 0.5, *offsets, 33), y)
    expected = ((np.float32(0.5) * x).astype(float) + offsets[np.arange(40) & 3]).astype(np.float32)
    assert np.array_equal(y, np.where(np.arange(40) < 33, expected, 0))


def test_arrays_in_local_memory(kernels, rng):
    x, counts = rng.integers(0, 256, (50, 30), np.uint8), np.zeros((50, 16), np.int32)
    launch(kernels["histogram"], 1, 50, x, 30, counts, unwritten=[counts])
    assert np.array_equal(counts, [np.bincount(row & 15, minlength=16) for row in x])


def test_vector_accesses(kernels, rng):
    x, y = rng.normal(size=(32, 4)).astype(np.float32), rng.normal(size=(32, 2))
    u, v, w = np.zeros_like(x), np.zeros_like(y), np.zeros((32, 4), np.uint16)
    launch(kernels["vectors"], 1, 32, x, y, u, v, w, unwritten=[u, v, w])
    assert np.array_equal(u, x[:, ::-1])
    assert np.array_equal(v, y[:, ::-1])
    assert np.array_equal(w, np.arange(32)[:, None] + np.arange(4))


def test_shuffles_and_votes(kernels, rng):
    x, y, votes = rng.integers(0, 100, 64).astype(np.int32), np.zeros((64, 5), np.int32), np.zeros((64, 4), np.uint32)
    x[40] = 100
    launch(kernels["shuffles"], 1, 64, x, y, votes, unwritten=[y, votes])
    i = np.arange(64)
    lane, warp = i % 32, i // 32 * 32
    down = np.where(lane % 16 < 14, i + 2, i)
    sources = [np.where(lane % 8 < 3, i, i - 3), i ^ 5, i // 8 * 8 + i * 7 % 8, down, warp + np.where(i % 2, 1, 2)]
    assert np.array_equal(y, x[np.stack(sources, axis=1)])
    for start in 0, 32:
        values = x[start : start + 32]
        ballot = int((values.astype(np.int64) % 2) @ 2 ** np.arange(32))
        expected = [ballot, int((values < 100).all()), int((values == x[0]).any()), 2**32 - 1]
        assert (votes[start : start + 32] == np.array(expected, np.uint32)).all()


def test_generic_addresses_and_dynamic_shared_memory(kernels, rng):
    x, y = rng.normal(size=100), np.zeros(100)
    launch(kernels["generic"], 1, 32, x, 100, y, unwritten=[y], dynamic_shared_bytes=400)
    assert np.array_equal(y, np.concatenate([2 * x[49::-1], x[50:]]))


def test_warp_barriers_order_accesses(kernels, rng):
    x, y = rng.integers(0, 1000, 128).astype(np.int32), np.zeros(128, np.int32)
    launch(kernels["rotate_in_warp"], 1, 128, x, y, unwritten=[y])
    i = np.arange(128)
    rotated = x[i & ~31 | (i + 1) & 31] + 1
    assert np.array_equal(y, rotated[i ^ 1])
