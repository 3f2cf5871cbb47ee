"""`compare`, and `fid_infinity` against a direct computation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import reference
import scipy.stats
from scipy.stats import kstest

import fidfast
from fidfast import GaussianStats, Moments

REFERENCE = GaussianStats(np.zeros(4), np.eye(4))


def in_blocks(rows, blocks=20):
    moments = Moments(rows.shape[1], blocks=blocks)
    moments.update(rows)
    return moments


# compare ------------------------------------------------------------------------------------------------------------


def test_the_better_model_has_the_smaller_distance(rng):
    good, bad = rng.standard_normal((500, 4)) * 1.1, rng.standard_normal((400, 4)) * 1.5
    found = fidfast.compare(good, bad, REFERENCE)
    for side, rows in ((found.a, good), (found.b, bad)):
        assert replace(side, caution=None) == replace(fidfast.estimate(rows, REFERENCE), caution=None)
    assert found.b.caution.startswith("samples_b has 400 samples")
    assert found.difference == found.a.unbiased - found.b.unbiased < 0
    assert found.p_value < 1e-6
    # Independent samples and an exact reference: variances add.
    assert found.stderr == pytest.approx(math.hypot(found.a.stderr, found.b.stderr), rel=1e-12)
    back = fidfast.compare(bad, good, REFERENCE)
    assert back.difference == -found.difference
    assert (back.stderr, back.p_value) == pytest.approx((found.stderr, found.p_value), rel=1e-12)
    digits = max(0, 1 - math.floor(math.log10(found.stderr)))
    assert str(found) == (
        f"difference {found.difference:.{digits}f} ± {found.stderr:.{digits}f}, p = {found.p_value:.2g}; "
        f"b: {found.b.caution}"
    )


def test_the_cautions_of_both_sides_are_shown(rng):
    once, b, common = rng.standard_normal((60, 4)), rng.standard_normal((900, 4)), rng.standard_normal((1000, 4))
    a = np.vstack([once, np.tile(once[:50], (10, 1))])
    found = fidfast.compare(a, b, common)
    assert "a: 500 of the 560 rows of samples_a repeat earlier ones" in found.caution
    assert found.caution in str(found)
    assert found.caution == found.to_dict()["caution"]
    assert found.caution in found._repr_html_()
    # Repeated rows of the reference concern both sides.
    found = fidfast.compare(b, b[:800] + 1, np.vstack([common, common[:70]]))
    assert found.caution.count("70 of the 1,070 rows of reference repeat earlier ones") == 1
    assert fidfast.compare(b, b[:800] + 1, common).caution is None


def test_p_value_of_students_distribution(rng):
    found = fidfast.compare(rng.standard_normal((300, 4)) * 1.1, rng.standard_normal((300, 4)) * 1.15, REFERENCE)
    z = abs(found.difference) / found.stderr
    assert found.p_value == pytest.approx(2 * scipy.stats.t(found.degrees_of_freedom).sf(z), rel=1e-9)
    # Satterthwaite's formula for two independent variances, up to the second order, about dim / n of them.
    sides = (found.a, found.b)
    varies = sum(side.stderr**4 / side.degrees_of_freedom for side in sides)
    assert found.degrees_of_freedom == pytest.approx(sum(side.stderr**2 for side in sides) ** 2 / varies, rel=0.05)


def test_p_value_with_a_reference_in_blocks(rng):
    a, b = rng.standard_normal((300, 4)) * 1.1, rng.standard_normal((300, 4)) * 1.3
    moments = in_blocks(rng.standard_normal((400, 4)), 3)
    found = fidfast.compare(a, b, moments)
    for side in (found.a, found.b):  # dominated by the 2 of three blocks
        assert 2 < side.degrees_of_freedom < 100 < found.degrees_of_freedom  # in the difference the blocks cancel
    z = abs(found.difference) / found.stderr
    assert found.p_value == pytest.approx(2 * scipy.stats.t(found.degrees_of_freedom).sf(z), rel=1e-9)


def test_paired_samples_have_a_smaller_error(rng):
    prompts = rng.standard_normal((600, 4)) * 1.2
    a, b = (prompts + 0.1 * rng.standard_normal((600, 4)) for _ in range(2))
    apart, paired = fidfast.compare(a, b, REFERENCE), fidfast.compare(a, b, REFERENCE, paired=True)
    assert paired.difference == apart.difference
    assert paired.stderr < 0.25 * apart.stderr
    # The jackknife of the difference: the standard deviation of the contributions of the rows, times sqrt(n).
    of_difference = fidfast.influence(a, REFERENCE) - fidfast.influence(b, REFERENCE)
    assert paired.stderr == pytest.approx(of_difference.std(ddof=1) * math.sqrt(600), rel=0.05)  # bias: dim / n = 1 %
    # Pairs without correlation have the error of independent samples, within 1 / sqrt(600).
    c = rng.standard_normal((600, 4)) * 1.2
    independent = [fidfast.compare(a, c, REFERENCE, paired=pairs).stderr for pairs in (False, True)]
    assert independent[0] == pytest.approx(independent[1], rel=0.15)


def test_the_error_of_the_common_reference_mostly_cancels(rng):
    few = rng.standard_normal((60, 4))
    a, b = rng.standard_normal((5000, 4)) * 1.2, rng.standard_normal((5000, 4)) * 1.25
    found = fidfast.compare(a, b, few)
    assert found.stderr < 0.4 * found.a.stderr
    assert found.stderr > math.hypot(*(fidfast.estimate(side, REFERENCE).stderr for side in (a, b))) * 0.9


def test_equal_rows_have_no_difference(rng):
    rows = rng.standard_normal((300, 4))
    found = fidfast.compare(rows, rows, REFERENCE, paired=True)
    assert (found.difference, found.stderr, found.p_value) == (0, 0, 1)


def test_no_p_value_for_too_few_samples(rng):
    found = fidfast.compare(rng.standard_normal((6, 4)), rng.standard_normal((300, 4)), REFERENCE)
    assert (
        found.a.note
        == "samples_a has 6 samples; an error bar needs at least 9, 2 per direction with nonzero variance (4) plus 1"
    )
    assert str(found) == f"a has no error bar: {found.a.note}"
    assert math.isnan(found.stderr)
    assert math.isnan(found.p_value)


@pytest.mark.parametrize("paired", [False, True])
def test_p_values_of_equal_models_are_uniform(paired):
    """300 draws; the test fails with a probability of 1e-4, by the Kolmogorov-Smirnov test and by the binomial."""
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
    with pytest.raises(ValueError, match="samples_a has 50 rows, but samples_b has 49: they cannot be paired"):
        fidfast.compare(rows, rows[1:], REFERENCE, paired=True)
    with pytest.raises(TypeError, match=r"^samples_b: compare needs the \(n, dim\) features themselves"):
        fidfast.compare(rows, REFERENCE, REFERENCE)
    with pytest.raises(ValueError, match="samples_b has dim 3, but reference has dim 4"):
        fidfast.compare(rows, rows[:, :3], REFERENCE)
    with pytest.raises(TypeError, match="samples_a: "):
        fidfast.compare(rows.astype(int), rows, REFERENCE)
    with pytest.raises(
        ValueError, match="samples_b has 2 samples; the jackknife leaves out 1 at a time and needs at least 3"
    ):
        fidfast.compare(rows, rows[:2], REFERENCE)


def test_different_extractors_warn(rng, tmp_path):
    rows = rng.standard_normal((60, 4))
    for name in ("inception", "dino"):
        np.savez(tmp_path / f"{name}.npz", features=rows, extractor=name)
    with pytest.warns(UserWarning, match="different extractors, 'inception' and 'dino'") as warned:
        fidfast.compare(tmp_path / "inception.npz", tmp_path / "dino.npz", REFERENCE)
    assert [warning.filename for warning in warned] == [__file__]


# fid_infinity -------------------------------------------------------------------------------------------------------


def test_fid_infinity_fits_a_line_to_the_distances_of_growing_parts(rng):
    rows, others = rng.standard_normal((1000, 4)) * 1.2, rng.standard_normal((900, 4))
    found = fidfast.fid_infinity(rows, others, num_points=5, min_samples=200, seed=3)
    assert found.num_samples.tolist() == [200, 400, 600, 800, 1000]
    order = np.random.default_rng(3).permutation(1000)
    stats = reference.moments(others)
    exact = []
    for n in found.num_samples:
        mu, sigma = reference.moments(rows[order[:n]])
        root = reference.trace_of_root_sqrtm(sigma, stats[1])
        exact.append(reference.distance(mu, sigma, *stats, root))
    np.testing.assert_allclose(found.distances, exact, rtol=1e-10)
    design = np.stack([1 / found.num_samples, np.ones(5)], axis=1)
    (slope, value), *_ = np.linalg.lstsq(design, np.array(exact), rcond=None)
    assert found.value == pytest.approx(value, rel=1e-9)
    assert found.slope == pytest.approx(slope, rel=1e-8)
    assert found.distances[-1] == pytest.approx(fidfast.fid(rows, others), rel=1e-12)


def test_fid_infinity_with_defaults(rng):
    rows = rng.standard_normal((300, 4))
    found = fidfast.fid_infinity(rows, REFERENCE)
    assert (len(found.num_samples), found.num_samples[0], found.num_samples[-1]) == (15, 150, 300)
    assert found.distances[-1] == pytest.approx(fidfast.fid(rows, REFERENCE), rel=1e-12)
    other = fidfast.fid_infinity(rows, REFERENCE, seed=1)
    assert other.value != found.value
    assert (found.seed, other.seed) == (0, 1)
    again = fidfast.fid_infinity(rows, REFERENCE, seed=0)
    assert (again.value, again.slope) == (found.value, found.slope)


def test_errors_of_fid_infinity(rng):
    rows = rng.standard_normal((50, 4))
    for min_samples in (1, 50, -3):
        with pytest.raises(ValueError, match=f"min_samples must be from 2 to n - 1 = 49, got {min_samples}"):
            fidfast.fid_infinity(rows, REFERENCE, min_samples=min_samples)
    for num_points in (1, 12):
        with pytest.raises(
            ValueError, match=f"num_points must be from 2 to n - min_samples . 1 = 11, got {num_points}"
        ):
            fidfast.fid_infinity(rows, REFERENCE, min_samples=40, num_points=num_points)
    with pytest.raises(ValueError, match=r"^samples has dim 3, but reference has dim 4$"):
        fidfast.fid_infinity(rows[:, :3], REFERENCE)
    with pytest.raises(
        TypeError, match=r"^samples: fid_infinity needs the \(n, dim\) features themselves, got GaussianStats$"
    ):
        fidfast.fid_infinity(REFERENCE, REFERENCE)
    with pytest.raises(ValueError, match=r"^samples: features must be 2-D \(n, dim\), got shape \(4,\)$"):
        fidfast.fid_infinity(rows[0], REFERENCE)
    rows[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"^samples: features hold NaN or infinity; the first such row is 7$"):
        fidfast.fid_infinity(rows, REFERENCE)


class Exporter:
    """An array with the DLPack protocol only."""

    def __init__(self, rows):
        self.__dlpack__ = rows.__dlpack__
        self.__dlpack_device__ = rows.__dlpack_device__


def test_fid_infinity_of_tensors_and_of_anything_with_dlpack(rng):
    torch = pytest.importorskip("torch")
    rows = rng.standard_normal((50, 4)).astype(np.float32)
    expected = fidfast.fid_infinity(rows, REFERENCE, num_points=3)
    for other in (torch.from_numpy(rows), Exporter(rows)):
        np.testing.assert_array_equal(
            fidfast.fid_infinity(other, REFERENCE, num_points=3).distances, expected.distances
        )
