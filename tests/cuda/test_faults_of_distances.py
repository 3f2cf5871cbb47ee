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


def matrix(sigma, num_samples=0):
    return lambda module: module.Gaussian(MU * sigma[0, 0], sigma, num_samples)


def columns(rows, num_samples=2):
    return lambda module: module.Gaussian.from_columns(MU * 2, rows, num_samples)


def factored(made):
    """The same with its factor kept, which then costs a distance no calls."""

    def make(module):
        gaussian = made(module)
        gaussian.factor  # noqa: B018
        return gaussian

    return make


GAUSSIANS = {
    "full rank": matrix(FULL),
    "singular": matrix(SINGULAR),
    "singular, of two samples": matrix(SINGULAR, 2),
    "indefinite by rounding": matrix(INDEFINITE),
    "columns": columns(COLUMNS),
}


@pytest.mark.parametrize("name", GAUSSIANS)
def test_gaussians_and_their_factors(cuda, extension, name):
    expected = GAUSSIANS[name](_core)

    def work():
        made = GAUSSIANS[name](extension)
        return made.mu, made.sigma, made.factor @ made.factor.T if made.factor.ndim == 1 else made.factor

    def right(answer):
        mu, sigma, factor = answer
        same = near(mu, expected.mu) and near(sigma, expected.sigma)
        return same and near(factor.T @ factor, expected.sigma)

    fail_each_call(cuda, tuple, work, right)


PAIRS = {
    "both full": (matrix(FULL), matrix(2 * FULL.T[::-1, ::-1])),
    "one of few rows": (columns(COLUMNS), factored(matrix(FULL))),
    "both of few rows": (columns(COLUMNS), columns(COLUMNS[:, ::-1])),
    "one singular": (factored(matrix(SINGULAR)), factored(matrix(FULL))),
    "roots that eigenvalues would lose": (factored(matrix(np.diag([1.0, 1e-12]))), factored(matrix(np.diag([1, 1e-9])))),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("function", ["frechet_distance", "frechet_terms", "transport_map"])
def test_distances(cuda, extension, function, name):
    def answer_of(module, one, other):
        found = getattr(module, function)(one, other)
        return [found.distance, found.trace_root, found.rank] if function == "frechet_terms" else found

    expected = answer_of(_core, *(make(_core) for make in PAIRS[name]))
    fail_each_call(
        cuda,
        lambda: tuple(make(extension) for make in PAIRS[name]),
        lambda one, other: answer_of(extension, one, other),
        lambda answer, *_: near(answer, expected),
    )


def test_jackknife(rng, cuda, extension):
    rows, partner = rng.standard_normal((5, 2)), matrix(FULL)
    features = DeviceArray(rows)

    def sample(module):
        moments = module.Moments(2, "float64")
        moments.update(rows)
        return moments.stats(1)

    def made(module, one, other):
        return module.Jackknife(one, other, True, False, "float64", True)

    there, here = ([factored(sample)(module), factored(partner)(module)] for module in (extension, _core))
    expected = made(_core, *here)
    fail_each_call(
        cuda, tuple, lambda: made(extension, *there), lambda jackknife: near(jackknife.corrected, expected.corrected)
    )
    jackknife = made(extension, *there)
    without = expected.without(False, rows)
    fail_each_call(
        cuda, tuple, lambda: jackknife.without(False, features), lambda answer: near(np.array(answer), without)
    )


def test_require_finite(rng, cuda, extension):
    features = DeviceArray(rng.standard_normal((5, 3)))
    fail_each_call(
        cuda, tuple, lambda: extension.require_finite(features), lambda shape: tuple(shape) == (5, 3)
    )


def test_a_description(cuda, extension):
    expected = extension.describe(0)
    fail_each_call(cuda, tuple, lambda: extension.describe(0), lambda found: found == expected)


FIRST_SESSION = """
import json, sys
import standin
cuda = standin.load()
from fidfast import _cuda
cuda.load_kernels(_cuda.__file__)
seen = []
while True:
    for device in (0, 1):  # the device that is the thread's, and another
        before = cuda.live(), cuda.current_device
        cuda.clear_calls()
        with cuda.failing(len(seen) + 1) as happened:
            try:
                _cuda.Moments(3, "float64", device)
                error = None
            except (RuntimeError, MemoryError) as caught:
                error = str(caught)
            failed = happened()
        if failed and device == 0 and len(seen) < 60:
            pass
        if not failed:
            break
        names = [call.name for call in cuda.calls()]
        seen.append((device, names[len(seen)], error, cuda.live() == before[0], cuda.current_device == before[1]))
    if not failed:
        break
print(json.dumps([seen, cuda.reasons(), cuda.live()]))
"""
