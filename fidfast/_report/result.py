"""What `report` found, as numbers, as a table and as a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast._inputs import is_inception
from fidfast._metrics.extrapolation import Extrapolation
from fidfast._metrics.kernel import KernelDistance
from fidfast._metrics.neighbours import DensityCoverage, PrecisionRecall
from fidfast._metrics.uncertainty import Estimate, _decimals

__all__ = ["K_DENSITY_COVERAGE", "K_PRECISION_RECALL", "HarmfulSample", "Report", "Row", "Trimmed"]

Array = NDArray[np.float64]

#: Which neighbour bounds a ball: the defaults of the two functions, as their authors recommend.
K_PRECISION_RECALL, K_DENSITY_COVERAGE = 3, 5

#: How many of the most harmful samples the table in a terminal names.
IN_THE_TABLE = 5


class HarmfulSample(NamedTuple):
    """One of the samples without which the distance would fall most."""

    #: Its number among the features.
    row: int
    #: Of its image, or the number of its row.
    name: str
    #: How much it adds to the distance, as `influence` has it.
    influence: float
    #: (height, width, 3) uint8, where images were given.
    image: NDArray[np.uint8] | None = None


class Trimmed(NamedTuple):
    """The distance without the most harmful samples, to be compared with `Estimate.value`."""

    #: How many were left out: one in a hundred, and at least one.
    num_samples: int
    value: float


class Row(NamedTuple):
    """A line of the table."""

    name: str
    #: Empty where there is none, and `note` says why.
    value: str
    note: str


@dataclass(frozen=True, eq=False)
class Report:
    """All that features alone can tell; made by `report`. What is None could not be had, and `reasons` says why."""

    #: What features and reference are called.
    titles: tuple[str, str]
    #: The Fréchet distance and how sure it is.
    estimate: Estimate
    #: ``|mu1 - mu2|^2``, the part of the distance that the means make; the covariances make the rest.
    mean_term: float
    #: Number of columns of the features.
    dim: int
    #: Of features and reference, as all pairs below; None where it is not known.
    num_samples: tuple[int | None, int | None]
    #: Names of the networks that made the features, None where they are not known.
    extractors: tuple[str | None, str | None]
    #: (dim,) eigenvalues of the covariances, the largest first.
    spectra: tuple[Array, Array]
    #: Of the covariances: number of eigenvalues above rounding.
    ranks: tuple[int, int]
    #: Number of columns that do not vary.
    dead_units: tuple[int, int]
    #: Distances of growing parts of the features.
    growth: Extrapolation | None
    #: The samples that add most to the distance, the worst first.
    most_harmful: tuple[HarmfulSample, ...] | None
    #: The distance without the worst one in a hundred.
    trimmed: Trimmed | None
    #: Kernel distance with its standard error.
    kid: KernelDistance | None
    #: For rows of unit norm only, as CLIP's.
    cmmd: float | None
    #: With ``k = 3``, the radius included.
    precision_recall: PrecisionRecall | None
    #: With ``k = 5``, the radius not included.
    density_coverage: DensityCoverage | None
    #: Name of what is None -> why; under "estimate", why there is no error bar.
    reasons: dict[str, str]

    @property
    def label(self) -> str:
        """``FID`` for features of the 2015 Inception network, ``Fréchet distance`` for all else."""
        return "FID" if all(map(is_inception, self.extractors)) else "Fréchet distance"

    @property
    def headline(self) -> str:
        """The distance in one line: unbiased with its error bar, or as it is where there is none."""
        if self.estimate.note is not None:
            return f"{self.label} {self.estimate.value:.6g}"
        return f"{self.label} {_with_error(self.estimate.unbiased, self.estimate.stderr)}"

    def to_dict(self) -> dict[str, Any]:
        """All but spectra and images by name; what JSON takes."""
        growth, worst, kid = self.growth, self.most_harmful, self.kid
        shares = {**dict.fromkeys(("precision", "recall", "density", "coverage"))}
        for found in (self.precision_recall, self.density_coverage):
            shares |= {} if found is None else found._asdict()
        return {
            "label": self.label,
            "titles": list(self.titles),
            **self.estimate.to_dict(),
            "num_samples": list(self.num_samples),
            "extractor": list(self.extractors),
            "mean_term": self.mean_term,
            "dim": self.dim,
            "rank": list(self.ranks),
            "dead_units": list(self.dead_units),
            "growth": growth and {**growth._asdict(), **{key: getattr(growth, key).tolist() for key in _SERIES}},
            "trimmed": self.trimmed and self.trimmed._asdict(),
            "most_harmful": worst and [{key: getattr(sample, key) for key in _SAMPLE} for sample in worst],
            "kid": kid and {"value": kid.value, "stderr": kid.stderr if kid.stderr > 0 else None},
            "cmmd": self.cmmd,
            **shares,
            "k": {"precision_recall": K_PRECISION_RECALL, "density_coverage": K_DENSITY_COVERAGE},
            "reasons": dict(self.reasons),
        }

    def rows(self) -> list[Row]:
        """The lines of the table."""
        return [*self._of_sides(), *self._of_distance(), *self._of_kernels(), *self._of_neighbours()]

    def _of_sides(self) -> Iterator[Row]:
        for k, name in enumerate(("features", "reference")):
            n, dead = self.num_samples[k], self.dead_units[k]
            known = f"extractor {self.extractors[k] or 'unknown'}; rank {self.ranks[k]:,}"
            note = f"{self.titles[k]}; {known}, {dead:,} dead {'unit' if dead == 1 else 'units'}"
            yield Row(name, f"{'unknown' if n is None else f'{n:,}'} × {self.dim:,}", note)

    def _of_distance(self) -> Iterator[Row]:
        known, label = self.estimate, self.label
        if known.note is None:
            digits = _decimals(known.stderr)
            low, high = known.interval()
            note = f"of infinitely many samples, 95 % between {low:.{digits}f} and {high:.{digits}f}"
            note += "" if known.caution is None else f"; {known.caution}"
            yield Row(f"{label}, unbiased", _with_error(known.unbiased, known.stderr), note)
            note = f"with the bias of the samples, {known.bias:+.{digits}f}; rounding at most {known.rounding:.1g}"
        else:
            yield Row(f"{label}, unbiased", "", known.note)
            note = f"with the bias of the samples; rounding at most {known.rounding:.1g}"
        yield Row(f"{label}, as other tools have it", f"{known.value:.6g}", note)
        yield Row("  of which the means make", f"{self.mean_term:.4g}", "and the covariances the rest")
        if self.growth is None:
            yield Row("  extrapolated", "", self.reasons["growth"])
        else:
            note = f"to 1/n = 0, through {len(self.growth.distances)} growing parts of the features"
            if self.growth.num_samples[0] < 2 * min(self.ranks):
                note += "; those below twice the rank need not lie on a line"
            yield Row("  extrapolated", f"{self.growth.value:.6g}", note)
        if self.trimmed is None:
            yield Row("  without the worst 1 %", "", self.reasons["most_harmful"])
        else:
            n, fall = self.trimmed.num_samples, known.value - self.trimmed.value
            which = "sample" if n == 1 else f"{n:,} samples"
            share = f", {100 * fall / known.value:.1f} % of it" if known.value > 0 else ""
            yield Row(f"  without the worst {which}", f"{self.trimmed.value:.6g}", f"{fall:.4g} less{share}")

    def _of_kernels(self) -> Iterator[Row]:
        name = "KID" if all(map(is_inception, self.extractors)) else "kernel distance, as KID"
        kernel = "unbiased, of all pairs; kernel (x·y / dim + 1)³"
        if self.kid is None:
            yield Row(name, "", self.reasons["kid"])
        elif self.kid.stderr > 0:
            yield Row(name, _with_error(self.kid.value, self.kid.stderr), kernel)
        else:
            yield Row(name, f"{self.kid.value:.3g}", f"{kernel}; samples are too few for an error bar")
        if self.cmmd is None:
            yield Row("CMMD", "", self.reasons["cmmd"])
        else:
            yield Row("CMMD", f"{self.cmmd:.4g}", "kernel exp(-|x - y|² / 200), times 1,000; biased upwards")

    def _of_neighbours(self) -> Iterator[Row]:
        near = f"k = {K_PRECISION_RECALL}, radius included"
        yield self._share("precision", f"share of the features among the reference, {near}")
        yield self._share("recall", f"share of the reference among the features, {near}")
        near = f"k = {K_DENSITY_COVERAGE}, radius not included"
        yield self._share("density", f"reference balls that hold a sample of the features, over k; {near}")
        yield self._share("coverage", f"share of the reference balls that hold one; {near}")

    def _share(self, name: str, note: str) -> Row:
        key = "precision_recall" if name in PrecisionRecall._fields else "density_coverage"
        found = getattr(self, key)
        return Row(name, "", self.reasons[key]) if found is None else Row(name, f"{getattr(found, name):.4f}", note)

    def table(self) -> str:
        """The table for a terminal, the most harmful samples below."""
        rows = self.rows()
        for rank, sample in enumerate((self.most_harmful or ())[:IN_THE_TABLE]):
            rows.append(Row("most harmful" if rank == 0 else "", f"{sample.influence:+.4g}", sample.name))
        widths = max(len(row.name) for row in rows), max(len(row.value) for row in rows)
        return "\n".join(f"{row.name:{widths[0]}}  {row.value or '–':{widths[1]}}  {row.note}".rstrip() for row in rows)

    def html(self) -> str:
        """One page with the table, the plots, and the pictures of the most harmful samples.

        Nothing in it is loaded from elsewhere. Plots need matplotlib; without it a sentence is in their place.

        Warns
        -----
        UserWarning
            If matplotlib, or pillow for pictures, is missing.
        """
        from fidfast._report.page import page

        return page(self)

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Write `html` to a file.

        Parameters
        ----------
        path : path

        Raises
        ------
        OSError
            If the file cannot be written.

        Warns
        -----
        UserWarning
            As `html`.
        """
        text = self.html()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


_SERIES = ("num_samples", "distances")
_SAMPLE = ("row", "name", "influence")


def _with_error(value: float, stderr: float) -> str:
    """Both with two digits of the error."""
    digits = _decimals(stderr)
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"
