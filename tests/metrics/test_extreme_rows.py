"""Neighbours, kernels and n-grams of extreme inputs: laws of scale and of swaps, distant rows, ties, huge options."""

import subprocess
import sys

import numpy as np
import pytest
import reference as oracle

import fidfast
from fidfast import NgramCounts, cmmd, kid, kid_subsets, manifold_metrics, mifid, ngram_jsd

KINDS = {
    "normal": lambda rng, n, dim: rng.standard_normal((n, dim)),
    "identical": lambda rng, n, dim: np.tile(np.arange(1.0, dim + 1), (n, 1)),
    "two far clusters": lambda rng, n, dim: rng.standard_normal((n, dim)) * 1e-3 + 1e9 * (np.arange(n)[:, None] % 2),
    "ten clusters": lambda rng, n, dim: (
        (rng.standard_normal((n, dim)) + 100 * np.eye(10, dim)[np.arange(n) % 10])
        * 10.0 ** (2 * (np.arange(n)[:, None] % 10))
    ),
    "a row of 1e20": lambda rng, n, dim: rng.standard_normal((n, dim)) * np.where(np.arange(n) == 7, 1e20, 1)[:, None],
    "pairs": lambda rng, n, dim: np.repeat(rng.standard_normal((n // 2, dim)), 2, axis=0),
    "half zero": lambda rng, n, dim: rng.standard_normal((n, dim)) * (np.arange(n)[:, None] % 2),
    "binary": lambda rng, n, dim: rng.integers(0, 2, (n, dim)).astype(float),
    "few differ": lambda rng, n, dim: np.where(np.arange(n)[:, None] < 9, rng.integers(0, 9, (n, dim)), 3.5),
}


def counts(samples, reference, k, inclusive):
    return np.array(list(manifold_metrics(samples, reference, k=k, inclusive=inclusive))[:4])


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_of_extreme_rows(rng, kind):
    """Equal counts; the shares differ by the rounding of a division."""
    reference, samples = np.split(KINDS[kind](rng, 420, 12), [220])
    for other in (samples, np.vstack([reference[:100], samples[:50]])):
        for k, inclusive in ((1, True), (5, False), (18, True)):
            expected = oracle.manifold_metrics(reference, other, k, inclusive)
            np.testing.assert_allclose(counts(other, reference, k, inclusive), expected, rtol=1e-14)


@pytest.mark.parametrize("kind", ["normal", "a row of 1e20", "ten clusters", "pairs"])
def test_scale_of_neighbours(rng, kind):
    """Powers of 2 do not round, so the counts do not change, even where squares leave the range of float64."""
    reference, samples = np.split(np.round(KINDS[kind](rng, 160, 4), 6), [90])
    expected = counts(samples, reference, 3, True)
    for exponent in (-900, -538, -400, 400, 700, 900):
        scaled = [np.ldexp(rows, exponent) for rows in (samples, reference)]
        np.testing.assert_array_equal(counts(*scaled, 3, True), expected)
    integers = [rows.astype(np.float64) for rows in (rng.integers(0, 500, (60, 3)), rng.integers(0, 500, (50, 3)))]
    denormal = [np.ldexp(rows, -1074) for rows in integers]
    np.testing.assert_array_equal(counts(*denormal, 3, True), counts(*integers, 3, True))


def test_cosines_do_not_depend_on_the_scale(rng):
    samples, reference = rng.standard_normal((60, 5)), rng.standard_normal((50, 5))
    expected = fidfast._core.mean_nearest_cosine_distance(samples, reference, True)
    for exponent in (-1000, -600, 600, 1000):
        rows = np.ldexp(samples, exponent)
        # The norms have a few roundings each.
        assert fidfast._core.mean_nearest_cosine_distance(rows, reference, True) == pytest.approx(expected, rel=1e-13)
    assert mifid(samples, reference) > 0


# Kernels ------------------------------------------------------------------------------------------------------------


def exact_kid(a, b, degree=3):
    """In extended precision, without the kernel's constant and the pairs of a row with itself."""
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)

    def kernel(x, y):
        p = x @ y.T / a.shape[1]
        return p * (3 + p * (3 + p)) if degree == 3 else p  # (1 + p)^3 - 1 without cancellation

    own = [kernel(x, x) for x in (a, b)]
    for values in own:
        np.fill_diagonal(values, 0)
    means = [values.sum() / (len(values) * (len(values) - 1)) for values in own]
    return float(means[0] + means[1] - 2 * kernel(a, b).mean())


@pytest.mark.parametrize("scale", [1e-150, 1e-90, 1e-40, 1e-20, 1e10, 1e27, 1e40, 1e51])
def test_kid_of_any_scale(rng, scale):
    a, b = rng.standard_normal((60, 8)), rng.standard_normal((50, 8)) + 0.5
    small, large = scale < 1e-15, scale > 1e9
    result = kid(a * scale, b * scale)
    # Sums of 3,000 pairs that cancel to a tenth of their size.
    assert result.value == pytest.approx(exact_kid(a * scale, b * scale), rel=1e-12)
    # For small rows the kernel is 1 + 3 x.y / dim, for large ones (x.y / dim)^3, up to the square of 1e-15.
    power, options = (2, {"degree": 1, "gamma": 3 / 8}) if small else (6, {"coef0": 0})
    assert small or large
    assert result.stderr / scale**power == pytest.approx(kid(a, b, **options).stderr, rel=1e-10)


def test_kid_scales_exactly_by_powers_of_2(rng):
    a, b = rng.standard_normal((30, 5)), rng.standard_normal((20, 5)) + 0.5
    for degree in (1, 2, 3, 5):
        one = kid(a, b, degree=degree, coef0=0)
        for exponent in (-500 // degree, -100 // degree, 100 // degree, 500 // degree):
            other = kid(np.ldexp(a, exponent), np.ldexp(b, exponent), degree=degree, coef0=0)
            factor = 2.0 ** (2 * exponent * degree)
            assert (other.value, other.stderr) == (one.value * factor, one.stderr * factor)


def exact_cmmd(a, b, sigma):
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)

    def kernel(x, y):
        return np.expm1(-((x[:, None] - y[None]) ** 2).sum(axis=2) / (2 * np.longdouble(sigma) ** 2))

    return 1000 * float(kernel(a, a).mean() + kernel(b, b).mean() - 2 * kernel(a, b).mean())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [30, 1e3, 1e8, 1e19, 1e38, 1e150, 1e300])
def test_cmmd_with_a_long_row(rng, dtype, size):
    if size > 1e38 and dtype is np.float32:
        return
    a, b = (rng.integers(0, 2, (n, 8)).astype(dtype) for n in (100, 90))
    a[3, 2] = a[4, 2] = size
    # float32 rounds the products, which are at most 256 sigma^2; the distance is about 1 % of a kernel.
    assert cmmd(a, b) == pytest.approx(exact_cmmd(a, b, 10), rel=1e-4)
    long_rows = np.vstack([b, a[3:5]])
    assert cmmd(a, long_rows) == pytest.approx(exact_cmmd(a, long_rows, 10), rel=1e-4)


@pytest.mark.parametrize("sigma", [0.01, 1, 1e3])
def test_kernels_of_rows_of_many_sizes(rng, sigma):
    a, b = (rng.standard_normal((n, 6)) * 10.0 ** rng.uniform(-6, 6, (n, 1)) for n in (80, 70))
    a[:3] = 0
    # w |x - c|^2 is at most 2^20 where products are used, so e has errors of 1e-9 at most.
    assert cmmd(a, b, sigma=sigma) == pytest.approx(exact_cmmd(a, b, sigma), rel=1e-9)
    assert kid(a, b).value == pytest.approx(exact_kid(a, b), rel=1e-12)
    assert kid(a * 1e20, b).value == pytest.approx(exact_kid(a * 1e20, b), rel=1e-12)


@pytest.mark.parametrize("size", [40, 1e6, 1e20])
@pytest.mark.parametrize("orthogonal", [False, True])
def test_kid_beside_a_distant_row(rng, size, orthogonal):
    """Also if its products with all other rows are 0, so that their digits are those of the value."""
    a, b = rng.standard_normal((300, 8)), rng.standard_normal((260, 8)) + 0.5
    if orthogonal:
        a[:, 0] = b[:, 0] = a[5] = 0
        a[5, 0] = size
    else:
        a[5] *= size
        b[7] *= -size
    for degree in (1, 3):
        found = kid(a, b, degree=degree, gamma=1 / 8, coef0=1.0)
        # Sums of 90,000 pairs that cancel to a hundredth of their size.
        assert found.value == pytest.approx(exact_kid(a, b, degree), rel=1e-11)


def test_cmmd_of_many_distant_rows(rng):
    """More than are copied at a time, and than one thread reads at a time."""
    a, b = rng.standard_normal((1300, 4)) * 1e6, rng.standard_normal((700, 4)) * 1e6
    a[::3] /= 1e6
    b[::2] = a[: len(b[::2])] + 0.1
    for dtype in (np.float32, np.float64):
        x, y = a.astype(dtype), b.astype(dtype)
        # Kernels of rows with products have errors of some eps, as w |x - c|^2 is about 1, and all others of eps.
        assert cmmd(x, y, sigma=1) == pytest.approx(exact_cmmd(x, y, 1), rel=1e-11)


def test_cmmd_of_any_scale(rng):
    a, b = rng.standard_normal((40, 6)), rng.standard_normal((30, 6)) + 1
    expected = cmmd(a, b, sigma=1)
    for exponent in (-1000, -500, -200, 200, 500, 1000):
        scaled = cmmd(np.ldexp(a, exponent), np.ldexp(b, exponent), sigma=2.0**exponent)
        assert scaled == pytest.approx(expected, rel=1e-12)  # other centres, so other roundings


def test_swaps_give_the_same_bits(rng):
    texts = [["".join(rng.choice(list("ab c"), 30)) for _ in range(n)] for n in (5, 8)]
    assert ngram_jsd(*texts, n=3) == ngram_jsd(*texts[::-1], n=3)
    for dtype in (np.float32, np.float64):
        for _ in range(40):
            n, m = rng.integers(4, 40, 2)
            a, b = rng.standard_normal((n, 5)).astype(dtype), rng.standard_normal((m, 5)).astype(dtype)
            one, other = kid(a, b), kid(b, a)
            np.testing.assert_array_equal((one.value, one.stderr), (other.value, other.stderr))
            assert one.num_samples == other.num_samples[::-1]
            assert cmmd(a, b) == cmmd(b, a)


# Options ------------------------------------------------------------------------------------------------------------

ROWS = np.random.default_rng(0).standard_normal((20, 4))
BAD_OPTIONS = [
    (lambda value: kid(ROWS, ROWS, degree=value), "degree", (2**31 - 1, 10**30, 101, 0, -1)),
    (lambda value: kid_subsets(ROWS, ROWS, subset_size=5, subsets=value), "subsets", (10**9, 10**30, 0, -1)),
    (lambda value: kid_subsets(ROWS, ROWS, subset_size=value), "subset_size", (10**9, 10**30, 1, -1)),
    (lambda value: kid_subsets(ROWS, ROWS, subset_size=5, seed=value), "seed", (2**32, 10**30, -1)),
    (lambda value: fidfast.precision_recall(ROWS, ROWS, k=value), "k", (20, 2**31 - 1, 10**30, 0, -1)),
    (lambda value: NgramCounts(value), "n", (1025, 10**30, 0, -1)),
    (lambda value: NgramCounts(2).update(["abc"], threads=value), "threads", (10**30, 0, -1)),
    (lambda value: NgramCounts(2).most_common(value), "k", (10**30, -1)),
]


@pytest.mark.parametrize(("call", "name", "values"), BAD_OPTIONS)
def test_bad_integers(call, name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"^{name}[ =].*{value}"):
            call(value)
    for value in (2.5, True, "3", np.ones(2), np.float32(2)):
        with pytest.raises(TypeError, match=f"^{name} must be an integer, got "):
            call(value)


def test_numpy_integers_and_large_options():
    assert kid(ROWS, ROWS[:9] + 1, degree=np.int8(2)) == kid(ROWS, ROWS[:9] + 1, degree=2)
    assert np.isfinite(kid(ROWS, ROWS[:9] + 1, degree=100).value)
    reference = np.random.default_rng(1).standard_normal((600, 2))
    # As many candidates as there are rows.
    radii = np.linalg.norm(reference[:, None] - reference, axis=2).max(axis=1)
    held = np.linalg.norm(reference[:, None] - ROWS[:, :2], axis=2) <= radii[:, None]
    found = fidfast.density_coverage(ROWS[:, :2], reference, k=599, inclusive=True)
    assert found.density == pytest.approx(held.sum() / (599 * 20), rel=1e-14)
    for option in ("gamma", "coef0"):
        for value in ("1", True, [1.0]):
            with pytest.raises(TypeError, match=f"^{option} must be a number"):
                kid(ROWS, ROWS, **{option: value})


# N-grams ------------------------------------------------------------------------------------------------------------

STATE = """
import fidfast, hashlib, random
draw = random.Random(0)
digest = hashlib.sha256()
for n, level in ((2, "char"), (9, "char"), (2, "word")):
    counts = fidfast.NgramCounts(n, level=level)
    counts.update(" ".join(draw.choice(["to", "be", "or", "not", "\\u4e00"]) for _ in range(99)) for _ in range(99))
    for name, array in counts.state().items():
        digest.update(name.encode() + array.tobytes())
    digest.update(repr(counts.most_common(50)).encode())
print(digest.hexdigest())
"""


def test_the_hash_key_of_a_process_affects_no_result():
    command = [sys.executable, "-c", STATE]
    found = {subprocess.run(command, capture_output=True, check=True, cwd="/").stdout for _ in range(2)}
    assert len(found) == 1


def test_state_is_in_the_order_of_the_symbols(rng):
    for n in (1, 5, 40):
        counts = NgramCounts(n)
        counts.update("".join(rng.choice(list("abcd\u4e00"), 200)) for _ in range(5))
        state = counts.state()
        rows = [tuple(row) for row in state["ngrams"]]
        assert rows == sorted(rows)
        assert NgramCounts.from_state(state) == counts
