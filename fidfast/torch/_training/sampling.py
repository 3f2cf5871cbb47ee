"""Sampling from a model, with the same seeds at every measurement and for any number of processes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from fidfast._arguments import require_bool, require_callable, require_integer
from fidfast._progress import progress_bar
from fidfast.torch._extractors.networks import evaluating
from fidfast.torch._images.pixels import image_batch
from fidfast.torch._processes.reduction import rank_and_size

__all__ = ["draw_samples", "evaluation_mode", "require_at_least", "seed_of_batch"]


def require_at_least(**arguments: tuple[Any, int]) -> None:
    """Raise an error unless each value is an integer of at least its minimum: ``name=(value, minimum)``."""
    for name, (value, minimum) in arguments.items():
        require_integer(name, value, minimum)


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients; restores the mode of every submodule.

    Applies to a module, or to the module that a bound method belongs to; other callables have no mode.
    """
    with evaluating(model), torch.no_grad():
        yield


def draw_samples(
    generator: Callable[[int], torch.Tensor],
    num_samples: int,
    add: Callable[[torch.Tensor, int | None], None],
    *,
    batch_size: int,
    seed: int,
    device: torch.device,
    group: Any = None,
    sync: bool = True,
    progress: bool = False,
) -> None:
    """Draw this process's share of the samples.

    Batch i is drawn by process ``i % size`` of the group, under a copy of torch's random state that is seeded from
    `seed` and i; then the state is restored. So the samples do not depend on the number of processes. All processes
    draw the same number of batches, since a sharded model needs all of them.

    Parameters
    ----------
    generator : callable
        ``generator(n)`` returns n images. Called without gradients; a module, or the module of a bound method, is in
        evaluation mode.
    num_samples : int
        Number of samples of all processes; the last batch is smaller if `batch_size` does not divide it.
    add : callable
        ``add(images, first)``, called with each batch and the index of its first image among all samples. For a surplus
        batch of one image, which does not count, `first` is None.
    batch_size, seed : int
    device : torch.device
        If it is a CUDA device, the generators of CUDA are seeded. They are seeded too if CUDA is already initialised.
    group : torch.distributed.ProcessGroup, optional
    sync : bool, default True
        Whether the processes share the samples. If not, this process draws all.
    progress : bool, default False
        Whether the first process shows a progress bar of its share.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or the generator returns anything but n images.
    """
    require_callable("generator", generator, "generator(n) returns n images")
    require_at_least(batch_size=(batch_size, 1), num_samples=(num_samples, 1))
    require_integer("seed", seed)
    sync, progress = require_bool("sync", sync), require_bool("progress", progress)
    rank, size = rank_and_size(group, sync)
    starts = range(0, num_samples, batch_size)
    share = sum(min(batch_size, num_samples - start) for start in starts[rank::size])
    with evaluation_mode(generator), progress_bar(share, progress and rank == 0) as bar:
        for batch in range(rank, rank + len(starts), size):
            surplus = batch >= len(starts)
            n = 1 if surplus else min(batch_size, num_samples - starts[batch])
            with _seeded(seed_of_batch(seed, batch), device):
                images = generator(n)
            images = image_batch(images, "images of the generator")
            if len(images) != n:
                raise ValueError(f"the generator must return {n} images as requested, got {len(images)}")
            add(images, None if surplus else starts[batch])
            bar.update(0 if surplus else n)


def seed_of_batch(seed: int, batch: int) -> int:
    """Seed of a batch: consecutive numbers for the batches of a run, from a start that is a hash of `seed`.

    Batches of one run have different seeds, and so have, but for coincidence, batches of runs with different seeds.
    """
    # torch's generator on CPUs uses the low 32 bits.
    start = np.random.SeedSequence(operator.index(seed) % 2**64).generate_state(1, np.uint32)[0]
    return (int(start) + batch) % 2**32


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators, and restore their states at the end."""
    # torch.manual_seed would also seed CUDA at its later initialisation, and so change the caller's random numbers.
    cuda = device.type == "cuda" or torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if cuda else ()):
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed_all(seed)
        yield
