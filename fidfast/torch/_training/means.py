"""Means with twice the digits of float64, and moments about them: an offset of the features costs no accuracy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fidfast._stats import Moments

__all__ = ["Mean", "centre", "mean_low_of", "merge_rows"]


class Mean(NamedTuple):
    """The unevaluated sum of two float64 tensors (dim,)."""

    high: torch.Tensor
    low: torch.Tensor

    def subtracted_from(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows - mean``. The first difference is exact if they are near each other."""
        return (rows - self.high) - self.low

    def minus(self, other: Mean) -> torch.Tensor:
        """``mean - other``, rounded."""
        return (self.high - other.high) + (self.low - other.low)

    def plus(self, change: torch.Tensor) -> Mean:
        """``mean + change``."""
        low = self.low + change
        high = self.high + low
        virtual = high - self.high  # Knuth's two-sum
        return Mean(high, (self.high - (high - virtual)) + (low - virtual))


def centre(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean (dim,) of rows, and the rows about it; equal rows give zeros."""
    first = rows[0]
    rows = rows - first
    mean = rows.mean(dim=0)
    rows = rows - mean
    rest = rows.mean(dim=0)
    return first + (mean + rest), rows - rest


def merge_rows(
    weight: float, mean: Mean, scatter: torch.Tensor, rows: torch.Tensor
) -> tuple[float, Mean, torch.Tensor]:
    """Weight, mean and scatter with rows of weight 1 added: Chan, Golub & LeVeque (1979), equation 2.1."""
    n = len(rows)
    origin = mean if weight > 0 else Mean(rows[0], torch.zeros_like(rows[0]))
    d, centred = centre(origin.subtracted_from(rows))
    total = weight + n
    scatter = scatter + centred.T @ centred + (weight * n / total) * torch.outer(d, d)
    return total, origin.plus(d * (n / total)), scatter


def mean_low_of(moments: Moments, mu: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of all rows minus `mu` (dim,), which is that mean rounded."""
    state = moments.merged_blocks().state()
    rows = np.concatenate([state["0/narrow_rows"].astype(np.float64), state["0/wide_rows"]])
    total = (rows - mu).sum(axis=0)
    if (count := int(state["0/count"])) > 0:
        total += count * ((state["0/mean"] - mu) + state["0/mean_low"])
    return np.asarray(total / (count + len(rows)))
