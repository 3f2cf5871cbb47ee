"""Leave-one-out distances of rows, groups or blocks of rows, here or in other processes.

The core computes the distance without each row exactly (`csrc/core/jackknife.hpp`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._devices import as_backend_input, cuda_device_of
from fidfast._inputs import Input, require_same_dim
from fidfast._metrics.groups import Groups
from fidfast._metrics.replicates import Replicates, RowSums
from fidfast._metrics.scale import rescaled_inputs
from fidfast._stats import ROWS_PER_SLICE, GaussianStats, Moments, explain_overflow, holding, on_common_device

__all__ = ["Jackknife", "RowJackknife", "why_no_jackknife"]

Array = NDArray[np.float64]

#: The expansion in dim / n needs at least this many samples for each direction with nonzero variance.
SAMPLES_PER_DIRECTION = 2

#: With units that are mostly zero, smaller samples may lack rare rows, which their spread does not show.
FEW_SAMPLES = 500


class RowJackknife(NamedTuple):
    """What computes the distances without single rows; can be pickled, for other processes."""

    #: Of samples and reference, in the unit ``2^exponent`` of the features.
    stats: tuple[GaussianStats, GaussianStats]
    sampled: tuple[bool, bool]
    precision: str
    exponent: int

    def core(self) -> _core.Jackknife:
        """The core's object, which takes about three times as long as the distance."""
        return _core_jackknife(self.stats, self.sampled, self.precision, with_rows=True)[0]

    def sums(self, core: _core.Jackknife, side: int, rows: Any) -> RowSums:
        """The sums over features (n, dim) of a side, 0 for samples."""
        if self.exponent != 0:
            rows = np.ldexp(np.asarray(rows, np.float64), -self.exponent)
        return RowSums.of(*core.without(bool(side), rows, None), (core.distance, core.corrected))


def _core_jackknife(
    stats: tuple[GaussianStats, GaussianStats], sampled: tuple[bool, bool], precision: str, *, with_rows: bool
) -> tuple[_core.Jackknife, int | None]:
    """The core's object, and its device."""
    backend, gaussians, device = on_common_device(*stats)
    with explain_overflow(*stats):
        jackknife: _core.Jackknife = backend.Jackknife(*gaussians, *sampled, precision, with_rows)
    return jackknife, device


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
        sums_elsewhere: Mapping[int, Callable[[RowJackknife], RowSums]] | None = None,
    ) -> None:
        #: As given.
        self.given = (samples, reference)
        #: For a side, 0 or 1, whose rows are not here, the function that computes their sums.
        self._elsewhere = sums_elsewhere or {}
        #: For each side, whether it is a sample, whose parts are left out, and not taken as exact.
        self.sampled = (
            samples.has_samples or 0 in self._elsewhere,
            (reference.has_samples or 1 in self._elsewhere) and not exact_reference,
        )
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
            with_rows = any(self.sampled[k] and self.inputs[k].rows is not None for k in (0, 1))
            stats = samples.stats, reference.stats
            self._core, self._device = _core_jackknife(stats, self.sampled, precision, with_rows=with_rows)
            self.distance, self.corrected = self._core.distance, self._core.corrected
            self._traces = [float(np.trace(source.stats.sigma)) for source in self.inputs]
            self._rests = {k: list(self._without_each_block(k)) for k in (0, 1) if self._in_blocks(k)}
            #: For each side that is a sample, by position (0 or 1).
            self.replicates = {k: self._replicates(k) for k in (0, 1) if self.sampled[k]}
            self._sides = [self._side(k) if self.sampled[k] else _Side() for k in (0, 1)]
            if any(group is not None for group in self.groups):
                self._correct_for_groups()

    def _in_blocks(self, k: int) -> bool:
        has_rows = self.inputs[k].rows is not None or k in self._elsewhere
        return self.sampled[k] and (not has_rows or self.groups[k] is not None)

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
            stats = (rest, other) if k == 0 else (other, rest)
            core, self._device = _core_jackknife(stats, self.sampled, self._precision, with_rows=False)
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

    def _replicates(self, k: int, in_blocks: bool | None = None) -> Replicates | RowSums:
        n = self.inputs[k].num_samples or 0
        complete = (self._core.distance, self._core.corrected)
        if k in self._elsewhere:
            stats = self.inputs[0].stats, self.inputs[1].stats
            return self._elsewhere[k](RowJackknife(stats, self.sampled, self._precision, self.exponent))
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
        assert isinstance(replicates, Replicates)
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

    def _kurtosis(self, k: int, replicates: Replicates | RowSums, num_of_mean: float, inverse: float) -> float:
        """The jackknife's bias of the trace of the root, divided by that of Gaussian features."""
        bias = replicates.bias_of_distance
        bias_of_root = (self._traces[k] / num_of_mean - bias) / 2
        gaussian_bias = self._core.gaussian_bias_of(inverse)
        return float(bias_of_root / gaussian_bias) if gaussian_bias < 0 else 1.0

    def _correct_for_groups(self) -> None:
        """Correct the distances as for the numbers of independent samples."""
        self.corrected = self._corrected(self._core, self._traces, self._sides)
        for k in self._rests:
            if self.groups[k] is None:
                continue
            replicates = self.replicates[k]
            assert isinstance(replicates, Replicates)
            corrected, n = [], replicates.num_samples
            for rest in self._rests[k]:
                traces, sides = self._traces.copy(), self._sides.copy()
                traces[k], sides[k] = rest.trace, sides[k].part(1 - rest.size / n)
                corrected.append(self._corrected(rest.core, traces, sides))
            self.replicates[k] = replicates.with_corrected(np.array(corrected), self.corrected)

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
            largest = math.ceil(replicates.largest_part * worth / replicates.num_samples)
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
    def arrays(self) -> dict[int, Replicates]:
        """The replicates of each side, whose rows must be here."""
        return {k: part for k, part in self.replicates.items() if isinstance(part, Replicates)}

    @property
    def unbiased(self) -> float:
        """The distance without bias."""
        return self.corrected - sum(part.bias_of_corrected for part in self.replicates.values())
