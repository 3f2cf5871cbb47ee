"""Error bars of rows that belong to groups: laws, coverage for correlated rows, arguments."""

import re

import numpy as np
import pytest
import torch

import fidfast
from fidfast import GaussianStats, compare, estimate
from fidfast._metrics.groups import MAX_BLOCKS

DIM = 4
EXACT = GaussianStats(np.full(DIM, 0.2), np.diag([2.0, 1.0, 0.5, 1.5]))


def numbers(found):
    return [found.value, found.unbiased, found.stderr]


def frames(rng, groups, size, correlation, dim=DIM):
    """Rows of variance 1 whose correlation within a group is given, and their groups."""
    common = np.repeat(rng.standard_normal((groups, dim)), size, axis=0)
    rows = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * rng.standard_normal((groups * size, dim))
    return rows, np.repeat(np.arange(groups), size)


# Laws ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampled", [False, True])
def test_rows_that_are_groups_of_their_own(rng, sampled):
    rows, other = rng.standard_normal((100, DIM)), rng.standard_normal((90, DIM))
    reference, groups = (other, (np.arange(100), None)) if sampled else (EXACT, np.arange(100))
    assert estimate(rows, reference, groups=groups) == estimate(rows, reference)


@pytest.mark.parametrize("times", [2, 25])
@pytest.mark.parametrize("sampled", [False, True])
def test_groups_of_equal_rows_count_once(rng, times, sampled):
    n = MAX_BLOCKS  # with more groups several are left out at once
    once = rng.standard_normal((n, DIM))
    rows, groups = np.repeat(once, times, axis=0), np.repeat(np.arange(n), times)
    reference = rng.standard_normal((500, DIM)) * 1.3 if sampled else EXACT
    expected = estimate(once, reference)
    found = estimate(rows, reference, groups=(groups, None))
    # The unbiased covariance of t n rows is smaller by t (n - 1) / (t n - 1), at least 1 - 1 / n, and so the distance
    # changes by at most 1 / n of the traces. The jackknife leaves the second order of that, 1 / n^2.
    traces = 2 * np.trace(np.cov(once.T)) + np.trace(EXACT.sigma)
    assert found.unbiased == pytest.approx(expected.unbiased, abs=2 * traces / n**2)
    # To first order, the standard error changes by 1 / n, twice as much with the terms of second order.
    assert found.stderr == pytest.approx(expected.stderr, rel=2 / n)
    assert found.note is None
    assert "repeat" not in (found.caution or "")


def test_names_and_order_do_not_matter(rng):
    rows, groups = frames(rng, 60, 5, 0.5)
    expected = numbers(estimate(rows, EXACT, groups=groups))
    names = np.array([f"video {group}" for group in range(60)])[groups]
    order = rng.permutation(300)
    by_name = numbers(estimate(rows, EXACT, groups=names))
    for labels in (names.tolist(), names.astype(object)):
        assert numbers(estimate(rows, EXACT, groups=labels)) == by_name
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        assert numbers(estimate(rows, EXACT, groups=names.astype("T"))) == by_name
    undecodable = [f"{name}\udcff" for name in names]  # as os.listdir returns it
    assert estimate(rows, EXACT, groups=undecodable).value == expected[0]
    assert numbers(estimate(rows, EXACT, groups=torch.from_numpy(groups))) == expected
    # The sums of the rows have another order: rounding, 1e-16 times the number of rows and the condition of sums.
    assert numbers(estimate(rows[order], EXACT, groups=groups[order])) == pytest.approx(expected, rel=1e-9)


def test_groups_that_are_not_correlated_change_little(rng):
    rows, groups = frames(rng, 2000, 3, 0.0)
    found, expected = estimate(rows, EXACT, groups=groups), estimate(rows, EXACT)
    # 40 blocks determine the standard error to 1 / sqrt(2 * 39), 11 %: four times that.
    assert found.stderr == pytest.approx(expected.stderr, rel=0.45)
    assert found.unbiased == pytest.approx(expected.unbiased, abs=0.2 * expected.stderr)
    assert found.degrees_of_freedom == MAX_BLOCKS - 1


def test_equal_rows_of_different_groups_are_reported(rng):
    rows, groups = frames(rng, 200, 3, 0.9)
    rows[3:6] = rows[0:3] = rows[0]  # one group repeats another, and all rows of both are equal
    found = estimate(rows, EXACT, groups=groups)
    assert "1 of the 600 rows of samples repeat earlier ones" in found.caution


# Simulations --------------------------------------------------------------------------------------------------------


def coverage(rng, draws, dim, groups, size, correlation, sampled):
    """Coverage with and without groups; bias of the first, and its error bar, in standard deviations."""
    reference = GaussianStats(np.full(dim, 0.2), np.diag(np.linspace(0.5, 2, dim)))
    exact = fidfast.frechet_distance(GaussianStats(np.zeros(dim), np.eye(dim)), reference)
    root = np.sqrt(np.diag(reference.sigma))
    grouped, single = [], []
    for _ in range(draws):
        rows, labels = frames(rng, groups, size, correlation, dim)
        other, both = reference, labels
        if sampled:
            others, of_other = frames(rng, groups, size, correlation, dim)
            other, both = others * root + 0.2, (labels, of_other)
        grouped.append(estimate(rows, other, groups=both))
        single.append(estimate(rows, other))
    inside = [
        np.mean([low <= exact <= high for low, high in (each.interval() for each in found)])
        for found in (grouped, single)
    ]
    unbiased = np.array([each.unbiased for each in grouped])
    stderr = np.sqrt(np.mean([each.stderr**2 for each in grouped]))
    return inside, (unbiased.mean() - exact) / unbiased.std(ddof=1), stderr / unbiased.std(ddof=1)


CASES = [(8, 50, 6, 0.8, False, 24)]
LARGE = [
    (32, 161, 4, 1.0, False, 60),
    (32, 161, 4, 0.5, False, 60),
    (32, 161, 8, 0.9, True, 60),
    (32, 400, 4, 0.0, True, 60),
]


@pytest.mark.parametrize(
    ("dim", "groups", "size", "correlation", "sampled", "draws"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in LARGE)],
)
def test_coverage(dim, groups, size, correlation, sampled, draws):
    (inside, ignored), bias, ratio = coverage(np.random.default_rng(5), draws, dim, groups, size, correlation, sampled)
    # At least 91 %, minus three standard errors of a share of so many draws.
    assert inside >= 0.91 - 3 * np.sqrt(0.91 * 0.09 / draws)
    if correlation > 0:
        assert ignored < inside - 0.1  # what groups are for
    # Within 20 %, plus three standard errors of a standard deviation.
    assert abs(ratio - 1) <= 0.2 + 3 / np.sqrt(2 * draws)
    # At most 0.4 standard deviations, plus three standard errors of the mean.
    assert abs(bias) <= 0.4 + 3 / np.sqrt(draws)


# Comparisons --------------------------------------------------------------------------------------------------------


def test_paired_groups_of_equal_rows_count_once(rng):
    one = rng.standard_normal((MAX_BLOCKS, DIM))
    two = one + 0.3 * rng.standard_normal((MAX_BLOCKS, DIM))
    reference = rng.standard_normal((500, DIM)) * 1.3
    groups = np.repeat(np.arange(MAX_BLOCKS), 5)
    expected = compare(one, two, reference, paired=True)
    found = compare(
        np.repeat(one, 5, axis=0), np.repeat(two, 5, axis=0), reference, paired=True, groups=(groups, groups, None)
    )
    # As above: differences of the order of 1 / n.
    assert found.stderr == pytest.approx(expected.stderr, rel=4 / MAX_BLOCKS)
    assert found.difference == pytest.approx(expected.difference, abs=0.2 * expected.stderr)


def test_pairs_are_left_out_together_whatever_the_names(rng):
    one, groups = frames(rng, 2 * MAX_BLOCKS, 5, 0.5)
    two, names = one * 1.1, np.array([f"run/{7 * group}" for group in groups])
    expected = compare(one, two, EXACT, paired=True, groups=(groups, groups, None))
    assert compare(one, two, EXACT, paired=True, groups=(groups, names, None)) == expected


def test_groups_of_the_reference_of_a_comparison(rng):
    """Blocks of equal names are left out of both distances, so that their variation cancels."""
    reference, groups = frames(rng, 80, 6, 0.9)
    samples = rng.standard_normal((500, DIM))
    found = compare(samples, samples + 1e-9, reference, paired=True, groups=(None, None, groups))
    assert found.stderr < 1e-6 * found.a.stderr


# Arguments ----------------------------------------------------------------------------------------------------------

ROWS = np.random.default_rng(1).standard_normal((20, DIM))
LABELS = np.arange(20) // 2
ERRORS = {
    "groups of samples has 19 labels, but samples has 20 rows": lambda: estimate(ROWS, EXACT, groups=LABELS[1:]),
    "groups of reference has 10 labels, but reference has 20 rows": lambda: estimate(
        ROWS, ROWS + 1, groups=(LABELS, LABELS[:10])
    ),
    "groups must be a tuple (groups_of_samples, groups_of_reference), since reference has samples too": lambda: (
        estimate(ROWS, ROWS + 1, groups=LABELS)
    ),
    "groups must have 2 items, one for each of samples, reference; got 3": lambda: estimate(
        ROWS, EXACT, groups=(LABELS, None, None)
    ),
    "groups of samples has 1 group; the jackknife leaves out one group and needs at least 2": lambda: estimate(
        ROWS, EXACT, groups=[7] * 20
    ),
    "groups of samples must be 1-D (n,), got shape (20, 1)": lambda: estimate(ROWS, EXACT, groups=LABELS[:, None]),
    "groups of samples must be integers or strings, got float64": lambda: estimate(ROWS, EXACT, groups=LABELS / 2),
    "groups of samples must be integers or strings, got None": lambda: estimate(
        ROWS, EXACT, groups=[None, *map(str, LABELS[1:])]
    ),
    "groups of samples must be integers or strings, got nan": lambda: estimate(
        ROWS, EXACT, groups=[float("nan"), *map(str, LABELS[1:])]
    ),
    "samples has 20 samples; the jackknife leaves out 19 at a time and needs at least 21": lambda: estimate(
        ROWS, EXACT, groups=[1] + [0] * 19
    ),
    "groups must be a tuple (groups_of_samples_a, groups_of_samples_b, groups_of_reference), since samples_b and "
    "reference have samples too": lambda: compare(ROWS, ROWS + 1, ROWS + 2, groups=LABELS),
    "samples: groups needs the (n, dim) features themselves, got Moments": lambda: estimate(
        fidfast.Moments.from_features(ROWS), ROWS, groups=(LABELS, None)
    ),
    "groups of samples_a and samples_b must be equal, since their rows are paired": lambda: compare(
        ROWS, ROWS + 1, EXACT, paired=True, groups=(LABELS, LABELS[::-1] // 2, None)
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    with pytest.raises((TypeError, ValueError), match="^" + re.escape(message)):
        ERRORS[message]()


def test_few_groups_have_no_error_bar(rng):
    rows, groups = frames(rng, 8, 50, 1.0)
    found = estimate(rows, EXACT, groups=groups)
    assert found.note.startswith("samples has 400 samples in 8 groups, worth 8 independent samples; an error bar needs")
