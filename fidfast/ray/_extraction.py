"""Extractors in a pool of actors: from the images of a batch to their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from fidfast._progress import progress_bar
from fidfast.ray._columns import images_of
from fidfast.ray._datasets import (
    BROKEN_COLUMN,
    actor_pool,
    extractor_column,
    feature_column,
    raising_for_dataset,
)

__all__ = ["NAMES", "check_options", "dataset_of_features"]

#: Images that an actor gets at once.
_IMAGES = 256

#: Columns with the name of an image, for messages.
NAMES = ("path", "__key__")

#: The fields of `ImageOptions` that apply to images of a dataset.
_OPTIONS = ("batch_size", "compile", "device", "dtype", "max_pixels", "max_value", "num_workers", "skip_broken")


def check_options(function: str, extractors: Any, keywords: Mapping[str, Any]) -> None:
    """Raise for options of images that do not exist, have no extractor, or are invalid."""
    for keyword in keywords:
        if keyword not in _OPTIONS:
            listed = ", ".join(_OPTIONS)
            raise TypeError(f"{function} got an unexpected keyword argument {keyword!r}; its options are {listed}")
        if extractors is None:
            raise TypeError(f"{keyword} is an option of images: pass extractor= too, or leave it out")
    if extractors is not None:
        from fidfast.torch import ImageOptions

        ImageOptions(**keywords)
        for extractor in extractors:
            _check_extractor(extractor)


def _check_extractor(extractor: Any) -> None:
    """Raise for what cannot be an extractor; nothing is loaded, unless a name is unknown."""
    from fidfast.torch import extractor_names, load_extractor

    if isinstance(extractor, str):
        if extractor not in extractor_names() and ":" not in extractor:
            load_extractor(extractor)  # raises the error
    elif not (callable(extractor) or hasattr(extractor, "run")):
        found = type(extractor).__name__
        raise TypeError(f"extractor must be a name, an Extractor, a network or another callable, got {found}")


class _Extraction:
    """The extractors of one actor, loaded once."""

    def __init__(self, extractors: Sequence[Any], like: str | None, column: str, keywords: Mapping[str, Any]) -> None:
        from fidfast.torch._extractors.named import open_extractors
        from fidfast.torch._images.checks import prepared_for
        from fidfast.torch._images.options import ImageOptions

        self._column = column
        options = ImageOptions(**{"num_workers": 0, **keywords}, image_key=column)
        self._extractors, self._options = prepared_for(open_extractors(extractors, like=like), None, options)

    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows without the images, and with the features of each extractor."""
        from fidfast.torch._images.collectors import Need
        from fidfast.torch._images.extraction_pass import ExtractionPass
        from fidfast.torch._images.sources import ImageSource

        with raising_for_dataset():
            items = [
                {self._column: image, "__key__": name}
                for image, name in zip(images_of(table, self._column), _names_of(table), strict=True)
            ]
            needs = [Need(extractor, rows=True) for extractor in self._extractors]
            extraction = ExtractionPass(ImageSource(items), needs, self._options, None)
            try:
                found = extraction.run(lambda initial: progress_bar(None, False))
            except ValueError:
                if len(extraction.skipped) < len(items):
                    raise
                found = {}  # all images of this batch are broken
        table = table.drop_columns([self._column])
        for number, extractor in enumerate(self._extractors):
            rows = found[number].rows if found else np.empty((0, 1), np.float32)
            assert rows is not None
            column = _with_missing(rows, extraction.indices, len(items))
            table = table.append_column(feature_column(number), column)
            name = pa.array([extractor.full_name]).dictionary_encode()
            repeated = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(items), np.int32)), name.dictionary)
            table = table.append_column(extractor_column(feature_column(number)), repeated)
        messages: list[str | None] = [None] * len(items)
        missing = sorted(set(range(len(items))) - set(extraction.indices))
        for row, message in zip(missing, extraction.skipped, strict=True):
            messages[row] = message
        return table.append_column(BROKEN_COLUMN, pa.array(messages, pa.string()))


def _names_of(table: pa.Table) -> Sequence[str]:
    """The names of the images, for messages."""
    for name in NAMES:
        if name in table.column_names:
            return [_text(value) for value in table.column(name).to_pylist()]
    return [f"image {row} of {len(table)} in a batch" for row in range(len(table))]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _with_missing(rows: np.ndarray[Any, Any], indices: Sequence[int], length: int) -> pa.Array:
    """A column of features whose other rows are missing; without a copy."""
    present = np.zeros(length, bool)
    present[list(indices)] = True
    offsets = np.concatenate([[0], np.cumsum(present, dtype=np.int64)]) * rows.shape[1]
    values = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return pa.LargeListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~present))


def dataset_of_features(
    dataset: ray.data.Dataset,
    extractors: Sequence[Any],
    like: str | None,
    column: str,
    keywords: Mapping[str, Any],
    num_gpus: float | None,
    concurrency: Any,
) -> ray.data.Dataset:
    """A dataset with the features of each extractor instead of the images, and the other columns."""
    return dataset.map_batches(
        _Extraction,
        batch_size=_IMAGES,
        batch_format="pyarrow",
        compute=actor_pool(concurrency),
        # Without a GPU, half a CPU each: reading and decoding must go on beside as many actors as there are CPUs.
        **({"num_cpus": 0.5} if num_gpus is None else {"num_gpus": num_gpus}),
        fn_constructor_args=(list(extractors), like, column, dict(keywords)),
    )
