"""The images of the experiment on disturbances, and the six disturbances of Heusel et al. 2017.

A disturbance maps a batch of images (n, height, width, 3) uint8 to new ones, and level 0 leaves them as they are.
"""

from __future__ import annotations

import base64
import functools
import io
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.gans import data

Pixels = NDArray[np.uint8]

#: Height and width of the images that are disturbed: those of the paper's images, in whose pixels alpha is meant.
SIDE = 64
#: Images that are disturbed at a time.
BATCH = 250

#: Number of black rectangles [read].
RECTANGLES = 5

#: rho of the swirl: the repository takes 70 for its images of 64 x 64 pixels, "to make the effect more visible", and 25
#: otherwise; the paper names 25 [read].
RHO = 70.0


def noise(images: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """``(1 - alpha) X + alpha N``; N is Gaussian, scaled so that its minimum is 0 and its maximum 255 [read].

    Minimum and maximum are those of the batch, so that N is a grey of 127 with a standard deviation of about 255 / 10.
    The repository scales over the complete set [read], which gives about 255 / 12 for 50,000 images [derived].
    """
    N = rng.standard_normal(images.shape, dtype=np.float32)
    low, high = float(N.min()), float(N.max())
    N = (N - low) * (255 / (high - low))
    return np.rint((1 - level) * images + level * N).astype(np.uint8)


def blur(images: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Convolution with a Gaussian of the standard deviation alpha, in pixels [read]."""
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(images.astype(np.float32), (0, level, level, 0), mode="nearest")
    return np.rint(blurred).astype(np.uint8)


def rectangles(images: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Five black rectangles at random places, whose sides are alpha times the image's, rounded down [read]."""
    covered = images.copy()
    height, width = (int(level * side) for side in images.shape[1:3])
    tops = rng.integers(0, images.shape[1] - height + 1, (len(images), RECTANGLES))
    lefts = rng.integers(0, images.shape[2] - width + 1, (len(images), RECTANGLES))
    for image, corners in zip(covered, np.stack([tops, lefts], axis=-1), strict=True):
        for top, left in corners:
            image[top : top + height, left : left + width] = 0
    return covered


def swirl_angle(radius: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Rotation at a radius in pixels: ``alpha exp(-5 r / (ln(2) rho))`` [read]."""
    return level * np.exp(-5 * radius / (math.log(2) * RHO))


def swirl(images: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """The pixel at (r, theta) is that of the image at (r, theta'), bilinear; each image turns in a random direction.

    The centre is the pixel (height // 2, width // 2) [read]. The repository then restores a border, 3 pixels at the top
    and left and 4 at the bottom and right [read]; the paper does not mention it, and this function does not do it.
    """
    import torch

    height, width = images.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    y, x = y - height // 2, x - width // 2
    radius, theta = np.hypot(x, y), np.arctan2(y, x)
    directions = rng.integers(0, 2, len(images)) * 2 - 1
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    swirled = np.empty_like(images)
    for direction in (-1, 1):
        turned = theta + direction * swirl_angle(radius, level)
        rows, columns = radius * np.sin(turned) + height // 2, radius * np.cos(turned) + width // 2
        # grid_sample's coordinates: (x, y) with the centres of the first and last pixel at -1 and 1.
        grid = torch.from_numpy(np.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], axis=-1))
        chosen = np.flatnonzero(directions == direction)
        source = pixels[torch.from_numpy(chosen)].double()
        found = torch.nn.functional.grid_sample(
            source, grid.expand(len(chosen), -1, -1, -1), padding_mode="reflection", align_corners=True
        )
        swirled[chosen] = found.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return swirled


def salt_and_pepper(images: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """A pixel becomes black or white, in all channels, with probability alpha / 2 each [read]."""
    u = rng.random(images.shape[:3])
    flipped = images.copy()
    flipped[u < level / 2] = 0
    flipped[(u >= level / 2) & (u < level)] = 255
    return flipped


def contamination(images: Pixels, level: float, rng: np.random.Generator, others: Pixels) -> Pixels:
    """A part alpha of the images, chosen at random, is replaced by the first images of another data set [read].

    Raises
    ------
    ValueError
        If `others` has too few images.
    """
    count = replaced(len(images), level)
    if len(others) < count:
        raise ValueError(f"level {level} of {len(images)} images needs {count} others, got {len(others)}")
    mixed = images.copy()
    mixed[rng.choice(len(images), count, replace=False)] = others[:count]
    return mixed


def replaced(n: int, level: float) -> int:
    """How many of n images `contamination` replaces."""
    return round(level * n)


class Kind(NamedTuple):
    """A disturbance."""

    #: From images, level and generator to images. None for `contamination`, which needs other images too.
    disturb: Callable[[Pixels, float, np.random.Generator], Pixels] | None
    #: The paper's alpha [read].
    levels: tuple[float, ...]
    #: What alpha is.
    alpha: str


KINDS = {
    "noise": Kind(noise, (0, 0.25, 0.5, 0.75), "share of the noise"),
    "blur": Kind(blur, (0, 1, 2, 4), "standard deviation (pixels)"),
    "rectangles": Kind(rectangles, (0, 0.25, 0.5, 0.75), "side / side of the image"),
    "swirl": Kind(swirl, (0, 1, 2, 4), "rotation at the centre (rad)"),
    "salt and pepper": Kind(salt_and_pepper, (0, 0.1, 0.2, 0.3), "share of the pixels"),
    "contamination": Kind(None, (0, 0.25, 0.5, 0.75), "share of other images"),
}


def reference_images(source: str, count: int) -> Pixels:
    """Grey images of the reference: of Fashion-MNIST's test set ("fashion"), or a part of the digits ("digits")."""
    return (data.fashion("t10k").images if source == "fashion" else _shuffled_digits())[:count]


def sample_images(source: str, count: int, *, seed: int, reference: int) -> Pixels:
    """Grey images of a sample, none of which is in the reference of that many images."""
    pool = data.fashion("train").images if source == "fashion" else _shuffled_digits()[reference:]
    return pool[np.random.default_rng(seed).permutation(len(pool))[:count]]


def _shuffled_digits() -> Pixels:
    images = data.digits().images  # sorted by writer
    return images[np.random.default_rng(0).permutation(len(images))]


@functools.lru_cache(maxsize=1)
def _shuffled_emoji(seed: int) -> Pixels:
    images = data.emoji()
    return images[np.random.default_rng(seed).permutation(len(images))]


def enlarged(images: Pixels) -> Iterator[Pixels]:
    """Batches (n, `SIDE`, `SIDE`, 3) of grey images (n, height, width)."""
    from PIL import Image

    size, method = (SIDE, SIDE), Image.Resampling.BICUBIC
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        large = np.stack([np.asarray(Image.fromarray(image).resize(size, method)) for image in batch])
        yield np.repeat(large[..., np.newaxis], 3, axis=-1)


def disturbed(images: Pixels, kind: str, level: float, seed: int) -> Iterator[Pixels]:
    """Batches of grey images, enlarged and disturbed. Contamination is with emoji, each of which is used once."""
    disturb, levels, _ = KINDS[kind]
    rng = np.random.default_rng([seed, list(KINDS).index(kind), levels.index(level)])
    used = 0
    for batch in enlarged(images):
        if disturb is not None:
            yield disturb(batch, level, rng)
        else:
            yield contamination(batch, level, rng, _shuffled_emoji(seed)[used:] if level else batch[:0])
            used += replaced(len(batch), level)


def example(images: Pixels, kind: str) -> str:
    """Four grey images at each level, as a JPEG in base64: the first, or for contamination all of them in half size."""
    from PIL import Image

    levels = []
    for level in KINDS[kind].levels:
        four = next(disturbed(images[:4], kind, level, seed=1))
        if kind == "contamination":
            four = [np.vstack([np.hstack(four[:2]), np.hstack(four[2:])])[::2, ::2]]
        levels.append(four[0])
    buffer = io.BytesIO()
    Image.fromarray(np.hstack(levels)).save(buffer, format="JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
