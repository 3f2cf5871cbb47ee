"""DCGAN on images with one learning rate and with two.

Heusel et al. 2017 train the discriminator and the generator with different learning rates (two time-scale update rule,
TTUR). With the gradients g and h of their losses and the noise M and N of the batches [remembered]::

    w(n + 1)     = w(n)     + b(n) (g(theta(n), w(n)) + M(n))        discriminator, rate b
    theta(n + 1) = theta(n) + a(n) (h(theta(n), w(n)) + N(n))        generator, rate a

and claim that a(n) different from b(n) reaches a lower Fréchet distance than the best a(n) = b(n). In their DCGANs the
discriminator is the slower one [read]. Adam with beta1 = 0.5, batches of 64, z of 100 numbers [read]; the loss is the
non-saturating one.

Here: small DCGANs on Fashion-MNIST. Both regimes get the same number of candidates, each one shorter run of seed 0, and
the candidate with the lowest distance along its run is run with the seeds 1, 2, ... A shorter run favours larger
rates; trial runs of seed 0, which are not counted, gave the range of the candidates. Both regimes have the same
networks, and each seed the same initial weights. The distance is measured with 10,000 generated images (the paper:
50,000 [read]) on the features of a classifier of the data set, against all training images.
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
from benchmarks.gans.time_scales import REGIMES, band, difference
from benchmarks.gans.training import rate_text
from benchmarks.gans.work import Work

CLAIM = "A DCGAN reaches a lower Fréchet distance with a learning rate for each network than with one for both."
PAPER = HEUSEL

#: The paper's table of DCGAN [read]: data, then for two time scales and for one: rates of D and G, updates in
#: thousands at the best FID, and that FID.
TABLE = (
    ("CelebA", ((1e-5, 5e-4), 225, 12.5), ((5e-4, 5e-4), 70, 21.4)),
    ("CIFAR-10", ((1e-4, 5e-4), 75, 36.9), ((1e-4, 1e-4), 100, 37.7)),
    ("SVHN", ((1e-5, 1e-4), 165, 12.5), ((5e-5, 5e-5), 185, 21.4)),
    ("LSUN", ((1e-5, 1e-4), 340, 57.5), ((5e-5, 5e-5), 70, 70.4)),
)


@dataclass(frozen=True)
class Settings(ImageSettings):
    """Settings of the experiment."""

    updates: int = 3_000
    measure_every: int = 250
    num_samples: int = 10_000
    #: Of the search, in which each regime has the same number of candidates, and each candidate one run.
    search_updates: int = 1_000
    search_measure_every: int = 250
    search_num_samples: int = 5_000
    #: Candidates: the rate of both networks.
    one_rate: tuple[float, ...] = (2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
    #: Candidates: the rates of the discriminator and the generator.
    two_rates: tuple[tuple[float, float], ...] = (
        (2e-4, 1e-3),
        (5e-4, 2e-3),
        (1e-3, 2e-3),
        (1e-3, 4e-3),
        (2e-3, 4e-3),
        (2e-3, 1e-3),
    )


QUICK = Settings(
    **QUICK_IMAGES,
    updates=120,
    measure_every=30,
    num_samples=1_000,
    search_updates=40,
    search_measure_every=20,
    search_num_samples=500,
    one_rate=(1e-3, 4e-3),
    two_rates=((1e-3, 4e-3), (4e-3, 1e-3)),
)
FULL = Settings(seeds=4)


def run(settings: Settings, work: Work) -> Result:
    """Train the extractor, search the rates, then train all seeds with the best of each regime."""
    trained = train_extractor(work, settings)
    arguments = {"trained": trained, "dataset": settings.dataset, "width": settings.width, "latent": settings.latent}
    searched = {
        "updates": settings.search_updates,
        "measure_every": settings.search_measure_every,
        "num_samples": settings.search_num_samples,
    }
    final = {
        "updates": settings.updates,
        "measure_every": settings.measure_every,
        "num_samples": settings.num_samples,
    }
    search, runs = search_and_run(
        work,
        arguments,
        one_rate=settings.one_rate,
        two_rates=settings.two_rates,
        search=dict.fromkeys(REGIMES, searched),
        final=dict.fromkeys(REGIMES, final),
        seeds=settings.seeds,
    )
    return Result(json_types(asdict(settings)), trained["accuracy"], search, runs)


@dataclass(frozen=True)
class Comparison:
    """The distances of the two regimes, in squared units of the features."""

    #: Regime to the lowest distance along the run of each seed, (seeds,), and to the last one.
    best: dict[str, np.ndarray]
    last: dict[str, np.ndarray]
    #: Regime to the update with the lowest mean curve.
    update: dict[str, int]
    #: The first update at which the mean curve of two time scales is as low as the lowest of one time scale, or None.
    overtaken: int | None
    #: Updates of the runs.
    updates: int


def compare(result: Result) -> Comparison:
    """Compare the two regimes."""
    curves = {regime: distances(runs) for regime, runs in result.runs.items()}
    means = {regime: values.mean(axis=0) for regime, values in curves.items()}
    updates = [point["update"] for point in result.runs["one"][0]]
    reached = np.flatnonzero(means["two"] <= means["one"].min())
    return Comparison(
        best={regime: values.min(axis=1) for regime, values in curves.items()},
        last={regime: values[:, -1] for regime, values in curves.items()},
        update={regime: updates[int(mean.argmin())] for regime, mean in means.items()},
        overtaken=updates[reached[0]] if len(reached) else None,
        updates=updates[-1],
    )


def plot(result: Result) -> Any:
    """Curves over updates and over time with the band of the seeds, and the search."""
    return rate_search.plot(result.search, result.runs)


def claim(result: Result) -> list[Sentence]:
    """The paper's claims, and that the networks learn."""
    found, seeds = compare(result), result.settings["seeds"]
    two, one = best_candidate(result.search["two"]), best_candidate(result.search["one"])
    reached = "never" if found.overtaken is None else f"at update {found.overtaken:,}"
    factor = {regime: distances(runs)[:, 0] / found.best[regime] for regime, runs in result.runs.items()}
    smallest = min(float(values.min()) for values in factor.values())
    d, g = two["rates"]
    slower = sum(each["rates"][0] < each["rates"][1] for each in result.search["two"])
    sentences = []
    for values, what in (
        (found.best, "The lowest distance along the run"),
        (found.last, f"The distance after {found.updates:,} updates"),
    ):
        compared = difference(values)
        sentences += [
            Sentence(
                f"{what} is lower with two time scales: {band(values['two'])} against {band(values['one'])}, mean and "
                f"range over {seeds} seeds.",
                compared.value > 0,
                f"the difference is {compared}",
            ),
            Sentence(
                f"{what} is lower beyond the spread of the seeds: the 95 % interval of the difference, {compared}, "
                "excludes 0.",
                compared.value > compared.half,
                "Welch's t over the seeds",
            ),
        ]
    return [
        *sentences,
        Sentence(
            "The mean curve of two time scales reaches the lowest mean of one time scale sooner: "
            f"{reached}, against {found.update['one']:,}, of {found.updates:,}.",
            found.overtaken is not None and found.overtaken < found.update["one"],
            f"measured every {result.settings['measure_every']:,} updates",
        ),
        Sentence(
            f"Of the pairs of rates, one with a slower discriminator is the best: D {rate_text(d)}, G {rate_text(g)}; "
            f"{slower} of {len(result.search['two'])} candidates have a slower discriminator.",
            d < g,
            "one run each",
        ),
        Sentence(
            f"In the search, the best pair has a lower distance than the best single rate: "
            f"{distance(best(two['curve'])):.3g} against {distance(best(one['curve'])):.3g}.",
            distance(best(two["curve"])) < distance(best(one["curve"])),
            f"one run each, and the lowest of {len(result.search['two'])}: no evidence on its own",
        ),
        Sentence(
            f"Every run lowers the distance, by a factor of at least {smallest:.3g}.",
            smallest > 2,
            "at least 2; over 5 seeds of the quick preset, the smallest of the factors was 3.9",
        ),
    ]


def figures(result: Result) -> list[Figure]:
    """The paper's table of DCGAN beside this result."""
    found, dataset = compare(result), result.settings["dataset"]
    rows = []
    for column, regime in enumerate(("two", "one"), 1):
        cells = [(row[0], row[column]) for row in TABLE]
        d, g = best_candidate(result.search[regime])["rates"]
        name = REGIMES[regime]
        rows += [
            Figure(
                f"{name}: rates of D, G",
                "; ".join(f"{data} {rate_text(rates[0])}, {rate_text(rates[1])}" for data, (rates, _, _) in cells),
                f"{dataset} {rate_text(d)}, {rate_text(g)}",
                "read",
            ),
            Figure(
                f"{name}: updates to the best distance",
                "; ".join(f"{data} {thousands}k" for data, (_, thousands, _) in cells),
                f"{found.update[regime]:,}",
                "read",
            ),
            Figure(
                f"{name}: best distance",
                "; ".join(f"{data} {fid}" for data, (_, _, fid) in cells),
                band(found.best[regime]),
                "read",
            ),
        ]
    ratios = "; ".join(f"{data} {two[2] / one[2]:.2f}" for data, two, one in TABLE)
    ours = f"{found.best['two'].mean() / found.best['one'].mean():.2f}"
    settings = result.settings
    return [
        *rows,
        Figure("ratio of the best distances, two to one", ratios, ours, "derived"),
        Figure("runs", "8", str(settings["seeds"]), "read"),
        Figure("generated images", "50,000", f"{settings['num_samples']:,}", "read"),
        Figure("updates between measurements", "1,000", f"{settings['measure_every']:,}", "read"),
    ]


def summary(result: Result) -> str:
    """The claim, what was done, and what came out."""
    settings, found = result.settings, compare(result)
    seconds = np.mean([curve[-1]["seconds"] for runs in result.runs.values() for curve in runs])
    lowest, last = difference(found.best), difference(found.last)
    return (
        "The paper reports that a DCGAN reaches a lower Fréchet distance if discriminator and generator have different "
        "learning rates; in its DCGANs the discriminator's is the lower one. Here a small DCGAN "
        f"({settings['width']} channels, {settings['updates']:,} updates, {seconds:.0f} s of training) is trained on "
        f"{settings['dataset']} with {settings['seeds']} seeds for each regime. {search_text(result.search)} "
        f"The distance is between {settings['num_samples']:,} generated images and all training "
        f"images, on {settings['num_features']} features of a classifier with an accuracy of {result.accuracy:.2f}. "
        f"The lowest distance along the run, averaged over the seeds, is {found.best['two'].mean():.3g} with two time "
        f"scales and {found.best['one'].mean():.3g} with one, with a difference of {lowest} (95 % interval): "
        f"{lowest.verdict}. After the last update it is {found.last['two'].mean():.3g} and "
        f"{found.last['one'].mean():.3g}, with a difference of {last}: {last.verdict}."
    )
