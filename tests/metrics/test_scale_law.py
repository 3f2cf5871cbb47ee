"""d(s a, s b) = s^2 d(a, b) over the range of float64, d(a, b) = d(b, a), and no NaN."""

import copy
import dataclasses
import math

import numpy as np
import pytest

import fidfast
from fidfast import ClassMoments, GaussianStats, Moments

LARGEST = 2.0**503  # the largest feature that moments accept

#: Exponents of 2: features from 1e-155 to 1e150, so that distances are from 1e-310 to 1e300.
EXPONENTS = (-514, -500, -400, -300, -202, -199, -60, 60, 199, 202, 300, 400, 495)


def rows_of(n, dim, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, dim)) @ rng.standard_normal((dim, dim)) + rng.standard_normal(dim)


def stats_of(rows):
    return GaussianStats(rows.mean(0), np.cov(rows, rowvar=False).reshape(rows.shape[1], -1))


PAIRS = {
    "rows": (rows_of(60, 5, 0), rows_of(50, 5, 1)),
    "few rows": (rows_of(6, 8, 2), rows_of(5, 8, 3)),
    "few and many rows": (rows_of(6, 8, 4), rows_of(60, 8, 5)),
    "one unit": (rows_of(9, 1, 6), rows_of(9, 1, 7)),
    "rank 1": (np.outer(np.arange(9.0), [1.0, 2, 3]), rows_of(50, 3, 8)),
    "dim 40": (rows_of(300, 40, 9), rows_of(300, 40, 10)),  # by eigenvalues
}


def scaled(stats, exponent):
    factor = math.ldexp(1.0, exponent)
    return GaussianStats(stats.mu * factor, stats.sigma * factor * factor)


@pytest.mark.parametrize("name", PAIRS)
def test_powers_of_two_change_no_digit(name):
    rows = PAIRS[name]
    stats = tuple(map(stats_of, rows))
    base, of_stats = fidfast.frechet_terms(*rows), fidfast.frechet_terms(*stats)
    for exponent in EXPONENTS if name != "dim 40" else (-500, -202, 199, 400):
        large = [np.ldexp(side, exponent) for side in rows]
        for terms, expected in (
            (fidfast.frechet_terms(*large), base),
            (fidfast.frechet_terms(*(scaled(side, exponent) for side in stats)), of_stats),
        ):
            for field in ("mean_term", "trace_samples", "trace_reference", "trace_root", "distance"):
                value, unscaled = getattr(terms, field), getattr(expected, field)
                if exponent > -490:
                    assert value == math.ldexp(unscaled, 2 * exponent), (field, exponent)
                else:  # covariances are subnormal
                    assert abs(value - math.ldexp(unscaled, 2 * exponent)) <= terms.rounding
        assert fidfast.fid(*large) == fidfast.frechet_terms(*large).distance


@pytest.mark.parametrize("scale", [1e-150, 1e-100, 1e-40, 1e27, 1e100, 1e149])
def test_other_factors_change_the_distance_by_rounding(scale):
    for rows in PAIRS.values():
        base = fidfast.frechet_terms(*rows)
        terms = fidfast.frechet_terms(*(side * scale for side in rows))
        # The features are rounded too: as much as a few roundings of all terms.
        size = base.mean_term + base.trace_samples + base.trace_reference
        assert abs(terms.distance / scale**2 - base.distance) <= base.rounding + 1e-14 * size


@pytest.mark.parametrize(("small", "large"), [(1e-200, 1e100), (1e-300, 1e300), (5e-324, 1.0), (1e-300, 1e-10)])
def test_sides_of_different_scales(small, large):
    sigma = np.array([[2.0, 1], [1, 3]])
    one, other = GaussianStats([0, 0], sigma * small), GaussianStats([0, 0], np.eye(2) * large)
    terms = fidfast.frechet_terms(one, other)
    # tr sigma^(1/2) = sqrt(tr sigma + 2 sqrt(det sigma)) in dim 2
    root = math.sqrt(5 + 2 * math.sqrt(5)) * math.sqrt(small) * math.sqrt(large)
    assert terms.trace_root == pytest.approx(root, rel=1e-15)
    assert terms.distance == pytest.approx(2 * large + 5 * small - 2 * root, rel=1e-15)


def test_numbers_far_apart_in_one_covariance():
    first, second = np.array([1e300, 1e-300, 0]), np.array([1e-300, 1e300, 1])
    terms = fidfast.frechet_terms(
        GaussianStats(np.zeros(3), np.diag(first)), GaussianStats(np.zeros(3), np.diag(second))
    )
    assert terms.distance == pytest.approx(2e300)


def test_means_alone():
    for mu in (1e-155, 1e-100, 1e100, 1e150):
        distance = fidfast.frechet_distance(
            GaussianStats([mu, 0], np.eye(2) * mu * 1e-20), GaussianStats([0, mu], np.eye(2) * mu * 1e-20)
        )
        assert distance == pytest.approx(2 * mu * mu, rel=1e-14)


def test_the_largest_statistics():
    one, other = (GaussianStats(np.zeros(3), np.eye(3) * size) for size in (1.7e308, 1.5e308))
    # Both traces exceed the largest float64; the distance does not.
    expected = 3 * (math.sqrt(1.7) - math.sqrt(1.5)) ** 2 * 1e308
    assert fidfast.frechet_distance(one, other) == pytest.approx(expected, rel=1e-13)
    with pytest.raises(
        ValueError, match=r"^samples: the distance.*too large for float64 \(1.8e\+308\).* up to 1.7e\+308$"
    ):
        fidfast.frechet_terms(one, other)
    far = GaussianStats(np.full(3, 1e200), np.eye(3))
    for call in (fidfast.frechet_distance, fidfast.frechet_terms):
        with pytest.raises(ValueError, match=r"^reference: the distance.* its mu has magnitudes up to 1e\+200"):
            call(GaussianStats(np.zeros(3), np.eye(3)), far)
        assert getattr(call(far, far), "distance", 0) == 0


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_nan(seed):
    """Any scales of both sides give a number or a ValueError."""
    rng = np.random.default_rng(seed)
    for _ in range(60):
        dim = rng.integers(1, 4)
        sides = [
            GaussianStats(
                10.0 ** rng.uniform(-320, 308) * rng.standard_normal(dim),
                np.cov(rng.standard_normal((dim, 9))).reshape(dim, dim) * 10.0 ** rng.uniform(-323, 307),
            )
            for _ in range(2)
        ]
        for call in (fidfast.frechet_distance, fidfast.frechet_terms):
            try:
                result = call(*sides)
            except ValueError as error:
                text = str(error)
                assert "too large for float64" in text
            else:
                fields = (result,) if isinstance(result, float) else dataclasses.astuple(result)
                values = [value for value in fields if isinstance(value, float)]
                assert np.isfinite(values).all()
                assert min(values) >= 0


def test_the_transport_map_scales():
    rows = PAIRS["rows"]
    base = fidfast.transport_map(*rows)
    for exponent in (-400, -250, 250, 400):
        both = [np.ldexp(side, exponent) for side in rows]
        np.testing.assert_array_equal(fidfast.transport_map(*both), base)
        moved = fidfast.transport_map(both[0], rows[1])  # roots of odd powers of 2 are rounded
        np.testing.assert_allclose(np.ldexp(moved, exponent), base, rtol=0, atol=1e-13 * np.abs(base).max())
    with pytest.raises(ValueError, match=r"^reference: the transport map is too large for float64"):
        fidfast.transport_map(GaussianStats([0.0], [[5e-324]]), GaussianStats([0.0], [[1e308]]))


@pytest.mark.parametrize("moments", [Moments(3), Moments(3, blocks=2), Moments(60), ClassMoments(3)], ids=repr)
def test_moments_refuse_features_whose_squares_overflow(moments):
    rows = np.ones((8, moments.dim))
    add = (lambda r: moments.update(r, np.arange(8) % 2)) if isinstance(moments, ClassMoments) else moments.update
    add(rows)
    before = copy.copy(moments)
    rows[5, 1] = -1e155
    with pytest.raises(
        ValueError, match=r"row 5 holds a magnitude of 1e\+155, and the largest that is accepted is 2.62e\+151$"
    ):
        add(rows)
    assert moments == before
    rows[5, 1] = LARGEST
    add(rows)


def test_accepted_features_can_be_saved_and_loaded(tmp_path):
    for dim in (3, 60):
        rows = np.random.default_rng(dim).choice([-LARGEST, LARGEST], (50, dim))
        moments = Moments.from_features(rows)
        moments.save(tmp_path / "moments.npz")
        moments.stats().save(tmp_path / "stats.npz")
        assert Moments.load(tmp_path / "moments.npz") == moments
        distance = fidfast.frechet_distance(tmp_path / "stats.npz", rows[:20] / 2)
        assert distance == pytest.approx(fidfast.fid(moments, rows[:20] / 2), rel=1e-9)


def test_rows_are_counted_from_the_first_slice(monkeypatch):
    monkeypatch.setattr(fidfast._stats.slices, "ROWS_PER_SLICE", 10)
    rows = np.ones((30, 2))
    rows[25] = 1e160
    with pytest.raises(ValueError, match=r"^the squares of the features[^:]*: row 25 holds"):
        Moments.from_features(rows)


@pytest.mark.parametrize("dim", [1, 3, 40])
def test_exchanging_the_arguments_changes_no_bit(dim):
    for seed in range(40 if dim < 40 else 4):
        rng = np.random.default_rng(seed)
        sides = [rows_of(rng.choice([3, dim + 1, 60]), dim, [seed, k]) for k in range(2)]
        if seed % 4 == 0:  # equal traces
            sides[1] = sides[0][:, ::-1] + seed % 8
        if seed % 4 == 1:
            sides = [stats_of(side) for side in sides]
        forth, back = fidfast.frechet_terms(*sides), fidfast.frechet_terms(*sides[::-1])
        exchanged = dataclasses.replace(
            back,
            trace_samples=back.trace_reference,
            trace_reference=back.trace_samples,
            note=forth.note,  # names the sides
        )
        assert forth == exchanged
        assert fidfast.fid(*sides) == fidfast.fid(*sides[::-1]) == forth.distance


@pytest.mark.parametrize("exponent", [-1000, -530, 503, 510, 1000])
def test_features_whose_squares_leave_the_range(exponent):
    """The law holds for features that moments cannot hold; a distance that float64 cannot represent is an error."""
    for rows in PAIRS.values():
        base, large = fidfast.frechet_terms(*rows), [np.ldexp(side, exponent) for side in rows]
        np.testing.assert_array_equal(fidfast.transport_map(*large), fidfast.transport_map(*rows))
        if abs(exponent) == 1000:
            for metric in (fidfast.fid, fidfast.frechet_distance, fidfast.frechet_terms):
                with pytest.raises(ValueError, match=r"^(features_a|samples|features_b|reference): the squares"):
                    metric(*large)
        elif math.log2(max(base.trace_samples, base.trace_reference, base.mean_term)) + 2 * exponent < 1023:
            # Subnormal distances are rounded to units of 2^-1074.
            expected = math.ldexp(base.distance, 2 * exponent)
            assert fidfast.fid(*large) == fidfast.frechet_distance(*large) == expected
            terms = fidfast.frechet_terms(*large)
            assert terms.distance == expected
            assert terms.rounding >= math.ldexp(base.rounding, 2 * exponent)


def test_equal_rows_of_any_size():
    for size in (5e-324, 1e-300, 1e200, 1.7e308):
        rows = np.full((9, 3), size)
        assert fidfast.fid(rows, rows[:5]) == fidfast.frechet_terms(rows, rows[:5]).distance == 0


def test_map_between_units():
    """T(s a, t b) = t / s T(a, b)."""
    one, two = PAIRS["rows"]
    expected = np.ldexp(fidfast.transport_map(one, two), 600)
    np.testing.assert_array_equal(fidfast.transport_map(np.ldexp(one, -600), two), expected)
    with pytest.raises(ValueError, match="samples: the transport map is too large"):
        fidfast.transport_map(np.ldexp(one, -600), np.ldexp(two, 600))
