"""The cost of measuring during training.

Heusel et al. (2017) measure the FID of 50,000 samples every 1,000 updates. Here a DCGAN as in the experiment ``dcgan``
is trained, and every N updates the features of the same generated samples are passed to three tools, each as its users
would use it, and each measurement starts with a different one:

- fidfast: `fidfast.torch.FrechetDistance`, updated batch by batch; the reference is factored once.
- torchmetrics: `FrechetInceptionDistance`, updated batch by batch.
- pytorch-fid: all features in one float64 array, ``numpy.mean``, ``numpy.cov`` and ``calculate_frechet_distance``.
- fidfast with error bar: the same class with ``blocks=20`` and `estimate`, which also returns standard error and bias.
  It computes 20 more distances, each without one block of samples. The other tools have no error bar.

There are two extractors: the mean over positions (128 features) and the mean over 4 x 4 parts of the image (2,048, as
many as Inception's). The peak memory of each tool is that of a process that reads the features of the last measurement
batch by batch.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fidfast.torch
from benchmarks.gans import classifier
from benchmarks.gans.experiment import HEUSEL, Figure, Sentence
from benchmarks.gans.image_gan import make_gan, train_extractor, training_images
from benchmarks.gans.streaming_tools import TOOL, TOOLS, peak_memory
from benchmarks.gans.training import Gan, NonSaturating, train
from benchmarks.gans.work import Part, Work

CLAIM = "Measuring during training gives the numbers of torchmetrics and pytorch-fid in less time and memory."
PAPER = HEUSEL

#: Colour, and marker of the distances with its size and fill.
_STYLES = {
    "fidfast": ("#0072b2", "o", 9, "none"),
    "torchmetrics": ("#d55e00", "x", 6, None),
    "pytorch-fid": ("#009e73", "+", 7, None),
    "fidfast with error bar": ("#56b4e9", "s", 12, "none"),
}


@dataclass(frozen=True)
class Settings:
    """Settings of a run."""

    dataset: str
    width: int
    num_features: int
    #: Of the second extractor: the features are means over grid x grid parts.
    grid: int
    epochs: int
    updates: int
    #: N
    measure_every: int
    num_samples: int
    rates: tuple[float, float] = (2e-4, 2e-4)
    #: Tools whose memory is measured, with the second extractor.
    memory_of: tuple[str, ...] = TOOLS
    seeds: int = 1


QUICK = Settings(
    "digits", 8, 32, grid=2, epochs=3, updates=20, measure_every=10, num_samples=600, memory_of=("fidfast",)
)
#: Networks and rates are those of the experiment ``dcgan`` with two time scales.
FULL = Settings(
    "fashion-mnist",
    16,
    128,
    grid=4,
    epochs=2,
    updates=3000,
    measure_every=1000,
    num_samples=10_000,
    rates=(1e-3, 4e-3),
)


@dataclass(frozen=True)
class Result:
    """What measuring cost."""

    settings: dict[str, Any]
    #: Seconds of `measure_every` updates, one number for each measurement but the first and each seed.
    training: list[float]
    #: Dim -> seconds to generate the samples and to extract their features, for each measurement.
    extraction: dict[str, list[float]]
    #: Dim -> tool -> seconds of updates and distance, for each measurement.
    seconds: dict[str, dict[str, list[float]]]
    #: Dim -> tool -> distances.
    distances: dict[str, dict[str, list[float]]]
    #: Tool -> peak memory with the second extractor, in bytes above that of the process before the first batch.
    memory: dict[str, float]


def run(settings: Settings, work: Work) -> Result:
    """Train the classifier, then the networks with measurements, each seed alone so that nothing disturbs the times."""
    trained = train_extractor(work, settings)
    runs = []
    for seed in range(settings.seeds):
        part = {f"seed {seed}": {"settings": settings, "trained": trained, "seed": seed}}
        runs += work.map(measured_training, part, steps=settings.updates, label=f"seed {seed}").values()
    points = [point for curve in runs for point in curve["curve"]]
    dims = list(points[0]["dims"])
    starts = [0, *(b["seconds"] - a["seconds"] for a, b in itertools.pairwise(points))]
    return Result(
        asdict(settings),
        training=[seconds for seconds, point in zip(starts, points, strict=True) if point["update"] > 0],
        extraction={dim: [point["dims"][dim]["extraction"] for point in points] for dim in dims},
        seconds={dim: {t: [point["dims"][dim]["seconds"][t] for point in points] for t in TOOLS} for dim in dims},
        distances={dim: {t: [point["dims"][dim]["distance"][t] for point in points] for t in TOOLS} for dim in dims},
        memory=runs[-1]["memory"],
    )


def measured_training(part: Part, *, settings: Settings, trained: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train and measure with every tool; then the memory of each tool."""
    dataset, weights = settings.dataset, trained["weights"]
    real = training_images(dataset)
    extractors = [
        classifier.extractor(dataset, weights, grid=grid).prepared(compile=False) for grid in (1, settings.grid)
    ]
    references = [stats_of(extractor, real) for extractor in extractors]
    tools = {
        str(extractor.num_features): {tool: TOOL[tool](reference) for tool in TOOLS}
        for extractor, reference in zip(extractors, references, strict=True)
    }
    last: dict[str, NDArray[np.float32]] = {}
    turns = itertools.cycle(range(len(TOOLS)))

    def measure(gan: Gan) -> dict[str, Any]:
        dims, first = {}, next(turns)
        for extractor in extractors:
            start = time.perf_counter()
            torch.manual_seed(seed)
            counts = [250] * (settings.num_samples // 250) + [settings.num_samples % 250]
            batches = [features_of(extractor, gan.sample(n)) for n in counts if n]
            extraction = time.perf_counter() - start
            dim = str(extractor.num_features)
            last[dim] = torch.cat(batches).numpy()
            measured = {tool: timed(tools[dim][tool], batches) for tool in TOOLS[first:] + TOOLS[:first]}
            dims[dim] = {
                "extraction": extraction,
                "seconds": {tool: seconds for tool, (seconds, _) in measured.items()},
                "distance": {tool: distance for tool, (_, distance) in measured.items()},
            }
        return {"dims": dims}

    torch.manual_seed(seed)
    gan = make_gan(real, width=settings.width, latent=100, losses=NonSaturating(), rates=settings.rates)
    curve = train(part, gan, updates=settings.updates, measure_every=settings.measure_every, measure=measure)
    if not last:  # the part was resumed after its last measurement
        measure(gan)
    dim = str(extractors[-1].num_features)
    memory = {tool: peak_memory(tool, last[dim], references[-1]) for tool in settings.memory_of}
    return {"curve": curve, "memory": memory}


def features_of(extractor: fidfast.torch.Extractor, images: torch.Tensor) -> torch.Tensor:
    """Features of (n, 1, height, width) images from -1 to 1."""
    with torch.inference_mode():
        return extractor((images + 1).mul(127.5).expand(-1, 3, -1, -1))


def stats_of(extractor: fidfast.torch.Extractor, images: torch.Tensor) -> fidfast.GaussianStats:
    """Statistics of the features of all images."""
    moments = fidfast.Moments(extractor.num_features, extractor=extractor.full_name)
    for batch in images.split(250):
        moments.update(features_of(extractor, batch))
    return moments.stats()


def timed(distance: Callable[[list[torch.Tensor]], float], batches: list[torch.Tensor]) -> tuple[float, float]:
    """Seconds, and the distance."""
    start = time.perf_counter()
    value = distance(batches)
    return time.perf_counter() - start, value


def worst_difference(result: Result) -> float:
    """Largest relative difference between any distance and fidfast's."""
    differences = [
        abs(other / ours - 1)
        for distances in result.distances.values()
        for tool in TOOLS[1:]
        for ours, other in zip(distances["fidfast"], distances[tool], strict=True)
    ]
    return max(differences)


def share(result: Result, seconds: list[float]) -> float:
    """Median time of a step of the measurements, as a share of the median time of the updates between two."""
    return float(np.median(seconds) / np.median(result.training))


def times(result: Result) -> str:
    """How many measurements the medians are of."""
    seeds, number = result.settings["seeds"], len(next(iter(result.extraction.values())))
    return f"{number} measurements of {seeds} seed{'s' if seeds > 1 else ''}"


def claim(result: Result) -> list[Sentence]:
    """Equal numbers; then time and memory, which depend on the machine."""
    worst = worst_difference(result)
    sentences = [
        Sentence(
            f"The distances of the three tools agree: the largest relative difference is {worst:.1e}, below 1e-6.",
            worst < 1e-6,
            "derived: float32 products in fidfast, 3e-7; torchmetrics returns float32, 6e-8; the eigenvalues of a "
            "product lose half of the digits of small ones",
        )
    ]
    for dim in result.seconds:
        shares = [share(result, result.seconds[dim][tool]) for tool in TOOLS]
        sentences.append(
            Sentence(
                f"With {dim} features the distance takes the smallest share of the training time with fidfast: "
                + ", ".join(f"{tool} {100 * each:.2g} %" for tool, each in zip(TOOLS, shares, strict=True))
                + ".",
                shares[0] == min(shares),
                f"medians of {times(result)}, each of which starts with a different tool; machine-dependent",
            )
        )
    if len(result.memory) > 1:
        sentences.append(
            Sentence(
                f"With {list(result.seconds)[-1]} features fidfast needs the least memory: {memory_text(result)}.",
                result.memory["fidfast"] == min(result.memory.values()),
                "measured once: peak of one process for each tool, above that before the first batch",
            )
        )
    return sentences


def memory_text(result: Result) -> str:
    """Peak memory of each tool."""
    return ", ".join(f"{tool} {each / 1e6:.0f} MB" for tool, each in result.memory.items())


def figures(result: Result) -> list[Figure]:
    """The paper gives no times; the settings of its measurements are beside ours."""
    settings = result.settings
    rows = [
        Figure(
            "updates between measurements", "1,000 (DCGAN), 5,000 (WGAN-GP)", f"{settings['measure_every']:,}", "read"
        ),
        Figure("samples", "50,000", f"{settings['num_samples']:,}", "read"),
    ]
    for dim, seconds in result.seconds.items():
        for step, each in {"generation and extraction": result.extraction[dim], **seconds}.items():
            ours = f"{np.median(each):.2g} s, {100 * share(result, each):.2g} % of the training time"
            rows.append(Figure(f"{step}, {dim} features", "", ours))
    for tool, memory in result.memory.items():
        rows.append(Figure(f"peak memory of {tool}, {list(result.seconds)[-1]} features", "", f"{memory / 1e6:.0f} MB"))
    return rows


def summary(result: Result) -> str:
    """What was done, and the results."""
    settings, (small, large) = result.settings, result.seconds
    training, seconds = float(np.median(result.training)), result.seconds[large]
    ratios = [
        f"{tool} {np.median(seconds[tool]) / np.median(seconds['fidfast']):.3g} times as long" for tool in TOOLS[1:]
    ]
    extraction = [float(np.median(result.extraction[dim])) for dim in (small, large)]
    complete = {tool: list(np.add(result.extraction[large], seconds[tool])) for tool in ("fidfast", "pytorch-fid")}
    return (
        f"Measuring the distance should add little to the training time. A DCGAN on {settings['dataset']} was "
        f"measured every {settings['measure_every']:,} updates ({training:.3g} s) with {settings['num_samples']:,} "
        f"samples, by fidfast, torchmetrics and the functions of pytorch-fid, from the same features "
        f"({times(result)}). Generating samples and extracting {small} and {large} features took "
        f"{extraction[0]:.2g} s and {extraction[1]:.2g} s. With {large} features the distance took "
        f"{100 * share(result, seconds['fidfast']):.2g} % of the training time with fidfast; the "
        f"others took: {', '.join(ratios)}. An error bar needs 20 more distances; the other tools have none. With "
        f"generation and extraction, the complete measurement took {100 * share(result, complete['fidfast']):.2g} % of "
        f"the training time with fidfast and {100 * share(result, complete['pytorch-fid']):.2g} % with pytorch-fid. "
        f"Peak memory with {large} features: {memory_text(result)}. The numbers agree to "
        f"{worst_difference(result):.0e}."
    )


def plot(result: Result) -> Any:
    """The distance during training; time as a share of the training time, and memory, of each tool."""
    import matplotlib.pyplot as plt

    settings = result.settings
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    per_seed = settings["updates"] // settings["measure_every"] + 1
    updates = np.arange(per_seed) * settings["measure_every"]
    dims, tools = list(result.seconds), list(result.memory)
    for dim, line in zip(dims, ("-", "--"), strict=True):
        for tool in TOOLS:
            colour, marker, size, fill = _STYLES[tool]
            axes[0].plot(
                updates,
                result.distances[dim][tool][:per_seed],
                line,
                color=colour,
                marker=marker,
                markersize=size,
                markerfacecolor=fill,
                linewidth=1,
                label=tool if dim == dims[0] else None,
            )
    axes[0].set(
        xlabel="updates",
        ylabel="Fréchet distance",
        yscale="log",
        title=f"The same distances (dashed: {dims[1]} features)",
    )
    axes[0].legend(fontsize=7, ncols=1)
    for i, tool in enumerate(TOOLS):
        heights = [100 * share(result, result.seconds[dim][tool]) for dim in dims]
        bars = axes[1].bar(np.arange(len(dims)) + 0.21 * (i - 1.5), heights, 0.2, color=_STYLES[tool][0], label=tool)
        axes[1].bar_label(bars, [f"{height:.2g}" for height in heights], fontsize=8)
    axes[1].set(yscale="log", ylabel="% of the training time", title="Time of the distance")
    axes[1].set_xticks(range(len(dims)), [f"{dim} features" for dim in dims])
    axes[1].legend(fontsize=7, loc="upper left")
    heights = [result.memory[tool] / 1e6 for tool in tools]
    names = [tool.replace(" with ", "\nwith ") for tool in tools]
    bars = axes[2].bar(names, heights, 0.6, color=[_STYLES[tool][0] for tool in tools])
    axes[2].tick_params(axis="x", labelsize=7)
    axes[2].bar_label(bars, [f"{height:.0f}" for height in heights], fontsize=8)
    axes[2].set(ylabel="MB", title=f"Peak memory, {dims[-1]} features")
    for ax in axes[1:]:
        ax.margins(y=0.15)
    return figure
