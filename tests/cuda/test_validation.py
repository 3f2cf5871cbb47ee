"""Arguments are checked on a device as on the host, with the same messages."""

import ml_dtypes
import numpy as np
import pytest
from device_arrays import DeviceArray

from fidfast import _core

DIM = 5


def error_of(module, *arguments):
    with pytest.raises(ValueError) as caught:
        module.Gaussian(*arguments, 0)
    return str(caught.value)


@pytest.fixture
def sigma(rng):
    root = rng.standard_normal((DIM, DIM))
    return root @ root.T


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize("i", range(DIM))
def test_the_largest_asymmetry_is_named(extension, sigma, i):
    for j in range(DIM):
        if i == j:
            continue
        wrong = sigma.copy()
        wrong[i, j] += 0.25
        wrong[0, DIM - 1] += 0.125
        message = error_of(extension, np.zeros(DIM), wrong, 40)
        assert message == error_of(_core, np.zeros(DIM), wrong, 40)
        assert f"sigma[{max(i, j)}, {min(i, j)}]" in message


def test_asymmetry_by_rounding_is_averaged(extension, sigma, rng):
    rounded = sigma * (1 + 1e-14 * rng.standard_normal((DIM, DIM)))
    on_device, on_host = (module.Gaussian(np.zeros(DIM), rounded, 40, 0).sigma for module in (extension, _core))
    assert np.array_equal(on_device, on_host)
    assert np.array_equal(on_device, on_device.T)


def test_asymmetry_is_relative_to_the_largest_entry(extension):
    sigma = np.diag(np.arange(1.0, DIM + 1))
    sigma[3, 1] = 1e-18
    on_device, on_host = (module.Gaussian(np.zeros(DIM), sigma, 40, 0).sigma for module in (extension, _core))
    assert np.array_equal(on_device, on_host)
    sigma[3, 1] = 1e-3
    assert error_of(extension, np.zeros(DIM), sigma, 40) == error_of(_core, np.zeros(DIM), sigma, 40)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_statistics(extension, sigma, value):
    for index in ((0, 0), (DIM - 1, DIM - 1), (3, 1)):
        wrong = sigma.copy()
        wrong[index] = wrong[index[::-1]] = value
        assert error_of(extension, np.zeros(DIM), wrong, 40) == error_of(_core, np.zeros(DIM), wrong, 40)
    mu = np.zeros(DIM)
    mu[3] = value
    assert error_of(extension, mu, sigma, 40) == error_of(_core, mu, sigma, 40)


def test_indefinite_matrices(extension, sigma):
    for wrong in (sigma - 0.5 * np.trace(sigma) * np.eye(DIM), -np.eye(DIM), np.diag([1.0, 2, -3, 4, 5])):
        message = error_of(extension, np.zeros(DIM), wrong, 40)
        assert message == error_of(_core, np.zeros(DIM), wrong, 40)
        assert "not positive semidefinite" in message


@pytest.mark.grid(keep=4)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_nonfinite_row_is_named(extension, rng, dtype, value):
    """With more rows than one thread block checks."""
    rows = rng.standard_normal((300, 3)).astype(dtype)
    rows[[290, 299], [1, 0]] = value
    with pytest.raises(ValueError, match=r"the first such row is 290$"):
        extension.require_finite(DeviceArray(rows), 0)
    assert extension.require_finite(DeviceArray(rows[:290]), 0) == (290, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_nonfinite_row_of_an_update_is_named(extension, rng, value):
    rows = rng.standard_normal((600, 3))
    rows[[513, 514, 599], [2, 0, 1]] = value
    moments = extension.Moments(3, "float64", 0)
    moments.update(DeviceArray(rows))
    with pytest.raises(ValueError, match=r"the first such row is 513$"):
        moments.stats(ddof=1)


def test_memory_layouts_of_rows_on_the_host(extension, rng):
    rows = rng.standard_normal((6, 2 * DIM))
    for view in (rows[:, ::2], np.asfortranarray(rows[:, :DIM]), rows[::2, DIM:], rows[:, DIM - 1 :: -1]):
        states = [module.Moments(DIM, "float64", 0) for module in (extension, _core)]
        for moments in states:
            moments.update(view)
        assert np.array_equal(*(moments.state()["wide_rows"] for moments in states))


def test_arrays_of_a_gaussian_are_read_only(extension, sigma):
    gaussian = extension.Gaussian(np.zeros(DIM), sigma, 40, 0)
    for array in (gaussian.mu, gaussian.sigma):
        assert not array.flags.writeable


def test_features_on_another_device(extension, rng):
    moments = extension.Moments(DIM, "float64", 1)
    with pytest.raises(ValueError, match="features are on CUDA device 0, but the work is on device 1"):
        moments.update(DeviceArray(rng.standard_normal((3, DIM)), device=0))


def test_versions(extension):
    versions = extension.versions()
    assert "libcublas" in versions["cublas_path"]
    assert "libcusolver" in versions["cusolver_path"]
    major, minor, patch = map(int, versions["cublas"].split("."))
    assert major >= 12
    assert max(minor, patch) < 100
    assert 11000 <= versions["cusolver"] < 20000
