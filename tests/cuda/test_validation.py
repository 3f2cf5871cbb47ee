"""What the host rejects a device rejects in the same words; and what it is given it keeps as the host does."""

import ml_dtypes
import numpy as np
import pytest
from device_arrays import DeviceArray

from fidfast import _core

DIM = 5


def complaint_of(module, *arguments):
    with pytest.raises(ValueError) as caught:
        module.Gaussian(*arguments, 0)
    return str(caught.value)


@pytest.fixture
def sigma(rng):
    root = rng.standard_normal((DIM, DIM))
    return root @ root.T


@pytest.mark.parametrize("i", range(DIM))
def test_the_place_of_an_asymmetry(extension, sigma, i):
    """Wherever it stands, beside the diagonal too; of several the largest."""
    for j in range(DIM):
        if i == j:
            continue
        wrong = sigma.copy()
        wrong[i, j] += 0.25
        wrong[0, DIM - 1] += 0.125
        said = complaint_of(extension, np.zeros(DIM), wrong, 40)
        assert said == complaint_of(_core, np.zeros(DIM), wrong, 40)
        assert f"sigma[{max(i, j)}, {min(i, j)}]" in said


def test_an_asymmetry_of_rounding_is_halved(extension, sigma, rng):
    rounded = sigma * (1 + 1e-14 * rng.standard_normal((DIM, DIM)))
    there, here = (module.Gaussian(np.zeros(DIM), rounded, 40, 0).sigma for module in (extension, _core))
    assert np.array_equal(there, here)
    assert np.array_equal(there, there.T)


def test_an_asymmetry_is_measured_by_the_largest_number_which_may_be_on_the_diagonal(extension):
    sigma = np.diag(np.arange(1.0, DIM + 1))
    sigma[3, 1] = 1e-18
    there, here = (module.Gaussian(np.zeros(DIM), sigma, 40, 0).sigma for module in (extension, _core))
    assert np.array_equal(there, here)
    sigma[3, 1] = 1e-3
    assert complaint_of(extension, np.zeros(DIM), sigma, 40) == complaint_of(_core, np.zeros(DIM), sigma, 40)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(extension, sigma, value):
    for place in ((0, 0), (DIM - 1, DIM - 1), (3, 1)):
        wrong = sigma.copy()
        wrong[place] = wrong[place[::-1]] = value
        assert complaint_of(extension, np.zeros(DIM), wrong, 40) == complaint_of(_core, np.zeros(DIM), wrong, 40)
    mu = np.zeros(DIM)
    mu[3] = value
    assert complaint_of(extension, mu, sigma, 40) == complaint_of(_core, mu, sigma, 40)


def test_what_is_no_covariance(extension, sigma):
    """A negative eigenvalue, and a diagonal that is zero beside numbers that are not."""
    for wrong in (sigma - 0.5 * np.trace(sigma) * np.eye(DIM), -np.eye(DIM), np.diag([1.0, 2, -3, 4, 5])):
        said = complaint_of(extension, np.zeros(DIM), wrong, 40)
        assert said == complaint_of(_core, np.zeros(DIM), wrong, 40)
        assert "not positive semidefinite" in said


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_row_that_is_not_finite(extension, rng, dtype, value):
    """Far down, in any column; and with more rows than one of their counters sees."""
    rows = rng.standard_normal((300, 3)).astype(dtype)
    rows[[290, 299], [1, 0]] = value
    with pytest.raises(ValueError, match=r"the first such row is 290$"):
        extension.require_finite(DeviceArray(rows), 0)
    assert extension.require_finite(DeviceArray(rows[:290]), 0) == (290, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_stream_finds_them_too(extension, rng, value):
    rows = rng.standard_normal((600, 3))
    rows[[513, 514, 599], [2, 0, 1]] = value
    moments = extension.Moments(3, "float64", 0)
    moments.update(DeviceArray(rows))
    with pytest.raises(ValueError, match=r"the first such row is 513$"):
        moments.stats(1)


def test_rows_of_the_host_may_lie_in_any_way(extension, rng):
    """They are copied there as they are read here."""
    rows = rng.standard_normal((6, 2 * DIM))
    for view in (rows[:, ::2], np.asfortranarray(rows[:, :DIM]), rows[::2, DIM:], rows[:, DIM - 1 :: -1]):
        states = [module.Moments(DIM, "float64", 0) for module in (extension, _core)]
        for moments in states:
            moments.update(view)
        assert np.array_equal(*(moments.state()["wide_rows"] for moments in states))


def test_what_is_looked_at_cannot_be_written(extension, sigma):
    made = extension.Gaussian(np.zeros(DIM), sigma, 40, 0)
    for array in (made.mu, made.sigma):
        assert not array.flags.writeable


def test_features_of_another_device(extension, rng):
    moments = extension.Moments(DIM, "float64", 1)
    with pytest.raises(ValueError, match="features are on CUDA device 0, but the work is on device 1"):
        moments.update(DeviceArray(rng.standard_normal((3, DIM)), device=0))


def test_versions_are_those_of_the_libraries(extension):
    known = extension.versions()
    assert "libcublas" in known["cublas_path"]
    assert "libcusolver" in known["cusolver_path"]
    major, minor, patch = map(int, known["cublas"].split("."))
    assert major >= 12
    assert max(minor, patch) < 100
    assert 11000 <= known["cusolver"] < 20000
