"""Leave-one-out distances of rows, groups or blocks of rows, and the variance and bias that follow from them.

The core computes the distance without each row exactly (`csrc/core/jackknife.hpp`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._devices import as_backend_input, cuda_device_of
from fidfast._inputs import Input, require_same_dim
from fidfast._metrics.groups import Groups
from fidfast._metrics.scale import rescaled_inputs
from fidfast._stats import ROWS_PER_SLICE, GaussianStats, Moments, explain_overflow, holding, on_common_device

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

    def with_corrected(self, corrected: Array, of_complete: float) -> Replicates:
        """The replicates with other distances without bias."""
        return self._replace(corrected=corrected, complete=(self.complete[0], of_complete))

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


def why_no_jackknife(
    inputs: tuple[Input, Input], sampled: tuple[bool, bool], groups: Sequence[Groups | None] = (None, None)
) -> str | None:
    """Why no parts of the samples can be left out, or None."""
    if not any(sampled):
        return (
            f"{inputs[0].name} has no samples to estimate an error from: pass the (n, dim) features or "
            "Moments(dim, blocks=20)"
        )
    for source, is_sample, grouped in zip(inputs, sampled, groups, strict=True):
        # The remaining rows must have a covariance.
        sizes = [block.num_samples for block in source.blocks] if grouped is None else map(len, grouped.blocks)
        largest = max(sizes, default=1)
        if is_sample and (source.num_samples or 0) - largest < 2:
            return (
                f"{source.name} has {source.num_samples} samples; the jackknife leaves out {largest} at a time and "
                f"needs at least {largest + 2}"
            )
    return None


class _Side(NamedTuple):
    """How many independent samples a side is worth; infinitely many if it is exact."""

    #: For the eigenvalues of its covariance.
    num_samples: float = math.inf
    #: For its mean.
    num_of_mean: float = math.inf
    #: Bias of the trace of the root that the jackknife finds, divided by that of as many Gaussian samples.
    kurtosis: float = 1.0

    @property
    def inverse(self) -> float:
        """Reciprocal of the degrees of freedom of the covariance."""
        return 1 / (self.num_samples - 1)

    def part(self, share: float) -> _Side:
        """The side without a block, with this share of the samples."""
        return self._replace(num_samples=max(self.num_samples * share, 1.5), num_of_mean=self.num_of_mean * share)


class _Rest(NamedTuple):
    """A distance without a block of rows."""

    core: _core.Jackknife
    #: Trace of the covariance of the other rows.
    trace: float
    #: Squared distance of their mean from that of all rows.
    shift: float
    #: Number of rows in the block.
    size: int


class Jackknife:
    """A distance, its replicates, and its bias and variance, in the squared unit ``4^exponent``."""

    def __init__(
        self,
        samples: Input,
        reference: Input,
        precision: str,
        *,
        exact_reference: bool = False,
        groups: Sequence[Groups | None] = (None, None),
    ) -> None:
        #: As given.
        self.given = (samples, reference)
        #: For each side, whether it is a sample, whose parts are left out, and not taken as exact.
        self.sampled = (samples.has_samples, reference.has_samples and not exact_reference)
        #: For each side, the groups of its rows, or None if they are independent.
        self.groups = tuple(groups)
        self._precision = precision
        with holding(samples.moments, reference.moments):  # all parts must be those of the same rows
            (samples, reference), self.exponent = rescaled_inputs(samples, reference)
            require_same_dim(samples.dim, reference.dim, samples.name, reference.name)
            #: In the unit ``2^exponent``.
            self.inputs = (samples, reference)
            reason = why_no_jackknife(self.inputs, self.sampled, self.groups)
            if reason is not None:
                raise ValueError(reason)
            with_rows = any(
                sampled and source.rows is not None for source, sampled in zip(self.inputs, self.sampled, strict=True)
            )
            self._core = self._core_jackknife((samples.stats, reference.stats), with_rows)
            self.distance, self.corrected = self._core.distance, self._core.corrected
            self._traces = [float(np.trace(source.stats.sigma)) for source in self.inputs]
            self._rests = {k: list(self._without_each_block(k)) for k in (0, 1) if self._in_blocks(k)}
            #: For each side that is a sample, by position (0 or 1).
            self.replicates = {k: self._replicates(k) for k in (0, 1) if self.sampled[k]}
            self._sides = [self._side(k) if self.sampled[k] else _Side() for k in (0, 1)]
            if any(group is not None for group in self.groups):
                self._correct_for_groups()

    def _core_jackknife(self, stats: tuple[GaussianStats, GaussianStats], with_rows: bool) -> _core.Jackknife:
        backend, gaussians, self._device = on_common_device(*stats)
        with explain_overflow(*stats):
            jackknife: _core.Jackknife = backend.Jackknife(*gaussians, *self.sampled, self._precision, with_rows)
        return jackknife

    def _in_blocks(self, k: int) -> bool:
        return self.sampled[k] and (self.inputs[k].rows is None or self.groups[k] is not None)

    def _blocks(self, k: int) -> Iterator[Moments]:
        """The blocks of rows that are left out."""
        source, groups = self.inputs[k], self.groups[k]
        if groups is None:
            yield from source.blocks
            return
        rows = source.require_rows("groups")
        for block in groups.blocks:
            moments = Moments(source.dim, precision=self._precision, extractor=source.extractor)
            for first in range(0, len(block), ROWS_PER_SLICE):
                moments.update(_core.gather(rows, block[first : first + ROWS_PER_SLICE]))
            yield moments

    def _without_each_block(self, k: int) -> Iterator[_Rest]:
        source, other = self.inputs[k], self.inputs[1 - k].stats
        assert source.moments is not None
        merged, mu = source.moments.merged_blocks(), source.stats.mu
        for block in self._blocks(k):
            moments = copy.copy(merged)
            moments.unmerge(block)
            rest = moments.stats()
            core = self._core_jackknife((rest, other) if k == 0 else (other, rest), False)
            shift = float(np.sum((rest.mu - mu) ** 2))
            yield _Rest(core, float(np.trace(rest.sigma)), shift, block.num_samples)

    def _without_each_row(self, k: int) -> tuple[Array, Array]:
        parts = [
            self._core.without(bool(k), rows, stream)
            for part in self.inputs[k].slices()
            for rows, stream in as_backend_input(part, cuda_device_of(part), self._device, None)
        ]
        distance, corrected = (np.concatenate(part) for part in zip(*parts, strict=True))
        return distance, corrected

    def _replicates(self, k: int, in_blocks: bool | None = None) -> Replicates:
        n = self.inputs[k].num_samples or 0
        complete = (self._core.distance, self._core.corrected)
        if not self._in_blocks(k) if in_blocks is None else not in_blocks:
            return Replicates(*self._without_each_row(k), complete, np.ones(n), n)
        distance, corrected = np.array([(rest.core.distance, rest.core.corrected) for rest in self._rests[k]]).T
        sizes = np.array([rest.size for rest in self._rests[k]], dtype=float)
        return Replicates(distance, corrected, complete, sizes, n, True)

    def _side(self, k: int) -> _Side:
        replicates, groups = self.replicates[k], self.groups[k]
        n = replicates.num_samples
        if groups is None:
            return _Side(n, n, self._kurtosis(k, replicates, n, 1 / (n - 1)))
        # Compares the variance of the means of blocks with that of independent rows.
        sizes = replicates.part_sizes
        between = sum((n - rest.size) ** 2 * rest.shift for rest in self._rests[k])
        within = self._traces[k] * float(np.sum(sizes * (1 - sizes / n)))
        num_of_mean = min(max(n * within / between if between > 0 else n, groups.least_samples), n)
        # As many as give the bias that the jackknife finds, with the fourth moments of single rows.
        of_rows = self._kurtosis(k, self._replicates(k, in_blocks=False), n, 1 / (n - 1))
        least, most = max(groups.least_samples, 2.0), float(n)
        for _ in range(60):
            middle = math.sqrt(least * most)
            more_bias = self._kurtosis(k, replicates, num_of_mean, 1 / (middle - 1)) > of_rows
            least, most = (least, middle) if more_bias else (middle, most)
        return _Side(most, num_of_mean, self._kurtosis(k, replicates, num_of_mean, 1 / (most - 1)))

    def _kurtosis(self, k: int, replicates: Replicates, num_of_mean: float, inverse: float) -> float:
        """The jackknife's bias of the trace of the root, divided by that of Gaussian features."""
        bias = replicates.bias(replicates.distance, self.distance)
        bias_of_root = (self._traces[k] / num_of_mean - bias) / 2
        gaussian_bias = self._core.gaussian_bias_of(inverse)
        return float(bias_of_root / gaussian_bias) if gaussian_bias < 0 else 1.0

    def _correct_for_groups(self) -> None:
        """Correct the distances as for the numbers of independent samples."""
        self.corrected = self._corrected(self._core, self._traces, self._sides)
        for k in self._rests:
            if self.groups[k] is None:
                continue
            corrected, n = [], self.replicates[k].num_samples
            for rest in self._rests[k]:
                traces, sides = self._traces.copy(), self._sides.copy()
                traces[k], sides[k] = rest.trace, sides[k].part(1 - rest.size / n)
                corrected.append(self._corrected(rest.core, traces, sides))
            self.replicates[k] = self.replicates[k].with_corrected(np.array(corrected), self.corrected)

    @staticmethod
    def _corrected(core: _core.Jackknife, traces: Sequence[float], sides: Sequence[_Side]) -> float:
        of_means = sum(trace / side.num_of_mean for trace, side in zip(traces, sides, strict=True))
        return core.distance - of_means - 2 * core.root_correction(sides[0].inverse, sides[1].inverse)

    def _second_order(self, sides: Sequence[int]) -> float:
        """Variance of the second-order term of the distance, from the samples of these sides."""
        weight = sum(self._sides[k].kurtosis / self._sides[k].num_samples for k in sides)
        means = sum(self.inputs[k].stats.sigma / self._sides[k].num_of_mean for k in sides)
        return float(weight**2 * self._core.second_order + 2 * np.vdot(means, means))

    def variance(self, sides: Sequence[int]) -> float:
        """Variance of the unbiased distance, from the samples of these sides."""
        jackknife = sum(self.replicates[k].variance for k in sides)
        # The jackknife counts the second order twice, so it is at most half of the jackknife's variance.
        return jackknife - min(self._second_order(sides), jackknife / 2)

    def caution(self) -> str | None:
        """Why the error bar may be too narrow, or None."""
        for k in self.replicates:
            if self._sides[k].num_samples < FEW_SAMPLES:
                return (
                    f"{self.inputs[k].name} has {self._counted(k)}; below {FEW_SAMPLES} the interval "
                    "may be too narrow if rare samples dominate the distance"
                )
        return None

    def note(self) -> str | None:
        """Why there is no error bar, or None."""
        for k, replicates in self.replicates.items():
            # This many must remain without the largest part.
            worth = self._sides[k].num_samples
            largest = math.ceil(replicates.part_sizes.max() * worth / replicates.num_samples)
            needed = SAMPLES_PER_DIRECTION * self._core.rank + largest
            if worth < needed:
                return (
                    f"{self.inputs[k].name} has {self._counted(k)}; an error bar needs at least "
                    f"{needed}, {SAMPLES_PER_DIRECTION} per direction with nonzero variance ({self._core.rank}) "
                    f"plus {largest}"
                )
        return None

    def _counted(self, k: int) -> str:
        n, groups = self.replicates[k].num_samples, self.groups[k]
        if groups is None:
            return f"{n} samples"
        return f"{n} samples in {groups.number} groups, worth {self._sides[k].num_samples:.0f} independent samples"

    @property
    def unbiased(self) -> float:
        """The distance without bias."""
        return self.corrected - sum(part.bias(part.corrected, part.complete[1]) for part in self.replicates.values())
