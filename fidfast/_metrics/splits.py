"""Splits of predictions for the Inception Score, as in other tools."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fidfast._arguments import MAX_INTEGER, MAX_SEED, optional, require_choice, require_integer

__all__ = ["TOOLS", "check_splits", "seed_of", "split_edges", "split_of_rows"]

TOOLS = ("torch-fidelity", "torchmetrics", "improved-gan", "stylegan3", "adm")

#: Rows of a split of guided-diffusion's evaluator.
_ADM_SPLIT_SIZE = 5000

_SPLITS = 10

_TORCH_FIDELITY_SEED = 2020


def check_splits(splits: int | None, split_size: int | None, most: int = MAX_INTEGER) -> tuple[int, int | None]:
    """The number of splits, 10 by default, or 0 and the number of rows of a split.

    Raises
    ------
    TypeError, ValueError
        If both are given, or one is not an integer of at least 1; `splits` must be at most `most`.
    """
    if splits is None and split_size is None:
        splits = _SPLITS
    splits = optional(require_integer, "splits", splits, 1, most)
    split_size = optional(require_integer, "split_size", split_size, 1)
    if splits is not None and split_size is not None:
        raise ValueError(f"give splits or split_size, not both; got splits={splits} and split_size={split_size}")
    return splits or 0, split_size


def split_edges(n: int, splits: int) -> NDArray[np.int64]:
    """(splits + 1,) first row of each of the equal parts of n rows, followed by n."""
    return np.arange(splits + 1, dtype=np.int64) * n // splits


def seed_of(like: str, seed: int | None) -> int | None:
    """The seed of the shuffle: the given one, or the tool's default. None: no shuffle, or torch's global generator."""
    return _TORCH_FIDELITY_SEED if seed is None and like == "torch-fidelity" else seed


def split_of_rows(n: int, splits: int | None, split_size: int | None, like: str, seed: int | None) -> NDArray[np.int64]:
    """(n,) split of each row, as the tool shuffles and splits them; there may be fewer than `splits`.

    Raises
    ------
    TypeError, ValueError
        If the numbers of rows and splits do not fit, the tool is unknown, or a seed is given for one that does not
        shuffle.
    """
    require_choice("like", like, TOOLS)
    seed = optional(require_integer, "seed", seed, 0, MAX_SEED)
    if like == "adm" and splits is None and split_size is None:
        split_size = _ADM_SPLIT_SIZE
    splits, split_size = check_splits(splits, split_size)
    if split_size is None and splits > n:
        raise ValueError(f"splits must be from 1 to the number of rows = {n}, got {splits}")
    if n == 0:
        raise ValueError("predictions has no rows")
    if split_size is None and like == "torchmetrics":
        split_size = -(-n // splits)  # of torch.chunk
    cuts = split_edges(n, splits) if split_size is None else np.append(np.arange(0, n, split_size), n)
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
