"""The Fréchet distance of infinitely many samples by linear extrapolation (FID-infinity)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import optional, require_integer
from fidfast._inputs import open_pair, require_same_dim
from fidfast._metrics.duplicates import PairResult, find_equal_rows
from fidfast._metrics.frechet import distance_between
from fidfast._metrics.scale import in_units, rescaled_inputs
from fidfast._stats import ROWS_PER_SLICE, Moments

__all__ = ["Extrapolation", "fid_infinity"]


@dataclass(frozen=True, eq=False)
class Extrapolation(PairResult):
    """A line through the distances of growing parts of the samples; returned by `fid_infinity`.

    Chong & Forsyth (2020), section 4. Distances are in squared units of the features.
    """

    #: The line at ``1 / n = 0``.
    value: float
    #: Slope of the line over ``1 / n``.
    slope: float
    #: (num_points,) sizes of the parts.
    num_samples: NDArray[np.int64]
    #: (num_points,) their distances to the reference.
    distances: NDArray[np.float64]
    #: Seed of the random order of the rows.
    seed: int = 0

    def __str__(self) -> str:
        sizes = self.num_samples
        return self._with_caution(
            f"{self.value:.6g}, extrapolated from {len(sizes)} parts of {sizes[0]:,} to {sizes[-1]:,} samples"
        )


def fid_infinity(
    samples: Any,
    reference: Any,
    *,
    num_points: int = 15,
    min_samples: int | None = None,
    seed: int = 0,
    precision: str = "float32",
) -> Extrapolation:
    """Fréchet distance of infinitely many samples, extrapolated from the distances of growing parts of the samples.

    For comparison with published numbers of this kind; `estimate` is more accurate, and has an error bar.

    Parameters
    ----------
    samples : (n, dim) array or tensor, or path of features
        The generated samples.
    reference : array, tensor, Moments, GaussianStats or path
    num_points : int, default 15
        Number of parts, of sizes evenly spaced from `min_samples` to n.
    min_samples : int, optional
        Rows of the smallest part; by default 5,000 or n / 2, whichever is less. Below about 2 dim the distances are
        not on a line.
    seed : int, default 0
        Seed of the random order of the rows.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`.

    Returns
    -------
    Extrapolation

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.

    Notes
    -----
    Chong & Forsyth, "Effectively Unbiased FID and Inception Score and where to find them" (2020), section 4, with
    nested parts: the first rows of one random order, so that every row is read once.
    """
    num_points, seed = require_integer("num_points", num_points), require_integer("seed", seed, 0)
    min_samples = optional(require_integer, "min_samples", min_samples)
    given = open_pair(samples, reference, precision=precision)
    given[0].require_rows("fid_infinity")
    (samples, reference), exponent = rescaled_inputs(*given)
    n, dim = samples.finite_shape()
    first = min(5000, n // 2) if min_samples is None else min_samples
    if not 2 <= first < n:
        raise ValueError(f"min_samples must be from 2 to n - 1 = {n - 1}, got {first}")
    if not 2 <= num_points <= n - first + 1:
        raise ValueError(f"num_points must be from 2 to n - min_samples + 1 = {n - first + 1}, got {num_points}")
    sizes = np.linspace(first, n, num_points).astype(np.int64)
    order = np.random.default_rng(seed).permutation(n)
    moments = Moments(dim, precision=precision, extractor=samples.extractor)
    require_same_dim(dim, reference.dim, "samples", "reference")
    distances: list[float] = []
    for begin, end in zip([0, *sizes[:-1]], sizes, strict=True):
        for start in range(begin, end, ROWS_PER_SLICE):
            # In file order, so that a file is read forwards.
            moments.update(_core.gather(samples.rows, np.sort(order[start : min(end, start + ROWS_PER_SLICE)])))
        distances.append(distance_between(moments.stats(), reference.stats))
    line, of_sizes = (
        in_units(np.array(numbers), exponent, given) for numbers in (np.polyfit(1 / sizes, distances, 1), distances)
    )
    equal = find_equal_rows(samples, reference)
    caution = equal.caution(", so the line is too low at 1/n = 0", "the line is biased if they are copies")
    return Extrapolation(
        float(line[1]), float(line[0]), sizes, of_sizes, seed, shared_rows=equal.shared_rows, caution=caution
    )
