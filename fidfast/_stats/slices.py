"""Features in slices of bounded size, so that a memory-mapped file is never loaded completely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["ROWS_PER_SLICE", "row_slices"]

ROWS_PER_SLICE = 8192


def row_slices(features: Any, n: int) -> Iterator[tuple[int, Any]]:
    """The number of the first row and the rows of each slice of n rows, in order.

    At most `ROWS_PER_SLICE` rows are one slice, the features themselves, which need not support slicing.
    """
    if n <= ROWS_PER_SLICE:
        yield 0, features
        return
    for first in range(0, n, ROWS_PER_SLICE):
        yield first, features[first : first + ROWS_PER_SLICE]
