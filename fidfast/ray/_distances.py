"""Moments of datasets, and the Fréchet distance."""

from __future__ import annotations

from typing import Any

import ray.data

from fidfast import _fid
from fidfast._arguments import MAX_BLOCKS, optional, require_integer, require_precision, require_text
from fidfast._sources import is_image_source
from fidfast._stats import ClassMoments, Moments
from fidfast.ray._datasets import require_dataset
from fidfast.ray._sides import Reading, Side, list_of

__all__ = ["fid", "moments"]


def moments(
    dataset: Any,
    column: str | None = None,
    *,
    extractor: Any = None,
    label_column: str | None = None,
    precision: str = "float64",
    blocks: int = 1,
    num_gpus: float | None = None,
    concurrency: Any = None,
    **keywords: Any,
) -> Moments | ClassMoments:
    """Moments of the features in a Ray dataset, or of the features that an extractor computes of its images.

    Parameters
    ----------
    dataset : ray.data.Dataset
        From any source: Parquet, images, WebDataset, TFRecord, arrays, ...
    column : str, optional
        Column of the features: lists or tensors (dim,) of floating-point numbers. With an extractor, the column of the
        images: arrays or tensors as in `fidfast.torch.moments_of_images`, of one or several shapes, the bytes of image
        files, paths, or dictionaries with "bytes" or "path". By default "features"; "image" with an extractor.
    extractor : str, Extractor, callable or network, optional
        As in `fidfast.torch.moments_of_images`. Each worker loads it once: a name is the smallest to send.
    label_column : str, optional
        Column of the class of each row: integers, strings, or bytes of strings in UTF-8. The result is then
        `ClassMoments`.
    precision : {"float32", "float64"}, default "float64"
        As in `Moments`. Float32 products take half the time, and then the division into tasks changes the distance by
        about 1e-8.
    blocks : int, default 1
        As in `Moments`.
    num_gpus : float, optional
        GPUs of each worker that runs the extractor; below 1, several workers share one.
    concurrency : int or (int, int), optional
        Number of workers that run the extractor, or the least and the largest number. By default from 1 to the number
        of CPUs of the cluster; without GPUs each worker reserves half a CPU, so that reading goes on.
    **keywords
        `batch_size`, `compile`, `device`, `dtype`, `max_pixels`, `max_value`, `num_workers` and `skip_broken` of
        `fidfast.torch.ImageOptions`, for the extractor.

    Returns
    -------
    Moments or ClassMoments
        The same as of one process, within 1e-12 relative for float64 products.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; if the rows cannot be used; if Ray dropped rows, because `max_errored_blocks` of its
        `DataContext` is not 0: the message has the number of rows of the dataset and of those found.

    Warns
    -----
    UserWarning
        If images were skipped, with ``skip_broken=True``.

    Notes
    -----
    Tasks compute the moments of 65,536 rows each, and return them as one row of about ``8 dim^2`` bytes; tasks merge 8
    of these, and 8 of the results, and so on (Chan, Golub & LeVeque, 1979), so that a node holds a few of them at a
    time whatever the number of rows. A task that is repeated after the loss of a node replaces its own result.
    """
    require_dataset("dataset", dataset)
    optional(require_text, "label_column", label_column)
    precision = require_precision(precision)
    blocks = require_integer("blocks", blocks, 1, MAX_BLOCKS)
    if label_column is not None and blocks > 1:
        raise ValueError(f"blocks must be 1 with label_column, since ClassMoments have no blocks; got {blocks}")
    reading = Reading("moments", column, list_of(extractor), num_gpus, concurrency, keywords)
    return Side(dataset, "dataset", reading, label_column).moments(precision, blocks, label_column)


def fid(
    features_a: Any,
    features_b: Any,
    *,
    column: str | None = None,
    extractor: Any = None,
    precision: str = "float64",
    num_gpus: float | None = None,
    concurrency: Any = None,
    **keywords: Any,
) -> float:
    """Fréchet distance between two sides, at least one of them a Ray dataset.

    Parameters
    ----------
    features_a, features_b : ray.data.Dataset, array, tensor, Moments, GaussianStats or path
        What is not a dataset is used as by `fidfast.fid`; its images, with `extractor`.
    column, extractor, precision, num_gpus, concurrency, **keywords
        As in `moments`, for the sides that are datasets.

    Returns
    -------
    float
        As `fidfast.fid` of the same rows.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `moments` and `fidfast.fid`.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors, or images were skipped.
    """
    precision = require_precision(precision)
    reading = Reading("fid", column, list_of(extractor), num_gpus, concurrency, keywords)
    sources = {"features_a": features_a, "features_b": features_b}
    for name, source in sources.items():
        if isinstance(source, ray.data.Dataset):
            sources[name] = Side(source, name, reading).moments(precision)
        elif extractor is not None and is_image_source(source):
            from fidfast.torch import moments_of_images

            sources[name] = moments_of_images(source, extractor, precision=precision, **keywords).moments
    return _fid.fid(*sources.values(), precision=precision)
