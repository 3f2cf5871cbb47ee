"""Leave-one-out distances of rows or blocks of rows, and the variance and bias that follow from them.

The core computes the distance without each row exactly (`csrc/core/jackknife.hpp`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._devices import as_backend_input, cuda_device_of
from fidfast._inputs import Input, require_same_dim
from fidfast._metrics.scale import rescaled_inputs
from fidfast._stats import GaussianStats, explain_overflow, holding, on_common_device

__all__ = ["Jackknife", "Replicates", "degrees_of_freedom", "why_no_jackknife"]

Array = NDArray[np.float64]

#: The expansion in dim / n needs at least this many samples for each direction with nonzero variance.
SAMPLES_PER_DIRECTION = 2

#: With units that are mostly zero, smaller samples may lack rare rows, which their spread does not show.
FEW_SAMPLES = 500


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

    def in_unit(self, exponent: int) -> Replicates:
        """The replicates of features that are multiplied by ``2^exponent``."""
        complete = (math.ldexp(self.complete[0], 2 * exponent), math.ldexp(self.complete[1], 2 * exponent))
        distance, corrected = (np.ldexp(numbers, 2 * exponent) for numbers in (self.distance, self.corrected))
        return self._replace(distance=distance, corrected=corrected, complete=complete)

    def bias(self, replicates: Array, complete: float) -> float:
        """Bias with parts of unequal size: Busing, Meijer & van der Leeden (1999), equation 9."""
        return float(np.sum((1 - self.part_sizes / self.num_samples) * (replicates - complete)))

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


def degrees_of_freedom(parts: Iterable[Replicates]) -> float:
    """Degrees of freedom of the sum of the variances, by Satterthwaite's (1946) approximation."""
    moments = [(part.variance, part.relative_variance_of_variance) for part in parts]
    variance_of_sum = sum(variance**2 * relative for variance, relative in moments)
    return 2 * sum(variance for variance, _ in moments) ** 2 / variance_of_sum if variance_of_sum > 0 else math.inf


def why_no_jackknife(inputs: tuple[Input, Input], sampled: tuple[bool, bool]) -> str | None:
    """Why no parts of the samples can be left out, or None."""
    if not any(sampled):
        return (
            f"{inputs[0].name} has no samples to estimate an error from: pass the (n, dim) features or "
            "Moments(dim, blocks=20)"
        )
    for source, is_sample in zip(inputs, sampled, strict=True):
        # The remaining rows must have a covariance.
        largest = max((block.num_samples for block in source.blocks), default=1)
        if is_sample and (source.num_samples or 0) - largest < 2:
            return (
                f"{source.name} has {source.num_samples} samples; the jackknife leaves out {largest} at a time and "
                f"needs at least {largest + 2}"
            )
    return None


class Jackknife:
    """A distance, its replicates, and its bias and variance, in the squared unit ``4^exponent``."""

    def __init__(self, samples: Input, reference: Input, precision: str, *, exact_reference: bool = False) -> None:
        #: As given.
        self.given = (samples, reference)
        #: For each side, whether it is a sample, whose parts are left out, and not taken as exact.
        self.sampled = (samples.has_samples, reference.has_samples and not exact_reference)
        self._precision = precision
        with holding(samples.moments, reference.moments):  # all parts must be those of the same rows
            (samples, reference), self.exponent = rescaled_inputs(samples, reference)
            require_same_dim(samples.dim, reference.dim, samples.name, reference.name)
            #: In the unit ``2^exponent``.
            self.inputs = (samples, reference)
            reason = why_no_jackknife(self.inputs, self.sampled)
            if reason is not None:
                raise ValueError(reason)
            with_rows = any(
                sampled and source.rows is not None for source, sampled in zip(self.inputs, self.sampled, strict=True)
            )
            self._core = self._core_jackknife((samples.stats, reference.stats), with_rows)
            self.distance, self.corrected = self._core.distance, self._core.corrected
            #: For each side that is a sample, by position (0 or 1).
            self.replicates = {k: self._replicates(k) for k in (0, 1) if self.sampled[k]}

    def _core_jackknife(self, stats: tuple[GaussianStats, GaussianStats], with_rows: bool) -> _core.Jackknife:
        backend, gaussians, self._device = on_common_device(*stats)
        with explain_overflow(*stats):
            jackknife: _core.Jackknife = backend.Jackknife(*gaussians, *self.sampled, self._precision, with_rows)
        return jackknife

    def _replicates(self, k: int) -> Replicates:
        source = self.inputs[k]
        n = source.num_samples or 0
        complete = (self.distance, self.corrected)
        if source.rows is not None:
            parts = [
                self._core.without(bool(k), rows, stream)
                for part in source.slices()
                for rows, stream in as_backend_input(part, cuda_device_of(part), self._device, None)
            ]
            distance, corrected = (np.concatenate(part) for part in zip(*parts, strict=True))
            return Replicates(distance, corrected, complete, np.ones(n), n)
        assert source.moments is not None
        pairs, merged = [], source.moments.merged_blocks()
        for block in source.blocks:
            rest = copy.copy(merged)
            rest.unmerge(block)
            stats = (rest.stats(), self.inputs[1].stats) if k == 0 else (self.inputs[0].stats, rest.stats())
            left = self._core_jackknife(stats, False)
            pairs.append((left.distance, left.corrected))
        distance, corrected = np.array(pairs).T
        sizes = np.array([block.num_samples for block in source.blocks], dtype=float)
        return Replicates(distance, corrected, complete, sizes, n, True)

    def _kurtosis(self, k: int) -> float:
        """The jackknife's bias of the trace of the root, divided by that of Gaussian features."""
        replicates, stats = self.replicates[k], self.inputs[k].stats
        bias = replicates.bias(replicates.distance, self.distance)
        bias_of_root = (np.trace(stats.sigma) / replicates.num_samples - bias) / 2
        gaussian_bias = self._core.gaussian_bias(bool(k))
        return float(bias_of_root / gaussian_bias) if gaussian_bias < 0 else 1.0

    def _second_order(self, sides: Sequence[int]) -> float:
        """Variance of the second-order term of the distance, from the samples of these sides."""
        weight = sum(self._kurtosis(k) / self.replicates[k].num_samples for k in sides)
        means = sum(self.inputs[k].stats.sigma / self.replicates[k].num_samples for k in sides)
        return float(weight**2 * self._core.second_order + 2 * np.vdot(means, means))

    def variance(self, sides: Sequence[int]) -> float:
        """Variance of the unbiased distance, from the samples of these sides."""
        jackknife = sum(self.replicates[k].variance for k in sides)
        # The jackknife counts the second order twice, so it is at most half of the jackknife's variance.
        return jackknife - min(self._second_order(sides), jackknife / 2)

    def caution(self) -> str | None:
        """Why the error bar may be too narrow, or None."""
        for k, replicates in self.replicates.items():
            if replicates.num_samples < FEW_SAMPLES:
                return (
                    f"{self.inputs[k].name} has {replicates.num_samples} samples; below {FEW_SAMPLES} the interval "
                    "may be too narrow if rare samples dominate the distance"
                )
        return None

    def note(self) -> str | None:
        """Why there is no error bar, or None."""
        for k, replicates in self.replicates.items():
            # This many must remain without the largest part.
            largest = int(replicates.part_sizes.max())
            needed = SAMPLES_PER_DIRECTION * self._core.rank + largest
            if replicates.num_samples < needed:
                return (
                    f"{self.inputs[k].name} has {replicates.num_samples} samples; an error bar needs at least "
                    f"{needed}, {SAMPLES_PER_DIRECTION} per direction with nonzero variance ({self._core.rank}) "
                    f"plus {largest}"
                )
        return None

    @property
    def unbiased(self) -> float:
        """The distance without bias."""
        return self.corrected - sum(part.bias(part.corrected, self.corrected) for part in self.replicates.values())
