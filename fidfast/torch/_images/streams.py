"""Streams of images: iterables, and the batches of a DataLoader, one item at a time."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, default_collate

from fidfast._images import BrokenImageError
from fidfast.torch._images.items import AmbiguousKeyError, items_of_batch

__all__ = ["BrokenItem", "continued", "error_text", "flattened", "items_of_loader"]

#: Consecutive errors of an iterator after which it is not read further.
_MOST_ERRORS = 1000


class BrokenItem(NamedTuple):
    """Takes the place of an item that could not be read."""

    message: str
    cause: Exception | None = None


def error_text(error: Exception) -> str:
    """The error of a user's function in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def flattened(values: Iterable[Any], image_key: str | None) -> Iterator[Any]:
    """The items of a stream of items and batches."""
    for value in values:
        if isinstance(value, BrokenItem):
            yield value
        else:
            yield from items_of_batch(value, image_key)


def continued(iterator: Iterator[Any]) -> Iterator[Any]:
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


def items_of_loader(loader: DataLoader[Any], image_key: str | None, indices: range | None = None) -> Iterator[Any]:
    """The items of the batches. Items that the Dataset cannot read, or `collate_fn` rejects, are `BrokenItem`.

    Of a loader in order only those with the `indices`, if given.
    """
    collate = None if loader.collate_fn is default_collate else loader.collate_fn
    changes: dict[str, Any] = {
        "collate_fn": _Collate(collate, image_key, loader.batch_sampler is not None),
        "_iterator": None,
    }
    if not isinstance(loader.dataset, IterableDataset):
        changes["dataset"] = _GuardedDataset(loader.dataset)
    if indices is not None:
        changes["sampler"] = indices
        if loader.batch_sampler is not None:
            changes["batch_sampler"] = BatchSampler(indices, loader.batch_size or 1, drop_last=False)
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
