"""What several processes have collected of their parts of the images, as one process would have collected it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fidfast._metrics.inception_score import InceptionScore
from fidfast._stats import Moments
from fidfast.torch._images.collectors import Collected, Need
from fidfast.torch._processes.ranks import Ranks
from fidfast.torch._processes.reduction import all_reduce

__all__ = ["PartSummary", "joined", "need_of_part"]


@dataclass(frozen=True)
class PartSummary:
    """What all processes know about the part of one."""

    #: Number of images that were used.
    num_samples: int
    #: One message for each broken image.
    skipped: list[str]
    #: Name and index of the image of each row, if rows are collected.
    names: list[str]
    indices: list[int]
    #: Number of features, by number of the need; None without images.
    dims: dict[int, int | None]


def need_of_part(need: Need, first: int, skip_broken: bool) -> Need:
    """What a process collects of a part that begins with image `first`, for `joined`.

    If images may be skipped, the number of the first row is not known in advance, and rows are kept for the score.
    """
    if need.score is None:
        return need
    if skip_broken:
        return replace(need, score=None, rows=True)
    return replace(need, score=_beginning_with(need.score, first))


def joined(
    ranks: Ranks,
    collected: Collected,
    number: int,
    need: Need,
    summaries: Sequence[PartSummary],
    moments: Mapping[str, Any],
) -> Collected:
    """What all processes have collected for a need; the same in every process, which keeps its own unchanged.

    Parameters
    ----------
    ranks : Ranks
    collected : Collected
        Of this process, for the need that `need_of_part` returned.
    number : int
        Of the need.
    need : Need
        Of all images.
    summaries : sequence of PartSummary
        Of all processes.
    moments : dict
        Keyword arguments of `Moments`.

    Raises
    ------
    ValueError
        If the extractor has returned another number of features in another process.
    """
    dims = sorted({dim for summary in summaries if (dim := summary.dims[number]) is not None})
    if len(dims) != 1:
        sizes = " and ".join(map(str, dims))
        raise ValueError(f"extractor {need.extractor.name}: returned {sizes} features in different processes")
    counts = [summary.num_samples for summary in summaries]
    rows = np.empty((0, dims[0]), np.float32) if collected.rows is None else collected.rows
    total, score = None, collected.score
    if need.moments:
        total = copy.copy(collected.moments) or Moments(dims[0], **moments)
        all_reduce(total, group=ranks.group)
    if need.score is not None:
        if score is None:
            score = _beginning_with(need.score, sum(counts[: ranks.rank]))
            score.update(rows)
        states = ranks.exchange(score.state())
        score = InceptionScore.from_state(states[0])
        for state in states[1:]:
            score.merge(InceptionScore.from_state(state))
    return Collected(total, ranks.concatenated(rows, counts) if need.rows else None, score, collected.extractor)


def _beginning_with(score: InceptionScore, first: int) -> InceptionScore:
    """An empty score whose first row has the number `first` in the complete stream."""
    state = score.state()
    return InceptionScore.from_state({**state, "stream": np.array([state["stream"][0], first, first])})
