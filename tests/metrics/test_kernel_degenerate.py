"""Kernel distances of degenerate sets: a missing error bar has a reason, and is never 0."""

import math

import numpy as np
import pytest

import fidfast
from fidfast import cmmd, kid, kid_subsets


def rows(n, seed=0, dim=16):
    return np.random.default_rng(seed).standard_normal((n, dim))


def with_a_huge_row(n, seed, factor):
    features = rows(n, seed)
    features[3] *= factor
    return features


CONSTANT = np.tile(rows(1), (50, 1))
DEGENERATE = {
    "equal constants": (CONSTANT, CONSTANT[:40]),
    "two constants": (CONSTANT, np.tile(rows(1, 1), (40, 1))),
    "zeros": (np.zeros((10, 4)), np.zeros((12, 4))),
    "a constant and a sample": (CONSTANT, rows(40, 2)),
    "a huge row in both": (with_a_huge_row(50, 0, 1e3), with_a_huge_row(50, 0, 1e3)),
    "a constant with a huge row": (np.vstack([CONSTANT, 30 * CONSTANT[:1]]),) * 2,
    "few rows with a variance estimate below 0": (rows(5), rows(5, 3)),
    "two rows": (rows(2), rows(2, 1)),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_no_error_bar_but_a_reason(name):
    found = kid(*DEGENERATE[name])
    assert math.isnan(found.stderr)
    assert found.note
    assert "±" not in str(found)
    assert str(found) == f"{found.value:.6g}, without an error bar: {found.note}"
    assert found.to_dict()["stderr"] is None


@pytest.mark.parametrize("seed", range(20))
def test_an_error_bar_is_above_0_or_missing(seed):
    for n in (4, 5, 8):
        found = kid(rows(n, seed), rows(n, seed + 100))
        assert (found.stderr > 0) == (found.note is None)


@pytest.mark.parametrize("factor", [100, 1e4])
def test_a_row_that_outweighs_all_others_is_named(factor):
    found = kid(with_a_huge_row(200, 0, factor), rows(150, 1))
    assert found.caution == "row 3 of samples outweighs all other rows together"
    assert found.stderr >= 0.9 * abs(found.value)  # one row gives both
    assert kid(rows(200), rows(150, 1)).caution is None


def test_a_report_gives_the_reason():
    found = fidfast.report(CONSTANT, rows(40, 2))
    assert "the 50 rows of samples are all equal" in " ".join(found.table().split())


@pytest.mark.parametrize("like", ["torch-fidelity", "torchmetrics", "clean-fid"])
def test_subsets_that_hold_all_rows_have_no_spread(like):
    found = kid_subsets(rows(30), rows(30, 1) + 1, subsets=4, subset_size=30, like=like)
    assert math.isnan(found.std)
    assert str(found) == f"{found.mean:.6g}, no standard deviation of 4 subsets, which all hold the same rows"
    assert found.to_dict()["std"] is None
    assert found.mean == pytest.approx(kid(rows(30), rows(30, 1) + 1).value, rel=1e-9)


def test_one_subset_has_no_spread():
    found = kid_subsets(rows(30), rows(30, 1), subsets=1, subset_size=10)
    assert str(found) == f"{found.mean:.6g}, no standard deviation of 1 subset"
    assert math.isnan(found.std)


def test_subsets_of_one_larger_side_have_a_spread():
    assert kid_subsets(rows(40), rows(30, 1), subsets=4, subset_size=30).std > 0


@pytest.mark.parametrize(("n", "m"), [(4, 20), (8, 71), (6, 109), (40, 45)])
def test_a_long_row_among_few(n, m):
    """It moves the centre of all rows, but must not cost the digits of their kernels."""
    rng = np.random.default_rng(n)
    x, y = (rng.standard_normal((count, 25)) for count in (n, m))
    x[0] = 1e10
    long = [rows.astype(np.longdouble) for rows in (x, y)]
    xx, yy, xy = ((a @ b.T / 25 + 1) ** 3 for a, b in ((long[0], long[0]), (long[1], long[1]), (long[0], long[1])))
    within = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx - np.diag(np.diag(xx)), yy))
    # Products of the long row have relative errors of about 25 eps, the mean over the others may cancel a digit or two.
    assert fidfast.kid(x, y).value == pytest.approx(float(within - 2 * xy.mean()), rel=1e-10)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_few_rows_are_multiplied_in_float64(rng, dtype):
    for n in (4, 5, 60):
        a, b = (rng.uniform(0.5, 4, (n, 6)).astype(dtype) for _ in range(2))
        expected = kid(a.astype(np.float64), b.astype(np.float64))
        # Sums of n^2 kernels of at most (4^2 + 1)^3.
        assert kid(a, b).value == pytest.approx(expected.value, rel=0, abs=1e-15 * 17**3)
        wide = cmmd(a.astype(np.float64), b.astype(np.float64))
        assert cmmd(a, b) == pytest.approx(wide, rel=1e-11)
