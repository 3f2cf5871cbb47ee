"""Images as batches of pixels for a network: decoded, resized and stacked, in worker processes where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fidfast._images import BrokenImageError, as_rgb
from fidfast.torch._extractors.extractors import Extractor
from fidfast.torch._extractors.resize import resize

__all__ = ["Batch", "Decoded", "Item", "as_pixels", "batches_of_loader", "pixels_of", "together"]


class Item(NamedTuple):
    """One image for the network, or why there is none."""

    pixels: torch.Tensor | None
    broken: str | None = None


class Decoded(Dataset[Item]):
    """Decoded and resized images; runs in the workers, which get no network with it."""

    def __init__(self, images: Any, extractor: Extractor) -> None:
        self._images = images
        self._size = extractor.input_size
        self._resize = extractor.resize

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Item:
        try:
            pixels = pixels_of(self._images[index])
        except BrokenImageError as error:
            return Item(None, str(error))
        return Item(pixels if self._size is None else resize(pixels, self._resize, self._size))


def pixels_of(item: Any) -> torch.Tensor:
    """(3, height, width), uint8 or float32 from 0 to 255, of whatever a dataset gives."""
    if isinstance(item, (list, tuple)):  # an image and its label
        item = item[0]
    item = _image_in(item)
    if hasattr(item, "convert") and hasattr(item, "mode"):
        item = as_rgb(item)
    if not isinstance(item, torch.Tensor):
        array = np.array(item)  # height and width first, as arrays are; torch wants it writable
        item = torch.from_numpy(array[..., None] if array.ndim == 2 else array).movedim(-1, 0)
    if item.ndim != 3 or item.shape[0] not in (1, 3, 4):
        raise ValueError(f"an image must have 1, 3 or 4 channels and two sides, got shape {tuple(item.shape)}")
    item = item.expand(3, -1, -1) if item.shape[0] == 1 else item[:3]
    return as_pixels(item)


def _image_in(item: Any) -> Any:
    """The image, or the batch of them, of a dictionary."""
    if isinstance(item, dict):
        return next((item[key] for key in ("image", "images", "img", "pixel_values") if key in item), item)
    return item


def _images_in(batch: Any) -> Any:
    """The images of a loader's batch: one tensor, beside labels or not, or a list of images of any sizes."""
    batch = _image_in(batch)
    if isinstance(batch, (list, tuple)) and len(batch) > 0 and getattr(batch[0], "ndim", 0) == 4:
        return batch[0]
    return batch


def as_pixels(item: torch.Tensor) -> torch.Tensor:
    """An image or a batch of them as uint8 or float32 from 0 to 255."""
    if item.dtype == torch.uint8:
        return item
    if not item.is_floating_point():
        raise TypeError(f"images must be uint8, or floats from 0 to 1, got {item.dtype}")
    low, high = float(item.min()), float(item.max())
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(f"images in floating point must be from 0 to 1, got values from {low:g} to {high:g}")
    return item.float() * 255.0


class Batch(NamedTuple):
    """Images as the network takes them."""

    #: Those of the same shape and type in one tensor.
    stacks: list[torch.Tensor]
    #: Where each of them stood among the images of the batch, stack after stack.
    places: list[int]
    #: Messages on the broken ones.
    broken: list[str]
    #: Number of images, with the broken ones.
    size: int


def together(items: Sequence[Item]) -> Batch:
    """The images of a batch, stacked with those of the same shape and type, and the broken ones."""
    stacks: dict[Any, list[int]] = {}
    for place, item in enumerate(items):
        if item.pixels is not None:
            stacks.setdefault((item.pixels.shape, item.pixels.dtype), []).append(place)
    return Batch(
        [torch.stack([items[place].pixels for place in stack]) for stack in stacks.values()],
        [place for stack in stacks.values() for place in stack],
        [item.broken for item in items if item.broken],
        len(items),
    )


def batches_of_loader(loader: DataLoader[Any], extractor: Extractor, done: int) -> Iterator[Batch]:
    for batch in map(_images_in, loader):
        rest = batch[done:]  # a run that goes on passes over what it has seen
        done = max(done - len(batch), 0)
        if len(rest) > 0:
            decoded = Decoded(rest, extractor)
            yield together([decoded[i] for i in range(len(rest))])
