"""The Fréchet distance of datasets with its error bar."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from fidfast._arguments import require_precision
from fidfast._inputs import warn_of_extractors
from fidfast._metrics.duplicates import equal_keys
from fidfast._metrics.jackknife import Jackknife, RowJackknife
from fidfast._metrics.replicates import RowSums
from fidfast._metrics.uncertainty import Estimate, estimate_from_jackknife
from fidfast.ray._columns import features_of
from fidfast.ray._datasets import ROWS_PER_PART, errors_of_tasks, raising_for_dataset, without_broken
from fidfast.ray._sides import Reading, Side, list_of, open_sides

__all__ = ["estimate"]

#: Rows of a side that are searched for equal ones: 16 MB of keys.
_MOST_KEYS = 2_000_000

#: Rows whose keys are computed together.
_ROWS_AT_ONCE = 1024


def estimate(
    samples: Any,
    reference: Any,
    *,
    column: str | None = None,
    extractor: Any = None,
    precision: str = "float64",
    num_gpus: float | None = None,
    concurrency: Any = None,
    **keywords: Any,
) -> Estimate:
    """Fréchet distance with its standard error and its bias, at least one side a Ray dataset.

    Parameters
    ----------
    samples, reference : ray.data.Dataset, array, tensor, Moments, GaussianStats or path
        What is not a dataset is used as by `fidfast.estimate`. Datasets are samples, and contribute to error and bias.
    column, extractor, precision, num_gpus, concurrency, **keywords
        As in `moments`, for the sides that are datasets.

    Returns
    -------
    Estimate
        As `fidfast.estimate` of the same rows. Of more than 2,000,000 rows, equal ones are counted among a part of
        them, and `shared_rows` is an estimate.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `moments` and `fidfast.estimate`, and if a dataset has other rows when it is read again.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors, or images were skipped.

    Notes
    -----
    Two passes: the moments of both sides, then the distance without each row, of which only sums return. Datasets of
    features are read twice; the features of images are computed once and kept in Ray's object store, 4 bytes a number,
    which spills them to disk if they do not fit. Each process of the second pass first decomposes the covariances, as
    long as three times `fidfast.fid`.
    """
    precision = require_precision(precision)
    reading = Reading("estimate", column, list_of(extractor), num_gpus, concurrency, keywords)
    inputs, sides = open_sides({"samples": samples, "reference": reference}, reading, precision, keep=True)
    names = list(inputs)
    one, two = inputs.values()
    warn_of_extractors(one, two)
    counts = one.num_samples or 0, two.num_samples or 0
    one_in = 2 ** max(0, math.ceil(math.log2(max(*counts, 1) / _MOST_KEYS)))
    passes = {
        position: _SecondPass(sides[name], position, counts[position], one_in)
        for position, name in enumerate(names)
        if name in sides
    }
    jackknife = Jackknife(one, two, precision, sums_elsewhere=passes)
    if any(side.rows is None and position not in passes for position, side in enumerate((one, two))):
        return estimate_from_jackknife(jackknife, None)
    keys = [
        passes[position].keys
        if position in passes
        else _sampled(np.concatenate(list(map(_keys_of, side.float64_slices()))), one_in)
        for position, side in enumerate((one, two))
    ]
    equal = equal_keys((keys[0], keys[1]), (one.name, two.name), one_in=one_in)
    return estimate_from_jackknife(jackknife, equal)


@functools.lru_cache(maxsize=1)
def _core_of(reference: Any) -> tuple[RowJackknife, Any]:
    """What a `RowJackknife` in the object store computes with; once in a process."""
    jackknife = ray.get(reference)
    return jackknife, jackknife.core()


def _sums_of_batch(
    table: pa.Table, references: list[Any], side: int, column: str, one_in: int
) -> pa.Table:  # runs in a task
    """One row for each array of features: its sums, and the keys of some of its rows."""
    with raising_for_dataset():
        jackknife, core = _core_of(references[0])
        table = without_broken(table, column)[0]
        sums, keys = [], []
        for features in features_of(table, column):
            sums.append(_numbers_of(jackknife.sums(core, side, features)))
            keys.append(_sampled(_keys_of(features), one_in))
    return pa.table({"sums": pa.array(sums, pa.list_(pa.float64())), "keys": pa.array(keys, pa.large_list(pa.int64()))})


def _keys_of(features: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) a key of each row, the same in all processes: equal for equal numbers of any type, and for 0 and -0.

    A sum of products with odd random numbers, after the bits of each number were mixed as in MurmurHash3.
    """
    dim = int(np.prod(features.shape[1:]))
    factors = np.random.default_rng(0).integers(0, 2**64, dim, np.uint64) | np.uint64(1)
    keys = np.empty(len(features), np.uint64)
    for first in range(0, len(features), _ROWS_AT_ONCE):
        rows = features[first : first + _ROWS_AT_ONCE].reshape(-1, dim).astype(np.float64) + 0.0  # -0 becomes 0
        bits = rows.view(np.uint64)
        for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53)):
            bits ^= bits >> np.uint64(shift)
            bits *= np.uint64(factor)
        bits ^= bits >> np.uint64(33)
        keys[first : first + _ROWS_AT_ONCE] = (bits * factors).sum(axis=1, dtype=np.uint64)
    return keys.view(np.int64)


def _sampled(keys: NDArray[np.int64], one_in: int) -> NDArray[np.int64]:
    """The keys of a part of all rows, the same part on both sides; `one_in` is a power of 2."""
    return keys if one_in == 1 else keys[keys & np.int64(one_in - 1) == 0]


def _numbers_of(sums: RowSums) -> list[float]:
    return [*sums.complete, float(sums.num_samples), sums.distance, sums.mean, *sums.powers]


def _sums_of_numbers(numbers: list[float]) -> RowSums:
    first, second, count, distance, mean, *powers = numbers
    return RowSums((first, second), int(count), distance, mean, (powers[0], powers[1], powers[2]))


class _SecondPass:
    """Reads the rows of a dataset again, when a `Jackknife` needs their sums."""

    def __init__(self, side: Side, position: int, num_samples: int, one_in: int) -> None:
        self._side = side
        self._position = position
        self._num_samples = num_samples
        self._one_in = one_in
        #: Of the rows that were read.
        self.keys = np.empty(0, np.int64)

    def __call__(self, jackknife: RowJackknife) -> RowSums:
        """The sums of all rows."""
        side = self._side
        options = {
            "references": [ray.put(jackknife)], "side": self._position, "column": side.column, "one_in": self._one_in
        }  # fmt: skip
        parts = side.dataset.map_batches(
            _sums_of_batch, batch_size=ROWS_PER_PART, batch_format="pyarrow", fn_kwargs=options
        )
        total: RowSums | None = None
        keys = [self.keys]
        with errors_of_tasks(side.name):
            for row in parts.iter_rows():
                part = _sums_of_numbers(list(row["sums"]))
                total = part if total is None else total.merged(part)
                keys.append(np.asarray(row["keys"], np.int64))
        found = 0 if total is None else total.num_samples
        if total is None or found != self._num_samples:
            raise ValueError(
                f"{side.name}: the dataset had {self._num_samples:,} rows in the first pass, but {found:,} in the "
                "second: pass dataset.materialize(), which keeps its rows"
            )
        self.keys = np.concatenate(keys)
        return total
