"""Learning rates of image experiments with one and with two time scales: an equal search, then runs of the best.

Each regime has the same number of candidates. Each candidate is one shorter run of seed 0; the one with the lowest
distance along its run is run with the seeds 1, 2, ... Trial runs, which are not counted, gave the range of the
candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gans.image_gan import train_gan
from benchmarks.gans.measurement import distance
from benchmarks.gans.time_scales import COLOURS, REGIMES, Curve, Point, draw
from benchmarks.gans.training import rate_text
from benchmarks.gans.work import Work

Rates = tuple[float, float]


@dataclass(frozen=True)
class Result:
    """Result of an experiment with a search."""

    settings: dict[str, Any]
    #: Of the extractor, on the test images.
    accuracy: float
    #: Regime to its candidates: rates of the discriminator and the generator, and the curve.
    search: dict[str, list[dict[str, Any]]]
    #: Regime to the curves of the seeds with the best candidate.
    runs: dict[str, list[list[dict[str, Any]]]]


def search_and_run(
    work: Work,
    arguments: Mapping[str, Any],
    *,
    one_rate: Sequence[float],
    two_rates: Sequence[Rates],
    search: Mapping[str, Mapping[str, Any]],
    final: Mapping[str, Mapping[str, Any]],
    seeds: int,
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[Curve]]]:
    """Search the rates of both regimes, and train all seeds with the best.

    Parameters
    ----------
    work : Work
    arguments : mapping
        Arguments of `train_gan` for all runs.
    one_rate, two_rates : sequence
        Candidates: the rate of both networks; the rates of discriminator and generator.
    search, final : mapping
        Regime to further arguments of the runs of the search, and of the final runs.
    seeds : int
        Number of final runs of each regime.

    Returns
    -------
    (dict, dict)
        Regime to its candidates, each with ``rates`` and ``curve``; and to the curves of the seeds.
    """
    candidates = {"one": [(rate, rate) for rate in one_rate], "two": list(two_rates)}
    parts = {
        f"search {regime} {d:g} {g:g}": {**arguments, **search[regime], "seed": 0, "rates": (d, g)}
        for regime, pairs in candidates.items()
        for d, g in pairs
    }
    curves = iter(work.map(train_gan, parts, steps=_steps(parts), label="search").values())
    searched = {
        regime: [{"rates": list(rates), "curve": next(curves)} for rates in pairs]
        for regime, pairs in candidates.items()
    }
    parts = {
        f"run {regime} {seed}": {
            **arguments,
            **final[regime],
            "seed": seed,
            "rates": tuple(best_candidate(searched[regime])["rates"]),
        }
        for seed in range(1, seeds + 1)
        for regime in REGIMES
    }
    found = work.map(train_gan, parts, steps=_steps(parts), label="runs")
    return searched, {regime: [found[f"run {regime} {seed}"] for seed in range(1, seeds + 1)] for regime in REGIMES}


def _steps(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    return {name: arguments["updates"] for name, arguments in parts.items()}


def best(curve: Curve) -> Point:
    """The point with the lowest distance."""
    return min(curve, key=distance)


def best_candidate(candidates: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The candidate with the lowest distance along its run."""
    return min(candidates, key=lambda candidate: distance(best(candidate["curve"])))


def search_text(search: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """What was tried and chosen, for a summary."""
    (d, g), (single, _) = (best_candidate(search[regime])["rates"] for regime in ("two", "one"))
    updates = {regime: each[0]["curve"][-1]["update"] for regime, each in search.items()}
    largest = single == max(rate for each in search["one"] for rate in each["rates"])
    return (
        f"The search tried {len(search['two'])} pairs of rates and {len(search['one'])} single rates, each in one run "
        f"of {updates['two']:,} and {updates['one']:,} updates, and chose those with the lowest distance along it: "
        f"D {rate_text(d)}, G {rate_text(g)}, and {rate_text(single)} for both networks"
        + (", the largest of the single rates. " if largest else ". ")
        + "Its runs are shorter than the final ones, which favours large rates: other rates may be better at the end. "
        "The trial runs that gave the range of the candidates are not counted."
    )


def plot(search: Mapping[str, list[dict[str, Any]]], runs: Mapping[str, list[Curve]]) -> Any:
    """Distances over updates and over time with the band of the seeds, and the search."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 0.85))
    for axis, over, label in zip(
        axes[:2], ("update", "seconds"), ("updates of the generator", "training time (s)"), strict=True
    ):
        for regime, curves in runs.items():
            d, g = map(rate_text, best_candidate(search[regime])["rates"])
            named = f"{REGIMES[regime]}: D {d}, G {g}"
            draw(axis, curves, distance, regime=regime, over=over, label=named, error_bars=True)
        axis.set(xlabel=label, ylabel="Fréchet distance" if over == "update" else "", yscale="log")
        axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3, which="both", lw=0.4)
    axes[0].legend(
        frameon=False, fontsize=8.5, title="mean, range of the seeds, error bar", title_fontsize=8.5, loc="upper right"
    )
    _plot_search(axes[2], search)
    return figure


def _plot_search(axis: Any, search: Mapping[str, list[dict[str, Any]]]) -> None:
    """Best distance of each candidate, at its rates."""
    rates = [rate for candidates in search.values() for each in candidates for rate in each["rates"]]
    limits = (min(rates) / 1.8, max(rates) * 1.8)
    axis.plot(limits, limits, color="0.7", lw=0.8, zorder=0)
    for regime, candidates in search.items():
        chosen = best_candidate(candidates)
        for each in candidates:
            d, g = each["rates"]
            axis.plot(g, d, "o", color=COLOURS[regime], ms=9 if each is chosen else 5, mec="black", mew=each is chosen)
            text = f"{distance(best(each['curve'])):.3g}"
            axis.annotate(text, (g, d), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    axis.set(xscale="log", yscale="log", xlim=limits, ylim=limits, aspect="equal")
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_minor_formatter("")
    axis.set(xlabel="rate of the generator", ylabel="rate of the discriminator")
    axis.set_title("search: best distance; circled: chosen", fontsize=9)
