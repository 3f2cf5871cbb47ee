"""A failure of every single call of Gaussians, distances and error bars, and of the first session of a process."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from device_arrays import DeviceArray
from faults import fail_each_call

from fidfast import _core

MU = np.array([0.5, -1.0])
FULL = np.array([[2.0, 0.5], [0.5, 1.0]])
SINGULAR = np.array([[4.0, 2.0], [2.0, 1.0]])
#: An eigenvalue of -1e-8: float32 could not tell it from zero.
INDEFINITE = np.array([[1.0, 1.0 + 1e-8], [1.0 + 1e-8, 1.0]])
COLUMNS = np.array([[0.3, 1.0]])  # one, as rows of the array


def near(numbers, expected):
    """To the root of what the entries of a singular covariance are rounded by."""
    return np.allclose(numbers, expected, rtol=1e-7, atol=1e-7)


def test_making_a_gaussian(cuda, extension):
    """Its factor by Cholesky, then with pivots, then by eigenvectors."""
    expected = _core.Gaussian(MU, INDEFINITE, 0)
    names = fail_each_call(
        cuda,
        tuple,
        lambda: extension.Gaussian(MU, INDEFINITE, 0),
        lambda made: near(made.mu, expected.mu) and near(made.sigma, INDEFINITE),
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
def test_reading_a_gaussian_of_columns(cuda, extension, reader):
    """What is not known yet is worked out, and kept."""
    expected = READERS[reader](_core.Gaussian.from_columns(MU, COLUMNS, 2))
    fail_each_call(
        cuda,
        lambda: (extension.Gaussian.from_columns(MU, COLUMNS, 2),),
        READERS[reader],
        lambda answer, _: near(answer, expected),
        lambda gaussian: gaussian.num_samples == 2,
    )


PAIRS = {
    "both full": [(2 * MU, FULL), (MU, 2 * FULL[::-1, ::-1])],
    "one of few rows": [(2 * MU, COLUMNS), (MU, FULL)],
    "both of few rows": [(2 * MU, COLUMNS), (MU, COLUMNS[:, ::-1])],
    "one singular": [(2 * MU, SINGULAR), (MU, FULL)],
    "both singular": [(2 * MU, SINGULAR), (MU, SINGULAR[::-1, ::-1])],
    "roots that eigenvalues would lose": [(2 * MU, np.diag([1.0, 1e-12])), (MU, np.diag([1, 1e-9]))],
}


def gaussian_of(module, mu, matrix):
    """With its factor, which the test above lets fail."""
    made = module.Gaussian(mu, matrix, 0) if len(matrix) == 2 else module.Gaussian.from_columns(mu, matrix, 2)
    made.factor  # noqa: B018
    return made


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("function", ["frechet_distance", "frechet_terms", "transport_map"])
def test_distances(cuda, extension, function, name):
    def answer_of(module, one, other):
        found = getattr(module, function)(one, other)
        return [found.distance, found.trace_root, found.rank] if function == "frechet_terms" else found

    there, here = ([gaussian_of(module, *side) for side in PAIRS[name]] for module in (extension, _core))
    expected = answer_of(_core, *here)
    answer_of(extension, *there)  # columns have had no sigma yet
    fail_each_call(cuda, tuple, lambda: answer_of(extension, *there), lambda answer: near(answer, expected))


def test_jackknife(rng, cuda, extension):
    rows = rng.standard_normal((5, 2))
    features = DeviceArray(rows)

    def made(module, one, other):
        return module.Jackknife(one, other, True, False, "float64", True)

    there, here = (
        [module.Gaussian(rows.mean(0), np.cov(rows.T), 5), gaussian_of(module, MU, FULL)]
        for module in (extension, _core)
    )
    expected = made(_core, *here)
    fail_each_call(
        cuda, tuple, lambda: made(extension, *there), lambda found: near(found.corrected, expected.corrected)
    )
    without = expected.without(False, rows)
    fail_each_call(
        cuda,
        lambda: (made(extension, *there),),
        lambda jackknife: np.array(jackknife.without(False, features)),
        lambda answer, _: near(answer, without),
        lambda jackknife: near(jackknife.corrected, expected.corrected),
    )


def test_require_finite(rng, cuda, extension):
    features = DeviceArray(rng.standard_normal((5, 3)))
    fail_each_call(cuda, tuple, lambda: extension.require_finite(features), lambda shape: tuple(shape) == (5, 3))


@pytest.mark.parametrize("routine", ["cusolverDnXsyevd", "cusolverDnXgesvd"])
def test_a_decomposition_that_does_not_converge(cuda, extension, routine):
    """It says so in its `info` alone, and what it leaves behind are no numbers."""
    sides = [gaussian_of(extension, MU, FULL), gaussian_of(extension, MU + 1, 2 * FULL)]
    if routine == "cusolverDnXgesvd":
        sides = [extension.Gaussian.from_columns(mu, COLUMNS, 2) for mu in (MU, MU + 1)]
    expected = extension.frechet_distance(*sides)  # and the factors are known
    cuda.set_solver_info(3)
    with pytest.raises(RuntimeError, match=f"^{routine} did not converge: info = 3$"):
        extension.frechet_distance(*sides)
    assert extension.frechet_distance(*sides) == expected


def test_a_description(cuda, extension):
    expected = extension.describe(0)
    fail_each_call(cuda, tuple, lambda: extension.describe(0), lambda found: found == expected)
    versions = extension.versions()
    fail_each_call(cuda, tuple, extension.versions, lambda found: found == versions)


FIRST_SESSION = """
import json
import standin
cuda = standin.load()
from fidfast import _cuda
cuda.load_kernels(_cuda.__file__)
outcomes = []
for device in (0, 1):  # that of the thread, and another
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


def test_the_first_session_of_a_process():
    """What a device needs is made at its first use: all of it, or nothing; and the next use tries again."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_SESSION], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
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
            continue  # at the very end, back to the thread's device: there is nobody to tell
        assert current == 0, (device, name)
        assert (error is None) == (name in ("none", "cudaFree", "cudaFreeHost")), (device, name, error)
        # What the device needs is there by the first allocation, and stays.
        assert nothing_left == (name != "cudaMalloc" or device in opened), (device, name)
        if name == "cudaMalloc":
            opened.add(device)
    each = {"stream": 2, "event": 4, "cublas handle": 2, "cusolver handle": 2, "cusolver params": 2}
    assert live == {"allocation": 0, "pinned allocation": 0, **each}
