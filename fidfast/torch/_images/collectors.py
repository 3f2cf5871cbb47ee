"""Collects the features of one extractor, a batch at a time: as moments, as rows, or in an Inception Score."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fidfast._metrics.inception_score import InceptionScore
from fidfast._stats import Moments
from fidfast.torch._extractors.extractor import Extractor

__all__ = ["Collected", "FeatureCollector", "Need"]

#: Rows of the first allocation for a stream of unknown length, which grows by a quarter when it is full.
_FIRST_ROWS = 1024


@dataclass(frozen=True)
class Need:
    """What is collected of the features of one extractor."""

    extractor: Extractor
    moments: bool = False
    #: The features themselves, in host memory.
    rows: bool = False
    #: An Inception Score without rows, whose settings are used; the features are its predictions.
    score: InceptionScore | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is collected, so that the extractor need not run."""
        return not (self.moments or self.rows or self.score is not None)


@dataclass(frozen=True, eq=False)
class Collected:
    """What was collected of the features of one extractor; None is what was not needed."""

    moments: Moments | None
    #: (n, dim) float32, in the order of the images
    rows: NDArray[np.float32] | None
    score: InceptionScore | None
    #: Name of the extractor, with resize and arithmetic.
    extractor: str


class FeatureCollector:
    """Collects the features of one extractor.

    Parameters
    ----------
    need : Need
    moments : dict
        Keyword arguments of `Moments`.
    length : int, optional
        Number of images, for the memory of the rows.
    """

    def __init__(self, need: Need, moments: Mapping[str, Any], length: int | None) -> None:
        self.need = need
        self.extractor = need.extractor
        self._options = moments
        self._length = length
        self._moments: Moments | None = None
        self._rows: _Rows | None = None
        self._score = copy.copy(need.score)
        self.dim = need.extractor.num_features

    def joined(self, groups: Sequence[torch.Tensor], order: Sequence[int]) -> torch.Tensor:
        """The features of one batch in the order of its images; nothing is collected yet.

        Parameters
        ----------
        groups : sequence of (k, dim) tensors
        order : sequence of int
            The row of the batch of each row of the groups.

        Raises
        ------
        ValueError
            If the number of features is not that of earlier images.
        """
        widths = sorted({group.shape[1] for group in groups} | (set() if self.dim is None else {self.dim}))
        if len(widths) > 1:
            sizes = " and ".join(map(str, widths))
            raise ValueError(f"extractor {self.extractor.name}: returned {sizes} features for images of other sizes")
        self.dim = widths[0]
        features = groups[0]
        if len(groups) > 1:
            joined = torch.cat(list(groups))
            features = torch.empty_like(joined)
            features[torch.tensor(order)] = joined
        return features.float() if self.need.rows else features

    def update(self, features: torch.Tensor) -> None:
        """Add finite features (n, dim) of a batch."""
        assert self.dim is not None
        if self.need.moments:
            self._moments = self._moments or Moments(self.dim, **self._options)
            self._moments.update(features)
        if self._score is not None:
            self._score.update(features)
        if self.need.rows:
            self._rows = self._rows or _Rows(self.dim, self._length)
            self._rows.append(features.numpy())

    def counts(self) -> set[int]:
        """Number of rows in each of moments, rows and score; one number, unless a batch failed halfway."""
        return {one.num_samples for one in (self._moments, self._rows, self._score) if one is not None}

    def collected(self) -> Collected:
        """The result, after the last batch."""
        rows = None if self._rows is None else self._rows.finished()
        return Collected(self._moments, rows, self._score, self.extractor.full_name)

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything collected, as named arrays."""
        found: dict[str, NDArray[Any]] = {}
        for name, one in (("moments", self._moments), ("score", self._score)):
            found.update({} if one is None else {f"{name}/{key}": value for key, value in one.state().items()})
        return found if self._rows is None else {**found, "rows": self._rows.view()}

    def is_in(self, state: Mapping[str, NDArray[Any]]) -> bool:
        """Whether a state has everything that is needed."""
        names = {key.partition("/")[0] for key in state}
        wanted = {"moments": self.need.moments, "rows": self.need.rows, "score": self.need.score is not None}
        return names >= {name for name, is_wanted in wanted.items() if is_wanted}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a state, which `_files` has checked."""
        parts: dict[str, dict[str, NDArray[Any]]] = {"moments": {}, "score": {}, "rows": {}}
        for key, value in state.items():
            name, _, rest = key.partition("/")
            parts[name][rest] = value
        if self.need.moments:
            self._moments = Moments.from_state(parts["moments"])
            self.dim = self._moments.dim
        if self.need.score is not None:
            self._score = InceptionScore.from_state(parts["score"])
        if self.need.rows:
            self._rows = _Rows.from_array(state["rows"], self._length)
            self.dim = state["rows"].shape[1]


class _Rows:
    """Rows in one array that grows in place.

    Parameters
    ----------
    dim : int
    length : int, optional
        Number of rows for which memory is allocated.
    """

    def __init__(self, dim: int, length: int | None) -> None:
        self._array: NDArray[np.float32] = np.empty((length or _FIRST_ROWS, dim), np.float32)
        self.num_samples = 0

    @classmethod
    def from_array(cls, array: NDArray[np.float32], length: int | None) -> _Rows:
        """Rows that begin with those of an array, whose memory is reused if possible."""
        rows = cls.__new__(cls)
        owned = array.base is None and array.flags.c_contiguous and array.flags.writeable and array.dtype == np.float32
        rows._array = array if owned else np.array(array, np.float32, order="C")
        rows.num_samples = len(array)
        rows._reserve(max(length or 0, len(array)))
        return rows

    def append(self, rows: NDArray[np.float32]) -> None:
        end = self.num_samples + len(rows)
        if end > len(self._array):
            self._reserve(max(end, len(self._array) + len(self._array) // 4))
        self._array[self.num_samples : end] = rows
        self.num_samples = end

    def _reserve(self, length: int) -> None:
        # In place: a copy would need the memory twice. The array has no other user.
        self._array.resize((length, self._array.shape[1]), refcheck=False)

    def view(self) -> NDArray[np.float32]:
        """The rows so far, valid until the next call of another method."""
        return self._array[: self.num_samples]

    def finished(self) -> NDArray[np.float32]:
        """The rows in an array of their own size; call it once, after the last row."""
        self._reserve(self.num_samples)
        return self._array
