"""Laws of `estimate`, `influence`, `compare` and `fid_infinity`. How often an interval holds is in test_coverage.py."""

import json
import math

import numpy as np
import pytest
import reference
import scipy.stats
from reference import rotation

import fidfast
from fidfast import GaussianStats, Moments

#: What the quadrature of the core costs, of what one row weighs: see tests/cpp/jackknife_test.cpp.
QUADRATURE = 1e-7


def stats_of(rows):
    moments = Moments(rows.shape[1], precision="float64")
    moments.update(rows)
    return moments.stats()


def samples(rng, dim=6, n=60, others=90):
    """Two correlated samples that differ in mean and covariance."""
    mixings = rng.standard_normal((2, dim, dim))
    return rng.standard_normal((n, dim)) @ mixings[0], rng.standard_normal((others, dim)) @ mixings[1] + 0.3


def share(rows, others):
    """What one row weighs in the distance."""
    terms = fidfast.frechet_terms(stats_of(rows), stats_of(others))
    return (terms.mean_term + terms.trace_samples + terms.trace_reference) / len(rows)


# Influence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "n", "others"), [(1, 3, 50), (6, 60, 90), (6, 9, 200), (40, 200, 300)])
def test_influence_is_the_distance_less_that_without_the_row(rng, dim, n, others):
    rows, reference_rows = samples(rng, dim, n, others)
    found = fidfast.influence(rows, reference_rows)
    whole = fidfast.fid(rows, reference_rows)
    exact = [whole - fidfast.fid(np.delete(rows, i, axis=0), reference_rows) for i in range(n)]
    np.testing.assert_allclose(found, exact, rtol=0, atol=QUADRATURE * share(rows, reference_rows))


@pytest.mark.parametrize("n", [4, 20, 40])
def test_influence_where_every_row_has_a_direction_of_its_own(rng, n):
    rows, reference_rows = samples(rng, 40, n, 100)
    found = fidfast.influence(rows, reference_rows)
    whole = fidfast.fid(rows, reference_rows)
    exact = [whole - fidfast.fid(np.delete(rows, i, axis=0), reference_rows) for i in range(n)]
    # There the integrand is cut off below 1e-12 of the eigenvalue, which leaves sqrt(1e-12) times a logarithm.
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5 * share(rows, reference_rows))


def test_influence_of_float32_rows_from_dim_512_on(rng):
    scale = np.logspace(0, -1, 512)
    rows = (rng.standard_normal((1100, 512)) * scale + 1).astype(np.float32)
    known = GaussianStats(np.ones(512), np.diag(scale[::-1] ** 2))
    found = fidfast.influence(rows, known)
    picked = [0, 611]
    whole = fidfast.fid(rows, known, precision="float64")
    exact = [whole - fidfast.fid(np.delete(rows, i, axis=0), known, precision="float64") for i in picked]
    size = share(rows.astype(np.float64), rng.standard_normal((600, 512)) * scale[::-1])
    # The products' 6e-8 times the condition of the whitening, 100.
    np.testing.assert_allclose(found[picked], exact, rtol=0, atol=1e-5 * size)
    in_double = fidfast.influence(rows, known, precision="float64")
    np.testing.assert_allclose(in_double[picked], exact, rtol=0, atol=QUADRATURE * size)
    assert not np.array_equal(found, in_double)
    # Few rows are multiplied in float64 whatever is asked for.
    assert np.array_equal(fidfast.influence(rows[:50], known), fidfast.influence(rows[:50], known, precision="float64"))


def test_rows_in_another_order_have_the_same_influence(rng):
    rows, reference_rows = samples(rng, n=2100)  # more than a block
    order = rng.permutation(2100)
    moved = fidfast.influence(rows[order], reference_rows)
    # Moments of rows in another order differ by some 1e-14, which whitening may multiply by a condition of 100.
    expected = fidfast.influence(rows, reference_rows)[order]
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-11 * share(rows, reference_rows) * 2100)


def test_a_known_reference_and_a_sampled_one_give_the_same_influence(rng):
    rows, reference_rows = samples(rng)
    assert np.array_equal(fidfast.influence(rows, reference_rows), fidfast.influence(rows, stats_of(reference_rows)))


def test_without_the_most_harmful_rows_the_distance_is_what_influence_foretold(rng):
    rows, reference_rows = samples(rng, n=4000, others=4000)
    rows[rng.choice(4000, 40, replace=False)] += 3  # so that there is harm to find
    found = fidfast.influence(rows, reference_rows)
    worst = np.argsort(found)[-40:]
    foretold = found[worst].sum()
    known = stats_of(reference_rows)

    def without(part):
        """The distance where this part of the weight of the worst rows is gone."""
        weights = np.ones(4000)
        weights[worst] -= part
        mu = np.average(rows, axis=0, weights=weights)
        sigma = (rows - mu).T @ ((rows - mu) * weights[:, None]) / (weights.sum() - 1)
        return fidfast.frechet_distance(GaussianStats(mu, sigma), known)

    path = np.array([without(part) for part in np.linspace(0, 1, 9)])
    drop = path[0] - fidfast.fid(np.delete(rows, worst, axis=0), reference_rows)
    assert drop == pytest.approx(path[0] - path[-1], rel=1e-9)
    # Taylor: half the second derivative on the way, and at most as much again for the rows taken one at a time.
    second_order = np.abs(np.diff(path, 2)).max() * 64
    assert abs(drop - foretold) <= second_order
    assert second_order < 0.3 * foretold  # or it would prove nothing


# The estimate -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("both", [False, True])
def test_estimate_is_the_jackknife_by_brute_force(rng, both):
    rows, others = samples(rng, dim=4, n=25, others=31)
    known = reference.moments(others)
    unbiased, stderr, degrees_of_freedom = reference.estimate(rows, others if both else None, *known)
    found = fidfast.estimate(rows, others if both else GaussianStats(*known))
    # n - 1 times a mean of differences, each of them off by 1e-7 of a row's share.
    assert found.unbiased == pytest.approx(unbiased, abs=2 * 31 * QUADRATURE * share(rows, others))
    # The kurtosis' poles are threefold, which costs 1e-6 of the second order.
    assert found.stderr == pytest.approx(stderr, rel=1e-5)
    assert found.degrees_of_freedom == pytest.approx(degrees_of_freedom, rel=1e-5)


def test_value_is_that_of_fid_and_unbiased_is_without_the_bias(rng):
    rows, others = samples(rng)
    found = fidfast.estimate(rows, others)
    assert found.value == fidfast.fid(rows, others)
    assert found.unbiased == found.value - found.bias
    assert found.rounding == fidfast.frechet_terms(stats_of(rows), stats_of(others)).rounding
    assert found.num_samples == (60, 90)
    assert found.bias > 0


def test_the_arguments_may_change_places(rng):
    rows, others = samples(rng)
    forth, back = fidfast.estimate(rows, others), fidfast.estimate(others, rows)
    assert back.num_samples == (90, 60)
    for name in ("value", "stderr", "bias"):
        assert getattr(forth, name) == pytest.approx(getattr(back, name), rel=1e-11)  # sums in another order


def test_rows_in_another_order_give_the_same_estimate(rng):
    rows, others = samples(rng)
    forth, back = fidfast.estimate(rows, others), fidfast.estimate(rows[::-1], others[::-1])
    for name in ("value", "stderr", "bias"):
        assert getattr(forth, name) == pytest.approx(getattr(back, name), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 300.0])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_translation_rotation_and_scale(rng, scale, offset):
    rows, others = samples(rng)
    turn = rotation(6, rng)
    base = fidfast.estimate(rows, others)
    moved = fidfast.estimate((rows @ turn + offset) * scale, (others @ turn + offset) * scale)
    for name in ("value", "stderr", "bias"):
        # The nodes of the quadrature follow the eigenvalues, so only rounding differs: eps of the offset, whitened.
        assert getattr(moved, name) / scale**2 == pytest.approx(getattr(base, name), rel=1e-9)


def test_error_and_bias_grow_with_each_side_that_is_a_sample(rng):
    rows, others = samples(rng, n=200, others=200)
    one, other = (fidfast.estimate(*pair) for pair in ((rows, stats_of(others)), (others, stats_of(rows))))
    both = fidfast.estimate(rows, others)
    assert (one.num_samples, other.num_samples) == ((200, None), (200, None))
    assert both.value == one.value
    assert both.bias > max(one.bias, other.bias)
    # Up to orders of dim / n = 3 %, variances add; the second order of one side, taken away, is that of all there.
    assert both.stderr**2 == pytest.approx(one.stderr**2 + other.stderr**2, rel=0.1)
    assert both.bias == pytest.approx(one.bias + other.bias, rel=0.1)


def test_statistics_as_reference_are_taken_as_known_whatever_their_number_of_samples(rng):
    rows, others = samples(rng)
    stats = stats_of(others)
    for num_samples in (30, 10**9):
        known = GaussianStats(stats.mu, stats.sigma, num_samples=num_samples)
        assert fidfast.estimate(rows, known) == fidfast.estimate(rows, GaussianStats(stats.mu, stats.sigma))
    assert fidfast.estimate(stats, rows).num_samples == (None, 60)


def test_dead_units_and_unvaried_samples(rng):
    rows, others = samples(rng)
    base = fidfast.estimate(rows, others)
    dead = [np.insert(side, 3, 0.0, axis=1) for side in (rows, others)]
    with_dead = fidfast.estimate(*dead)
    for name in ("value", "stderr", "bias"):
        assert getattr(with_dead, name) == pytest.approx(getattr(base, name), rel=1e-9)
    constant = fidfast.estimate(np.ones((10, 3)), GaussianStats(np.zeros(3), np.eye(3)))
    assert (constant.value, constant.bias, constant.stderr, constant.note) == (6, 0, 0, None)


def test_a_scale_mixture_has_a_larger_error_than_a_gaussian(rng):
    """Which a formula for Gaussian features would not see."""
    gaussian = rng.standard_normal((2000, 8))
    mixture = gaussian * rng.choice([0.5, np.sqrt(1.75)], size=(2000, 1))
    known = GaussianStats(np.zeros(8), 2 * np.eye(8))
    found = [fidfast.estimate(rows, known) for rows in (gaussian, mixture)]
    assert found[1].stderr > 1.3 * found[0].stderr
    assert found[1].bias > 1.1 * found[0].bias


# What is told of it -------------------------------------------------------------------------------------------------


def test_interval(rng):
    found = fidfast.estimate(*samples(rng))
    low, high = found.interval()
    assert (low + high) / 2 == pytest.approx(found.unbiased)
    assert high - low == pytest.approx(2 * scipy.stats.t(found.degrees_of_freedom).ppf(0.975) * found.stderr)
    wide = found.interval(0.99)
    assert wide[0] < low < high < wide[1]
    few = fidfast.Estimate(1.0, 0.1, 0.0, (100, None), 0.0, degrees_of_freedom=19)
    assert few.interval()[1] == pytest.approx(1 + 2.093024 * 0.1, rel=1e-6)  # Student's table
    for level in (0, 1, -0.5, 95, math.nan):
        with pytest.raises(ValueError, match=f"level must be between 0 and 1, got {level}"):
            found.interval(level)


def test_as_a_dictionary_for_json(rng):
    rows, others = samples(rng)
    found = fidfast.estimate(rows, others)
    known = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert known["value"] == found.value
    assert known["unbiased"] == found.unbiased
    assert known["interval_95"] == list(found.interval())
    assert known["num_samples"] == [60, 90]
    assert known["degrees_of_freedom"] == found.degrees_of_freedom
    few = json.loads(json.dumps(fidfast.estimate(rows[:7], others).to_dict(), allow_nan=False))
    assert (few["stderr"], few["bias"], few["unbiased"], few["interval_95"]) == (None, None, None, [None, None])
    assert few["note"] == "features has 7 samples, and 6 directions that vary need 13"


def test_few_samples_are_cautioned_of(rng):
    known = stats_of(rng.standard_normal((600, 4)))
    rows = rng.standard_normal((500, 4))
    assert fidfast.estimate(rows, known).caution is None
    found = fidfast.estimate(rows[:-1], known)
    why = "features has 499 samples, and below 500 the interval is too short where rare samples matter"
    assert found.caution == why
    assert str(found).endswith(f"; {why}")
    assert f"\ncaution        {why}\n" in found.table()
    back = fidfast.estimate(rng.standard_normal((600, 4)), rows[:9])
    assert back.caution == why.replace("features", "reference").replace("499", "9")
    assert fidfast.estimate(rows[:8], known).caution is None  # there is no bar


def test_an_error_that_comes_from_few_rows_has_few_degrees_of_freedom(rng):
    known = stats_of(rng.standard_normal((600, 4)))
    rows = rng.standard_normal((1000, 4))
    even = fidfast.estimate(rows, known).degrees_of_freedom
    rows[0] *= 40
    # One row is nearly all of the variance: 2 n over n - 1, a chi-squared variable of 2.
    assert fidfast.estimate(rows, known).degrees_of_freedom == pytest.approx(2, rel=0.1)
    assert even > 50


def test_as_text():
    found = fidfast.Estimate(10.5678, 0.03456, 0.4, (5000, 12345), 1e-9)
    expected = "10.168 ± 0.035 (95 % 10.100 to 10.236), bias of 5,000 and 12,345 samples +0.400"
    assert str(found) == expected
    assert str(fidfast.Estimate(1234.5, 123.0, -5.0, (50, None), 0.0)) == (
        "1240 ± 123 (95 % 998 to 1481), bias of 50 samples -5"
    )
    assert str(fidfast.Estimate(1.5, math.nan, math.nan, (5, None), 0.0, note="too few")) == (
        "1.5, without an error bar: too few"
    )
    assert str(fidfast.Estimate(1.0, 0.0, 0.0, (5, None), 0.0)).startswith("1.000000 ± 0.000000")
