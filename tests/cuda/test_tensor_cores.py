"""Products of float16 and bfloat16 rows on tensor cores, used from dim 512 on by GPUs that are slow in float64.

Device 1 of the stand-in is such a GPU.
"""

import ml_dtypes
import numpy as np
import pytest
from device_arrays import DeviceArray

from fidfast import Moments, _core

DIM, N = 513, 561  # not multiples of the tile size, of the rows of a product, or of the rows in a word
FAR, SMALL = 20, 200  # units of two tiles, whose products are then all in float64
CONSTANT = [5, 6, 100]  # in one of these tiles, and in a tile of 16-bit products


def rows_of(dtype, rng):
    rows = rng.standard_normal((N, DIM)) + np.linspace(0, 3, DIM)
    rows[:, CONSTANT] = 0, 1.75, 1.7
    rows[:, FAR] = 1000 + 8 * rng.integers(0, 3, N)  # too far from the origin: 100 standard deviations
    rows[:, SMALL] *= 1e-25 if dtype == ml_dtypes.bfloat16 else 1  # products too small for float32
    return rows.astype(dtype)


def covariance(module, device, precision, *batches):
    moments = module.Moments(DIM, precision, device)
    for batch in batches:
        moments.update(batch)
    return moments.stats(ddof=1).sigma


@pytest.mark.slow  # 15 s: all products of a kernel with many instructions
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_the_rounding_of_float32_sums_of_64_products(cuda, extension, rng, dtype):
    rows = rows_of(dtype, rng)
    expected = covariance(_core, 0, "float64", rows)
    cuda.clear_calls()
    parts = [DeviceArray(part, device=1) for part in (rows[:300], rows[300:])]
    found = covariance(extension, 1, "float32", *parts)
    names = [call.name for call in cuda.calls()]
    assert any("rank_update" in name for name in names)
    assert "cublasDsyrk_v2" not in names
    deviations = np.sqrt(np.diag(expected))
    varying = deviations > 0
    error = np.abs(found - expected)[np.ix_(varying, varying)] / np.outer(deviations[varying], deviations[varying])
    # The error of a sum of 64 products is at most 64 times 2^-24 times the sum of their magnitudes, which is 1 + 16
    # times the deviations if the origin is 4 of them away; on average a hundredth of that.
    assert error.max() < 17 * 64 * 2.0**-24
    assert np.median(error) < 2.0**-24
    # Units far from the origin, or with small values, are multiplied in float64.
    for unit in (FAR, SMALL):
        row = np.flatnonzero(np.flatnonzero(varying) == unit)
        assert (unit == SMALL and dtype == np.float16) or error[row].max() < 1e-12
    assert not found[CONSTANT].any()
    assert not found[:, CONSTANT].any()


def test_float32_rows_and_precision_float64_use_dsyrk(cuda, extension, rng):
    rows = rows_of(np.float16, rng)
    for batch, precision in ((rows.astype(np.float32), "float32"), (rows, "float64")):
        cuda.clear_calls()
        expected = covariance(_core, 0, "float64", batch)
        found = covariance(extension, 1, precision, DeviceArray(batch, device=1))
        assert "cublasDsyrk_v2" in [call.name for call in cuda.calls()]
        # N products in float64, with a relative error of 2^-53 each.
        scale = np.sqrt(np.diag(expected))
        assert np.all(np.abs(found - expected) <= 1e-12 * np.outer(scale, scale))


@pytest.mark.slow
def test_blocks_of_two_formats_are_multiplied_in_float64(cuda, extension, rng):
    """One block with values that only bfloat16 can represent, and values that only float16 can represent."""
    small = (2.0**-18 * rng.standard_normal((N // 2, DIM))).astype(ml_dtypes.bfloat16)
    fine = rng.standard_normal((N, DIM)).astype(np.float16)
    expected = covariance(_core, 0, "float64", small, fine)
    cuda.clear_calls()
    found = covariance(extension, 1, "float32", DeviceArray(small, device=1), DeviceArray(fine, device=1))
    assert any("rank_update" in call.name for call in cuda.calls())
    scale = np.sqrt(np.diag(expected))
    assert np.all(np.abs(found - expected) <= 1e-12 * np.outer(scale, scale))


# Batches that are not finite ----------------------------------------------------------------------------------------

FIRST, SECOND = 700, 400  # the second batch fills the block of 1,024


def moments_of(*batches):
    moments = Moments(512, precision="float32", device="cuda:1")
    for batch in batches:
        moments.update(DeviceArray(batch, device=1))
    return moments


def state_of(moments):
    return moments.state()


def same_state(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_a_bad_batch_that_fills_a_block_changes_nothing(cuda, extension, rng):
    """The block is not multiplied, and the memory reserved for its rows is not read."""
    rows = rng.standard_normal((FIRST + SECOND, 512)).astype(np.float16)
    good, bad = rows[:FIRST], rows[FIRST:].copy()
    bad[17, 3] = np.inf
    cuda.clear_calls()
    moments = moments_of(good, bad)
    assert any("rank_update" in call.name for call in cuda.calls())
    with pytest.raises(ValueError, match="the first such row is 17"):
        moments.stats()
    assert moments.num_samples == FIRST
    assert same_state(state_of(moments), state_of(moments_of(good)))


@pytest.mark.slow
def test_a_bad_batch_after_a_block_changes_nothing(extension, rng):
    rows = rng.standard_normal((1024, 512)).astype(np.float16)
    bad = rows.copy()
    bad[1000, 511] = np.nan
    moments = moments_of(rows)
    before = state_of(moments)
    assert before["0/count"] == 1024
    moments.update(DeviceArray(bad, device=1))
    with pytest.raises(ValueError, match="the first such row is 1000"):
        moments.stats()
    assert same_state(before, state_of(moments))
