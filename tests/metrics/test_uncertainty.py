"""`estimate` and `influence`. The coverage of the interval is in test_uncertainty_coverage.py."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import reference
import scipy.stats
from reference import rotation

import fidfast
from fidfast import GaussianStats, Moments

#: Error of the quadrature in the core, relative to the contribution of one row: see tests/cpp/jackknife_test.cpp.
QUADRATURE = 1e-7


def stats_of(rows):
    moments = Moments(rows.shape[1], precision="float64")
    moments.update(rows)
    return moments.stats()


def samples(rng, dim=6, n=60, others=90):
    """Two sets of correlated rows with different means and covariances."""
    mixings = rng.standard_normal((2, dim, dim))
    return rng.standard_normal((n, dim)) @ mixings[0], rng.standard_normal((others, dim)) @ mixings[1] + 0.3


def contribution_of_a_row(rows, others):
    """Scale of what one row adds to the distance."""
    terms = fidfast.frechet_terms(stats_of(rows), stats_of(others))
    return (terms.mean_term + terms.trace_samples + terms.trace_reference) / len(rows)


# Influence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "n", "others"), [(1, 3, 50), (6, 60, 90), (6, 9, 200), (40, 200, 300)])
def test_influence_is_the_change_of_the_distance_without_the_row(rng, dim, n, others):
    rows, reference_rows = samples(rng, dim, n, others)
    found = fidfast.influence(rows, reference_rows)
    complete = fidfast.fid(rows, reference_rows)
    exact = [complete - fidfast.fid(np.delete(rows, i, axis=0), reference_rows) for i in range(n)]
    np.testing.assert_allclose(found, exact, rtol=0, atol=QUADRATURE * contribution_of_a_row(rows, reference_rows))


@pytest.mark.parametrize("n", [4, 20, 40])
def test_influence_with_as_many_directions_as_rows(rng, n):
    rows, reference_rows = samples(rng, 40, n, 100)
    found = fidfast.influence(rows, reference_rows)
    complete = fidfast.fid(rows, reference_rows)
    exact = [complete - fidfast.fid(np.delete(rows, i, axis=0), reference_rows) for i in range(n)]
    # The integrand is cut off below 1e-12 of the eigenvalue: an error of sqrt(1e-12) times a logarithm.
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5 * contribution_of_a_row(rows, reference_rows))


def test_influence_of_float32_rows_from_dim_512_on(rng):
    scale = np.logspace(0, -1, 512)
    rows = (rng.standard_normal((1100, 512)) * scale + 1).astype(np.float32)
    stats = GaussianStats(np.ones(512), np.diag(scale[::-1] ** 2))
    found = fidfast.influence(rows, stats)
    picked = [0, 611]
    complete = fidfast.fid(rows, stats, precision="float64")
    exact = [complete - fidfast.fid(np.delete(rows, i, axis=0), stats, precision="float64") for i in picked]
    size = contribution_of_a_row(rows.astype(np.float64), rng.standard_normal((600, 512)) * scale[::-1])
    # Rounding of the products, 6e-8, times the condition of the whitening, 100.
    np.testing.assert_allclose(found[picked], exact, rtol=0, atol=1e-5 * size)
    in_float64 = fidfast.influence(rows, stats, precision="float64")
    np.testing.assert_allclose(in_float64[picked], exact, rtol=0, atol=QUADRATURE * size)
    assert not np.array_equal(found, in_float64)
    # Few rows are multiplied in float64 with either precision.
    assert np.array_equal(fidfast.influence(rows[:50], stats), fidfast.influence(rows[:50], stats, precision="float64"))


def test_influence_does_not_depend_on_the_order_of_rows(rng):
    rows, reference_rows = samples(rng, n=2100)  # more than a block
    order = rng.permutation(2100)
    reordered = fidfast.influence(rows[order], reference_rows)
    # Moments of rows in another order differ by about 1e-14; whitening may multiply this by a condition of 100.
    expected = fidfast.influence(rows, reference_rows)[order]
    np.testing.assert_allclose(
        reordered, expected, rtol=0, atol=1e-11 * contribution_of_a_row(rows, reference_rows) * 2100
    )


def test_influence_is_the_same_for_rows_and_statistics_as_reference(rng):
    rows, reference_rows = samples(rng)
    assert np.array_equal(fidfast.influence(rows, reference_rows), fidfast.influence(rows, stats_of(reference_rows)))


def test_influence_predicts_the_distance_without_the_most_harmful_rows(rng):
    rows, reference_rows = samples(rng, n=4000, others=4000)
    rows[rng.choice(4000, 40, replace=False)] += 3  # harmful rows
    found = fidfast.influence(rows, reference_rows)
    worst = np.argsort(found)[-40:]
    predicted = found[worst].sum()
    stats = stats_of(reference_rows)

    def without(part):
        """The distance if the weight of the worst rows is reduced by this part."""
        weights = np.ones(4000)
        weights[worst] -= part
        mu = np.average(rows, axis=0, weights=weights)
        sigma = (rows - mu).T @ ((rows - mu) * weights[:, None]) / (weights.sum() - 1)
        return fidfast.frechet_distance(GaussianStats(mu, sigma), stats)

    path = np.array([without(part) for part in np.linspace(0, 1, 9)])
    drop = path[0] - fidfast.fid(np.delete(rows, worst, axis=0), reference_rows)
    assert drop == pytest.approx(path[0] - path[-1], rel=1e-9)
    # Taylor: half of the second derivative along the path, and at most as much again because the rows are removed
    # one at a time.
    second_order = np.abs(np.diff(path, 2)).max() * 64
    assert abs(drop - predicted) <= second_order
    assert second_order < 0.3 * predicted  # else the test would be weak


# Estimate -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("both", [False, True])
def test_estimate_equals_the_jackknife_by_brute_force(rng, both):
    rows, others = samples(rng, dim=4, n=25, others=31)
    stats = reference.moments(others)
    unbiased, stderr, degrees_of_freedom = reference.estimate(rows, others if both else None, *stats)
    found = fidfast.estimate(rows, others if both else GaussianStats(*stats))
    # n - 1 times a mean of differences, each with an error of 1e-7 of the contribution of a row.
    assert found.unbiased == pytest.approx(unbiased, abs=2 * 31 * QUADRATURE * contribution_of_a_row(rows, others))
    # Triple poles in the quadrature of the kurtosis: an error of 1e-6 of the second order.
    assert found.stderr == pytest.approx(stderr, rel=1e-5)
    assert found.degrees_of_freedom == pytest.approx(degrees_of_freedom, rel=1e-5)


def test_value_is_fid_and_unbiased_is_value_minus_bias(rng):
    rows, others = samples(rng)
    found = fidfast.estimate(rows, others)
    assert found.value == fidfast.fid(rows, others)
    assert found.unbiased == found.value - found.bias
    assert found.rounding == fidfast.frechet_terms(stats_of(rows), stats_of(others)).rounding
    assert found.num_samples == (60, 90)
    assert found.bias > 0


def test_estimate_is_symmetric(rng):
    rows, others = samples(rng)
    forth, back = fidfast.estimate(rows, others), fidfast.estimate(others, rows)
    assert back.num_samples == (90, 60)
    for name in ("value", "stderr", "bias"):
        assert getattr(forth, name) == pytest.approx(getattr(back, name), rel=1e-11)  # sums in another order


def test_estimate_does_not_depend_on_the_order_of_rows(rng):
    rows, others = samples(rng)
    forth, back = fidfast.estimate(rows, others), fidfast.estimate(rows[::-1], others[::-1])
    for name in ("value", "stderr", "bias"):
        assert getattr(forth, name) == pytest.approx(getattr(back, name), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 300.0])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_translation_rotation_and_scaling(rng, scale, offset):
    rows, others = samples(rng)
    rotate = rotation(6, rng)
    base = fidfast.estimate(rows, others)
    moved = fidfast.estimate((rows @ rotate + offset) * scale, (others @ rotate + offset) * scale)
    for name in ("value", "stderr", "bias"):
        # The nodes of the quadrature scale with the eigenvalues, so only rounding differs: eps of the whitened offset.
        assert getattr(moved, name) / scale**2 == pytest.approx(getattr(base, name), rel=1e-9)


def test_error_and_bias_of_both_sides_add_up(rng):
    rows, others = samples(rng, n=200, others=200)
    one, other = (fidfast.estimate(*pair) for pair in ((rows, stats_of(others)), (others, stats_of(rows))))
    both = fidfast.estimate(rows, others)
    assert (one.num_samples, other.num_samples) == ((200, None), (200, None))
    assert both.value == one.value
    assert both.bias > max(one.bias, other.bias)
    # Variances add up to terms of order dim / n = 3 %: the second order that is subtracted is not additive.
    assert both.stderr**2 == pytest.approx(one.stderr**2 + other.stderr**2, rel=0.1)
    assert both.bias == pytest.approx(one.bias + other.bias, rel=0.1)


def test_statistics_as_reference_are_exact_for_any_num_samples(rng):
    rows, others = samples(rng)
    stats = stats_of(others)
    for num_samples in (30, 10**9):
        exact = GaussianStats(stats.mu, stats.sigma, num_samples=num_samples)
        found = fidfast.estimate(rows, exact)
        expected = fidfast.estimate(rows, GaussianStats(stats.mu, stats.sigma))
        assert found.rounding > expected.rounding  # includes that of the sums over rows
        assert replace(found, rounding=expected.rounding) == expected
    assert fidfast.estimate(stats, rows).num_samples == (None, 60)


def test_constant_units_and_constant_rows(rng):
    rows, others = samples(rng)
    base = fidfast.estimate(rows, others)
    with_zeros = fidfast.estimate(*(np.insert(side, 3, 0.0, axis=1) for side in (rows, others)))
    for name in ("value", "stderr", "bias"):
        assert getattr(with_zeros, name) == pytest.approx(getattr(base, name), rel=1e-9)
    constant = fidfast.estimate(np.ones((10, 3)), GaussianStats(np.zeros(3), np.eye(3)))
    assert (constant.value, constant.note) == (6, "the 10 rows of samples are all equal")
    assert np.isnan([constant.bias, constant.stderr]).all()


def test_scale_mixture_has_larger_error_and_bias_than_gaussian(rng):
    """A formula for Gaussian features would not show this."""
    gaussian = rng.standard_normal((2000, 8))
    mixture = gaussian * rng.choice([0.5, np.sqrt(1.75)], size=(2000, 1))
    stats = GaussianStats(np.zeros(8), 2 * np.eye(8))
    found = [fidfast.estimate(rows, stats) for rows in (gaussian, mixture)]
    assert found[1].stderr > 1.3 * found[0].stderr
    assert found[1].bias > 1.1 * found[0].bias


# The result ---------------------------------------------------------------------------------------------------------


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


def test_to_dict(rng):
    rows, others = samples(rng)
    found = fidfast.estimate(rows, others)
    numbers = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert numbers["value"] == found.value
    assert numbers["unbiased"] == found.unbiased
    assert numbers["interval_95"] == list(found.interval())
    assert numbers["num_samples"] == [60, 90]
    assert numbers["degrees_of_freedom"] == found.degrees_of_freedom
    few = json.loads(json.dumps(fidfast.estimate(rows[:7], others).to_dict(), allow_nan=False))
    assert (few["stderr"], few["bias"], few["unbiased"], few["interval_95"]) == (None, None, None, [None, None])
    assert (
        few["note"]
        == "samples has 7 samples; an error bar needs at least 13, 2 per direction with nonzero variance (6) plus 1"
    )


def test_caution_for_few_samples(rng):
    stats = stats_of(rng.standard_normal((600, 4)))
    rows = rng.standard_normal((500, 4))
    assert fidfast.estimate(rows, stats).caution is None
    found = fidfast.estimate(rows[:-1], stats)
    caution = "samples has 499 samples; below 500 the interval may be too narrow if rare samples dominate the distance"
    assert found.caution == caution
    assert str(found).endswith(f"; {caution}")
    assert f"\ncaution        {caution}\n" in found.table()
    back = fidfast.estimate(rng.standard_normal((600, 4)), rows[:9])
    assert back.caution == caution.replace("samples has 499", "reference has 9")
    assert fidfast.estimate(rows[:8], stats).caution is None  # no error bar


def test_few_degrees_of_freedom_if_few_rows_dominate(rng):
    stats = stats_of(rng.standard_normal((600, 4)))
    rows = rng.standard_normal((1000, 4))
    even = fidfast.estimate(rows, stats).degrees_of_freedom
    rows[0] *= 40
    # One row has nearly all of the variance: 2 n / (n - 1) degrees of freedom.
    assert fidfast.estimate(rows, stats).degrees_of_freedom == pytest.approx(2, rel=0.1)
    assert even > 50


def test_str():
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
