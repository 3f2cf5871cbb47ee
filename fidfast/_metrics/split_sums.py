"""Sums over the rows of each split, from which the Inception Score is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fidfast._metrics.predictions import sum_p_log_p

__all__ = ["MAX_SIZE", "SplitSums"]

#: Largest number of classes times splits: 1 GB of sums.
MAX_SIZE = 2**27


@dataclass(frozen=True, eq=False)
class SplitSums:
    """Sums of the splits `first`, `first` + 1, ..."""

    first: int
    counts: NDArray[np.int64]  # (splits,) number of rows
    probabilities: NDArray[np.float64]  # (splits, num_classes) sums over rows of p
    information: NDArray[np.float64]  # (splits,) sums over rows of sum_y p log p

    @classmethod
    def zeros(cls, splits: int, num_classes: int, first: int = 0) -> SplitSums:
        return cls(first, np.zeros(splits, dtype=np.int64), np.zeros((splits, num_classes)), np.zeros(splits))

    def add_rows(
        self,
        split_of: NDArray[np.int64],
        terms: NDArray[np.float64],
        weights: NDArray[np.float64],
        information: NDArray[np.float64],
    ) -> None:
        """Add rows, (n, num_classes) `terms` times (n,) `weights`, to their splits."""
        present, local = np.unique(split_of - self.first, return_inverse=True)
        membership = np.zeros((len(present), len(split_of)))
        membership[local, np.arange(len(split_of))] = weights
        self.probabilities[present] += membership @ terms
        self.information[present] += np.bincount(local, information, len(present))
        self.counts[present] += np.bincount(local, minlength=len(present))

    def plus(self, other: SplitSums) -> SplitSums:
        """Sums over the rows of both, of all splits from the first to the last of both.

        Raises
        ------
        ValueError
            If they would need more than 1 GB.
        """
        used = [sums for sums in (self, other) if len(sums.counts)]
        first = min((sums.first for sums in used), default=0)
        last = max((sums.first + len(sums.counts) for sums in used), default=0)
        num_classes = self.probabilities.shape[1]
        if last - first > MAX_SIZE // num_classes:
            raise ValueError(
                f"the rows are in splits {first} to {last - 1}, but at most {MAX_SIZE // num_classes} splits of "
                f"{num_classes} classes fit in 1 GB: increase split_size"
            )
        total = SplitSums.zeros(last - first, num_classes, first)
        for sums in used:
            mine = slice(sums.first - first, sums.first - first + len(sums.counts))
            total.counts[mine] += sums.counts
            total.probabilities[mine] += sums.probabilities
            total.information[mine] += sums.information
        return total

    def scores(self) -> NDArray[np.float64]:
        """(splits,) score of each split, of which none must be empty."""
        marginal = self.probabilities / self.counts[:, np.newaxis]
        divergence = self.information / self.counts - sum_p_log_p(marginal)
        return np.asarray(np.exp(np.maximum(divergence, 0)))  # negative by rounding only

    def count(self, split: int) -> int:
        """Number of rows of a split."""
        i = split - self.first
        return int(self.counts[i]) if 0 <= i < len(self.counts) else 0
