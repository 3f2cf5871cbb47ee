"""The stages of a dataset: the columns that are read, features, parts of the moments; and checks of its rows."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError

from fidfast._arguments import require_integer
from fidfast._stats import ClassMoments, Moments
from fidfast.ray._columns import features_of, labels_of
from fidfast.ray._tree import Merged, block_of_part, merged_blocks

__all__ = [
    "BROKEN_COLUMN",
    "ROWS_PER_PART",
    "actor_pool",
    "block_refs",
    "errors_of_tasks",
    "extractor_column",
    "feature_column",
    "merged_moments",
    "part_of_moments",
    "raising_for_dataset",
    "require_all_rows",
    "require_dataset",
    "with_columns",
    "without_broken",
]

#: Rows whose moments are one part. At dim 2048 they are 16 times as large as the moments in float32.
ROWS_PER_PART = 65_536

#: Column with a message about each broken image, beside the features, which it lacks.
BROKEN_COLUMN = "fidfast broken"


def feature_column(number: int = 0) -> str:
    """The column with the features of an extractor."""
    return f"fidfast features {number}"


def extractor_column(features: str) -> str:
    """The column with the name of the extractor that computed a column of features."""
    return f"{features} extractor"


def require_dataset(name: str, dataset: Any) -> ray.data.Dataset:
    """A Ray dataset."""
    if not isinstance(dataset, ray.data.Dataset):
        raise TypeError(f"{name} must be a ray.data.Dataset, got {type(dataset).__name__}")
    return dataset


def with_columns(dataset: ray.data.Dataset, columns: Sequence[str | None]) -> ray.data.Dataset:
    """The dataset without its other columns, which need not be read; as it is if Ray does not have the names yet.

    Raises
    ------
    ValueError
        If one is missing.
    """
    needed = list(dict.fromkeys(column for column in columns if column is not None))
    found = dataset.columns(fetch_if_missing=False)
    if found is None:
        return dataset  # the tasks raise the error
    for column in needed:
        if column not in found:
            raise ValueError(f"there is no column {column!r}; the columns are {', '.join(map(repr, found))}")
    return dataset if len(found) == len(needed) else dataset.select_columns(needed)


def actor_pool(concurrency: Any) -> ray.data.ActorPoolStrategy:
    """The pool of actors for the argument `concurrency`; by default as many as the cluster has CPUs."""
    if concurrency is None:
        most = int(ray.cluster_resources().get("CPU", 1)) if ray.is_initialized() else 1
        return ray.data.ActorPoolStrategy(min_size=1, max_size=max(most, 1))
    if isinstance(concurrency, (tuple, list)):
        if len(concurrency) != 2:
            raise ValueError(f"concurrency must be a number or (least, most), got {len(concurrency)} numbers")
        least = require_integer("concurrency[0]", concurrency[0], 1)
        most = require_integer("concurrency[1]", concurrency[1], least)
        return ray.data.ActorPoolStrategy(min_size=least, max_size=most)
    return ray.data.ActorPoolStrategy(size=require_integer("concurrency", concurrency, 1))


# Errors --------------------------------------------------------------------------------------------------------------


class DatasetError(Exception):
    """A TypeError or ValueError about the rows, as JSON: of an error in a task, Ray only keeps the text."""


#: The line of an error in a traceback.
_ERROR = re.compile(r"^\w+(Error|Exception): .+$", re.MULTILINE)

_MARKED = re.compile(rf"{DatasetError.__name__}: (\{{.*\}})$", re.MULTILINE)


@contextmanager
def raising_for_dataset() -> Iterator[None]:
    """In a task, mark the errors that are about the rows."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise DatasetError(json.dumps({"type": type(error) is TypeError, "message": str(error)})) from error


@contextmanager
def errors_of_tasks(name: str) -> Iterator[None]:
    """Raise the marked errors of tasks as TypeError or ValueError, with the name of the argument."""
    try:
        yield
    except RayError as error:
        marked = _MARKED.search(str(error))
        if marked is None:
            raise
        found = json.loads(marked[1])
        raise (TypeError if found["type"] else ValueError)(f"{name}: {found['message']}") from None


def require_all_rows(dataset: ray.data.Dataset, name: str, num_rows: int) -> None:
    """Raise a ValueError if blocks were dropped; Ray drops blocks with errors if `max_errored_blocks` is not 0.

    The rows are counted without dropping: from metadata if possible, else the stages of the dataset run once more.
    """
    allowed = dataset.context.max_errored_blocks
    if allowed == 0:
        return
    strict = type(dataset).copy(dataset, _deep_copy=True)
    strict.context.max_errored_blocks = 0
    reason = ""
    try:
        expected = strict.count()
    except Exception as error:  # of a function of the user
        cause = _ERROR.search(str(error))  # the innermost is the first
        reason = f" ({type(error).__name__ if cause is None else cause[0]})"
        expected = rows_of_source(dataset)
    if expected != num_rows:
        counted = "an unknown number of" if expected is None else f"{expected:,}"
        raise ValueError(
            f"{name}: {num_rows:,} of {counted} rows were found, since max_errored_blocks={allowed} drops blocks with "
            f"errors{reason}: filter these rows, and set ray.data.DataContext.max_errored_blocks = 0"
        )


def rows_of_source(dataset: ray.data.Dataset) -> int | None:
    """Number of rows that the first stage reads, from its metadata; None if it is unknown, or there are several."""
    stage = dataset._logical_plan.dag  # there is no public name
    while stage.input_dependencies:
        if len(stage.input_dependencies) > 1:
            return None
        stage = stage.input_dependencies[0]
    metadata = stage.infer_metadata() if hasattr(stage, "infer_metadata") else stage.aggregate_output_metadata()
    return None if metadata.num_rows is None else int(metadata.num_rows)


# Parts of the moments ------------------------------------------------------------------------------------------------

#: The Ray task that this process runs, and the number of its parts so far.
_PARTS = threading.local()


def _name_of_part() -> str:
    """The name of the next part of this task: the same if the task is repeated after the loss of its node."""
    task = ray.get_runtime_context().get_task_id() or "driver"
    number = _PARTS.number + 1 if getattr(_PARTS, "task", None) == task else 0
    _PARTS.task, _PARTS.number = task, number
    return f"{task}/{number}"


def part_of_moments(
    table: pa.Table, columns: list[str], label_column: str | None, precision: str, blocks: int
) -> pa.Table:  # runs in a task
    """The moments of a batch of rows, for each column of features."""
    found: dict[str, Moments | ClassMoments] = {}
    num_rows, skipped = 0, list[str]()
    with raising_for_dataset():
        for column in columns:
            rows, extractor, skipped = without_broken(table, column)
            num_rows = len(rows)
            arrays = features_of(rows, column)
            if num_rows == 0:
                continue
            if label_column is None:
                found[column] = _moments(arrays, precision, extractor, blocks)
            else:
                found[column] = _class_moments(arrays, labels_of(rows, label_column), precision, extractor)
    return block_of_part(Merged(found, num_rows, [_name_of_part()], skipped))


def _moments(arrays: Iterator[Any], precision: str, extractor: str | None, blocks: int) -> Moments:
    features = next(arrays)
    moments = Moments(features.shape[1], precision=precision, extractor=extractor, blocks=blocks)
    moments.update(features)
    for features in arrays:
        moments.update(features)
    return moments


def _class_moments(arrays: Iterator[Any], labels: Any, precision: str, extractor: str | None) -> ClassMoments:
    moments, first = None, 0
    for features in arrays:
        moments = moments or ClassMoments(features.shape[1], precision=precision, extractor=extractor)
        moments.update(features, labels[first : first + len(features)])
        first += len(features)
    assert moments is not None
    return moments


def without_broken(table: pa.Table, column: str) -> tuple[pa.Table, str | None, list[str]]:
    """The rows with features; the name of the extractor that computed them; messages about the other rows."""
    if BROKEN_COLUMN not in table.column_names:
        return table, None, []
    extractor = str(table.column(extractor_column(column))[0].as_py())
    broken = table.column(BROKEN_COLUMN)
    if broken.null_count == len(table):
        return table, extractor, []
    return table.filter(broken.is_null()), extractor, broken.drop_null().to_pylist()


def block_refs(dataset: ray.data.Dataset) -> Iterator[Any]:
    """References to the blocks of a dataset, as they are computed."""
    for bundle in dataset.iter_internal_ref_bundles():
        yield from bundle.block_refs


def merged_moments(
    dataset: ray.data.Dataset,
    name: str,
    columns: Sequence[str],
    label_column: str | None,
    precision: str,
    blocks: int,
) -> Merged:
    """The moments of the features in each of these columns of a dataset.

    Raises
    ------
    TypeError, ValueError
        If the rows cannot be used.
    """
    options = {"columns": list(columns), "label_column": label_column, "precision": precision, "blocks": blocks}
    parts = dataset.map_batches(part_of_moments, batch_size=ROWS_PER_PART, batch_format="pyarrow", fn_kwargs=options)
    with errors_of_tasks(name):
        return merged_blocks(block_refs(parts))
