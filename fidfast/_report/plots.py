"""The plots of a report, as SVG whose ink follows the reader's light or dark ground."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fidfast._report.result import Report

__all__ = ["Plot", "plots"]

#: Stand for the colours of text and of lines that help, until the SVG is written.
_INK, _FAINT = "#010203", "#040506"

_FEATURES, _REFERENCE = "#3f7fd0", "#d9772b"

_STYLE = {
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "fidfast",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}

_COLOURS = "<style>svg{--ink:#222;--faint:#999}@media(prefers-color-scheme:dark){svg{--ink:#ddd;--faint:#888}}</style>"


class Plot(NamedTuple):
    """A plot and what it shows."""

    svg: str
    caption: str


def plots(report: Report) -> Iterator[Plot]:
    """The plots that can be drawn.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    yield Plot(
        _drawn(lambda axes: _distances(axes, report)),
        "The distance as it is and without the bias of the samples; thick bars are one standard error, thin ones 95 %.",
    )
    if report.growth is not None:
        caption = "Distances of growing parts of the features. A larger sample has less bias: the line leads to none."
        if report.num_samples[1] is not None and report.estimate.num_samples[1] is not None:
            caption += " The bias of the reference's samples stays in the line; the unbiased distance has neither."
        yield Plot(_drawn(lambda axes: _growth(axes, report)), caption)
    yield Plot(
        _drawn(lambda axes: _spectra(axes, report)),
        "Variances along the principal directions of each side. A curve that falls early belongs to samples that vary "
        "in fewer ways.",
    )


def _distances(axes: Any, report: Report) -> None:
    """One line for each form of the distance."""
    known = report.estimate
    points = [("as other tools have it", known.value)]
    if report.growth is not None:
        points.append(("extrapolated to 1/n = 0", report.growth.value))
    if report.trimmed is not None:
        n = report.trimmed.num_samples
        points.append((f"without the worst {'sample' if n == 1 else f'{n:,}'}", report.trimmed.value))
    names = [name for name, _ in points]
    axes.plot([value for _, value in points], range(len(points)), "o", color=_FEATURES, fillstyle="none")
    if known.note is None:
        place = len(names)
        names.append("unbiased")
        low, high = known.interval()
        _bar(axes.hlines, place, low, high, known.unbiased, known.stderr)
        axes.plot(known.unbiased, place, "o", color=_FEATURES)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", color=_FAINT, linewidth=0.5, linestyle=":")
    axes.set_xlabel(report.label)
    axes.margins(x=0.08)


def _growth(axes: Any, report: Report) -> None:
    """Distances over 1/n, the line through them, and where it ought to end."""
    growth, known = report.growth, report.estimate
    assert growth is not None
    inverse = 1 / growth.num_samples
    axes.plot(inverse, growth.distances, "o", color=_FEATURES, fillstyle="none", label="growing parts")
    ends = np.array([0.0, inverse.max()])
    axes.plot(ends, growth.value + growth.slope * ends, color=_FAINT, linewidth=1, zorder=1, label="their line")
    if known.note is None:
        low, high = known.interval()
        _bar(axes.vlines, 0.0, low, high, known.unbiased, known.stderr)
        axes.plot(0.0, known.unbiased, "o", color=_REFERENCE, clip_on=False, label="unbiased, 95 %")
    axes.set_xlim(-0.05 * inverse.max(), 1.04 * inverse.max())
    sizes = _spaced([(0.0, "∞"), *((1 / n, f"{n:,}") for n in growth.num_samples.tolist())], 0.13 * inverse.max())
    axes.set_xticks([place for place, _ in sizes], [text for _, text in sizes])
    axes.set_xlabel("number of samples n, at 1/n")
    axes.set_ylabel(report.label)
    _legend(axes)


def _spectra(axes: Any, report: Report) -> None:
    """Eigenvalues over their rank, on logarithmic axes."""
    for name, spectrum, rank, colour, line in zip(
        ("features", "reference"), report.spectra, report.ranks, (_FEATURES, _REFERENCE), ("-", "--"), strict=True
    ):
        marker = "o" if rank < 10 else ""
        axes.loglog(
            np.arange(1, rank + 1), spectrum[:rank], color=colour, linestyle=line, marker=marker, markersize=4,
            label=f"{name}, rank {rank:,}",
        )  # fmt: skip
    axes.set_xlabel("principal direction")
    axes.set_ylabel("variance along it")
    _legend(axes)


def _legend(axes: Any) -> None:
    """Above the axes, where no point can lie."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=3, columnspacing=1.2, handlelength=1.4, borderpad=0)


def _bar(lines: Callable[..., Any], place: float, low: float, high: float, middle: float, stderr: float) -> None:
    colour = _REFERENCE if lines.__name__ == "vlines" else _FEATURES
    lines(place, low, high, color=colour, linewidth=1.2, clip_on=False)
    lines(place, middle - stderr, middle + stderr, color=colour, linewidth=4, clip_on=False)


def _spaced(ticks: list[tuple[float, str]], apart: float) -> list[tuple[float, str]]:
    """Those that leave room for each other: the first, the last, and from the last on what fits."""
    first, *rest = sorted(ticks)
    kept = [first]
    for tick in reversed(rest):
        if all(abs(tick[0] - other[0]) >= apart for other in kept):
            kept.append(tick)
    return kept


@contextmanager
def _style() -> Iterator[None]:
    """Ours on top of matplotlib's own, whatever the user has set."""
    from matplotlib import style

    with style.context(["default", _STYLE]):
        yield


def _drawn(draw: Callable[[Any], None]) -> str:
    """One figure as SVG; no state of pyplot is touched."""
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.4, 3.2))
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"^.*?(?=<svg )", "", text.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")
    return re.sub(r"(<svg [^>]*>)", lambda match: match.group(1) + _COLOURS, svg, count=1)
