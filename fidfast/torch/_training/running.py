"""The statistics of features that went before a batch: those of the last rows, or of all with weights that decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch

__all__ = ["FeatureQueue", "MovingMoments"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_ROWS_AT_A_TIME = 4096
_Self = TypeVar("_Self", bound="Uncast")


class Joined(NamedTuple):
    """The statistics of a batch and of what went before it, in float64.

    Row i of the batch has the weight 1 of `weight` in all: it is 1 / weight of the mean, and 1 / divisor of the
    covariance about that mean.
    """

    weight: float
    #: The covariance is the scatter divided by this.
    divisor: float
    #: (dim,)
    mean: torch.Tensor
    #: (n, dim) the rows that are the statistics, the batch last; None where there are too many.
    rows: torch.Tensor | None
    #: (dim, dim) where `rows` is None.
    scatter: torch.Tensor | None


def joined_rows(rows: torch.Tensor) -> Joined:
    """The statistics of rows (n, dim) of float64 and of equal weight."""
    return Joined(len(rows), len(rows) - 1, rows.mean(dim=0), rows, None)


def checked(features: Any, mean: torch.Tensor, owner: str) -> torch.Tensor:
    """The features (n, dim) as float64 without their history, where they fit `mean` (dim,) of their owner.

    Errors are in the words of `Moments.update`.
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


class Uncast(torch.nn.Module):
    """A module whose buffers move between devices and keep their types, so that ``.half()`` costs them no digits."""

    def _apply(self: _Self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> _Self:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            if buffer is not None and not buffer.is_meta:
                self._buffers[name] = buffer.to(self._buffers[name].device)
        return self


class Running(Uncast):
    """What `frechet_loss` takes as `moments`."""

    dim: int

    @property
    def device(self) -> torch.device:
        """Where the features must be."""
        device: torch.device = next(self.buffers()).device
        return device

    @property
    def num_samples(self) -> int:
        """Number of rows that the statistics hold, those of the next batch apart."""
        raise NotImplementedError

    def joined(self, batch: torch.Tensor) -> Joined:
        """The statistics as they are once the batch (n, dim) of float64 is part of them. Changes nothing."""
        raise NotImplementedError

    def push(self, features: torch.Tensor) -> None:
        """Take in features (n, dim), without their history."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_samples={self.num_samples}"


class FeatureQueue(Running):
    """The last rows of a stream of features, the batch at hand included.

    Its state goes into ``state_dict``, it moves with ``.to()`` and keeps its types.

    Parameters
    ----------
    size : int
        Number of rows whose statistics are taken; the largest batch there may be.
    dim : int
        Number of columns.
    dtype : torch.dtype, default torch.float32
        In which rows are kept, ``size * dim`` numbers of it. The batch at hand counts in full.

    Raises
    ------
    ValueError
        If `size` is below 2, `dim` is below 1, or `dtype` is no floating-point type.

    Notes
    -----
    Up to ``dim`` rows are the statistics themselves. From more rows on, mean and scatter are kept in float64: new rows
    are merged and the oldest unmerged (Chan, Golub & LeVeque 1979), and every `size` rows both are made anew from what
    the queue holds, so that no rounding adds up.
    """

    def __init__(self, size: int, dim: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if size < 2:
            raise ValueError(f"size must be at least 2, got {size}")
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        if dtype not in _FLOATS:
            raise ValueError(f"dtype must be float16, bfloat16, float32 or float64, got {dtype}")
        self.size = size
        self.dim = dim
        self._count = 0
        self._next = 0  # where the next row goes: the oldest is there once the queue is full
        self._since = 0  # rows taken in since mean and scatter were made from the rows
        self.register_buffer("rows", torch.zeros(size, dim, dtype=dtype))
        of_rows = size <= dim  # which then are the statistics at all times
        self.register_buffer("mean", None if of_rows else torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("scatter", None if of_rows else torch.zeros(dim, dim, dtype=torch.float64))

    @property
    def num_samples(self) -> int:
        """Number of rows in the queue."""
        return self._count

    def joined(self, batch: torch.Tensor) -> Joined:
        """As in `Running`; the oldest rows make room for the batch."""
        gone = self._making_room(len(batch))
        kept = self._count - gone
        if kept == 0:
            return joined_rows(batch)
        if kept + len(batch) <= self.dim:
            return joined_rows(torch.cat([self._oldest(self._count)[gone:], batch]))
        weight, mean, scatter = self._moved_on(gone, batch)
        return Joined(weight, weight - 1, mean, None, scatter)

    def push(self, features: torch.Tensor) -> None:
        """Take in a batch of features; the oldest rows make room.

        Parameters
        ----------
        features : (n, dim) tensor
            Of any floating-point type; their history is not kept.

        Raises
        ------
        TypeError, ValueError
            If they are no such features, or more than `size` rows. The queue stays as it was.
        """
        kept = checked(features, self.rows[0], "the queue").to(self.rows.dtype)
        n = len(kept)
        gone = self._making_room(n)
        self._since += n
        if self.scatter is not None and self._since < self.size:
            _, mean, scatter = self._moved_on(gone, kept.double())
            self.mean.copy_(mean)
            self.scatter.copy_(scatter)
        places = (self._next + torch.arange(n, device=self.rows.device)) % self.size
        self.rows[places] = kept
        self._count = self._count - gone + n
        self._next = (self._next + n) % self.size
        if self.scatter is not None and self._since >= self.size:
            self._make_anew()

    def reset(self) -> None:
        """Forget every row."""
        self._count = self._next = self._since = 0
        for buffer in self.buffers():
            buffer.zero_()

    def _making_room(self, n: int) -> int:
        """How many rows leave for n others."""
        if n > self.size:
            raise ValueError(f"features have {n} rows, but the queue was created with size={self.size}")
        return max(0, self._count + n - self.size)

    def _oldest(self, n: int) -> torch.Tensor:
        """The n oldest rows as float64, oldest first."""
        first = self._next - self._count
        return self.rows[(first + torch.arange(n, device=self.rows.device)) % self.size].double()

    def _moved_on(self, gone: int, rows: torch.Tensor) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Count, mean and scatter without the `gone` oldest rows and with others; changes nothing."""
        weight, mean, scatter = float(self._count), self.mean, self.scatter
        if 0 < gone < self._count:
            out, centred = _centred(self._oldest(gone))
            d = out - mean
            rest = weight - gone
            scatter = scatter - centred.T @ centred - (weight * gone / rest) * torch.outer(d, d)
            weight, mean = rest, mean - d * (gone / rest)
        elif gone > 0:
            weight, mean, scatter = 0.0, torch.zeros_like(mean), torch.zeros_like(scatter)
        return _merged(weight, mean, scatter, rows)

    def _make_anew(self) -> None:
        """Mean and scatter from the rows."""
        weight, mean, scatter = 0.0, torch.zeros_like(self.mean), torch.zeros_like(self.scatter)
        for part in self.rows[: self._count].split(_ROWS_AT_A_TIME):
            weight, mean, scatter = _merged(weight, mean, scatter, part.double())
        self.mean.copy_(mean)
        self.scatter.copy_(scatter)
        self._since = 0

    def get_extra_state(self) -> dict[str, int]:
        """What is no tensor."""
        return {"count": self._count, "next": self._next, "since": self._since}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """The inverse of `get_extra_state`."""
        count, place, since = int(state["count"]), int(state["next"]), int(state["since"])
        if not (0 <= count <= self.size and 0 <= place < self.size and since >= 0):
            raise ValueError(f"the state has {count} rows, but the queue was created with size={self.size}")
        self._count, self._next, self._since = count, place, since

    def extra_repr(self) -> str:
        return f"size={self.size}, {super().extra_repr()}"


class MovingMoments(Running):
    """Mean and covariance of all rows so far, whose weights decay: a moving average without a start to correct.

    A row of the batch at hand has weight 1, one of the batch before it `decay`, then ``decay**2`` and so on. Where
    all batches have n rows, this is worth about ``n (1 + decay) / (1 - decay)`` rows of equal weight. Its state goes
    into ``state_dict``, it moves with ``.to()`` and stays in float64.

    Parameters
    ----------
    dim : int
        Number of columns.
    decay : float
        From 0, the batch alone, to 1, all rows alike.

    Raises
    ------
    ValueError
        If `dim` is below 1, or `decay` is not from 0 to 1.

    Notes
    -----
    With weights w, ``W = sum w`` and ``V = sum w^2``, the covariance is the weighted scatter about the weighted mean
    divided by ``W - V / W``, which is unbiased for independent rows and ``n - 1`` where all weights are 1. The scatter
    holds the part between the means of past and batch, as it does in every merge.
    """

    def __init__(self, dim: int, decay: float) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be from 0 to 1, got {decay}")
        self.dim = dim
        self.decay = decay
        self._seen = 0
        self._weight = 0.0
        self._squares = 0.0
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(dim, dim, dtype=torch.float64))

    @property
    def num_samples(self) -> int:
        """Number of rows seen."""
        return self._seen

    def joined(self, batch: torch.Tensor) -> Joined:
        """As in `Running`; the rows so far lose weight by `decay`."""
        weight = self.decay * self._weight
        if weight == 0:
            return joined_rows(batch)
        total, mean, scatter = _merged(weight, self.mean, self.decay * self.scatter, batch)
        squares = self.decay**2 * self._squares + len(batch)
        return Joined(total, total - squares / total, mean, None, scatter)

    def push(self, features: torch.Tensor) -> None:
        """Take in a batch of features; the rows so far lose weight by `decay`.

        Parameters
        ----------
        features : (n, dim) tensor
            Of any floating-point type; their history is not kept.

        Raises
        ------
        TypeError, ValueError
            If they are no such features. The moments stay as they were.
        """
        batch = checked(features, self.mean, "the moving average")
        weight = self.decay * self._weight
        total, mean, scatter = _merged(weight, self.mean, self.decay * self.scatter, batch)
        self.mean.copy_(mean)
        self.scatter.copy_(scatter)
        self._seen += len(batch)
        self._weight = total
        self._squares = self.decay**2 * self._squares + len(batch)

    def reset(self) -> None:
        """Forget every row."""
        self._seen, self._weight, self._squares = 0, 0.0, 0.0
        for buffer in self.buffers():
            buffer.zero_()

    def get_extra_state(self) -> dict[str, float]:
        """What is no tensor."""
        return {"seen": self._seen, "weight": self._weight, "squares": self._squares}

    def set_extra_state(self, state: dict[str, float]) -> None:
        """The inverse of `get_extra_state`."""
        self._seen, self._weight, self._squares = int(state["seen"]), float(state["weight"]), float(state["squares"])

    def extra_repr(self) -> str:
        return f"decay={self.decay}, {super().extra_repr()}"


def _centred(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = rows.mean(dim=0)
    return mean, rows - mean


def _merged(
    weight: float, mean: torch.Tensor, scatter: torch.Tensor, rows: torch.Tensor
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Weight, mean and scatter with rows of weight 1 added: Chan, Golub & LeVeque (1979), equation 2.1."""
    n = len(rows)
    batch_mean, centred = _centred(rows)
    d = batch_mean - mean
    total = weight + n
    scatter = scatter + centred.T @ centred + (weight * n / total) * torch.outer(d, d)
    return total, mean + d * (n / total), scatter
