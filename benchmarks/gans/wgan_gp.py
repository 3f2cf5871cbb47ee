"""WGAN-GP on images with one learning rate and with two.

Heusel et al. 2017 train the critic D and the generator G of WGAN-GP (Gulrajani et al. 2017) with different learning
rates and one critic step, against one rate and five critic steps [read]. The networks minimise, with Adam
(beta1 = 0 [read], beta2 = 0.9 [remembered]) and batches of 64 [read]::

    D:  E D(G(z)) - E D(x) + 10 E (|grad D(x^)| - 1)^2        x^ uniform on the line between x and G(z)
    G:  -E D(G(z))

=============== ========= ========= ============ =============== ============
regime          rate of D rate of G critic steps CIFAR-10 [read] LSUN [read]
=============== ========= ========= ============ =============== ============
one time scale  1e-4      1e-4      5            29.3            20.5
two time scales 3e-4      1e-4      1            24.8            9.5
=============== ========= ========= ============ =============== ============

The paper stops both after about the same time. Here both regimes train for about the same time too, so that one time
scale makes fewer updates of the generator. The networks are those of the experiment with DCGAN, without batch norms in
the critic, because the penalty is on the gradient of each image. Each regime has the same number of candidates, each
one shorter run of seed 0; the one with the lowest distance along its run is run with the seeds 1, 2, ... The distance
is measured as in that experiment.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.gans import rate_search
from benchmarks.gans.experiment import HEUSEL, Figure, Sentence, json_types
from benchmarks.gans.image_gan import QUICK_IMAGES, ImageSettings, train_extractor
from benchmarks.gans.measurement import distance, distances
from benchmarks.gans.rate_search import Result, best, best_candidate, search_and_run, search_text
from benchmarks.gans.time_scales import REGIMES, at, band, common_seconds, difference
from benchmarks.gans.training import rate_text
from benchmarks.gans.work import Work

CLAIM = "WGAN-GP reaches a lower Fréchet distance with two rates and one critic step than with one rate and five."
PAPER = HEUSEL

#: Updates of the critic for one of the generator.
CRITIC_STEPS = {"two": 1, "one": 5}

#: The paper's table of WGAN-GP [read]: data, then for two time scales and for one: minutes and FID.
TABLE = (("CIFAR-10", (700, 24.8), (800, 29.3)), ("LSUN", (1900, 9.5), (2010, 20.5)))


@dataclass(frozen=True)
class Settings(ImageSettings):
    """Settings of the experiment."""

    #: Updates of the generator in the final runs and in the search, chosen so that the regimes train equally long.
    two_updates: int = 4_320
    one_updates: int = 1_164
    two_search_updates: int = 1_200
    one_search_updates: int = 324
    #: Measurements after the first one, which is before training.
    measurements: int = 12
    num_samples: int = 10_000
    search_measurements: int = 4
    search_num_samples: int = 5_000
    #: Candidates: the rate of both networks; the paper's is 1e-4.
    one_rate: tuple[float, ...] = (1e-4, 1e-3, 3e-3, 1e-2, 2e-2)
    #: Candidates: the rates of the critic and the generator; the paper's are 3e-4 and 1e-4.
    two_rates: tuple[tuple[float, float], ...] = (
        (3e-4, 1e-4),
        (3e-3, 1e-3),
        (1e-2, 3e-3),
        (1e-3, 2e-3),
        (2e-2, 1e-2),
    )


QUICK = Settings(
    **QUICK_IMAGES,
    two_updates=108,
    one_updates=32,
    two_search_updates=40,
    one_search_updates=12,
    measurements=4,
    num_samples=500,
    search_measurements=2,
    search_num_samples=500,
    one_rate=(1e-2, 2e-2),
    two_rates=((3e-2, 1e-2), (4e-2, 2e-2)),
)
FULL = Settings(seeds=3)


def run(settings: Settings, work: Work) -> Result:
    """Train the extractor, search the rates, then train all seeds with the best of each regime."""
    trained = train_extractor(work, settings)
    arguments = {
        "trained": trained,
        "dataset": settings.dataset,
        "width": settings.width,
        "latent": settings.latent,
        "betas": (0.0, 0.9),
        "batch_norm": False,
        "penalty": 10.0,
    }
    search, runs = search_and_run(
        work,
        arguments,
        one_rate=settings.one_rate,
        two_rates=settings.two_rates,
        search=_lengths(
            {"one": settings.one_search_updates, "two": settings.two_search_updates},
            settings.search_measurements,
            settings.search_num_samples,
        ),
        final=_lengths(
            {"one": settings.one_updates, "two": settings.two_updates}, settings.measurements, settings.num_samples
        ),
        seeds=settings.seeds,
    )
    return Result(json_types(asdict(settings)), trained["accuracy"], search, runs)


def _lengths(updates: dict[str, int], measurements: int, num_samples: int) -> dict[str, dict[str, int]]:
    """Regime to the arguments of `train_gan` that differ between the regimes."""
    return {
        regime: {
            "critic_steps": CRITIC_STEPS[regime],
            "updates": number,
            "measure_every": number // measurements,
            "num_samples": num_samples,
        }
        for regime, number in updates.items()
    }


@dataclass(frozen=True)
class Comparison:
    """The distances of the two regimes at the same time of training."""

    #: The longest training time that all runs reached.
    seconds: float
    #: Regime to the distance of each seed at this time, and at the same number of updates.
    at_seconds: dict[str, np.ndarray]
    at_updates: dict[str, np.ndarray]
    #: This number of updates: the most that all runs made.
    updates: int
    #: Regime to the best distance of each seed.
    lowest: dict[str, np.ndarray]
    #: The last time at which two time scales have a lower mean distance than one, if that is not the end, else None.
    crossing: float | None
    #: Largest error bar of a measurement at the end.
    stderr: float


def compare(result: Result) -> Comparison:
    """Compare the two regimes; distances between two measurements are interpolated."""
    seconds = common_seconds(result.runs)
    updates = min(curve[-1]["update"] for runs in result.runs.values() for curve in runs)
    at_seconds = {regime: at(result.runs[regime], distance, "seconds", seconds) for regime in REGIMES}
    lower = [
        time
        for time in np.linspace(0, seconds, 201)
        if at(result.runs["two"], distance, "seconds", time).mean()
        < at(result.runs["one"], distance, "seconds", time).mean()
    ]
    return Comparison(
        seconds=seconds,
        at_seconds=at_seconds,
        at_updates={regime: at(result.runs[regime], distance, "update", updates) for regime in REGIMES},
        updates=updates,
        lowest={regime: distances(runs).min(axis=1) for regime, runs in result.runs.items()},
        crossing=float(lower[-1]) if lower and lower[-1] < seconds else None,
        stderr=max(curve[-1]["stderr"] for runs in result.runs.values() for curve in runs),
    )


def plot(result: Result) -> Any:
    """Curves over updates and over time with the band of the seeds, and the search."""
    return rate_search.plot(result.search, result.runs)


def claim(result: Result) -> list[Sentence]:
    """The paper's claims, and that the networks learn."""
    found = compare(result)
    compared = difference(found.at_seconds)
    two, one = (best(best_candidate(result.search[regime])["curve"]) for regime in ("two", "one"))
    factor = min(float((distances(runs)[:, 0] / found.lowest[regime]).min()) for regime, runs in result.runs.items())
    margin = f"the error bar of a measurement is at most {found.stderr:.2g}"
    return [
        Sentence(
            f"After {found.seconds:.0f} s of training, two time scales with one critic step have a lower distance than "
            f"one with five: {band(found.at_seconds['two'])} against {band(found.at_seconds['one'])}, mean and range "
            "over the seeds.",
            compared.value > 0,
            f"the difference is {compared}; {margin}",
        ),
        Sentence(
            f"It is lower beyond the spread of the seeds: the 95 % interval of the difference, {compared}, excludes 0.",
            compared.value > compared.half,
            "Welch's t over the seeds",
        ),
        Sentence(
            f"After the same {found.updates:,} updates of the generator, five critic steps have a lower distance in "
            f"every seed than one: {band(found.at_updates['one'])} against {band(found.at_updates['two'])}.",
            bool(found.at_updates["one"].max() < found.at_updates["two"].min()),
            "the ranges over the seeds do not overlap; not a claim of the paper, which compares times",
        ),
        Sentence(
            f"In the search, the best pair of rates has a lower distance than the best single rate: "
            f"{distance(two):.3g} against {distance(one):.3g}.",
            distance(two) < distance(one),
            f"one run each, and the lowest of {len(result.search['two'])}: no evidence on its own",
        ),
        Sentence(
            f"Every run lowers the distance, by a factor of at least {factor:.3g}.",
            factor > 2,
            "at least 2; over 4 seeds of the quick preset, whose rates were chosen so that it learns, it was 5.1",
        ),
    ]


def figures(result: Result) -> list[Figure]:
    """The paper's table of WGAN-GP beside this result."""
    found, dataset = compare(result), result.settings["dataset"]
    rates = {"one": "1e-4, 1e-4", "two": "3e-4, 1e-4"}
    rows = []
    for column, regime in enumerate(("two", "one"), 1):
        d, g = map(rate_text, best_candidate(result.search[regime])["rates"])
        name = f"{REGIMES[regime]}, {CRITIC_STEPS[regime]} critic step{'s' if CRITIC_STEPS[regime] > 1 else ''}"
        minutes = np.mean([curve[-1]["seconds"] for curve in result.runs[regime]]) / 60
        rows += [
            Figure(f"{name}: rates of D, G", rates[regime], f"{dataset} {d}, {g}", "read"),
            Figure(
                f"{name}: minutes of training",
                "; ".join(f"{row[0]} {row[column][0]:,}" for row in TABLE),
                f"{minutes:.1f}",
                "read",
            ),
            Figure(
                f"{name}: distance",
                "; ".join(f"{row[0]} {row[column][1]}" for row in TABLE),
                f"{band(found.at_seconds[regime])} at the same time; lowest {band(found.lowest[regime])}",
                "read",
            ),
        ]
    ratios = "; ".join(f"{data} {two[1] / one[1]:.2f}" for data, two, one in TABLE)
    ours = f"{found.at_seconds['two'].mean() / found.at_seconds['one'].mean():.2f}"
    settings = result.settings
    return [
        *rows,
        Figure("ratio of the distances, two to one", ratios, ours, "derived"),
        Figure("runs", "8", str(settings["seeds"]), "read"),
        Figure("generated images", "50,000", f"{settings['num_samples']:,}", "read"),
        Figure(
            "updates between measurements",
            "5,000",
            f"{settings['two_updates'] // settings['measurements']:,} with two time scales, "
            f"{settings['one_updates'] // settings['measurements']:,} with one",
            "read",
        ),
    ]


def summary(result: Result) -> str:
    """The claim, what was done, and what came out."""
    settings, found = result.settings, compare(result)
    compared = difference(found.at_seconds)
    crossing = (
        f"Two time scales have the lower mean up to {found.crossing:.0f} s, one time scale afterwards. "
        if found.crossing is not None
        else ""
    )
    return (
        "The paper reports that WGAN-GP with two time scales and one critic step reaches a lower Fréchet distance in "
        "the same time than with one rate and five critic steps. Here small networks "
        f"({settings['width']} channels) are trained on {settings['dataset']} with {settings['seeds']} seeds for each "
        f"regime: {settings['two_updates']:,} updates of the generator with two time scales and "
        f"{settings['one_updates']:,} with one, which take about as long. {search_text(result.search)} The distance is "
        f"between {settings['num_samples']:,} generated images and all training images, on "
        f"{settings['num_features']} features of a classifier with an accuracy of {result.accuracy:.2f}. {crossing}"
        f"After {found.seconds:.0f} s the distance is "
        f"{band(found.at_seconds['two'])} with two time scales and {band(found.at_seconds['one'])} with one (mean "
        f"and range over the seeds), with a difference of {compared} (95 % interval): {compared.verdict}. After the "
        f"same {found.updates:,} updates the means are {found.at_updates['two'].mean():.3g} and "
        f"{found.at_updates['one'].mean():.3g}."
    )
