"""Moments over several processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from fidfast import _core
from fidfast._stats.moments import Moments

__all__ = ["all_reduce"]


def all_reduce(moments: Moments, group: Any = None) -> None:
    """Give every process of a group the moments of all rows that any of them has seen.

    Exact: two sums over the processes, of count and mean, and then of the scatter about the common mean. No features
    are sent. The result does not depend on how the rows were dealt out but for rounding, 1e-12 relative.

    Parameters
    ----------
    moments : Moments
        Of the same ``dim`` in every process; becomes the whole. May have seen no row.
    group : torch.distributed.ProcessGroup, optional
        The default group unless given. With NCCL the sums are made on this process's current CUDA device.

    Raises
    ------
    RuntimeError
        If no process group is initialised, or a process of it has died; the group's own timeout bounds the wait.

    Notes
    -----
    Chan, Golub & LeVeque (1979), equation 2.1, for any number of parts at once.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError("all_reduce needs torch.distributed.init_process_group first")
    device = torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")
    moments._blocks = [_reduced(block, device, group) for block in moments._blocks]


def _reduced(mine: _core.Moments, device: torch.device, group: Any) -> _core.Moments:
    """One block's rows of all processes."""
    state = mine.state()
    folded, dim = state["count"], state["dim"]
    # Folded rows stand for themselves by count, mean and scatter; those that wait are here.
    rows = np.concatenate([state["narrow_rows"].astype(np.float64), state["wide_rows"]])
    mean = state["mean"] if folded > 0 else np.zeros(dim)
    mean_low = state["mean_low"] if folded > 0 else np.zeros(dim)
    scatter = state["scatter"] if folded > 0 else np.zeros((dim, dim))

    count_and_sum = np.concatenate([[folded + len(rows)], folded * mean + rows.sum(axis=0)])
    count_and_sum = _summed(count_and_sum, device, group)
    total = int(count_and_sum[0])
    if total == 0:
        return mine
    # A common origin: the mean, to rounding. What is left of it comes with the second sum.
    origin = count_and_sum[1:] / total
    d, rest = (mean - origin) + mean_low, rows - origin
    scatter = scatter + folded * np.outer(d, d) + rest.T @ rest
    first = folded * d + rest.sum(axis=0)
    about_origin = _summed(np.concatenate([first[np.newaxis], scatter]), device, group)
    left, scatter = about_origin[0] / total, about_origin[1:]
    whole = origin + left

    return type(mine).from_state(
        {
            "dim": dim,
            "precision": state["precision"],
            "count": total,
            "narrow_rows": np.empty((0, dim), np.float32),
            "wide_rows": np.empty((0, dim)),
            "mean": whole,
            "mean_low": left - (whole - origin),
            "scatter": scatter - total * np.outer(left, left),
        },
        mine.device,
    )


def _summed(values: NDArray[np.float64], device: torch.device, group: Any) -> NDArray[np.float64]:
    here = torch.from_numpy(values).to(device)
    dist.all_reduce(here, group=group)
    there: NDArray[np.float64] = here.cpu().numpy()
    return there
