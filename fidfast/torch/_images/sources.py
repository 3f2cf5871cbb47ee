"""Any source of images as items: by index, or as a stream that is read once."""

from __future__ import annotations

import copy
import hashlib
import inspect
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler, default_collate

from fidfast._arguments import as_array, as_dense, require_path, shape_of_array
from fidfast._devices import to_host
from fidfast._images import BrokenImageError, Images, open_images
from fidfast._images.hashes import hash_files
from fidfast._masked import require_unmasked
from fidfast.torch._images.items import AmbiguousKeyError, items_of_batch
from fidfast.torch._images.options import ImageOptions

__all__ = ["BrokenItem", "ImageSource", "error_text", "open_source"]

#: Consecutive errors of an iterator after which it is not read further.
_MOST_ERRORS = 1000


class BrokenItem(NamedTuple):
    """Takes the place of an item that could not be read."""

    message: str
    cause: Exception | None = None


class ImageSource:
    """Items of images. Exactly one of `indexed` and `stream` is given.

    Parameters
    ----------
    indexed : sequence, optional
        The items by index, in any order and any number of times.
    stream : iterator, optional
        The items in order, once.
    length : int, optional
        Number of items; None if it is unknown.
    unordered : str, optional
        Why a run cannot be continued from a checkpoint, or None if it can.
    """

    def __init__(
        self,
        indexed: Any = None,
        *,
        stream: Iterator[Any] | None = None,
        length: int | None = None,
        unordered: str | None = None,
    ) -> None:
        self.indexed = indexed
        self.length = len(indexed) if indexed is not None else length
        self.unordered = unordered
        self._stream = stream

    @property
    def images(self) -> Images | None:
        """The source as images of a path or an array, or None if it is something else."""
        return self.indexed if isinstance(self.indexed, Images) else None

    def fingerprint(self, *, progress: bool) -> str:
        """Hash of the bytes of images, files or an array; the number of items of a Dataset or DataLoader."""
        items = self.indexed
        if isinstance(items, Images):
            return items.fingerprint(progress=progress)
        if isinstance(items, (list, tuple)) and all(isinstance(item, (str, os.PathLike)) for item in items):
            digests, _ = hash_files([Path(item) for item in items], Path("list of paths"), progress=progress)
            return hashlib.blake2b(b"".join(digests)).hexdigest()
        if isinstance(items, (list, tuple)):
            digest = hashlib.blake2b()
            for item in items:
                digest.update(_described(item).encode())
            return digest.hexdigest()
        return f"{self.length} items" if items is None else _described(items, f"{self.length} items")

    def read(self, index: int) -> Any:
        """One of the first items, which a stream keeps for `stream`; raises an IndexError beyond the end."""
        if self._stream is None:
            if index >= (self.length or 0):
                raise IndexError(index)
            return self.indexed[index]
        head = list(itertools.islice(self._stream, index + 1))
        self._stream = itertools.chain(head, self._stream)
        return head[index]

    def stream(self) -> Iterator[Any]:
        """The items of a stream; can be read once."""
        assert self._stream is not None
        return self._stream


def open_source(source: Any, options: ImageOptions, key: str | None = None, *, name: str = "source") -> ImageSource:
    """Open any source of images.

    Parameters
    ----------
    source : path, array, tensor, Images, Dataset, DataLoader, sequence or iterable
        As in `moments_of_images`.
    options : ImageOptions
    key : str, optional
        Key of the images in an ``.npz``.
    name : str, default "source"
        Name of the argument, for messages about objects; those about files contain the path.

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    TypeError, ValueError
        If the source holds no images.
    """
    if isinstance(source, ImageSource):
        return source
    if isinstance(source, Images):
        return ImageSource(source)
    if isinstance(source, (str, os.PathLike)):
        return ImageSource(_open_images(require_path(name, source), options, key))
    try:
        return _open_object(as_dense(source, "images"), options)
    except (TypeError, ValueError) as error:
        if isinstance(error, BrokenImageError):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError  # subclasses have other constructors
        raise kind(f"{name}: {error}") from error


def _open_object(source: Any, options: ImageOptions) -> ImageSource:
    """Open a source that is not a path."""
    if isinstance(source, DataLoader):
        return _open_loader(source, options.image_key)
    if hasattr(source, "__array__") and hasattr(source, "shape"):
        return _open_array(source, options)
    if isinstance(source, (bytes, bytearray)) or (hasattr(source, "convert") and hasattr(source, "mode")):
        raise TypeError("images must be several, got one image: pass a list")
    if isinstance(source, Mapping):
        keys = ", ".join(map(repr, source))
        raise TypeError(f"images must not be a dictionary: pass one of its entries; the keys are {keys}")
    if _has_items(source):
        return _open_sequence(source, options.image_key)
    if isinstance(source, Iterable) or hasattr(source, "__getitem__"):
        iterator = iter(source)
        return ImageSource(
            stream=_flattened(_continued(iterator), options.image_key),
            length=_length_of_stream(source),
            unordered=f"{type(source).__name__} cannot be read from the middle: pass a path, a list or a Dataset",
        )
    expected = "a path, an array, a Dataset, a DataLoader or an iterable of images"
    raise TypeError(f"images must be {expected}, got {type(source).__name__}")


def error_text(error: Exception) -> str:
    """The error of a user's function in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


# Arrays and sequences -----------------------------------------------------------------------------------------------


def _open_images(source: Any, options: ImageOptions, key: str | None = None) -> Images:
    return open_images(
        source, suffix=options.suffix, max_value=options.max_value, max_pixels=options.max_pixels, key=key
    )


def _open_array(source: Any, options: ImageOptions) -> ImageSource:
    require_unmasked(source, "images")
    array = to_host(source.detach() if isinstance(source, torch.Tensor) else source)
    dtype = array.dtype if hasattr(array, "dtype") else as_array("images", array).dtype
    if getattr(dtype, "kind", "") in ("O", "U", "T") and len(array.shape) == 1:  # images of mixed sizes, or paths
        return ImageSource(list(array))
    kind = str(dtype).rpartition(".")[2]
    if kind in ("uint8", "bool") or (options.max_value is not None and re.fullmatch(r"b?u?(int|float)\d+", kind)):
        host = array.float() if isinstance(array, torch.Tensor) and kind == "bfloat16" else array  # not in NumPy
        return ImageSource(_open_images(as_array("images", host), options))
    shape = shape_of_array(array)
    channels = (1, 3, 4)
    if len(shape) == 3 and (shape[0] in channels[1:] or shape[2] in channels[1:]):
        raise ValueError(f"images of shape {shape} are one image: pass images[None]; grey images are (n, 1, h, w)")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[1] not in channels and shape[3] not in channels):
        expected = "(n, height, width), (n, height, width, channels) or (n, channels, height, width)"
        raise ValueError(f"images must be {expected} with 1, 3 or 4 channels, got shape {shape}")
    return ImageSource(array)


def _has_items(source: Any) -> bool:
    """Whether the items can be read by index."""
    if isinstance(source, IterableDataset) or not hasattr(source, "__getitem__"):
        return False
    return _length_of(source) is not None


def _open_sequence(source: Any, image_key: str | None) -> ImageSource:
    if isinstance(source, (list, tuple)) and source and _is_batch(source[0], image_key):  # list(loader)
        return ImageSource(stream=_flattened(iter(source), image_key), unordered="the list holds batches")
    return ImageSource(source)


def _is_batch(item: Any, image_key: str | None) -> bool:
    try:
        return next(items_of_batch(item, image_key), item) is not item
    except ValueError:  # an ambiguous dictionary; the function that reads the item reports it
        return False


# Streams ------------------------------------------------------------------------------------------------------------


def _flattened(values: Iterable[Any], image_key: str | None) -> Iterator[Any]:
    """The items of a stream of items and batches."""
    for value in values:
        if isinstance(value, BrokenItem):
            yield value
        else:
            yield from items_of_batch(value, image_key)


def _continued(iterator: Iterator[Any]) -> Iterator[Any]:
    """The values of an iterator, with a `BrokenItem` in place of each error that it raises.

    Raises
    ------
    BrokenImageError
        If it ends with an error: the values that it would still have returned are lost.
    """
    number, errors = 0, list[Exception]()
    while True:
        try:
            value = next(iterator)
        except StopIteration:
            break
        except Exception as error:
            errors.append(error)
            if inspect.isgenerator(iterator) or len(errors) == _MOST_ERRORS:
                break
            continue
        for raised in errors:
            yield BrokenItem(error_text(raised), raised)
        number += len(errors) + 1
        errors.clear()
        yield value
    if errors:
        raise BrokenImageError(
            f"image {number}: {error_text(errors[0])}; the iterable cannot be read further, since a generator ends "
            "when it raises an error: handle the error inside it"
        ) from errors[0]


def _length_of(source: Any) -> int | None:
    try:
        return len(source)
    except (TypeError, NotImplementedError):
        return None


def _length_of_stream(source: Any) -> int | None:
    return _length_of(source) if isinstance(source, (Dataset, Sized)) else None


# DataLoaders --------------------------------------------------------------------------------------------------------


def _open_loader(loader: DataLoader[Any], image_key: str | None) -> ImageSource:
    batches = loader.batch_sampler
    sampler = batches.sampler if type(batches) is BatchSampler else None if batches is not None else loader.sampler
    unordered, length = None, None
    if isinstance(loader.dataset, IterableDataset):
        unordered = "the DataLoader reads an IterableDataset, whose order may change: pass a Dataset with a length"
        length = _length_of(loader.dataset)
    else:
        if not isinstance(sampler, SequentialSampler):
            unordered = "the DataLoader shuffles: pass shuffle=False"
        length = _length_of(sampler)
    if length is not None and type(batches) is BatchSampler and batches.drop_last:
        length -= length % batches.batch_size
    return ImageSource(stream=_items_of_loader(loader, image_key), length=length, unordered=unordered)


def _items_of_loader(loader: DataLoader[Any], image_key: str | None) -> Iterator[Any]:
    """The items of the batches. Items that the Dataset cannot read, or `collate_fn` rejects, are `BrokenItem`."""
    collate = None if loader.collate_fn is default_collate else loader.collate_fn
    changes: dict[str, Any] = {
        "collate_fn": _Collate(collate, image_key, loader.batch_sampler is not None),
        "_iterator": None,
    }
    if not isinstance(loader.dataset, IterableDataset):
        changes["dataset"] = _GuardedDataset(loader.dataset)
    ours = copy.copy(loader)
    ours.__dict__.update(changes)  # DataLoader forbids to set the attribute dataset
    for items in ours:
        yield from items


class _GuardedDataset(Dataset[Any]):
    """A Dataset that returns a `BrokenItem` instead of raising an error."""

    __getitems__ = None  # the DataLoader would prefer the method of this name of the other Dataset

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._dataset[index]
        except Exception as error:
            return BrokenItem(f"item {index} of the Dataset: {error_text(error)}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_dataset":  # while it is unpickled it has no dataset
            raise AttributeError(name)
        return getattr(self._dataset, name)


class _Collate:
    """Returns the list of the items of a batch.

    `collate` is the user's function, or None for torch's own, which fails for PIL images and for mixed sizes.
    """

    def __init__(self, collate: Callable[[Any], Any] | None, image_key: str | None, batched: bool) -> None:
        self.collate = collate
        self.image_key = image_key
        self.batched = batched

    def __call__(self, batch: Any) -> list[Any]:
        if not self.batched:
            good = batch if isinstance(batch, BrokenItem) or self.collate is None else self.collate(batch)
            return [good] if isinstance(good, BrokenItem) else list(items_of_batch(good, self.image_key))
        if self.collate is None:
            return list(batch)
        good = [item for item in batch if not isinstance(item, BrokenItem)]
        try:
            items = list(items_of_batch(self.collate(good), self.image_key, batched=True)) if good else []
        except AmbiguousKeyError:
            raise
        except Exception as error:
            items = [BrokenItem(f"collate_fn: {error_text(error)}")] * len(good)
        if len(items) != len(good):
            return items + [item for item in batch if isinstance(item, BrokenItem)]
        remaining = iter(items)
        return [item if isinstance(item, BrokenItem) else next(remaining) for item in batch]


def _described(item: Any, otherwise: str = "") -> str:
    """The shape, dtype and a hash of an array, or the hash of an encoded or PIL image; `otherwise` of other items."""
    if isinstance(item, (bytes, bytearray)):
        return hashlib.blake2b(item).hexdigest()
    if hasattr(item, "tobytes") and hasattr(item, "mode"):
        return f"{item.mode} {item.size} {hashlib.blake2b(item.tobytes()).hexdigest()}"
    if hasattr(item, "__array__") and hasattr(item, "shape"):
        digest = hashlib.blake2b()
        for part in item if len(item.shape) > 3 else [item]:  # not at once: it may be broadcast
            # As bytes, since NumPy has no bfloat16.
            data = part.contiguous().view(torch.uint8) if isinstance(part, torch.Tensor) else part
            digest.update(np.ascontiguousarray(data).data)
        return f"{tuple(item.shape)} {item.dtype} {digest.hexdigest()}"
    if isinstance(item, (str, os.PathLike)):
        return os.fspath(item)
    if isinstance(item, (list, tuple)):
        return " ".join(map(_described, item))
    return otherwise
