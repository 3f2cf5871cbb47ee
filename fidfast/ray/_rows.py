"""Rows of a dataset by their numbers, and the kernel distance of random subsets, which needs few of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import MAX_SEED, optional, require_choice, require_integer, require_precision, require_real
from fidfast._inputs import Input, open_input, require_same_dim
from fidfast._metrics.kernel import SubsetKernelDistance
from fidfast._metrics.subsets import DRAWS
from fidfast.ray._columns import features_of
from fidfast.ray._datasets import errors_of_tasks, extractor_column, raising_for_dataset, without_broken
from fidfast.ray._sides import Reading, Side, in_order, list_of

__all__ = ["RowsOfDataset", "kid_subsets"]

#: Blocks from which rows are taken at the same time.
_TAKES = 16


class RowsOfDataset:
    """The features of a dataset in the order in which its stages return them.

    Parameters
    ----------
    side : Side
    column : str, optional
        By default that of the side.
    """

    def __init__(self, side: Side, column: str | None = None) -> None:
        side.keep_features()
        self._side = side
        self._column = column or side.column
        options = {"column": self._column}
        self._features = in_order(side.dataset).map_batches(
            _only_features, batch_size=None, batch_format="pyarrow", fn_kwargs=options
        )
        with errors_of_tasks(side.name):
            #: Number of rows; of images, of those that are not broken.
            self.num_rows = sum(n for _, n in self._blocks()) if side.reads_images else int(side.dataset.count())
        if self.num_rows == 0:
            raise ValueError(f"{side.name}: the dataset has no rows")

    def _blocks(self) -> Iterator[tuple[Any, int]]:
        """References to the blocks of features, and their numbers of rows."""
        for bundle in self._features.iter_internal_ref_bundles():
            for ref, metadata in zip(bundle.block_refs, bundle.metadata, strict=True):
                yield ref, metadata.num_rows

    @property
    def extractor(self) -> str:
        """The name of the extractor of images."""
        return str(self._side.dataset.take(1)[0][extractor_column(self._column)])

    def take(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """The rows (k, dim) of these numbers, which ascend; only they are moved.

        Raises
        ------
        ValueError
            If the dataset has other rows than before.
        """
        task = ray.remote(_rows_of_block).options(num_cpus=0, max_retries=-1, name="fidfast.ray: take rows")
        taken: list[Any] = []
        running: list[Any] = []
        first = 0
        with errors_of_tasks(self._side.name):
            for ref, count in self._blocks():
                low, high = np.searchsorted(indices, (first, first + count))
                if low < high:
                    taken.append(task.remote(ref, indices[low:high] - first))
                    running.append(taken[-1])
                    if len(running) > _TAKES:
                        _, running = ray.wait(running, fetch_local=False)
                first += count
            if first != self.num_rows:
                raise ValueError(
                    f"{self._side.name}: {self.num_rows:,} rows were counted, but {first:,} read: pass "
                    "dataset.materialize(), which keeps its rows"
                )
            return np.concatenate([ray.get(rows) for rows in taken])

    def take_all(self) -> NDArray[Any]:
        """All rows (n, dim)."""
        return self.take(np.arange(self.num_rows))


def _only_features(table: pa.Table, column: str) -> pa.Table:  # runs in a task
    """The features of the images that are not broken."""
    with raising_for_dataset():
        table = without_broken(table, column)[0]
    return pa.table({"features": table.column(column)})


def _rows_of_block(block: pa.Table, rows: NDArray[np.int64]) -> NDArray[Any]:  # runs in a task
    with raising_for_dataset():
        return np.concatenate(list(features_of(block.take(rows), "features")))


def kid_subsets(
    samples: Any,
    reference: Any,
    *,
    column: str | None = None,
    extractor: Any = None,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
    like: str = "torch-fidelity",
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    precision: str = "float32",
    num_gpus: float | None = None,
    concurrency: Any = None,
    **keywords: Any,
) -> SubsetKernelDistance:
    """Kernel distance over random subsets as other tools draw them, at least one side a Ray dataset.

    Parameters
    ----------
    samples, reference : ray.data.Dataset, array, tensor or path
        What is not a dataset holds features as in `fidfast.kid_subsets`.
    column, extractor, num_gpus, concurrency, **keywords
        As in `moments`, for the sides that are datasets.
    subsets, subset_size, seed, like, degree, gamma, coef0, precision
        As in `fidfast.kid_subsets`, but the seed must be given.

    Returns
    -------
    SubsetKernelDistance
        As `fidfast.kid_subsets` of the same rows in the order of the dataset, except that equal rows are not searched.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `moments` and `fidfast.kid_subsets`, and if a dataset has other rows when it is read again.

    Notes
    -----
    The rows are numbered in the order in which the stages of the dataset return them, with Ray's `preserve_order`, so
    that the same dataset gives the same subsets; a dataset that is shuffled without a seed does not. Only rows of
    subsets are moved to this process: at most ``subsets * subset_size`` of each side, 4 bytes a number. The rows are
    counted first, from metadata if possible.
    """
    reading = Reading("kid_subsets", column, list_of(extractor), num_gpus, concurrency, keywords)
    require_choice("like", like, tuple(DRAWS))
    require_precision(precision)
    degree = require_integer("degree", degree, 1, 100)
    gamma, coef0 = optional(require_real, "gamma", gamma), require_real("coef0", coef0)
    subsets = require_integer("subsets", subsets, 1, 1_000_000)
    subset_size = require_integer("subset_size", subset_size, 2)
    seed = require_integer("seed", seed, 0, MAX_SEED if like != "torchmetrics" else 2**62)
    sides = [_open_rows(source, name, reading) for name, source in (("samples", samples), ("reference", reference))]
    n, m = (side.num_rows for side in sides)
    name, least = ("samples", n) if n <= m else ("reference", m)
    size = min(subset_size, least) if like == "clean-fid" else subset_size
    if size > least:
        raise ValueError(f"subset_size must be at most {least}, the number of rows of {name}, got {size}")
    draw = DRAWS[like](n, m, size, seed)
    drawn = [draw() for _ in range(subsets)]
    rows, numbers = [], []
    for position, side in enumerate(sides):
        indices = np.array([pair[position] for pair in drawn])
        needed = np.unique(indices)
        rows.append(side.take(needed))
        numbers.append(np.searchsorted(needed, indices))
    require_same_dim(rows[0].shape[1], rows[1].shape[1], "samples", "reference")
    values = np.array(_core.kid_of_subsets(rows[0], rows[1], numbers[0], numbers[1], degree, gamma, coef0, precision))
    std = math.nan if subsets == 1 or size == n == m else float(values.std())
    return SubsetKernelDistance(float(values.mean()), std, values, size, seed, like)


class _RowsOfInput:
    """The features of an argument that is not a dataset."""

    def __init__(self, opened: Input) -> None:
        self._rows = opened.require_rows("kid_subsets")
        self.num_rows = opened.finite_shape()[0]

    def take(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """The rows (k, dim) of these numbers."""
        return _core.gather(self._rows, indices)


def _open_rows(source: Any, name: str, reading: Reading) -> RowsOfDataset | _RowsOfInput:
    if isinstance(source, ray.data.Dataset):
        return RowsOfDataset(Side(source, name, reading))
    return _RowsOfInput(open_input(source, name, rows=True))
