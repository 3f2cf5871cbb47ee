"""`GaussianStats`: attributes, immutability, copies, pickles, equality."""

import copy
import pickle

import numpy as np
import pytest
import torch

import fidfast
from fidfast import GaussianStats


@pytest.fixture
def stats():
    return GaussianStats([1.0, 2.0], [[2.0, 0.5], [0.5, 1.0]], num_samples=10, extractor="inception")


def test_attributes(stats):
    assert (stats.dim, stats.num_samples, stats.extractor, stats.ddof) == (2, 10, "inception", None)
    np.testing.assert_array_equal(stats.mu, [1, 2])
    np.testing.assert_array_equal(stats.sigma, [[2, 0.5], [0.5, 1]])
    assert stats.mu.dtype == stats.sigma.dtype == np.float64
    assert repr(stats) == "GaussianStats(dim=2, num_samples=10, extractor='inception')"


def test_immutable(stats):
    sigma = np.eye(2)
    copied = GaussianStats(np.zeros(2), sigma)
    sigma[0, 0] = 7
    assert copied.sigma[0, 0] == 1
    for array in (stats.mu, stats.sigma):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(AttributeError):
        stats.num_samples = 3


def test_arrays_outlive_the_statistics():
    sigma = GaussianStats(np.zeros(50), np.eye(50)).sigma
    np.testing.assert_array_equal(sigma, np.eye(50))


@pytest.mark.parametrize("convert", [list, np.float32, torch.tensor, torch.FloatTensor, np.asfortranarray])
def test_mu_and_sigma_may_be_lists_arrays_or_tensors(convert):
    mu, sigma = [0.0, 1.0], [[2.0, 0.5], [0.5, 1.0]]
    assert GaussianStats(convert(mu), convert(sigma)) == GaussianStats(mu, sigma)


def test_asymmetry_from_rounding_is_averaged():
    sigma = np.array([[1.0, 0.5], [0.5 + 2e-7, 1.0]])
    averaged = GaussianStats([0, 0], sigma).sigma
    assert averaged[0, 1] == averaged[1, 0] == pytest.approx(0.5 + 1e-7, rel=1e-12)


@pytest.mark.parametrize("n", [2, 5, 6, 200])
def test_factor(rng, n):
    stats = fidfast.Moments.from_features(rng.standard_normal((n, 6))).stats()
    assert stats.factor.shape == (6, min(n - 1, 6))
    np.testing.assert_allclose(stats.factor @ stats.factor.T, stats.sigma, rtol=0, atol=1e-14 * np.trace(stats.sigma))


@pytest.mark.parametrize("n", [3, 50])
def test_copies_and_pickles_are_identical(rng, stats, n):
    few = fidfast.Moments(8, extractor="tower")
    few.update(rng.standard_normal((n, 8)))
    for original in (stats, few.stats(ddof=0)):
        for other in (copy.copy(original), copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
            assert other == original
            assert (other.ddof, other.extractor) == (original.ddof, original.extractor)
    partner = rng.standard_normal((40, 8))
    unpickled = pickle.loads(pickle.dumps(few.stats()))
    assert fidfast.fid(unpickled, partner) == fidfast.fid(few, partner)


def test_equality(stats):
    same = {"num_samples": 10, "extractor": "inception"}
    assert stats == GaussianStats(stats.mu, stats.sigma, **same)
    assert stats != GaussianStats(stats.mu + 1, stats.sigma, **same)
    assert stats != GaussianStats(stats.mu, stats.sigma * 2, **same)
    assert stats != GaussianStats(stats.mu, stats.sigma, num_samples=11, extractor="inception")
    assert stats != GaussianStats(stats.mu, stats.sigma, num_samples=10)
    assert stats != "statistics"
    with pytest.raises(TypeError):
        hash(stats)
