"""Sampling from a model during training, with the same seeds at every measurement and for any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from fidfast.torch._training.metric import FrechetDistance

__all__ = ["evaluation_mode", "require_at_least", "update_with_samples"]


def require_at_least(**arguments: tuple[int | None, int]) -> None:
    """Raise a ValueError if a value is below its minimum; arguments are ``name=(value, minimum)``, None is ignored."""
    for name, (value, minimum) in arguments.items():
        if value is not None and value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; restores the mode of every submodule."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def update_with_samples(
    metric: FrechetDistance,
    sample: Callable[[int], torch.Tensor],
    num_samples: int,
    *,
    batch_size: int,
    seed: int,
    rank: int,
    world_size: int,
) -> None:
    """Update the metric with this process's share of the samples.

    Batch i is drawn after ``torch.manual_seed(seed + i)``. All processes sample the same number of batches, since a
    sharded model needs all of them; surplus batches are discarded.

    Raises
    ------
    ValueError
        If `sample` returns another number of images than requested.
    """
    starts = range(0, num_samples, batch_size)
    for first in range(0, len(starts), world_size):
        batch = first + rank
        surplus = batch >= len(starts)
        n = 1 if surplus else min(batch_size, num_samples - starts[batch])
        torch.manual_seed(seed + batch)
        images = sample(n)
        if len(images) != n:
            raise ValueError(f"sample must return {n} images as requested, got {len(images)}")
        if not surplus:
            metric.update(images)
