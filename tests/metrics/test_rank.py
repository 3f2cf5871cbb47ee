"""Covariances of few samples whose rank is not that of few samples: the distance is right within its bound."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from reference import rotation

import fidfast
from fidfast import GaussianStats

N, DIM = 20, 48


def rows_of(n, decades=0):
    rng = np.random.default_rng(n)
    mixing = rotation(DIM, rng) * np.logspace(0, -decades, DIM)
    return rng.standard_normal((n, DIM)) @ mixing + 0.1


def shrunk(share):
    return lambda sigma: (1 - share) * sigma + share * np.trace(sigma) / DIM * np.eye(DIM)


#: What a tool may do with a covariance before it stores it.
CHANGES = {
    "nothing": lambda sigma: sigma,
    **{f"shrunk by {share}": shrunk(share) for share in (0.1, 1e-3, 1e-5, 1e-8, 1e-11, 1e-14)},
    "1e-6 I added": lambda sigma: sigma + 1e-6 * np.eye(DIM),
    "one direction added": lambda sigma: sigma + 1e-4 * np.ones((DIM, DIM)),
    "several rows per sample": lambda sigma: np.cov(rows_of(3 * N), rowvar=False),
    "two rows per sample": lambda sigma: np.cov(rows_of(2 * N), rowvar=False),
    "a dead unit": lambda sigma: sigma * np.outer(np.arange(DIM) != 5, np.arange(DIM) != 5),
}
PARTNERS = {"many rows": rows_of(500), "few rows": rows_of(7)}


def stored(sigma, dtype):
    """Sigma as a file in this precision holds it; bfloat16 would need negative_tolerance more often than float16."""
    return sigma.astype(dtype).astype(float)


@pytest.mark.grid(keep=24)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("decades", [0, 2])
def test_the_bound_holds_for_any_rank(change, dtype, decades):
    rows = rows_of(N, decades)
    mu, sigma = rows.mean(0), stored(CHANGES[change](np.cov(rows, rowvar=False)), dtype)
    for num_samples in (N, None):
        stats = GaussianStats(mu, sigma, num_samples=num_samples, negative_tolerance=0.1)
        for partner in PARTNERS.values():
            # As matrices: the reference computes from these, and rounds singular ones as much.
            moments = reference.moments(partner)
            terms = fidfast.frechet_terms(stats, GaussianStats(*moments, num_samples=len(partner)))
            assert abs(terms.distance - reference.symmetric_distance(mu, sigma, *moments)) <= terms.rounding


@pytest.mark.parametrize("change", [name for name in CHANGES if name not in ("nothing", "a dead unit")])
def test_what_is_not_rounding_is_kept(change):
    sigma = CHANGES[change](np.cov(rows_of(N), rowvar=False))
    stats = GaussianStats(np.zeros(DIM), sigma, num_samples=N)
    if change == "shrunk by 1e-14":  # as small as the rounding of the sums
        return
    values = np.linalg.eigvalsh(sigma)
    assert stats.factor.shape[1] == np.count_nonzero(values > 1e-13 * values[-1]) > N - 1
    np.testing.assert_allclose(stats.factor @ stats.factor.T, sigma, rtol=0, atol=1e-14 * np.trace(sigma))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("decades", [0, 2])
def test_rounding_is_cut(dtype, decades):
    """The rank of few samples is known, so the noise of the storage type does not count."""
    rows, partner = rows_of(N, decades), PARTNERS["many rows"]
    sigma = stored(np.cov(rows, rowvar=False), dtype)
    stats = GaussianStats(rows.mean(0), sigma, num_samples=N, negative_tolerance=0.1)
    assert stats.factor.shape[1] == N - 1
    # Noise of eps in each entry moves the N - 1 eigenvalues by eps times the trace at most, which the root of the
    # partner's variances, of at most 1, multiplies by half the condition.
    tolerance = np.finfo(dtype).eps * np.trace(sigma) * DIM
    assert fidfast.fid(stats, partner) == pytest.approx(fidfast.fid(rows, partner), abs=max(tolerance, 1e-12))


def test_the_map_and_the_jackknife_use_the_full_rank():
    rows, partner = rows_of(N), rows_of(500)
    sigma = shrunk(0.1)(np.cov(rows, rowvar=False))
    stats = GaussianStats(rows.mean(0), sigma, num_samples=N)
    transport = fidfast.transport_map(stats, partner)
    np.testing.assert_allclose(transport @ sigma @ transport, np.cov(partner, rowvar=False), atol=1e-10)
    expected = fidfast.estimate(partner, GaussianStats(rows.mean(0), sigma, num_samples=10 * DIM))
    found = fidfast.estimate(partner, stats)
    assert replace(found, rounding=expected.rounding) == expected  # the bound is that of more rows


def test_the_loss_uses_the_full_rank():
    torch = pytest.importorskip("torch")
    import fidfast.torch

    rows, partner = rows_of(N), rows_of(60)
    sigma = shrunk(0.1)(np.cov(rows, rowvar=False))
    loss = fidfast.torch.FrechetLoss(GaussianStats(rows.mean(0), sigma, num_samples=N))
    expected = reference.symmetric_distance(rows.mean(0), sigma, *reference.moments(partner))
    # The loss computes in the precision of the batch; a few eps of the sum of the traces for each of dim values.
    assert float(loss(torch.from_numpy(partner))) == pytest.approx(expected, rel=1e-10)
