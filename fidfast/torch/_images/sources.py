"""Any source of images as items: by index, or as a stream that is read once."""

from __future__ import annotations

import copy
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
)

from fidfast._arguments import as_array, as_dense, require_integer, require_path, shape_of_array
from fidfast._devices import to_host
from fidfast._images import BrokenImageError, Images, open_images
from fidfast._images.hashes import hash_files
from fidfast._masked import require_unmasked
from fidfast._shards import Shard, sampled
from fidfast.torch._images.items import items_of_batch
from fidfast.torch._images.options import ImageOptions
from fidfast.torch._images.streams import continued, flattened, items_of_loader

__all__ = ["ImageSource", "open_source"]


class ImageSource:
    """Items of images. Exactly one of `indexed` and `stream` is given.

    `first` is the index of the first item in the source of which this is a part, or 0.

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
    stream_of : callable, optional
        ``stream_of(indices)`` returns an iterator of the items of a stream with consecutive indices.
    """

    def __init__(
        self,
        indexed: Any = None,
        *,
        stream: Iterator[Any] | None = None,
        length: int | None = None,
        unordered: str | None = None,
        stream_of: Callable[[range], Iterator[Any]] | None = None,
    ) -> None:
        self.indexed = indexed
        self.length = len(indexed) if indexed is not None else length
        self.unordered = unordered
        self.first = 0
        self._stream = stream
        self._stream_of = stream_of
        self._complete: ImageSource | None = None

    @property
    def images(self) -> Images | None:
        """The source as images of a path or an array, or None if it is something else."""
        return self.indexed if isinstance(self.indexed, Images) else None

    @property
    def complete(self) -> ImageSource:
        """The source of which this is a part, or the source itself."""
        return self._complete or self

    def part(self, index: int, count: int) -> ImageSource:
        """The images from ``length * index // count`` to ``length * (index + 1) // count``, in order.

        Raises
        ------
        ValueError
            If the order or the number of the images is not fixed, or `index` is not below `count`.
        """
        count = require_integer("count", count, 1)
        index = require_integer("index", index, 0, count - 1)
        if self.unordered is not None or self.length is None:
            reason = self.unordered or "their number is unknown: pass a path, a list or a Dataset"
            raise ValueError(f"part {index + 1}/{count} needs images in a fixed order, but {reason}")
        within = Shard(index + 1, count).range_of(self.length)
        part = copy.copy(self)
        part._complete, part.first, part.length = self.complete, self.first + within.start, len(within)
        if self.indexed is not None:
            part.indexed = _part_of(self.indexed, within)
        else:
            assert self._stream_of is not None
            part._stream = self._stream_of(range(part.first, part.first + len(within)))
        return part

    def digest(self) -> str:
        """Hash of names and of the bytes of a few items; equal on machines with copies of the source.

        Of a Dataset or DataLoader, whose items may be random, only the number of items.
        """
        items = self.indexed
        if isinstance(items, Images):
            return items.digest()
        total = hashlib.blake2b(f"{self.length} items".encode(), digest_size=16)
        if _are_paths(items) and len(items) > 0:
            paths = [os.path.abspath(item) for item in items]
            folder = os.path.commonpath(list(map(os.path.dirname, paths)))
            total.update("\n".join(os.path.relpath(path, folder) for path in paths).encode(errors="surrogateescape"))
            for index in sampled(len(paths)):
                with suppress(OSError):  # broken images are reported when they are read
                    total.update(hashlib.blake2b(Path(paths[index]).read_bytes()).digest())
        elif isinstance(items, (list, tuple)) or hasattr(items, "__array__"):
            for index in sampled(len(items)):
                total.update(_described(items[index]).encode())
        return total.hexdigest()

    def fingerprint(self, *, progress: bool) -> str:
        """Hash of the bytes of images, files or an array; the number of items of a Dataset or DataLoader."""
        of_items = self._fingerprint(progress)
        return of_items if self._complete is None else f"{of_items} {self.first} of {self._complete.length}"

    def _fingerprint(self, progress: bool) -> str:
        items = self.indexed
        if isinstance(items, Images):
            return items.fingerprint(progress=progress)
        if _are_paths(items):
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


def _are_paths(items: Any) -> bool:
    return isinstance(items, (list, tuple)) and all(isinstance(item, (str, os.PathLike)) for item in items)


def _part_of(items: Any, indices: range) -> Any:
    """The items with these indices: of the same kind, or a Subset of a Dataset."""
    if isinstance(items, Images):
        return items.part(indices)
    if isinstance(items, (list, tuple)) or hasattr(items, "__array__"):
        return items[indices.start : indices.stop]
    return Subset(items, indices)


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
        opened = ImageSource(source)
    elif isinstance(source, (str, os.PathLike)):
        opened = ImageSource(_open_images(require_path(name, source), options, key))
    else:
        try:
            opened = _open_object(as_dense(source, "images"), options)
        except (TypeError, ValueError) as error:
            if isinstance(error, BrokenImageError):
                raise
            kind = TypeError if isinstance(error, TypeError) else ValueError  # subclasses have other constructors
            raise kind(f"{name}: {error}") from error
    if options.shard is None:
        return opened
    shard = Shard.from_text("shard", options.shard)
    return opened.part(shard.number - 1, shard.parts)


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
            stream=flattened(continued(iterator), options.image_key),
            length=_length_of_stream(source),
            unordered=f"{type(source).__name__} cannot be read from the middle: pass a path, a list or a Dataset",
        )
    expected = "a path, an array, a Dataset, a DataLoader or an iterable of images"
    raise TypeError(f"images must be {expected}, got {type(source).__name__}")


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
        return ImageSource(stream=flattened(iter(source), image_key), unordered="the list holds batches")
    return ImageSource(source)


def _is_batch(item: Any, image_key: str | None) -> bool:
    try:
        return next(items_of_batch(item, image_key), item) is not item
    except ValueError:  # an ambiguous dictionary; the function that reads the item reports it
        return False


def _length_of(source: Any) -> int | None:
    try:
        return len(source)
    except (TypeError, NotImplementedError):
        return None


def _length_of_stream(source: Any) -> int | None:
    return _length_of(source) if isinstance(source, (Dataset, Sized)) else None


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
    items = partial(items_of_loader, loader, image_key)
    return ImageSource(stream=items(), length=length, unordered=unordered, stream_of=items)


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
