"""The Fréchet distance of infinitely many samples by extrapolation, as others do it."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast._files import formats
from fidfast._inputs import as_features, as_stats, require_same_dim, warn_of_extractors
from fidfast._metrics.frechet import frechet_distance
from fidfast._stats.moments import Moments

__all__ = ["Extrapolation", "fid_infinity"]


class Extrapolation(NamedTuple):
    """A line through the distances of growing samples; made by `fid_infinity`."""

    #: The line at ``1 / n = 0``.
    value: float
    #: Of the line over ``1 / n``.
    slope: float
    #: (num_points,) sizes of the samples.
    num_samples: NDArray[np.int64]
    #: (num_points,) their distances to the reference.
    distances: NDArray[np.float64]


def fid_infinity(
    features: Any,
    reference: Any,
    *,
    num_points: int = 15,
    min_samples: int | None = None,
    seed: int = 0,
    precision: str = "float32",
) -> Extrapolation:
    """Fréchet distance of infinitely many samples, extrapolated from the distances of growing parts of them.

    For comparison with numbers that were made so: `estimate` is closer, has less spread and an error bar.

    Parameters
    ----------
    features : (n, dim) array or tensor, or path of features
        The generated samples.
    reference : array, tensor, Moments, GaussianStats or path
    num_points : int, default 15
        Number of parts, of sizes evenly spaced from `min_samples` to n.
    min_samples : int, optional
        Rows of the smallest part; 5,000 or half of all, whichever is less, unless given. Below some 2 dim the
        distances do not lie on a line.
    seed : int, default 0
        Of the order in which rows are taken.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`.

    Returns
    -------
    Extrapolation

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable.

    Warns
    -----
    UserWarning
        If the statistics come from different extractors.

    Notes
    -----
    Chong & Forsyth, "Effectively Unbiased FID and Inception Score and where to find them" (2020), section 4, with
    parts that contain one another: the first rows of one random order, so that every row is read once.
    """
    rows, extractor = _rows(features)
    n = len(rows)
    first = min(5000, n // 2) if min_samples is None else operator.index(min_samples)
    if not 2 <= first < n:
        raise ValueError(f"min_samples must be from 2 to n - 1 = {n - 1}, got {first}")
    if not 2 <= operator.index(num_points) <= n - first + 1:
        raise ValueError(f"num_points must be from 2 to n - min_samples + 1 = {n - first + 1}, got {num_points}")
    known = as_stats(reference, "reference", precision)
    sizes = np.linspace(first, n, num_points).astype(np.int64)
    order = np.random.default_rng(seed).permutation(n)
    moments = Moments(int(rows.shape[1]), precision, extractor)
    require_same_dim(moments.dim, known.dim, "features", "reference")
    distances: list[float] = []
    for begin, end in zip([0, *sizes[:-1]], sizes, strict=True):
        for start in range(begin, end, formats.ROWS_AT_A_TIME):
            # In the order in which they lie: files are read forwards.
            moments.update(rows[np.sort(order[start : min(end, start + formats.ROWS_AT_A_TIME)])])
        stats = moments.stats()
        if not distances:
            warn_of_extractors(stats, known, stacklevel=3)
        distances.append(frechet_distance(stats, known))
    slope, value = np.polyfit(1 / sizes, distances, 1)
    return Extrapolation(float(value), float(slope), sizes, np.array(distances))


def _rows(source: Any) -> tuple[Any, str | None]:
    """(n, dim) rows that can be picked by their numbers, and the extractor that made them."""
    content = as_features(source, "features", "fid_infinity")
    rows = content.features
    if len(getattr(rows, "shape", ())) != 2:
        Moments(1).update(rows)  # raises for what is no (n, dim) array
    return rows, content.extractor
