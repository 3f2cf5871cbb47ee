"""The Fréchet distance class by class, whose mean is the intra-FID."""

from __future__ import annotations

import os
from typing import NamedTuple

from fidfast._inputs import require_same_dim, warn_of_extractors
from fidfast._metrics.frechet import distance_between
from fidfast._stats.class_moments import ClassMoments, Label

__all__ = ["ClassDistances", "class_distances"]

#: Classes that an error names.
_NAMED = 20


class ClassDistances(NamedTuple):
    """Fréchet distances class by class."""

    #: Their mean over the classes, each with the same weight.
    mean: float
    #: The distance of each class.
    distances: dict[Label, float]
    #: Number of rows of each class on the two sides.
    num_samples: dict[Label, tuple[int, int]]
    #: Classes that were left out, since a side has fewer than 2 of their rows.
    skipped: tuple[Label, ...]


def class_distances(
    moments_a: ClassMoments | str | os.PathLike[str],
    moments_b: ClassMoments | str | os.PathLike[str],
    *,
    skip_incomplete: bool = False,
) -> ClassDistances:
    """Fréchet distance of each class between two labelled data sets, and their mean (the intra-FID).

    Parameters
    ----------
    moments_a, moments_b : ClassMoments or path
        Of the same ``dim``; or checkpoints that `ClassMoments.save` wrote.
    skip_incomplete : bool, default False
        Leave out classes of which a side has fewer than 2 rows, and list them, instead of an error.

    Returns
    -------
    ClassDistances

    Raises
    ------
    TypeError
        If an argument is neither moments nor a path.
    FileNotFoundError
        If a path leads nowhere.
    ValueError
        If the dims differ, a side has fewer than 2 rows of a class and `skip_incomplete` is not set, or no class is
        left. Classes are those of either side, and those that `num_classes` of either side tells of.

    Warns
    -----
    UserWarning
        If the statistics come from different extractors.

    Notes
    -----
    Miyato & Koyama (2018), section 4.1. The value of a finite sample is biased upwards, and more so for a class than
    for the whole: compare equal numbers of samples in each class.
    """
    a, b = _moments(moments_a, "moments_a"), _moments(moments_b, "moments_b")
    require_same_dim(a.dim, b.dim, "moments_a", "moments_b")
    warn_of_extractors(a, b, stacklevel=3)
    kinds = {type(label) for label in (*list(a)[:1], *list(b)[:1])}
    if len(kinds) > 1:
        raise TypeError(f"labels must be all integers or all strings, got {next(iter(a))!r} and {next(iter(b))!r}")
    told = range(max(a.num_classes or 0, b.num_classes or 0))
    labels: list[Label] = sorted({*told, *a, *b})
    num_samples = {label: (_num_samples(a, label), _num_samples(b, label)) for label in labels}
    skipped = [label for label in labels if min(num_samples[label]) < 2]
    if skipped and (len(skipped) == len(labels) or not skip_incomplete):
        named = [f"{label!r} ({num_samples[label][0]} and {num_samples[label][1]})" for label in skipped[:_NAMED]]
        more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        raise ValueError(
            f"{len(skipped)} of {len(labels)} classes have fewer than 2 rows in moments_a or moments_b: "
            f"{', '.join(named)}{more}" + ("" if skip_incomplete else "; skip_incomplete=True leaves them out")
        )
    if not labels:
        raise ValueError("moments_a and moments_b hold no classes")
    distances = {label: distance_between(a.stats(label), b.stats(label)) for label in labels if label not in skipped}
    return ClassDistances(sum(distances.values()) / len(distances), distances, num_samples, tuple(skipped))


def _moments(source: ClassMoments | str | os.PathLike[str], name: str) -> ClassMoments:
    if isinstance(source, ClassMoments):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"{name} must be ClassMoments or a path, got {type(source).__name__}")
    try:
        return ClassMoments.load(source)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _num_samples(moments: ClassMoments, label: Label) -> int:
    return moments[label].num_samples if label in moments else 0
