"""Results on a GPU equal those on the CPU, in common dims."""

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


def moments_of(device, *batches, precision="float64"):
    moments = fidfast.Moments(batches[0].shape[1], precision=precision, device=device.name)
    for batch in batches:
        moments.update(device.array(batch))
    assert moments.device == device.name
    return moments


def stats_of(device, *batches):
    return moments_of(device, *batches).stats()


def assert_near(stats, expected, tolerance=1e-12):
    """The same number of samples, and entries within `tolerance` relative to the deviations of their units."""
    assert stats.num_samples == expected.num_samples
    deviations = np.sqrt(np.diag(expected.sigma))
    assert np.all(np.abs(stats.sigma - expected.sigma) <= tolerance * np.outer(deviations, deviations))
    np.testing.assert_allclose(stats.mu, expected.mu, rtol=tolerance, atol=tolerance * deviations.max())


def rows_of(rng, n, dim, mean=1.0):
    return rng.standard_normal((n, dim)) * np.geomspace(1, 1e-2, dim) + mean


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_moments_of_every_dtype(rng, gpu, dim, dtype):
    """Fewer rows than units, and several blocks of 1,024."""
    for n, cuts in ((dim // 2, [1, 3]), (1500 + dim, [3, dim, 1300])):
        batches = np.split(rows_of(rng, n, dim).astype(dtype), cuts)
        assert_near(stats_of(gpu, *batches), stats_of(HOST, *batches))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32], ids=lambda dtype: np.dtype(dtype).name)
def test_precision_float32(rng, gpu, dim, dtype):
    """On a GPU that is slow in float64, 16-bit rows are multiplied on tensor cores."""
    rows = rows_of(rng, 3000 if dim > 100 else 1100, dim, mean=0.05).astype(dtype)
    found = moments_of(gpu, *np.array_split(rows, 4), precision="float32").stats()
    # The error of a float32 sum of 64 products is at most 64 times 2^-24 times the sum of their magnitudes, which is 17
    # times the product of the deviations if the origin is four deviations away.
    assert_near(found, stats_of(HOST, rows), 17 * 64 * 2.0**-24)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts(rng, gpu, layout):
    dim = gpu.dims[1]
    rows = rows_of(rng, dim + 50, dim).astype(np.float32)
    moments = fidfast.Moments(dim, precision="float64", device=gpu.name)
    moments.update(gpu.array(rows, layout))
    assert_near(moments.stats(), stats_of(HOST, rows))


def test_merge_and_unmerge(rng, gpu, dim):
    rows = rows_of(rng, 2 * dim + 1100, dim)
    moments, part = moments_of(gpu, rows[:dim]), moments_of(gpu, rows[dim:])
    moments.merge(part)
    assert_near(moments.stats(), stats_of(HOST, rows))
    moments.unmerge(part)
    assert_near(moments.stats(), stats_of(HOST, rows[:dim]), 1e-10)


def test_the_problems_of_the_report(gpu, dim):
    """All problems of ``python -m fidfast.cuda``."""
    from fidfast import _core, _cuda

    for name, solve in problems(dim):
        expected = solve(_core, 0)
        difference = np.abs(solve(_cuda, gpu.number) - expected).max()
        assert difference <= TOLERANCE * np.abs(expected).max(), name


def pairs(rng, dim):
    """Names and pairs of features that together reach every code path of the distance."""
    full, other = rows_of(rng, 3 * dim, dim), 1.2 * rows_of(rng, 2 * dim + 1, dim)
    constant = full.copy()
    constant[:, :: max(dim // 5, 2)] = 1.5
    equal = full.copy()
    equal[:, 1] = equal[:, 0]
    yield "both of full rank", full, other
    yield "few rows, full rank", full[: dim // 2], other
    yield "full rank, few rows", full, other[: dim // 2]
    yield "both of few rows", full[: dim // 2], other[: dim // 3 + 2]
    yield "constant units", constant, other
    yield "constant units, few rows", constant[: dim // 2], other
    yield "equal units", equal, other
    yield "equal samples", full, full


def test_every_code_path_of_the_distance(rng, gpu, dim):
    for name, rows1, rows2 in pairs(rng, dim):
        terms = fidfast.frechet_terms(stats_of(gpu, rows1), stats_of(gpu, rows2))
        expected = fidfast.frechet_terms(stats_of(HOST, rows1), stats_of(HOST, rows2))
        size = expected.mean_term + expected.trace_samples + expected.trace_reference
        assert terms.rank == expected.rank, name
        # `rounding` bounds the rounding errors of each distance.
        assert abs(terms.distance - expected.distance) <= terms.rounding + expected.rounding + 1e-12 * size, name


def test_statistics_from_arrays(rng, gpu, dim):
    """Singular, with and without the number of samples, and indefinite by rounding."""
    few = rows_of(rng, dim // 2 + 1, dim)
    sigma = np.cov(few, rowvar=False)
    on_gpu = stats_of(gpu, rows_of(rng, 2 * dim, dim))
    on_host = GaussianStats(on_gpu.mu, on_gpu.sigma, num_samples=on_gpu.num_samples)
    rounded = sigma.astype(np.float32).astype(np.float64)
    for covariance, num_samples in ((sigma, len(few)), (sigma, None), (rounded, None)):
        stats = GaussianStats(np.zeros(dim), covariance, num_samples=num_samples)
        found, expected = fidfast.frechet_terms(stats, on_gpu), fidfast.frechet_terms(stats, on_host)
        assert abs(found.distance - expected.distance) <= found.rounding + expected.rounding


def test_transport_map(rng, gpu, dim):
    rows1, rows2 = rows_of(rng, 4 * dim, dim, 0), rows_of(rng, 3 * dim, dim, 0)
    found = fidfast.transport_map(stats_of(gpu, rows2), stats_of(gpu, rows1))
    sigma1, sigma2 = (np.cov(rows, rowvar=False) for rows in (rows1, rows2))
    # T S2 T = S1, where S1 is at most 1 and T at most the root of its condition.
    np.testing.assert_allclose(found @ sigma2 @ found, sigma1, rtol=0, atol=1e-10)


def test_estimate(rng, gpu, dim):
    rows1, rows2 = (rows_of(rng, 5 * dim, dim, mean).astype(np.float32) for mean in (0.0, 0.1))
    found = fidfast.estimate(gpu.array(rows1), gpu.array(rows2))
    expected = fidfast.estimate(rows1, rows2)
    # The CPU multiplies float32 rows in float32 from dim 512 on: an error of 3e-5 / dim of the distance.
    tolerance = 1e-5 if dim >= 512 else 1e-9
    for name in ("value", "stderr", "bias"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=tolerance, err_msg=name)


def test_fid_of_arrays_on_the_gpu(rng, gpu):
    rows1, rows2 = rng.standard_normal((100, 8)), rng.standard_normal((90, 8)) + 0.5
    array1, array2 = gpu.array(rows1), gpu.array(rows2)
    found = fidfast.fid(array1, array2, precision="float64")
    assert abs(found - fidfast.fid(rows1, rows2, precision="float64")) <= 1e-12 * found
    assert abs(fidfast.fid(array1, rows2, precision="float64") - found) <= 1e-12 * found


@pytest.mark.parametrize("bad", [0, 2, 4], ids=["first", "middle", "last"])
def test_a_batch_with_nan_and_later_batches_are_left_out(rng, gpu, bad):
    dim = gpu.dims[0]
    batches = [rng.standard_normal((40, dim)) for _ in range(5)]
    nonfinite = batches[bad].copy()
    nonfinite[[11, 30], [3, 0]] = np.nan, np.inf
    moments = fidfast.Moments(dim, device=gpu.name)

    def update_with_all():
        for batch in [*batches[:bad], nonfinite, *batches[bad + 1 :]]:
            moments.update(gpu.array(batch))
        moments.stats()

    # Raised by the first call that finds the bad batch.
    with pytest.raises(ValueError, match=r"NaN or infinity; the first such row is 11\b"):
        update_with_all()
    assert moments.num_samples == 40 * bad
    for batch in batches[bad:]:
        moments.update(gpu.array(batch))
    assert_near(moments.stats(), stats_of(HOST, *batches))


def test_the_tests_of_all_devices_pass_on_the_gpu(request, gpu):
    """They run in another process, with their own fixtures."""
    if request.config.getoption("--standin", False):
        pytest.skip("tests/cuda runs them on the stand-in")
    folder = Path(__file__).parents[1] / "cuda"
    files = [str(folder / name) for name in ("test_moments.py", "test_distances.py")]
    command = [sys.executable, "-m", "pytest", "-q", "--all", "--real-gpu", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parents[1])
    assert done.returncode == 0, done.stdout[-5000:]
    assert "passed" in done.stdout
