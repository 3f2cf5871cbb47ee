"""Properties of the distance, the transport map and the jackknife on every device.

When the host and a device are compared, both may differ by the rounding bound of the distance.
"""

import math

import numpy as np
import pytest
import reference
from devices import Host
from reference import covariance, rotation, spectrum

import fidfast
from fidfast import GaussianStats, _core
from fidfast._stats import stats_from_core

HOST = Host()


def stats_of(device, rows):
    moments = fidfast.Moments(rows.shape[1], precision="float64", device=device.name)
    moments.update(device.array(rows))
    return moments.stats()


def gaussian(device, sigma, mu=None, **options):
    """Statistics from arrays, copied to the device."""
    stats = GaussianStats(np.zeros(len(sigma)) if mu is None else mu, sigma, **options)
    return stats if device.name == "cpu" else stats_from_core(stats._on_device(int(device.name[5:])), None, None)


def assert_agree(terms, expected, tolerance=1e-12):
    """Every term within `tolerance` of the sum of all terms: a multiple of eps for sums of squares and factors."""
    size = expected.mean_term + expected.trace_samples + expected.trace_reference
    for name in ("mean_term", "trace_samples", "trace_reference", "trace_root", "distance"):
        assert abs(getattr(terms, name) - getattr(expected, name)) <= tolerance * size, name
    assert terms.rank == expected.rank
    # The bound includes the rounding errors that a singular factor drops, which agree in magnitude only.
    assert expected.rounding / 10 <= terms.rounding <= 10 * expected.rounding


#: Number of rows of both samples, and a modification.
PAIRS = {
    "both full": (40, 30, None),
    "one full, one of few rows": (4, 30, None),
    "few rows on both sides": (4, 5, None),
    "two rows": (2, 30, None),
    "as many rows as units": (7, 7, None),
    "one more row than units": (8, 8, None),
    "dead units": (40, 30, "dead"),
    "dead units, few rows": (4, 5, "dead"),
    "equal units": (40, 30, "equal"),
    "a unit far smaller": (40, 30, "small"),
    "constant": (40, 30, "constant"),
}


def pair(rng, name):
    n1, n2, modification = PAIRS[name]
    mixing = rng.standard_normal((7, 7))
    rows1, rows2 = rng.standard_normal((n1, 7)) @ mixing, rng.standard_normal((n2, 7)) @ mixing + 0.5
    if modification == "dead":
        rows1[:, [1, 3]], rows2[:, [3, 4]] = 1.5, 0.0
    if modification == "equal":
        rows1[:, 2], rows2[:, 5] = rows1[:, 0], rows2[:, 1]
    if modification == "small":
        rows1[:, 2] *= 1e-7
    if modification == "constant":
        rows1[:] = 0.25
    return rows1, rows2


@pytest.mark.grid(keep=11)
@pytest.mark.parametrize("name", PAIRS)
def test_distances(rng, device, name):
    """Symmetric, not negative, zero between equal statistics, and equal to the distance on the host."""
    rows1, rows2 = pair(rng, name)
    a, b = stats_of(device, rows1), stats_of(device, rows2)
    terms, back = fidfast.frechet_terms(a, b), fidfast.frechet_terms(b, a)
    traces = terms.trace_samples + terms.trace_reference
    assert abs(back.distance - terms.distance) <= 1e-12 * traces  # sums in a different order
    on_host = [stats_of(HOST, rows) for rows in (rows1, rows2)]
    assert_agree(terms, fidfast.frechet_terms(*on_host))
    root = reference.nuclear_norm(rows1, rows2)
    assert abs(terms.trace_root - root) <= terms.rounding / 2 + 1e-13 * (terms.trace_samples + terms.trace_reference)
    assert fidfast.frechet_distance(a, b) == terms.distance >= 0
    for stats, twin in ((a, stats_of(device, rows1[::-1])), (b, b)):
        zero = fidfast.frechet_terms(stats, twin)
        assert 0 <= zero.distance <= zero.rounding


@pytest.mark.grid(keep=3)
@pytest.mark.parametrize("name", ["both full", "few rows on both sides", "dead units"])
def test_translation_rotation_and_scale(rng, device, name):
    rows1, rows2 = pair(rng, name)
    turn, shift, scale = rotation(7, rng), 2.5, 3.0
    base = fidfast.frechet_terms(stats_of(device, rows1), stats_of(device, rows2))
    moved = fidfast.frechet_terms(*(stats_of(device, (rows @ turn + shift) * scale) for rows in (rows1, rows2)))
    # Both distances have errors up to their bounds, and the rows have errors of eps times their size and the shift.
    size = base.mean_term + base.trace_samples + base.trace_reference + shift**2
    assert abs(moved.distance / scale**2 - base.distance) <= base.rounding + moved.rounding / scale**2 + 1e-13 * size


@pytest.mark.parametrize("name", ["both full", "few rows on both sides", "dead units"])
def test_equal_covariances_leave_the_mean_term(rng, device, name):
    stats = stats_of(device, pair(rng, name)[0])
    moved = gaussian(device, stats.sigma, stats.mu + 1.25, num_samples=stats.num_samples)
    terms = fidfast.frechet_terms(stats, moved)
    expected = float(np.sum((stats.mu + 1.25 - stats.mu) ** 2))
    assert abs(terms.distance - expected) <= terms.rounding
    assert terms.mean_term == pytest.approx(expected, rel=1e-12)


@pytest.mark.grid(keep=3)
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e8])
def test_full_rank_against_60_digits(rng, device, condition):
    for dim in (1, 2, 5, 9):
        sigmas = [covariance(spectrum(dim, condition, rng), rotation(dim, rng)) for _ in range(2)]
        terms = fidfast.frechet_terms(*(gaussian(device, sigma) for sigma in sigmas))
        exact = reference.trace_of_root_exact(*sigmas)
        assert float(abs(terms.trace_root - exact)) <= terms.rounding / 2
        # eps times |T| <= sqrt(condition): 1e4 eps = 2e-12.
        assert float(abs(terms.trace_root - exact)) <= (1e-12 if condition <= 1e3 else 1e-9) * exact


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize("dim", [3, 4, 5, 6])
def test_the_rounding_bound_of_ill_conditioned_covariances(rng, device, dim):
    """It depends on the norm of an inverse, which the host estimates, without error for matrices this small."""
    for _ in range(5):
        sigmas = [covariance(spectrum(dim, 1e6, rng), rotation(dim, rng)) for _ in range(2)]
        on_host, on_device = (
            fidfast.frechet_terms(*(gaussian(each, sigma) for sigma in sigmas)) for each in (HOST, device)
        )
        # The inverse of a matrix of condition 1e6 has a relative error of 1e6 eps, times the number of entries.
        assert on_device.rounding == pytest.approx(on_host.rounding, rel=1e-8)


@pytest.mark.slow  # minutes: two matrices of dim 1026
def test_the_rounding_bound_of_a_large_graded_pair(rng, extension):
    """Above rank 1,024 no singular values are computed; the bound then uses the grading of the factor."""
    dim = 1026
    deviations = np.sqrt(np.logspace(0, -9, dim))
    sigmas = [
        deviations[:, None] * (np.eye(dim) + reference.moments(rng.standard_normal((dim, dim)))[1]) * deviations
        for _ in range(2)
    ]
    on_host, on_device = (
        fidfast.frechet_terms(
            *(stats_from_core(module.Gaussian(np.zeros(dim), sigma, 0, 0), None, None) for sigma in sigmas)
        )
        for module in (_core, extension)
    )
    assert_agree(on_device, on_host)
    # Without the grading it is 2e-7 of the root: eps of the largest eigenvalue in the root of the smallest.
    assert on_host.rounding < 2e-9 * on_host.trace_root
    assert on_device.rounding == pytest.approx(on_host.rounding, rel=1e-3)


@pytest.mark.parametrize("order", [1, -1])
def test_commuting_covariances(rng, device, order):
    basis = rotation(8, rng)
    values1, values2 = np.sort(spectrum(8, 1e3, rng)), np.sort(spectrum(8, 1e3, rng))[::order] * 3
    terms = fidfast.frechet_terms(*(gaussian(device, covariance(values, basis)) for values in (values1, values2)))
    assert terms.trace_root == pytest.approx(np.sqrt(values1 * values2).sum(), rel=1e-12)
    assert abs(terms.distance - ((np.sqrt(values1) - np.sqrt(values2)) ** 2).sum()) <= terms.rounding


@pytest.mark.grid(keep=4)
@pytest.mark.parametrize("with_rank", [True, False])
@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_singular_covariances(rng, device, n, with_rank):
    """By pivoted Cholesky, with and without `num_samples`, which gives the rank. 9 units, not in order of variance."""
    rows = rng.standard_normal((n, 9)) * np.array([1, 3, 0.1, 2, 5, 0.3, 1, 10, 0.5])
    options = {"num_samples": n} if with_rank else {}
    singular = reference.moments(rows)[1]
    others = [np.eye(9), singular]
    exact = [np.linalg.svd((rows - rows.mean(0)) / math.sqrt(n - 1), compute_uv=False).sum(), np.trace(singular)]
    for other, root in zip(others, exact, strict=True):
        stats = gaussian(device, singular, **options)
        other_stats = gaussian(device, other, **(options if other is singular else {}))
        terms = fidfast.frechet_terms(stats, other_stats)
        assert terms.rank == n - 1
        # Errors of eps in a singular matrix become sqrt(eps) = 1.5e-8 in the root.
        assert terms.trace_root == pytest.approx(root, rel=1e-9 if with_rank else 3e-8)
        assert abs(terms.trace_root - root) <= terms.rounding / 2
        on_host = fidfast.frechet_terms(gaussian(HOST, singular, **options), gaussian(HOST, other))
        assert on_host.rank == terms.rank


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_singular_covariances_are_factored_without_eigenvectors(rng, cuda, extension, n):
    """Eigenvectors are the fallback, which would hide errors of the pivoted Cholesky factorisation."""
    sigma = reference.moments(rng.standard_normal((n, 9)) * np.array([3, 1, 7, 2, 9, 4, 8, 6, 5]))[1]
    for num_samples in (n, 0):
        cuda.clear_calls()
        factor = extension.Gaussian(np.zeros(9), sigma, num_samples, 0).factor
        names = [call.name for call in cuda.calls()]
        assert any("choose_pivot" in name for name in names)
        assert "cusolverDnXsyevd" not in names
        np.testing.assert_allclose(factor.T @ factor, sigma, rtol=0, atol=9 * 2.0**-52 * sigma.max())


def test_covariances_indefinite_by_rounding(rng, device):
    rows1, rows2 = rng.standard_normal((6, 9)), rng.standard_normal((50, 9))
    a, b = (np.float32(reference.moments(rows)[1]).astype(float) for rows in (rows1, rows2))
    assert np.linalg.eigvalsh(a)[0] < -1e-9
    terms = fidfast.frechet_terms(gaussian(device, a), gaussian(device, b))
    # Rounding to float32 perturbs singular directions by at most sqrt(6e-8) = 2e-4 each, which the bound includes.
    exact = reference.nuclear_norm(rows1, rows2)
    assert terms.trace_root == pytest.approx(exact, rel=1e-3)
    assert abs(terms.trace_root - exact) <= terms.rounding / 2 + 1e-6 * exact
    # Rounding errors in the perturbation enter as square roots.
    assert_agree(terms, fidfast.frechet_terms(gaussian(HOST, a), gaussian(HOST, b)), 1e-9)


@pytest.mark.parametrize("name", ["both full", "one full, one of few rows", "few rows on both sides", "dead units"])
def test_the_transport_map_maps_one_covariance_to_the_other(rng, device, name):
    rows1, rows2 = pair(rng, name)
    target, source = stats_of(device, rows1), stats_of(device, rows2)
    transport = fidfast.transport_map(source, target)
    np.testing.assert_array_equal(transport, transport.T)
    assert np.linalg.eigvalsh(transport)[0] >= -1e-12 * np.abs(transport).max()
    # The condition of the roots is below 1e3: errors of 1e3 eps.
    on_host = fidfast.transport_map(stats_of(HOST, rows2), stats_of(HOST, rows1))
    np.testing.assert_allclose(transport, on_host, rtol=0, atol=1e-12 * np.abs(on_host).max())
    if name == "few rows on both sides":
        return  # the ranges of the covariances differ
    alive = np.flatnonzero(np.diag(source.sigma) * np.diag(target.sigma))
    reached = (transport @ source.sigma @ transport)[np.ix_(alive, alive)]
    np.testing.assert_allclose(reached, target.sigma[np.ix_(alive, alive)], rtol=0, atol=1e-11 * target.sigma.max())
    dead = np.setdiff1d(np.arange(7), alive)
    assert np.all(transport[dead] == 0)


def test_the_transport_map_of_singular_covariances(rng, device):
    """By singular vectors of a wide and of a tall product."""
    wide, tall = rng.standard_normal((4, 9)), rng.standard_normal((6, 9))
    for rows1, rows2 in ((wide, tall), (tall, wide)):
        covariances = [(reference.moments(rows)[1], len(rows)) for rows in (rows1, rows2)]
        maps = [
            fidfast.transport_map(*(gaussian(each, sigma, num_samples=n) for sigma, n in covariances))
            for each in (device, HOST)
        ]
        np.testing.assert_allclose(maps[0], maps[1], rtol=0, atol=1e-11 * np.abs(maps[1]).max())


def test_different_dims_are_rejected(rng, device):
    with pytest.raises(ValueError, match="dim"):
        fidfast.frechet_distance(stats_of(device, rng.standard_normal((9, 3))), stats_of(device, np.eye(4)))


# Jackknife ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "others"), [(30, 40), (6, 40), (5, 6)])
def test_influence_is_the_change_of_the_distance_without_the_row(rng, device, n, others):
    rows, reference_rows = rng.standard_normal((n, 5)), 1.3 * rng.standard_normal((others, 5)) + 0.3
    found = fidfast.influence(device.array(rows), device.array(reference_rows))
    # Errors of (n - 1) eps times the distance. If each row has its own direction (n <= dim + 1), 1 - s(t) is a rounding
    # error and enters as its root: sqrt(eps) times the weight of a row.
    weight = 20 / n
    tolerance = 1e-10 if n > 6 else 1.5e-8 * weight
    np.testing.assert_allclose(found, fidfast.influence(rows, reference_rows), rtol=0, atol=tolerance)
    distance = fidfast.fid(rows, reference_rows)
    exact = [distance - fidfast.fid(np.delete(rows, i, axis=0), reference_rows) for i in range(n)]
    # The quadrature has an error of 1e-7 times the weight of a row, and of 1e-5 if each row has its own direction.
    np.testing.assert_allclose(found, exact, rtol=0, atol=(1e-7 if n > 6 else 1e-5) * weight)


@pytest.mark.parametrize("with_stats", [True, False])
def test_estimate(rng, device, with_stats):
    rows, others = rng.standard_normal((30, 4)), 1.3 * rng.standard_normal((40, 4)) + 0.3
    on_host = stats_of(HOST, others) if with_stats else others
    on_device = on_host if with_stats else device.array(others)
    found, expected = fidfast.estimate(device.array(rows), on_device), fidfast.estimate(rows, on_host)
    for name in ("value", "stderr", "bias", "degrees_of_freedom"):
        # Sums over n rows of (n - 1) times a difference with an error of a few eps times the distance.
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-10), name
    assert found.num_samples == expected.num_samples
    assert found.value == fidfast.fid(device.array(rows), on_device)


def test_metrics_that_are_computed_on_the_host(rng, device):
    rows, others = rng.standard_normal((30, 4)), rng.standard_normal((40, 4))
    assert fidfast.mind(device.array(rows), device.array(others)) == fidfast.mind(rows, others)
    assert fidfast.vendi(device.array(rows)) == fidfast.vendi(rows)


def test_estimate_of_groups(rng, device):
    rows, others = (rng.standard_normal((60, 5)) + shift for shift in (0.0, 0.5))
    groups = np.arange(60) // 3
    found = fidfast.estimate(device.array(rows), device.array(others), groups=(groups, None))
    expected = fidfast.estimate(rows, others, groups=(groups, None))
    # Of differences of distances, whose rounding is that of the traces.
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-9)
    assert found.unbiased == pytest.approx(expected.unbiased, rel=1e-9)


def test_estimate_from_blocks(rng, device):
    rows, others = rng.standard_normal((30, 3)), 1.3 * rng.standard_normal((20, 3))
    found = []
    for each in (device, HOST):
        moments = fidfast.Moments(3, precision="float64", blocks=3, device=each.name)
        moments.update(each.array(rows))
        found.append(fidfast.estimate(moments, each.array(others)))
    assert found[0].stderr == pytest.approx(found[1].stderr, rel=1e-10)  # differences, as above
    assert found[0].value == pytest.approx(found[1].value, rel=1e-12)


def test_compare(rng, device):
    one, other, third = rng.standard_normal((30, 4)), rng.standard_normal((30, 4)) * 1.2, rng.standard_normal((40, 4))
    found = fidfast.compare(*(device.array(rows) for rows in (one, other, third)))
    expected = fidfast.compare(one, other, third)
    assert found.difference == pytest.approx(expected.difference, rel=1e-10)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-10)
