"""Moments as one tensor, for frameworks that keep, send and store tensors only.

A tensor of float64, in one dimension, that holds all of the state, and no more than it needs: nothing before the first
row; then the numbers of folded rows, and of those that wait in float32 and float64; mean, its low digits and scatter
where rows are folded; the rows that wait. It goes there and back to the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fidfast import _core
from fidfast._stats.moments import Moments

__all__ = ["packed", "unpacked"]


def packed(moments: Moments) -> torch.Tensor:
    """All that the moments are but dim, precision and extractor, in the host's memory."""
    if moments.num_samples == 0:
        return torch.empty(0, dtype=torch.float64)
    state = moments._whole().state()
    rows: list[NDArray[Any]] = [state["narrow_rows"], state["wide_rows"]]
    folded = [state["mean"], state["mean_low"], state["scatter"]] if state["count"] > 0 else []
    counts = np.array([state["count"], *(len(part) for part in rows)])
    return torch.from_numpy(np.concatenate([part.reshape(-1) for part in (counts, *folded, *rows)], dtype=np.float64))


def unpacked(tensor: torch.Tensor, dim: int, precision: str, extractor: str | None) -> Moments:
    """The moments that `packed` made a tensor of.

    Raises
    ------
    ValueError
        If it is not as long as the state of moments with this `dim` is.
    """
    if tensor.numel() == 0:
        return Moments(dim, precision, extractor)
    values = tensor.detach().cpu().double().reshape(-1).numpy()
    count, narrow, wide = (int(value) for value in (*values[:3], 0, 0)[:3])
    columns = (1, 1, dim, narrow) if count > 0 else (0, 0, 0, narrow)
    needed = 3 + dim * (sum(columns) + wide)
    if len(values) != needed:
        raise ValueError(
            f"the state has {len(values)} numbers, but that of {count + narrow + wide} rows with dim={dim} has {needed}"
        )
    mean, mean_low, scatter, *rows = np.split(values[3:], np.cumsum(columns) * dim)
    core = _core.Moments.from_state(
        {
            "dim": dim,
            "precision": precision,
            "count": count,
            "narrow_rows": rows[0].reshape(-1, dim).astype(np.float32),
            "wide_rows": rows[1].reshape(-1, dim),
            "mean": mean,
            "mean_low": mean_low,
            "scatter": scatter.reshape(-1, dim),
        }
    )
    return Moments._of_blocks([core], extractor)
