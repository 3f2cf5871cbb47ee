"""Coverage, standard error and bias of `estimate` in simulations with exactly known distances.

Seeds are fixed. Each tolerance is the required range plus three standard errors of the simulation, so that a
distribution within the range fails with a probability of about 0.001. In small dims and with few rows the interval is
too narrow (docs/uncertainty.md); hence dim 32.
"""

import numpy as np
import pytest

import fidfast
from fidfast import GaussianStats

DIM, DRAWS = 32, 300


def gaussian(equal: bool):
    rng = np.random.default_rng(1)
    mixings = [rng.standard_normal((DIM, DIM)) / np.sqrt(DIM) + 0.5 * np.eye(DIM) for _ in range(2)]
    if equal:
        mixings[1] = mixings[0]
    stats = [GaussianStats(np.zeros(DIM), mix.T @ mix) for mix in mixings]
    return [lambda rng, n, mix=mix: rng.standard_normal((n, DIM)) @ mix for mix in mixings], stats


def scale_mixture(equal: bool):
    """Rows of a Gaussian, each times 0.6 or sqrt(2 - 0.36) with equal probability, which keeps the covariance."""
    samplers, stats = gaussian(equal)

    def scaled(sampler):
        return lambda rng, n: sampler(rng, n) * rng.choice([0.6, np.sqrt(2 - 0.36)], size=(n, 1))

    return [scaled(sampler) for sampler in samplers], stats


def rectified(equal: bool):
    """max(x, 0) of a centred Gaussian; its moments are those of Cho & Saul (2009), section 2."""
    samplers, stats = gaussian(equal)
    found = []
    for each in stats:
        deviation = np.sqrt(np.diag(each.sigma))
        cosine = np.clip(each.sigma / np.outer(deviation, deviation), -1, 1)
        angle = np.arccos(cosine)
        second = np.outer(deviation, deviation) * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
        mu = deviation / np.sqrt(2 * np.pi)
        found.append(GaussianStats(mu, second - np.outer(mu, mu)))
    return [lambda rng, n, draw=draw: np.maximum(draw(rng, n), 0) for draw in samplers], found


DISTRIBUTIONS = {"Gaussian": gaussian, "scale mixture": scale_mixture, "rectified": rectified}


def draws(distribution, rows_per_dim, *, equal=False, sampled=False, extrapolated=False):
    """The exact distance, the estimates of DRAWS samples, and their extrapolations."""
    samplers, stats = DISTRIBUTIONS[distribution](equal)
    rng = np.random.default_rng(7)
    n = rows_per_dim * DIM + 1
    found, lines = [], []
    for _ in range(DRAWS):
        features = samplers[0](rng, n)
        reference = samplers[1](rng, n) if sampled else stats[1]
        found.append(fidfast.estimate(features, reference))
        if extrapolated:
            lines.append(fidfast.fid_infinity(features, reference).value)
    return fidfast.frechet_distance(*stats), found, np.array(lines)


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize(("sampled", "equal"), [(False, False), (True, True)])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_coverage_and_standard_error(distribution, sampled, equal):
    exact, found, _ = draws(distribution, 5, equal=equal, sampled=sampled)
    ends = np.array([each.interval() for each in found])
    coverage = np.mean((ends[:, 0] <= exact) & (exact <= ends[:, 1]))
    # At least 92 %, minus three standard errors of a share of 300 draws, 0.0157 each.
    assert 0.92 - 0.047 <= coverage <= 1
    unbiased = np.array([each.unbiased for each in found])
    stderr = np.sqrt(np.mean([each.stderr**2 for each in found]))
    # Within 15 %, plus three standard errors of a standard deviation, 1 / sqrt(2 * 300) = 4 % each.
    assert abs(stderr / unbiased.std(ddof=1) - 1) <= 0.15 + 0.12


@pytest.mark.grid(keep=1)
@pytest.mark.parametrize(("distribution", "rows_per_dim"), [("Gaussian", 2), ("rectified", 2), ("scale mixture", 5)])
def test_the_bias_is_removed(distribution, rows_per_dim):
    exact, found, lines = draws(distribution, rows_per_dim, extrapolated=True)
    value, unbiased = (np.array([getattr(each, name) for each in found]) for name in ("value", "unbiased"))
    noise = unbiased.std(ddof=1) / np.sqrt(DRAWS)
    assert abs(unbiased.mean() - exact) <= 0.2 * (value.mean() - exact) + 3 * noise
    # At least as close to the exact distance as the extrapolation, with a smaller standard deviation.
    assert abs(unbiased.mean() - exact) <= abs(lines.mean() - exact) + 3 * lines.std(ddof=1) / np.sqrt(DRAWS)
    assert unbiased.std(ddof=1) < lines.std(ddof=1)
