"""Features in slices of bounded size, so that a memory-mapped file is never loaded completely."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fidfast import _core
from fidfast._arguments import as_dense, shape_of_array
from fidfast._devices import to_host
from fidfast._files import Rows, rows_of_chunks

__all__ = ["ROWS_PER_SLICE", "as_rows", "row_slices", "update_in_slices"]

ROWS_PER_SLICE = 8192


def as_rows(features: Any) -> Any:
    """The features as `as_dense`, without the last two axes if they are a pooled feature map (n, dim, 1, 1).

    Arrays in chunks, such as those of zarr, are read in slices.
    """
    features = as_dense(features)
    shape = shape_of_array(features)
    if (rows := rows_of_chunks(features, shape)) is not None:
        return rows
    return features[:, :, 0, 0] if len(shape) == 4 and shape[2:] == (1, 1) else features


def row_slices(features: Any, n: int) -> Iterator[Any]:
    """The n rows in order. At most `ROWS_PER_SLICE` rows are returned as they are, and need not support slicing."""
    if n <= ROWS_PER_SLICE and not isinstance(features, Rows):
        yield features
        return
    for first in range(0, n, ROWS_PER_SLICE):
        yield features[first : first + ROWS_PER_SLICE]


def update_in_slices(update: Callable[[Any], None], features: Any, n: int) -> None:
    """Call `update` with each slice of n rows. Errors count the rows of NaN from the first slice."""
    first = 0
    for rows in map(to_host, row_slices(features, n)):
        try:
            update(rows)
        except ValueError:
            if first > 0:
                _core.require_finite(rows, first_row=first, for_moments=True)
            raise
        first += ROWS_PER_SLICE
