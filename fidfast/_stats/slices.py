"""Features in slices of bounded size, so that a memory-mapped file is never loaded completely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["ROWS_PER_SLICE", "row_slices"]

ROWS_PER_SLICE = 8192


def row_slices(features: Any, n: int) -> Iterator[Any]:
    """The n rows in order. At most `ROWS_PER_SLICE` rows are returned as they are, and need not support slicing."""
    if n <= ROWS_PER_SLICE:
        yield features
        return
    for first in range(0, n, ROWS_PER_SLICE):
        yield features[first : first + ROWS_PER_SLICE]
