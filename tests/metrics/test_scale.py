"""``d(s a, s b) = s^2 d(a, b)``: error bars, comparisons and extrapolations in any unit, and of equal rows."""

import numpy as np
import pytest

import fidfast
from fidfast import ClassMoments, GaussianStats, Moments

#: Exponents of the unit. 2^-530: all numbers below are at least 2^-1074, the least of float64.
EXPONENTS = (-530, -300, -133, -41, -40, -1, 3, 40, 41, 90, 300, 480)
EXPONENTS_OF_FLOAT32 = (-60, -41, 7, 41, 90, 120)

METRICS = {
    "estimate": lambda a, b, c: fidfast.estimate(a, c),
    "compare": lambda a, b, c: fidfast.compare(a, b, c),
    "paired": lambda a, b, c: fidfast.compare(a, b, c, paired=True),
    "influence": lambda a, b, c: fidfast.influence(a, c),
    "fid_infinity": lambda a, b, c: fidfast.fid_infinity(a, c, num_points=4),
    "mifid": lambda a, b, c: fidfast.mifid(a, c),
    "estimate of blocks": lambda a, b, c: fidfast.estimate(in_blocks(a), in_blocks(c)),
    "estimate of statistics": lambda a, b, c: fidfast.estimate(a, statistics(c)),
}


def in_blocks(rows):
    moments = Moments(rows.shape[1], blocks=20)
    moments.update(rows)
    return moments


def statistics(rows):
    stats = Moments.from_features(rows[:3]).stats()  # of low rank
    if rows.dtype == np.float32:
        stats = Moments.from_features(rows).stats()
    return GaussianStats(stats.mu, stats.sigma, num_samples=stats.num_samples)


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(5)
    a, b = random.normal(size=(2, 120, 4)) * 1.1
    return a, b, random.normal(size=(160, 4)) + 0.1


def scaled(result, exponent):
    """The result for features that are multiplied by 2^exponent."""
    if isinstance(result, float):
        return np.ldexp(result, 2 * exponent)
    if isinstance(result, np.ndarray):
        return np.ldexp(result, 2 * exponent).tolist()
    squares = {"value", "stderr", "bias", "difference", "slope", "distances"}
    entries = result.to_dict()
    for side in ("a", "b"):
        if side in entries:
            entries[side] = scaled(getattr(result, side), exponent)
    # The bound of the rounding is at least the least number of float64.
    return {
        key: np.ldexp(value, 2 * exponent).tolist() if key in squares else value
        for key, value in entries.items()
        if key not in ("rounding", "unbiased", "interval_95")
    }


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_distances_scale_with_the_square_of_the_unit(rows, name, dtype):
    """Bit by bit, since powers of 2 are exact."""
    sides = [side.astype(dtype) for side in rows]
    expected = METRICS[name](*sides)
    exponents = EXPONENTS if dtype == np.float64 else EXPONENTS_OF_FLOAT32
    for exponent in (
        exponents[1:] if name == "estimate of statistics" else exponents
    ):  # sigma has lost digits in the first
        found = METRICS[name](*(np.ldexp(side, exponent) for side in sides))
        assert scaled(found, 0) == scaled(expected, exponent), exponent


def test_two_models_in_different_units(rows):
    """The p-value is that of the worse model alone, whose distance is 2^160 times larger."""
    a, b, c = rows
    found = fidfast.compare(np.ldexp(a, 80), b, c)
    alone = fidfast.estimate(np.ldexp(a, 80), c)
    assert found.difference == pytest.approx(alone.unbiased)
    assert 0 < found.p_value < 1e-10
    assert np.isfinite([found.stderr, found.b.stderr, found.degrees_of_freedom]).all()
    assert found.b.stderr == fidfast.estimate(b, c).stderr


def test_any_factor(rows):
    """Other factors than powers of 2 round the features, by eps / 2 each."""
    a, _, c = rows
    expected = fidfast.estimate(a, c)
    for factor in (1e-150, 1e-40, 1e27, 3e140):
        found = fidfast.estimate(factor * a, factor * c)
        for name in ("value", "stderr", "bias"):
            assert getattr(found, name) / factor / factor == pytest.approx(getattr(expected, name), rel=1e-12)


def test_results_outside_of_float64_are_errors(rows):
    a, b, c = rows
    calls = (METRICS["estimate"], METRICS["compare"], METRICS["influence"], METRICS["fid_infinity"], METRICS["mifid"])
    for exponent, size in ((-600, "e-18"), (600, r"e\+18"), (1000, r"e\+30")):
        for call in calls:
            with pytest.raises(
                ValueError, match=f"leave the range of float64 .*their largest magnitude is [0-9.]*{size}"
            ):
                call(*(np.ldexp(side, exponent) for side in (a, b, c)))


@pytest.mark.parametrize("scale", [1e-170, 1.0, 1e120])
def test_class_distances(rows, scale):
    a, _, c = rows
    labels = np.arange(len(a)) % 2
    sides = []
    for side in (a, c):
        sides.append(ClassMoments(4))
        sides[-1].update(side[: len(a)] * max(scale, 1e-150), labels)
    found = fidfast.class_distances(*sides)
    assert found.mean == pytest.approx(sum(found.distances.values()) / 2, rel=1e-15)
    assert found.mean > 0


# Equal rows -----------------------------------------------------------------------------------------------------------

FIRST, SECOND = np.array([1.0, 2, 3]), np.array([3.0, 3, 3 + np.sqrt(2)])


@pytest.mark.parametrize("n", [3, 5, 50])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_two_collapsed_sets(n, offset):
    """Their distance is that of the two points, 7; there is no error bar."""
    a, b = np.tile(FIRST, (n, 1)) + offset, np.tile(SECOND, (n, 1)) + offset
    found = fidfast.estimate(a, b)
    # Rounding of the offset: eps / 2 of it in each coordinate, times 2 |d|.
    assert found.value == pytest.approx(7, abs=1e-14 + 20 * offset * np.finfo(float).eps)
    assert found.value == fidfast.fid(a, b)
    assert found.note == f"the {n} rows of samples are all equal"
    assert np.isnan(found.stderr)
    np.testing.assert_array_equal(fidfast.influence(a, b), np.zeros(n))
    assert "no error bar" in str(fidfast.compare(a, a, b))


def test_other_sets_without_directions(rows):
    collapsed, other = np.tile(FIRST, (40, 1)), rows[2][:, :3]
    line = np.outer(other[:, 0], FIRST)
    still = other * [0, 1, 1]
    one_more = np.concatenate([collapsed, collapsed[:1] + 1])
    nothing = np.zeros((40, 3))
    for a, b in (
        (collapsed, other), (other, collapsed), (line, other), (line, collapsed), (one_more, collapsed + 2),
        (one_more, one_more + 1), (still, other), (nothing, other), (nothing, collapsed), (nothing, nothing),
    ):  # fmt: skip
        found = fidfast.estimate(a, b)
        assert found.value == fidfast.fid(a, b) >= 0
        assert (found.note is None) == np.isfinite(found.stderr)
        without = fidfast.fid(a[1:], b)
        # The distance without a row, to the quadrature error of the jackknife (3e-9 of each root).
        assert fidfast.influence(a, b)[0] == pytest.approx(found.value - without, abs=1e-6 * (1 + found.value))
    with pytest.raises(
        ValueError, match="samples has 2 samples; the jackknife leaves out 1 at a time and needs at least"
    ):
        fidfast.estimate(collapsed[:2], other)
