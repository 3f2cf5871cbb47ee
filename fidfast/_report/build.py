"""Every metric computable from features, in one call: `report`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import optional, require_bool, require_integer, require_sequence, require_text
from fidfast._images import open_images
from fidfast._inputs import Input, open_pair, require_same_dim
from fidfast._metrics.extrapolation import Extrapolation, fid_infinity
from fidfast._metrics.frechet import distance_between, terms_between
from fidfast._metrics.jackknife import Jackknife, why_no_jackknife
from fidfast._metrics.kernel import KernelDistance, cmmd, kid
from fidfast._metrics.neighbours import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    density_coverage_of,
    manifold_metrics,
    precision_recall,
    precision_recall_of,
)
from fidfast._metrics.uncertainty import (
    Estimate,
    estimate_from_jackknife,
    estimate_without_error,
    influence_from_jackknife,
)
from fidfast._progress import progress_bar
from fidfast._report.contents import K_DENSITY_COVERAGE, K_PRECISION_RECALL, Trimmed
from fidfast._report.result import Report
from fidfast._report.worst import ImagesOfRows, most_harmful_samples
from fidfast._stats import GaussianStats, Moments
from fidfast._text import printable

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
    reference_names: Sequence[str] | None = None,
    reference_images: Any = None,
    titles: tuple[str, str] | None = None,
    command: str | None = None,
    most_harmful: int = 12,
    all_pairs: bool = True,
    seed: int = 0,
    precision: str = "float32",
    progress: bool = False,
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
        The image of each row of `samples`, in the same order; may be grey, (height, width[, 1]). A folder or archive is
        read in the order of its sorted names. Only the images of the most harmful samples are read, and the first one
        of a sequence. Images that cannot be read are not shown; ``reasons["images"]`` says why.
    reference_names, reference_images : optional
        The same for the rows of `reference`: the page shows each of the most harmful samples beside its nearest
        reference image.
    titles : (str, str), optional
        Titles of samples and reference. Default to the paths, else to "samples" and "reference".
    command : str, optional
        The command that makes the report, for the header of the page.
    most_harmful : int, default 12
        Number of most harmful samples to list. Almost equal samples are listed as one: those whose distance is at most
        half of the usual distance of two reference samples, and as small as for 1 in 10,000 pairs of normal ones.
    all_pairs : bool, default True
        Whether to compute the metrics that take O(n^2) time: kernel distances, precision and recall, density and
        coverage.
    seed : int, default 0
        As in `fid_infinity`.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`.
    progress : bool, default False
        Whether to show a progress bar, which names what is computed; lines in a log.

    Returns
    -------
    Report
        With ``table()``, ``to_dict()``, ``html()`` and ``write_html(path)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or names or images do not have one entry for each row.
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
    most_harmful, seed = require_integer("most_harmful", most_harmful, 0), require_integer("seed", seed, 0)
    all_pairs, progress = require_bool("all_pairs", all_pairs), require_bool("progress", progress)
    optional(require_text, "command", command)
    titles = _checked_titles(titles) or (_title(samples, "samples"), _title(reference, "reference"))
    samples, reference = open_pair(samples, reference, precision=precision)
    for side in (samples, reference):
        if side.rows is not None:
            side.require_rows("report")  # copies rows on a GPU once
    require_same_dim(samples.dim, reference.dim, samples.name, reference.name)
    pictures = (
        _images_of_rows(samples, images=images, names=names),
        _images_of_rows(reference, reference_images=reference_images, reference_names=reference_names),
    )
    metrics = _Metrics(samples, reference, precision, all_pairs, seed)
    with _Phases(progress) as phases:
        phases.begin("error bar and influence")
        estimate, influence = metrics.estimate_and_influence()
        phases.begin("distance without the worst samples")
        trimmed = None if influence is None else metrics.trimmed(influence)
        phases.begin("extrapolation")
        extrapolation = metrics.extrapolation()
        phases.begin("kernel distances")
        kernel, clip = metrics.kid(), metrics.cmmd()
        phases.begin("precision, recall, density, coverage")
        shares = metrics.neighbours()
        phases.begin("spectra of the covariances")
        spectra = _spectrum(samples.stats), _spectrum(reference.stats)
        phases.begin("most harmful samples")
        worst = None
        if influence is not None:
            worst = most_harmful_samples(influence, most_harmful, (samples, reference), pictures)
    failures = [text for side in pictures for text in side.failures]
    if failures:
        more = "" if len(failures) == 1 else f" (and {len(failures) - 1:,} more)"
        metrics.reasons["images"] = f"not shown: {failures[0]}{more}"
    difference = samples.stats.mu - reference.stats.mu
    return Report(
        titles=(printable(titles[0]), printable(titles[1])),
        estimate=estimate,
        mean_term=float(difference @ difference),
        dim=samples.dim,
        num_samples=(samples.num_samples, reference.num_samples),
        extractors=(samples.extractor, reference.extractor),
        spectra=spectra,
        ranks=(_rank(spectra[0], samples.stats), _rank(spectra[1], reference.stats)),
        dead_units=(_dead_units(samples.stats), _dead_units(reference.stats)),
        extrapolation=extrapolation,
        most_harmful=worst,
        trimmed=trimmed,
        kid=kernel,
        cmmd=clip,
        precision_recall=shares[0],
        density_coverage=shares[1],
        reasons={metric: printable(reason) for metric, reason in metrics.reasons.items()},
        created=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        command=None if command is None else printable(command),
    )


def _checked_titles(titles: Any) -> tuple[str, str] | None:
    if titles is None:
        return None
    items = [require_text(f"titles[{i}]", title) for i, title in enumerate(require_sequence("titles", titles))]
    if len(items) != 2:
        raise ValueError(f"titles must be two strings, got {len(items)}")
    return items[0], items[1]


class _Phases:
    """Shows which phase of the report is computed."""

    #: Number of calls of `begin`.
    NUMBER = 7

    def __init__(self, show: bool) -> None:
        self._bar: Any = progress_bar(self.NUMBER, show, label="report", unit="phases", timed=False)
        self._begun = False

    def __enter__(self) -> _Phases:
        self._bar.__enter__()
        return self

    def begin(self, phase: str) -> None:
        """The last phase is done, and this one begins."""
        self._done()
        self._begun = True
        self._bar.set_description_str(f"report: {phase}")

    def _done(self) -> None:
        if self._begun:
            self._bar.update(1)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is None:
            self._done()
        self._bar.__exit__(kind, error, trace)


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
        return fid_infinity(self.samples, self.reference, num_points=points, seed=self.seed, precision=self.precision)

    def kid(self) -> KernelDistance | None:
        if not self._have_pairs("kid"):
            return None
        return kid(self.samples, self.reference, precision=self.precision)

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
        return cmmd(self.samples, self.reference, precision=self.precision)

    def neighbours(self) -> tuple[PrecisionRecall | None, DensityCoverage | None]:
        if not all([self._have_pairs("precision_recall"), self._have_pairs("density_coverage")]):
            return None, None
        self._require_neighbours("precision_recall", K_PRECISION_RECALL, self.samples, self.reference)
        self._require_neighbours("density_coverage", K_DENSITY_COVERAGE, self.reference)
        sides = self.samples, self.reference
        if "precision_recall" in self.reasons:
            if "density_coverage" in self.reasons:
                return None, None
            return None, density_coverage(*sides, k=K_DENSITY_COVERAGE)
        if "density_coverage" in self.reasons:
            return precision_recall(*sides, k=K_PRECISION_RECALL), None
        both = manifold_metrics(*sides)  # computes the distances once
        return precision_recall_of(both), density_coverage_of(both)

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


def _images_of_rows(side: Input, **given: Any) -> ImagesOfRows:
    """Names and images of one side; raises an error unless there is one for each row."""
    (of_images, images), (of_names, names) = given.items()
    if isinstance(images, (str, os.PathLike, np.ndarray)):
        images = open_images(images)
        names = images.names if names is None else names
    for name, sequence in ((of_images, images), (of_names, names)):
        if sequence is None:
            continue
        if not hasattr(sequence, "__len__"):
            raise TypeError(f"{name} must be a sequence, got {type(sequence).__name__}")
        if side.rows is None:
            raise ValueError(f"{name} need the features of {side.name}, but {side.name} holds none")
        if len(sequence) != side.num_samples:
            raise ValueError(f"{side.name} has {side.num_samples} rows, but there are {len(sequence)} {name}")
    return ImagesOfRows(of_images, names, images)


def _have_unit_norm(rows: Any) -> bool:
    norms = np.linalg.norm(_core.gather(rows, np.arange(len(rows))), axis=1)
    return bool(np.all(np.abs(norms - 1) < UNIT_NORM))


def _spectrum(stats: GaussianStats) -> Array:
    from scipy.linalg import eigvalsh

    values: Array = eigvalsh(stats.sigma)[::-1]
    return np.maximum(values, 0.0)


def _rank(spectrum: Array, stats: GaussianStats) -> int:
    """Number of eigenvalues above rounding, and in the factor."""
    above = int(np.count_nonzero(spectrum > len(spectrum) * np.finfo(float).eps * spectrum[0]))
    return min(above, int(stats.factor.shape[1]))


def _dead_units(stats: GaussianStats) -> int:
    return int(np.count_nonzero(stats.sigma.diagonal() == 0))


def _title(source: Any, name: str) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else name
