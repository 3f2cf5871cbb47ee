"""Covariances that are not positive semidefinite by more than the rounding to float32."""

import pickle
import re

import numpy as np
import pytest
import reference

import fidfast
from fidfast import GaussianStats

N, DIM = 12, 30
ROWS = np.random.default_rng(5).standard_normal((N, DIM)) + 3
PARTNER = np.random.default_rng(6).standard_normal((200, DIM)) + 3


def from_raw_moments(dtype):
    """``E[x x^T] - mu mu^T`` in this precision."""
    rows = ROWS.astype(dtype)
    mu = rows.mean(0, dtype=dtype)
    return mu.astype(float), ((rows.T @ rows) / dtype(N) - np.outer(mu, mu)).astype(float)


def moving_average(dtype):
    """An exponential moving average of covariances, kept in this precision."""
    sigma = np.zeros((DIM, DIM), dtype)
    for _ in range(40):
        sigma = (dtype(0.9) * sigma + dtype(0.1) * np.cov(ROWS, rowvar=False).astype(dtype)).astype(dtype)
    return ROWS.mean(0), sigma.astype(float)


def asymmetric(_dtype):
    mu, sigma = reference.moments(PARTNER)
    return mu, sigma * (1 + 1e-3 * np.triu(np.ones((DIM, DIM)), 1))


MATRICES = {
    "raw moments in float32": lambda: from_raw_moments(np.float32),
    "raw moments in float16": lambda: from_raw_moments(np.float16),
    "moving average in float16": lambda: moving_average(np.float16),
    "asymmetric": lambda: asymmetric(None),
}


def accepted_by(error):
    """The tolerance that the error proposes."""
    return float(re.search(r"negative_tolerance=(\S+) accepts it", str(error)).group(1))


@pytest.mark.parametrize("name", MATRICES)
def test_the_error_names_the_tolerance_that_accepts_the_matrix(name):
    mu, sigma = MATRICES[name]()
    with pytest.raises(ValueError, match=r"is not (positive semidefinite|symmetric)") as caught:
        GaussianStats(mu, sigma)
    tolerance = accepted_by(caught.value)
    GaussianStats(mu, sigma, negative_tolerance=tolerance)
    with pytest.raises(ValueError, match="is not"):
        GaussianStats(mu, sigma, negative_tolerance=0.8 * tolerance)  # it has two digits


@pytest.mark.parametrize("name", [name for name in MATRICES if name != "asymmetric"])
@pytest.mark.parametrize("num_samples", [None, N])
def test_what_was_dropped_is_in_the_result(name, num_samples):
    mu, sigma = MATRICES[name]()
    stats = GaussianStats(mu, sigma, num_samples=num_samples, negative_tolerance=0.5)
    values = np.linalg.eigvalsh((sigma + sigma.T) / 2)
    assert stats.least_eigenvalue == pytest.approx(values[0], rel=1e-6)
    rest = np.linalg.eigvalsh(stats.sigma - stats.factor @ stats.factor.T)
    assert stats.dropped_trace == pytest.approx(np.abs(rest).sum(), rel=1e-6)
    assert stats.dropped_trace >= -np.minimum(values, 0).sum() * (1 - 1e-6)
    for terms, k in ((fidfast.frechet_terms(stats, PARTNER), 0), (fidfast.frechet_terms(PARTNER, stats), 1)):
        assert terms.least_eigenvalues[k] == stats.least_eigenvalue
        assert terms.dropped_traces[k] == stats.dropped_trace
        assert terms.least_eigenvalues[1 - k] == terms.dropped_traces[1 - k] == 0
        assert f"{'samples' if k == 0 else 'reference'}: its covariance is not positive semidefinite" in str(terms)
        assert terms.to_dict()["caution"] == terms.caution
        exact = reference.symmetric_distance(mu, (sigma + sigma.T) / 2, *reference.moments(PARTNER))
        assert abs(terms.distance - exact) <= terms.rounding


def test_few_eigenvalues_are_dropped_for_one_that_is_negative():
    """Noise has both signs: positive eigenvalues are dropped up to twice the sum of the negative ones."""
    values = np.array([-0.01, *np.logspace(-3, 0, 29)])
    sigma = reference.covariance(values, reference.rotation(30, np.random.default_rng(1)))
    stats = GaussianStats(np.zeros(30), sigma, negative_tolerance=0.011)
    assert stats.dropped_trace <= 3 * 0.01
    assert np.trace(sigma) == pytest.approx(np.sum(stats.factor**2), abs=0.02)


def test_rounding_to_float32_needs_no_tolerance_and_no_caution():
    sigma = np.cov(ROWS, rowvar=False).astype(np.float32)
    terms = fidfast.frechet_terms(GaussianStats(ROWS.mean(0), sigma, num_samples=N), PARTNER)
    assert terms.least_eigenvalues[0] < 0
    assert terms.caution is None


def test_wherever_statistics_come_from_a_file(tmp_path):
    mu, sigma = MATRICES["raw moments in float16"]()
    path = tmp_path / "half.npz"
    np.savez(path, mu=mu, sigma=sigma)
    option = {"negative_tolerance": 0.5}
    stats = GaussianStats(mu, sigma, **option)
    assert GaussianStats.load(path, **option) == stats == pickle.loads(pickle.dumps(stats))
    for function in (fidfast.fid, fidfast.frechet_distance, fidfast.frechet_terms, fidfast.transport_map):
        expected = function(PARTNER, stats)
        np.testing.assert_array_equal(tuple(np.ravel(function(PARTNER, path, **option))), tuple(np.ravel(expected)))
        with pytest.raises(ValueError, match=r"reference: |features_b: "):
            function(PARTNER, path)
    assert fidfast.file_info(path).properties["least_eigenvalue"] == stats.least_eigenvalue
    with pytest.raises(ValueError, match="positive semidefinite"):
        GaussianStats.load(path)


@pytest.mark.parametrize("tolerance", [-1e-9, 1.0, np.nan])
def test_tolerances_out_of_range_are_rejected(tolerance):
    with pytest.raises(ValueError, match="negative_tolerance must be at least 0 and below 1"):
        GaussianStats(np.zeros(2), np.eye(2), negative_tolerance=tolerance)


def test_a_matrix_with_a_negative_trace_is_never_accepted():
    for sigma in (-np.eye(2), np.diag([1.0, -0.6, -0.6])):
        with pytest.raises(ValueError, match="positive semidefinite"):
            GaussianStats(np.zeros(len(sigma)), sigma, negative_tolerance=0.99)
