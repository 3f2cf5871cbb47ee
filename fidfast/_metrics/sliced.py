"""The Monge Inception Distance (MIND), a sliced Wasserstein distance between two sets of features."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import MAX_SEED, require_choice, require_integer
from fidfast._inputs import Input, open_pair, require_same_dim
from fidfast._metrics.duplicates import PairResult, find_equal_rows
from fidfast._metrics.scale import in_units
from fidfast._results import value_with_error

__all__ = ["SlicedDistance", "mind"]

Array = NDArray[np.float64]

#: Projected rows in memory: 64 MB for both sides.
_NUMBERS_AT_ONCE = 2**23

#: Each projection takes at least some microseconds.
_MOST_PROJECTIONS = 1_000_000

#: Features from 2^-256 to 2^256 need no scaling: their squares are far from the ends of float64's range.
_SAFE = 256


@dataclass(frozen=True)
class SlicedDistance(PairResult):
    """A sliced Wasserstein distance; returned by `mind`. ``float(result)`` is the value.

    Berthet et al. (2026). In squared units of the features.
    """

    #: ``3 dim`` times the mean squared Wasserstein distance of the projections.
    value: float
    #: Standard error of `value` from the random directions; the error from the samples is not in it.
    projection_error: float
    #: Rows of each side that were compared.
    num_samples: tuple[int, int]
    #: Number of random directions.
    num_projections: int
    #: Seed of the directions.
    seed: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        value = value_with_error(self.value, self.projection_error)
        return self._with_caution(f"{value} ({self.num_projections:,} projections)")


def mind(
    samples: Any, reference: Any, *, num_projections: int = 1000, seed: int = 0, like: str | None = None
) -> SlicedDistance:
    """Monge Inception Distance (MIND): a sliced Wasserstein distance between two sets of rows.

    Parameters
    ----------
    samples, reference : array, tensor or path
        (n, dim) and (m, dim) features in float16, bfloat16, float32 or float64, or files of features (an ``.npy`` is
        read block by block). Moments and statistics do not determine this distance.
    num_projections : int, default 1000
        Number of random directions, at least 2.
    seed : int, default 0
        Seed of the directions, ``numpy.random.default_rng(seed).standard_normal`` divided by its norm.
    like : {None, "torch-fidelity"}, optional
        "torch-fidelity" draws the directions of that tool, and of the larger side as many random rows as the smaller
        side has. Its own default of `seed` is 2020.

    Returns
    -------
    SlicedDistance

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used; the message names it.
    FileNotFoundError
        If a path does not exist.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.

    Notes
    -----
    Berthet et al., "MIND: Monge Inception Distance for Generative Models Evaluation" (2026), arXiv 2605.06797: with
    unit vectors u_1, ..., u_M, ::

        3 dim / (n M) sum_i sum_j (sort(X u_i)_j - sort(Y u_i)_j)^2

    computed in float64. If n and m differ, the one-dimensional distance is the integral over the squared difference of
    the quantile functions, which is the same for equal numbers, and all rows are used.

    Finite samples make the distance larger, so compare equal numbers of samples. Memory: about 200 MB besides one slice
    of the rows. An ``.npy`` is read once for each ``2^23 / (n + m)`` directions.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(500, 8))
    >>> round(mind(rows, rows + 1).value / (3 * 8), 1)
    1.0
    """
    num_projections = require_integer("num_projections", num_projections, 2, _MOST_PROJECTIONS)
    seed = require_integer("seed", seed, 0, MAX_SEED)
    like = require_choice("like", like, (None, "torch-fidelity"))
    one, two = open_pair(samples, reference)
    for side in (one, two):
        side.require_rows("mind")
    (n, dim), (m, dim_of_reference) = one.finite_shape(), two.finite_shape()
    require_same_dim(dim, dim_of_reference, one.name, two.name)
    for side, count in ((one, n), (two, m)):
        if count == 0:
            raise ValueError(f"{side.name}: mind needs at least 1 row, got 0")
    at_once = max(1, _NUMBERS_AT_ONCE // (n + m))
    if like is None:
        sides: tuple[Input, Input] = (one, two)
        blocks: Iterable[Array] = _directions(num_projections, dim, seed, at_once)
    else:
        sides, every = _like_torch_fidelity((one, two), (n, m), num_projections, dim, seed)
        blocks = (every[first : first + at_once] for first in range(0, num_projections, at_once))
        n = m = min(n, m)
    exponent = _exponent(sides)
    distances = np.concatenate(
        [
            _squared_distances(
                _sorted_projections(sides[0], n, directions, exponent),
                _sorted_projections(sides[1], m, directions, exponent),
            )
            for directions in blocks
        ]
    )
    value = 3.0 * dim * float(distances.mean())
    error = 3.0 * dim * float(distances.std(ddof=1)) / math.sqrt(num_projections)
    equal = find_equal_rows(one, two)
    caution = equal.caution(", so the distance is too low", "the distance is biased if they are copies")
    return SlicedDistance(
        in_units(value, exponent, (one, two)), in_units(error, exponent, (one, two), may_vanish=True), (n, m),
        num_projections, seed, shared_rows=equal.shared_rows, caution=caution,
    )  # fmt: skip


def _directions(number: int, dim: int, seed: int, at_once: int) -> Iterator[Array]:
    """(at most at_once, dim) random unit vectors, the same for any `at_once`."""
    random = np.random.default_rng(seed)
    for first in range(0, number, at_once):
        directions = random.standard_normal((min(at_once, number - first), dim))
        yield directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _like_torch_fidelity(
    sides: tuple[Input, Input], counts: tuple[int, int], number: int, dim: int, seed: int
) -> tuple[tuple[Input, Input], Array]:
    """The rows and the (number, dim) unit vectors that torch-fidelity draws from one generator."""
    import torch

    random = torch.Generator().manual_seed(seed)
    size = min(counts)
    chosen = [side if count == size else _some_rows(side, torch.randperm(count, generator=random)[:size].numpy())
              for side, count in zip(sides, counts, strict=True)]  # fmt: skip
    directions = torch.randn(number, dim, generator=random)
    directions /= directions.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return (chosen[0], chosen[1]), directions.numpy().astype(np.float64)


def _some_rows(side: Input, chosen: NDArray[np.int64]) -> Input:
    # The distance does not depend on the order, and a file is read forwards.
    return side.with_content(rows=_core.gather(side.require_rows("mind"), np.sort(chosen)))


def _exponent(sides: tuple[Input, Input]) -> int:
    """The exponent of the unit ``2^exponent`` in which the squares are in the range of float64."""
    largest = max(float(np.abs(rows).max(initial=0.0)) for side in sides for rows in side.float64_slices())
    exponent = math.frexp(largest)[1]
    return exponent if abs(exponent) > _SAFE else 0


def _sorted_projections(side: Input, n: int, directions: Array, exponent: int) -> Array:
    """(number of directions, n) sorted products with the rows."""
    projections = np.empty((len(directions), n))
    first = 0
    for rows in side.float64_slices():
        if exponent != 0:
            rows = np.ldexp(rows, -exponent)
        projections[:, first : first + len(rows)] = directions @ rows.T
        first += len(rows)
    projections.sort(axis=1)
    return projections


def _squared_distances(one: Array, two: Array) -> Array:
    """Squared Wasserstein distance of each pair of sorted rows."""
    n, m = one.shape[1], two.shape[1]
    if n == m:
        differences, weights = one - two, np.full(n, 1 / n)
    else:
        # The quantile functions are constant between these multiples of 1 / (n m).
        # The counts let NumPy sort: its hash table ends the process if Python ends while a daemon thread is in it.
        steps = np.unique(np.concatenate([np.arange(n + 1) * m, np.arange(m + 1) * n]), return_counts=True)[0]
        weights = np.diff(steps) / (n * m)
        differences = one[:, steps[:-1] // m] - two[:, steps[:-1] // n]
    differences *= differences
    return np.asarray(differences @ weights)
