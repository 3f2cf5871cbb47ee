"""Random subsets of the rows of two sets, as other tools draw them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["DRAWS"]

Rows = NDArray[np.int64]
Draw = Callable[[], tuple[Rows, Rows]]


def _like_torch_fidelity(n: int, m: int, size: int, seed: int | None) -> Draw:
    random = np.random.RandomState(seed)
    return lambda: (random.choice(n, size, replace=False), random.choice(m, size, replace=False))


def _like_torchmetrics(n: int, m: int, size: int, seed: int | None) -> Draw:
    import torch

    random = torch.default_generator if seed is None else torch.Generator().manual_seed(seed)

    def draw() -> tuple[Rows, Rows]:
        # The real images, which are the reference, are drawn first.
        real, fake = (torch.randperm(count, generator=random)[:size].numpy() for count in (m, n))
        return fake, real

    return draw


def _like_clean_fid(n: int, m: int, size: int, seed: int | None) -> Draw:
    choice = np.random.choice if seed is None else np.random.RandomState(seed).choice  # as clean-fid does

    def draw() -> tuple[Rows, Rows]:
        second, first = (choice(count, size, replace=False) for count in (m, n))
        return first, second

    return draw


#: For each tool, a function from the numbers of rows of samples and reference to a function that draws the rows of one
#: pair of subsets.
DRAWS: dict[str, Callable[[int, int, int, int | None], Draw]] = {
    "torch-fidelity": _like_torch_fidelity,
    "torchmetrics": _like_torchmetrics,
    "clean-fid": _like_clean_fid,
}
