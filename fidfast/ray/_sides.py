"""What the functions of this package read of a dataset: a column of features, or images and an extractor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray.data

from fidfast._arguments import optional, require_real, require_text
from fidfast._inputs import Input, open_input
from fidfast._stats import ClassMoments, Moments
from fidfast._warnings import warn_user
from fidfast.ray._datasets import (
    actor_pool,
    errors_of_tasks,
    feature_column,
    merged_moments,
    require_all_rows,
    with_columns,
)
from fidfast.ray._extraction import NAMES, check_options, dataset_of_features

__all__ = ["Reading", "Side", "in_order", "list_of", "open_sides"]

#: Columns that are read if no name is given: of features, and of images.
_FEATURES, _IMAGES = "features", "image"


def list_of(extractor: Any) -> list[Any] | None:
    """The argument `extractor` as `Reading` takes it."""
    return None if extractor is None else [extractor]


@dataclass(frozen=True)
class Reading:
    """How features are read from datasets: the options that the functions have in common."""

    function: str
    column: str | None = None
    #: Of images; None for features.
    extractors: Sequence[Any] | None = None
    num_gpus: float | None = None
    concurrency: Any = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    #: As in `load_extractors`.
    like: str | None = None

    def __post_init__(self) -> None:
        optional(require_text, "column", self.column)
        for name in ("num_gpus", "concurrency"):
            if getattr(self, name) is not None and self.extractors is None:
                raise TypeError(f"{name} is an option of images: pass extractor= too, or leave it out")
        optional(require_real, "num_gpus", self.num_gpus, lambda number: 0 < number < 2**20, "a number above 0")
        actor_pool(self.concurrency)
        check_options(self.function, self.extractors, self.keywords)

    def dataset_with_features(self, dataset: Any, name: str, *others: str | None) -> tuple[Any, str]:
        """The dataset with a column of features, and the name of the column; `others` are read too."""
        column = self.column or (_FEATURES if self.extractors is None else _IMAGES)
        found = dataset.columns(fetch_if_missing=False) or []
        names_of_images = [one for one in NAMES if one in found and self.extractors is not None]
        try:
            dataset = with_columns(dataset, [column, *others, *names_of_images])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if self.extractors is None:
            return dataset, column
        images = self.keywords, self.num_gpus, self.concurrency
        return dataset_of_features(dataset, self.extractors, self.like, column, *images), feature_column()


class Side:
    """One dataset of a function.

    Parameters
    ----------
    dataset : ray.data.Dataset
    name : str
        Name of the argument.
    reading : Reading
    *others : str or None
        Other columns that are needed.
    """

    def __init__(self, dataset: ray.data.Dataset, name: str, reading: Reading, *others: str | None) -> None:
        self.name = name
        self._given = dataset
        self._is_kept = False
        #: Whether an extractor runs on its images.
        self.reads_images = reading.extractors is not None
        #: With the features in `column`.
        self.dataset, self.column = reading.dataset_with_features(dataset, name, *others)

    def moments_by_column(
        self, columns: Sequence[str], precision: str, blocks: int = 1, label_column: str | None = None
    ) -> dict[str, Moments | ClassMoments]:
        """The moments of all rows, by column of features; warns of broken images.

        Raises
        ------
        TypeError, ValueError
            If there are no rows, they cannot be used, or Ray dropped some.
        """
        found = merged_moments(self.dataset, self.name, columns, label_column, precision, blocks)
        total = found.num_rows + len(found.skipped)
        require_all_rows(self._given, self.name, total)
        if total == 0:
            raise ValueError(f"{self.name}: the dataset has no rows")
        if not found.moments:
            raise ValueError(f"{self.name}: none of the {total} images could be used; the first: {found.skipped[0]}")
        if found.skipped:
            warn_user(f"{self.name}: skipped {len(found.skipped)} of {total} images; the first: {found.skipped[0]}")
        return found.moments

    def moments(self, precision: str, blocks: int = 1, label_column: str | None = None) -> Moments | ClassMoments:
        """The moments of `column`, as in `moments_by_column`."""
        return self.moments_by_column([self.column], precision, blocks, label_column)[self.column]

    def input(self, precision: str) -> Input:
        """The moments as an opened argument."""
        moments = self.moments(precision)
        assert isinstance(moments, Moments)
        return Input(self.name, moments=moments, extractor=moments.extractor)

    def keep_features(self) -> None:
        """Compute the features of images once, and keep them in the object store, in the order of the images."""
        if self.reads_images and not self._is_kept:
            self._is_kept = True
            ordered = in_order(self.dataset)
            with errors_of_tasks(self.name):
                self.dataset = ordered.materialize()
            require_all_rows(self._given, self.name, int(self.dataset.count()))


def in_order(dataset: ray.data.Dataset) -> ray.data.Dataset:
    """The dataset with its rows in the order in which its stages return them, whatever task ends first."""
    dataset = type(dataset).copy(dataset, _deep_copy=True)
    dataset.context.execution_options.preserve_order = True
    return dataset


def open_sides(
    sources: Mapping[str, Any], reading: Reading, precision: str, *, keep: bool = False
) -> tuple[dict[str, Input], dict[str, Side]]:
    """Both arguments opened, and those that are datasets.

    Parameters
    ----------
    sources : mapping
        By name of the argument.
    reading : Reading
    precision : str
    keep : bool, default False
        Whether the features are read again later.
    """
    inputs = {
        name: open_input(source, name, precision=precision, rows=True)
        for name, source in sources.items()
        if not isinstance(source, ray.data.Dataset)
    }
    sides = {name: Side(sources[name], name, reading) for name in sources.keys() - inputs.keys()}
    for name, side in sides.items():
        if keep:
            side.keep_features()
        inputs[name] = side.input(precision)
    return {name: inputs[name] for name in sources}, sides
