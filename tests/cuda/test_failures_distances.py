"""Each CUDA call fails in turn: Gaussians, distances, jackknife, and the initialisation of a device."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from device_arrays import DeviceArray

from fidfast import _core

MU = np.array([0.5, -1.0])
FULL = np.array([[2.0, 0.5], [0.5, 1.0]])
SINGULAR = np.array([[4.0, 2.0], [2.0, 1.0]])
#: Its smallest eigenvalue is -1e-8, zero up to rounding in float32.
INDEFINITE = np.array([[1.0, 1.0 + 1e-8], [1.0 + 1e-8, 1.0]])
COLUMNS = np.array([[0.3, 1.0]])  # one column of the factor; columns are rows of the array


def near(found, expected):
    """Equal within the square root of the rounding of a singular covariance."""
    return np.allclose(found, expected, rtol=1e-7, atol=1e-7)


def test_creating_a_gaussian(fail_each_call, extension):
    """The factorisation tries Cholesky, then Cholesky with pivots, then eigenvectors."""
    expected = _core.Gaussian(MU, INDEFINITE, 0)
    names = fail_each_call(
        tuple,
        lambda: extension.Gaussian(MU, INDEFINITE, 0),
        lambda gaussian: near(gaussian.mu, expected.mu) and near(gaussian.sigma, INDEFINITE),
    )
    assert {"cusolverDnXpotrf", "cublasDtrsm_v2", "cusolverDnXsyevd"} <= set(names)
    assert sum("choose_pivot" in name for name in names) == 2


READERS = {
    "mu": lambda gaussian: gaussian.mu,
    "sigma": lambda gaussian: gaussian.sigma,
    "columns": lambda gaussian: gaussian.columns,
    "covariance of the factor": lambda gaussian: gaussian.factor.T @ gaussian.factor,
}


@pytest.mark.parametrize("reader", READERS)
def test_reading_a_gaussian_of_columns(fail_each_call, extension, reader):
    """Missing properties are computed on first access and cached."""
    expected = READERS[reader](_core.Gaussian.from_columns(MU, COLUMNS, 2))
    fail_each_call(
        lambda: (extension.Gaussian.from_columns(MU, COLUMNS, 2),),
        READERS[reader],
        lambda found, _: near(found, expected),
        lambda gaussian: gaussian.num_samples == 2,
    )


PAIRS = {
    "both full": [(2 * MU, FULL), (MU, 2 * FULL[::-1, ::-1])],
    "one of few rows": [(2 * MU, COLUMNS), (MU, FULL)],
    "both of few rows": [(2 * MU, COLUMNS), (MU, COLUMNS[:, ::-1])],
    "one singular": [(2 * MU, SINGULAR), (MU, FULL)],
    "both singular": [(2 * MU, SINGULAR), (MU, SINGULAR[::-1, ::-1])],
    "small singular values": [(2 * MU, np.diag([1.0, 1e-12])), (MU, np.diag([1, 1e-9]))],
}


def gaussian_of(module, mu, matrix):
    """With its factor, whose calls `test_creating_a_gaussian` covers."""
    gaussian = module.Gaussian(mu, matrix, 0) if len(matrix) == 2 else module.Gaussian.from_columns(mu, matrix, 2)
    gaussian.factor  # noqa: B018
    return gaussian


@pytest.mark.grid(keep=5)
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("function", ["frechet_distance", "frechet_terms", "transport_map"])
def test_distances(fail_each_call, extension, function, name):
    def solve(module, one, other):
        found = getattr(module, function)(one, other)
        return [found.distance, found.trace_root, found.rank] if function == "frechet_terms" else found

    on_gpu, on_cpu = ([gaussian_of(module, *side) for side in PAIRS[name]] for module in (extension, _core))
    expected = solve(_core, *on_cpu)
    solve(extension, *on_gpu)  # computes and caches sigma of columns
    fail_each_call(tuple, lambda: solve(extension, *on_gpu), lambda found: near(found, expected))


def test_jackknife(rng, fail_each_call, extension):
    rows = rng.standard_normal((5, 2))
    features = DeviceArray(rows)

    def jackknife_of(module, one, other):
        return module.Jackknife(one, other, True, False, "float64", True)

    on_gpu, on_cpu = (
        [module.Gaussian(rows.mean(0), np.cov(rows.T), 5), gaussian_of(module, MU, FULL)]
        for module in (extension, _core)
    )
    expected = jackknife_of(_core, *on_cpu)
    fail_each_call(
        tuple, lambda: jackknife_of(extension, *on_gpu), lambda found: near(found.corrected, expected.corrected)
    )
    without = expected.without(False, rows)
    fail_each_call(
        lambda: (jackknife_of(extension, *on_gpu),),
        lambda jackknife: np.array(jackknife.without(False, features)),
        lambda found, _: near(found, without),
        lambda jackknife: near(jackknife.corrected, expected.corrected),
    )


def test_require_finite(rng, fail_each_call, extension):
    features = DeviceArray(rng.standard_normal((5, 3)))
    fail_each_call(tuple, lambda: extension.require_finite(features), lambda shape: tuple(shape) == (5, 3))


@pytest.mark.parametrize("form", ["covariances", "columns"])
def test_a_decomposition_that_does_not_converge(cuda, extension, form):
    """The routine reports it in `info` only, and its output is undefined."""
    sides = [gaussian_of(extension, MU, FULL), gaussian_of(extension, MU + 1, 2 * FULL)]
    if form == "columns":
        sides = [extension.Gaussian.from_columns(mu, COLUMNS, 2) for mu in (MU, MU + 1)]
    expected = extension.frechet_distance(*sides)  # caches the factors
    cuda.set_solver_info(3)
    with pytest.raises(RuntimeError, match=r"^cusolverDnX(syevd|gesvd) did not converge: info = 3$"):
        extension.frechet_distance(*sides)
    assert extension.frechet_distance(*sides) == expected


def test_describe_and_versions(extension, fail_each_call):
    expected = extension.describe(0)
    fail_each_call(tuple, lambda: extension.describe(0), lambda found: found == expected)
    versions = extension.versions()
    fail_each_call(tuple, extension.versions, lambda found: found == versions)


FIRST_USE = """
import json
import standin
cuda = standin.load()
from fidfast import _cuda
cuda.load_kernels(_cuda.__file__)
outcomes = []
for device in (0, 1):  # the thread's current device, and another
    count, failed = 0, True
    while failed:
        count += 1
        before = cuda.live()
        cuda.current_device = 0
        cuda.clear_calls()
        error = made = None
        with cuda.failing(count) as happened:
            try:
                made = _cuda.Moments(3, "float64", device)
            except (RuntimeError, MemoryError) as caught:
                error = str(caught)
            failed = happened()
        del made
        name = cuda.calls()[count - 1].name if failed else "none"
        outcomes.append((device, name, error, cuda.live() == before, cuda.current_device))
print(json.dumps([outcomes, cuda.reasons(), cuda.live()]))
"""


def test_the_first_use_of_a_device():
    """Streams, events and handles of a device are created at its first use, all or none; the next use tries again."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_USE], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    assert done.returncode == 0, done.stderr
    outcomes, reasons, live = json.loads(done.stdout)
    assert reasons == []
    for device in (0, 1):
        names = [name for number, name, *_ in outcomes if number == device]
        assert {"cudaStreamCreateWithFlags", "cudaEventCreateWithFlags", "cublasCreate_v2", "cusolverDnCreate"} <= set(
            names
        )
    opened = set()
    for device, name, error, nothing_left, current in outcomes:
        if (name, error) == ("cudaSetDevice", None):
            continue  # restores the thread's device at the end, where no error can be raised
        assert current == 0, (device, name)
        assert (error is None) == (name in ("none", "cudaFree", "cudaFreeHost")), (device, name, error)
        # Streams and handles exist before the first allocation, and stay.
        assert nothing_left == (name != "cudaMalloc" or device in opened), (device, name)
        if name == "cudaMalloc":
            opened.add(device)
    each = {"stream": 2, "event": 4, "cublas handle": 2, "cusolver handle": 2, "cusolver params": 2}
    assert live == {"allocation": 0, "pinned allocation": 0, **each}
