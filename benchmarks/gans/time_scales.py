"""Comparison of training with one and with two learning rates: values at equal times, curves with bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Measurements of a run, as `training.train` returns them.
Curve = list[dict[str, Any]]

ONE, TWO = "one rate", "two time scales"
COLOURS = {ONE: "#d55e00", TWO: "#0072b2"}


def final(curves: Sequence[Curve], quantity: str) -> NDArray[np.float64]:
    """The last measurement of each run."""
    return np.array([curve[-1][quantity] for curve in curves])


def at_seconds(curves: Sequence[Curve], quantity: str, seconds: float) -> NDArray[np.float64]:
    """Each run's value after this training time, interpolated linearly between measurements."""
    return np.array(
        [
            np.interp(seconds, [point["seconds"] for point in curve], [point[quantity] for point in curve])
            for curve in curves
        ]
    )


def common_seconds(curves: Mapping[str, Sequence[Curve]]) -> float:
    """The longest training time that all runs reached."""
    return min(curve[-1]["seconds"] for runs in curves.values() for curve in runs)


def seconds_until(curves: Sequence[Curve], quantity: str, target: float) -> float | None:
    """Mean training time at which the mean of the runs first was at most `target`, or None if it never was."""
    for points in zip(*curves, strict=True):
        if np.mean([point[quantity] for point in points]) <= target:
            return float(np.mean([point["seconds"] for point in points]))
    return None


def band(values: NDArray[np.float64], digits: int) -> str:
    """Mean, minimum and maximum over seeds, as text."""
    return f"{values.mean():.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def draw(axis: Any, runs: Sequence[Curve], quantity: str, *, regime: str, over: str, skip: int = 0) -> None:
    """Draw the mean of the runs of one regime, with the band of minimum and maximum.

    Parameters
    ----------
    axis : matplotlib Axes
    runs : sequence of curves
        One for each seed, measured after the same updates.
    quantity : str
        Key of the measured value.
    regime : str
        Label, and key of the colour.
    over : {"update", "seconds"}
        Horizontal axis; seconds are averaged over the runs.
    skip : int, default 0
        Measurements at the start that are not drawn.
    """
    values = np.array([[point[quantity] for point in curve[skip:]] for curve in runs])
    steps = np.array([[point[over] for point in curve[skip:]] for curve in runs]).mean(axis=0)
    colour = COLOURS[regime]
    axis.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.25, lw=0)
    axis.plot(steps, values.mean(axis=0), color=colour, label=regime)
