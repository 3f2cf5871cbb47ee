"""Batches of pixels: decoding, resizing and collation, in the workers of a DataLoader; and features of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, get_worker_info

from fidfast._arguments import as_dense
from fidfast._images import BrokenImageError, Images
from fidfast._images.decode import Decoding
from fidfast.torch._extractors.arithmetic import full_float32
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.resize import RESIZES, resize
from fidfast.torch._images.items import AmbiguousKeyError, as_pixels, image_pixels, name_of_item
from fidfast.torch._images.pixels import image_batch
from fidfast.torch._images.streams import BrokenItem, error_text

__all__ = [
    "DecodedImage",
    "DecodedImages",
    "Decoder",
    "ImageBatch",
    "Resize",
    "Stack",
    "collate",
    "decoded_batches",
    "features_of_batch",
    "resize_of",
    "rows_of",
]

#: Method and (height, width); None leaves images as they are.
Resize = tuple[str, tuple[int, int]] | None


def resize_of(extractor: Extractor) -> Resize:
    """The resize of an extractor."""
    return None if extractor.input_size is None else (extractor.resize, extractor.input_size)


class DecodedImage(NamedTuple):
    """The pixels of an image, or a message about a broken image."""

    #: One tensor (3, height, width) for each resize of the `Decoder`; None if the image is broken.
    pixels: tuple[torch.Tensor, ...] | None
    #: Path or other name of the image; None if it has none.
    name: str | None = None
    #: Begins with the name, or the number, of the image.
    broken: str | None = None
    #: The error of a broken image, in the process that met it.
    cause: Exception | None = None


class Decoder:
    """Reads and decodes items, and resizes each in one or several ways, for networks with different inputs."""

    def __init__(self, resizes: Sequence[Resize], image_key: str | None, decoding: Decoding) -> None:
        self._resizes = tuple(resizes)
        self._image_key = image_key
        self._decoding = decoding

    def __call__(self, read: Callable[[], Any], index: int, name: str | None = None) -> DecodedImage:
        """The image that `read()` returns, the one of this index.

        Raises
        ------
        AmbiguousKeyError
            If it is a dictionary of several images. All other errors make it a broken image.
        """
        try:
            item = read()
        except BrokenImageError as error:  # its message begins with the name
            return _broken(name, str(error), error)
        except Exception as error:
            return _broken(name, f"{name or f'image {index}'}: {error_text(error)}", error)
        if isinstance(item, BrokenItem):
            return _broken(name, f"image {index}: {item.message}", item.cause)
        try:
            name = name or name_of_item(item)
            pixels = image_pixels(item, self._image_key, self._decoding)
        except AmbiguousKeyError:
            raise
        except Exception as error:  # decoders raise many types: OSError, SyntaxError, struct.error, ...
            return _broken(name, f"{name or f'image {index}'}: {error or type(error).__name__}", error)
        return DecodedImage(tuple(pixels if way is None else resize(pixels, *way) for way in self._resizes), name)


def _broken(name: str | None, message: str, cause: Exception | None) -> DecodedImage:
    # Exceptions of other libraries may not survive the way from a worker process.
    return DecodedImage(None, name, message, cause if get_worker_info() is None else None)


class DecodedImages(Dataset[DecodedImage]):
    """Decoded and resized images of a sequence of items; `first` is the number of the first one, for messages."""

    def __init__(self, images: Any, decoder: Decoder, first: int = 0) -> None:
        self._images = images
        self._decoder = decoder
        self._first = first

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> DecodedImage:
        name = self._images.names[index] if isinstance(self._images, Images) else None
        return self._decoder(lambda: self._images[index], self._first + index, name)


def decoded_batches(items: Iterator[Any], decoder: Decoder, first: int, batch_size: int) -> Iterator[ImageBatch]:
    """Batches of a stream of items, the first of which has the index `first`."""
    numbers = itertools.count(first)
    while batch := [decoder(lambda: item, next(numbers)) for item in itertools.islice(items, batch_size)]:  # noqa: B023
        yield collate(batch)


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
        pixels = as_pixels(images.to(device))
        if pixels.shape[1] == 1:
            pixels = pixels.repeat(1, 3, 1, 1)
        if extractor.input_size is not None:
            pixels = RESIZES[extractor.resize](pixels.float(), extractor.input_size)
        return rows_of(extractor(pixels))


def rows_of(features: Any) -> Any:
    """Detached features on a CUDA device or the host, or an array, from which `Moments` reads."""
    features = as_dense(features)
    if not isinstance(features, torch.Tensor):
        return features
    return features if features.is_cuda else features.cpu()


class Stack(NamedTuple):
    """Images of one shape and dtype."""

    #: (n, 3, height, width)
    pixels: torch.Tensor
    #: Row of each image among the images of the batch that are not broken.
    rows: list[int]


class ImageBatch(NamedTuple):
    """A batch of images."""

    #: For each resize of the `Decoder`, the images that are not broken.
    inputs: list[list[Stack]]
    #: Positions in the batch of these images, in ascending order.
    positions: list[int]
    #: Names of these images; None for those without a name.
    names: list[str | None]
    #: Broken images.
    broken: list[DecodedImage]
    #: Number of images, including broken ones.
    size: int


def collate(items: Sequence[DecodedImage]) -> ImageBatch:
    """Stack the images of equal shape and dtype."""
    positions = [position for position, item in enumerate(items) if item.pixels is not None]
    images = [items[position] for position in positions]
    inputs = [_stacked(pixels) for pixels in zip(*(image.pixels for image in images if image.pixels), strict=True)]
    return ImageBatch(
        inputs, positions, [image.name for image in images], [item for item in items if item.broken], len(items)
    )


def _stacked(images: Sequence[torch.Tensor]) -> list[Stack]:
    groups: dict[Any, list[int]] = {}
    for row, pixels in enumerate(images):
        groups.setdefault((pixels.shape, pixels.dtype), []).append(row)
    return [Stack(torch.stack([images[row] for row in rows]), rows) for rows in groups.values()]
