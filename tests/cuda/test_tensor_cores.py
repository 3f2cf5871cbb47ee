"""Products of 16-bit rows on tensor cores: what GPUs that are slow in float64, as device 1, do from dim 512 on."""

import ml_dtypes
import numpy as np
from device_arrays import DeviceArray

from fidfast import _core

DIM, N = 513, 561  # a tile that is nearly empty; rows that fill no whole number of products, or of words
FAR, SMALL = 20, 200  # units of two tiles, which make all products of these float64
DEAD = [5, 6, 100]  # beside the first of these, and in a tile of products of halves


def rows_of(dtype, rng):
    rows = rng.standard_normal((N, DIM)) + np.linspace(0, 3, DIM)
    rows[:, DEAD] = 0, 1.75, 1.7
    rows[:, FAR] = 1000 + 8 * rng.integers(0, 3, N)  # too far from the origin: 100 deviations
    rows[:, SMALL] *= 1e-25 if dtype == ml_dtypes.bfloat16 else 1  # products too small for float32
    return rows.astype(dtype)


def covariance(module, device, precision, *batches):
    moments = module.Moments(DIM, precision, device)
    for batch in batches:
        moments.update(batch)
    return moments.stats(1).sigma


def test_products_of_halves_lose_what_sums_of_64_in_float32_lose(cuda, extension, rng):
    for dtype in (ml_dtypes.bfloat16, np.float16):
        rows = rows_of(dtype, rng)
        expected = covariance(_core, 0, "float64", rows)
        cuda.clear_calls()
        parts = [DeviceArray(part, device=1) for part in (rows[:300], rows[300:])]
        found = covariance(extension, 1, "float32", *parts)
        names = [call.name for call in cuda.calls()]
        assert any("rank_update" in name for name in names)
        assert "cublasDsyrk_v2" not in names
        deviations = np.sqrt(np.diag(expected))
        alive = deviations > 0
        error = np.abs(found - expected)[np.ix_(alive, alive)] / np.outer(deviations[alive], deviations[alive])
        # A sum of 64 products loses 64 times 2^-24 of the sum of their magnitudes at most, which is 1 + 16 of the
        # units' deviations where the origin is 4 of them away; on average a hundredth of that.
        assert error.max() < 17 * 64 * 2.0**-24
        assert np.median(error) < 2.0**-24
        # In float64: whatever lies far away, or is small.
        for unit in (FAR, SMALL):
            place = np.flatnonzero(np.flatnonzero(alive) == unit)
            assert (unit == SMALL and dtype == np.float16) or error[place].max() < 1e-12
        assert not found[DEAD].any()
        assert not found[:, DEAD].any()


def test_float32_rows_and_the_precision_float64_take_dsyrk(cuda, extension, rng):
    rows = rows_of(np.float16, rng)
    for batch, precision in ((rows.astype(np.float32), "float32"), (rows, "float64")):
        cuda.clear_calls()
        expected = covariance(_core, 0, "float64", batch)
        found = covariance(extension, 1, precision, DeviceArray(batch, device=1))
        assert "cublasDsyrk_v2" in [call.name for call in cuda.calls()]
        # Float64 throughout: N products of relative error 2^-53 each.
        scale = np.sqrt(np.diag(expected))
        assert np.all(np.abs(found - expected) <= 1e-12 * np.outer(scale, scale))


def test_units_of_two_formats_are_multiplied_in_float64(cuda, extension, rng):
    """Numbers of bfloat16 that float16 has not, and the other way round, in one block."""
    small = (2.0**-18 * rng.standard_normal((N // 2, DIM))).astype(ml_dtypes.bfloat16)
    fine = rng.standard_normal((N, DIM)).astype(np.float16)
    expected = covariance(_core, 0, "float64", small, fine)
    cuda.clear_calls()
    found = covariance(extension, 1, "float32", DeviceArray(small, device=1), DeviceArray(fine, device=1))
    assert any("rank_update" in call.name for call in cuda.calls())
    scale = np.sqrt(np.diag(expected))
    assert np.all(np.abs(found - expected) <= 1e-12 * np.outer(scale, scale))
