"""The picture of the Dirac-GAN: trajectories, eigenvalues and rates."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.gans.dirac_methods import BY_NAME, METHODS
from benchmarks.gans.dirac_theory import update_eigenvalues

COLOURS = {"simultaneous": "#d55e00", "alternating": "#0072b2"}
MARKERS = {"simultaneous": "o", "alternating": "^"}


def plot(result: Any) -> Figure:
    """A panel for each method, the eigenvalues of all, and the rates of those that converge."""
    figure = Figure(figsize=(12, 9.6), layout="constrained")
    axes = figure.subplots(3, 4).flat
    for letter, method, ax in zip("abcdefghij", METHODS, axes, strict=False):
        _trajectories(ax, result, method.name)
        ax.set_title(f"({letter}) {method.name}", fontsize=10)
    _eigenvalues(axes[10], result)
    _rates(axes[11], result)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=10, frameon=False)
    return figure


def _trajectories(ax: Axes, result: Any, name: str) -> None:
    grid = np.linspace(-2, 2, 10)
    theta, psi = np.meshgrid(grid, grid, indexing="ij")
    field = np.array(result.fields[name]).reshape(10, 10, 2)
    ax.quiver(theta, psi, field[..., 0], field[..., 1], color="0.65", width=0.005, angles="xy", zorder=1)
    for each in result.runs:
        if each["method"] == name:
            path = np.array(each["path"])
            ax.plot(
                *path.T, color=COLOURS[each["updates"]], linewidth=0.9, label=f"{each['updates']} updates", zorder=2
            )
    ax.plot(0, 0, "+", color="black", markersize=9, label="equilibrium", linestyle="none", zorder=3)
    ax.plot(1, 1, "o", color="black", markersize=4, label="start", linestyle="none", zorder=3)
    ax.set(xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), aspect="equal", xticks=range(-2, 3), yticks=range(-2, 3))
    ax.set_xlabel("θ", labelpad=0)
    ax.set_ylabel("ψ", labelpad=-4)


def _eigenvalues(ax: Axes, result: Any) -> None:
    """The upper half of the complex plane; methods with close eigenvalues share a label."""
    angle = np.linspace(0, 0.4, 100)
    ax.plot(np.cos(angle), np.sin(angle), color="0.4", linewidth=1, label="unit circle")
    letters = dict(zip([method.name for method in METHODS], "abcdefghij", strict=True))
    for updates, colour in COLOURS.items():
        points = sorted(
            (x, y, letters[each["method"]])
            for each in result.runs
            if each["updates"] == updates
            for x, y in each.get("eigenvalues", [])
            if y > -1e-6
        )
        labels: list[list[tuple[float, float, str]]] = []
        for x, y, letter in points:
            ax.plot(x, y, MARKERS[updates], color=colour, markersize=5)
            close = (each for each in labels if abs(each[-1][0] - x) + abs(each[-1][1] - y) < 0.01)
            if (label := next(close, None)) is None:
                labels.append(label := [])
            label.append((x, y, letter))
        for label in labels:
            text = ", ".join(dict.fromkeys(letter for *_, letter in label))
            if updates == "simultaneous":
                options = {"xy": label[-1][:2], "xytext": (4, 4), "ha": "left", "va": "bottom"}
            elif label[0][1] > 0.15:
                options = {"xy": label[0][:2], "xytext": (-4, -4), "ha": "right", "va": "top"}
            else:
                options = {
                    "xy": np.mean([each[:2] for each in label], 0),
                    "xytext": (0, -5),
                    "ha": "center",
                    "va": "top",
                }
            ax.annotate(text, **options, textcoords="offset points", fontsize=9)
    ax.set(xlim=(0.84, 1.04), ylim=(-0.03, 0.26), xlabel="real part", ylabel="imaginary part")
    ax.set_title(f"(k) eigenvalues of the updates, h = {result.settings['h']:g}", fontsize=10)
    ax.legend(loc="lower right", fontsize=8)


def _rates(ax: Axes, result: Any) -> None:
    """Largest modulus of the eigenvalues over the step size; measured factors near the limits are markers."""
    sizes = np.linspace(0.02, 4.3, 300)
    styles = dict(zip([method.name for method in METHODS if method.converges], ("-", "--", "-.", ":"), strict=True))
    for each in (each for each in result.runs if "rates" in each):
        method, style, colour = BY_NAME[each["method"]], styles[each["method"]], COLOURS[each["updates"]]
        alternating = each["updates"] == "alternating"
        moduli = [max(map(abs, update_eigenvalues(method, h, alternating=alternating))) for h in sizes]
        shown = np.where(np.array(moduli) < 1.2, moduli, np.nan)
        ax.plot(sizes, shown, style, color=colour, linewidth=1)
        measured = [factor * each["limit"] for factor in result.settings["factors"]]
        ax.plot(measured, each["rates"], MARKERS[each["updates"]], color=colour, markersize=3.5)
    for name, style in styles.items():
        ax.plot([], [], style, color="0.3", linewidth=1, label=name)
    ax.axhline(1, color="0.4", linewidth=0.8)
    ax.set(xlim=(0, 4.3), ylim=(0, 1.85), xlabel="step size h", ylabel="distance factor per update")
    ax.set_title("(l) rates: closed form, measured", fontsize=10)
    ax.legend(loc="upper left", fontsize=8, frameon=False)
