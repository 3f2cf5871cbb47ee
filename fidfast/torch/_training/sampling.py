"""Samples of a model in training, the same ones at every measurement and for any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from fidfast.torch._training.metric import FrechetDistance

__all__ = ["require_at_least", "sampling", "take_samples"]


def require_at_least(**numbers: tuple[int | None, int]) -> None:
    """Raises a ValueError for a number below its least; None stands for one that is not given."""
    for argument, (value, least) in numbers.items():
        if value is not None and value < least:
            raise ValueError(f"{argument} must be at least {least}, got {value}")


@contextmanager
def sampling(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every submodule has its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def take_samples(
    metric: FrechetDistance,
    sample: Callable[[int], torch.Tensor],
    num_samples: int,
    *,
    batch_size: int,
    seed: int,
    rank: int,
    world_size: int,
) -> None:
    """Update the metric with this process's share of the samples; batch i comes after ``torch.manual_seed(seed + i)``.

    Every process samples as many batches as the others: where the model is sharded it needs them all. What is too
    much is left out.

    Raises
    ------
    ValueError
        If `sample` returns another number of images than it was asked for.
    """
    starts = range(0, num_samples, batch_size)
    for turn in range(0, len(starts), world_size):
        batch = turn + rank
        counts = batch < len(starts)
        n = min(batch_size, num_samples - starts[batch]) if counts else 1
        torch.manual_seed(seed + batch)
        images = sample(n)
        if len(images) != n:
            raise ValueError(f"sample was asked for {n} images, but returned {len(images)}")
        if counts:
            metric.update(images)
