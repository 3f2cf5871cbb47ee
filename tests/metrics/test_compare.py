"""Laws of `compare`, and `fid_infinity` against the plain formula."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference
import scipy.stats
from scipy.stats import kstest

import fidfast
from fidfast import GaussianStats, Moments

KNOWN = GaussianStats(np.zeros(4), np.eye(4))


def blocked(rows, blocks=20):
    moments = Moments(rows.shape[1], blocks=blocks)
    moments.update(rows)
    return moments


# Two generators -----------------------------------------------------------------------------------------------------


def test_the_better_one_has_the_smaller_distance(rng):
    good, bad = rng.standard_normal((500, 4)) * 1.1, rng.standard_normal((400, 4)) * 1.5
    found = fidfast.compare(good, bad, KNOWN)
    for side, rows in ((found.a, good), (found.b, bad)):
        assert replace(side, caution=None) == replace(fidfast.estimate(rows, KNOWN), caution=None)
    assert found.b.caution.startswith("features_b has 400 samples")
    assert found.difference == found.a.unbiased - found.b.unbiased < 0
    assert found.p_value < 1e-6
    # Independent samples against a known reference: variances add.
    assert found.stderr == pytest.approx(math.hypot(found.a.stderr, found.b.stderr), rel=1e-12)
    back = fidfast.compare(bad, good, KNOWN)
    assert back.difference == -found.difference
    assert (back.stderr, back.p_value) == pytest.approx((found.stderr, found.p_value), rel=1e-12)
    digits = max(0, 1 - math.floor(math.log10(found.stderr)))
    assert str(found) == (
        f"difference {found.difference:.{digits}f} ± {found.stderr:.{digits}f}, p = {found.p_value:.2g}"
    )


def test_p_value_is_students(rng):
    found = fidfast.compare(rng.standard_normal((300, 4)) * 1.1, rng.standard_normal((300, 4)) * 1.15, KNOWN)
    z = abs(found.difference) / found.stderr
    assert found.p_value == pytest.approx(2 * scipy.stats.t(found.degrees_of_freedom).sf(z), rel=1e-9)
    # Of two independent variances, by Satterthwaite's formula; the second order's part in them is some dim / n.
    sides = (found.a, found.b)
    varies = sum(side.stderr**4 / side.degrees_of_freedom for side in sides)
    assert found.degrees_of_freedom == pytest.approx(sum(side.stderr**2 for side in sides) ** 2 / varies, rel=0.05)


def test_a_reference_in_blocks_makes_it_students(rng):
    a, b = rng.standard_normal((300, 4)) * 1.1, rng.standard_normal((300, 4)) * 1.3
    moments = blocked(rng.standard_normal((400, 4)), 3)
    found = fidfast.compare(a, b, moments)
    for side in (found.a, found.b):  # those of three blocks, and more for what the rows add
        assert 2 < side.degrees_of_freedom < 100 < found.degrees_of_freedom  # where the blocks' part drops out
    z = abs(found.difference) / found.stderr
    assert found.p_value == pytest.approx(2 * scipy.stats.t(found.degrees_of_freedom).sf(z), rel=1e-9)


def test_what_pairs_share_drops_out(rng):
    prompts = rng.standard_normal((600, 4)) * 1.2
    a, b = (prompts + 0.1 * rng.standard_normal((600, 4)) for _ in range(2))
    apart, paired = fidfast.compare(a, b, KNOWN), fidfast.compare(a, b, KNOWN, paired=True)
    assert paired.difference == apart.difference
    assert paired.stderr < 0.25 * apart.stderr
    # Its jackknife is that of the difference: sd of what each row adds to it, over sqrt(n).
    of_difference = fidfast.influence(a, KNOWN) - fidfast.influence(b, KNOWN)
    assert paired.stderr == pytest.approx(of_difference.std(ddof=1) * math.sqrt(600), rel=0.05)  # bias: dim / n = 1 %
    # Pairs that share nothing have the error of independent samples, but for chance: 1 / sqrt(600).
    c = rng.standard_normal((600, 4)) * 1.2
    independent = [fidfast.compare(a, c, KNOWN, paired=pairs).stderr for pairs in (False, True)]
    assert independent[0] == pytest.approx(independent[1], rel=0.15)


def test_the_error_of_a_shared_reference_mostly_drops_out(rng):
    few = rng.standard_normal((60, 4))
    a, b = rng.standard_normal((5000, 4)) * 1.2, rng.standard_normal((5000, 4)) * 1.25
    found = fidfast.compare(a, b, few)
    assert found.stderr < 0.4 * found.a.stderr
    assert found.stderr > math.hypot(*(fidfast.estimate(side, KNOWN).stderr for side in (a, b))) * 0.9


def test_the_same_rows_twice_are_no_difference(rng):
    rows = rng.standard_normal((300, 4))
    found = fidfast.compare(rows, rows, KNOWN, paired=True)
    assert (found.difference, found.stderr, found.p_value) == (0, 0, 1)


def test_too_few_samples_have_no_p_value(rng):
    found = fidfast.compare(rng.standard_normal((6, 4)), rng.standard_normal((300, 4)), KNOWN)
    assert found.a.note == "features_a has 6 samples, and 4 directions that vary need 9"
    assert math.isnan(found.stderr)
    assert math.isnan(found.p_value)


@pytest.mark.parametrize("paired", [False, True])
def test_p_values_of_equal_generators_are_uniform(paired):
    """300 draws; Kolmogorov and Smirnov's own p-value below 1e-4 is the miss probability."""
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(300):
        a = rng.standard_normal((150, 4)) * 1.3
        b = a + 0.5 * rng.standard_normal((150, 4)) if paired else rng.standard_normal((150, 4)) * 1.3
        a = a + 0.5 * rng.standard_normal((150, 4)) if paired else a
        p_values.append(fidfast.compare(a, b, rng.standard_normal((200, 4)), paired=paired).p_value)
    assert kstest(p_values, "uniform").pvalue > 1e-4
    assert np.mean(np.array(p_values) < 0.05) < 0.05 + 3.7 * math.sqrt(0.05 * 0.95 / 300)  # 1e-4, one-sided


def test_errors_of_compare_name_the_argument(rng):
    rows = rng.standard_normal((50, 4))
    with pytest.raises(ValueError, match="features_a has 50 rows, but features_b has 49: they cannot be paired"):
        fidfast.compare(rows, rows[1:], KNOWN, paired=True)
    with pytest.raises(ValueError, match=r"features_b must be an .* array or a file of features: statistics have no"):
        fidfast.compare(rows, KNOWN, KNOWN)
    with pytest.raises(ValueError, match="features_b has dim 3, but reference has dim 4"):
        fidfast.compare(rows, rows[:, :3], KNOWN)
    with pytest.raises(TypeError, match="features_a: "):
        fidfast.compare(rows.astype(int), rows, KNOWN)
    with pytest.raises(ValueError, match="features_b has 2 samples, too few to leave any out"):
        fidfast.compare(rows, rows[:2], KNOWN)


# The extrapolation --------------------------------------------------------------------------------------------------


def test_fid_infinity_is_the_line_through_the_distances_of_growing_parts(rng):
    rows, others = rng.standard_normal((1000, 4)) * 1.2, rng.standard_normal((900, 4))
    found = fidfast.fid_infinity(rows, others, num_points=5, min_samples=200, seed=3)
    assert found.num_samples.tolist() == [200, 400, 600, 800, 1000]
    order = np.random.default_rng(3).permutation(1000)
    known = reference.moments(others)
    exact = []
    for n in found.num_samples:
        mu, sigma = reference.moments(rows[order[:n]])
        root = reference.trace_of_root_sqrtm(sigma, known[1])
        exact.append(reference.distance(mu, sigma, *known, root))
    np.testing.assert_allclose(found.distances, exact, rtol=1e-10)
    design = np.stack([1 / found.num_samples, np.ones(5)], axis=1)
    (slope, value), *_ = np.linalg.lstsq(design, np.array(exact), rcond=None)
    assert found.value == pytest.approx(value, rel=1e-9)
    assert found.slope == pytest.approx(slope, rel=1e-8)
    assert found.distances[-1] == pytest.approx(fidfast.fid(rows, others), rel=1e-12)


def test_fid_infinity_as_it_is_by_default(rng):
    rows = rng.standard_normal((300, 4))
    found = fidfast.fid_infinity(rows, KNOWN)
    assert (len(found.num_samples), found.num_samples[0], found.num_samples[-1]) == (15, 150, 300)
    assert found.distances[-1] == pytest.approx(fidfast.fid(rows, KNOWN), rel=1e-12)
    other = fidfast.fid_infinity(rows, KNOWN, seed=1)
    assert other.value != found.value
    again = fidfast.fid_infinity(rows, KNOWN, seed=0)
    assert (again.value, again.slope) == (found.value, found.slope)


def test_fid_infinity_says_what_it_needs(rng):
    rows = rng.standard_normal((50, 4))
    for min_samples in (1, 50, -3):
        with pytest.raises(ValueError, match=f"min_samples must be from 2 to n - 1 = 49, got {min_samples}"):
            fidfast.fid_infinity(rows, KNOWN, min_samples=min_samples)
    for num_points in (1, 12):
        with pytest.raises(
            ValueError, match=f"num_points must be from 2 to n - min_samples . 1 = 11, got {num_points}"
        ):
            fidfast.fid_infinity(rows, KNOWN, min_samples=40, num_points=num_points)
    with pytest.raises(ValueError, match="features has dim 3, but reference has dim 4"):
        fidfast.fid_infinity(rows[:, :3], KNOWN)
    with pytest.raises(TypeError, match="features: fid_infinity needs the features themselves"):
        fidfast.fid_infinity(KNOWN, KNOWN)
    with pytest.raises(ValueError, match="features must be 2-D"):
        fidfast.fid_infinity(rows[0], KNOWN)
