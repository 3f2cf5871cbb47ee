"""The samples that increase a distance most: almost equal ones in one group, each with its nearest reference row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._images import Images
from fidfast._inputs import Input
from fidfast._masked import require_unmasked
from fidfast._report.contents import HarmfulSample, ReferenceSample
from fidfast._text import printable

__all__ = ["ImagesOfRows", "most_harmful_samples"]

Array = NDArray[np.float64]

#: Two samples are almost equal if their distance is below this part of the usual distance of two samples, and as small
#: as for at most this part of all pairs of normal samples.
ALMOST_EQUAL, RARE = 0.5, 1e-4

#: Number of candidates for each listed sample.
CANDIDATES = 20


class ImagesOfRows:
    """Names and images of the rows of one side, if there are any.

    Raises
    ------
    TypeError, ValueError
        If images are masked, or the image of row 0 can be read, but is not of a type that can be shown.
    """

    def __init__(self, argument: str, names: Sequence[Any] | None, images: Sequence[Any] | None) -> None:
        self._names = names
        self._images = images
        #: "images: row 3: OSError: ..." for each image that cannot be shown.
        self.failures: list[str] = []
        self._argument = argument
        require_unmasked(images, argument)
        if images is None or isinstance(images, Images) or len(images) == 0:
            return
        try:
            first = np.asarray(images[0])
        except Exception:  # reported if this image is to be shown
            return
        _as_rgb(first, argument)

    def name(self, row: int) -> str:
        """The name of the row, or "row 3"."""
        return f"row {row}" if self._names is None else printable(str(self._names[row]))

    def image(self, row: int) -> NDArray[np.uint8] | None:
        """The image; None if there is none, or if it cannot be read, which `failures` then lists."""
        if self._images is None:
            return None
        try:
            return _as_rgb(np.asarray(self._images[row]), self._argument)
        except Exception as error:  # of the user's sequence: the metrics are computed already
            self.failures.append(f"{self._argument}: row {row}: {type(error).__name__}: {error}")
            return None


def _as_rgb(image: NDArray[Any], argument: str) -> NDArray[np.uint8]:
    """(height, width, 3) of an image that may be grey or have transparency."""
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if image.dtype != np.uint8 or channels not in (1, 3, 4) or image.size == 0:
        raise TypeError(
            f"{argument} must be (height, width, 3), (height, width, 1) or (height, width) uint8 arrays, "
            f"got shape {image.shape} and dtype {image.dtype}"
        )
    rgb = image.reshape(*image.shape[:2], channels)[:, :, :3]
    return np.repeat(rgb, 3, axis=2) if channels == 1 else np.ascontiguousarray(rgb)


def most_harmful_samples(
    influence: Array, count: int, sides: tuple[Input, Input], pictures: tuple[ImagesOfRows, ImagesOfRows]
) -> tuple[HarmfulSample, ...]:
    """The samples with the largest influence, at most `count` that are not almost equal to each other."""
    samples, reference = sides
    order = np.argsort(-influence, kind="stable")[: CANDIDATES * count]
    features = _gather(samples, order)
    near = _squared_distance_of_almost_equal(reference.stats.sigma)
    groups: list[list[int]] = []
    for k in range(len(order)):
        group = next((group for group in groups if np.sum((features[group[0]] - features[k]) ** 2) <= near), None)
        if group is not None:
            group.append(k)
        elif len(groups) < count:
            groups.append([k])
    leaders = [group[0] for group in groups]
    nearest = _nearest(features[leaders], reference) if reference.rows is not None and leaders else None
    found = []
    for position, group in enumerate(groups):
        row, alike = int(order[group[0]]), order[group[1:]]
        neighbour = None
        if nearest is not None:
            other = int(nearest[0][position])
            name, distance = pictures[1].name(other), float(nearest[1][position])
            neighbour = ReferenceSample(other, name, distance, pictures[1].image(other))
        found.append(
            HarmfulSample(
                row, pictures[0].name(row), float(influence[row]), pictures[0].image(row),
                tuple(alike.tolist()), float(influence[alike].sum()), neighbour,
            )
        )  # fmt: skip
    return tuple(found)


def _squared_distance_of_almost_equal(sigma: Array) -> float:
    """Squared distance below which two samples are almost equal, given the covariance of the reference.

    The squared distance of two normal samples is about chi-squared, with mean and variance from the traces of sigma and
    of its square (Satterthwaite, 1946).
    """
    from scipy.special import gammaincinv

    mean = 2 * float(np.trace(sigma))
    if mean == 0:
        return 0.0
    degrees = float(np.trace(sigma) ** 2 / np.vdot(sigma, sigma))
    return mean * min(ALMOST_EQUAL**2, 2 * float(gammaincinv(degrees / 2, RARE)) / degrees)


def _gather(side: Input, rows: NDArray[np.int64]) -> Array:
    """(m, dim) these rows in float64."""
    order = np.argsort(rows)  # a file is read forwards
    features = np.empty((len(rows), side.dim))
    features[order] = _core.gather(side.rows, rows[order])
    return features


def _nearest(features: Array, reference: Input) -> tuple[NDArray[np.int64], Array]:
    """(m,) the nearest row of the reference, and its distance, for each of the m features."""
    least = np.full(len(features), np.inf)
    rows = np.zeros(len(features), dtype=np.int64)
    first = 0
    for part in reference.slices():
        others = _core.gather(part, np.arange(_core.require_finite(part)[0])).astype(np.float64)
        for k, one in enumerate(features):
            squares = np.einsum("ij,ij->i", others - one, others - one)
            best = int(squares.argmin())
            if squares[best] < least[k]:
                least[k], rows[k] = squares[best], first + best
        first += len(others)
    return rows, np.sqrt(least)
