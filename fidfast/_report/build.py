"""All that features alone can tell about a set of samples, from one entry: `report`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast import _devices as devices
from fidfast._images import BrokenImageError, open_images
from fidfast._inputs import require_same_dim, warn_of_extractors
from fidfast._metrics.extrapolation import Extrapolation, fid_infinity
from fidfast._metrics.frechet import frechet_distance
from fidfast._metrics.jackknife import Jackknife, Sample
from fidfast._metrics.kernel import KernelDistance, cmmd, kid
from fidfast._metrics.neighbours import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    manifold_metrics,
    precision_recall,
)
from fidfast._metrics.uncertainty import Estimate, _estimate
from fidfast._report.result import K_DENSITY_COVERAGE, K_PRECISION_RECALL, HarmfulSample, Report, Row, Trimmed
from fidfast._stats.gaussian import GaussianStats, together
from fidfast._stats.moments import Moments

__all__ = ["HarmfulSample", "Report", "Row", "Trimmed", "report"]

Array = NDArray[np.float64]

#: Sizes of growing parts; each costs one distance.
GROWTH_POINTS = 8

#: How far from 1 the norm of a row of unit norm may be: one that was normalised in bfloat16 is not further.
UNIT_NORM = 5e-3


def report(
    features: Any,
    reference: Any,
    *,
    names: Sequence[str] | None = None,
    images: Any = None,
    titles: tuple[str, str] | None = None,
    most_harmful: int = 12,
    all_pairs: bool = True,
    precision: str = "float32",
) -> Report:
    """All that features alone can tell: the distances with their error bars, and the samples that harm most.

    Parameters
    ----------
    features : (n, dim) array or tensor, path, Moments or GaussianStats
        The generated samples. Of moments and statistics less can be told, and the report says why.
    reference : array, tensor, path, Moments or GaussianStats
        As `features`.
    names : sequence of str, optional
        A name for each row of `features`; its number unless given.
    images : path, (n, height, width, 3) uint8 array or sequence of (height, width, 3) uint8 arrays, optional
        What each row of `features` was made of. A folder or archive is read in the order of its sorted names, which
        are then those of the rows unless `names` are given. Only the images of the most harmful samples are read.
    titles : (str, str), optional
        What the two sides are called; the paths, or "features" and "reference", unless given.
    most_harmful : int, default 12
        How many of the most harmful samples are listed.
    all_pairs : bool, default True
        Whether to compute what takes time as the square of the number of samples: the kernel distances, precision and
        recall, density and coverage.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`.

    Returns
    -------
    Report
        With ``table()``, ``to_dict()``, ``html()`` and ``write_html(path)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable, or the number of `names` or `images` is not that of the rows.
    FileNotFoundError
        If a path leads nowhere.

    Warns
    -----
    UserWarning
        If the features come from different extractors.

    Notes
    -----
    The numbers are those of `estimate`, `influence`, `fid_infinity`, `kid`, `cmmd`, `precision_recall` and
    `density_coverage`. CMMD is computed where all rows have unit norm, for which it is defined.
    """
    if most_harmful < 0:
        raise ValueError(f"most_harmful must be at least 0, got {most_harmful}")
    features, reference = devices.on_host(features), devices.on_host(reference)
    ours, theirs = Sample.of(features, "features", precision), Sample.of(reference, "reference", precision)
    require_same_dim(ours.stats.dim, theirs.stats.dim, "features", "reference")
    if isinstance(images, (str, os.PathLike, np.ndarray)):
        images = open_images(images)
        names = images.names if names is None else names
    for what, given in (("images", images), ("names", names)):
        if given is not None and ours.rows is None:
            raise ValueError(f"{what} are those of rows, and features are statistics alone")
        if given is not None and len(given) != len(ours.rows):
            raise ValueError(f"features have {len(ours.rows)} rows, but there are {len(given)} {what}")
    titles = titles or (_title(features, "features"), _title(reference, "reference"))
    asked = _Questions(ours, theirs, precision, {})
    why = asked.why_no_error_bar()
    if why is None:
        analysis = Jackknife(ours, theirs, precision)
        estimate = _estimate(analysis)
    else:
        analysis = None
        warn_of_extractors(ours.stats, theirs.stats, stacklevel=3)
        module, gaussians, _ = together(ours.stats, theirs.stats)
        terms = module.frechet_terms(*gaussians)
        extractor = ours.stats.extractor or theirs.stats.extractor
        estimate = Estimate(
            terms.distance, math.nan, math.nan, (None, None), terms.rounding, extractor=extractor, note=why
        )
    if estimate.note is not None:
        asked.reasons["estimate"] = estimate.note
    influence = asked.influence(analysis)
    shares = asked.manifold(all_pairs)
    spectra = _spectrum(ours.stats), _spectrum(theirs.stats)
    difference = ours.stats.mu - theirs.stats.mu
    return Report(
        titles=(_printable(titles[0]), _printable(titles[1])),
        estimate=estimate,
        mean_term=float(difference @ difference),
        dim=ours.stats.dim,
        num_samples=(ours.stats.num_samples, theirs.stats.num_samples),
        extractors=(ours.stats.extractor, theirs.stats.extractor),
        spectra=spectra,
        ranks=(_rank(spectra[0], ours.stats), _rank(spectra[1], theirs.stats)),
        dead_units=(_dead_units(ours.stats), _dead_units(theirs.stats)),
        growth=asked.growth(),
        most_harmful=None if influence is None else _worst(influence, most_harmful, names, images),
        trimmed=None if influence is None else asked.trimmed(influence),
        kid=asked.kid(all_pairs),
        cmmd=asked.cmmd(all_pairs),
        precision_recall=shares[0],
        density_coverage=shares[1],
        reasons=asked.reasons,
    )


class _Questions(NamedTuple):
    """What is asked of the two sides; where there is no answer, the reason is noted."""

    ours: Sample
    theirs: Sample
    precision: str
    reasons: dict[str, str]

    def why_no_error_bar(self) -> str | None:
        """Why nothing can be left out, or None."""
        sides = (("features", self.ours), ("reference", self.theirs))
        if not any(side.sampled for _, side in sides):
            return "both sides are statistics alone, which do not tell how their samples scatter"
        for name, side in sides:
            if side.rows is not None and len(side.rows) < 3:
                return f"{name} has {len(side.rows)} samples, and leaving one out needs at least 3"
        return None

    def influence(self, analysis: Jackknife | None) -> Array | None:
        """(n,) as `fidfast.influence`, from the analysis that gave the error bar."""
        if self.ours.rows is None:
            self.reasons["most_harmful"] = "features are statistics alone, without rows to leave out"
        elif analysis is None:
            self.reasons["most_harmful"] = self.reasons["estimate"]
        else:
            return analysis.distance - analysis.replicates[0].distance
        return None

    def trimmed(self, influence: Array) -> Trimmed:
        """The distance of the rows that are left, from their own moments: influences add up to first order only."""
        count = max(1, len(influence) // 100)
        left_out = np.zeros(len(influence), dtype=bool)
        left_out[np.argsort(influence)[-count:]] = True
        moments = Moments(self.ours.stats.dim, self.precision)
        first = 0
        for rows in self.ours.slices():
            kept = np.flatnonzero(~left_out[first : first + len(rows)])
            if len(kept) > 0:
                moments.update(_core.gather(rows, kept))
            first += len(rows)
        return Trimmed(count, frechet_distance(moments.stats(), self.theirs.stats))

    def growth(self) -> Extrapolation | None:
        n = 0 if self.ours.rows is None else len(self.ours.rows)
        if self.ours.rows is None:
            self.reasons["growth"] = "features are statistics alone, which have no parts"
        elif n < 4:
            self.reasons["growth"] = f"features has {n} samples, and growing parts need at least 4"
        else:
            first = min(5000, n // 2)
            points = min(GROWTH_POINTS, n - first + 1)
            return fid_infinity(self.ours.rows, self.theirs.stats, num_points=points, precision=self.precision)
        return None

    def _pairs_are_missing(self, what: str, wanted: bool) -> bool:
        """Whether there are no pairs of samples to be had; notes why."""
        missing = [name for name, side in (("features", self.ours), ("reference", self.theirs)) if side.rows is None]
        if missing:
            self.reasons[what] = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} given by statistics"
        elif not wanted:
            self.reasons[what] = "left out as asked: it takes all pairs of samples"
        return bool(missing) or not wanted

    def kid(self, wanted: bool) -> KernelDistance | None:
        if self._pairs_are_missing("kid", wanted):
            return None
        return kid(self.ours.rows, self.theirs.rows, precision=self.precision)

    def cmmd(self, wanted: bool) -> float | None:
        if self._pairs_are_missing("cmmd", wanted):
            return None
        for name, side in (("features", self.ours), ("reference", self.theirs)):
            if side.stats.extractor is not None and "clip" not in side.stats.extractor.lower():
                self.reasons["cmmd"] = f"it is defined for CLIP's features; {name}: {side.stats.extractor}"
                return None
            for rows in side.slices():
                norms = np.linalg.norm(_core.gather(rows, np.arange(len(rows))), axis=1)
                if not np.all(np.abs(norms - 1) < UNIT_NORM):
                    self.reasons["cmmd"] = (
                        f"it is defined for rows of unit norm, as CLIP's are; those of {name} are not"
                    )
                    return None
        return cmmd(self.ours.rows, self.theirs.rows, precision=self.precision)

    def manifold(self, wanted: bool) -> tuple[PrecisionRecall | None, DensityCoverage | None]:
        if self._pairs_are_missing("precision_recall", wanted) | self._pairs_are_missing("density_coverage", wanted):
            return None, None
        generated, reference = self.ours.rows, self.theirs.rows
        n, m = len(generated), len(reference)
        if min(n, m) <= K_PRECISION_RECALL:
            few = f"features has {n}" if n <= m else f"reference has {m}"
            self.reasons["precision_recall"] = f"k = {K_PRECISION_RECALL} needs more samples than that, and {few}"
        if m <= K_DENSITY_COVERAGE:
            self.reasons["density_coverage"] = (
                f"k = {K_DENSITY_COVERAGE} needs more samples than that, and reference has {m}"
            )
        both = ("precision_recall" in self.reasons, "density_coverage" in self.reasons)
        if both == (False, False):
            found = manifold_metrics(reference, generated)  # both in one pass
            return PrecisionRecall(found.precision, found.recall), DensityCoverage(found.density, found.coverage)
        return (
            None if both[0] else precision_recall(reference, generated, K_PRECISION_RECALL),
            None if both[1] else density_coverage(reference, generated, K_DENSITY_COVERAGE),
        )


def _worst(
    influence: Array, count: int, names: Sequence[str] | None, images: Sequence[NDArray[np.uint8]] | None
) -> tuple[HarmfulSample, ...]:
    worst = []
    for row in np.argsort(-influence, kind="stable")[:count].tolist():
        name = f"row {row}" if names is None else _printable(str(names[row]))
        try:
            image = None if images is None else np.asarray(images[row])
        except BrokenImageError:  # a picture less
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
    """Eigenvalues above rounding, and no more than the samples allow."""
    above = int(np.count_nonzero(spectrum > len(spectrum) * np.finfo(float).eps * spectrum[0]))
    return above if stats.num_samples is None else min(above, stats.num_samples - 1)


def _dead_units(stats: GaussianStats) -> int:
    return int(np.count_nonzero(stats.sigma.diagonal() == 0))


def _title(source: Any, name: str) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else name


def _printable(name: str) -> str:
    """Without line breaks, control characters and halves of characters, which file names may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)
