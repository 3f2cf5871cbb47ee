"""Products of 16-bit rows on tensor cores: what GPUs that are slow in float64, as device 1, do from dim 512 on."""

import ml_dtypes
import numpy as np
from device_arrays import DeviceArray

from fidfast import _core

DIM, N = 513, 560  # a tile that is nearly empty; rows that fill no whole number of products


def rows_of(dtype, rng):
    rows = rng.standard_normal((N, DIM)) + np.linspace(0, 3, DIM)
    rows[:, 5], rows[:, 6] = 0, 1.75  # dead
    rows[:, 20] = 1000 + 8 * rng.integers(0, 3, N)  # too far from the origin: 100 deviations
    rows[:, 21] *= 1e-25 if dtype == ml_dtypes.bfloat16 else 1  # products too small for float32
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
        for unit in (20, 21):
            place = np.flatnonzero(np.flatnonzero(alive) == unit)
            assert (unit == 21 and dtype == np.float16) or error[place].max() < 1e-12
        assert not found[[5, 6]].any()
        assert not found[:, [5, 6]].any()


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
