"""`precision_recall(like=)`: equal to guided-diffusion's rule in NumPy, and to StyleGAN3's rule with `torch.cdist`.

The features are such that products of their float16 have sums that are exact in float32, in any order.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from fidfast import _core, precision_recall

TOOLS = ["adm", "stylegan3"]


def norms(rows):
    """Squared norms whose squares and sums are rounded to the dtype of the rows."""
    return (rows * rows).sum(axis=1, dtype=np.float64).astype(np.float32).astype(rows.dtype)


def products(one, two):
    """Sums in float32, rounded to the dtype of the rows."""
    return (one.astype(np.float32) @ two.astype(np.float32).T).astype(one.dtype)


def adm_block(one, two):
    """`DistanceBlock` of guided-diffusion's evaluator."""
    for dtype in (np.float16, np.float32):
        u, v = one.astype(np.float32).astype(dtype), two.astype(np.float32).astype(dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            distances = np.maximum(norms(u)[:, np.newaxis] - dtype(2) * products(u, v) + norms(v), dtype(0))
        if np.isfinite(distances).all():
            return distances.astype(np.float32)
    return distances


def adm_distances(one, two, size):
    """Of all rows, in blocks."""
    return np.block([[adm_block(one[i : i + size], two[j : j + size]) for j in range(0, len(two), size)]
                     for i in range(0, len(one), size)])  # fmt: skip


def stylegan3_distances(one, two, _):
    """What StyleGAN3's `compute_distances` calls. Matrix products, since there are more than 25 rows."""
    return torch.cdist(*(torch.from_numpy(rows).float().half() for rows in (one, two))).float().numpy()


DISTANCES = {"adm": adm_distances, "stylegan3": stylegan3_distances}


def expected(samples, reference, ks, like, block=10_000):
    """Precision and recall for each k."""
    pairs = (reference, reference), (samples, samples), (reference, samples)
    of_reference, of_samples, between = (DISTANCES[like](*pair, block) for pair in pairs)
    for k in ks:
        radii = [np.sort(distances, axis=1)[:, k] for distances in (of_reference, of_samples)]
        precision = (between <= radii[0][:, np.newaxis]).any(axis=0).mean()
        yield k, (precision, (between <= radii[1]).any(axis=1).mean())


def fractions(rng, n):
    """8 bits after the point: norms and products have up to 22 bits, of which float16 keeps 11."""
    return rng.integers(0, 2**8, (n, 24)) / 2**7


def signed(rng, n):
    return rng.integers(-(2**7), 2**7, (n, 24)) / 2**6


def unrounded(rng, n):
    """A fifth of a unit in the last place from the numbers above."""
    return fractions(rng, n) * (1 + 0.2 * 2.0**-11)


def lattice(rng, n):
    """Many equal distances."""
    return rng.integers(0, 3, (n, 9)).astype(float)


def repeated(rng, n):
    return fractions(rng, 5)[rng.integers(0, 5, n)]


def integers(rng, n):
    """Some sums of norms are above 65,504, and others not."""
    return rng.integers(0, 45, (n, 24)).astype(float)


def close(rng, n):
    """Norms of about 40,000, so that a doubled product is infinite in float16, and the distance is 0."""
    return 40.0 + rng.integers(0, 2, (n, 24))


def tiny(rng, n):
    """Squares are subnormal float16 numbers, or 0."""
    return rng.integers(0, 2**8, (n, 24)) / 2**20


def huge(rng, n):
    """Norms are infinite in float16."""
    return rng.integers(0, 200, (n, 24)).astype(float)


def mixed(rng, n):
    """One row in 20 makes its block infinite."""
    rows = fractions(rng, n)
    rows[::20] *= 2**8
    return rows


KINDS = [fractions, signed, unrounded, lattice, repeated, integers, close, tiny, huge, mixed]


@pytest.mark.parametrize("kind", KINDS)
def test_guided_diffusion(rng, kind):
    samples, reference = kind(rng, 41), kind(rng, 53)
    samples[:4] = reference[:4]
    for k, numbers in expected(samples, reference, (1, 2, 3, 40), "adm"):
        assert tuple(precision_recall(samples, reference, k=k, like="adm"))[:2] == numbers
    for block in (9, 30):
        for k, numbers in expected(samples, reference, (1, 3), "adm", block):
            assert _core.rounded_precision_recall(samples, reference, k, False, block) == numbers


@pytest.mark.parametrize("kind", KINDS)
def test_stylegan3(rng, kind):
    samples, reference = kind(rng, 41), kind(rng, 53)
    samples[:4] = reference[:4]
    for k, numbers in expected(samples, reference, (1, 2, 3, 40), "stylegan3"):
        assert tuple(precision_recall(samples, reference, k=k, like="stylegan3"))[:2] == numbers


@pytest.mark.parametrize("like", TOOLS)
def test_many_tiles(rng, like):
    """At dim 2^14 a tile has 256 x 128 rows."""
    samples, reference = (rng.integers(0, 2**4, (n, 2**14)).astype(np.float32) / 2**5 for n in (70, 270))
    for k, numbers in expected(samples, reference, (3,), like):
        assert tuple(precision_recall(samples, reference, k=k, like=like))[:2] == numbers


@pytest.mark.parametrize("like", TOOLS)
def test_exact_distances_give_the_exact_metric(rng, like):
    """Squared distances of at most 2,048 are exact in float16, and roots of integers up to 54 differ in float16."""
    samples, reference = rng.integers(0, 4, (150, 6)).astype(float), rng.integers(0, 4, (200, 6)).astype(float)
    for k in (1, 3, 7):
        assert precision_recall(samples, reference, k=k, like=like) == precision_recall(samples, reference, k=k)


def test_rounding_makes_more_rows_count(rng):
    """Rows around a distant point: the distances are rounded to multiples of their error, so that more are equal."""
    samples, reference = (rng.standard_normal((400, 16)) + shift for shift in (6, 6.3))
    exact, rounded = (precision_recall(samples, reference, like=like) for like in (None, "adm"))
    assert rounded.precision > exact.precision
    assert rounded.recall > exact.recall


@pytest.mark.parametrize("like", TOOLS)
def test_dtypes_and_strides(rng, like):
    samples, reference = rng.standard_normal((50, 30)), rng.standard_normal((60, 30))
    for dtype in (np.float16, np.float32):
        one, two = samples.astype(dtype), reference.astype(dtype)
        result = precision_recall(one, two, like=like)
        assert precision_recall(one.astype(np.float64), np.asfortranarray(two), like=like) == result
        assert precision_recall(torch.from_numpy(one), two[::-1][::-1], like=like) == result


def test_equal_rows_are_reported(rng):
    rows = rng.standard_normal((50, 30))
    result = precision_recall(rows, rows, like="adm")
    assert result == replace(precision_recall(rows, rows), precision=result.precision, recall=result.recall)
    assert result.shared_rows == 50


ROWS = np.random.default_rng(1).standard_normal((20, 4))


def changed(value):
    rows = ROWS.copy()
    rows[7, 2] = value
    return rows


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: precision_recall(ROWS, ROWS, like="tf"), "like must be 'adm' or 'stylegan3', got 'tf'"),
        (
            lambda: precision_recall(ROWS, ROWS, like="adm", inclusive=False),
            "inclusive=False contradicts like='adm', which counts a sample at the radius as inside",
        ),
        (lambda: precision_recall(ROWS, ROWS, like="adm", k=20), "k=20 needs at least 21 rows; reference has 20"),
        (lambda: precision_recall(ROWS, ROWS[:3], like="adm"), "k=3 needs at least 4 rows; reference has 3"),
        (lambda: precision_recall(ROWS[:3], ROWS, like="stylegan3"), "k=3 needs at least 4 rows; samples has 3"),
        (lambda: precision_recall(ROWS[:, :3], ROWS, like="adm"), "samples has dim 3, but reference has dim 4"),
        (
            lambda: precision_recall(changed(np.nan), ROWS, like="adm"),
            "samples: features hold NaN or infinity; the first such row is 7",
        ),
        (
            lambda: precision_recall(ROWS, changed(1e20), like="adm"),
            "reference: squared distances overflow in float32; the first such row is 7",
        ),
        (
            lambda: precision_recall(ROWS, changed(-65520.0), like="stylegan3"),
            "reference: features exceed the range of float16; the first such row is 7",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
