"""Features in another unit, a power of 2, so that products of variances stay in the range of float64.

Distances are in squared units of the features: ``d(s a, s b) = s^2 d(a, b)``. Scaling by a power of 2 is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._devices import to_host
from fidfast._files import MAX_IN_MEMORY, RowPart, Rows
from fidfast._inputs import Input
from fidfast._stats import ROWS_PER_SLICE, Moments, scaled_stats

__all__ = ["exponent_of", "in_units", "inputs_in_range", "rescaled_inputs", "scaled_input"]

_N = TypeVar("_N", float, NDArray[np.float64])

#: Deviations from 2^-40 to 2^40 need no scaling: their eighth powers are in the range of float64, and their inverses in
#: that of float32.
_MODERATE = 40

#: Variances of deviations from 2^-400 to 2^400 are accurate, though computed from the rows as they are.
_SAFE = 400


def inputs_in_range(*inputs: Input) -> tuple[tuple[Input, ...], int]:
    """As `rescaled_inputs`, but only for features whose variances or squares leave the range of float64."""
    if all(source.rows is None for source in inputs):
        return inputs, 0  # what their statistics have lost cannot be regained
    return rescaled_inputs(*inputs, limit=_SAFE)


def rescaled_inputs(*inputs: Input, limit: int = _MODERATE) -> tuple[tuple[Input, ...], int]:
    """The inputs in the unit ``2^exponent``, and the exponent.

    The inputs themselves and 0 if the largest deviation is from ``2^-limit`` to ``2^limit``.
    """
    exponent = exponent_of(_largest_deviation(inputs), limit)
    if exponent == 0:
        return inputs, 0
    scaled = tuple(scaled_input(source, -exponent) for source in inputs)
    further = exponent_of(_largest_deviation(scaled), limit)  # if the first one is that of an offset
    if further != 0 and abs(further) < abs(exponent):
        exponent += further
        scaled = tuple(scaled_input(source, -exponent) for source in inputs)
    return scaled, exponent


def in_units(numbers: _N, exponent: int, inputs: tuple[Input, ...], *, may_vanish: bool = False) -> _N:
    """Distances in the squared unit of the features, from those in the unit ``2^exponent``.

    Raises
    ------
    ValueError
        If a finite number becomes infinite; or, unless they may vanish, if all become 0 and were not.
    """
    if exponent == 0:
        return numbers
    with np.errstate(over="ignore", under="ignore"):
        result = np.ldexp(numbers, 2 * exponent)
    infinite = np.any(np.isfinite(numbers) & ~np.isfinite(result))
    if infinite or (not may_vanish and np.any(numbers) and not np.any(result)):
        sizes = [_largest_value(source) for source in inputs]
        # The first one of about the largest size.
        source, size = next(
            (source, size) for source, size in zip(inputs, sizes, strict=True) if size >= max(sizes) / 16
        )
        raise ValueError(
            f"{source.name}: the squares of the features leave the range of float64 (their largest magnitude is "
            f"{size:.6g}): multiply all inputs by the same factor first"
        )
    return float(result) if isinstance(numbers, float) else result


def scaled_input(source: Input, exponent: int) -> Input:
    """The input times ``2^exponent``, in host memory."""
    if source.rows is not None:
        return source.with_content(rows=_scaled_rows(source, exponent))
    if source.moments is not None:
        return source.with_content(moments=_scaled_moments(source.moments, exponent))
    return source.with_content(stats=scaled_stats(source.stats, exponent))


def exponent_of(deviation: float, limit: int = _MODERATE) -> int:
    """The exponent of the unit for deviations of this order, even; 0 if its magnitude is at most `limit`."""
    if not 0 < deviation < math.inf:
        return 0
    exponent = math.frexp(deviation)[1] // 2 * 2
    return 0 if abs(exponent) <= limit else exponent


def _largest_deviation(inputs: tuple[Input, ...]) -> float:
    """The order of magnitude of the deviations from the mean, and of the differences of the means."""
    try:
        deviations = [_deviation(source) for source in inputs]
        means = [source.stats.mu for source in inputs]
    except ValueError as error:
        if all(source.rows is None for source in inputs):
            raise
        try:
            return max(map(_largest_value, inputs))  # if squares of rows leave the range of float64
        except (TypeError, ValueError):
            raise error from None
    with np.errstate(over="ignore"):
        between = [float(np.abs(mean - means[0]).max()) for mean in means[1:] if mean.shape == means[0].shape]
    return min(max(*deviations, *between, 0.0), np.finfo(float).max)


def _deviation(source: Input) -> float:
    """The root of the trace of the covariance, or the largest deviation if the variances may have lost digits."""
    deviation = math.hypot(*np.sqrt(source.stats.sigma.diagonal().clip(min=0)))  # their squares may overflow
    if 2.0**-_SAFE <= deviation <= 2.0**_SAFE:
        return deviation
    first = None
    largest = []
    with np.errstate(over="ignore"):
        for rows in filter(len, _slices_of(source)):
            first = rows[0] if first is None else first
            largest.append(float(np.abs(rows - first).max()))
    return max(largest, default=deviation)


def _largest_value(source: Input) -> float:
    """The largest magnitude of the features, or of mean and deviations."""
    if source.rows is not None:
        return max((float(np.abs(rows).max(initial=0.0)) for rows in source.float64_slices()), default=0.0)
    stats = source.stats
    return max(float(np.abs(stats.mu).max()), math.sqrt(float(np.diagonal(stats.sigma).max())))


def _slices_of(source: Input) -> Iterator[NDArray[np.float64]]:
    """The features in slices; of moments, the rows that they still hold."""
    if source.rows is not None:
        yield from source.float64_slices()
    elif source.moments is not None:
        state = source.moments.state()
        yield from (rows.astype(np.float64) for key, rows in state.items() if key.endswith("_rows"))


def _scaled_rows(source: Input, exponent: int) -> Any:
    """The features times ``2^exponent``: an array, or `Rows` if they are too many."""
    n, dim = source.finite_shape()
    if n > ROWS_PER_SLICE and n * dim * 8 > MAX_IN_MEMORY:

        def blocks(first: int) -> Iterator[NDArray[np.float64]]:
            for start in range(first, n, ROWS_PER_SLICE):
                rows = to_host(source.rows[start : start + ROWS_PER_SLICE])
                yield np.ldexp(_core.gather(rows, np.arange(len(rows))).astype(np.float64), exponent)

        return Rows([RowPart(source.name, n, blocks)], dim, np.float64)
    return _ldexp(_core.gather(to_host(source.rows), np.arange(n)), exponent)  # float32 if they are narrower


def _ldexp(rows: NDArray[Any], exponent: int) -> NDArray[Any]:
    """``rows * 2^exponent``, in float64 if their type cannot hold it exactly."""
    with np.errstate(over="ignore", under="ignore"):
        scaled = np.ldexp(rows, exponent)
        if rows.dtype == np.float64 or np.array_equal(np.ldexp(scaled, -exponent), rows):
            return np.asarray(scaled)
        return np.asarray(np.ldexp(rows.astype(np.float64), exponent))


def _scaled_moments(moments: Moments, exponent: int) -> Moments:
    state = moments.state()
    powers = {"mean": 1, "mean_low": 1, "narrow_rows": 1, "wide_rows": 1, "scatter": 2, "product_errors": 2}
    for key, value in state.items():
        power = powers.get(key.partition("/")[2], 0)
        if power > 0:
            state[key] = np.asarray(np.ldexp(value, power * exponent))
    return Moments.from_state(state)
