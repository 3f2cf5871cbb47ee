"""Every metric computable from features, in one call: `report`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._devices import to_host
from fidfast._images import BrokenImageError, open_images
from fidfast._inputs import Input, open_pair, require_same_dim
from fidfast._metrics.extrapolation import Extrapolation, fid_infinity
from fidfast._metrics.frechet import distance_between, terms_between
from fidfast._metrics.jackknife import Jackknife, why_no_jackknife
from fidfast._metrics.kernel import KernelDistance, cmmd, kid
from fidfast._metrics.neighbours import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    manifold_metrics,
    precision_recall,
)
from fidfast._metrics.uncertainty import (
    Estimate,
    estimate_from_jackknife,
    estimate_without_error,
    influence_from_jackknife,
)
from fidfast._report.contents import K_DENSITY_COVERAGE, K_PRECISION_RECALL, HarmfulSample, Trimmed
from fidfast._report.result import Report
from fidfast._stats import GaussianStats, Moments

__all__ = ["report"]

Array = NDArray[np.float64]

#: Number of subsets for `fid_infinity`; each costs one distance.
NUM_SUBSETS = 8

#: Largest deviation of a norm from 1: rows normalised in bfloat16 are within it.
UNIT_NORM = 5e-3


def report(
    samples: Any,
    reference: Any,
    *,
    names: Sequence[str] | None = None,
    images: Any = None,
    titles: tuple[str, str] | None = None,
    most_harmful: int = 12,
    all_pairs: bool = True,
    seed: int = 0,
    precision: str = "float32",
) -> Report:
    """Compute every metric computable from features: distances with error bars, and the most harmful samples.

    Parameters
    ----------
    samples : (n, dim) array or tensor, path, Moments or GaussianStats
        The generated samples. Fewer metrics are available for moments and statistics; the report gives the reasons.
    reference : array, tensor, path, Moments or GaussianStats
        As `samples`.
    names : sequence of str, optional
        Name of each row of `samples`. Defaults to the names of `images`, else to row numbers.
    images : path, (n, height, width, 3) uint8 array or sequence of (height, width, 3) uint8 arrays, optional
        The image of each row of `samples`, in the same order. A folder or archive is read in the order of its sorted
        names. Only the images of the most harmful samples are read.
    titles : (str, str), optional
        Titles of samples and reference. Default to the paths, else to "samples" and "reference".
    most_harmful : int, default 12
        Number of most harmful samples to list.
    all_pairs : bool, default True
        Whether to compute the metrics that take O(n^2) time: kernel distances, precision and recall, density and
        coverage.
    seed : int, default 0
        As in `fid_infinity`.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`.

    Returns
    -------
    Report
        With ``table()``, ``to_dict()``, ``html()`` and ``write_html(path)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or `names` or `images` do not have one entry for each row.
    FileNotFoundError
        If a path does not exist.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.

    Notes
    -----
    The numbers are those of `estimate`, `influence`, `fid_infinity`, `kid`, `cmmd`, `precision_recall` and
    `density_coverage`. CMMD is defined for CLIP features, so it is computed only if all rows have unit norm.
    """
    if most_harmful < 0:
        raise ValueError(f"most_harmful must be at least 0, got {most_harmful}")
    titles = titles or (_title(samples, "samples"), _title(reference, "reference"))
    samples, reference = open_pair(to_host(samples), to_host(reference), precision=precision)
    require_same_dim(samples.dim, reference.dim, samples.name, reference.name)
    if isinstance(images, (str, os.PathLike, np.ndarray)):
        images = open_images(images)
        names = images.names if names is None else names
    _require_one_per_row(samples, images=images, names=names)
    metrics = _Metrics(samples, reference, precision, all_pairs, seed)
    estimate, influence = metrics.estimate_and_influence()
    shares = metrics.neighbours()
    spectra = _spectrum(samples.stats), _spectrum(reference.stats)
    difference = samples.stats.mu - reference.stats.mu
    return Report(
        titles=(_printable(titles[0]), _printable(titles[1])),
        estimate=estimate,
        mean_term=float(difference @ difference),
        dim=samples.dim,
        num_samples=(samples.num_samples, reference.num_samples),
        extractors=(samples.extractor, reference.extractor),
        spectra=spectra,
        ranks=(_rank(spectra[0], samples.stats), _rank(spectra[1], reference.stats)),
        dead_units=(_dead_units(samples.stats), _dead_units(reference.stats)),
        extrapolation=metrics.extrapolation(),
        most_harmful=None if influence is None else _worst(influence, most_harmful, names, images),
        trimmed=None if influence is None else metrics.trimmed(influence),
        kid=metrics.kid(),
        cmmd=metrics.cmmd(),
        precision_recall=shares[0],
        density_coverage=shares[1],
        reasons=metrics.reasons,
    )


class _Metrics:
    """Computes the metrics of a report; `reasons` collects why a metric is not available."""

    def __init__(self, samples: Input, reference: Input, precision: str, all_pairs: bool, seed: int) -> None:
        self.samples = samples
        self.reference = reference
        self.precision = precision
        self.all_pairs = all_pairs
        self.seed = seed
        self.reasons: dict[str, str] = {}

    def estimate_and_influence(self) -> tuple[Estimate, Array | None]:
        """The estimate, and the influence (n,) of each row if there are rows; one jackknife gives both."""
        sides = (self.samples, self.reference)
        reason = why_no_jackknife(sides, (self.samples.has_samples, self.reference.has_samples))
        if reason is None:
            jackknife = Jackknife(self.samples, self.reference, self.precision)
            estimate = estimate_from_jackknife(jackknife)
        else:
            jackknife = None
            terms = terms_between(self.samples.stats, self.reference.stats)
            estimate = estimate_without_error(terms, self.samples, self.reference, reason)
        if estimate.note is not None:
            self.reasons["estimate"] = estimate.note
        reason = self.samples.why_no_rows("influence") or reason
        if reason is None:
            assert jackknife is not None
            return estimate, influence_from_jackknife(jackknife)
        self.reasons["most_harmful"] = reason
        return estimate, None

    def trimmed(self, influence: Array) -> Trimmed:
        """The distance of the remaining rows, from their own moments: influences add up to first order only."""
        count = max(1, len(influence) // 100)
        left_out = np.zeros(len(influence), dtype=bool)
        left_out[np.argsort(influence)[-count:]] = True
        moments = Moments(self.samples.dim, precision=self.precision)
        first = 0
        for rows in self.samples.slices():
            kept = np.flatnonzero(~left_out[first : first + len(rows)])
            if len(kept) > 0:
                moments.update(_core.gather(rows, kept))
            first += len(rows)
        return Trimmed(count, distance_between(moments.stats(), self.reference.stats))

    def extrapolation(self) -> Extrapolation | None:
        n = self.samples.num_samples or 0
        reason = self.samples.why_no_rows("fid_infinity")
        if reason is not None:
            self.reasons["extrapolation"] = reason
            return None
        if n < 4:
            self.reasons["extrapolation"] = f"extrapolation needs at least 4 samples; {self.samples.name} has {n}"
            return None
        points = min(NUM_SUBSETS, n - min(5000, n // 2) + 1)
        return fid_infinity(
            self.samples.rows, self.reference.stats, num_points=points, seed=self.seed, precision=self.precision
        )

    def kid(self) -> KernelDistance | None:
        if not self._have_pairs("kid"):
            return None
        return kid(self.samples.rows, self.reference.rows, precision=self.precision)

    def cmmd(self) -> float | None:
        if not self._have_pairs("cmmd"):
            return None
        for side in (self.samples, self.reference):
            if side.extractor is not None and "clip" not in side.extractor.lower():
                self.reasons["cmmd"] = f"defined for CLIP features; the extractor of {side.name} is {side.extractor}"
                return None
            if not all(_have_unit_norm(rows) for rows in side.slices()):
                self.reasons["cmmd"] = f"defined for rows of unit norm (CLIP features); those of {side.name} are not"
                return None
        return cmmd(self.samples.rows, self.reference.rows, precision=self.precision)

    def neighbours(self) -> tuple[PrecisionRecall | None, DensityCoverage | None]:
        if not all([self._have_pairs("precision_recall"), self._have_pairs("density_coverage")]):
            return None, None
        self._require_neighbours("precision_recall", K_PRECISION_RECALL, self.samples, self.reference)
        self._require_neighbours("density_coverage", K_DENSITY_COVERAGE, self.reference)
        rows = self.samples.rows, self.reference.rows
        if "precision_recall" in self.reasons:
            if "density_coverage" in self.reasons:
                return None, None
            return None, density_coverage(*rows, k=K_DENSITY_COVERAGE)
        if "density_coverage" in self.reasons:
            return precision_recall(*rows, k=K_PRECISION_RECALL), None
        both = manifold_metrics(*rows)  # computes the distances once
        return PrecisionRecall(both.precision, both.recall), DensityCoverage(both.density, both.coverage)

    def _have_pairs(self, metric: str) -> bool:
        """Whether to compute a metric over all pairs of rows."""
        reason = self.samples.why_no_rows(metric) or self.reference.why_no_rows(metric)
        if reason is not None:
            self.reasons[metric] = reason
        elif not self.all_pairs:
            self.reasons[metric] = "skipped (all_pairs=False)"
        return metric not in self.reasons

    def _require_neighbours(self, metric: str, k: int, *sides: Input) -> None:
        for side in sides:
            if (side.num_samples or 0) <= k:
                self.reasons[metric] = f"k = {k} needs at least {k + 1} samples; {side.name} has {side.num_samples}"
                return


def _require_one_per_row(samples: Input, **sequences: Sequence[Any] | None) -> None:
    for name, sequence in sequences.items():
        if sequence is None:
            continue
        if samples.rows is None:
            raise ValueError(f"{name} need the features of samples, but samples holds none")
        if len(sequence) != samples.num_samples:
            raise ValueError(f"samples has {samples.num_samples} rows, but there are {len(sequence)} {name}")


def _have_unit_norm(rows: Any) -> bool:
    norms = np.linalg.norm(_core.gather(rows, np.arange(len(rows))), axis=1)
    return bool(np.all(np.abs(norms - 1) < UNIT_NORM))


def _worst(
    influence: Array, count: int, names: Sequence[str] | None, images: Sequence[NDArray[np.uint8]] | None
) -> tuple[HarmfulSample, ...]:
    """The samples with the largest influence."""
    worst = []
    for row in np.argsort(-influence, kind="stable")[:count].tolist():
        name = f"row {row}" if names is None else _printable(str(names[row]))
        try:
            image = None if images is None else np.asarray(images[row])
        except BrokenImageError:
            image = None
        if image is not None and (image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3):
            raise TypeError(
                f"images must be (height, width, 3) uint8 arrays, got shape {image.shape} and dtype {image.dtype}"
            )
        worst.append(HarmfulSample(row, name, float(influence[row]), image))
    return tuple(worst)


def _spectrum(stats: GaussianStats) -> Array:
    from scipy.linalg import eigvalsh

    values: Array = eigvalsh(stats.sigma)[::-1]
    return np.maximum(values, 0.0)


def _rank(spectrum: Array, stats: GaussianStats) -> int:
    """Number of eigenvalues above rounding, and in the factor."""
    above = int(np.count_nonzero(spectrum > len(spectrum) * np.finfo(float).eps * spectrum[0]))
    return min(above, stats.factor.shape[1])


def _dead_units(stats: GaussianStats) -> int:
    return int(np.count_nonzero(stats.sigma.diagonal() == 0))


def _title(source: Any, name: str) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else name


def _printable(name: str) -> str:
    """Escape line breaks, control characters and surrogates, which file names may contain."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)
