"""Per-class Fréchet distances, and their mean (the intra-FID)."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from fidfast._arguments import require_bool, require_path
from fidfast._inputs import require_same_dim, warn_of_extractors
from fidfast._metrics.frechet import distance_between
from fidfast._results import Result
from fidfast._stats import ClassMoments, Label, holding

__all__ = ["ClassDistances", "class_distances"]

#: Maximum number of classes that an error lists.
_LISTED = 20


@dataclass(frozen=True)
class ClassDistances(Result):
    """Per-class Fréchet distances; returned by `class_distances`. In squared units of the features."""

    #: Mean over the classes, each with the same weight: the intra-FID (Miyato & Koyama, 2018).
    mean: float
    #: The distance of each class.
    distances: dict[Label, float]
    #: Number of rows of each class, of samples and reference.
    num_samples: dict[Label, tuple[int, int]]
    #: Classes that were skipped, because they have fewer than 2 rows on a side.
    skipped: tuple[Label, ...]

    def __str__(self) -> str:
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return f"intra-class Fréchet distance {self.mean:.6g}, mean of {len(self.distances):,} classes{skipped}"


def class_distances(
    samples: ClassMoments | str | os.PathLike[str],
    reference: ClassMoments | str | os.PathLike[str],
    *,
    skip_incomplete: bool = False,
) -> ClassDistances:
    """Fréchet distance of each class between two labelled data sets, and their mean (the intra-FID).

    Parameters
    ----------
    samples, reference : ClassMoments or path
        With the same ``dim``; or checkpoints that `ClassMoments.save` wrote.
    skip_incomplete : bool, default False
        Skip and list classes with fewer than 2 rows on a side, instead of raising an error.

    Returns
    -------
    ClassDistances

    Raises
    ------
    TypeError
        If an argument is neither `ClassMoments` nor a path.
    FileNotFoundError
        If a path does not exist.
    ValueError
        If the dims differ, a class has fewer than 2 rows on a side and `skip_incomplete` is False, or no class remains.
        The classes are the labels of both sides, and all integers below `num_classes`.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.

    Notes
    -----
    Miyato & Koyama (2018), section 4.1. The value of a finite sample is biased upwards, and more for a class than for
    the complete data: compare equal numbers of samples in each class.
    """
    skip_incomplete = require_bool("skip_incomplete", skip_incomplete)
    a, b = _moments(samples, "samples"), _moments(reference, "reference")
    with holding(a, b):
        return _distances(a, b, skip_incomplete)


def _distances(a: ClassMoments, b: ClassMoments, skip_incomplete: bool) -> ClassDistances:
    require_same_dim(a.dim, b.dim, "samples", "reference")
    warn_of_extractors(a, b)
    kinds = {type(label) for label in (*list(a)[:1], *list(b)[:1])}
    if len(kinds) > 1:
        raise TypeError(f"labels must be all integers or all strings, got {next(iter(a))!r} and {next(iter(b))!r}")
    declared = range(max(a.num_classes or 0, b.num_classes or 0))
    labels: list[Label] = sorted({*declared, *a, *b})
    num_samples = {label: (_num_samples(a, label), _num_samples(b, label)) for label in labels}
    skipped = [label for label in labels if min(num_samples[label]) < 2]
    if skipped and (len(skipped) == len(labels) or not skip_incomplete):
        listed = [f"{label!r} ({num_samples[label][0]} and {num_samples[label][1]})" for label in skipped[:_LISTED]]
        more = f" and {len(skipped) - _LISTED} more" if len(skipped) > _LISTED else ""
        raise ValueError(
            f"{len(skipped)} of {len(labels)} classes have fewer than 2 rows in samples or reference: "
            f"{', '.join(listed)}{more}" + ("" if skip_incomplete else "; use skip_incomplete=True to skip them")
        )
    if not labels:
        raise ValueError("samples and reference hold no classes")
    distances = {label: distance_between(a.stats(label), b.stats(label)) for label in labels if label not in skipped}
    exponent = math.frexp(max(distances.values()))[1]  # the sum may exceed the range of float64, the mean cannot
    total = sum(math.ldexp(distance, -exponent) for distance in distances.values())
    mean = math.ldexp(total / len(distances), exponent)
    return ClassDistances(mean, distances, num_samples, tuple(skipped))


def _moments(source: ClassMoments | str | os.PathLike[str], name: str) -> ClassMoments:
    if isinstance(source, ClassMoments):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"{name} must be ClassMoments or a path, got {type(source).__name__}")
    try:
        return ClassMoments.load(require_path(name, source))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _num_samples(moments: ClassMoments, label: Label) -> int:
    return moments[label].num_samples if label in moments else 0
