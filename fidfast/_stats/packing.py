"""Moments as one array of float64, for checkpoints and messages that hold arrays only.

`pack` returns an array that is no longer than needed. It is empty for moments without rows. Otherwise it holds four
counts (rows in mean and scatter, pending float32 rows, pending float64 rows, product errors); mean, low digits of the
mean, and scatter if the first count is not zero; the pending rows; and the product errors. Packing and unpacking are
lossless.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._stats.moments import Moments
from fidfast._warnings import warn_user

__all__ = ["pack", "pack_blocks", "unpack", "unpack_blocks"]

#: Number of bytes of the extractor's name that `pack_blocks` keeps.
_NAME_BYTES = 256


def pack(moments: Moments) -> NDArray[np.float64]:
    """All rows of the moments, without dim, precision and extractor, as an array (k,)."""
    if moments.num_samples == 0:
        return np.empty(0)
    state = moments.merged_blocks().state()
    rows: list[NDArray[Any]] = [state["0/narrow_rows"], state["0/wide_rows"]]
    folded = [state["0/mean"], state["0/mean_low"], state["0/scatter"]] if state["0/count"] > 0 else []
    rest = [*rows, state["0/product_errors"]]
    counts = np.array([state["0/count"], *(len(part) for part in rest)])
    return np.concatenate([part.reshape(-1) for part in (counts, *folded, *rest)], dtype=np.float64)


def unpack(values: NDArray[np.float64], dim: int, *, precision: str, extractor: str | None) -> Moments:
    """Inverse of `pack`.

    Raises
    ------
    ValueError
        If the length of the array does not match `dim`.
    """
    if values.size == 0:
        return Moments(dim, precision=precision, extractor=extractor)
    counts = (*values[:4].tolist(), 0.0, 0.0, 0.0)[:4]
    if not all(value.is_integer() and 0 <= value <= 2**53 for value in counts):
        raise ValueError(f"the state is damaged: its numbers of rows are {counts}")
    count, narrow, wide, num_errors = map(int, counts)
    columns = (1, 1, dim, narrow, wide) if count > 0 else (0, 0, 0, narrow, wide)
    needed = 4 + dim * sum(columns) + num_errors
    if len(values) != needed:
        n = count + narrow + wide
        raise ValueError(f"the state has {len(values)} numbers, but {n} rows with dim={dim} need {needed}")
    mean, mean_low, scatter, narrow_rows, wide_rows, errors = np.split(values[4:], np.cumsum(columns) * dim)
    return Moments.from_state(
        {
            "dim": np.asarray(dim),
            "precision": np.asarray(precision),
            "extractor": np.asarray(extractor or ""),
            "0/count": np.asarray(count),
            "0/narrow_rows": narrow_rows.reshape(-1, dim).astype(np.float32),
            "0/wide_rows": wide_rows.reshape(-1, dim),
            "0/mean": mean,
            "0/mean_low": mean_low,
            "0/scatter": scatter.reshape(-1, dim),
            "0/product_errors": errors,
        }
    )


def pack_blocks(moments: Moments) -> NDArray[np.float64]:
    """Moments with their blocks, precision and extractor, as an array (k,).

    Its length depends on dim and number of blocks, unless there are pending rows of several dtypes: code that averages
    or loads states in place expects equal shapes. Unused memory is not touched.
    """
    moments = copy.copy(moments)  # other threads may add rows meanwhile
    dim, blocks = moments.dim, [pack(block) for block in moments.blocks]
    name = (moments.extractor or "").encode()[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0")
    header = [dim, moments.precision == "float64", len(blocks), *name, *(len(block) for block in blocks)]
    values = np.zeros(max(_reserved(dim, len(blocks)), len(header) + sum(map(len, blocks))))
    values[: len(header)] = header
    first = len(header)
    for block in blocks:
        values[first : first + len(block)] = block
        first += len(block)
    return values


def unpack_blocks(
    values: NDArray[np.float64], dim: int | None = None, blocks: int | None = None, *, extractor: str | None = None
) -> Moments:
    """Inverse of `pack_blocks`; without `extractor` the result has the packed name.

    Raises
    ------
    ValueError
        If the array has another dim or number of blocks than is given, or is damaged.

    Warns
    -----
    UserWarning
        If the packed moments are of another extractor.
    """
    if len(values) < 3 + _NAME_BYTES or not np.isfinite(values).all():
        raise ValueError(f"the state of {len(values)} numbers is damaged")
    if not np.array_equal(values[:3], values[:3].round()):
        raise ValueError(f"the state is damaged: dim, precision and blocks are {values[:3].tolist()}")
    found_dim, is_float64, found_blocks = (int(value) for value in values[:3])
    if dim is not None and found_dim != dim:
        raise ValueError(f"the state has dim {found_dim}, but the reference has dim {dim}")
    if blocks is not None and found_blocks != blocks:
        raise ValueError(
            f"the state has {found_blocks} blocks, but the metric has {blocks}: "
            f"create it with blocks={found_blocks} to continue"
        )
    least = _reserved(found_dim, found_blocks)
    if min(found_dim, found_blocks) < 1 or len(values) < least:
        raise ValueError(f"the state is damaged: {len(values)} numbers for dim {found_dim} and {found_blocks} blocks")
    name = bytes(int(value) & 255 for value in values[3 : 3 + _NAME_BYTES]).rstrip(b"\0").decode(errors="ignore")
    values = values[3 + _NAME_BYTES :]
    lengths = [int(length) for length in values[:found_blocks]]
    values = values[found_blocks:]
    if min(lengths) < 0 or sum(lengths) > len(values):
        raise ValueError(f"the state is damaged: {found_blocks} blocks of {lengths} numbers, but {len(values)} numbers")
    precision = "float64" if is_float64 else "float32"
    parts = np.split(values[: sum(lengths)], np.cumsum(lengths[:-1]))
    adopted = extractor or name or None
    moments = Moments.from_blocks([unpack(part, found_dim, precision=precision, extractor=adopted) for part in parts])
    if name and extractor and name != extractor.encode()[:_NAME_BYTES].decode(errors="ignore"):
        warn_user(f"the state is of the extractor {name!r}, but the metric has {extractor!r}")
    return moments


def _reserved(dim: int, blocks: int) -> int:
    """Least number of numbers that `pack_blocks` returns: for fewer pending rows than a block."""
    return 3 + _NAME_BYTES + blocks + blocks * (4 + dim * (3 + dim + _core.ROWS_PER_BLOCK))
