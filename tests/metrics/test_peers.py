"""Distances of other tools on the same features."""

import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import reference
import torch

import fidfast

with warnings.catch_warnings():  # raised by the imports themselves
    warnings.simplefilter("ignore")
    import pytorch_fid.fid_score
    import torch_fidelity.metric_fid
    import torchmetrics.image.fid


def pytorch_fid_distance(mu1, sigma1, mu2, sigma2):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytorch_fid.fid_score.calculate_frechet_distance(mu1, sigma1, mu2, sigma2)


def torch_fidelity_distance(mu1, sigma1, mu2, sigma2):
    stats1, stats2 = {"mu": mu1, "sigma": sigma1}, {"mu": mu2, "sigma": sigma2}
    return torch_fidelity.metric_fid.fid_statistics_to_metric(stats1, stats2, False)["frechet_inception_distance"]


def torchmetrics_distance(mu1, sigma1, mu2, sigma2):
    return float(torchmetrics.image.fid._compute_fid(*map(torch.from_numpy, (mu1, sigma1, mu2, sigma2))))


PEERS = [pytorch_fid_distance, torch_fidelity_distance, torchmetrics_distance]


def features(rng, n, dim, decades):
    mixing = reference.rotation(dim, rng) * np.logspace(0, -decades, dim)
    return rng.standard_normal((n, dim)) @ mixing


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(("dim", "decades"), [(8, 0), (64, 1), (192, 2)])
def test_full_rank(rng, peer, dim, decades):
    a, b = features(rng, 5 * dim, dim, decades), features(rng, 4 * dim, dim, decades) * 1.1 + 0.01
    stats = [(rows.mean(axis=0), np.cov(rows, rowvar=False)) for rows in (a, b)]
    theirs = peer(*stats[0], *stats[1])
    # Eigenvalues of the product have a relative error of eps times the condition number; for the roots, the largest
    # error is that of the smallest, 10^-decades: eps 10^decades.
    size = np.trace(stats[0][1]) + np.trace(stats[1][1])
    assert fidfast.fid(a, b) == pytest.approx(theirs, abs=1e-11 * size)


@pytest.mark.parametrize("peer", PEERS)
def test_few_samples(rng, peer):
    """Singular covariances, for which the other tools have an error of sqrt(eps) for each null direction."""
    a, b = features(rng, 40, 64, 1), features(rng, 50, 64, 1)
    stats = [(rows.mean(axis=0), np.cov(rows, rowvar=False)) for rows in (a, b)]
    theirs = peer(*stats[0], *stats[1])
    assert fidfast.fid(a, b) == pytest.approx(theirs, abs=2 * 64 * 1.5e-8 * np.trace(stats[0][1]))


class Identity(torch.nn.Module):
    """An extractor that returns its input."""

    num_features = 16

    def forward(self, features):
        return features


def test_torchmetrics_updates(rng):
    """Its states are uncentred sums in float64, which are accurate for features near the origin."""
    rows = torch.from_numpy(features(rng, 300, 16, 1)).float()
    metric = torchmetrics.image.fid.FrechetInceptionDistance(feature=Identity()).set_dtype(torch.float64)
    for batch in rows[:200].split(32):
        metric.update(batch, real=True)
    for batch in rows[200:].split(32):
        metric.update(batch, real=False)
    # The result is float32.
    assert fidfast.fid(rows[:200], rows[200:]) == pytest.approx(float(metric.compute()), rel=1e-6)


REAL = Path(__file__).parents[3] / "shared" / "features"


@pytest.fixture
def emoji():
    if not REAL.exists():
        pytest.skip("needs the features in shared/features, next to the checkout")
    return [np.load(REAL / f"emoji_{style}.npy") for style in ("google", "twitter")]


@pytest.mark.parametrize("dim", [600, pytest.param(2048, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_narrow_features_equal_their_values_in_float64(emoji, dim, dtype):
    a, b = (rows[:, :dim].astype(dtype) for rows in emoji)
    exact = fidfast.fid(a.astype(np.float64), b.astype(np.float64))
    # float32 products change the distance by about 1e-8; the means are rounded too.
    assert fidfast.fid(a, b) == pytest.approx(exact, rel=1e-6)


def test_real_features(emoji):
    """Inception features of emoji: units that are always 0, a spectrum over eleven decades, few rows."""
    a, b = (rows.astype(np.float64) for rows in emoji)
    units = slice(300, 700)  # both sides have dead units here; benchmarks/accuracy uses all 2,048
    stats = []
    for rows in (a[:, units], b[:, units]):
        moments = fidfast.Moments(400)
        moments.update(rows)
        stats.append(moments.stats())
    dead = [np.flatnonzero(np.diag(side.sigma) == 0) for side in stats]
    assert all(len(units) > 0 for units in dead)
    terms = fidfast.frechet_terms(*stats)
    assert terms.rank == 400 - len(np.union1d(*dead))
    alive = np.setdiff1d(np.arange(400), np.union1d(*dead))
    roots = [np.linalg.cholesky(side.sigma[np.ix_(alive, alive)]) for side in stats]
    exact = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    assert abs(terms.trace_root - exact) <= terms.rounding
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sqrtm warns that the product is singular
        sqrtm = reference.trace_of_root_sqrtm(stats[0].sigma, stats[1].sigma)
    # sqrtm takes roots of the eigenvalues of a singular product, whose error is eps: sqrt(eps) for each unit.
    assert terms.trace_root == pytest.approx(
        sqrtm, abs=400 * 1.5e-8 * np.sqrt(terms.trace_samples * terms.trace_reference)
    )
