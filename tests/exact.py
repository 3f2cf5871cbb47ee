"""Fréchet distances of given float64 numbers, exact to 40 digits."""

from __future__ import annotations

import math

import mpmath
import numpy as np
from numpy.typing import NDArray

_DIGITS = 90  # twice what is needed: roots of rounding errors have half of the digits
Matrix = list[list[mpmath.mpf]]


def moments(rows: NDArray, ddof: int = 1) -> tuple[list[mpmath.mpf], Matrix]:
    """Mean and covariance of the rows (n, dim), from exact sums of integers."""
    n = len(rows)
    digits, exponents = np.frexp(rows.astype(float))
    least = int(exponents.min()) - 53
    powers = np.array([1 << int(e) - 53 - least for e in exponents.flat], object).reshape(rows.shape)
    integers = np.ldexp(digits, 53).astype(np.int64).astype(object) * powers
    sums = integers.sum(axis=0)
    scatter = n * (integers.T @ integers) - np.outer(sums, sums)
    with mpmath.workdps(_DIGITS):
        mu = [mpmath.ldexp(mpmath.mpf(value) / n, least) for value in sums]
        sigma = [[mpmath.ldexp(mpmath.mpf(value) / (n * (n - ddof)), 2 * least) for value in row] for row in scatter]
        return mu, sigma


def statistics(mu: NDArray, sigma: NDArray) -> tuple[list[mpmath.mpf], Matrix]:
    """The given numbers."""
    return [mpmath.mpf(float(value)) for value in mu], [[mpmath.mpf(float(value)) for value in row] for row in sigma]


def distance(first: tuple[list[mpmath.mpf], Matrix], second: tuple[list[mpmath.mpf], Matrix]) -> mpmath.mpf:
    """|mu1 - mu2|^2 + tr (S1 + S2 - 2 (S1 S2)^(1/2)), with the root of the positive parts."""
    with mpmath.workdps(_DIGITS):
        (mu1, s1), (mu2, s2) = first, second
        means = mpmath.fsum((a - b) ** 2 for a, b in zip(mu1, mu2, strict=True))
        traces = mpmath.fsum(s[i][i] for s in (s1, s2) for i in range(len(mu1)))
        return means + traces - 2 * root(s1, s2)


def root(s1: Matrix, s2: Matrix) -> mpmath.mpf:
    """Tr (S1 S2)^(1/2) of the positive parts, for dim 1 and 2 in closed form."""
    units = [i for i in range(len(s1)) if any(s1[i]) and any(s2[i])]
    s1, s2 = ([[s[i][j] for j in units] for i in units] for s in (s1, s2))
    if not units:
        return mpmath.mpf(0)
    if len(units) == 1:
        return mpmath.sqrt(max(s1[0][0], 0) * max(s2[0][0], 0))
    if len(units) == 2:
        # The eigenvalues of S1 S2 have the sum tr S1 S2 and the product det S1 det S2.
        determinants = [s[0][0] * s[1][1] - s[0][1] * s[1][0] for s in (s1, s2)]
        if min(determinants) >= 0 and min(s1[0][0], s2[0][0]) >= 0:
            trace = mpmath.fsum(s1[i][j] * s2[j][i] for i in range(2) for j in range(2))
            return mpmath.sqrt(max(trace + 2 * mpmath.sqrt(determinants[0] * determinants[1]), 0))
    values, vectors = mpmath.eigsy(mpmath.matrix(s1))
    columns = [k for k in range(len(units)) if values[k] > 0]
    factor = mpmath.matrix(len(units), len(columns))
    for at, k in enumerate(columns):
        for i in range(len(units)):
            factor[i, at] = vectors[i, k] * mpmath.sqrt(values[k])
    other, vectors = mpmath.eigsy(mpmath.matrix(s2))
    positive = vectors * mpmath.diag([max(value, 0) for value in other]) * vectors.T
    form = factor.T * positive * factor
    if not columns:
        return mpmath.mpf(0)
    return mpmath.fsum(mpmath.sqrt(max(v, 0)) for v in mpmath.eigsy((form + form.T) / 2, eigvals_only=True))


def relative(value: float, exact: mpmath.mpf) -> float:
    return math.inf if exact == 0 else float(abs(mpmath.mpf(value) - exact) / exact)
