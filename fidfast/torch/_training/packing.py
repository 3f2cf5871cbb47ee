"""Moments as one tensor, for frameworks whose state consists of tensors.

The tensor is 1-D float64 and no longer than needed. It is empty for moments without rows. Otherwise it holds three
counts (rows in mean and scatter, pending float32 rows, pending float64 rows); mean, low digits of the mean, and scatter
if the first count is not zero; and the pending rows. Packing and unpacking are lossless.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fidfast._stats import Moments

__all__ = ["pack", "unpack"]


def pack(moments: Moments) -> torch.Tensor:
    """All rows of the moments, without dim, precision and extractor, as a tensor in host memory."""
    if moments.num_samples == 0:
        return torch.empty(0, dtype=torch.float64)
    state = moments.merged_blocks().state()
    rows: list[NDArray[Any]] = [state["0/narrow_rows"], state["0/wide_rows"]]
    folded = [state["0/mean"], state["0/mean_low"], state["0/scatter"]] if state["0/count"] > 0 else []
    counts = np.array([state["0/count"], *(len(part) for part in rows)])
    return torch.from_numpy(np.concatenate([part.reshape(-1) for part in (counts, *folded, *rows)], dtype=np.float64))


def unpack(tensor: torch.Tensor, dim: int, *, precision: str, extractor: str | None) -> Moments:
    """Inverse of `pack`.

    Raises
    ------
    ValueError
        If the length of the tensor does not match `dim`.
    """
    if tensor.numel() == 0:
        return Moments(dim, precision=precision, extractor=extractor)
    values = tensor.detach().cpu().double().reshape(-1).numpy()
    count, narrow, wide = (int(value) for value in (*values[:3], 0, 0)[:3])
    columns = (1, 1, dim, narrow) if count > 0 else (0, 0, 0, narrow)
    needed = 3 + dim * (sum(columns) + wide)
    if len(values) != needed:
        n = count + narrow + wide
        raise ValueError(f"the state has {len(values)} numbers, but {n} rows with dim={dim} need {needed}")
    mean, mean_low, scatter, *rows = np.split(values[3:], np.cumsum(columns) * dim)
    return Moments.from_state(
        {
            "dim": np.asarray(dim),
            "precision": np.asarray(precision),
            "extractor": np.asarray(extractor or ""),
            "0/count": np.asarray(count),
            "0/narrow_rows": rows[0].reshape(-1, dim).astype(np.float32),
            "0/wide_rows": rows[1].reshape(-1, dim),
            "0/mean": mean,
            "0/mean_low": mean_low,
            "0/scatter": scatter.reshape(-1, dim),
        }
    )
