"""Fréchet distance and transport map: accuracy, invariances, extractor warnings."""

import math
import warnings

import mpmath
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from reference import covariance, rotation, spectrum

import fidfast
from fidfast import GaussianStats

seeds = st.integers(0, 2**32).map(np.random.default_rng)
dims = st.sampled_from([1, 2, 3, 5, 8, 17])
conditions = st.sampled_from([1.0, 1e1, 1e3, 1e5, 1e8])


def gaussian(sigma, mu=None, **metadata):
    return GaussianStats(np.zeros(len(sigma)) if mu is None else mu, sigma, **metadata)


def stats_of(rows, **options):
    moments = fidfast.Moments(rows.shape[1], **options)
    moments.update(rows)
    return moments.stats()


def root_rounding(terms):
    """Bound on the error of the trace of the root, which enters the distance twice."""
    return terms.rounding / 2


# Accuracy -----------------------------------------------------------------------------------------------------------


@given(seeds, dims, conditions, conditions, st.booleans(), st.integers(-4, 4))
def test_full_rank_against_60_digits(rng, dim, condition1, condition2, same_basis, exponent):
    basis = rotation(dim, rng)
    sigma1 = covariance(spectrum(dim, condition1, rng) * 10.0**exponent, basis)
    sigma2 = covariance(spectrum(dim, condition2, rng), basis if same_basis else rotation(dim, rng))
    terms = fidfast.frechet_terms(gaussian(sigma1), gaussian(sigma2))
    exact = reference.trace_of_root_exact(sigma1, sigma2)
    error = float(abs(terms.trace_root - exact))
    # The backward error of the factor, a few eps of |sigma|, is multiplied by the norm of the transport map, at most
    # sqrt(condition): 1e4 eps = 2e-12.
    assert error <= (1e-12 if max(condition1, condition2) <= 1e3 else 1e-9) * exact
    assert error <= root_rounding(terms)
    traces = mpmath.fsum(np.diag(sigma1)) + mpmath.fsum(np.diag(sigma2))
    assert abs(terms.distance - max(traces - 2 * exact, 0)) <= terms.rounding


@pytest.mark.grid(keep=6)
@pytest.mark.parametrize("dim", [2, 64, 512])
@pytest.mark.parametrize("condition", [1e3, 1e8])
@pytest.mark.parametrize("order", ["same", "reversed"])
def test_commuting_covariances(rng, dim, condition, order):
    basis = rotation(dim, rng)
    values1 = np.sort(spectrum(dim, condition, rng))
    values2 = np.sort(spectrum(dim, condition, rng))[:: 1 if order == "same" else -1] * 3
    terms = fidfast.frechet_terms(gaussian(covariance(values1, basis)), gaussian(covariance(values2, basis)))
    exact = np.sqrt(values1 * values2).sum()
    # The entries of sigma are rounded, which changes the exact root by eps |T|_F <= eps dim |T|, with
    # |T| <= sqrt(condition); the root is about 1 or more.
    assert terms.trace_root == pytest.approx(exact, rel=1e-12 if condition <= 1e3 else 1e-9)
    assert abs(terms.trace_root - exact) <= root_rounding(terms)
    distance = ((np.sqrt(values1) - np.sqrt(values2)) ** 2).sum()
    assert abs(terms.distance - distance) <= terms.rounding


@given(seeds, st.sampled_from([2, 3, 6, 12]), st.data())
def test_few_rows_against_60_digits(rng, dim, data):
    n1 = data.draw(st.integers(2, dim))
    n2 = data.draw(st.integers(2, 3 * dim))
    mixing = rotation(dim, rng) * 10.0 ** -rng.uniform(0, data.draw(st.sampled_from([0, 1, 3])), dim)
    rows1, rows2 = rng.standard_normal((n1, dim)) @ mixing, rng.standard_normal((n2, dim)) @ mixing
    terms = fidfast.frechet_terms(stats_of(rows1), stats_of(rows2))
    exact = reference.nuclear_norm_exact(rows1, rows2)
    assert abs(terms.trace_root - exact) <= 1e-10 * exact
    assert abs(terms.trace_root - exact) <= root_rounding(terms)
    assert terms.rank == min(n1 - 1, n2 - 1, dim)


@pytest.mark.grid(keep=12)
@pytest.mark.parametrize("n1", [2, 3, 30, 127, 128])
@pytest.mark.parametrize("n2", [2, 64, 128, 129, 500])
def test_few_rows_in_many_dimensions(rng, n1, n2):
    """The distance is a finite float, without warnings (which are errors in these tests)."""
    mixing = rng.standard_normal((128, 128)) * np.logspace(0, -3, 128)
    rows1, rows2 = rng.standard_normal((n1, 128)) @ mixing, rng.standard_normal((n2, 128)) @ mixing + 0.3
    rows1[-1] = rows1[0]  # reduces the rank by one
    terms = fidfast.frechet_terms(stats_of(rows1), stats_of(rows2))
    exact = reference.nuclear_norm(rows1, rows2)
    assert terms.trace_root == pytest.approx(exact, rel=1e-10, abs=1e-12)
    assert math.isfinite(terms.distance)
    assert type(terms.distance) is float


@pytest.mark.parametrize("dim", [8, 64, 512])
@pytest.mark.parametrize("decades", [0, 2])
def test_rank_deficient_matrices(rng, dim, decades):
    for n in sorted({2, 3, dim // 2, dim - 1, dim}):
        mixing = rotation(dim, rng) * np.logspace(0, -decades, dim)
        rows = rng.standard_normal((n, dim)) @ mixing
        others = rng.standard_normal((dim // 2, dim)) @ mixing
        full = np.eye(dim)
        _, sigma = reference.moments(rows) if dim < 512 else (None, np.cov(rows, rowvar=False))
        _, sigma_other = reference.moments(others) if dim < 512 else (None, np.cov(others, rowvar=False))
        partners = [(sigma_other, dim // 2, reference.nuclear_norm(rows, others)), (full, 10 * dim, None)]
        for partner, n_partner, exact in partners:
            if exact is None:
                exact = np.linalg.svd((rows - rows.mean(0)) / np.sqrt(n - 1), compute_uv=False).sum()
            with_n = fidfast.frechet_terms(gaussian(sigma, num_samples=n), gaussian(partner, num_samples=n_partner))
            without_n = fidfast.frechet_terms(gaussian(sigma), gaussian(partner))
            assert with_n.trace_root == pytest.approx(exact, rel=1e-9)
            # Rounding of the entries of a singular matrix, eps, changes the root by sqrt(eps) = 1.5e-8.
            assert without_n.trace_root == pytest.approx(exact, rel=3e-8)
            for terms in (with_n, without_n):
                assert abs(terms.trace_root - exact) <= root_rounding(terms)


@pytest.mark.grid(keep=8)
@pytest.mark.parametrize("dim", [8, 128, 512])
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("partner", ["identity", "same", "half"])
def test_graded_spectra(rng, dim, rotated, partner):
    values = np.logspace(0, -16, dim)
    others = {"identity": np.ones(dim), "same": values, "half": np.sqrt(values)}[partner]
    basis = rotation(dim, rng) if rotated else np.eye(dim)[rng.permutation(dim)]
    terms = fidfast.frechet_terms(gaussian(covariance(values, basis)), gaussian(covariance(others, basis)))
    exact = np.sqrt(values * others).sum()
    assert terms.trace_root == pytest.approx(exact, rel=3e-8)
    assert abs(terms.trace_root - exact) <= root_rounding(terms)


@pytest.mark.parametrize("scale", [1e-120, 1e-30, 1e30, 1e120])
def test_extreme_scales(rng, scale):
    rows1, rows2 = rng.standard_normal((100, 6)), rng.standard_normal((100, 6)) + 1
    expected = fidfast.fid(rows1, rows2) * scale**2
    assert fidfast.fid(rows1 * scale, rows2 * scale) == pytest.approx(expected, rel=1e-12, abs=0)
    few = fidfast.fid(rows1[:4], rows2[:5]) * scale**2
    assert fidfast.fid(rows1[:4] * scale, rows2[:5] * scale) == pytest.approx(few, rel=1e-12, abs=0)


# Invariances --------------------------------------------------------------------------------------------------------


@st.composite
def pairs(draw):
    """Two sets of rows of full or low rank; columns may be constant, equal or tiny."""
    rng = draw(seeds)
    dim = draw(st.sampled_from([1, 2, 5, 12, 40]))
    mixing = rng.standard_normal((dim, dim)) * 10.0 ** -rng.uniform(0, draw(st.sampled_from([0, 2, 4])), dim)
    sets = []
    for _ in range(2):
        rows = rng.standard_normal((draw(st.sampled_from([2, dim + 1, 3 * dim + 2, 200])), dim)) @ mixing
        if draw(st.booleans()):
            rows[:, rng.integers(dim)] = draw(st.sampled_from([0.0, 1.5]))
        if draw(st.booleans()):
            rows[:, rng.integers(dim)] = rows[:, 0]
        sets.append(rows + draw(st.sampled_from([0.0, 0.5])))
    return (*sets, rng)


@given(pairs())
def test_symmetric_and_never_negative(pair):
    a, b, _ = (stats_of(rows) if isinstance(rows, np.ndarray) else rows for rows in pair)
    forth, back = fidfast.frechet_terms(a, b), fidfast.frechet_terms(b, a)
    assert forth.distance >= 0
    assert forth.distance == pytest.approx(back.distance, rel=1e-12, abs=1e-12 * (a.sigma.trace() + b.sigma.trace()))


@given(pairs())
def test_distance_of_equal_statistics_is_zero(pair):
    for rows in pair[:2]:
        stats = stats_of(rows)
        reversed_rows = stats_of(rows[::-1])
        matrix = gaussian(stats.sigma, stats.mu)
        for same in (stats, reversed_rows, gaussian(stats.sigma, stats.mu, num_samples=stats.num_samples), matrix):
            terms = fidfast.frechet_terms(stats, same)
            assert 0 <= terms.distance <= terms.rounding


@given(pairs(), st.floats(-3, 3), st.sampled_from([0.25, 3.0, 100.0]))
def test_translation_rotation_and_scaling(pair, shift, scale):
    rows1, rows2, rng = pair
    rotate = rotation(rows1.shape[1], rng)
    base = fidfast.frechet_terms(stats_of(rows1), stats_of(rows2))
    moved = fidfast.frechet_terms(
        stats_of((rows1 @ rotate + shift) * scale), stats_of((rows2 @ rotate + shift) * scale)
    )
    # Rotation rounds the rows by eps of their size, much less than the bounds of singular cases.
    size = base.mean_term + base.trace_samples + base.trace_reference
    tolerance = base.rounding + moved.rounding / scale**2 + 1e-13 * size
    # The shift rounds them by eps of its size; each side changes the square root of the distance by at most as much.
    step = np.finfo(float).eps * abs(shift) * math.sqrt(rows1.shape[1])
    tolerance += 2 * step * (2 * math.sqrt(size) + 2 * step)
    assert abs(moved.distance / scale**2 - base.distance) <= tolerance


@given(pairs(), st.floats(-5, 5))
def test_equal_covariances(pair, shift):
    stats = stats_of(pair[0])
    moved = gaussian(stats.sigma, stats.mu + shift, num_samples=stats.num_samples)
    terms = fidfast.frechet_terms(stats, moved)
    expected = float(np.sum((stats.mu + shift - stats.mu) ** 2))
    assert abs(terms.distance - expected) <= terms.rounding
    assert terms.mean_term == pytest.approx(expected, rel=1e-12)


@given(pairs())
def test_terms_add_up(pair):
    a, b = stats_of(pair[0]), stats_of(pair[1])
    terms = fidfast.frechet_terms(a, b)
    assert terms.mean_term == pytest.approx(np.sum((a.mu - b.mu) ** 2), rel=1e-12)
    assert terms.trace_samples == pytest.approx(np.trace(a.sigma), rel=1e-12)
    assert terms.trace_reference == pytest.approx(np.trace(b.sigma), rel=1e-12)
    sizes = terms.mean_term, terms.trace_samples, terms.trace_reference, 2 * terms.trace_root
    # At most three roundings of each term, in either order of the sum.
    assert terms.distance == pytest.approx(max(0, sum(sizes[:3]) - sizes[3]), abs=6 * 2**-53 * sum(sizes))
    assert fidfast.frechet_distance(a, b) == terms.distance == fidfast.fid(pair[0], pair[1])


@pytest.mark.parametrize("dim", [3, 50])
def test_results_do_not_depend_on_the_cached_factor(rng, dim):
    reference_set, generated = rng.standard_normal((200, dim)), rng.standard_normal((200, dim)) * 2
    kept = stats_of(reference_set)
    values = {fidfast.fid(kept, generated) for _ in range(3)} | {fidfast.fid(reference_set, generated)}
    dead = generated.copy()
    dead[:, 0] = 0
    fidfast.fid(kept, dead)  # needs the factor of fewer units
    assert values == {fidfast.fid(generated, kept)}


def test_constant_units_keep_accuracy(rng):
    """Different constant units on the two sides: the root is that of the units that vary on both."""
    rows1, rows2 = rng.standard_normal((90, 30)), rng.standard_normal((80, 30)) * 3
    rows1[:, [3, 4, 5]] = 0.7
    rows2[:, [5, 6, 20]] = 0.0
    terms = fidfast.frechet_terms(stats_of(rows1), stats_of(rows2))
    alive = [j for j in range(30) if j not in (3, 4, 5, 6, 20)]
    exact = reference.nuclear_norm(rows1[:, alive], rows2[:, alive])
    assert terms.rank == 25
    assert terms.trace_root == pytest.approx(exact, rel=1e-13)


def test_slightly_indefinite_covariances(rng):
    """Sigma rounded to float32, as some tools store it, has negative eigenvalues."""
    rows1, rows2 = rng.standard_normal((40, 60)), rng.standard_normal((500, 60))
    exact = fidfast.fid(rows1, rows2)
    a, b = stats_of(rows1), stats_of(rows2)
    rounded = [gaussian(np.float32(s.sigma), np.float32(s.mu)) for s in (a, b)]
    assert np.linalg.eigvalsh(rounded[0].sigma)[0] < -1e-9
    terms = fidfast.frechet_terms(*rounded)
    # Rounding to float32 perturbs singular directions by at most sqrt(6e-8) = 2e-4 each; the bound includes this.
    assert terms.distance == pytest.approx(exact, rel=1e-4)
    assert abs(terms.distance - exact) <= terms.rounding + 1e-6 * exact


# Transport map ------------------------------------------------------------------------------------------------------


@given(seeds, dims, conditions)
def test_transport_map_maps_samples_to_reference(rng, dim, condition):
    sigma_reference = covariance(spectrum(dim, condition, rng), rotation(dim, rng))
    sigma_samples = covariance(spectrum(dim, condition, rng), rotation(dim, rng))
    transport = fidfast.transport_map(gaussian(sigma_samples), gaussian(sigma_reference))
    np.testing.assert_array_equal(transport, transport.T)
    assert np.linalg.eigvalsh(transport)[0] >= -1e-12 * np.abs(transport).max()
    # |T| <= sqrt(condition), and the inverted root has a condition of at most sqrt(condition).
    np.testing.assert_allclose(transport @ sigma_samples @ transport, sigma_reference, atol=1e-13 * condition * dim)


def test_transport_map_of_commuting_covariances(rng):
    basis = rotation(20, rng)
    of_reference, of_samples = spectrum(20, 1e4, rng), spectrum(20, 1e4, rng)
    transport = fidfast.transport_map(
        gaussian(covariance(of_samples, basis)), gaussian(covariance(of_reference, basis))
    )
    np.testing.assert_allclose(transport, covariance(np.sqrt(of_reference / of_samples), basis), atol=1e-7)


@pytest.mark.parametrize("n", [2, 10, 20])
def test_transport_map_leaves_out_null_directions(rng, n):
    """A reference of low rank is reached exactly; the range of the map is that of the reference."""
    target, source = stats_of(rng.standard_normal((n, 24))), stats_of(rng.standard_normal((200, 24)))
    transport = fidfast.transport_map(source, target)
    np.testing.assert_allclose(transport @ source.sigma @ transport, target.sigma, atol=1e-12)
    assert np.linalg.matrix_rank(transport, tol=1e-9) == n - 1


def test_transport_map_of_constant_units(rng):
    samples, target = rng.standard_normal((50, 5)), rng.standard_normal((50, 5))
    samples[:, 1] = target[:, 1] = 3.0
    transport = fidfast.transport_map(samples, target)
    assert np.all(transport[1] == 0)
    mapped = transport @ stats_of(samples).sigma @ transport
    np.testing.assert_allclose(mapped, stats_of(target).sigma, atol=1e-12)


def test_transport_map_is_the_gradient(rng):
    """The gradient with respect to the covariance of the samples is I - T, by central differences."""
    sigma_reference = covariance(spectrum(6, 50, rng), rotation(6, rng))
    sigma_samples = covariance(spectrum(6, 50, rng), rotation(6, rng))
    direction = covariance(rng.standard_normal(6), rotation(6, rng))
    gradient = np.eye(6) - fidfast.transport_map(gaussian(sigma_samples), gaussian(sigma_reference))
    step = 1e-5
    ahead, behind = (
        fidfast.frechet_distance(gaussian(sigma_samples + sign * step * direction), gaussian(sigma_reference))
        for sign in (1, -1)
    )
    # The error of central differences is step^2 times the third derivative, about 50^(5/2).
    assert (ahead - behind) / (2 * step) == pytest.approx(np.sum(gradient * direction), rel=1e-5)


# Extractors ---------------------------------------------------------------------------------------------------------


def test_different_extractors_give_a_warning(rng):
    a, b = (GaussianStats(np.zeros(2), np.eye(2), extractor=name) for name in ("inception", "dino"))
    unnamed = gaussian(np.eye(2))
    for call in (fidfast.frechet_distance, fidfast.frechet_terms, fidfast.fid):
        with pytest.warns(UserWarning, match="'inception' and 'dino'") as caught:
            call(a, b)
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(a, a)
            call(a, unnamed)
