"""Which arguments hold images, and which features, moments or statistics."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fidfast._arguments import shape_of_array, why_not_dense
from fidfast._files import Features
from fidfast._images import Images, uses_images
from fidfast._results import Result
from fidfast._stats import GaussianStats, Moments

__all__ = ["is_image_source"]


def is_image_source(source: Any, *, rows: bool = False, key: str | None = None) -> bool:
    """Whether an argument of a function of features holds images, from which an extractor computes features.

    Parameters
    ----------
    source
        Images are: an existing path for which `uses_images` is true; `Images`; arrays and tensors of 4 dimensions,
        except floats (n, dim, 1, 1); uint8 and bool arrays of 3 dimensions; lists, Datasets and other sequences whose
        first item may be an image; IterableDatasets and DataLoaders. Other iterables are not, since they may return
        features.
    rows, key
        As in `uses_images`, for a path.
    """
    if isinstance(source, Images):
        return True
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        valid = isinstance(path, str) and "\0" not in path  # else the function that reads the file reports it
        return valid and Path(path).exists() and uses_images(path, rows=rows, key=key)
    if source is None or isinstance(source, (type, Moments, GaussianStats, Features, Mapping, bytes, Result)):
        return False
    if why_not_dense(source) is not None:  # an error of either kind; that of features says what to do
        return False
    if hasattr(source, "__dlpack__") or hasattr(source, "__array__"):
        return _is_image_array(source)
    data = sys.modules.get("torch.utils.data")
    if data is not None and isinstance(source, (data.IterableDataset, data.DataLoader)):
        return True
    if not (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
        return False
    try:
        return len(source) == 0 or _may_be_image(source[0])
    except Exception:  # of a Dataset; the function that reads its images reports it
        return True


def _is_image_array(array: Any) -> bool:
    shape = shape_of_array(array)
    dtype = str(getattr(array, "dtype", "")).rpartition(".")[2]
    if len(shape) == 4:
        return "float" not in dtype or shape[2:] != (1, 1)
    return (len(shape) == 3 and dtype in ("uint8", "bool")) or (len(shape) == 1 and dtype == "object")


def _may_be_image(item: Any) -> bool:
    """Whether an item of a list may be an image, an image with its label, or a batch."""
    if isinstance(item, (list, tuple)):
        return any(map(_may_be_image, item))
    is_pil = hasattr(item, "convert") and hasattr(item, "mode")
    if hasattr(item, "__array__") and not is_pil:
        ndim = len(shape_of_array(item))
        return ndim > 2 or (ndim == 2 and str(item.dtype).rpartition(".")[2] in ("uint8", "bool"))
    return is_pil or isinstance(item, (str, os.PathLike, bytes, Mapping))
