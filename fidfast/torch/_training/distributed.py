"""Moments over several processes."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from fidfast._arguments import require_bool, require_instance
from fidfast._stats import Moments

__all__ = ["all_reduce", "moments_of_all", "rank_and_size", "sum_over_processes"]

_F = TypeVar("_F", np.float32, np.float64)


def all_reduce(moments: Moments, *, group: Any = None) -> None:
    """Replace the moments in every process of a group by those of all rows that the processes have seen.

    The result is exact. Two sums are computed over the processes: first of count and mean, then of the scatter about
    the common mean. No features are sent. The result depends on the distribution of the rows over the processes only
    through rounding, 1e-12 relative.

    Parameters
    ----------
    moments : Moments
        With the same ``dim`` in every process, and the same number of blocks; changed in place. It may be empty.
    group : torch.distributed.ProcessGroup, optional
        By default the default group. With NCCL the sums are computed on this process's current CUDA device.

    Raises
    ------
    RuntimeError
        If no process group is initialised, or a process of it has died; the wait ends at the group's timeout. After
        this and any other error, such as MemoryError, the moments are unchanged.

    Notes
    -----
    Chan, Golub & LeVeque (1979), equation 2.1, for any number of parts.
    """
    require_instance("moments", moments, Moments)
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError("all_reduce needs a process group: call torch.distributed.init_process_group first")
    moments.assign(Moments.from_blocks([_reduced(block, group) for block in moments.blocks]))


def rank_and_size(group: Any, sync: bool = True) -> tuple[int, int]:
    """Rank of this process and number of processes; (0, 1) without a process group or `sync`, and outside `group`."""
    if not (
        require_bool("sync", sync) and dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1
    ):
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def moments_of_all(moments: Moments, group: Any, sync: bool = True) -> Moments:
    """The moments of all processes. This process keeps its own: with several processes the result is a copy."""
    if rank_and_size(group, sync)[1] > 1:
        moments = copy.copy(moments)
        all_reduce(moments, group=group)
    return moments


def _reduced(block: Moments, group: Any) -> Moments:
    """The rows of a block in all processes."""
    state = block.state()
    count, dim = int(state["0/count"]), block.dim
    # Rows that are not yet included in mean and scatter.
    rows = np.concatenate([state["0/narrow_rows"].astype(np.float64), state["0/wide_rows"]])
    mean = state["0/mean"] if count > 0 else np.zeros(dim)
    mean_low = state["0/mean_low"] if count > 0 else np.zeros(dim)
    scatter = state["0/scatter"] if count > 0 else np.zeros((dim, dim))

    count_and_sum = np.concatenate([[count + len(rows)], count * mean + rows.sum(axis=0)])
    count_and_sum = sum_over_processes(count_and_sum, group)
    total = int(count_and_sum[0])
    if total == 0:
        return block
    # The common origin is the mean up to rounding; the second sum corrects it.
    origin = count_and_sum[1:] / total
    d, centred = (mean - origin) + mean_low, rows - origin
    scatter = scatter + count * np.outer(d, d) + centred.T @ centred
    first_moment = count * d + centred.sum(axis=0)
    about_origin = sum_over_processes(np.concatenate([first_moment[np.newaxis], scatter]), group)
    correction, scatter = about_origin[0] / total, about_origin[1:]
    mean = origin + correction
    errors = state.get("0/product_errors", np.empty(0))  # their squares add up
    errors = np.sqrt(sum_over_processes(errors**2 if len(errors) else np.zeros(dim), group))

    return Moments.from_state(
        {
            **state,
            "0/count": np.asarray(total),
            "0/narrow_rows": np.empty((0, dim), np.float32),
            "0/wide_rows": np.empty((0, dim)),
            "0/mean": mean,
            "0/mean_low": correction - (mean - origin),
            "0/scatter": scatter - total * np.outer(correction, correction),
            "0/product_errors": errors if errors.any() else np.empty(0),
        }
    )


def sum_over_processes(values: NDArray[_F], group: Any) -> NDArray[_F]:
    """Sum of the arrays of all processes; may change `values`."""
    device = torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")
    tensor = torch.from_numpy(values).to(device)
    dist.all_reduce(tensor, group=group)
    result: NDArray[_F] = tensor.cpu().numpy()
    return result
