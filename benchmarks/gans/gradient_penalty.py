"""Zero-centred gradient penalty on images.

Mescheder et al. 2018 prove that unregularised training of a GAN need not converge near its equilibrium, and that it
does converge locally if the gradient of the discriminator D on the real images x is penalised [remembered]::

    R1 = gamma E |grad_x D(x)|^2

with gamma = 10, without the factor 1/2 of the paper's equation, as in its code; RMSprop with the rate 1e-4, batches of
64, one step of the discriminator for each of the generator, whose weights are averaged with 0.999 [read].

Here: the DCGAN of the experiment ``dcgan`` on Fashion-MNIST, with and without R1, at a rate at which it oscillates
without. It differs from the paper in two points: Adam as in that experiment, and no average of the generator, since the
average would smooth the oscillation that is to be measured. The discriminator has no batch norm in either regime: batch
norm mixes the gradients of the images.

The oscillation of a run is measured on the distances d_1, ..., d_m of the last half of its curve::

    fluctuation = sqrt(mean of (d_(i+1) - 2 d_i + d_(i-1))^2 / 6),        rise = d_m / min of all d

For independent values around a linear trend the fluctuation is their standard deviation [derived]. All measurements of
a run use the same latent numbers, so that the error of the estimate contributes less than its standard error to it.
The rise is 1 for a run that ends at its best.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.gans.experiment import Figure, Sentence, json_types
from benchmarks.gans.image_gan import QUICK_IMAGES, ImageSettings, train_extractor, train_gan
from benchmarks.gans.measurement import distance, distances
from benchmarks.gans.training import rate_text
from benchmarks.gans.work import Work

CLAIM = "A zero-centred penalty on the discriminator's gradient makes the training of a GAN converge."
PAPER = "Mescheder, Geiger & Nowozin 2018, arXiv 1801.04406"

REGIMES = {"none": "without penalty", "r1": "R1"}
COLOURS = {"none": "#d55e00", "r1": "#0072b2"}

#: The loss of a discriminator that returns 0 for all images, as it does at the equilibrium [derived].
EQUILIBRIUM = 2 * math.log(2)


@dataclass(frozen=True)
class Settings(ImageSettings):
    """Settings of the experiment."""

    updates: int = 1_600
    measure_every: int = 80
    num_samples: int = 5_000
    #: Of both networks, and the betas of Adam.
    rate: float = 4e-3
    betas: tuple[float, float] = (0.5, 0.999)
    #: Weight of R1.
    gamma: float = 10.0


QUICK = Settings(
    **QUICK_IMAGES,
    updates=120,
    measure_every=12,
    num_samples=500,
)
FULL = Settings(seeds=3)


@dataclass(frozen=True)
class Result:
    """Result of the experiment."""

    settings: dict[str, Any]
    #: Of the extractor, on the test images.
    accuracy: float
    #: Regime to the curves of the seeds.
    runs: dict[str, list[list[dict[str, Any]]]]


def run(settings: Settings, work: Work) -> Result:
    """Train the extractor, then both regimes with the same seeds."""
    trained = train_extractor(work, settings)
    parts = {
        f"run {regime} {seed}": {
            "trained": trained,
            "dataset": settings.dataset,
            "seed": seed,
            "rates": (settings.rate, settings.rate),
            "width": settings.width,
            "latent": settings.latent,
            "updates": settings.updates,
            "measure_every": settings.measure_every,
            "num_samples": settings.num_samples,
            "betas": settings.betas,
            "batch_norm": False,
            "r1": settings.gamma if regime == "r1" else 0.0,
        }
        for seed in range(1, settings.seeds + 1)
        for regime in REGIMES
    }
    found = work.map(train_gan, parts, steps=settings.updates, label="runs")
    runs = {regime: [found[f"run {regime} {seed}"] for seed in range(1, settings.seeds + 1)] for regime in REGIMES}
    return Result(json_types(asdict(settings)), trained["accuracy"], runs)


@dataclass(frozen=True)
class Oscillation:
    """Oscillation of the runs of one regime; an element of each array for each seed."""

    fluctuation: np.ndarray
    #: Fluctuation in units of the mean distance of the last half.
    relative: np.ndarray
    rise: np.ndarray
    best: np.ndarray
    #: Mean distance of the last half.
    mean: np.ndarray
    #: Standard error of the estimate, as the root mean square over the last half.
    stderr: np.ndarray
    #: Loss of the discriminator, as the mean over the last half.
    d_loss: np.ndarray


def oscillation(curves: list[list[dict[str, Any]]]) -> Oscillation:
    """Measure the oscillation of the runs."""
    all_values = distances(curves)
    half = all_values.shape[1] // 2
    values = all_values[:, half:]
    fluctuation = np.sqrt(np.mean(np.diff(values, 2, axis=1) ** 2, axis=1) / 6)
    later = [curve[half:] for curve in curves]
    return Oscillation(
        fluctuation=fluctuation,
        relative=fluctuation / values.mean(axis=1),
        rise=values[:, -1] / all_values.min(axis=1),
        best=all_values.min(axis=1),
        mean=values.mean(axis=1),
        stderr=np.sqrt(np.mean([[point["stderr"] ** 2 for point in curve] for curve in later], axis=1)),
        d_loss=np.mean([[point["d_loss"] for point in curve] for curve in later], axis=1),
    )


def plot(result: Result) -> Any:
    """The distances of all seeds, and the losses of the discriminators."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import LogFormatter

    canvas = Canvas(figsize=(10, 4.2), layout="constrained")
    left, right = canvas.subplots(1, 2)
    for regime, curves in result.runs.items():
        colour, name = COLOURS[regime], REGIMES[regime]
        for curve in curves:
            updates = [point["update"] for point in curve]
            label = None if curve is not curves[0] else name
            errors = [point["stderr"] for point in curve]
            left.errorbar(updates, list(map(distance, curve)), errors, color=colour, lw=1, capsize=1.5, label=label)
            right.plot(updates[1:], [point["d_loss"] for point in curve[1:]], color=colour, lw=1, label=label)
    left.axvspan(updates[len(updates) // 2], updates[-1], color="0.95", zorder=0)
    left.set(xlabel="updates of the generator", ylabel="Fréchet distance", yscale="log")
    left.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.set_title("each seed, with the error bar of the estimate; grey: measured half", fontsize=9)
    left.legend(frameon=False)
    right.axhline(EQUILIBRIUM, color="0.4", lw=1, ls="--", label="equilibrium: 2 log 2")
    right.set(xlabel="updates of the generator", ylabel="loss of the discriminator", ylim=(0, None))
    right.legend(frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.3, which="both", lw=0.4)
    return canvas


def claim(result: Result) -> list[Sentence]:
    """The paper's claim, as far as a curve shows it."""
    none, r1 = (oscillation(result.runs[regime]) for regime in REGIMES)
    seeds = result.settings["seeds"]
    in_errors = none.fluctuation / none.stderr
    return [
        Sentence(
            "Without the penalty the distance oscillates: over the last half of the run it fluctuates by "
            f"{_range(in_errors)} standard errors of the estimate (with R1 by {_range(r1.fluctuation / r1.stderr)}), "
            f"and the run ends at {_range(none.rise)} times its best distance.",
            bool(in_errors.min() > 3),
            "every seed more than 3 standard errors",
        ),
        Sentence(
            f"R1 damps the oscillation: the distance fluctuates by {_range(r1.fluctuation)}, without the penalty by "
            f"{_range(none.fluctuation)}.",
            bool(r1.fluctuation.max() < none.fluctuation.min()),
            f"each of {seeds} seeds with R1 against each without",
        ),
        Sentence(
            f"R1 damps it also in relation to the mean distance: by {_range(100 * r1.relative)} % of it, against "
            f"{_range(100 * none.relative)} %.",
            bool(r1.relative.max() < none.relative.min()),
            f"each of {seeds} seeds with R1 against each without",
        ),
        Sentence(
            f"With R1 the run ends closer to its best distance: {_range(r1.rise)} times the best, against "
            f"{_range(none.rise)} times.",
            bool(r1.rise.mean() < none.rise.mean()),
            "means over the seeds",
        ),
        Sentence(
            f"With R1 the mean distance of the last half of the run is lower: {_range(r1.mean)} against "
            f"{_range(none.mean)}.",
            bool(r1.mean.max() < none.mean.min()),
            f"each of {seeds} seeds with R1 against each without",
        ),
        Sentence(
            f"With R1 the loss of the discriminator is close to its value at the equilibrium, {EQUILIBRIUM:.2f}: "
            f"{_range(r1.d_loss)}, against {_range(none.d_loss)}.",
            bool(np.abs(r1.d_loss - EQUILIBRIUM).max() < np.abs(none.d_loss - EQUILIBRIUM).min()),
            f"each of {seeds} seeds with R1 closer than each without; a strong penalty has this effect for any "
            "generator, so that it does not show convergence",
        ),
    ]


def _range(values: np.ndarray) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


def figures(result: Result) -> list[Figure]:
    """The paper's settings and claim beside this result."""
    settings = result.settings
    none, r1 = (oscillation(result.runs[regime]) for regime in REGIMES)
    rate, betas, gamma = settings["rate"], settings["betas"], settings["gamma"]
    return [
        Figure("weight of R1, without the factor 1/2", "10", f"{gamma:g}", "read"),
        Figure("optimiser", "RMSprop 1e-4", f"Adam {rate_text(rate)}, betas {betas[0]:g} and {betas[1]:g}", "read"),
        Figure("average of the generator", "0.999", "none", "read"),
        Figure(
            "local convergence without penalty", "not in general", f"ends at {_range(none.rise)} x best", "remembered"
        ),
        Figure("local convergence with R1", "yes", f"ends at {_range(r1.rise)} x best", "remembered"),
        Figure("fluctuation without penalty", "", f"{_range(none.fluctuation)}"),
        Figure("fluctuation with R1", "", f"{_range(r1.fluctuation)}"),
        Figure("standard error of the distance, without and with", "", f"{_range(none.stderr)}; {_range(r1.stderr)}"),
        Figure("best distance, without and with", "", f"{_range(none.best)}; {_range(r1.best)}"),
    ]


def summary(result: Result) -> str:
    """The claim, what was done, and what came out."""
    settings = result.settings
    none, r1 = (oscillation(result.runs[regime]) for regime in REGIMES)
    lower = "lower" if r1.best.mean() < none.best.mean() else "higher"
    return (
        "The paper proves that a penalty on the discriminator's gradient on real images (R1) makes the training of a "
        "GAN converge locally, where unregularised training need not. Here a small DCGAN is trained on "
        f"{settings['dataset']} for {settings['updates']:,} updates with and without R1 of weight "
        f"{settings['gamma']:g}, with {settings['seeds']} seeds each and the rate {rate_text(settings['rate'])} for "
        "both networks, at which training without the penalty oscillated in trial runs; smaller rates are not compared."
        " Over the last half of the runs the distance fluctuates by "
        f"{_range(none.fluctuation)} without the penalty and by {_range(r1.fluctuation)} with it; the standard error "
        "of the estimate is "
        f"{_range(none.stderr)} and {_range(r1.stderr)}. The runs end at {_range(none.rise)} times their best distance "
        f"without the penalty, and at {_range(r1.rise)} times with it. The best distance, averaged over the seeds, is "
        f"{lower} with R1: {r1.best.mean():.3g} against {none.best.mean():.3g}."
    )
