"""What a GPU answers is what the CPU answers, in the dims that people use."""

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from devices import LAYOUTS, Host

import fidfast
from fidfast import GaussianStats
from fidfast.cuda._problems import TOLERANCE, problems

HOST = Host()
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def moments_of(place, *batches, precision="float64"):
    moments = fidfast.Moments(batches[0].shape[1], precision=precision, device=place.name)
    for batch in batches:
        moments.update(place.array(batch))
    assert moments.device == place.name
    return moments


def stats_of(place, *batches):
    return moments_of(place, *batches).stats()


def assert_same(stats, expected, tolerance=1e-12):
    """As many samples, and every entry within `tolerance` of its units' deviations: rounding in another order."""
    assert stats.num_samples == expected.num_samples
    deviations = np.sqrt(np.diag(expected.sigma))
    assert np.all(np.abs(stats.sigma - expected.sigma) <= tolerance * np.outer(deviations, deviations))
    np.testing.assert_allclose(stats.mu, expected.mu, rtol=tolerance, atol=tolerance * deviations.max())


def rows_of(rng, n, dim, mean=1.0):
    return rng.standard_normal((n, dim)) * np.geomspace(1, 1e-2, dim) + mean


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_moments_of_every_type(rng, gpu, dim, dtype):
    """Fewer rows than units, and several blocks of 1,024."""
    for n, cuts in ((dim // 2, [1, 3]), (1500 + dim, [3, dim, 1300])):
        batches = np.split(rows_of(rng, n, dim).astype(dtype), cuts)
        assert_same(stats_of(gpu, *batches), stats_of(HOST, *batches))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32], ids=lambda dtype: np.dtype(dtype).name)
def test_the_usual_precision(rng, gpu, dim, dtype):
    """On a GPU that is slow in float64, 16-bit rows are multiplied on its tensor cores."""
    rows = rows_of(rng, 3000 if dim > 100 else 1100, dim, mean=0.05).astype(dtype)
    found = moments_of(gpu, *np.array_split(rows, 4), precision="float32").stats()
    # Sums of 64 products in float32 lose 64 2^-24 of the sum of their magnitudes at most, which an origin four
    # deviations away makes 17 times what the deviations tell.
    assert_same(found, stats_of(HOST, rows), 17 * 64 * 2.0**-24)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_may_lie_in_any_way(rng, gpu, layout):
    dim = gpu.dims[1]
    rows = rows_of(rng, dim + 50, dim).astype(np.float32)
    moments = fidfast.Moments(dim, precision="float64", device=gpu.name)
    moments.update(gpu.array(rows, layout))
    assert_same(moments.stats(), stats_of(HOST, rows))


def test_merging_and_unmerging(rng, gpu, dim):
    rows = rows_of(rng, 2 * dim + 1100, dim)
    whole, part = moments_of(gpu, rows[:dim]), moments_of(gpu, rows[dim:])
    whole.merge(part)
    assert_same(whole.stats(), stats_of(HOST, rows))
    whole.unmerge(part)
    assert_same(whole.stats(), stats_of(HOST, rows[:dim]), 1e-10)


def test_the_full_test_of_the_package(gpu, dim):
    """All problems of ``python -m fidfast.cuda``: every way of the distance, the map, and distances without rows."""
    from fidfast import _core, _cuda

    for name, solve in problems(dim):
        here = solve(_core, 0)
        difference = np.abs(solve(_cuda, gpu.number) - here).max()
        assert difference <= TOLERANCE * np.abs(here).max(), name


def pairs(rng, dim):
    """By name, two sets of rows, for each way that the distance may take."""
    full, other = rows_of(rng, 3 * dim, dim), 1.2 * rows_of(rng, 2 * dim + 1, dim)
    dead = full.copy()
    dead[:, :: max(dim // 5, 2)] = 1.5
    equal = full.copy()
    equal[:, 1] = equal[:, 0]
    yield "both of full rank", full, other
    yield "few rows on one side", full[: dim // 2], other
    yield "few rows on the other side", full, other[: dim // 2]
    yield "few rows on both", full[: dim // 2], other[: dim // 3 + 2]
    yield "dead units", dead, other
    yield "dead units, few rows", dead[: dim // 2], other
    yield "equal units", equal, other
    yield "one sample", full, full


def test_every_way_of_the_distance(rng, gpu, dim):
    for name, rows1, rows2 in pairs(rng, dim):
        terms = fidfast.frechet_terms(stats_of(gpu, rows1), stats_of(gpu, rows2))
        expected = fidfast.frechet_terms(stats_of(HOST, rows1), stats_of(HOST, rows2))
        size = expected.mean_term + expected.trace_samples + expected.trace_reference
        assert terms.rank == expected.rank, name
        # What comes with the distance bounds the rounding of both.
        assert abs(terms.distance - expected.distance) <= terms.rounding + expected.rounding + 1e-12 * size, name


def test_a_covariance_that_someone_holds(rng, gpu, dim):
    """Singular, with its number of samples known or not; and indefinite by rounding."""
    few = rows_of(rng, dim // 2 + 1, dim)
    sigma = np.cov(few, rowvar=False)
    there = stats_of(gpu, rows_of(rng, 2 * dim, dim))
    here = GaussianStats(there.mu, there.sigma, num_samples=there.num_samples)
    rounded = sigma.astype(np.float32).astype(np.float64)
    for known in (GaussianStats(np.zeros(dim), sigma, num_samples=len(few)), GaussianStats(np.zeros(dim), sigma),
                  GaussianStats(np.zeros(dim), rounded)):  # fmt: skip
        distance, expected = fidfast.frechet_terms(known, there), fidfast.frechet_terms(known, here)
        assert abs(distance.distance - expected.distance) <= distance.rounding + expected.rounding


def test_transport_map(rng, gpu, dim):
    rows1, rows2 = rows_of(rng, 4 * dim, dim, 0), rows_of(rng, 3 * dim, dim, 0)
    found = fidfast.transport_map(stats_of(gpu, rows2), stats_of(gpu, rows1))
    sigma1, sigma2 = (np.cov(rows, rowvar=False) for rows in (rows1, rows2))
    # T S2 T = S1, S1 up to 1 and T to the root of its condition.
    np.testing.assert_allclose(found @ sigma2 @ found, sigma1, rtol=0, atol=1e-10)


def test_estimate(rng, gpu, dim):
    rows1, rows2 = (rows_of(rng, 5 * dim, dim, mean).astype(np.float32) for mean in (0.0, 0.1))
    found = fidfast.estimate(gpu.array(rows1), gpu.array(rows2))
    expected = fidfast.estimate(rows1, rows2)
    # The CPU multiplies float32 rows in float32 from dim 512 on: 3e-5 / dim of the distance.
    tolerance = 1e-5 if dim >= 512 else 1e-9
    for name in ("value", "stderr", "bias"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=tolerance, err_msg=name)


def test_fid_of_arrays_where_they_lie(rng, gpu):
    rows1, rows2 = rng.standard_normal((100, 8)), rng.standard_normal((90, 8)) + 0.5
    there, here = gpu.array(rows1), gpu.array(rows2)
    found = fidfast.fid(there, here, precision="float64")
    assert abs(found - fidfast.fid(rows1, rows2, precision="float64")) <= 1e-12 * found
    assert abs(fidfast.fid(there, rows2, precision="float64") - found) <= 1e-12 * found


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_batch_with_nan_and_all_after_it_are_left_out(rng, gpu, place):
    dim = gpu.dims[0]
    batches = [rng.standard_normal((40, dim)) for _ in range(5)]
    bad = {"first": 0, "middle": 2, "last": 4}[place]
    spoilt = batches[bad].copy()
    spoilt[[11, 30], [3, 0]] = np.nan, np.inf
    moments = fidfast.Moments(dim, device=gpu.name)

    def see_them_all():
        for batch in [*batches[:bad], spoilt, *batches[bad + 1 :]]:
            moments.update(gpu.array(batch))
        moments.stats()

    with pytest.raises(ValueError, match=r"NaN or infinity; the first such row is 11\b"):  # by whichever finds out
        see_them_all()
    assert moments.num_samples == 40 * bad
    for batch in batches[bad:]:
        moments.update(gpu.array(batch))
    assert_same(moments.stats(), stats_of(HOST, *batches))


def test_the_laws_of_tests_cuda_hold(request, gpu):
    """They are stated of a GPU in a process of their own."""
    if request.config.getoption("--standin", False):
        pytest.skip("tests/cuda states them of the stand-in")
    folder = Path(__file__).parents[1] / "cuda"
    laws = [str(folder / name) for name in ("test_laws.py", "test_laws_of_distances.py")]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "--real-gpu", *laws], capture_output=True, text=True,
                          check=False, cwd=folder.parents[1])  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert "passed" in done.stdout
