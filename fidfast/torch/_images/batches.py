"""Batches of pixels: decoding, resizing and collation, in the workers of a DataLoader; and features of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fidfast._images import BrokenImageError, as_rgb
from fidfast.torch._extractors.arithmetic import full_float32
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.resize import RESIZES, resize
from fidfast.torch._images.pixels import image_batch, pixels_of_floats

__all__ = [
    "DecodedImage",
    "DecodedImages",
    "ImageBatch",
    "batches_of_loader",
    "collate",
    "features_of_batch",
    "full_float32",
    "image_pixels",
    "rows_of",
]


class DecodedImage(NamedTuple):
    """The pixels of an image, or a message about a broken image."""

    pixels: torch.Tensor | None
    broken: str | None = None


class DecodedImages(Dataset[DecodedImage]):
    """Decoded and resized images. Workers receive the resize only, not the network."""

    def __init__(self, images: Any, extractor: Extractor) -> None:
        self._images = images
        self._size = extractor.input_size
        self._resize = extractor.resize

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> DecodedImage:
        try:
            pixels = image_pixels(self._images[index])
        except BrokenImageError as error:
            return DecodedImage(None, str(error))
        return DecodedImage(pixels if self._size is None else resize(pixels, self._resize, self._size))


def image_pixels(item: Any) -> torch.Tensor:
    """Pixels (3, height, width) of an item of a dataset, uint8 or float32 from 0 to 255."""
    if isinstance(item, (list, tuple)):  # an image and its label
        item = item[0]
    item = _image_entry(item)
    if hasattr(item, "convert") and hasattr(item, "mode"):
        item = as_rgb(item)
    if not isinstance(item, torch.Tensor):
        array = np.array(item)  # (height, width[, channels]); copied, since torch needs writable memory
        item = torch.from_numpy(array[..., None] if array.ndim == 2 else array).movedim(-1, 0)
    if item.ndim != 3 or item.shape[0] not in (1, 3, 4):
        raise ValueError(f"an image must have a height, a width and 1, 3 or 4 channels, got shape {tuple(item.shape)}")
    item = item.expand(3, -1, -1) if item.shape[0] == 1 else item[:3]
    return _as_pixels(item)


def _image_entry(item: Any) -> Any:
    """The image, or batch of images, in a dictionary; other items unchanged."""
    if isinstance(item, dict):
        return next((item[key] for key in ("image", "images", "img", "pixel_values") if key in item), item)
    return item


def _batch_images(batch: Any) -> Any:
    """The images in a batch of a DataLoader: one tensor, with or without labels, or a list of images of any sizes."""
    batch = _image_entry(batch)
    if isinstance(batch, (list, tuple)) and len(batch) > 0 and getattr(batch[0], "ndim", 0) == 4:
        return batch[0]
    return batch


def _as_pixels(images: torch.Tensor) -> torch.Tensor:
    """Convert one image or a batch, uint8 or floats from 0 to 1, to uint8 or float32 from 0 to 255."""
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise TypeError(f"images must be uint8, or floats from 0 to 1, got {images.dtype}")
    return pixels_of_floats(images)


def features_of_batch(extractor: Extractor, images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Features (n, dim) of at least one image, resized on the device of the extractor, for `Moments.update`.

    Parameters
    ----------
    extractor : Extractor
        Prepared, and on `device`.
    images : (n, 3, height, width) or (n, 1, height, width) tensor, or an array, also channels last
        uint8, or floats from 0 to 1. Grey images are repeated to three channels.
    device : torch.device

    Raises
    ------
    TypeError, ValueError
        If the images or the output of the extractor are invalid.
    """
    images = image_batch(images)
    with torch.inference_mode(), full_float32(device=device):
        pixels = _as_pixels(images.to(device))
        if pixels.shape[1] == 1:
            pixels = pixels.repeat(1, 3, 1, 1)
        if extractor.input_size is not None:
            pixels = RESIZES[extractor.resize](pixels.float(), extractor.input_size)
        return rows_of(extractor(pixels))


def rows_of(features: Any) -> Any:
    """Detached features on a CUDA device or the host, or an array, from which `Moments` reads."""
    if not isinstance(features, torch.Tensor):
        return features
    features = features.detach()
    return features if features.is_cuda else features.cpu()


class ImageBatch(NamedTuple):
    """A batch of images."""

    #: Pixels, one tensor for each shape and dtype.
    tensors: list[torch.Tensor]
    #: Positions in the batch of the images in `tensors`, in their order.
    positions: list[int]
    #: Messages about the broken images.
    broken: list[str]
    #: Number of images, including broken ones.
    size: int


def collate(items: Sequence[DecodedImage]) -> ImageBatch:
    """Stack the images of equal shape and dtype."""
    groups: dict[Any, list[int]] = {}
    for position, item in enumerate(items):
        if item.pixels is not None:
            groups.setdefault((item.pixels.shape, item.pixels.dtype), []).append(position)
    return ImageBatch(
        [torch.stack([items[position].pixels for position in group]) for group in groups.values()],
        [position for group in groups.values() for position in group],
        [item.broken for item in items if item.broken],
        len(items),
    )


def batches_of_loader(loader: DataLoader[Any], extractor: Extractor, skip: int) -> Iterator[ImageBatch]:
    """The batches of a DataLoader after its first `skip` images."""
    for batch in map(_batch_images, loader):
        images = batch[skip:]
        skip = max(skip - len(batch), 0)
        if len(images) > 0:
            decoded = DecodedImages(images, extractor)
            yield collate([decoded[i] for i in range(len(images))])
