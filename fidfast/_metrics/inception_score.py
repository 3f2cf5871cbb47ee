"""The Inception Score, from logits or probabilities, of a stream or of one array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import require_bool, require_choice, require_instance, require_integer, require_mapping
from fidfast._files import check_inception_score
from fidfast._metrics.predictions import host_predictions, of_logits, of_probabilities, shape_of, sum_p_log_p
from fidfast._metrics.splits import TOOLS, seed_of, split_edges, split_of_rows
from fidfast._results import Result
from fidfast._stats import Collector, atomic, holding

__all__ = ["InceptionScore", "InceptionScoreResult", "inception_score"]

#: Rows that are processed at a time, so that intermediate results stay in the cache.
_BLOCK = 64

#: Largest number of classes times splits: 1 GB of sums.
MAX_SIZE = 2**27


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
        If a number is too small, or `length` is below `splits`.

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

    __slots__ = (
        "_counts",
        "_first",
        "_from_logits",
        "_information",
        "_length",
        "_next",
        "_probabilities",
    )

    def __init__(
        self,
        num_classes: int,
        *,
        splits: int = 10,
        length: int | None = None,
        first: int = 0,
        from_logits: bool = True,
    ) -> None:
        num_classes = require_integer("num_classes", num_classes, 1, MAX_SIZE)
        splits = require_integer("splits", splits, 1, MAX_SIZE // num_classes)
        first = require_integer("first", first, 0)
        if length is not None and (length := require_integer("length", length)) < splits:
            raise ValueError(f"length must be at least splits = {splits}, got {length}")
        from_logits = require_bool("from_logits", from_logits)
        self._counts = np.zeros(splits, dtype=np.int64)
        self._probabilities = np.zeros((splits, num_classes))  # sums over rows of p
        self._information = np.zeros(splits)  # sums over rows of sum_y p log p
        self._length = length
        self._first = first
        self._next = first
        self._from_logits = from_logits

    @property
    def num_classes(self) -> int:
        """Number of columns of the predictions."""
        return self._probabilities.shape[1]

    @property
    def splits(self) -> int:
        """Number of parts whose scores are averaged."""
        return len(self._counts)

    @property
    @atomic
    def num_samples(self) -> int:
        """Number of rows seen."""
        return int(self._counts.sum())

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
            than `length`. The score stays unchanged.
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
        if self._length is None:
            return rows % self.splits
        if rows.size and rows[-1] >= self._length:
            raise ValueError(f"got row {rows[-1]}, but length={self._length} (rows are numbered from 0)")
        return np.searchsorted(split_edges(self._length, self.splits), rows, side="right") - 1

    def _add_rows(self, predictions: Any, split_of: NDArray[np.int64], next_row: int) -> None:
        """Add rows to their splits; everything is computed before anything changes."""
        probabilities = np.zeros_like(self._probabilities)
        information = np.zeros_like(self._information)
        for first in range(0, len(split_of), _BLOCK):
            splits = split_of[first : first + _BLOCK]
            block = _core.gather(predictions, np.arange(first, first + len(splits)))
            if self._from_logits:
                terms, weights, row_information = of_logits(block)
            else:
                terms, weights, row_information = of_probabilities(block, first)
            present, local = np.unique(splits, return_inverse=True)
            membership = np.zeros((len(present), len(splits)))
            membership[local, np.arange(len(splits))] = weights
            probabilities[present] += membership @ terms
            information[present] += np.bincount(local, row_information, len(present))
        self._counts += np.bincount(split_of, minlength=self.splits)
        self._probabilities += probabilities
        self._information += information
        self._next = next_row

    @atomic
    def merge(self, other: InceptionScore) -> None:
        """Add the rows that `other` has seen; later rows are numbered after the last of both.

        Parameters
        ----------
        other : InceptionScore
            With the same `num_classes`, `splits`, `length` and `from_logits`, and no rows in common; not changed. Give
            each part its `first`, or the rows of every part are numbered from 0.

        Raises
        ------
        ValueError
            If one of these differs, or a split would have more rows than `length` allows.
        """
        require_instance("other", other, InceptionScore)
        for name, mine, theirs in (
            ("num_classes", self.num_classes, other.num_classes),
            ("splits", self.splits, other.splits),
            ("length", self._length, other._length),
            ("from_logits", self._from_logits, other._from_logits),
        ):
            if mine != theirs:
                raise ValueError(f"cannot merge Inception Scores of {name}={mine} and {name}={theirs}")
        if self._length is not None:
            sizes = np.diff(split_edges(self._length, self.splits))
            for split in np.flatnonzero(self._counts + other._counts > sizes)[:1]:
                raise ValueError(
                    f"cannot merge: split {split} has {sizes[split]} rows, but the two scores have seen "
                    f"{self._counts[split]} and {other._counts[split]} of them"
                )
        self._counts += other._counts
        self._probabilities += other._probabilities
        self._information += other._information
        self._next = max(self._next, other._next)

    @atomic
    def reset(self) -> None:
        """Remove all rows."""
        for array in (self._counts, self._probabilities, self._information):
            array[...] = 0
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
        counts, seen = self._counts[:, np.newaxis], self.num_samples
        if self._length is not None and seen != self._length:
            raise ValueError(f"got {seen} rows, but length={self._length}")
        if not counts.all():
            raise ValueError(f"split {np.argmin(counts)} has no rows: got {seen} rows for splits={self.splits}")
        marginal = self._probabilities / counts
        divergence = self._information / self._counts - sum_p_log_p(marginal)
        scores = np.exp(np.maximum(divergence, 0))  # negative by rounding only
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
            or -1, first row, next row) and ``from_logits``.
        """
        length = -1 if self._length is None else self._length
        return {
            "counts": np.array(self._counts),
            "probabilities": np.array(self._probabilities),
            "information": np.array(self._information),
            "stream": np.array([length, self._first, self._next]),
            "from_logits": np.array(self._from_logits),
        }

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
        score = cls(
            probabilities.shape[1],
            splits=len(counts),
            length=None if length < 0 else length,
            first=first,
            from_logits=bool(state["from_logits"]),
        )
        score._counts += counts
        score._probabilities += probabilities
        score._information += information
        score._next = next_row
        return score

    def __repr__(self) -> str:
        return f"InceptionScore(num_classes={self.num_classes}, splits={self.splits}, num_samples={self.num_samples})"


def inception_score(
    predictions: Any,
    *,
    splits: int = 10,
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
    from_logits : bool, default True
        Whether predictions are logits, to which the softmax is applied, or probabilities.
    like : {"torch-fidelity", "torchmetrics", "improved-gan", "stylegan3"}, default "torch-fidelity"
        The tool whose splits and standard deviation are used. torch-fidelity shuffles with
        ``numpy.random.RandomState(seed)`` and splits into equal parts. torchmetrics shuffles with ``torch.randperm``,
        splits with ``torch.chunk`` (equal parts but for a smaller last one, possibly fewer than `splits`), and uses
        ``ddof=1`` in the standard deviation. The other two split without shuffling, which gives samples sorted by class
        a low score.
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
    of the predictions, which changes the sixth digit in float32.
    """
    predictions = host_predictions(predictions)
    n, num_classes = shape_of(predictions)
    splits = require_integer("splits", splits)
    if not 1 <= splits <= n:
        raise ValueError(f"splits must be from 1 to the number of rows = {n}, got {splits}")
    seed = seed_of(require_choice("like", like, TOOLS), seed)
    split_of = split_of_rows(n, splits, like, seed)
    score = InceptionScore(num_classes, splits=int(split_of.max()) + 1, from_logits=from_logits)
    score._add_rows(predictions, split_of, n)
    return replace(score.compute(ddof=1 if like == "torchmetrics" else 0), like=like, seed=seed)
