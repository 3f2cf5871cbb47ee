"""The metrics that `evaluate` computes: what each needs of samples and reference, and the function that computes it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fidfast._arguments import shape_of_array
from fidfast._inputs import Input
from fidfast._metrics.frechet import FrechetTerms, frechet_terms, terms_between
from fidfast._metrics.inception_score import InceptionScore, InceptionScoreResult, inception_score
from fidfast._metrics.jackknife import Jackknife
from fidfast._metrics.kernel import KernelDistance, cmmd, kid, kid_subsets
from fidfast._metrics.neighbours import (
    density_coverage,
    density_coverage_of,
    manifold_metrics,
    precision_recall,
    precision_recall_of,
)
from fidfast._metrics.sliced import mind
from fidfast._metrics.uncertainty import Estimate, estimate_from_jackknife, estimate_with_terms
from fidfast._metrics.vendi import vendi
from fidfast._network_table import FDR_DISTANCES

__all__ = ["METRICS", "Computer", "Metric", "Number", "Settings", "collects_score", "new_score"]

#: Tools that draw subsets for the KID, and tools that shuffle or cut the rows of the Inception Score.
_SUBSETS = ("torch-fidelity", "torchmetrics", "clean-fid")
_SPLITS = ("torch-fidelity", "torchmetrics", "stylegan3", "adm")
_SHUFFLES = ("torch-fidelity", "torchmetrics")

#: Tools that round distances to float16 in precision and recall.
_ROUNDS = ("adm", "stylegan3")

#: Rows of a subset of the KID, and of a split of the Inception Score in guided-diffusion's evaluator.
SUBSET_SIZE = 1000
ADM_SPLIT_SIZE = 5000


@dataclass(frozen=True)
class Settings:
    """What all metrics of an evaluation share."""

    like: str | None
    #: Of the covariances of features and moments.
    ddof: int
    estimate: bool
    seed: int
    precision: str
    #: Whether moments have blocks of rows, from which a standard error can be computed instead of from rows.
    in_blocks: bool = False


class Number(NamedTuple):
    """One number of a result."""

    value: float
    stderr: float | None = None
    caution: str | None = None
    #: Why it has no standard error.
    no_error: str | None = None


class Pair(NamedTuple):
    """What a metric needs of both sides, of one extractor."""

    #: An `Input`, or an `InceptionScore` for "logits"; None for a side that the metric does not need.
    samples: Any
    reference: Any
    #: Full names of the extractors of both sides; None if it is unknown, or if the side is not needed.
    extractors: tuple[str | None, str | None]


@dataclass(frozen=True)
class Metric:
    """A metric of the table."""

    label: str
    #: Name of the extractor by default; of several extractors for `fdr`.
    extractors: tuple[str, ...]
    #: "moments", "rows" or "logits"; None for a side that it does not need.
    samples: str
    reference: str | None
    #: Smallest number of samples of each side, by the settings.
    least: Callable[[Settings], tuple[int, int]]
    #: From `Computer` and the names of the extractors to the result; several metrics may share it.
    compute: Callable[[Computer, tuple[str, ...]], Any]
    #: The number in the result.
    number: Callable[[Any], Number]
    #: Whether it can be computed from the features of another extractor, as in ``kid@dinov2-vitl14``.
    any_extractor: bool = True
    #: Whether the result depends on the seed, by the settings.
    is_random: Callable[[Settings], bool] = lambda settings: False


class Computer:
    """Computes results from what the extractors gave; those that several metrics share are computed once.

    Parameters
    ----------
    pairs : mapping
        By name of the extractor and what is needed of it: "moments", "rows" or "logits".
    settings : Settings
    requested : sequence of (Metric, extractors)
        The metrics that will be computed.
    """

    def __init__(
        self,
        pairs: Mapping[tuple[str, str], Pair],
        settings: Settings,
        requested: Sequence[tuple[Metric, tuple[str, ...]]],
    ) -> None:
        self.pairs = pairs
        self.settings = settings
        self._requested = {(metric.compute, names) for metric, names in requested}
        self._results: dict[Any, Any] = {}

    def result(self, compute: Callable[[Computer, tuple[str, ...]], Any], names: tuple[str, ...]) -> Any:
        """The result of a function of the table, computed once."""
        key = compute, names
        if key not in self._results:
            self._results[key] = compute(self, names)
        return self._results[key]

    def is_requested(self, compute: Callable[[Computer, tuple[str, ...]], Any], names: tuple[str, ...]) -> bool:
        """Whether a metric needs this result."""
        return (compute, names) in self._requested

    def rows(self, names: tuple[str, ...]) -> tuple[Any, Any]:
        """The features of both sides."""
        return self.pairs[names[0], "rows"][:2]


# Fréchet distances --------------------------------------------------------------------------------------------------


def _frechet(computer: Computer, names: tuple[str, ...]) -> FrechetTerms | Estimate:
    samples, reference, _ = computer.pairs[names[0], "moments"]
    settings = computer.settings
    if not settings.estimate:
        return _terms(samples, reference, settings.ddof)
    found = estimate_from_jackknife(Jackknife(samples, reference, settings.precision))
    if settings.ddof == 1:
        return found
    return estimate_with_terms(found, _terms(samples, reference, settings.ddof))


def _terms(samples: Input, reference: Input, ddof: int) -> FrechetTerms:
    if ddof == 1:
        return frechet_terms(samples, reference)
    return terms_between(samples.stats_with(ddof=ddof), reference.stats_with(ddof=ddof))


def _number_of_frechet(found: FrechetTerms | Estimate) -> Number:
    if isinstance(found, FrechetTerms):
        return Number(found.distance, None, "; ".join(filter(None, (found.note, found.caution))) or None)
    if found.note is not None:
        return Number(found.value, None, f"with bias, and without a standard error: {found.note}")
    return Number(found.unbiased, found.stderr, found.caution)


def _fdr(computer: Computer, names: tuple[str, ...]) -> dict[str, Any]:
    """The mean of the distances over those of ImageNet's validation set, and its parts."""
    numbers = {name: _number_of_frechet(computer.result(_frechet, (name,))) for name in names}
    ratios = {name: number.value / FDR_DISTANCES[name] for name, number in numbers.items()}
    cautions = [f"{name}: {number.caution}" for name, number in numbers.items() if number.caution is not None]
    return {
        "value": float(np.mean(list(ratios.values()))),
        "ratios": ratios,
        "distances": {name: number.value for name, number in numbers.items()},
        "caution": "; ".join(cautions) or None,
    }


# Scores of the samples alone ----------------------------------------------------------------------------------------


def collects_score(settings: Settings) -> bool:
    """Whether the Inception Score is collected on the way, without keeping the logits."""
    return settings.like not in (*_SHUFFLES, "stylegan3")


def new_score(num_classes: int, settings: Settings) -> InceptionScore:
    """An empty score with the splits of the settings."""
    if settings.like == "adm":
        return InceptionScore(num_classes, split_size=ADM_SPLIT_SIZE)
    return InceptionScore(num_classes)


def _inception_score(computer: Computer, names: tuple[str, ...]) -> InceptionScoreResult:
    samples, settings = computer.pairs[names[0], "logits"].samples, computer.settings
    if isinstance(samples, Input) and settings.like in _SPLITS:
        seed = settings.seed if settings.like in _SHUFFLES else None
        return inception_score(samples.require_rows("is"), like=settings.like, seed=seed)
    if isinstance(samples, Input):
        rows = samples.require_rows("is")
        score = new_score(shape_of_array(rows)[1], settings)
        score.update(rows)
    else:
        assert samples is not None
        score = samples
    return replace(score.compute(), like=settings.like if settings.like in _SPLITS else None)


def _number_of_score(found: InceptionScoreResult) -> Number:
    n = len(found.scores)
    if n < 2:
        return Number(found.mean)
    return Number(found.mean, float(np.std(found.scores, ddof=1)) / math.sqrt(n))


def _vendi(computer: Computer, names: tuple[str, ...]) -> Any:
    return vendi(computer.pairs[names[0], "rows"].samples)


# Metrics of pairs of rows -------------------------------------------------------------------------------------------


def _kid(computer: Computer, names: tuple[str, ...]) -> Any:
    samples, reference = computer.rows(names)
    settings = computer.settings
    if settings.like is not None and _draws_subsets(settings):
        return kid_subsets(
            samples, reference, like=settings.like, subset_size=SUBSET_SIZE, seed=settings.seed,
            precision=settings.precision,
        )  # fmt: skip
    return kid(samples, reference, precision=settings.precision)


def _draws_subsets(settings: Settings) -> bool:
    """Whether the KID is the mean over the subsets of a tool; a standard error needs all pairs."""
    return settings.like in _SUBSETS and not settings.estimate


def _number_of_kid(found: Any) -> Number:
    if not isinstance(found, KernelDistance):
        return Number(found.mean, None, found.caution)
    if found.note is not None:
        return Number(found.value, None, found.note if found.shared_rows else None, found.note)
    return Number(found.value, found.stderr, found.caution)


def _cmmd(computer: Computer, names: tuple[str, ...]) -> float:
    samples, reference = (_of_unit_norm(side) for side in computer.rows(names))
    return cmmd(samples, reference, precision=computer.settings.precision)


def _of_unit_norm(side: Input) -> Input:
    rows = side.require_rows("cmmd")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if np.all(np.abs(norms - 1) < _UNIT_NORM):
        return side
    for row in np.flatnonzero(norms == 0)[:1]:
        raise ValueError(f"{side.name}: cmmd needs rows of unit norm, but row {row} is zero")
    return side.with_content(rows=rows / norms)


#: Rows with norms as close to 1 are used as they are.
_UNIT_NORM = 1e-5


def _mind(computer: Computer, names: tuple[str, ...]) -> Any:
    seed = computer.settings.seed
    if computer.settings.like == "torch-fidelity":
        return mind(*computer.rows(names), num_projections=10_000, seed=seed, like="torch-fidelity")
    return mind(*computer.rows(names), seed=seed)


def _precision_recall(computer: Computer, names: tuple[str, ...]) -> Any:
    if computer.settings.like in _ROUNDS:
        return precision_recall(*computer.rows(names), like=computer.settings.like)
    if computer.is_requested(_density_coverage, names):
        return precision_recall_of(computer.result(_manifold_metrics, names))
    return precision_recall(*computer.rows(names))


def _density_coverage(computer: Computer, names: tuple[str, ...]) -> Any:
    if computer.settings.like not in _ROUNDS and computer.is_requested(_precision_recall, names):
        return density_coverage_of(computer.result(_manifold_metrics, names))
    return density_coverage(*computer.rows(names))


def _manifold_metrics(computer: Computer, names: tuple[str, ...]) -> Any:
    return manifold_metrics(*computer.rows(names))  # one pass over the pairs for all four


def _attribute(name: str) -> Callable[[Any], Number]:
    return lambda found: Number(getattr(found, name), None, found.caution)


# The table ----------------------------------------------------------------------------------------------------------


def _always(samples: int, reference: int) -> Callable[[Settings], tuple[int, int]]:
    return lambda settings: (samples, reference)


def _least_of_frechet(settings: Settings) -> tuple[int, int]:
    return (settings.ddof + 1 if settings.ddof > 1 else 2,) * 2


def _least_of_score(settings: Settings) -> tuple[int, int]:
    return (1 if settings.like == "adm" else 10), 0


def _least_of_kid(settings: Settings) -> tuple[int, int]:
    needs_subsets = _draws_subsets(settings) and settings.like != "clean-fid"  # which makes them smaller
    return (SUBSET_SIZE if needs_subsets else 2,) * 2


def _frechet_metric(label: str, extractors: tuple[str, ...], **changes: Any) -> Metric:
    metric = Metric(label, extractors, "moments", "moments", _least_of_frechet, _frechet, _number_of_frechet)
    return replace(metric, **changes)


_pairwise = functools.partial(Metric, samples="rows", reference="rows")

#: By name. ``fd-NETWORK`` is ``fid@NETWORK``.
METRICS: dict[str, Metric] = {
    "is": Metric(
        "Inception Score",
        ("inception-logits",),
        "logits",
        None,
        _least_of_score,
        _inception_score,
        _number_of_score,
        is_random=lambda settings: settings.like in _SHUFFLES,
    ),
    "fid": _frechet_metric("FID", ("inception",)),
    "sfid": _frechet_metric("sFID", ("inception-spatial",), any_extractor=False),
    "kid": _pairwise(
        "KID", ("inception",), least=_least_of_kid, compute=_kid, number=_number_of_kid, is_random=_draws_subsets
    ),
    "precision": _pairwise(
        "Precision", ("inception",), least=_always(4, 4), compute=_precision_recall, number=_attribute("precision")
    ),
    "recall": _pairwise(
        "Recall", ("inception",), least=_always(4, 4), compute=_precision_recall, number=_attribute("recall")
    ),
    "density": _pairwise(
        "Density", ("inception",), least=_always(1, 6), compute=_density_coverage, number=_attribute("density")
    ),
    "coverage": _pairwise(
        "Coverage", ("inception",), least=_always(1, 6), compute=_density_coverage, number=_attribute("coverage")
    ),
    "fdr": _frechet_metric(
        "FDr",
        tuple(FDR_DISTANCES),
        compute=_fdr,
        number=lambda found: Number(found["value"], None, found["caution"]),
        any_extractor=False,
    ),
    "vendi": Metric(
        "Vendi score",
        ("inception",),
        "rows",
        None,
        _always(1, 0),
        _vendi,
        lambda found: Number(found.value),
    ),
    "mind": _pairwise(
        "MIND",
        ("inception",),
        least=_always(1, 1),
        compute=_mind,
        number=lambda found: Number(found.value, None, found.caution),
        is_random=lambda settings: True,
    ),
    "cmmd": _pairwise("CMMD", ("clip-vit-l14-336",), least=_always(1, 1), compute=_cmmd, number=Number),
}
