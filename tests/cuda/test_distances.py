"""Laws of the distance, the transport map and the error bar, wherever the features lie.

Where the host and a device are compared, both may be off by the rounding bound that comes with the distance, which the
laws of the host hold against exact answers.
"""

import math

import numpy as np
import pytest
import reference
from places import Host
from reference import covariance, rotation, spectrum

import fidfast
from fidfast import GaussianStats, _core

HOST = Host()


def stats_of(place, rows):
    moments = fidfast.Moments(rows.shape[1], "float64", device=place.name)
    moments.update(place.array(rows))
    return moments.stats()


def gaussian(place, sigma, mu=None, **known):
    """A Gaussian from what a caller holds, as it is taken to the device."""
    made = GaussianStats(np.zeros(len(sigma)) if mu is None else mu, sigma, **known)
    return made if place.name == "cpu" else GaussianStats._of_core(made._at(int(place.name[5:])), None, None)


def assert_agree(terms, expected, tolerance=1e-12):
    """Every number within `tolerance` of the whole: some eps, times what sums of squares and factors multiply it by."""
    size = expected.mean_term + expected.trace1 + expected.trace2
    for name in ("mean_term", "trace1", "trace2", "trace_root", "distance"):
        assert abs(getattr(terms, name) - getattr(expected, name)) <= tolerance * size, name
    assert terms.rank == expected.rank
    # A bound, which takes in what a singular factor leaves out: rounding errors, of which only the size is the same.
    assert expected.rounding / 10 <= terms.rounding <= 10 * expected.rounding


#: Rows of each side, and what is done to them.
PAIRS = {
    "both full": (40, 30, None),
    "one full, one of few rows": (4, 30, None),
    "few rows on both sides": (4, 5, None),
    "two rows": (2, 30, None),
    "as many rows as units": (7, 7, None),
    "one more": (8, 8, None),
    "dead units": (40, 30, "dead"),
    "dead units, few rows": (4, 5, "dead"),
    "equal units": (40, 30, "equal"),
    "a unit far smaller": (40, 30, "small"),
    "nothing varies": (40, 30, "constant"),
}


def pair(rng, name):
    n1, n2, what = PAIRS[name]
    mixing = rng.standard_normal((7, 7))
    rows1, rows2 = rng.standard_normal((n1, 7)) @ mixing, rng.standard_normal((n2, 7)) @ mixing + 0.5
    if what == "dead":
        rows1[:, [1, 3]], rows2[:, [3, 4]] = 1.5, 0.0
    if what == "equal":
        rows1[:, 2], rows2[:, 5] = rows1[:, 0], rows2[:, 1]
    if what == "small":
        rows1[:, 2] *= 1e-7
    if what == "constant":
        rows1[:] = 0.25
    return rows1, rows2


@pytest.mark.parametrize("name", PAIRS)
def test_distances(rng, device, name):
    """Symmetric, never negative, zero from itself, and what the host finds."""
    rows1, rows2 = pair(rng, name)
    a, b = stats_of(device, rows1), stats_of(device, rows2)
    terms, back = fidfast.frechet_terms(a, b), fidfast.frechet_terms(b, a)
    assert abs(back.distance - terms.distance) <= 1e-12 * (terms.trace1 + terms.trace2)  # sums in another order
    on_host = [stats_of(HOST, rows) for rows in (rows1, rows2)]
    assert_agree(terms, fidfast.frechet_terms(*on_host))
    root = reference.nuclear_norm(rows1, rows2)
    assert abs(terms.trace_root - root) <= terms.rounding / 2 + 1e-13 * (terms.trace1 + terms.trace2)
    assert fidfast.frechet_distance(a, b) == terms.distance >= 0
    for stats, twin in ((a, stats_of(device, rows1[::-1])), (b, b)):
        same = fidfast.frechet_terms(stats, twin)
        assert 0 <= same.distance <= same.rounding


@pytest.mark.parametrize("name", ["both full", "few rows on both sides", "dead units"])
def test_translation_rotation_and_scale(rng, device, name):
    rows1, rows2 = pair(rng, name)
    turn, shift, scale = rotation(7, rng), 2.5, 3.0
    base = fidfast.frechet_terms(stats_of(device, rows1), stats_of(device, rows2))
    moved = fidfast.frechet_terms(*(stats_of(device, (rows @ turn + shift) * scale) for rows in (rows1, rows2)))
    # Both are off by their bounds, and the rows by eps of their size and of the shift.
    size = base.mean_term + base.trace1 + base.trace2 + shift**2
    assert abs(moved.distance / scale**2 - base.distance) <= base.rounding + moved.rounding / scale**2 + 1e-13 * size


@pytest.mark.parametrize("name", ["both full", "few rows on both sides", "dead units"])
def test_equal_covariances_leave_the_means(rng, device, name):
    stats = stats_of(device, pair(rng, name)[0])
    moved = gaussian(device, stats.sigma, stats.mu + 1.25, num_samples=stats.num_samples)
    terms = fidfast.frechet_terms(stats, moved)
    expected = float(np.sum((stats.mu + 1.25 - stats.mu) ** 2))
    assert abs(terms.distance - expected) <= terms.rounding
    assert terms.mean_term == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e8])
def test_full_rank_against_sixty_digits(rng, device, condition):
    for dim in (1, 2, 5, 9):
        sigmas = [covariance(spectrum(dim, condition, rng), rotation(dim, rng)) for _ in range(2)]
        terms = fidfast.frechet_terms(*(gaussian(device, sigma) for sigma in sigmas))
        exact = reference.trace_of_root_exact(*sigmas)
        assert float(abs(terms.trace_root - exact)) <= terms.rounding / 2
        # eps times |T| <= sqrt(condition): 1e4 eps = 2e-12.
        assert float(abs(terms.trace_root - exact)) <= (1e-12 if condition <= 1e3 else 1e-9) * exact


@pytest.mark.parametrize("dim", [3, 4, 5, 6])
def test_the_bound_of_ill_conditioned_covariances(rng, device, dim):
    """It rests on the norm of an inverse, which the host estimates: of matrices this small without error."""
    for _ in range(5):
        sigmas = [covariance(spectrum(dim, 1e6, rng), rotation(dim, rng)) for _ in range(2)]
        on_host, there = (
            fidfast.frechet_terms(*(gaussian(place, sigma) for sigma in sigmas)) for place in (HOST, device)
        )
        # The inverse of a matrix of condition 1e6 is known to 1e6 eps; with room for the sum of entries.
        assert there.rounding == pytest.approx(on_host.rounding, rel=1e-8)


def test_the_bound_of_a_large_graded_pair(rng, extension):
    """Beyond the ranks for which singular values are taken, small eigenvalues are known by how the factor is graded."""
    dim = 1026
    deviations = np.sqrt(np.logspace(0, -9, dim))
    sigmas = [
        deviations[:, None] * (np.eye(dim) + reference.moments(rng.standard_normal((dim, dim)))[1]) * deviations
        for _ in range(2)
    ]
    on_host, there = (
        module.frechet_terms(*(module.Gaussian(np.zeros(dim), sigma, 0, 0) for sigma in sigmas))
        for module in (_core, extension)
    )
    assert_agree(there, on_host)
    # Without the grading it is 2e-7 of the root: eps of the largest eigenvalue, in the root of the smallest.
    assert on_host.rounding < 2e-9 * on_host.trace_root
    assert there.rounding == pytest.approx(on_host.rounding, rel=1e-3)


@pytest.mark.parametrize("order", [1, -1])
def test_commuting_covariances(rng, device, order):
    basis = rotation(8, rng)
    values1, values2 = np.sort(spectrum(8, 1e3, rng)), np.sort(spectrum(8, 1e3, rng))[::order] * 3
    terms = fidfast.frechet_terms(*(gaussian(device, covariance(values, basis)) for values in (values1, values2)))
    assert terms.trace_root == pytest.approx(np.sqrt(values1 * values2).sum(), rel=1e-12)
    assert abs(terms.distance - ((np.sqrt(values1) - np.sqrt(values2)) ** 2).sum()) <= terms.rounding


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_singular_covariances(rng, device, n, told):
    """By pivoted Cholesky, whether or not `num_samples` tells the rank; 9 units in another order than their pivots."""
    rows = rng.standard_normal((n, 9)) * np.array([1, 3, 0.1, 2, 5, 0.3, 1, 10, 0.5])
    known = {"num_samples": n} if told else {}
    singular = reference.moments(rows)[1]
    others = [np.eye(9), singular]
    exact = [np.linalg.svd((rows - rows.mean(0)) / math.sqrt(n - 1), compute_uv=False).sum(), np.trace(singular)]
    for other, root in zip(others, exact, strict=True):
        side = gaussian(device, singular, **known)
        partner = gaussian(device, other, **(known if other is singular else {}))
        terms = fidfast.frechet_terms(side, partner)
        assert terms.rank == n - 1
        # The noise of a singular matrix's entries, eps, enters the root as sqrt(eps) = 1.5e-8.
        assert terms.trace_root == pytest.approx(root, rel=1e-9 if told else 3e-8)
        assert abs(terms.trace_root - root) <= terms.rounding / 2
        on_host = fidfast.frechet_terms(gaussian(HOST, singular, **known), gaussian(HOST, other))
        assert on_host.rank == terms.rank


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_pivots_suffice_for_singular_covariances(rng, cuda, extension, n):
    """Eigenvectors, which would take what pivots get wrong, are not asked for."""
    sigma = reference.moments(rng.standard_normal((n, 9)) * np.array([3, 1, 7, 2, 9, 4, 8, 6, 5]))[1]
    for told in (n, 0):
        cuda.clear_calls()
        factor = extension.Gaussian(np.zeros(9), sigma, told, 0).factor
        names = [call.name for call in cuda.calls()]
        assert any("choose_pivot" in name for name in names)
        assert "cusolverDnXsyevd" not in names
        np.testing.assert_allclose(factor.T @ factor, sigma, rtol=0, atol=9 * 2.0**-52 * sigma.max())


def test_covariances_indefinite_by_rounding(rng, device):
    rows1, rows2 = rng.standard_normal((6, 9)), rng.standard_normal((50, 9))
    a, b = (np.float32(reference.moments(rows)[1]).astype(float) for rows in (rows1, rows2))
    assert np.linalg.eigvalsh(a)[0] < -1e-9
    terms = fidfast.frechet_terms(gaussian(device, a), gaussian(device, b))
    # Rounding to float32 perturbs singular directions by sqrt(6e-8) = 2e-4 each at worst; the bound knows.
    exact = reference.nuclear_norm(rows1, rows2)
    assert terms.trace_root == pytest.approx(exact, rel=1e-3)
    assert abs(terms.trace_root - exact) <= terms.rounding / 2 + 1e-6 * exact
    assert_agree(
        terms, fidfast.frechet_terms(gaussian(HOST, a), gaussian(HOST, b)), 1e-9
    )  # sqrt of a rounding's rounding


@pytest.mark.parametrize("name", ["both full", "one full, one of few rows", "few rows on both sides", "dead units"])
def test_the_transport_map_carries_the_second_onto_the_first(rng, device, name):
    rows1, rows2 = pair(rng, name)
    target, source = stats_of(device, rows1), stats_of(device, rows2)
    transport = fidfast.transport_map(target, source)
    np.testing.assert_array_equal(transport, transport.T)
    assert np.linalg.eigvalsh(transport)[0] >= -1e-12 * np.abs(transport).max()
    # The condition of the roots is below 1e3, and that many eps are lost.
    on_host = fidfast.transport_map(*(stats_of(HOST, rows) for rows in (rows1, rows2)))
    np.testing.assert_allclose(transport, on_host, rtol=0, atol=1e-12 * np.abs(on_host).max())
    if name == "few rows on both sides":
        return  # the target's range is not the source's
    alive = np.flatnonzero(np.diag(source.sigma) * np.diag(target.sigma))
    reached = (transport @ source.sigma @ transport)[np.ix_(alive, alive)]
    np.testing.assert_allclose(reached, target.sigma[np.ix_(alive, alive)], rtol=0, atol=1e-11 * target.sigma.max())
    dead = np.setdiff1d(np.arange(7), alive)
    assert np.all(transport[dead] == 0)


def test_the_transport_map_of_singular_covariances(rng, device):
    """By singular vectors, of a product that is wider than tall and of one that is taller than wide."""
    wide, tall = rng.standard_normal((4, 9)), rng.standard_normal((6, 9))
    for rows1, rows2 in ((wide, tall), (tall, wide)):
        known = [(reference.moments(rows)[1], len(rows)) for rows in (rows1, rows2)]
        maps = [
            fidfast.transport_map(*(gaussian(place, sigma, num_samples=n) for sigma, n in known))
            for place in (device, HOST)
        ]
        np.testing.assert_allclose(maps[0], maps[1], rtol=0, atol=1e-11 * np.abs(maps[1]).max())


def test_dims_that_differ_are_named(rng, device):
    with pytest.raises(ValueError, match="dim"):
        fidfast.frechet_distance(stats_of(device, rng.standard_normal((9, 3))), stats_of(device, np.eye(4)))


# Error bars ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "others"), [(30, 40), (6, 40), (5, 6)])
def test_influence_is_the_distance_less_that_without_the_row(rng, device, n, others):
    rows, reference_rows = rng.standard_normal((n, 5)), 1.3 * rng.standard_normal((others, 5)) + 0.3
    found = fidfast.influence(device.array(rows), device.array(reference_rows))
    # n - 1 times some eps of the distance; and where a row has a direction of its own, 1 - s(t) falls to rounding, and
    # enters by its root: sqrt(eps) of what the row weighs.
    share = 20 / n
    tolerance = 1e-10 if n > 6 else 1.5e-8 * share
    np.testing.assert_allclose(found, fidfast.influence(rows, reference_rows), rtol=0, atol=tolerance)
    whole = fidfast.fid(rows, reference_rows)
    exact = [whole - fidfast.fid(np.delete(rows, i, axis=0), reference_rows) for i in range(n)]
    # What the quadrature costs, of what one row weighs: 1e-7, and 1e-5 where a row has a direction of its own.
    np.testing.assert_allclose(found, exact, rtol=0, atol=(1e-7 if n > 6 else 1e-5) * share)


@pytest.mark.parametrize("known", [True, False])
def test_estimates(rng, device, known):
    rows, others = rng.standard_normal((30, 4)), 1.3 * rng.standard_normal((40, 4)) + 0.3
    partner = stats_of(HOST, others) if known else others
    there = fidfast.estimate(device.array(rows), partner if known else device.array(others))
    here = fidfast.estimate(rows, partner)
    for name in ("value", "stderr", "bias", "degrees_of_freedom"):
        # Sums over n rows, each (n - 1) times a difference that is off by some eps of the distance.
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-10), name
    assert there.num_samples == here.num_samples
    assert there.value == fidfast.fid(device.array(rows), partner if known else device.array(others))


def test_estimates_of_streams_in_blocks(rng, device):
    rows, others = rng.standard_normal((60, 3)), 1.3 * rng.standard_normal((40, 3))
    found = []
    for place in (device, HOST):
        moments = fidfast.Moments(3, "float64", blocks=5, device=place.name)
        moments.update(place.array(rows))
        found.append(fidfast.estimate(moments, place.array(others)))
    assert found[0].stderr == pytest.approx(found[1].stderr, rel=1e-10)  # differences, as above
    assert found[0].value == pytest.approx(found[1].value, rel=1e-12)


def test_comparisons(rng, device):
    ours, theirs, known = rng.standard_normal((30, 4)), rng.standard_normal((30, 4)) * 1.2, rng.standard_normal((40, 4))
    there = fidfast.compare(*(device.array(rows) for rows in (ours, theirs, known)))
    here = fidfast.compare(ours, theirs, known)
    assert there.difference == pytest.approx(here.difference, rel=1e-10)
    assert there.stderr == pytest.approx(here.stderr, rel=1e-10)
