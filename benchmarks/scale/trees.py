"""Error of merged moments over the number of parts and the order of the merges.

The exact covariance is computed from the rows in two passes, in the extended precision of ``np.longdouble``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fidfast

#: Children of each node of the tree, as in `fidfast.ray`.
FAN_IN = 8


def in_sequence(parts: Sequence[fidfast.Moments]) -> fidfast.Moments:
    """The parts, merged one after the other."""
    total = fidfast.Moments(parts[0].dim, precision=parts[0].precision)
    for part in parts:
        total.merge(part)
    return total


def in_tree(parts: Sequence[fidfast.Moments]) -> fidfast.Moments:
    """The parts, merged in a tree."""
    while len(parts) > 1:
        parts = [in_sequence(parts[first : first + FAN_IN]) for first in range(0, len(parts), FAN_IN)]
    return parts[0]


def levels(num_parts: int) -> int:
    """Merges on the longest way from a part to the root."""
    depth = 0
    while num_parts > 1:
        num_parts, depth = -(-num_parts // FAN_IN), depth + 1
    return depth


def exact_covariance(rows: NDArray[np.float64]) -> NDArray[np.longdouble]:
    """Unbiased covariance, with 11 more bits than float64 (on machines whose long double has them)."""
    wide = rows.astype(np.longdouble)
    centred = wide - wide.mean(axis=0)
    return centred.T @ centred / (len(rows) - 1)


def error(moments: fidfast.Moments, exact: NDArray[np.longdouble]) -> float:
    """Largest error of an entry of the covariance, as a share of the deviations of its two units."""
    deviations = np.sqrt(np.diag(exact))
    difference = moments.stats().sigma - exact
    return float(np.max(np.abs(difference) / np.outer(deviations, deviations)))


def over_parts(numbers: Sequence[int], *, n: int, dim: int, orders: int, offset: float) -> list[dict[str, Any]]:
    """Errors of one set of rows in different numbers of parts.

    Parameters
    ----------
    numbers : sequence of int
        Numbers of parts.
    n, dim : int
        Shape of the rows.
    orders : int
        Number of random orders of the parts.
    offset : float
        Mean of each unit in standard deviations.
    """
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((n, dim)) * np.logspace(0, -3, dim)
    rows += offset * np.logspace(0, -3, dim)
    exact = exact_covariance(rows)
    found = []
    for number in numbers:
        parts = [
            fidfast.Moments.from_features(part, precision="float64")
            for part in np.split(rows, [n * k // number for k in range(1, number)])
        ]
        shuffled = [[parts[k] for k in rng.permutation(number)] for _ in range(orders)]
        found.append(
            {
                "parts": number,
                "levels": levels(number),
                "sequence": error(in_sequence(parts), exact),
                "tree": error(in_tree(parts), exact),
                "random orders": max(error(in_tree(order), exact) for order in shuffled),
            }
        )
    return found
