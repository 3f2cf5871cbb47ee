"""Splits of predictions for the Inception Score, as in other tools."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fidfast._arguments import MAX_SEED, optional, require_choice, require_integer

__all__ = ["TOOLS", "seed_of", "split_edges", "split_of_rows"]

TOOLS = ("torch-fidelity", "torchmetrics", "improved-gan", "stylegan3")

_TORCH_FIDELITY_SEED = 2020


def split_edges(n: int, splits: int) -> NDArray[np.int64]:
    """(splits + 1,) first row of each of the equal parts of n rows, followed by n."""
    return np.arange(splits + 1, dtype=np.int64) * n // splits


def seed_of(like: str, seed: int | None) -> int | None:
    """The seed of the shuffle: the given one, or the tool's default. None: no shuffle, or torch's global generator."""
    return _TORCH_FIDELITY_SEED if seed is None and like == "torch-fidelity" else seed


def split_of_rows(n: int, splits: int, like: str, seed: int | None) -> NDArray[np.int64]:
    """(n,) split of each row, as the tool shuffles and splits them; there may be fewer than `splits`.

    Raises
    ------
    ValueError
        If the tool is unknown, or a seed is given for one that does not shuffle.
    """
    require_choice("like", like, TOOLS)
    seed = optional(require_integer, "seed", seed, 0, MAX_SEED)
    cuts = _edges_of_chunks(n, splits) if like == "torchmetrics" else split_edges(n, splits)
    split_of = np.empty(n, dtype=np.int64)
    split_of[_order(n, like, seed)] = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    return split_of


def _order(n: int, like: str, seed: int | None) -> NDArray[np.int64]:
    """The rows in the order in which the tool splits them."""
    if like == "torch-fidelity":
        random = np.random.RandomState(seed_of(like, seed))  # as torch-fidelity does
        return random.permutation(n)
    if like == "torchmetrics":
        import torch

        generator = None if seed is None else torch.Generator().manual_seed(seed)
        order: NDArray[np.int64] = torch.randperm(n, generator=generator).numpy()
        return order
    if seed is not None:
        raise ValueError(f"seed={seed} has no effect: {like} does not shuffle")
    return np.arange(n)


def _edges_of_chunks(n: int, splits: int) -> NDArray[np.int64]:
    """First rows of the parts of `torch.chunk`, and n."""
    return np.append(np.arange(0, n, -(-n // splits)), n)
