"""Running statistics for the loss: of the last rows, or of all rows with decaying weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch

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
    """Statistics of a batch and the running statistics before it, in float64.

    A row of the batch has the weight ``1 / weight`` in the mean, and ``1 / divisor`` in the covariance about the mean.
    """

    #: Sum of the weights of all rows.
    weight: float
    #: The covariance is the scatter divided by this.
    divisor: float
    #: (dim,)
    mean: torch.Tensor
    #: (n, dim) all rows, the batch last, if they have equal weights and there are few; else None.
    rows: torch.Tensor | None
    #: (dim, dim) if `rows` is None.
    scatter: torch.Tensor | None


def stats_of_rows(rows: torch.Tensor) -> CombinedStats:
    """The statistics of float64 rows (n, dim) of equal weight."""
    return CombinedStats(len(rows), len(rows) - 1, rows.mean(dim=0), rows, None)


def check_features(features: Any, mean: torch.Tensor, owner: str) -> torch.Tensor:
    """Check features (n, dim) against the (dim,) tensor of `owner`, and return them as detached float64.

    The messages are those of `Moments.update`.
    """
    if not isinstance(features, torch.Tensor):
        raise TypeError(f"features must be a tensor (n, dim), got {type(features).__name__}")
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


class RunningStats(FixedDtypeModule, TensorStateModule):
    """Base of the running statistics that `FrechetLoss` accepts."""

    dim: int
    state_key = "counts"

    @property
    def device(self) -> torch.device:
        """Device that holds the statistics; features must be on it."""
        device: torch.device = next(self.buffers()).device
        return device

    @property
    def num_samples(self) -> int:
        """Number of rows in the statistics."""
        raise NotImplementedError

    def combined_with(self, batch: torch.Tensor) -> CombinedStats:
        """The statistics after adding a float64 batch (n, dim). Changes nothing."""
        raise NotImplementedError

    def push(self, features: torch.Tensor) -> None:
        """Add features (n, dim), detached."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_samples={self.num_samples}"


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
        self.persistent = persistent
        if size < 2:
            raise ValueError(f"size must be at least 2, got {size}")
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        if dtype not in _FLOATS:
            raise ValueError(f"dtype must be float16, bfloat16, float32 or float64, got {dtype}")
        self.size = size
        self.dim = dim
        self._count = 0
        self._next = 0  # index at which the next row is stored; in a full queue that of the oldest row
        self._since = 0  # rows added since mean and scatter were computed from the rows
        self.register_buffer("rows", torch.zeros(size, dim, dtype=dtype), persistent=persistent)
        rows_suffice = size <= dim
        for name, shape in (("mean", (dim,)), ("scatter", (dim, dim))):
            buffer = None if rows_suffice else torch.zeros(shape, dtype=torch.float64)
            self.register_buffer(name, buffer, persistent=persistent)

    @property
    def num_samples(self) -> int:
        """Number of rows in the queue."""
        return self._count

    def combined_with(self, batch: torch.Tensor) -> CombinedStats:
        """As in `RunningStats`; the batch replaces the oldest rows."""
        evicted = self._num_evicted(len(batch))
        kept = self._count - evicted
        if kept == 0:
            return stats_of_rows(batch)
        if kept + len(batch) <= self.dim:
            return stats_of_rows(torch.cat([self._oldest(self._count)[evicted:], batch]))
        weight, mean, scatter = self._exchanged(evicted, batch)
        return CombinedStats(weight, weight - 1, mean, None, scatter)

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
        n = len(rows)
        evicted = self._num_evicted(n)
        self._since += n
        if self.scatter is not None and self._since < self.size:
            _, mean, scatter = self._exchanged(evicted, rows.double())
            self.mean.copy_(mean)
            self.scatter.copy_(scatter)
        indices = (self._next + torch.arange(n, device=self.rows.device)) % self.size
        self.rows[indices] = rows
        self._count = self._count - evicted + n
        self._next = (self._next + n) % self.size
        if self.scatter is not None and self._since >= self.size:
            self._recompute()

    def reset(self) -> None:
        """Remove all rows."""
        self._count = self._next = self._since = 0
        for buffer in self.buffers():
            buffer.zero_()

    def _num_evicted(self, n: int) -> int:
        """Number of rows that n new rows replace."""
        if n > self.size:
            raise ValueError(f"features have {n} rows, but the queue was created with size={self.size}")
        return max(0, self._count + n - self.size)

    def _oldest(self, n: int) -> torch.Tensor:
        """The n oldest rows as float64, oldest first."""
        first = self._next - self._count
        return self.rows[(first + torch.arange(n, device=self.rows.device)) % self.size].double()

    def _exchanged(self, evicted: int, rows: torch.Tensor) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Count, mean and scatter without the oldest rows and with new ones. Changes nothing."""
        weight, mean, scatter = float(self._count), self.mean, self.scatter
        if 0 < evicted < self._count:
            evicted_mean, centred = _centre(self._oldest(evicted))
            d = evicted_mean - mean
            kept = weight - evicted
            scatter = scatter - centred.T @ centred - (weight * evicted / kept) * torch.outer(d, d)
            weight, mean = kept, mean - d * (evicted / kept)
        elif evicted > 0:
            weight, mean, scatter = 0.0, torch.zeros_like(mean), torch.zeros_like(scatter)
        return _merge_rows(weight, mean, scatter, rows)

    def _recompute(self) -> None:
        """Compute mean and scatter from the rows."""
        weight, mean, scatter = 0.0, torch.zeros_like(self.mean), torch.zeros_like(self.scatter)
        for rows in self.rows[: self._count].split(_ROWS_AT_A_TIME):
            weight, mean, scatter = _merge_rows(weight, mean, scatter, rows.double())
        self.mean.copy_(mean)
        self.scatter.copy_(scatter)
        self._since = 0

    def packed_state(self) -> torch.Tensor:
        """As in `TensorStateModule`."""
        return torch.tensor([self._count, self._next, self._since], dtype=torch.float64, device="cpu")

    def set_packed_state(self, values: torch.Tensor) -> None:
        """As in `TensorStateModule`."""
        count, index, since = (int(value) for value in _three_numbers(values))
        if not (0 <= count <= self.size and 0 <= index < self.size and since >= 0):
            raise ValueError(f"the state has {count} rows, but the queue was created with size={self.size}")
        self._count, self._next, self._since = count, index, since

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
        self.persistent = persistent
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be from 0 to 1, got {decay}")
        self.dim = dim
        self.decay = decay
        self._seen = 0
        self._weight = 0.0
        self._squares = 0.0
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64), persistent=persistent)
        self.register_buffer("scatter", torch.zeros(dim, dim, dtype=torch.float64), persistent=persistent)

    @property
    def num_samples(self) -> int:
        """Number of rows seen."""
        return self._seen

    def combined_with(self, batch: torch.Tensor) -> CombinedStats:
        """As in `RunningStats`; the weights of earlier rows are multiplied by `decay`."""
        weight = self.decay * self._weight
        if weight == 0:
            return stats_of_rows(batch)
        total, mean, scatter = _merge_rows(weight, self.mean, self.decay * self.scatter, batch)
        squares = self.decay**2 * self._squares + len(batch)
        return CombinedStats(total, total - squares / total, mean, None, scatter)

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
        weight = self.decay * self._weight
        total, mean, scatter = _merge_rows(weight, self.mean, self.decay * self.scatter, batch)
        self.mean.copy_(mean)
        self.scatter.copy_(scatter)
        self._seen += len(batch)
        self._weight = total
        self._squares = self.decay**2 * self._squares + len(batch)

    def reset(self) -> None:
        """Remove all rows."""
        self._seen, self._weight, self._squares = 0, 0.0, 0.0
        for buffer in self.buffers():
            buffer.zero_()

    def packed_state(self) -> torch.Tensor:
        """As in `TensorStateModule`."""
        return torch.tensor([self._seen, self._weight, self._squares], dtype=torch.float64, device="cpu")

    def set_packed_state(self, values: torch.Tensor) -> None:
        """As in `TensorStateModule`."""
        seen, self._weight, self._squares = _three_numbers(values)
        self._seen = int(seen)

    def extra_repr(self) -> str:
        return f"decay={self.decay}, {super().extra_repr()}"


def _three_numbers(values: torch.Tensor) -> list[float]:
    if len(values) != 3 or not values.isfinite().all():
        raise ValueError(f"the state must be 3 finite numbers, got {values.tolist()[:4]}")
    return values.tolist()


def _centre(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = rows.mean(dim=0)
    return mean, rows - mean


def _merge_rows(
    weight: float, mean: torch.Tensor, scatter: torch.Tensor, rows: torch.Tensor
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Weight, mean and scatter with rows of weight 1 added: Chan, Golub & LeVeque (1979), equation 2.1."""
    n = len(rows)
    batch_mean, centred = _centre(rows)
    d = batch_mean - mean
    total = weight + n
    scatter = scatter + centred.T @ centred + (weight * n / total) * torch.outer(d, d)
    return total, mean + d * (n / total), scatter
