"""The distances without each part of a sample, or their sums, and the variance and bias that follow from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Replicates", "RowSums", "degrees_of_freedom"]

Array = NDArray[np.float64]


class Replicates(NamedTuple):
    """The distance without each part of a sample: with its full bias, and without the bias of Gaussian features."""

    distance: Array
    corrected: Array
    #: The same two numbers of the complete sample.
    complete: tuple[float, float]
    #: Number of rows in each part.
    part_sizes: Array
    #: Number of rows of the sample.
    num_samples: int
    #: Whether the parts are blocks of rows, not single rows.
    in_blocks: bool = False

    def __sub__(self, other: Replicates) -> Replicates:
        complete = (self.complete[0] - other.complete[0], self.complete[1] - other.complete[1])
        return self._replace(
            distance=self.distance - other.distance, corrected=self.corrected - other.corrected, complete=complete
        )

    def with_corrected(self, corrected: Array, of_complete: float) -> Replicates:
        """The replicates with other distances without bias."""
        return self._replace(corrected=corrected, complete=(self.complete[0], of_complete))

    def in_unit(self, exponent: int) -> Replicates:
        """The replicates of features that are multiplied by ``2^exponent``."""
        complete = (math.ldexp(self.complete[0], 2 * exponent), math.ldexp(self.complete[1], 2 * exponent))
        distance, corrected = (np.ldexp(numbers, 2 * exponent) for numbers in (self.distance, self.corrected))
        return self._replace(distance=distance, corrected=corrected, complete=complete)

    @property
    def bias_of_distance(self) -> float:
        """Bias of `distance`, with parts of unequal size: Busing, Meijer & van der Leeden (1999), equation 9."""
        return self._bias(self.distance, self.complete[0])

    @property
    def bias_of_corrected(self) -> float:
        """Bias of `corrected`, by the same equation."""
        return self._bias(self.corrected, self.complete[1])

    def _bias(self, replicates: Array, complete: float) -> float:
        return float(np.sum((1 - self.part_sizes / self.num_samples) * (replicates - complete)))

    @property
    def largest_part(self) -> float:
        """Number of rows in the largest part."""
        return float(self.part_sizes.max())

    @property
    def variance(self) -> float:
        """Variance of `corrected`: equation 10 of the same paper."""
        return float(np.mean(self._squares()))

    @property
    def relative_variance_of_variance(self) -> float:
        """Variance of `variance` over its square.

        For rows it is computed from the kurtosis of their contributions. Blocks are too few to estimate it, so normal
        contributions are assumed.
        """
        if self.in_blocks:
            return 2 / (len(self.part_sizes) - 1)
        squares = self._squares()
        mean = float(np.mean(squares))
        return (float(np.mean(squares**2)) / mean**2 - 1) / self.num_samples if mean**2 > 0 else 0.0

    def _squares(self) -> Array:
        h = self.num_samples / self.part_sizes
        excess = (h - 1) * (self.corrected - self.complete[1])
        centred = excess - np.mean(excess * self.part_sizes) * len(h) / self.num_samples
        return np.asarray(centred**2 / (h - 1))


class RowSums(NamedTuple):
    """Sums over the distances without each row, which has the numbers of `Replicates` in memory that does not grow."""

    #: The two numbers of the complete sample.
    complete: tuple[float, float]
    #: Number of rows of the sample.
    num_samples: int
    #: Sum of the differences of the distances, with their bias, from that of the complete sample.
    distance: float
    #: Mean of the differences without bias, and the sums of the powers 2, 3 and 4 of their deviations from it.
    mean: float
    powers: tuple[float, float, float]

    @classmethod
    def of(cls, distance: Array, corrected: Array, complete: tuple[float, float]) -> RowSums:
        """The sums of some of the rows."""
        differences = corrected - complete[1]
        mean = float(np.mean(differences))
        squares, cubes, fourths = (float(np.sum((differences - mean) ** power)) for power in (2, 3, 4))
        return cls(complete, len(corrected), float(np.sum(distance - complete[0])), mean, (squares, cubes, fourths))

    def merged(self, other: RowSums) -> RowSums:
        """The sums of the rows of both: Pébay (2008), equation 2.1."""
        n, m, d = self.num_samples, other.num_samples, other.mean - self.mean
        total = n + m
        (a2, a3, a4), (b2, b3, b4) = self.powers, other.powers
        squares = a2 + b2 + d**2 * n * m / total
        cubes = a3 + b3 + d**3 * n * m * (n - m) / total**2 + 3 * d * (n * b2 - m * a2) / total
        fourths = (
            a4 + b4 + d**4 * n * m * (n * n - n * m + m * m) / total**3
            + 6 * d**2 * (n * n * b2 + m * m * a2) / total**2 + 4 * d * (n * b3 - m * a3) / total
        )  # fmt: skip
        distance, mean = self.distance + other.distance, self.mean + d * m / total
        return RowSums(self.complete, total, distance, mean, (squares, cubes, fourths))

    @property
    def bias_of_distance(self) -> float:
        """As in `Replicates`, as are the next."""
        return (1 - 1 / self.num_samples) * self.distance

    @property
    def bias_of_corrected(self) -> float:
        return (1 - 1 / self.num_samples) * self.num_samples * self.mean

    @property
    def variance(self) -> float:
        return (self.num_samples - 1) / self.num_samples * self.powers[0]

    @property
    def relative_variance_of_variance(self) -> float:
        squares, _, fourths = self.powers
        n = self.num_samples
        return (n * fourths / squares**2 - 1) / n if squares**2 > 0 else 0.0

    @property
    def largest_part(self) -> float:
        return 1.0


def degrees_of_freedom(parts: Iterable[Replicates | RowSums]) -> float:
    """Degrees of freedom of the sum of the variances, by Satterthwaite's (1946) approximation."""
    moments = [(part.variance, part.relative_variance_of_variance) for part in parts]
    variance_of_sum = sum(variance**2 * relative for variance, relative in moments)
    return 2 * sum(variance for variance, _ in moments) ** 2 / variance_of_sum if variance_of_sum > 0 else math.inf
