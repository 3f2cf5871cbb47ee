"""How the field's tools cut predictions into the splits of an Inception Score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["TOOLS", "edges", "split_of_rows"]

TOOLS = ("torch-fidelity", "torchmetrics", "improved-gan", "stylegan3")

_TORCH_FIDELITY_SEED = 2020


def edges(n: int, splits: int) -> NDArray[np.int64]:
    """Where each of the equal parts of n rows begins, and where the last ends, (splits + 1,)."""
    return np.arange(splits + 1, dtype=np.int64) * n // splits


def split_of_rows(n: int, splits: int, like: str, seed: int | None) -> NDArray[np.int64]:
    """The split of each of n rows, (n,), as the tool shuffles and cuts them; splits may be fewer than asked for.

    Raises
    ------
    ValueError
        If the tool is not known, or a seed is given to one that does not shuffle.
    """
    if like not in TOOLS:
        raise ValueError(f"unknown tool {like!r}; known are {', '.join(TOOLS)}")
    cuts = _edges_of_chunks(n, splits) if like == "torchmetrics" else edges(n, splits)
    split_of = np.empty(n, dtype=np.int64)
    split_of[_order(n, like, seed)] = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    return split_of


def _order(n: int, like: str, seed: int | None) -> NDArray[np.int64]:
    """The rows in the order in which the tool cuts them."""
    if like == "torch-fidelity":
        random = np.random.RandomState(_TORCH_FIDELITY_SEED if seed is None else seed)  # as it does
        return random.permutation(n)
    if like == "torchmetrics":
        import torch

        generator = None if seed is None else torch.Generator().manual_seed(seed)
        order: NDArray[np.int64] = torch.randperm(n, generator=generator).numpy()
        return order
    if seed is not None:
        raise ValueError(f"seed is an option of the tools that shuffle, not of {like}; got {seed}")
    return np.arange(n)


def _edges_of_chunks(n: int, splits: int) -> NDArray[np.int64]:
    """The same as `torch.chunk` cuts."""
    return np.append(np.arange(0, n, -(-n // splits)), n)
