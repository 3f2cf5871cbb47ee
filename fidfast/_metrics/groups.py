"""Rows that belong together, such as the frames of a video: the jackknife leaves out whole groups."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast._arguments import as_array, shape_of_array, shown
from fidfast._inputs import Input

__all__ = ["MAX_BLOCKS", "Groups", "require_groups"]

#: The jackknife needs one distance for each block. With 40 of them the standard error is known to 11 %.
MAX_BLOCKS = 40


class Groups(NamedTuple):
    """The groups of the rows of one argument."""

    #: (n,) number of the group of each row.
    codes: NDArray[np.int64]
    #: Number of groups.
    number: int
    #: For each block of groups, its rows in ascending order.
    blocks: tuple[NDArray[np.int64], ...]

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Rows in each block."""
        return np.array([len(block) for block in self.blocks], dtype=float)

    @property
    def least_samples(self) -> float:
        """Number of independent samples if the rows of each group are equal: Kish (1965), section 8.2."""
        counts = np.bincount(self.codes).astype(float)
        return float(counts.sum() ** 2 / np.sum(counts**2))

    def same_as(self, other: Groups) -> bool:
        """Whether the same rows belong together."""
        return bool(np.array_equal(self.codes, other.codes))


def require_groups(groups: Any, inputs: Sequence[Input], *, paired: bool = False) -> list[Groups | None]:
    """The groups of each argument; None for one whose rows are independent."""
    if not isinstance(groups, tuple):
        others = [source.name for source in inputs[1:] if source.has_samples]
        if groups is not None and others:
            names = ", ".join(f"groups_of_{source.name}" for source in inputs)
            having = f"{' and '.join(others)} {'has' if len(others) == 1 else 'have'}"
            raise ValueError(
                f"groups must be a tuple ({names}), since {having} samples too; None stands for independent rows"
            )
        groups = (groups, *(None for _ in inputs[1:]))
    if len(groups) != len(inputs):
        raise ValueError(f"groups must have {len(inputs)} items, one for each of {_names(inputs)}; got {len(groups)}")
    found = [None if labels is None else _groups(labels, source) for labels, source in zip(groups, inputs, strict=True)]
    if paired and (found[0] is not None or found[1] is not None):
        one, two = found[:2]
        if one is None or two is None or not one.same_as(two):
            raise ValueError(
                f"groups of {inputs[0].name} and {inputs[1].name} must be equal, since their rows are paired"
            )
        found[1] = one  # the blocks follow from the names, and pairs must be in the same block
    return found


def _names(inputs: Sequence[Input]) -> str:
    return ", ".join(source.name for source in inputs)


def _groups(labels: Any, source: Input) -> Groups | None:
    source.check_rows("groups")
    texts = _texts(labels, f"groups of {source.name}")
    shape = shape_of_array(source.rows)
    n = shape[0] if len(shape) == 2 else source.finite_shape()[0]  # which raises
    if len(texts) != n:
        raise ValueError(f"groups of {source.name} has {len(texts)} labels, but {source.name} has {n} rows")
    names, first, codes = np.unique(texts, return_index=True, return_inverse=True)
    if len(names) == len(texts):
        return None  # every row is a group
    if len(names) < 2:
        raise ValueError(
            f"groups of {source.name} has 1 group; the jackknife leaves out one group and needs at least 2"
        )
    # A hash of the name makes the blocks random, but the same for the same names in any order.
    hashes = [(zlib.crc32(name.encode("utf-8", "surrogatepass")), name) for name in names.tolist()]
    order = sorted(range(len(names)), key=hashes.__getitem__)
    block_of_group = np.empty(len(names), dtype=np.int64)
    for number, members in enumerate(np.array_split(np.array(order), min(MAX_BLOCKS, len(names)))):
        block_of_group[members] = number
    block_of_row = block_of_group[codes]
    blocks = tuple(np.flatnonzero(block_of_row == number) for number in range(int(block_of_row.max()) + 1))
    # Numbered by their first rows, so that other names of the same groups have the same numbers.
    numbers = np.argsort(np.argsort(first))
    return Groups(numbers[codes], len(names), blocks)


def _texts(labels: Any, name: str) -> NDArray[np.str_]:
    """The labels as strings."""
    array = as_array(name, labels, "a sequence of integers or strings")
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D (n,), got shape {array.shape}")
    if array.dtype.kind in "iu":
        return array.astype(np.str_)
    if array.dtype.kind in "OUT":
        for label in labels:  # not of the array: NumPy converts NaN beside strings to a string
            if not isinstance(label, (str, Integral, os.PathLike)):
                raise TypeError(f"{name} must be integers or strings, got {shown(label)}")
        return np.array([str(label) for label in labels], dtype=np.str_)
    raise TypeError(f"{name} must be integers or strings, got {array.dtype}")
