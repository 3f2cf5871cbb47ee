"""Comparison of training with one and with two learning rates: values at equal times, curves with bands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: A measurement during training, as `training.train` returns them, and all those of a run.
Point = dict[str, Any]
Curve = list[Point]

#: Name in results, and label.
REGIMES = {"two": "two time scales", "one": "one time scale"}
COLOURS = {"two": "#0072b2", "one": "#d55e00"}


def at(curves: Sequence[Curve], quantity: Callable[[Point], float], key: str, value: float) -> NDArray[np.float64]:
    """Each run's quantity where `key` ("seconds" or "update") has this value, interpolated between measurements."""
    return np.array([np.interp(value, [point[key] for point in curve], list(map(quantity, curve))) for curve in curves])


def common_seconds(runs: Mapping[str, Sequence[Curve]]) -> float:
    """The longest training time that all runs reached."""
    return min(curve[-1]["seconds"] for curves in runs.values() for curve in curves)


def seconds_until(curves: Sequence[Curve], quantity: Callable[[Point], float], target: float) -> float | None:
    """Mean training time at which the mean of the runs first was at most `target`, or None if it never was."""
    for points in zip(*curves, strict=True):
        if np.mean(list(map(quantity, points))) <= target:
            return float(np.mean([point["seconds"] for point in points]))
    return None


def band(values: NDArray[np.float64], style: str = ".3g") -> str:
    """Mean, minimum and maximum over seeds, as text."""
    return f"{values.mean():{style}} ({values.min():{style}} to {values.max():{style}})"


def draw(
    axis: Any,
    curves: Sequence[Curve],
    quantity: Callable[[Point], float],
    *,
    regime: str,
    over: str,
    label: str | None = None,
    error_bars: bool = False,
    skip: int = 0,
) -> None:
    """Draw the mean of the runs of one regime, with the band of minimum and maximum.

    Parameters
    ----------
    axis : matplotlib Axes
    curves : sequence of curves
        One for each seed, measured after the same updates.
    quantity : callable
        From a point to its value.
    regime : {"one", "two"}
    over : {"update", "seconds"}
        Horizontal axis; seconds are averaged over the runs.
    label : str, optional
        By default that of the regime.
    error_bars : bool, default False
        Whether to draw the root mean square of the points' ``stderr``.
    skip : int, default 0
        Measurements at the start that are not drawn.
    """
    shown = [curve[skip:] for curve in curves]
    values = np.array([list(map(quantity, curve)) for curve in shown])
    steps = np.mean([[point[over] for point in curve] for curve in shown], axis=0)
    errors = np.sqrt(np.mean([[point["stderr"] ** 2 for point in c] for c in shown], axis=0)) if error_bars else None
    colour = COLOURS[regime]
    axis.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.22, lw=0)
    axis.errorbar(steps, values.mean(axis=0), errors, color=colour, lw=1.6, capsize=2, label=label or REGIMES[regime])


class Difference(NamedTuple):
    """Difference of the means of two samples with its 95 % interval."""

    #: Mean of one time scale minus mean of two.
    value: float
    #: Half of the width of the interval; infinite with one seed.
    half: float

    def __str__(self) -> str:
        return f"{self.value:.2g} ± {self.half:.2g}"

    @property
    def verdict(self) -> str:
        """Which regime has the smaller values, if the interval excludes 0."""
        if abs(self.value) <= self.half:
            return "the interval includes 0, so that neither regime is shown to be better"
        return f"two time scales {'win' if self.value > 0 else 'lose'}"


def difference(values: Mapping[str, NDArray[np.float64]]) -> Difference:
    """Compare the values of the seeds of both regimes by Welch's t.

    Parameters
    ----------
    values : mapping
        "one" and "two" to arrays (seeds,) of independent values.
    """
    from scipy.special import stdtrit

    one, two = values["one"], values["two"]
    found = float(one.mean() - two.mean())
    if min(len(one), len(two)) < 2:
        return Difference(found, math.inf)
    parts = np.array([one.var(ddof=1) / len(one), two.var(ddof=1) / len(two)])
    if not parts.any():
        return Difference(found, 0.0)
    degrees_of_freedom = parts.sum() ** 2 / (parts**2 / [len(one) - 1, len(two) - 1]).sum()
    return Difference(found, float(stdtrit(degrees_of_freedom, 0.975)) * math.sqrt(parts.sum()))
