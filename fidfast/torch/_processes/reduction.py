"""Moments over several processes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from fidfast._arguments import require_bool, require_instance
from fidfast._stats import Moments, holding

__all__ = [
    "all_reduce",
    "failing_together",
    "moments_of_all",
    "rank_and_size",
    "require_equal",
    "sum_over_processes",
]

_F = TypeVar("_F", np.float32, np.float64)

#: Version of what `all_reduce` sends.
_FORMAT = 2


def all_reduce(moments: Moments, *, group: Any = None) -> None:
    """Replace the moments in every process of a group by those of all rows that the processes have seen.

    Two sums are computed over the processes: first of count and mean, then of the scatter about
    the common mean. No features are sent, unless there are at most `dim` rows in total: then the result has the rows
    themselves, in the order of the ranks, as in one process. Otherwise the result depends on the distribution of the
    rows over the processes only through rounding: 1e-12 relative with float64 products, about 1e-8 of the distance with
    float32 products.

    Parameters
    ----------
    moments : Moments
        With the same `dim`, `precision`, number of blocks and extractor (or None) in every process; changed in place.
        It may be empty.
    group : torch.distributed.ProcessGroup, optional
        By default the default group. With NCCL the sums are computed on this process's current CUDA device.

    Raises
    ------
    ValueError
        In every process, if the moments of two processes do not match; the message names the ranks and both values.
    RuntimeError
        If no process group is initialised, another process raises an error, or one has died; in the last case the wait
        ends at the group's timeout. After this and any other error, such as MemoryError, the moments are unchanged.

    Notes
    -----
    Chan, Golub & LeVeque (1979), equation 2.1, for any number of parts.
    """
    if not (dist.is_available() and dist.is_initialized()):
        require_instance("moments", moments, Moments)
        raise RuntimeError("all_reduce needs a process group: call torch.distributed.init_process_group first")
    with holding(moments):
        reduced = _reduced(moments, group)
        moments.assign(reduced)


def rank_and_size(group: Any, sync: bool = True) -> tuple[int, int]:
    """Rank of this process and number of processes; (0, 1) without a process group or `sync`, and outside `group`."""
    if not (
        require_bool("sync", sync) and dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1
    ):
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def moments_of_all(moments: Moments, group: Any, sync: bool = True) -> Moments:
    """The moments of all processes. This process keeps its own: with several processes the result is a copy."""
    if rank_and_size(group, sync)[1] == 1:
        return moments
    with failing_together(group):
        moments = copy.copy(moments)
    all_reduce(moments, group=group)
    return moments


@contextmanager
def failing_together(group: Any, sync: bool = True) -> Iterator[None]:
    """Raise a RuntimeError in all other processes of the group if the block raises an exception in one.

    Without it they would wait for that process in their next collective operation. The block must not contain
    collective operations that a failing process would leave out.
    """
    error = None
    try:
        yield
    except Exception as caught:
        error = caught
    # An error that was already exchanged, by an inner block, has been raised in all processes.
    if rank_and_size(group, sync)[1] > 1 and not getattr(error, "in_all_processes", False):
        reports = _gathered(None if error is None else f"{type(error).__name__}: {error}", group)
        if error is None:
            failed = [f"rank {rank} raised {report}" for rank, report in enumerate(reports) if report is not None]
            error = RuntimeError(f"another process failed: {'; '.join(failed)}") if failed else None
        if error is not None:
            error.in_all_processes = True  # type: ignore[attr-defined]
    if error is not None:
        raise error


def require_equal(described: dict[str, Any], group: Any, ignore_none: tuple[str, ...] = ()) -> dict[str, Any]:
    """Compare named values, and return them; raise the same ValueError in every process unless all are equal.

    None is ignored for the names in `ignore_none`; the result holds the value of the other processes.
    """
    gathered = _gathered(described, group)
    for name in {name: None for each in gathered for name in each}:
        ranks: dict[Any, list[int]] = {}
        for rank, each in enumerate(gathered):
            value = each.get(name)
            if value is not None or name not in ignore_none:
                ranks.setdefault(value, []).append(rank)
        if len(ranks) > 1:
            found = " and ".join(f"{value!r} on rank {', '.join(map(str, owners))}" for value, owners in ranks.items())
            raise ValueError(f"all processes must have the same {name}, got {found}")
        described = {**described, name: next(iter(ranks), None)}
    return described


def _gathered(value: Any, group: Any) -> list[Any]:
    """The values of all processes, by rank in the group."""
    values = [None] * dist.get_world_size(group)
    dist.all_gather_object(values, value, group=group)
    return values


def _description(moments: Any) -> dict[str, Any]:
    """What must be equal in all processes."""
    require_instance("moments", moments, Moments)
    return {
        "version of fidfast's all_reduce": _FORMAT,
        "dim": moments.dim,
        "number of blocks": len(moments.blocks),
        "precision": moments.precision,
        "extractor": moments.extractor,
    }


def _reduced(moments: Moments, group: Any) -> Moments:
    """The rows of all processes, in blocks."""
    with failing_together(group):
        described = _description(moments)
    described = require_equal(described, group, ignore_none=("extractor",))
    states = [_reduced_state(block, group) for block in moments.blocks]
    with failing_together(group):
        extractor = np.asarray(described["extractor"] or "")
        return Moments.from_blocks([Moments.from_state({**state, "extractor": extractor}) for state in states])


def _reduced_state(block: Moments, group: Any) -> dict[str, NDArray[Any]]:
    """State of the rows of a block in all processes."""
    with failing_together(group):
        state = block.state()
        count, dim = int(state["0/count"]), block.dim
        # Rows that are not yet included in mean and scatter.
        pending = [state["0/narrow_rows"], state["0/wide_rows"]]
        _require_finite(*pending)
    lengths = _gathered([count, *map(len, pending)], group)
    if not any(each[0] for each in lengths) and sum(map(sum, lengths)) <= dim:
        narrow, wide = (_rows_of_all(rows, [each[i + 1] for each in lengths], group) for i, rows in enumerate(pending))
        return {**state, "0/narrow_rows": narrow, "0/wide_rows": wide}
    with failing_together(group):
        rows = np.concatenate([pending[0].astype(np.float64), pending[1]])
        mean = state["0/mean"] if count > 0 else np.zeros(dim)
        mean_low = state["0/mean_low"] if count > 0 else np.zeros(dim)
        scatter = state["0/scatter"] if count > 0 else np.zeros((dim, dim))
        errors = state.get("0/product_errors", np.empty(0))
        count_and_sum = np.concatenate([[count + len(rows)], count * mean + rows.sum(axis=0)])
        _require_finite(count_and_sum, scatter, errors)

    count_and_sum = sum_over_processes(count_and_sum, group)
    total = int(count_and_sum[0])
    with failing_together(group):
        # The common origin is the mean up to rounding; the second sum corrects it.
        origin = count_and_sum[1:] / total
        d, centred = (mean - origin) + mean_low, rows - origin
        scatter = scatter + count * np.outer(d, d) + centred.T @ centred
        first_moment = count * d + centred.sum(axis=0)
        squares = errors**2 if len(errors) else np.zeros(dim)  # of errors, which are independent
        about_origin = np.concatenate([first_moment[np.newaxis], squares[np.newaxis], scatter])
        _require_finite(about_origin)
    about_origin = sum_over_processes(about_origin, group)
    _require_finite(count_and_sum, about_origin)
    correction, errors, scatter = about_origin[0] / total, np.sqrt(about_origin[1]), about_origin[2:]
    mean = origin + correction
    return {
        **state,
        "0/count": np.asarray(total),
        "0/narrow_rows": np.empty((0, dim), np.float32),
        "0/wide_rows": np.empty((0, dim)),
        "0/mean": mean,
        "0/mean_low": correction - (mean - origin),
        "0/scatter": scatter - total * np.outer(correction, correction),
        "0/product_errors": errors if errors.any() else np.empty(0),
    }


def _rows_of_all(rows: NDArray[_F], lengths: list[int], group: Any) -> NDArray[_F]:
    """The rows of all processes in the order of their ranks; each is zero in all but one, so the sum is exact."""
    first = sum(lengths[: dist.get_rank(group)])
    every = np.zeros((sum(lengths), rows.shape[1]), rows.dtype)
    every[first : first + len(rows)] = rows
    return sum_over_processes(every, group)


def _require_finite(*arrays: NDArray[Any]) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("moments hold NaN or infinity, or their sums over the processes exceed the range of float64")


def sum_over_processes(values: NDArray[_F], group: Any) -> NDArray[_F]:
    """Sum of the arrays of all processes; may change `values`."""
    device = torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")
    tensor = torch.from_numpy(values).to(device)
    dist.all_reduce(tensor, group=group)
    result: NDArray[_F] = tensor.cpu().numpy()
    return result
