"""The Inception Score, from logits or probabilities, of a stream or of one array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import (
    optional,
    require_bool,
    require_choice,
    require_instance,
    require_integer,
    require_mapping,
)
from fidfast._files import check_inception_score
from fidfast._metrics.predictions import host_predictions, of_logits, of_probabilities, shape_of
from fidfast._metrics.split_sums import MAX_SIZE, SplitSums
from fidfast._metrics.splits import TOOLS, check_splits, seed_of, split_edges, split_of_rows
from fidfast._results import Result
from fidfast._stats import Collector, atomic, holding

__all__ = ["InceptionScore", "InceptionScoreResult", "inception_score"]

#: Rows that are processed at a time, so that intermediate results stay in the cache.
_BLOCK = 64


@dataclass(frozen=True)
class InceptionScoreResult(Result):
    """An Inception Score: mean, standard deviation, and the score of each split; returned by `inception_score`.

    Salimans et al. (2016), section 4.
    """

    #: Mean of the scores of the splits; from 1 to the number of classes.
    mean: float
    #: Their standard deviation. Not an error bar of the mean: the splits are smaller than the complete set.
    std: float
    #: The score of each split.
    scores: tuple[float, ...]
    #: Number of rows in all splits.
    num_samples: int
    #: The tool whose splits are used; None for the splits of `InceptionScore`.
    like: str | None = None
    #: Seed of the shuffle; None without a shuffle, or if torch's global generator was used.
    seed: int | None = None

    def __str__(self) -> str:
        splits = "1 split" if len(self.scores) == 1 else f"{len(self.scores)} splits"
        samples = "1 sample" if self.num_samples == 1 else f"{self.num_samples:,} samples"
        return f"{self.mean:.6g}, standard deviation {self.std:.2g} over {splits}, {samples} in total"


class InceptionScore(Collector):
    """Inception Score of a stream of predictions, ``exp(mean_x KL(p(y|x) || p(y)))``, in memory that does not grow.

    A split is represented by its number of rows, the sum of their probabilities, and the sum of their
    ``sum_y p log p``: batches may have any size, and scores of parts of the data merge into the score of all of it.

    Parameters
    ----------
    num_classes : int
        Number of columns of the predictions; 1008 for the logits of the 2015 Inception network, as other tools use
        them.
    splits : int, default 10
        Number of parts whose scores are averaged.
    split_size : int, optional
        Number of rows of a split, instead of `splits`: row ``j`` belongs to split ``j // split_size``, so that the
        number of splits grows with the stream. The last split may be smaller. 5,000 in guided-diffusion's evaluator.
    length : int, optional
        Number of rows of the complete stream. If given, split ``i`` contains the rows from ``i * length // splits``
        to ``(i + 1) * length // splits``, as in Salimans et al.'s code, StyleGAN3 and torch-fidelity without
        shuffling. By default row ``j`` belongs to split ``j % splits``.
    first : int, default 0
        Number, in the complete stream, of the first row seen here; for parts that are merged later.
    from_logits : bool, default True
        Whether predictions are logits, to which the softmax is applied, or probabilities.

    Raises
    ------
    ValueError
        If a number is too small, `length` is below `splits`, or `split_size` is given with `splits` or `length`.

    Notes
    -----
    Salimans et al. (2016), section 4. Computed in float64 as the mean of ``sum_y p log p`` minus ``sum_y q log q``,
    where ``q`` is the split's mean prediction and 0 log 0 is 0.

    Examples
    --------
    >>> import numpy as np
    >>> score = InceptionScore(num_classes=4, splits=2, from_logits=False)
    >>> score.update(np.repeat(np.eye(4), 2, axis=0))
    >>> round(score.compute().mean, 6)
    4.0
    """

    __slots__ = ("_first", "_from_logits", "_length", "_next", "_split_size", "_sums")

    def __init__(
        self,
        num_classes: int,
        *,
        splits: int | None = None,
        split_size: int | None = None,
        length: int | None = None,
        first: int = 0,
        from_logits: bool = True,
    ) -> None:
        num_classes = require_integer("num_classes", num_classes, 1, MAX_SIZE)
        splits, split_size = check_splits(splits, split_size, MAX_SIZE // num_classes)
        first = require_integer("first", first, 0)
        length = optional(require_integer, "length", length)
        if split_size is not None and length is not None:
            raise ValueError(f"split_size={split_size} needs no length, got length={length}")
        if length is not None and length < splits:
            raise ValueError(f"length must be at least splits = {splits}, got {length}")
        self._from_logits = require_bool("from_logits", from_logits)
        self._sums = SplitSums.zeros(splits, num_classes)
        self._split_size = split_size
        self._length = length
        self._first = first
        self._next = first

    @property
    def num_classes(self) -> int:
        """Number of columns of the predictions."""
        return int(self._sums.probabilities.shape[1])

    @property
    @atomic
    def splits(self) -> int:
        """Number of parts whose scores are averaged; with `split_size`, of those seen so far."""
        return len(self._sums.counts)

    @property
    def split_size(self) -> int | None:
        """Number of rows of a split; None if the number of splits is fixed."""
        return self._split_size

    @property
    @atomic
    def num_samples(self) -> int:
        """Number of rows seen."""
        return int(self._sums.counts.sum())

    @property
    def from_logits(self) -> bool:
        """Whether predictions are logits; otherwise they are probabilities."""
        return self._from_logits

    def update(self, predictions: Any) -> None:
        """Add a batch of predictions.

        Parameters
        ----------
        predictions : (n, num_classes) array or tensor
            Logits or probabilities in float16, bfloat16, float32 or float64; ``n`` may be 0.

        Raises
        ------
        TypeError
            If they are not an array, or not of a floating-point type.
        ValueError
            If the shape does not match, a value is NaN or infinite, probabilities are invalid, or there are more rows
            than `length`, or more splits of `split_size` than fit in 1 GB. The score stays unchanged.
        """
        predictions = host_predictions(predictions)
        n, num_classes = shape_of(predictions)
        if num_classes != self.num_classes:
            raise ValueError(
                f"predictions have {num_classes} columns, but InceptionScore was created with "
                f"num_classes={self.num_classes}"
            )
        with holding(self):
            rows = np.arange(self._next, self._next + n)
            self._add_rows(predictions, self._split_of(rows), self._next + n)

    def _split_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The split of each row, by its number in the complete stream."""
        if self._split_size is not None:
            return rows // self._split_size
        if self._length is None:
            return rows % self.splits
        if rows.size and rows[-1] >= self._length:
            raise ValueError(f"got row {rows[-1]}, but length={self._length} (rows are numbered from 0)")
        return np.searchsorted(split_edges(self._length, self.splits), rows, side="right") - 1

    def _add_rows(self, predictions: Any, split_of: NDArray[np.int64], next_row: int) -> None:
        """Add rows to their splits; everything is computed before anything changes."""
        if len(split_of) == 0:
            return
        first_split = int(split_of.min())
        added = SplitSums.zeros(int(split_of.max()) - first_split + 1, self.num_classes, first_split)
        for first in range(0, len(split_of), _BLOCK):
            splits = split_of[first : first + _BLOCK]
            block = _core.gather(predictions, np.arange(first, first + len(splits)))
            if self._from_logits:
                terms, weights, information = of_logits(block)
            else:
                terms, weights, information = of_probabilities(block, first)
            added.add_rows(splits, terms, weights, information)
        self._sums = self._sums.plus(added)
        self._next = next_row

    @atomic
    def merge(self, other: InceptionScore) -> None:
        """Add the rows that `other` has seen; later rows are numbered after the last of both.

        Parameters
        ----------
        other : InceptionScore
            With the same `num_classes`, `splits` or `split_size`, `length` and `from_logits`, and no rows in common;
            not changed. Give each part its `first`, or the rows of every part are numbered from 0.

        Raises
        ------
        ValueError
            If one of these differs, or a split would have more rows than `length` or `split_size` allows.
        """
        require_instance("other", other, InceptionScore)
        for name, mine, theirs in (
            ("num_classes", self.num_classes, other.num_classes),
            ("split_size", self._split_size, other._split_size),
            ("splits", self._split_size or self.splits, other._split_size or other.splits),
            ("length", self._length, other._length),
            ("from_logits", self._from_logits, other._from_logits),
        ):
            if mine != theirs:
                raise ValueError(f"cannot merge Inception Scores of {name}={mine} and {name}={theirs}")
        total, next_row = self._sums.plus(other._sums), max(self._next, other._next)
        if self._split_size is not None or self._length is not None:
            for i in np.flatnonzero(total.counts > self._sizes(total, next_row))[:1]:
                split = total.first + int(i)
                raise ValueError(
                    f"cannot merge: split {split} has {self._sizes(total, next_row)[i]} rows, but the two scores have "
                    f"seen {self._sums.count(split)} and {other._sums.count(split)} of them"
                )
        self._sums, self._next = total, next_row

    def _sizes(self, sums: SplitSums, next_row: int) -> NDArray[np.int64]:
        """(splits,) number of rows of each split; with `split_size`, of those before `next_row`."""
        if self._split_size is None:
            return np.diff(split_edges(cast(int, self._length), self.splits))
        starts = self._split_size * np.arange(sums.first, sums.first + len(sums.counts))
        return np.minimum(next_row - starts, self._split_size)

    @atomic
    def reset(self) -> None:
        """Remove all rows."""
        self._sums = SplitSums.zeros(0 if self._split_size else self.splits, self.num_classes)
        self._next = self._first

    @atomic
    def compute(self, *, ddof: int = 0) -> InceptionScoreResult:
        """Score of the rows seen so far. Changes nothing.

        Parameters
        ----------
        ddof : int, default 0
            The standard deviation divides by ``splits - ddof``: 0 in most tools, 1 in torchmetrics. NaN if that is not
            above 0.

        Raises
        ------
        ValueError
            If a split has no rows, or there are fewer rows than `length`.
        """
        seen = self.num_samples
        if self._length is not None and seen != self._length:
            raise ValueError(f"got {seen} rows, but length={self._length}")
        sums = self._sums
        if seen == 0 or not sums.counts.all():
            number = f"splits={self.splits}" if self._split_size is None else f"split_size={self._split_size}"
            empty = sums.first + int(np.argmin(sums.counts)) if self.splits else 0
            raise ValueError(f"split {empty} has no rows: got {seen} rows for {number}")
        scores = sums.scores()
        ddof = require_integer("ddof", ddof, 0)
        std = float(np.std(scores, ddof=ddof)) if len(scores) > ddof else float("nan")
        return InceptionScoreResult(float(np.mean(scores)), std, tuple(scores.tolist()), seen)

    @atomic
    def state(self) -> dict[str, NDArray[Any]]:
        """The sums as named arrays.

        Returns
        -------
        dict of str to ndarray
            ``counts`` (splits,), ``probabilities`` (splits, num_classes), ``information`` (splits,), ``stream`` (length
            or -1, first row, next row) and ``from_logits``; with `split_size` also ``split_size`` (rows of a split,
            number of the first split of the arrays).
        """
        length = -1 if self._length is None else self._length
        state = {
            "counts": np.array(self._sums.counts),
            "probabilities": np.array(self._sums.probabilities),
            "information": np.array(self._sums.information),
            "stream": np.array([length, self._first, self._next]),
            "from_logits": np.array(self._from_logits),
        }
        if self._split_size is not None:
            state["split_size"] = np.array([self._split_size, self._sums.first])
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> InceptionScore:
        """Inverse of `state`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the state is invalid.
        """
        check_inception_score(require_mapping("state", state))
        counts, probabilities, information = (state[key] for key in ("counts", "probabilities", "information"))
        length, first, next_row = state["stream"].tolist()
        split_size, first_split = state["split_size"].tolist() if "split_size" in state else (None, 0)
        score = cls(
            probabilities.shape[1],
            splits=len(counts) if split_size is None else None,
            split_size=split_size,
            length=None if length < 0 else length,
            first=first,
            from_logits=bool(state["from_logits"]),
        )
        score._sums = score._sums.plus(SplitSums(first_split, counts, probabilities, information))
        score._next = next_row
        return score

    def __repr__(self) -> str:
        splits = f"splits={self.splits}" if self._split_size is None else f"split_size={self._split_size}"
        return f"InceptionScore(num_classes={self.num_classes}, {splits}, num_samples={self.num_samples})"


def inception_score(
    predictions: Any,
    *,
    splits: int | None = None,
    split_size: int | None = None,
    from_logits: bool = True,
    like: str = "torch-fidelity",
    seed: int | None = None,
) -> InceptionScoreResult:
    """Inception Score of one array of predictions, with the splits of another tool.

    Parameters
    ----------
    predictions : (n, num_classes) array or tensor
        Logits or probabilities in float16, bfloat16, float32 or float64.
    splits : int, default 10
        Number of parts whose scores are averaged.
    split_size : int, optional
        Number of rows of a part, instead of `splits`; the last part may be smaller. 5,000 by default for "adm".
    from_logits : bool, default True
        Whether predictions are logits, to which the softmax is applied, or probabilities.
    like : {"torch-fidelity", "torchmetrics", "improved-gan", "stylegan3", "adm"}, default "torch-fidelity"
        The tool whose splits and standard deviation are used. torch-fidelity shuffles with
        ``numpy.random.RandomState(seed)`` and splits into equal parts. torchmetrics shuffles with ``torch.randperm``,
        splits with ``torch.chunk`` (equal parts but for a smaller last one, possibly fewer than `splits`), and uses
        ``ddof=1`` in the standard deviation. The others split without shuffling, which gives samples sorted by class
        a low score; "adm", the evaluator of guided-diffusion, into parts of 5,000 rows.
    seed : int, optional
        Seed of the shuffle. By default 2020 for torch-fidelity, its own default, and torch's global generator for
        torchmetrics.

    Returns
    -------
    InceptionScoreResult

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used; the message names it.

    Notes
    -----
    Salimans et al. (2016). Everything is computed in float64, as in torch-fidelity; torchmetrics computes in the type
    of the predictions, which changes the sixth digit in float32, and guided-diffusion in float32, where a probability
    that underflows gives NaN. It prints the mean only.
    """
    predictions = host_predictions(predictions)
    n, num_classes = shape_of(predictions)
    seed = seed_of(require_choice("like", like, TOOLS), seed)
    split_of = split_of_rows(n, splits, split_size, like, seed)
    score = InceptionScore(num_classes, splits=int(split_of.max()) + 1, from_logits=from_logits)
    score._add_rows(predictions, split_of, n)
    return replace(score.compute(ddof=1 if like == "torchmetrics" else 0), like=like, seed=seed)
