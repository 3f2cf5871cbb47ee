"""float32 products, used from dim 512 on: their effect on the distance, and the bound that includes it."""

import copy
import pickle

import numpy as np
import pytest

import fidfast
from fidfast import ClassMoments, GaussianStats, Moments

DIM, N = 512, 1100  # a full block, and a part of one

_rng = np.random.default_rng(12)
_SCALES = 10.0 ** _rng.uniform(-3, 3, DIM)
_DIRECTION = _rng.standard_normal(DIM)
_CENTRES = 1000 * _rng.standard_normal((10, DIM))


def _one_row(rows, factor):
    rows[7] *= factor
    return rows


def _one_column(rows, factor):
    rows[:, 7] *= factor
    return rows


#: Rows whose products in plain float32 changed the distance by up to 1e-3 of it.
KINDS = {
    "normal": lambda rng: rng.standard_normal((N, DIM)),
    "one column x 1,000": lambda rng: _one_column(rng.standard_normal((N, DIM)), 1000),
    "one row x 10,000": lambda rng: _one_row(rng.standard_normal((N, DIM)), 1e4),
    "log-normal": lambda rng: np.exp(2 * rng.standard_normal((N, DIM))),
    "heavy rows": lambda rng: rng.standard_normal((N, DIM)) / np.abs(rng.standard_normal((N, 1))),
    "heavy entries": lambda rng: rng.standard_t(2, (N, DIM)),
    "scales": lambda rng: rng.standard_normal((N, DIM)) * _SCALES,
    "offsets": lambda rng: rng.standard_normal((N, DIM)) + 1e5 * _DIRECTION,
    "mostly zero": lambda rng: np.maximum(rng.standard_normal((N, DIM)) - 2.5, 0),
    "mostly 0.3": lambda rng: np.maximum(rng.standard_normal((N, DIM)) - 1.5, 0.3),
    "one direction": lambda rng: rng.standard_normal((N, DIM)) + 1000 * rng.standard_normal((N, 1)) * _DIRECTION,
    "clusters": lambda rng: rng.standard_normal((N, DIM)) + _CENTRES[rng.integers(0, 10, N)],
    "mostly zero, one row": lambda rng: _one_row(np.maximum(rng.standard_normal((N, DIM)) - 2, 0), 1000),
    "two values": lambda rng: np.where(rng.random((N, DIM)) < 0.35, 0.7, 0),
    "repeated rows": lambda rng: rng.standard_normal((N, DIM))[rng.integers(0, 300, N)],
}


@pytest.mark.grid(keep=5)
@pytest.mark.parametrize("kind", KINDS)
def test_the_distance_changes_by_less_than_its_bound_and_3e_7(rng, kind):
    a, b = (KINDS[kind](rng).astype(np.float32) for _ in range(2))
    terms = fidfast.frechet_terms(a, b)
    exact = fidfast.frechet_terms(a, b, precision="float64")
    error = abs(terms.distance - exact.distance)
    assert error <= terms.rounding
    assert error <= 3e-7 * exact.distance + exact.rounding


def test_the_bound_is_useful(rng):
    """It is a millionth of the distance, and that of float64 for float64 products."""
    rows = rng.standard_normal((2, N, DIM)).astype(np.float32)
    narrow, wide = (fidfast.frechet_terms(*rows, precision=precision) for precision in ("float32", "float64"))
    assert 10 * wide.rounding < narrow.rounding < 1e-6 * narrow.distance
    assert fidfast.frechet_terms(*rows.astype(np.float64)) == wide
    assert fidfast.estimate(*rows).rounding == narrow.rounding


def test_diagonals_are_float64(rng):
    """Also with a row that exceeds all others, and a column that is mostly equal: 1,024 sums of float64."""
    rows = KINDS["one row x 10,000"](rng).astype(np.float32)
    rows[: N // 2 + 100, 3] = 0.1
    rows[:, 100:400] = np.maximum(rows[:, 100:400] - 2, 0)
    rows[8, 200:230] = 1000
    narrow, wide = (Moments.from_features(rows, precision=precision) for precision in ("float32", "float64"))
    found, exact = (np.diag(moments.stats().sigma) for moments in (narrow, wide))
    np.testing.assert_allclose(found, exact, rtol=1e-12)


def test_errors_of_equal_products_do_not_add_up(rng):
    """Products of a few values are all rounded in the same direction: they are computed in float64."""
    rows = np.where(rng.random((30 * 1024, DIM), dtype=np.float32) < 0.4, np.float32(0.7), np.float32(0.1))
    narrow, wide = (Moments.from_features(rows, precision=precision) for precision in ("float32", "float64"))
    np.testing.assert_array_equal(narrow.stats().sigma, wide.stats().sigma)


# The errors of the products ------------------------------------------------------------------------------------------


@pytest.fixture
def moments(rng):
    """All rows are folded: one block."""
    return Moments.from_features(rng.standard_normal((1024, DIM), dtype=np.float32))


def errors_of(collected):
    return collected.stats().product_errors * (collected.num_samples - 1)


def test_errors_are_kept_with_the_moments(moments, tmp_path):
    errors = errors_of(moments)
    assert errors.shape == (DIM,)
    assert np.all(errors > 0)
    moments.save(tmp_path / "moments.npz")
    for same in (copy.copy(moments), pickle.loads(pickle.dumps(moments)), Moments.load(tmp_path / "moments.npz")):
        assert same == moments
        np.testing.assert_array_equal(errors_of(same), errors)
    older = {key: value for key, value in moments.state().items() if key != "0/product_errors"}
    assert errors_of(Moments.from_state(older)).size == 0


def test_squares_of_errors_add_up(moments, rng):
    other = Moments.from_features(rng.standard_normal((2048, DIM), dtype=np.float32))
    errors = np.hypot(errors_of(moments), errors_of(other))
    merged = copy.copy(moments)
    merged.merge(other)
    np.testing.assert_allclose(errors_of(merged), errors, rtol=1e-14)
    np.testing.assert_allclose(errors_of(Moments.from_blocks([moments, other])), errors, rtol=1e-14)
    merged.unmerge(other)  # its products are other sums, whose errors do not cancel
    np.testing.assert_allclose(errors_of(merged), np.hypot(errors, errors_of(other)), rtol=1e-14)
    merged.reset()
    merged.merge(other)
    np.testing.assert_allclose(errors_of(merged), errors_of(other), rtol=1e-14)

    classes = ClassMoments(DIM)
    classes.update(np.zeros((1, DIM), np.float32), "empty")
    with classes._classes_of(["full"]):
        classes["full"].merge(moments)
    np.testing.assert_array_equal(errors_of(ClassMoments.from_state(classes.state())["full"]), errors_of(moments))


def test_float64_products_have_no_errors(rng):
    rows = rng.standard_normal((N, DIM))
    assert errors_of(Moments.from_features(rows)).size == 0
    assert errors_of(Moments.from_features(rows.astype(np.float32), precision="float64")).size == 0
    assert errors_of(Moments.from_features(rows[:, :500].astype(np.float32))).size == 0
    assert errors_of(Moments.from_features(rows[:DIM].astype(np.float32))).size == 0  # kept as rows


def test_errors_are_kept_with_the_statistics(moments, tmp_path):
    stats = moments.stats()
    stats.save(tmp_path / "stats.npz")
    reference = GaussianStats(np.zeros(DIM), np.eye(DIM))
    expected = fidfast.frechet_terms(stats, reference).rounding
    for same in (GaussianStats.load(tmp_path / "stats.npz"), pickle.loads(pickle.dumps(stats))):
        np.testing.assert_array_equal(same.product_errors, stats.product_errors)
        assert fidfast.frechet_terms(same, reference).rounding == expected
    with np.load(tmp_path / "stats.npz") as archive:
        np.savez(tmp_path / "older.npz", mu=archive["mu"], sigma=archive["sigma"])
    older = GaussianStats.load(tmp_path / "older.npz")
    assert older.product_errors.size == 0
    assert fidfast.frechet_terms(older, reference).rounding < expected / 10


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        (np.zeros(2), "product_errors has length 2, but mu has length 3"),
        ([0, -1, 0], "product_errors must be finite and not negative"),
        ([0, np.nan, 0], "product_errors must be finite and not negative"),
    ],
)
def test_invalid_errors(errors, message):
    with pytest.raises(ValueError, match=message):
        GaussianStats(np.zeros(3), np.eye(3), product_errors=errors)
