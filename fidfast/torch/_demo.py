"""The demonstration: how the Fréchet distance answers to disturbances of real images.

After figure 3 of Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium"
(2017): a measure of the quality of images ought to grow as images get worse. Images and network come inside packages;
nothing is downloaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast._metrics.frechet import frechet_distance
from fidfast._metrics.uncertainty import Estimate, estimate
from fidfast._stats.moments import Moments

__all__ = ["DISTURBANCES", "STRENGTHS", "Demo", "Growth", "digits", "plot", "plot_growth", "run", "table"]

Images = NDArray[np.float64]  # (n, SIDE, SIDE), from 0 (black) to 1

#: Height and width at which digits are disturbed and the network sees them: trained at 224, it still tells them apart
#: at 96, in a sixth of the time.
SIDE = 96

#: Every disturbance has these strengths; 0 leaves the images as they are.
STRENGTHS = (1, 2, 3, 4)


#: The growing sample is of this disturbance, at strength 1.
GROWING = "blurred"


class Growth(NamedTuple):
    """What the distance of a growing sample is, and how sure."""

    #: Directions that are left of the features, so that there are enough samples for an error bar.
    num_directions: int
    dim: int
    #: Digits of the reference, none of which is in the sample.
    num_reference: int
    #: Sizes of samples that contain one another, the smallest first.
    num_samples: list[int]
    estimates: list[Estimate]


class Demo(NamedTuple):
    """What `run` measured."""

    num_samples: int
    extractor: str
    #: Between the two halves of the data: what the distance is where there is nothing to find.
    halves: float
    #: From the data to its disturbed copy, by disturbance, in the order of `STRENGTHS`.
    distances: dict[str, list[float]]
    growth: Growth


def digits(num_samples: int = 1000) -> Images:
    """Handwritten digits, enlarged from 8 x 8 (scikit-learn's, after Alpaydin & Kaynak, 1998)."""
    from PIL import Image
    from sklearn.datasets import load_digits

    small = load_digits().images[:num_samples] / 16.0
    large = [
        np.asarray(Image.fromarray(image.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for image in small
    ]
    return np.stack(large).clip(0, 1).astype(np.float64)


# Disturbances -------------------------------------------------------------------------------------------------------


def _blurred(images: Images, strength: int, rng: np.random.Generator) -> Images:
    """A Gaussian of a standard deviation of 2 to 8 pixels."""
    from scipy.ndimage import gaussian_filter

    blurred: Images = gaussian_filter(images, (0, 2.0 * strength, 2.0 * strength))
    return blurred


def _noised(images: Images, strength: int, rng: np.random.Generator) -> Images:
    """Gaussian noise of a standard deviation of 1/50 to 4/50 of the range."""
    return (images + rng.normal(0, 0.02 * strength, images.shape)).clip(0, 1)


def _swirled(images: Images, strength: int, rng: np.random.Generator) -> Images:
    """Turned about the centre by half a radian to two, less further out."""
    from scipy.ndimage import map_coordinates

    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    angle = np.arctan2(y, x) + 0.5 * strength * np.exp(-np.hypot(x, y) / (SIDE / 4))
    places = np.hypot(x, y) * np.stack([np.sin(angle), np.cos(angle)]) + (SIDE - 1) / 2
    return np.stack([map_coordinates(image, places, order=1, mode="nearest") for image in images])


def _masked(images: Images, strength: int, rng: np.random.Generator) -> Images:
    """One to four grey squares at random places, each of a sixteenth of the image."""
    masked, side = images.copy(), SIDE // 4
    for image in masked:
        for top, left in rng.integers(0, SIDE - side + 1, (strength, 2)):
            image[top : top + side, left : left + side] = 0.5
    return masked


DISTURBANCES: dict[str, Callable[[Images, int, np.random.Generator], Images]] = {
    "blurred": _blurred,
    "noised": _noised,
    "swirled": _swirled,
    "masked": _masked,
}


def disturbed(images: Images) -> Iterator[tuple[str, int, Images]]:
    """Each disturbance at each strength, the same on every run."""
    for name, disturb in DISTURBANCES.items():
        for strength in STRENGTHS:
            yield name, strength, disturb(images, strength, np.random.default_rng(strength))


# Measuring ----------------------------------------------------------------------------------------------------------


def run(num_samples: int = 1000, *, progress: bool = True) -> Demo:
    """Measure all distances: 17 passes of the network over the images, about a minute on 2 cores.

    Raises
    ------
    ImportError
        If a package of the demonstration is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: F401  # only to say so before the work begins, as the next
        import sklearn  # noqa: F401
        from tqdm import tqdm

        from fidfast.torch import features_of_images
        from fidfast.torch._extractors.efficientnet import efficientnet_lite0
    except ImportError as error:
        raise ImportError(f"the demonstration needs more packages: pip install 'fidfast[demo]' ({error})") from error

    extractor = efficientnet_lite0(SIDE).prepared()
    images = digits(num_samples)
    total = len(images) * (1 + len(DISTURBANCES) * len(STRENGTHS))
    distances: dict[str, list[float]] = {name: [] for name in DISTURBANCES}
    with tqdm(total=total, unit=" images", disable=not (progress and sys.stderr.isatty())) as bar:

        def features(some: Images) -> NDArray[np.float32]:
            found = features_of_images(_as_uint8(some), extractor, num_workers=0).features
            bar.update(len(some))
            return found

        # Every other image, since the digits come in the order of their writers.
        one, two = features(images[::2]), features(images[1::2])
        halves = [Moments._of_features(half, "float32") for half in (one, two)]
        reference = (halves[0] + halves[1]).stats()
        for name, strength, copy in disturbed(images):
            rows = features(copy)
            distances[name].append(frechet_distance(reference, Moments._of_features(rows, "float32").stats()))
            if (name, strength) == (GROWING, 1):
                grown = growth(rows[1::2], one)
    between = frechet_distance(halves[0].stats(), halves[1].stats())
    return Demo(len(images), extractor.full_name, between, distances, grown)


def growth(sample: NDArray[np.float32], reference: NDArray[np.float32]) -> Growth:
    """Estimates of a growing sample's distance to the reference, which is taken as known.

    An error bar needs twice as many samples as there are directions, so the features are projected on the reference's
    first principal directions.
    """
    n = len(sample)
    mean = reference.mean(axis=0, dtype=np.float64)
    directions = np.linalg.svd(reference - mean, full_matrices=False)[2][: min(32, n // 8)].T
    projected, known = (sample - mean) @ directions, (reference - mean) @ directions
    projected = np.random.default_rng(0).permutation(projected)  # the digits come in the order of their writers
    first = max(2 * directions.shape[1] + 1, 3 * n // 20)
    stats = Moments._of_features(known, "float64").stats()
    sizes = np.geomspace(first, n, 8).astype(int).tolist()
    estimates = [estimate(projected[:size], stats) for size in sizes]
    return Growth(directions.shape[1], reference.shape[1], len(reference), sizes, estimates)


def _as_uint8(images: Images) -> NDArray[np.uint8]:
    return (images * 255).round().astype(np.uint8)


# Showing ------------------------------------------------------------------------------------------------------------


def table(demo: Demo) -> str:
    """The distances, a line for each disturbance."""
    lines = [f"{'':10}" + "".join(f"{f'strength {strength}':>12}" for strength in STRENGTHS)]
    lines += [f"{name:10}" + "".join(f"{value:12.2f}" for value in row) for name, row in demo.distances.items()]
    return "\n".join(lines)


def plot(demo: Demo, path: Path) -> None:
    """One column for each disturbance: the distance over its strength, and above it what a digit looks like."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    image = digits(3)[2:]
    examples = {(name, strength): copy[0] for name, strength, copy in disturbed(image)}
    figure, axes = plt.subplots(
        2, len(DISTURBANCES), figsize=(12, 4.2), height_ratios=(1, 4), sharey="row", layout="constrained"
    )
    largest = max(max(row) for row in demo.distances.values())
    for (strip, curve), (name, row) in zip(axes.T, demo.distances.items(), strict=True):
        shown = [image[0]] + [examples[name, strength] for strength in STRENGTHS]
        strip.imshow(np.hstack(shown), cmap="gray", vmin=0, vmax=1, extent=(-0.5, 4.5, 0, 1))
        strip.set_axis_off()
        strip.set_title(name)
        curve.axhline(demo.halves, color="0.6", linestyle="--", linewidth=1)
        curve.plot((0, *STRENGTHS), (0.0, *row), marker="o")
        curve.set_xlim(-0.5, 4.5)
        curve.set_ylim(-0.03 * largest, 1.05 * largest)
        curve.set_xticks((0, *STRENGTHS))
        curve.set_xlabel("strength")
        curve.spines[["top", "right"]].set_visible(False)
    axes[1, 0].set_ylabel("Fréchet distance to the data")
    axes[1, 1].annotate(
        "two halves of the data", (4.5, demo.halves), xytext=(0, 3), textcoords="offset points", ha="right", color="0.4"
    )
    figure.suptitle(f"{demo.num_samples} handwritten digits, features of {demo.extractor}", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_growth(demo: Demo, path: Path) -> None:
    """The distance of a growing sample as it is, and without bias and with its error bar."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    grown = demo.growth
    sizes = grown.num_samples
    unbiased = [known.unbiased for known in grown.estimates]
    errors = np.abs(np.transpose([known.interval() for known in grown.estimates]) - unbiased)
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    axes.plot(
        sizes, [known.value for known in grown.estimates], marker="o", color="0.6", label="as other tools have it"
    )
    axes.errorbar(sizes, unbiased, errors, fmt="o", capsize=3, label="without the bias of the sample, 95 %")
    axes.set_xlim(0, 1.04 * sizes[-1])
    axes.set_ylim(min(0, axes.get_ylim()[0]))
    axes.set_xlabel("number of samples")
    axes.set_ylabel(f"Fréchet distance to {grown.num_reference} other digits")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.set_title(
        f"{sizes[-1]} {GROWING} handwritten digits, features of {demo.extractor}\n"
        f"(on the reference's first {grown.num_directions} principal directions: too few samples for {grown.dim:,})",
        fontsize=10,
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)
