"""The blocks of moments: their states as named arrays, and changes of all blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core

__all__ = ["blocks_of_state", "change_all", "state_of_blocks"]


def state_of_blocks(blocks: Sequence[_core.Moments], extractor: str | None) -> dict[str, NDArray[Any]]:
    """The entries that `Moments.state` documents."""
    described = {"dim": blocks[0].dim, "precision": blocks[0].precision, "extractor": extractor or ""}
    arrays: dict[str, Any] = {
        f"{k}/{key}": value
        for k, block in enumerate(blocks)
        for key, value in block.state().items()
        if key not in described
    }
    return {key: np.asarray(value) for key, value in {**described, **arrays}.items()}


def blocks_of_state(state: Mapping[str, NDArray[Any]]) -> tuple[list[_core.Moments], str | None]:
    """Inverse of `state_of_blocks`. The core checks each block."""
    shared = {"dim": int(state["dim"]), "precision": str(state["precision"])}
    blocks: dict[str, dict[str, Any]] = {}
    for key, value in state.items():
        block, slash, name = key.partition("/")
        if slash:
            array = np.asarray(value)
            blocks.setdefault(block, dict(shared))[name] = int(array) if name == "count" else array
    cores = [_core.Moments.from_state(blocks[str(k)]) for k in range(len(blocks))]  # type: ignore[arg-type]
    return cores, str(state["extractor"]) or None


def change_all(operation: str, pairs: Sequence[tuple[_core.Moments, _core.Moments]]) -> None:
    """Merge or unmerge each pair. If one call raises, or is interrupted, no block changes."""
    blocks = [block for block, _ in pairs]
    changed = blocks if len(blocks) == 1 else [block.copy() for block in blocks]
    for block, (_, other) in zip(changed, pairs, strict=True):
        getattr(block, operation)(other)
    if len(blocks) > 1:
        type(blocks[0]).exchange(blocks, changed)
