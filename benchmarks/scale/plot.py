"""The picture of docs/scale.md."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.scale.costs import Rates, cost

#: Of Okabe & Ito (2008), which colour-blind people can distinguish.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"


def plot(results: dict[str, Any], dim: int) -> Figure:
    """Time over samples and over workers, error over parts, cost over samples."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    _over_samples(axes[0, 0], results["over_samples"])
    _over_workers(axes[0, 1], results["over_workers"], dim)
    _over_parts(axes[1, 0], results["over_parts"])
    _costs(axes[1, 1], Rates(**results["rates"][str(dim)]))
    for axis in axes.flat:
        axis.grid(alpha=0.3, which="major")
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _over_samples(axis: Axes, found: dict[str, Any]) -> None:
    for (dim, each), colour in zip(found.items(), (BLUE, ORANGE), strict=False):
        n = [point["n"] for point in each["points"]]
        axis.loglog(n, [point["seconds"] for point in each["points"]], "o-", color=colour, label=f"dim {dim}")
        axis.annotate(
            f"slope {each['exponent']:.3f}",
            (n[-1], each["points"][-1]["seconds"]),
            xytext=(-8, -30),
            textcoords="offset points",
            ha="right",
            color=colour,
        )
    axis.set(xlabel="samples", ylabel="seconds", title="Moments of a stream, 2 threads")
    axis.legend(frameon=False)


def _over_workers(axis: Axes, found: dict[str, Any], dim: int) -> None:
    points = found["points"]
    workers = [point["workers"] for point in points]
    first = points[0]["seconds"]
    axis.plot(workers, [first / point["seconds"] for point in points], "o-", color=BLUE, label="measured")
    axis.plot(workers, workers, "--", color="0.5", label="ideal")
    axis.set(
        xlabel="workers with one thread each",
        ylabel="speed relative to one worker",
        title=f"{found['n']:,} rows of dim {dim}, shared by the workers",
        xticks=workers,
        ylim=(0, max(workers) + 0.3),
    )
    axis.legend(frameon=False)


def _over_parts(axis: Axes, found: dict[str, Any]) -> None:
    points = found["points"]
    parts = [point["parts"] for point in points]
    styles = (("sequence", "o-", ORANGE), ("tree", "s-", BLUE), ("random orders", "^:", GREEN))
    labels = {
        "sequence": "one after the other",
        "tree": "tree, in order",
        "random orders": f"tree, worst of {found['orders']} random orders",
    }
    for name, style, colour in styles:
        axis.semilogx(
            parts, [point[name] / np.finfo(float).eps for point in points], style, base=2, color=colour,
            label=labels[name],
        )  # fmt: skip
    axis.set(
        xlabel="parts",
        ylabel="largest error of a covariance, in eps",
        title=f"The same {found['n']:,} rows in any number of parts",
        ylim=(0, None),
    )
    axis.legend(frameon=False)


def _costs(axis: Axes, rates: Rates) -> None:
    samples = np.logspace(6, 10, 81)
    for workers, style in ((64, "-"), (1024, "--")):
        costs = [cost(rates, n, workers) for n in samples]
        axis.loglog(samples, [each["update_seconds"] for each in costs], style, color=BLUE)
        axis.loglog(samples, [each["tree_seconds"] for each in costs], style, color=ORANGE)
    axis.loglog(samples, np.full(len(samples), rates.distance), ":", color=GREEN)
    lines = [
        axis.plot([], [], color=BLUE, label="updates")[0],
        axis.plot([], [], color=ORANGE, label="tree of merges, 10 Gbit/s")[0],
        axis.plot([], [], ":", color=GREEN, label="distance")[0],
        axis.plot([], [], "-", color="0.3", label="64 workers")[0],
        axis.plot([], [], "--", color="0.3", label="1,024 workers")[0],
    ]
    axis.legend(handles=lines, frameon=False, fontsize=9)
    axis.set(xlabel="samples", ylabel="seconds", title=f"Computed from the measured rates, dim {rates.dim}")
