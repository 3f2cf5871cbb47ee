"""The Inception Score, from logits or probabilities, in a stream or from one array."""

from __future__ import annotations

import operator
import os
import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast import _devices as devices
from fidfast._files import formats
from fidfast._metrics.predictions import of_logits, of_probabilities, shape_of, sum_p_log_p
from fidfast._metrics.splits import edges, split_of_rows

__all__ = ["InceptionScore", "InceptionScoreResult", "inception_score"]

#: Rows that are worked on at a time: what their logits become stays in the cache.
_BLOCK = 64


class InceptionScoreResult(NamedTuple):
    """An Inception Score, as papers report it and split by split."""

    #: Mean of the splits' scores; from 1 to the number of classes.
    mean: float
    #: Their standard deviation, which is no error bar of the mean: the splits are smaller than the whole.
    std: float
    #: The score of each split.
    scores: tuple[float, ...]
    #: Number of rows in all splits.
    num_samples: int


class InceptionScore:
    """Inception Score of a stream of predictions, ``exp(mean_x KL(p(y|x) || p(y)))``, in memory that does not grow.

    A split is known by its number of rows, the sum of their probabilities, and the sum of their ``sum_y p log p``:
    batches may come in any size, and parts of the data merge to the whole.

    Parameters
    ----------
    num_classes : int
        Number of columns of the predictions; 1008 for the 2015 Inception network's logits as the field uses them.
    splits : int, default 10
        Number of parts whose scores are averaged.
    length : int, optional
        Number of rows of the whole stream. Where it is known, split ``i`` is the rows from ``i * length // splits``
        to ``(i + 1) * length // splits``, as in Salimans et al.'s code, StyleGAN3 and torch-fidelity without
        shuffling. Where it is not, rows are dealt like cards: row ``j`` goes to split ``j % splits``.
    first : int, default 0
        Place in the whole of the first row seen here, where parts of it are seen apart and merged.
    from_logits : bool, default True
        Whether predictions are logits, of which the softmax is taken, or probabilities.

    Raises
    ------
    ValueError
        If a number is too small, or `length` is below `splits`.

    Notes
    -----
    Salimans et al. (2016), section 4. Computed in float64 as the mean of ``sum_y p log p`` less
    ``sum_y q log q``, where ``q`` is the split's mean prediction and 0 log 0 is 0.

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
        "_lock",
        "_next",
        "_probabilities",
    )

    def __init__(
        self,
        num_classes: int,
        splits: int = 10,
        *,
        length: int | None = None,
        first: int = 0,
        from_logits: bool = True,
    ) -> None:
        for name, number, least in (("num_classes", num_classes, 1), ("splits", splits, 1), ("first", first, 0)):
            if operator.index(number) < least:
                raise ValueError(f"{name} must be at least {least}, got {number}")
        if length is not None and operator.index(length) < splits:
            raise ValueError(f"length must be at least splits = {splits}, got {length}")
        self._counts = np.zeros(splits, dtype=np.int64)
        self._probabilities = np.zeros((splits, num_classes))  # sums over rows of p
        self._information = np.zeros(splits)  # sums over rows of sum_y p log p
        self._length = length
        self._first = first
        self._next = first
        self._from_logits = bool(from_logits)
        self._lock = threading.Lock()

    @property
    def num_classes(self) -> int:
        """Number of columns of the predictions."""
        return self._probabilities.shape[1]

    @property
    def splits(self) -> int:
        """Number of parts whose scores are averaged."""
        return len(self._counts)

    @property
    def num_samples(self) -> int:
        """Number of rows seen."""
        return int(self._counts.sum())

    @property
    def from_logits(self) -> bool:
        """Whether predictions are logits, or else probabilities."""
        return self._from_logits

    def update(self, predictions: Any) -> None:
        """Add a batch of predictions.

        Parameters
        ----------
        predictions : (n, num_classes) array or tensor
            Logits or probabilities in float16, bfloat16, float32 or float64 in the host's memory; ``n`` may be 0.

        Raises
        ------
        TypeError
            If they are no array, or not of a floating-point type.
        ValueError
            If the shape does not fit, a value is NaN or infinite, rows that should be probabilities are none, or more
            rows come than `length` told. The score stays as it was.
        """
        predictions = devices.on_host(predictions)
        n, num_classes = shape_of(predictions)
        if num_classes != self.num_classes:
            raise ValueError(
                f"predictions have {num_classes} columns, but InceptionScore was created with "
                f"num_classes={self.num_classes}"
            )
        with self._lock:
            places = np.arange(self._next, self._next + n)
            self._add(predictions, self._split_of(places), self._next + n)

    def _split_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The split to which each of these rows of the whole belongs."""
        if self._length is None:
            return places % self.splits
        if places.size and places[-1] >= self._length:
            raise ValueError(f"length is {self._length}, but row {places[-1]} has come (counted from 0)")
        return np.searchsorted(edges(self._length, self.splits), places, side="right") - 1

    def _add(self, predictions: Any, split_of: NDArray[np.int64], next_place: int) -> None:
        """Add rows to their splits; all is computed before anything is changed."""
        probabilities = np.zeros_like(self._probabilities)
        information = np.zeros_like(self._information)
        for first in range(0, len(split_of), _BLOCK):
            own = split_of[first : first + _BLOCK]
            block = _core.gather(predictions, np.arange(first, first + len(own)))
            if self._from_logits:
                terms, weights, row_information = of_logits(block)
            else:
                terms, weights, row_information = of_probabilities(block, first)
            present, local = np.unique(own, return_inverse=True)
            membership = np.zeros((len(present), len(own)))
            membership[local, np.arange(len(own))] = weights
            probabilities[present] += membership @ terms
            information[present] += np.bincount(local, row_information, len(present))
        self._counts += np.bincount(split_of, minlength=self.splits)
        self._probabilities += probabilities
        self._information += information
        self._next = next_place

    def merge(self, other: InceptionScore) -> None:
        """Add the rows that `other` has seen; rows that still come go on after the last of both.

        Parameters
        ----------
        other : InceptionScore
            Of the same `num_classes`, `splits`, `length` and `from_logits`, whose rows are others; stays as it
            is. Give each part its place by `first`, or the deal begins anew in each.

        Raises
        ------
        ValueError
            If the two do not fit together, or a split would hold more rows than it has.
        """
        for name, mine, theirs in (
            ("num_classes", self.num_classes, other.num_classes),
            ("splits", self.splits, other.splits),
            ("length", self._length, other._length),
            ("from_logits", self._from_logits, other._from_logits),
        ):
            if mine != theirs:
                raise ValueError(f"cannot merge Inception Scores of {name}={mine} and {name}={theirs}")
        with other._lock:  # one lock at a time: two objects may be merged into each other
            counts, next_place = np.array(other._counts), other._next
            probabilities, information = np.array(other._probabilities), np.array(other._information)
        with self._lock:
            if self._length is not None:
                sizes = np.diff(edges(self._length, self.splits))
                for split in np.flatnonzero(self._counts + counts > sizes)[:1]:
                    raise ValueError(
                        f"cannot merge: split {split} has {sizes[split]} rows, of which one side has seen "
                        f"{self._counts[split]} and the other {counts[split]}"
                    )
            self._counts += counts
            self._probabilities += probabilities
            self._information += information
            self._next = max(self._next, next_place)

    def reset(self) -> None:
        """Forget every row."""
        with self._lock:
            for array in (self._counts, self._probabilities, self._information):
                array[...] = 0
            self._next = self._first

    def compute(self, ddof: int = 0) -> InceptionScoreResult:
        """Score of the rows seen so far. Changes nothing.

        Parameters
        ----------
        ddof : int, default 0
            The deviation divides by ``splits - ddof``: 0 as most tools do, 1 as torchmetrics. NaN where that is not
            above 0.

        Raises
        ------
        ValueError
            If a split has no rows, or fewer rows have come than `length` told.
        """
        with self._lock:
            counts, seen = self._counts[:, np.newaxis], self.num_samples
            if self._length is not None and seen != self._length:
                raise ValueError(f"length is {self._length}, but {seen} rows have come")
            if not counts.all():
                raise ValueError(f"split {np.argmin(counts)} of {self.splits} holds none of the {seen} rows seen")
            marginal = self._probabilities / counts
            divergence = self._information / self._counts - sum_p_log_p(marginal)
        scores = np.exp(np.maximum(divergence, 0))  # which is never negative but by rounding
        std = float(np.std(scores, ddof=ddof)) if len(scores) > ddof else float("nan")
        return InceptionScoreResult(float(np.mean(scores)), std, tuple(scores.tolist()), seen)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, from which `load` goes on with the same digits.

        Parameters
        ----------
        path : path
            Where to write; ``.npz`` is appended where the name does not end in it. The file appears whole or not at
            all.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        formats.write_state(path, formats.State("InceptionScore", self._state()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> InceptionScore:
        """Read a checkpoint that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged or no checkpoint of an Inception Score.
        """
        return formats.read_state(path, "InceptionScore", _of_state)

    def _state(self) -> dict[str, NDArray[Any]]:
        with self._lock:
            length = -1 if self._length is None else self._length
            return {
                "counts": np.array(self._counts),
                "probabilities": np.array(self._probabilities),
                "information": np.array(self._information),
                "places": np.array([length, self._first, self._next]),
                "from_logits": np.array(self._from_logits),
            }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InceptionScore):
            return NotImplemented
        mine, theirs = self._state(), other._state()
        return all(np.array_equal(mine[key], theirs[key]) for key in mine)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"InceptionScore(num_classes={self.num_classes}, splits={self.splits}, num_samples={self.num_samples})"

    def __copy__(self) -> InceptionScore:
        return _of_state(self._state())

    def __deepcopy__(self, memo: dict[int, Any]) -> InceptionScore:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_state, (self._state(),)


def inception_score(
    predictions: Any,
    splits: int = 10,
    *,
    from_logits: bool = True,
    like: str = "torch-fidelity",
    seed: int | None = None,
) -> InceptionScoreResult:
    """Inception Score of one array of predictions, with the splits of one of the field's tools.

    Parameters
    ----------
    predictions : (n, num_classes) array or tensor
        Logits or probabilities in float16, bfloat16, float32 or float64.
    splits : int, default 10
        Number of parts whose scores are averaged.
    from_logits : bool, default True
        Whether predictions are logits, of which the softmax is taken, or probabilities.
    like : {"torch-fidelity", "torchmetrics", "improved-gan", "stylegan3"}, default "torch-fidelity"
        Whose splits and deviation. torch-fidelity shuffles with ``numpy.random.RandomState(seed)`` and cuts into
        equal parts. torchmetrics shuffles with ``torch.randperm``, cuts with ``torch.chunk`` (equal parts but for a
        smaller last one, and perhaps fewer than `splits`), and divides by one less in the deviation. The other two
        cut without shuffling, where samples in the order of their classes would get a low score.
    seed : int, optional
        Of the shuffle: for torch-fidelity its own default, 2020; for torchmetrics, torch's global generator goes on
        where no seed is given.

    Returns
    -------
    InceptionScoreResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable; the message names it.

    Notes
    -----
    Salimans et al. (2016). All is computed in float64, as torch-fidelity does; torchmetrics computes in the type of
    the predictions, which shows from the sixth digit on in float32.
    """
    predictions = devices.on_host(predictions)
    n, num_classes = shape_of(predictions)
    if not 1 <= operator.index(splits) <= n:
        raise ValueError(f"splits must be from 1 to the number of rows = {n}, got {splits}")
    split_of = split_of_rows(n, splits, like, seed)
    score = InceptionScore(num_classes, int(split_of.max()) + 1, from_logits=from_logits)
    score._add(predictions, split_of, n)
    return score.compute(ddof=1 if like == "torchmetrics" else 0)


def _of_state(state: formats.Entries) -> InceptionScore:
    counts, probabilities, information = (state[key] for key in ("counts", "probabilities", "information"))
    length, first, next_place = (int(number) for number in state["places"])
    if probabilities.ndim != 2 or counts.shape != probabilities.shape[:1] or information.shape != counts.shape:
        raise ValueError(
            f"the state of InceptionScore has counts of shape {counts.shape}, probabilities of {probabilities.shape} "
            f"and information of {information.shape}"
        )
    score = InceptionScore(
        probabilities.shape[1],
        len(counts),
        length=None if length < 0 else length,
        first=first,
        from_logits=bool(state["from_logits"]),
    )
    score._counts += counts
    score._probabilities += probabilities
    score._information += information
    score._next = next_place
    return score
