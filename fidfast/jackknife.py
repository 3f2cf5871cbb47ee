"""The distances that leave out rows, or blocks of rows, and what follows from them."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast import _core, devices, formats
from fidfast.gaussian import GaussianStats, together
from fidfast.moments import Moments
from fidfast.sources import as_stats, require_same_dim, warn_of_extractors

__all__ = ["Jackknife", "Replicates", "Sample", "degrees_of_freedom"]

Array = NDArray[np.float64]

#: The expansion in dim / n holds from this many samples for each direction that varies on.
SAMPLES_PER_DIRECTION = 2

#: Where a network's units are mostly zero, samples smaller than this lack rare rows, and do not show that they do.
FEW_SAMPLES = 500


class Sample(NamedTuple):
    """One side: its statistics, and the rows or blocks of rows that can be left out."""

    #: Of the argument.
    name: str
    stats: GaussianStats
    rows: Any = None
    blocks: tuple[Moments, ...] = ()

    @classmethod
    def of(cls, source: Any, name: str, precision: str) -> Sample:
        try:
            if isinstance(source, (str, os.PathLike)):
                content = formats.read(source)
                if isinstance(content, formats.Checkpoint) and content.progress is None:
                    source = Moments._of_blocks(content.blocks, content.extractor)
                elif isinstance(content, formats.Features):
                    source = content
            if isinstance(source, formats.Features):
                moments = Moments._of_features(source.features, precision, source.extractor)
                return cls(name, moments.stats(), rows=source.features)
            if isinstance(source, Moments):
                blocks = tuple(block for block in source.blocks if block.num_samples > 0)
                return cls(name, source.stats(), blocks=blocks if len(blocks) > 1 else ())
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
        if isinstance(source, (GaussianStats, str, os.PathLike)):
            return cls(name, as_stats(source, name, precision))
        return cls.of(formats.Features(source), name, precision)

    @property
    def sampled(self) -> bool:
        return self.rows is not None or bool(self.blocks)

    @property
    def num_samples(self) -> int:
        return self.stats.num_samples or 0

    def whole(self) -> Moments:
        """All blocks as one."""
        first, *others = self.blocks
        whole = Moments._of_blocks([first._whole().copy()], None)
        for other in others:
            whole.merge(other)
        return whole

    def slices(self) -> Iterator[Any]:
        if self.num_samples <= formats.ROWS_AT_A_TIME:
            yield self.rows  # which need not be sliceable
            return
        for first in range(0, self.num_samples, formats.ROWS_AT_A_TIME):
            yield self.rows[first : first + formats.ROWS_AT_A_TIME]


class Replicates(NamedTuple):
    """The distance without each part of a sample: with all of the bias, and without that of Gaussian features."""

    distance: Array
    corrected: Array
    #: Of the whole sample.
    whole: tuple[float, float]
    #: Number of rows in each part, and in all.
    rows: Array
    num_samples: int
    #: Whether the parts are blocks of rows, and not each a row.
    in_blocks: bool = False

    def __sub__(self, other: Replicates) -> Replicates:
        whole = (self.whole[0] - other.whole[0], self.whole[1] - other.whole[1])
        return self._replace(
            distance=self.distance - other.distance, corrected=self.corrected - other.corrected, whole=whole
        )

    def bias(self, without: Array, whole: float) -> float:
        """Of parts of unequal size: Busing, Meijer & van der Leeden (1999), equation 9."""
        return float(np.sum((1 - self.rows / self.num_samples) * (without - whole)))

    @property
    def variance(self) -> float:
        """Of `corrected`: equation 10 there."""
        return float(np.mean(self._squares()))

    @property
    def uncertainty(self) -> float:
        """Variance of `variance` over its square: by the kurtosis of what each row adds, and as if the blocks' were
        normal, of which there are too few to tell.
        """
        if self.in_blocks:
            return 2 / (len(self.rows) - 1)
        squares = self._squares()
        mean = float(np.mean(squares))
        return (float(np.mean(squares**2)) / mean**2 - 1) / self.num_samples if mean**2 > 0 else 0.0

    def _squares(self) -> Array:
        h = self.num_samples / self.rows
        excess = (h - 1) * (self.corrected - self.whole[1])
        centred = excess - np.mean(excess * self.rows) * len(h) / self.num_samples
        return np.asarray(centred**2 / (h - 1))


def degrees_of_freedom(parts: Iterable[Replicates]) -> float:
    """Of the sum of their variances: those of the chi-squared variable that varies as much (Satterthwaite, 1946)."""
    known = [(part.variance, part.uncertainty) for part in parts]
    varies = sum(variance**2 * uncertainty for variance, uncertainty in known)
    return 2 * sum(variance for variance, _ in known) ** 2 / varies if varies > 0 else math.inf


class Jackknife:
    """One distance, its replicates, and what follows from them."""

    def __init__(self, ours: Sample, theirs: Sample, precision: str) -> None:
        require_same_dim(ours.stats.dim, theirs.stats.dim, ours.name, theirs.name)
        warn_of_extractors(ours.stats, theirs.stats, stacklevel=4)
        self.sides = (ours, theirs)
        self._precision = precision
        if not (ours.sampled or theirs.sampled):
            raise ValueError(
                f"{ours.name} are statistics alone, which do not tell how their samples scatter: give the (n, dim) "
                "array or file of features, or collect them in Moments(dim, blocks=20)"
            )
        for side in self.sides:
            # With blocks, what is left has to have a covariance.
            if side.sampled and side.num_samples - max((block.num_samples for block in side.blocks), default=1) < 2:
                raise ValueError(f"{side.name} has {side.num_samples} samples, too few to leave any out")
        self._core = self._jackknife((ours.stats, theirs.stats), any(side.rows is not None for side in self.sides))
        self.distance, self.corrected = self._core.distance, self._core.corrected
        #: By side, where it is a sample.
        self.replicates = {k: self._replicates(k) for k in (0, 1) if self.sides[k].sampled}

    def _jackknife(self, stats: tuple[GaussianStats, GaussianStats], with_rows: bool) -> _core.Jackknife:
        ours, theirs = self.sides
        module, gaussians, self._place = together(*stats)
        made: _core.Jackknife = module.Jackknife(*gaussians, ours.sampled, theirs.sampled, self._precision, with_rows)
        return made

    def _replicates(self, k: int) -> Replicates:
        side = self.sides[k]
        n = side.num_samples
        whole = (self.distance, self.corrected)
        if side.rows is not None:
            parts = [
                self._core.without(bool(k), rows, stream)
                for part in side.slices()
                for rows, stream in devices.presented(part, self._place, None)
            ]
            distance, corrected = (np.concatenate(part) for part in zip(*parts, strict=True))
            return Replicates(distance, corrected, whole, np.ones(n), n)
        pairs, whole_of_blocks = [], side.whole()
        for block in side.blocks:
            rest = copy.copy(whole_of_blocks)
            rest.unmerge(block)
            both = (rest.stats(), self.sides[1].stats) if k == 0 else (self.sides[0].stats, rest.stats())
            left = self._jackknife(both, False)
            pairs.append((left.distance, left.corrected))
        distance, corrected = np.array(pairs).T
        return Replicates(distance, corrected, whole, np.array([b.num_samples for b in side.blocks], float), n, True)

    def _kurtosis(self, k: int) -> float:
        """The jackknife's bias of the root over what it would be for Gaussian features."""
        replicates, stats = self.replicates[k], self.sides[k].stats
        bias = replicates.bias(replicates.distance, self.distance)
        of_root = (np.trace(stats.sigma) / replicates.num_samples - bias) / 2
        foretold = self._core.gaussian_bias(bool(k))
        return float(of_root / foretold) if foretold < 0 else 1.0

    def _second_order(self, sides: Sequence[int]) -> float:
        """Variance of the distance's second order, of these sides' samples."""
        weight = sum(self._kurtosis(k) / self.replicates[k].num_samples for k in sides)
        means = sum(self.sides[k].stats.sigma / self.replicates[k].num_samples for k in sides)
        return float(weight**2 * self._core.second_order + 2 * np.vdot(means, means))

    def variance(self, sides: Sequence[int]) -> float:
        """Of the unbiased distance, from these sides' samples."""
        twice = sum(self.replicates[k].variance for k in sides)
        # The jackknife counts the second order twice, so it is at most half of what the jackknife finds.
        return twice - min(self._second_order(sides), twice / 2)

    def caution(self) -> str | None:
        """Why the error bar may be too short, or None."""
        for k, replicates in self.replicates.items():
            if replicates.num_samples < FEW_SAMPLES:
                return (
                    f"{self.sides[k].name} has {replicates.num_samples} samples, and below {FEW_SAMPLES} the interval "
                    "is too short where rare samples matter"
                )
        return None

    def note(self) -> str | None:
        """Why the expansion does not hold, or None."""
        for k, replicates in self.replicates.items():
            # As many must be left where the largest part has been taken out.
            needed = SAMPLES_PER_DIRECTION * self._core.rank + int(replicates.rows.max())
            if replicates.num_samples < needed:
                return (
                    f"{self.sides[k].name} has {replicates.num_samples} samples, and {self._core.rank} directions that "
                    f"vary need {needed}"
                )
        return None

    @property
    def unbiased(self) -> float:
        """The distance without any bias."""
        return self.corrected - sum(part.bias(part.corrected, self.corrected) for part in self.replicates.values())
