"""The contents of a report: all numbers, and the rows of its table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._metrics.extrapolation import Extrapolation
from fidfast._metrics.kernel import KernelDistance
from fidfast._metrics.neighbours import DensityCoverage, PrecisionRecall
from fidfast._metrics.uncertainty import Estimate
from fidfast._results import (
    Result,
    distance_label,
    distance_text,
    json_object,
    kernel_label,
    rounding_text,
    too_few_samples,
    value_with_error,
)

__all__ = [
    "K_DENSITY_COVERAGE",
    "K_PRECISION_RECALL",
    "Contents",
    "HarmfulSample",
    "ReferenceSample",
    "Row",
    "Trimmed",
]

#: Neighbours: the defaults of `precision_recall` and `density_coverage`, which their authors recommend.
K_PRECISION_RECALL, K_DENSITY_COVERAGE = 3, 5


@dataclass(frozen=True, eq=False)
class ReferenceSample(Result):
    """The reference sample that is nearest to a harmful sample."""

    #: Row of the reference.
    row: int
    #: Name of its image, or "row 3".
    name: str
    #: Euclidean distance of the two rows, in units of the features.
    distance: float
    #: (height, width, 3) uint8; None if no images were given, or this one cannot be read.
    image: NDArray[np.uint8] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All fields but the image."""
        return json_object({"row": self.row, "name": self.name, "distance": self.distance})

    def __str__(self) -> str:
        return f"{self.name}: at distance {self.distance:.4g}"


@dataclass(frozen=True, eq=False)
class HarmfulSample(Result):
    """One of the samples that increase the distance most."""

    #: Row of the samples.
    row: int
    #: Name of its image, or "row 3".
    name: str
    #: How much it adds to the distance, as `influence` returns it, in squared units of the features.
    influence: float
    #: (height, width, 3) uint8; None if no images were given, or this one cannot be read.
    image: NDArray[np.uint8] | None = field(default=None, repr=False)
    #: Rows of further harmful samples that are almost equal to this one and are not listed themselves.
    alike: tuple[int, ...] = ()
    #: Sum of their influences.
    influence_alike: float = 0.0
    #: The nearest row of the reference; None if the reference has no rows.
    nearest: ReferenceSample | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields but the image; `alike`, its influence and `nearest` only if there are any."""
        numbers: dict[str, Any] = {"row": self.row, "name": self.name, "influence": self.influence}
        if self.alike:
            numbers |= {"alike": list(self.alike), "influence_alike": self.influence_alike}
        if self.nearest is not None:
            numbers["nearest"] = self.nearest
        return json_object(numbers)

    @property
    def alike_text(self) -> str:
        """How many samples are almost equal to this one, and what they add; empty without any."""
        if not self.alike:
            return ""
        return f"and {len(self.alike):,} almost equal, together {self.influence + self.influence_alike:+.4g}"

    def __str__(self) -> str:
        return f"{self.name}: {self.influence:+.4g}" + (f", {self.alike_text}" if self.alike else "")


@dataclass(frozen=True)
class Trimmed(Result):
    """The distance without the most harmful samples; compare with `Estimate.value`."""

    #: Number of samples left out: 1 %, and at least one.
    num_samples: int
    #: The Fréchet distance (Dowson & Landau, 1982) of the remaining samples, in squared units of the features.
    value: float

    def __str__(self) -> str:
        return f"{self.value:.6g} without the worst {_samples(self.num_samples)}"


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    name: str
    #: Empty if the value is not available; `note` then gives the reason.
    value: str
    note: str


@dataclass(frozen=True, eq=False)
class Contents(Result):
    """All numbers of a report. A field is None if it is not available; `reasons` then gives the reason."""

    #: Titles of samples and reference.
    titles: tuple[str, str]
    #: The Fréchet distance, its bias and its standard error.
    estimate: Estimate
    #: ``|mu1 - mu2|^2``, the part of the distance due to the means; the rest is due to the covariances.
    mean_term: float
    #: Number of columns of the features.
    dim: int
    #: Numbers of samples and reference samples, None if unknown. All pairs below have the same order.
    num_samples: tuple[int | None, int | None]
    #: Names of the extractors; None if unknown.
    extractors: tuple[str | None, str | None]
    #: (dim,) eigenvalues of the covariances, largest first.
    spectra: tuple[NDArray[np.float64], NDArray[np.float64]]
    #: Ranks of the covariances: number of eigenvalues above rounding, at most the columns of `GaussianStats.factor`.
    ranks: tuple[int, int]
    #: Number of columns with zero variance.
    dead_units: tuple[int, int]
    #: Distances of subsets of growing size, as `fid_infinity` returns them.
    extrapolation: Extrapolation | None
    #: The samples that increase the distance most, the worst first.
    most_harmful: tuple[HarmfulSample, ...] | None
    #: The distance without the worst 1 % of the samples.
    trimmed: Trimmed | None
    #: Kernel distance with its standard error, as `kid` returns it.
    kid: KernelDistance | None
    #: As `cmmd` returns it; only for rows of unit norm (CLIP features).
    cmmd: float | None
    #: With ``k = 3``, radius included.
    precision_recall: PrecisionRecall | None
    #: With ``k = 5``, radius excluded.
    density_coverage: DensityCoverage | None
    #: Name of a field that is None -> why; "estimate" -> why there is no error bar,
    #: "images" -> which images could not be shown.
    reasons: dict[str, str]
    #: When the report was made: ``2026-01-31 14:05 UTC``.
    created: str = ""
    #: The command that made it, or None.
    command: str | None = None

    @property
    def label(self) -> str:
        """``FID`` for features of the 2015 Inception network, else ``Fréchet distance``."""
        return distance_label(*self.extractors)

    @property
    def headline(self) -> str:
        """The distance in one line: unbiased with its standard error, or `Estimate.value` if there is none."""
        if self.estimate.note is not None:
            return f"{self.label} {self._value_text}"
        return f"{self.label} {self.estimate.unbiased_text}"

    @property
    def _value_text(self) -> str:
        """`Estimate.value`, with fewer digits if there are too few samples."""
        few = too_few_samples(self.dim, *self.num_samples)
        return f"{self.estimate.value:.6g}" if few is None else distance_text(self.estimate.value, True)

    def warnings(self) -> list[str]:
        """What limits the meaning of the numbers: too few samples, or samples that are not independent."""
        few = too_few_samples(self.dim, *self.num_samples)
        note = self.estimate.note if any(n is not None for n in self.estimate.num_samples) else None
        found = [few or note, self.estimate.caution]
        if few is not None and self.estimate.shared_rows:
            found.append(note)
        return [text for text in found if text is not None]

    def rows(self) -> list[Row]:
        """The rows of the table; metrics that are not available for the same reason share one."""
        every = [*self._data_rows(), *self._distance_rows(), *self._kernel_rows(), *self._neighbour_rows()]
        missing: dict[str, list[str]] = {}
        for row in every:
            if not row.value:
                missing.setdefault(_reason(row.note), []).append(row.name.strip())
        names = {reason: ", ".join(names) for reason, names in missing.items()}
        return [row for row in every if row.value] + [
            Row("not computed", "", f"{names}: {reason}") for reason, names in names.items()
        ]

    def _data_rows(self) -> Iterator[Row]:
        for k, name in enumerate(("samples", "reference")):
            n, dead = self.num_samples[k], self.dead_units[k]
            units = f"{dead:,} dead {'unit' if dead == 1 else 'units'}"
            note = f"{self.titles[k]}; extractor {self.extractors[k] or 'unknown'}; rank {self.ranks[k]:,}, {units}"
            yield Row(name, f"{'unknown' if n is None else f'{n:,}'} × {self.dim:,}", note)

    def _distance_rows(self) -> Iterator[Row]:
        estimate, label = self.estimate, self.label
        if estimate.note is None:
            note = f"for infinitely many samples; 95 % interval {estimate.interval_text}"
            note += "" if estimate.caution is None else f"; {estimate.caution}"
            yield Row(f"{label}, unbiased", estimate.unbiased_text, note)
            bias = f"includes the bias of finite samples, {estimate.bias_text}"
        else:
            yield Row(f"{label}, unbiased", "–", estimate.note)
            bias = "includes the bias of finite samples"
        few = too_few_samples(self.dim, *self.num_samples)
        yield Row(
            "  as reported by other tools", self._value_text, f"{few or bias}; {rounding_text(estimate.rounding)}"
        )
        yield Row("  mean term", f"{self.mean_term:.4g}", "due to the means; the rest is due to the covariances")
        yield self._extrapolation_row()
        yield self._trimmed_row()

    def _extrapolation_row(self) -> Row:
        line = self.extrapolation
        if line is None:
            return Row("  extrapolated", "", self.reasons["extrapolation"])
        note = f"to 1/n = 0, from {len(line.distances)} subsets of the samples of growing size n"
        if line.num_samples[0] < 2 * min(self.ranks):
            note += "; sizes below twice the rank may not be on a line"
        note = _sentence(note, line.caution)
        return Row("  extrapolated", f"{line.value:.6g}", note)

    def _trimmed_row(self) -> Row:
        if self.trimmed is None:
            return Row("  without the worst 1 %", "", self.reasons["most_harmful"])
        value, decrease = self.estimate.value, self.estimate.value - self.trimmed.value
        percent = f" ({100 * abs(decrease) / value:.1f} %)" if value > 0 else ""
        direction = "lower" if decrease >= 0 else "higher"
        name = f"  without the worst {_samples(self.trimmed.num_samples)}"
        return Row(name, f"{self.trimmed.value:.6g}", f"{direction} by {abs(decrease):.4g}{percent}")

    def _kernel_rows(self) -> Iterator[Row]:
        name = kernel_label(*self.extractors)
        note = "unbiased, over all pairs; kernel (x·y / dim + 1)³"
        if self.kid is None:
            yield Row(name, "", self.reasons["kid"])
        elif self.kid.note is None:
            yield Row(name, value_with_error(self.kid.value, self.kid.stderr), _sentence(note, self.kid.caution))
        else:
            yield Row(name, f"{self.kid.value:.3g}", f"{note}; no error bar: {self.kid.note}")
        if self.cmmd is None:
            yield Row("CMMD", "", self.reasons["cmmd"])
        else:
            yield Row("CMMD", f"{self.cmmd:.4g}", "kernel exp(-|x - y|² / 200), times 1,000; biased upwards")

    def _neighbour_rows(self) -> Iterator[Row]:
        k = f"k = {K_PRECISION_RECALL}, radius included"
        found = self.precision_recall
        note = _sentence(
            f"fraction of the samples inside a reference ball; {k}", None if found is None else found.caution
        )
        yield self._share("precision", note, found)
        yield self._share("recall", f"fraction of the reference inside a ball of the samples; {k}", found)
        k = f"k = {K_DENSITY_COVERAGE}, radius excluded"
        filled = self.density_coverage
        note = f"mean number of reference balls around a sample, divided by k; {k}"
        yield self._share("density", _sentence(note, None if filled is None else filled.caution), filled)
        yield self._share("coverage", f"fraction of the reference balls with a sample inside; {k}", filled)

    def _share(self, name: str, note: str, result: PrecisionRecall | DensityCoverage | None) -> Row:
        if result is None:
            key = "precision_recall" if name in ("precision", "recall") else "density_coverage"
            return Row(name, "", self.reasons[key])
        return Row(name, f"{getattr(result, name):.4f}", note)


def _reason(note: str) -> str:
    """The reason without the name of the function that needs features, so that equal reasons are equal texts."""
    return re.sub(r"(?<=: )\w+ (?=needs the \(n, dim\) features)", "", note)


def _sentence(*parts: str | None) -> str:
    """The parts that are not None, separated by semicolons."""
    return "; ".join(part for part in parts if part is not None)


def _samples(number: int) -> str:
    return "sample" if number == 1 else f"{number:,} samples"
