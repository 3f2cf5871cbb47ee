"""Running statistics for the loss: of the last rows, or of all rows with decaying weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch

from fidfast._arguments import MAX_DIM, as_dense, require_bool, require_integer, require_real, shown
from fidfast._stats import Locked, atomic
from fidfast.torch._training.means import Mean, centre, merge_rows
from fidfast.torch._training.packing import TensorStateModule

__all__ = [
    "CombinedStats",
    "FeatureQueue",
    "FixedDtypeModule",
    "MovingMoments",
    "RunningStats",
    "check_features",
    "stats_of_rows",
]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_ROWS_AT_A_TIME = 4096
_M = TypeVar("_M", bound="FixedDtypeModule")


class CombinedStats(NamedTuple):
    """Statistics of a batch and the running statistics before it, in float64, about an origin near the rows.

    A row of the batch has the weight ``1 / weight`` in the mean, and ``1 / divisor`` in the covariance about the mean.
    """

    #: Sum of the weights of all rows.
    weight: float
    #: The covariance is the scatter divided by this.
    divisor: float
    #: (dim,) mean minus origin.
    mean: torch.Tensor
    #: (n, dim) all rows minus the mean, the batch last, if they have equal weights and there are few; else None.
    rows: torch.Tensor | None
    #: (dim, dim) if `rows` is None.
    scatter: torch.Tensor | None


def stats_of_rows(rows: torch.Tensor, origin: Mean) -> CombinedStats:
    """The statistics of float64 rows (n, dim) of equal weight."""
    mean, centred = centre(origin.subtracted_from(rows))
    return CombinedStats(len(rows), len(rows) - 1, mean, centred, None)


def check_features(features: Any, mean: torch.Tensor, owner: str) -> torch.Tensor:
    """Check features (n, dim) against the (dim,) tensor of `owner`, and return them as detached float64.

    The messages are those of `Moments.update`.
    """
    if not isinstance(features, torch.Tensor):
        raise TypeError(f"features must be a tensor (n, dim), got {type(features).__name__}")
    if features.device == mean.device:  # else the error below
        features = as_dense(features)
    if features.ndim != 2:
        raise ValueError(f"features must be 2-D (n, dim), got shape {tuple(features.shape)}")
    if features.dtype not in _FLOATS:
        dtype = str(features.dtype).removeprefix("torch.")
        raise TypeError(f"features must be float16, bfloat16, float32 or float64, got {dtype}")
    if features.shape[1] != len(mean):
        raise ValueError(f"features have {features.shape[1]} columns, but {owner} has dim {len(mean)}")
    if len(features) == 0:
        raise ValueError(f"features must have at least 1 row, got shape {tuple(features.shape)}")
    if features.device != mean.device:
        raise ValueError(f"features are on {features.device}, but {owner} is on {mean.device}: use .to()")
    rows = features.detach().double()
    finite = rows.isfinite().all(dim=1)
    if not finite.all():
        raise ValueError(f"features hold NaN or infinity; the first such row is {int((~finite).nonzero()[0])}")
    return rows


class FixedDtypeModule(torch.nn.Module):
    """A module whose buffers move between devices and keep their dtypes, so that ``.half()`` loses no precision."""

    def _apply(self: _M, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> _M:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            if buffer is not None and not buffer.is_meta:
                self._buffers[name] = buffer.to(self._buffers[name].device)
        return self


class RunningStats(Locked, FixedDtypeModule, TensorStateModule):
    """Base of the running statistics that `FrechetLoss` accepts.

    Three numbers that belong to the rows or moments, first the number of rows, are a buffer too: code that copies the
    buffers, such as ``DistributedDataParallel``, copies consistent statistics.
    """

    dim: int
    _counts: torch.Tensor
    state_key = "counts"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_counts", torch.zeros(3, dtype=torch.float64), persistent=False)

    @property
    def device(self) -> torch.device:
        """Device that holds the statistics; features must be on it."""
        device: torch.device = next(self.buffers()).device
        return device

    @property
    def num_samples(self) -> int:
        """Number of rows in the statistics."""
        return 0 if self._counts.is_meta else int(self._counts[0])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def combined_with(self, batch: torch.Tensor, origin: Mean) -> CombinedStats:
        """The statistics after adding a float64 batch (n, dim). Changes nothing."""
        raise NotImplementedError

    def push(self, features: torch.Tensor) -> None:
        """Add features (n, dim), detached."""
        raise NotImplementedError

    @atomic
    def reset(self) -> None:
        """Remove all rows."""
        for buffer in self.buffers():
            buffer.zero_()

    @atomic
    def packed_state(self) -> torch.Tensor:
        """As in `TensorStateModule`."""
        return self._counts.to("cpu", copy=True)

    @atomic
    def set_packed_state(self, values: torch.Tensor) -> None:
        """As in `TensorStateModule`."""
        self._check_counts(values.tolist())
        if not all(buffer.isfinite().all() for buffer in self.buffers() if not buffer.is_meta):
            raise ValueError("the statistics hold NaN or infinity")
        device = next(buffer for name, buffer in self.named_buffers() if name != "_counts").device
        if self._counts.device != device:  # loaded with ``assign=True`` into a module on another device
            self._counts = torch.empty(3, dtype=torch.float64, device=device)
        self._counts.copy_(values)

    def _check_counts(self, counts: list[float]) -> None:
        if len(counts) != 3 or not all(map(math.isfinite, counts)):
            raise ValueError(f"the state must be 3 finite numbers, got {counts[:4]}")

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_samples={self.num_samples}"


class _QueueState(NamedTuple):
    """The counts of a queue."""

    #: Number of rows.
    num_rows: int
    #: Index at which the next row is stored; in a full queue that of the oldest row.
    next: int
    #: Rows added since mean and scatter were computed from the rows.
    since: int


class FeatureQueue(RunningStats):
    """Statistics of the last rows of a stream of features, including the current batch.

    The state is part of ``state_dict``, and stays as it is if a state is loaded that was saved without it. The queue
    moves with ``.to()`` and keeps its dtypes.

    Parameters
    ----------
    dim : int
        Number of columns.
    size : int
        Number of rows in the statistics, at least the size of the largest batch.
    dtype : torch.dtype, default torch.float32
        Type of the stored rows, ``size * dim`` numbers. The current batch is used in full precision.
    persistent : bool, default True
        Whether the state is part of ``state_dict``.

    Raises
    ------
    ValueError
        If `dim` is below 1, `size` is below 2, or `dtype` is not a floating-point type.

    Notes
    -----
    With up to ``dim`` rows the statistics are computed from the rows. With more rows, mean and scatter are kept in
    float64: new rows are merged and the oldest unmerged (Chan, Golub & LeVeque 1979). Every `size` rows, both are
    recomputed from the stored rows, so that rounding errors do not accumulate.
    """

    def __init__(self, dim: int, size: int, *, dtype: torch.dtype = torch.float32, persistent: bool = True) -> None:
        super().__init__()
        self.persistent = require_bool("persistent", persistent)
        size, dim = require_integer("size", size, 2), require_integer("dim", dim, 1, MAX_DIM)
        if not isinstance(dtype, torch.dtype) or dtype not in _FLOATS:
            raise ValueError(f"dtype must be float16, bfloat16, float32 or float64, got {shown(dtype)}")
        self.size = size
        self.dim = dim
        self.register_buffer("rows", torch.zeros(size, dim, dtype=dtype), persistent=persistent)
        rows_suffice = size <= dim
        for name, shape in (("mean", (dim,)), ("mean_low", (dim,)), ("scatter", (dim, dim))):
            buffer = None if rows_suffice else torch.zeros(shape, dtype=torch.float64)
            self.register_buffer(name, buffer, persistent=persistent)

    def _state(self) -> _QueueState:
        return _QueueState(*map(int, self._counts.tolist()))

    @atomic
    def combined_with(self, batch: torch.Tensor, origin: Mean) -> CombinedStats:
        """As in `RunningStats`; the batch replaces the oldest rows."""
        state = self._state()
        evicted = self._num_evicted(state, len(batch))
        kept = state.num_rows - evicted
        if kept == 0:
            return stats_of_rows(batch, origin)
        if kept + len(batch) <= self.dim:
            return stats_of_rows(torch.cat([self._oldest(state, state.num_rows)[evicted:], batch]), origin)
        weight, mean, scatter = self._exchanged(state, evicted, batch)
        return CombinedStats(weight, weight - 1, mean.minus(origin), None, scatter)

    @atomic
    def push(self, features: torch.Tensor) -> None:
        """Add a batch of features, which replaces the oldest rows.

        Parameters
        ----------
        features : (n, dim) tensor
            Of any floating-point type; detached.

        Raises
        ------
        TypeError, ValueError
            If the features are invalid, or have more than `size` rows. The queue stays unchanged.
        """
        rows = check_features(features, self.rows[0], "the queue").to(self.rows.dtype)
        n, state = len(rows), self._state()
        evicted = self._num_evicted(state, n)
        since = state.since + n
        if self.scatter is not None and since < self.size:
            _, mean, scatter = self._exchanged(state, evicted, rows.double())
            self._set_moments(mean, scatter)
        indices = (state.next + torch.arange(n, device=self.rows.device)) % self.size
        self.rows[indices] = rows
        count = state.num_rows - evicted + n
        if self.scatter is not None and since >= self.size:
            self._recompute(count)
            since = 0
        self._counts.copy_(self._counts.new_tensor([count, (state.next + n) % self.size, since]))

    def _num_evicted(self, state: _QueueState, n: int) -> int:
        """Number of rows that n new rows replace."""
        if n > self.size:
            raise ValueError(f"features have {n} rows, but the queue was created with size={self.size}")
        return max(0, state.num_rows + n - self.size)

    def _oldest(self, state: _QueueState, n: int) -> torch.Tensor:
        """The n oldest rows as float64, oldest first."""
        first = state.next - state.num_rows
        return self.rows[(first + torch.arange(n, device=self.rows.device)) % self.size].double()

    def _exchanged(self, state: _QueueState, evicted: int, rows: torch.Tensor) -> tuple[float, Mean, torch.Tensor]:
        """Count, mean and scatter without the oldest rows and with new ones. Changes nothing."""
        weight, mean, scatter = float(state.num_rows), Mean(self.mean, self.mean_low), self.scatter
        if 0 < evicted < state.num_rows:
            d, centred = centre(mean.subtracted_from(self._oldest(state, evicted)))
            kept = weight - evicted
            scatter = scatter - centred.T @ centred - (weight * evicted / kept) * torch.outer(d, d)
            weight, mean = kept, mean.plus(-d * (evicted / kept))
        elif evicted > 0:
            weight, scatter = 0.0, torch.zeros_like(scatter)
        return merge_rows(weight, mean, scatter, rows)

    def _recompute(self, count: int) -> None:
        """Compute mean and scatter from the rows."""
        weight, mean, scatter = 0.0, Mean(self.mean, self.mean_low), torch.zeros_like(self.scatter)
        for rows in self.rows[:count].split(_ROWS_AT_A_TIME):
            weight, mean, scatter = merge_rows(weight, mean, scatter, rows.double())
        self._set_moments(mean, scatter)

    def _set_moments(self, mean: Mean, scatter: torch.Tensor) -> None:
        self.mean.copy_(mean.high)
        self.mean_low.copy_(mean.low)
        self.scatter.copy_(scatter)

    def _check_counts(self, counts: list[float]) -> None:
        super()._check_counts(counts)
        state = _QueueState(*map(int, counts))
        if not (0 <= state.num_rows <= self.size and 0 <= state.next < self.size and state.since >= 0):
            raise ValueError(f"the state has {state.num_rows} rows, but the queue was created with size={self.size}")

    def extra_repr(self) -> str:
        return f"size={self.size}, {super().extra_repr()}"


class MovingMoments(RunningStats):
    """Mean and covariance of all rows with decaying weights: an exponential moving average without start-up bias.

    A row of the current batch has weight 1, a row of the batch before it `decay`, then ``decay**2`` and so on. With
    batches of n rows this corresponds to about ``n (1 + decay) / (1 - decay)`` rows of equal weight. The state is part
    of ``state_dict``, and stays as it is if a state is loaded that was saved without it. The statistics move with
    ``.to()`` and stay in float64.

    Parameters
    ----------
    dim : int
        Number of columns.
    decay : float
        From 0 (current batch only) to 1 (equal weights).
    persistent : bool, default True
        Whether the state is part of ``state_dict``.

    Raises
    ------
    ValueError
        If `dim` is below 1, or `decay` is not from 0 to 1.

    Notes
    -----
    With weights w, ``W = sum w`` and ``V = sum w^2``, the covariance is the weighted scatter about the weighted mean,
    divided by ``W - V / W``. It is unbiased for independent rows, and the divisor is ``n - 1`` if all weights are 1.
    The scatter includes the part between the means of the earlier rows and the batch, as in every merge (Chan, Golub &
    LeVeque 1979).
    """

    def __init__(self, dim: int, decay: float, *, persistent: bool = True) -> None:
        super().__init__()
        self.persistent = require_bool("persistent", persistent)
        dim = require_integer("dim", dim, 1, MAX_DIM)
        decay = require_real("decay", decay, lambda number: 0 <= number <= 1, "from 0 to 1")
        self.dim = dim
        self.decay = decay
        for name in ("mean", "mean_low"):
            self.register_buffer(name, torch.zeros(dim, dtype=torch.float64), persistent=persistent)
        self.register_buffer("scatter", torch.zeros(dim, dim, dtype=torch.float64), persistent=persistent)

    @atomic
    def combined_with(self, batch: torch.Tensor, origin: Mean) -> CombinedStats:
        """As in `RunningStats`; the weights of earlier rows are multiplied by `decay`."""
        _, weight, squares = self._counts.tolist()  # rows seen, and the sums of the weights and of their squares
        weight *= self.decay
        if weight == 0:
            return stats_of_rows(batch, origin)
        total, mean, scatter = merge_rows(weight, Mean(self.mean, self.mean_low), self.decay * self.scatter, batch)
        squares = self.decay**2 * squares + len(batch)
        return CombinedStats(total, total - squares / total, mean.minus(origin), None, scatter)

    @atomic
    def push(self, features: torch.Tensor) -> None:
        """Add a batch of features; the weights of earlier rows are multiplied by `decay`.

        Parameters
        ----------
        features : (n, dim) tensor
            Of any floating-point type; detached.

        Raises
        ------
        TypeError, ValueError
            If the features are invalid. The statistics stay unchanged.
        """
        batch = check_features(features, self.mean, "the moving average")
        seen, weight, squares = self._counts.tolist()
        weight *= self.decay
        total, mean, scatter = merge_rows(weight, Mean(self.mean, self.mean_low), self.decay * self.scatter, batch)
        self.mean.copy_(mean.high)
        self.mean_low.copy_(mean.low)
        self.scatter.copy_(scatter)
        squares = self.decay**2 * squares + len(batch)
        self._counts.copy_(self._counts.new_tensor([seen + len(batch), total, squares]))

    def extra_repr(self) -> str:
        return f"decay={self.decay}, {super().extra_repr()}"
