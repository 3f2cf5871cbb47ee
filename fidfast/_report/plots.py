"""The plots of a report, as SVG that follows the reader's light or dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fidfast._report.contents import Contents

__all__ = ["Plot", "plots"]

#: Placeholders in the SVG for the colours of text and of faint lines.
_TEXT, _FAINT = "#010203", "#040506"

_SAMPLES, _REFERENCE = "#3f7fd0", "#d9772b"

_STYLE = {
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "fidfast",
    "text.color": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
}

_COLOURS = (
    "<style>svg{--text:#222;--faint:#999}@media(prefers-color-scheme:dark){svg{--text:#ddd;--faint:#888}}</style>"
)


@dataclass(frozen=True)
class Plot:
    """A plot and its caption."""

    svg: str
    caption: str


def plots(contents: Contents) -> Iterator[Plot]:
    """The plots for which the report has data.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    yield Plot(_svg(lambda axes: _distances(axes, contents)), _caption_of_distances(contents))
    if contents.extrapolation is not None:
        yield Plot(_svg(lambda axes: _extrapolation(axes, contents)), _caption_of_extrapolation(contents))
    yield Plot(_svg(lambda axes: _spectra(axes, contents)), _caption_of_spectra(contents))


def _caption_of_distances(contents: Contents) -> str:
    caption = f"Versions of the {contents.label}."
    if contents.estimate.note is None:
        return caption + " Filled: without bias, with its standard error (thick bar) and 95 % interval (thin bar)."
    return caption + " All of them include the bias of finite samples; none has an error bar."


def _caption_of_extrapolation(contents: Contents) -> str:
    line, sampled = contents.extrapolation, contents.estimate.num_samples[1] is not None
    assert line is not None
    caption = f"Distances of {len(line.distances)} subsets of the samples. The line extrapolates to 1/n = 0."
    if contents.estimate.note is None:
        caption += " Filled: the unbiased distance with its 95 % interval."
    if sampled:
        caption += " The line includes the bias of the reference"
        caption += "; the unbiased distance does not." if contents.estimate.note is None else "."
    return caption


def _caption_of_spectra(contents: Contents) -> str:
    if min(contents.ranks) == 0:
        return "Variances along the principal directions. A side whose rows are all equal has none, and no curve."
    few = [
        name
        for name, rank, n in zip(("samples", "reference"), contents.ranks, contents.num_samples, strict=True)
        if n is not None and rank == n - 1
    ]
    caption = "Variances along the principal directions."
    if few:
        return f"{caption} {' and '.join(few).capitalize()}: no more directions than rows, so the curve ends early."
    return f"{caption} A curve that falls earlier means less variety."


def _distances(axes: Any, contents: Contents) -> None:
    """One point for each version of the distance."""
    estimate = contents.estimate
    points = [("as reported by other tools", estimate.value)]
    if contents.extrapolation is not None:
        points.append(("extrapolated to 1/n = 0", contents.extrapolation.value))
    if contents.trimmed is not None:
        n = contents.trimmed.num_samples
        points.append((f"without the worst {'sample' if n == 1 else f'{n:,}'}", contents.trimmed.value))
    names = [name for name, _ in points]
    axes.plot([value for _, value in points], range(len(points)), "o", color=_SAMPLES, fillstyle="none")
    if estimate.note is None:
        position = len(names)
        names.append("unbiased")
        low, high = estimate.interval()
        _bar(axes.hlines, position, low, high, estimate.unbiased, estimate.stderr)
        axes.plot(estimate.unbiased, position, "o", color=_SAMPLES)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", color=_FAINT, linewidth=0.5, linestyle=":")
    axes.set_xlabel(contents.label)
    axes.margins(x=0.08)


def _extrapolation(axes: Any, contents: Contents) -> None:
    """Distances over 1/n with the fitted line, and the unbiased distance at 0."""
    line, estimate = contents.extrapolation, contents.estimate
    assert line is not None
    inverse = 1 / line.num_samples
    axes.plot(inverse, line.distances, "o", color=_SAMPLES, fillstyle="none", label="subsets")
    ends = np.array([0.0, inverse.max()])
    axes.plot(ends, line.value + line.slope * ends, color=_FAINT, linewidth=1, zorder=1, label="fitted line")
    if estimate.note is None:
        low, high = estimate.interval()
        _bar(axes.vlines, 0.0, low, high, estimate.unbiased, estimate.stderr)
        axes.plot(0.0, estimate.unbiased, "o", color=_REFERENCE, clip_on=False, label="unbiased, 95 %")
    axes.set_xlim(-0.05 * inverse.max(), 1.04 * inverse.max())
    sizes = _spaced([(0.0, "∞"), *((1 / n, f"{n:,}") for n in line.num_samples.tolist())], 0.13 * inverse.max())
    axes.set_xticks([position for position, _ in sizes], [text for _, text in sizes])
    axes.set_xlabel("number of samples n (scale 1/n)")
    axes.set_ylabel(contents.label)
    _legend(axes)


def _spectra(axes: Any, contents: Contents) -> None:
    """Eigenvalues by rank, on logarithmic axes."""
    for name, spectrum, rank, colour, style in zip(
        ("samples", "reference"), contents.spectra, contents.ranks, (_SAMPLES, _REFERENCE), ("-", "--"), strict=True
    ):
        marker = "o" if rank < 10 else ""
        axes.loglog(
            np.arange(1, rank + 1), spectrum[:rank], color=colour, linestyle=style, marker=marker, markersize=4,
            label=f"{name}, rank {rank:,}",
        )  # fmt: skip
    axes.set_xlabel("principal direction")
    axes.set_ylabel("variance")
    _legend(axes)


def _legend(axes: Any) -> None:
    """Above the axes, so that it covers no point."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=3, columnspacing=1.2, handlelength=1.4, borderpad=0)


def _bar(lines: Callable[..., Any], position: float, low: float, high: float, middle: float, stderr: float) -> None:
    colour = _REFERENCE if lines.__name__ == "vlines" else _SAMPLES
    lines(position, low, high, color=colour, linewidth=1.2, clip_on=False)
    lines(position, middle - stderr, middle + stderr, color=colour, linewidth=4, clip_on=False)


def _spaced(ticks: list[tuple[float, str]], apart: float) -> list[tuple[float, str]]:
    """The ticks that are at least `apart` from each other; the first and the last are always kept."""
    first, *rest = sorted(ticks)
    kept = [first]
    for tick in reversed(rest):
        if all(abs(tick[0] - other[0]) >= apart for other in kept):
            kept.append(tick)
    return kept


@contextmanager
def _style() -> Iterator[None]:
    """Set the style of the plots, independent of the user's settings."""
    from matplotlib import style

    with style.context(["default", _STYLE]):
        yield


def _svg(draw: Callable[[Any], None]) -> str:
    """One figure as SVG, without pyplot."""
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.4, 3.2))
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"^.*?(?=<svg )", "", text.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(_TEXT, "var(--text)").replace(_FAINT, "var(--faint)")
    return re.sub(r"(<svg [^>]*>)", lambda match: match.group(1) + _COLOURS, svg, count=1)
