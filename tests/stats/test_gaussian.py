"""GaussianStats as a value: what it holds, how it compares, copies and travels."""

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


def test_it_holds_what_it_was_given(stats):
    assert (stats.dim, stats.num_samples, stats.extractor, stats.ddof) == (2, 10, "inception", None)
    np.testing.assert_array_equal(stats.mu, [1, 2])
    np.testing.assert_array_equal(stats.sigma, [[2, 0.5], [0.5, 1]])
    assert stats.mu.dtype == stats.sigma.dtype == np.float64
    assert repr(stats) == "GaussianStats(dim=2, num_samples=10, extractor='inception')"


def test_it_cannot_be_changed_from_outside(stats):
    sigma = np.eye(2)
    mine = GaussianStats(np.zeros(2), sigma)
    sigma[0, 0] = 7
    assert mine.sigma[0, 0] == 1
    for array in (stats.mu, stats.sigma):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(AttributeError):
        stats.num_samples = 3


def test_its_arrays_outlive_it(rng):
    sigma = GaussianStats(np.zeros(50), np.eye(50)).sigma
    np.testing.assert_array_equal(sigma, np.eye(50))


@pytest.mark.parametrize("convert", [list, np.float32, torch.tensor, torch.FloatTensor, np.asfortranarray])
def test_mu_and_sigma_may_be_lists_arrays_or_tensors(convert):
    mu, sigma = [0.0, 1.0], [[2.0, 0.5], [0.5, 1.0]]
    made = GaussianStats(convert(mu), convert(sigma))
    assert made == GaussianStats(mu, sigma)


def test_asymmetry_of_rounding_is_averaged():
    sigma = np.array([[1.0, 0.5], [0.5 + 2e-7, 1.0]])
    made = GaussianStats([0, 0], sigma).sigma
    assert made[0, 1] == made[1, 0] == pytest.approx(0.5 + 1e-7, rel=1e-12)


@pytest.mark.parametrize("n", [3, 50])
def test_copies_and_pickles_are_equal_to_the_last_digit(rng, stats, n):
    few = fidfast.Moments(8, extractor="tower")
    few.update(rng.standard_normal((n, 8)))
    for original in (stats, few.stats(ddof=0)):
        for other in (copy.copy(original), copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
            assert other == original
            assert (other.ddof, other.extractor) == (original.ddof, original.extractor)
    partner = rng.standard_normal((40, 8))
    moved = pickle.loads(pickle.dumps(few.stats()))
    assert fidfast.fid(moved, partner) == fidfast.fid(few, partner)


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
