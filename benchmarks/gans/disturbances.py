"""Disturbed images: Fréchet distance, kernel distance and Inception score.

Heusel et al. 2017 disturb real images at four levels each and measure the distance of the disturbed set to real images
and its Inception score [read]::

    noise            (1 - alpha) X + alpha N                         alpha = 0, 0.25, 0.5, 0.75
    blur             X convolved with a Gaussian of std alpha                0, 1, 2, 4 pixels
    rectangles       five black ones with sides alpha times the image's      0, 0.25, 0.5, 0.75
    swirl            theta' = theta + alpha exp(-5 r / (ln(2) rho))          0, 1, 2, 4 radians
    salt and pepper  a pixel is black or white, with probability alpha / 2   0, 0.1, 0.2, 0.3
    contamination    a part alpha is replaced by another data set            0, 0.25, 0.5, 0.75

They say that the Fréchet distance rises with every level, and that the Inception score, shown as a distance, stays
flat, fluctuates or falls [read]. Disturbed images should have a lower score or a higher distance [read in the
repository]; a score that falls with every level therefore orders the levels correctly. Here each step from one level to
the next is compared with its standard error.

Not the paper's: 4,000 images of Fashion-MNIST, enlarged to 64 x 64 pixels, instead of 50,000 of CelebA (the full
preset); features and classes of EfficientNet-lite0, with inputs of 96 pixels, instead of Inception's; contamination
with emoji instead of ImageNet (some differ in the colour of the skin only, so that rows are not quite independent
there); rho = 70, as in the repository for images of this size, instead of the paper's 25; noise scaled over a batch; a
reference of other images, so that level 0 is the distance of two samples of one distribution. All levels of all kinds
disturb the same images.
"""

from __future__ import annotations

import base64
import functools
import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

import fidfast
from benchmarks.gans.disturbed_images import (
    KINDS,
    RHO,
    Pixels,
    disturbed,
    enlarged,
    example,
    reference_images,
    sample_images,
)
from benchmarks.gans.experiment import HEUSEL, Figure, Sentence
from benchmarks.gans.work import Part, Work

CLAIM = "The Fréchet distance rises with every level of six disturbances; the Inception score need not fall."
PAPER = HEUSEL

#: Parts of a set whose Inception scores are averaged [read].
SPLITS = 10
#: A step between levels counts if it exceeds this many of its standard errors: normal errors do so in one direction
#: with probability 0.023. The errors of the two levels are taken as independent, though the images are the same.
STANDARD_ERRORS = 2.0
#: Seed of the images of the plot.
EXAMPLES = 5


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    #: Draws of the images and of the disturbances; results are means, errors those of one draw.
    seeds: int
    #: "fashion" or "digits".
    images: str = "fashion"
    kinds: tuple[str, ...] = tuple(KINDS)
    #: Images of a disturbed set.
    samples: int = 4_000
    #: Images of the reference, none of which is disturbed.
    reference: int = 8_000
    #: Height and width of the network's input.
    input_side: int = 96
    #: Principal directions of the reference on which the features are projected before the Fréchet distance, because
    #: an error bar needs twice as many samples as features; None for all 1,280.
    directions: int | None = None


QUICK = Settings(
    seeds=1,
    images="digits",
    kinds=("noise", "rectangles", "swirl"),
    samples=200,
    reference=400,
    input_side=64,
    directions=32,
)
FULL = Settings(seeds=1)


@dataclass(frozen=True)
class Result:
    """Result of the experiment."""

    settings: dict[str, Any]
    #: Name of the network with its resize.
    extractor: str
    #: Kind to one dict a level, as `measure` returns them, averaged over seeds.
    levels: dict[str, list[dict[str, float]]]
    #: Kind to a JPEG of one image at the four levels, in base64.
    examples: dict[str, str]


@functools.lru_cache(maxsize=1)
def network(side: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """The extractor, and the weights (1000, 1280) and bias of the classifier that follows its pooled features."""
    from fidfast.torch import load_extractor

    extractor = replace(load_extractor("efficientnet-lite0"), input_size=(side, side))
    state = extractor.model.state_dict()
    weight, bias = (state[f"network._fc.{name}"].numpy() for name in ("weight", "bias"))
    return extractor.prepared(), weight, bias


def features_of(part: Part, batches: Iterator[Pixels], side: int) -> torch.Tensor:
    """(n, 1280) features of batches of images."""
    from fidfast.torch import features_of_images

    rows = []
    for batch in batches:
        rows.append(features_of_images(batch, network(side)[0], num_workers=0).features)
        part.advance(len(batch))
    return torch.from_numpy(np.concatenate(rows))


def extract_reference(part: Part, *, settings: dict[str, Any], start: int, end: int) -> torch.Tensor:
    """Features of a part of the reference."""
    images = reference_images(settings["images"], settings["reference"])[start:end]
    return features_of(part, enlarged(images), settings["input_side"])


def measure(
    part: Part, *, settings: dict[str, Any], kind: str, level: float, seed: int, reference: torch.Tensor
) -> dict[str, float]:
    """Fréchet distance (plain; unbiased, with error), kernel distance and Inception score of a disturbed sample."""
    side, count = settings["input_side"], settings["samples"]
    images = sample_images(settings["images"], count, seed=seed, reference=settings["reference"])
    features = features_of(part, disturbed(images, kind, level, seed), side).numpy()
    _, weight, bias = network(side)
    score = fidfast.inception_score(features @ weight.T + bias, splits=SPLITS)
    kernel = fidfast.kid(features, reference.numpy())
    distance = fidfast.estimate(*projected(features, reference.numpy(), settings["directions"]))
    return {
        "level": level,
        "plain_distance": distance.value,
        "distance": distance.unbiased,
        "distance_error": distance.stderr,
        "kid": kernel.value,
        "kid_error": kernel.stderr,
        "score": score.mean,
        # The splits are disjoint, so that their scores are independent: the error of their mean.
        "score_error": score.std / math.sqrt(SPLITS - 1),
    }


def projected(features: np.ndarray, reference: np.ndarray, directions: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(n, dim) features and reference as (n, directions), on the first principal directions of the reference.

    Both are unchanged if `directions` is None.
    """
    if directions is None:
        return features, reference
    mean = reference.mean(axis=0, dtype=np.float64)
    basis = np.linalg.svd(reference - mean, full_matrices=False)[2][:directions].T
    return (features - mean) @ basis, (reference - mean) @ basis


def run(settings: Settings, work: Work) -> Result:
    """Extract the reference, then measure each level; level 0 once, since it is the same for all kinds."""
    given = asdict(settings)
    edges = np.linspace(0, settings.reference, 5).astype(int).tolist()
    parts = {
        f"reference {start}": {"settings": given, "start": start, "end": end}
        for start, end in itertools.pairwise(edges)
    }
    found = work.map(extract_reference, parts, steps=math.ceil(settings.reference / 4), label="reference")
    reference = torch.cat(list(found.values()))
    kind0, arguments = settings.kinds[0], {"settings": given, "reference": reference}
    levels = {
        f"{kind} {level:g} seed {seed}": {"kind": kind, "level": level, "seed": seed, **arguments}
        for seed in range(settings.seeds)
        for kind in settings.kinds
        for level in KINDS[kind].levels
        if level > 0 or kind == kind0
    }
    found = work.map(measure, levels, steps=settings.samples, label="levels")

    def mean(kind: str, level: float) -> dict[str, float]:
        kind = kind if level > 0 else kind0
        rows = [found[f"{kind} {level:g} seed {seed}"] for seed in range(settings.seeds)]
        return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}

    shown = sample_images(settings.images, 4, seed=EXAMPLES, reference=settings.reference)
    return Result(
        given,
        network(settings.input_side)[0].full_name,
        {kind: [mean(kind, level) for level in KINDS[kind].levels] for kind in settings.kinds},
        {kind: example(shown, kind) for kind in settings.kinds},
    )


# Claims -------------------------------------------------------------------------------------------------------------


def steps(levels: list[dict[str, float]], quantity: str) -> list[float]:
    """Differences of consecutive levels in their standard errors."""
    error = f"{quantity}_error"
    return [
        (after[quantity] - before[quantity]) / math.hypot(after[error], before[error])
        for before, after in itertools.pairwise(levels)
    ]


def course(levels: list[dict[str, float]], quantity: str) -> list[str]:
    """Whether each step "rises", "falls" or is "flat"."""
    return [
        "rises" if step > STANDARD_ERRORS else "falls" if step < -STANDARD_ERRORS else "flat"
        for step in steps(levels, quantity)
    ]


def falling(result: Result) -> list[str]:
    """Kinds whose score falls at every level."""
    return [kind for kind, levels in result.levels.items() if set(course(levels, "score")) == {"falls"}]


def rising(result: Result) -> list[str]:
    """Kinds whose score rises at some level."""
    return [kind for kind, levels in result.levels.items() if "rises" in course(levels, "score")]


def claim(result: Result) -> list[Sentence]:
    """The distance rises at each level of each kind, the kernel distance agrees, the score rises too at some levels."""
    margin = f"derived: {STANDARD_ERRORS:g} standard errors of each step, of the jackknife over rows"
    sentences = [
        Sentence(
            f"{kind.capitalize()}: the Fréchet distance rises with every level, {_arrows(levels, 'distance', '.0f')}; "
            f"its smallest step is {min(steps(levels, 'distance')):.1f} standard errors.",
            course(levels, "distance") == ["rises"] * 3,
            margin,
        )
        for kind, levels in result.levels.items()
    ]
    kernel = {kind: min(steps(levels, "kid")) for kind, levels in result.levels.items()}
    weakest = min(kernel, key=lambda kind: kernel[kind])
    step, largest = max((max(steps(levels, "score")), kind) for kind, levels in result.levels.items())
    number = 3 * len(result.levels)
    return [
        *sentences,
        Sentence(
            f"The kernel distance rises with every level of every kind too; its smallest step, {weakest}, is "
            f"{kernel[weakest]:.1f} standard errors.",
            kernel[weakest] > STANDARD_ERRORS,
            f"derived: {STANDARD_ERRORS:g} standard errors of each step, of the U-statistic",
        ),
        Sentence(
            f"The Inception score rises at some level of {len(rising(result))} of {len(result.levels)} kinds "
            f"({', '.join(rising(result)) or 'none'}), and falls with every level of {len(falling(result))}. Its "
            f"largest step is {step:.1f} standard errors, {largest} {_arrows(result.levels[largest], 'score', '.1f')}.",
            bool(rising(result)),
            f"derived: rises exceed {STANDARD_ERRORS:g} standard errors, of {SPLITS} disjoint splits; if none rose, "
            f"about {0.023 * number:.1f} of {number} steps would do so by chance",
        ),
    ]


def _arrows(levels: list[dict[str, float]], quantity: str, spec: str) -> str:
    return " → ".join(f"{level[quantity]:{spec}}" for level in levels)


def figures(result: Result) -> list[Figure]:
    """The paper has plots of another data set and network: its words beside the numbers of the four levels."""
    rows = []
    for kind, levels in result.levels.items():
        title = f"{kind.capitalize()}, alpha = {', '.join(f'{level:g}' for level in KINDS[kind].levels)}"
        distances = " → ".join(f"{level['distance']:.1f} ± {level['distance_error']:.1f}" for level in levels)
        scores = " → ".join(f"{level['score']:.2f} ± {level['score_error']:.2f}" for level in levels)
        rows += [
            Figure(f"{title}: Fréchet distance", "rises with every level", distances, "read"),
            Figure(f"{title}: kernel distance (KID)", "-", _arrows(levels, "kid", ".3g")),
            Figure(
                f"{title}: Inception score",
                "shown as a distance: flat, fluctuates or falls",
                f"{scores} ({', '.join(course(levels, 'score'))})",
                "read",
            ),
        ]
    return rows


def summary(result: Result) -> str:
    """The claim, what was done, and the results."""
    settings, levels = result.settings, result.levels
    ordered = {q: sum(course(rows, q) == ["rises"] * 3 for rows in levels.values()) for q in ("distance", "kid")}
    zero = levels[settings["kinds"][0]][0]
    fall, rise = falling(result), rising(result)
    best = max(
        ((row["score"], kind, row) for kind, rows in levels.items() for row in rows[1:]), key=lambda found: found[0]
    )
    above = (best[0] - zero["score"]) / math.hypot(best[2]["score_error"], zero["score_error"])
    source = "Fashion-MNIST" if settings["images"] == "fashion" else "scikit-learn's digits"
    return (
        "The paper disturbs images at rising levels, and says that the Fréchet distance rises with every level while "
        "the Inception score, shown as a distance, stays flat, fluctuates or falls. Here "
        f"{settings['samples']:,} images of {source} are compared with {settings['reference']:,} others (features and "
        f"ImageNet classes of {result.extractor}; swirl with rho = {RHO:g} as in the repository, the paper names 25). "
        f"Without a disturbance the distance is {zero['distance']:.1f} ± {zero['distance_error']:.1f}. It rises with "
        f"every level in {ordered['distance']} of {len(levels)} kinds, and the kernel distance in {ordered['kid']}. "
        f"The score, {zero['score']:.1f} without a disturbance, falls with every level in {len(fall)} kinds "
        f"({', '.join(fall) or 'none'}), and rises at some level of {len(rise)} ({', '.join(rise) or 'none'}). Its "
        f"highest value of a disturbed set is {best[0]:.1f} ({best[1]}, alpha = {best[2]['level']:g})"
        + (", which is above that of the undisturbed images" if above > STANDARD_ERRORS else "")
        + ". A score that falls with every level orders the levels correctly; one that rises or stays flat does not. "
        f"Each of the {SPLITS} splits has {settings['samples'] // SPLITS} images, so that the scores are lower than "
        "those of larger sets."
    )


# Plot ---------------------------------------------------------------------------------------------------------------

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.55"


def plot(result: Result) -> Any:
    """For each kind one image at the four levels, and below it the distances and the score."""
    import matplotlib.pyplot as plt
    from PIL import Image

    kinds = list(result.levels)
    columns = 3
    rows = math.ceil(len(kinds) / columns)
    figure = plt.figure(figsize=(11, 4.1 * rows), layout="constrained")
    panels = figure.subfigures(rows, columns, squeeze=False, wspace=0.02, hspace=0.03)
    top_score = max(row["score"] + 2 * row["score_error"] for levels in result.levels.values() for row in levels)
    x = range(4)
    for number, (kind, panel) in enumerate(zip(kinds, panels.flat, strict=False)):
        levels = result.levels[kind]
        strip, axis = panel.subplots(2, 1, height_ratios=(1, 2.6))
        strip.imshow(
            Image.open(io.BytesIO(base64.b64decode(result.examples[kind]))), extent=(-0.5, 3.5, 0, 1), aspect="auto"
        )
        strip.set_axis_off()
        strip.set_title(kind, fontsize=11)
        lines = [
            axis.errorbar(
                x,
                [level["distance"] for level in levels],
                [2 * level["distance_error"] for level in levels],
                color=BLUE,
                marker="o",
                ms=5,
                capsize=3,
                label="Fréchet distance ± 2 standard errors",
            ),
            axis.plot(
                x,
                [level["kid"] * levels[-1]["distance"] / levels[-1]["kid"] for level in levels],
                color=GREY,
                ls=":",
                marker="x",
                ms=5,
                label="KID, scaled to the last level",
            )[0],
        ]
        right = axis.twinx()
        lines.append(
            right.errorbar(
                x,
                [level["score"] for level in levels],
                [2 * level["score_error"] for level in levels],
                color=ORANGE,
                marker="s",
                ms=4,
                ls="--",
                capsize=3,
                label="Inception score ± 2 standard errors",
            )
        )
        axis.set(xlim=(-0.5, 3.5), xticks=list(x), xlabel=KINDS[kind].alpha)
        axis.set_xticklabels([f"{level['level']:g}" for level in levels])
        top = max(level["distance"] + 2 * level["distance_error"] for level in levels)
        axis.set_ylim(-0.03 * top, 1.05 * top)
        right.set_ylim(-0.03 * top_score, 1.05 * top_score)
        axis.tick_params(axis="y", colors=BLUE)
        right.tick_params(axis="y", colors=ORANGE)
        if number % columns == 0:
            axis.set_ylabel("Fréchet distance", color=BLUE)
        if number % columns == columns - 1 or number == len(kinds) - 1:
            right.set_ylabel("Inception score", color=ORANGE)
    figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
