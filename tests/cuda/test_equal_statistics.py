"""Equal statistics, and covariances that are not what few samples give, on every device."""

import numpy as np
import pytest
import reference
from devices import Host

import fidfast
from fidfast import GaussianStats


def stats_of(device, rows):
    moments = fidfast.Moments(rows.shape[1], precision="float64", device=device.name)
    moments.update(device.array(rows))
    return moments.stats()


@pytest.mark.parametrize("n", [4, 30])
def test_distance_of_equal_statistics_is_zero(rng, device, tmp_path, n):
    rows = rng.standard_normal((n, 7))
    stats = stats_of(device, rows)
    stats.save(tmp_path / "stats.npz")
    for same in (stats, stats_of(device, rows), GaussianStats.load(tmp_path / "stats.npz")):
        assert fidfast.fid(stats, same) == fidfast.fid(same, stats) == 0
        terms = fidfast.frechet_terms(stats, same)
        assert terms.mean_term == 0
        assert terms.trace_root == terms.trace_samples == terms.trace_reference
        assert terms.rank == min(n - 1, 7)


@pytest.mark.parametrize("share", [0.1, 1e-5, 1e-11])
def test_covariances_of_higher_rank_than_few_samples_give(rng, device, share):
    few, many = rng.standard_normal((4, 7)), rng.standard_normal((50, 7))
    sigma = np.cov(few, rowvar=False) + share * np.eye(7)
    terms = fidfast.frechet_terms(GaussianStats(few.mean(0), sigma, num_samples=4), stats_of(device, many))
    exact = reference.symmetric_distance(few.mean(0), sigma, *reference.moments(many))
    assert terms.rank == 7
    assert abs(terms.distance - exact) <= terms.rounding


def test_covariances_that_need_a_tolerance(rng, device):
    few, many = rng.standard_normal((4, 7)), rng.standard_normal((50, 7))
    sigma = np.cov(few, rowvar=False).astype(np.float16).astype(float)
    stats = GaussianStats(few.mean(0), sigma, negative_tolerance=0.01)
    assert stats.least_eigenvalue < -1e-5
    terms = fidfast.frechet_terms(stats, stats_of(device, many))
    on_host = fidfast.frechet_terms(stats, stats_of(Host(), many))
    assert terms.least_eigenvalues == on_host.least_eigenvalues == (stats.least_eigenvalue, 0)
    assert terms.distance == pytest.approx(on_host.distance, rel=1e-12)
