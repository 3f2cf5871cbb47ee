"""From an item of a data set (array, tensor, PIL image, path, bytes, dictionary, tuple) to the pixels of one image."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fidfast._images import as_rgb
from fidfast._images.decode import DEFAULT, Decoding, decode, scaled
from fidfast._images.selection import EXTENSIONS

__all__ = ["AmbiguousKeyError", "as_pixels", "channels_first", "image_pixels", "items_of_batch", "name_of_item"]

#: Keys of images in a dictionary; of a key with dots (WebDataset's ``left.png``) the last part counts.
_KEYS = frozenset(("image", "images", "img", "imgs", "picture", "photo", "pixels", "pixel_values")) | frozenset(
    extension.removeprefix(".") for extension in EXTENSIONS
)
_CHANNELS = (1, 3, 4)

#: Floats may leave [0, 1] by this multiple of the spacing of their type at 1, the rounding of a few operations.
_ROUNDING = 4


class AmbiguousKeyError(ValueError):
    """Several entries of a dictionary may be the image."""


def image_pixels(item: Any, image_key: str | None = None, decoding: Decoding = DEFAULT) -> torch.Tensor:
    """Pixels (3, height, width) of an item of a data set, uint8 or float32 from 0 to 255, in host memory.

    Parameters
    ----------
    item : array, tensor, PIL image, path, bytes, dictionary or tuple
        An array or tensor is (height, width), (height, width, channels) or (channels, height, width) with 1, 3 or 4
        channels, uint8, bool, or floats from 0 to 1; if both axes may be the channels, the last is that of an array and
        the first that of a tensor. Of a tuple, the first image is used.
    image_key : str, optional
        Key of the image in a dictionary.
    decoding : Decoding, optional
        Of files and PIL images; its `max_value` also applies to arrays of integers wider than 8 bits.

    Raises
    ------
    TypeError, ValueError, OSError
        If this is not an image.
    """
    if isinstance(item, Mapping) and not _is_encoded(item):
        item = _entry(item, image_key)
    if _is_encoded(item):
        item = item["path"] if item.get("bytes") is None else item["bytes"]
    if isinstance(item, (list, tuple)):
        return image_pixels(_first_image(item), image_key, decoding)
    if isinstance(item, (str, os.PathLike)):
        with open(item, "rb") as file:
            item = decode(file, decoding)
    elif isinstance(item, (bytes, bytearray, memoryview)):
        item = decode(io.BytesIO(item), decoding)
    elif _is_pil(item):
        item = as_rgb(item, decoding.max_value)
    if not isinstance(item, torch.Tensor) and np.asarray(item).dtype.kind not in "biufc":
        raise TypeError(f"not an image, but {type(item).__name__}")
    if decoding.max_value is not None and _is_wide(item):
        item = scaled(np.asarray(item), decoding.max_value)
    pixels = channels_first(item[0] if getattr(item, "ndim", 0) == 4 and len(item) == 1 else item, 3)
    return as_pixels(pixels.expand(3, -1, -1) if pixels.shape[0] == 1 else pixels[:3])


def _is_wide(array: Any) -> bool:
    """Whether an array or tensor has integers of more than 8 bits."""
    return re.fullmatch(r"u?int(16|32|64)", str(array.dtype).rpartition(".")[2]) is not None


def channels_first(images: Any, ndim: int) -> torch.Tensor:
    """One image (`ndim` 3) or a batch (`ndim` 4) as a tensor in host memory or on its device, channels first.

    Grey images may lack the axis of the channels. Raises a ValueError for other shapes.
    """
    is_tensor = isinstance(images, torch.Tensor)
    tensor = images.detach() if is_tensor else torch.from_numpy(np.array(images))  # copied: torch needs writable memory
    shape = tuple(tensor.shape)
    if tensor.ndim == ndim - 1:
        tensor = tensor.unsqueeze(-3)
    elif tensor.ndim == ndim:
        first, last = shape[-3] in _CHANNELS, shape[-1] in _CHANNELS
        if is_tensor:  # an axis of 4 in a tensor of some other order of axes is not taken for channels
            last = last and not first and (shape[-1] < 4 or min(shape[-3:-1]) > 4)
        if last:
            tensor = tensor.movedim(-1, -3)
    if tensor.ndim != ndim or tensor.shape[-3] not in _CHANNELS or 0 in tensor.shape[-3:]:
        what = "an image" if ndim == 3 else "a batch of images"
        raise ValueError(f"{what} must have a height, a width and 1, 3 or 4 channels, got shape {shape}")
    return tensor if is_tensor and ndim == 4 else tensor.cpu()


def as_pixels(images: torch.Tensor) -> torch.Tensor:
    """Convert one image or a batch, uint8, bool, or floats from 0 to 1, to uint8 or float32 from 0 to 255."""
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if not images.is_floating_point():
        raise TypeError(f"images must be uint8, or floats from 0 to 1, got {images.dtype}")
    if images.numel() == 0:
        return images.float()
    low, high = (float(value) for value in images.aminmax())
    rounding = _ROUNDING * max(torch.finfo(images.dtype).eps, torch.finfo(torch.float32).eps)
    if not (low >= -rounding and high <= 1.0 + rounding):
        found = f"images of floats must be from 0 to 1, got values from {low:.9g} to {high:.9g}"
        if low >= -1.0 - rounding and high <= 1.0 + rounding:
            raise ValueError(f"{found}: if they are from -1 to 1, pass (x + 1) / 2")
        if low >= 0.0 and 1.5 < high <= 255.0:
            raise ValueError(f"{found}: if they are from 0 to 255, pass x / 255, or uint8")
        raise ValueError(f"{found}: rescale or clip them")
    return images.float().clamp(0.0, 1.0) * 255.0


def name_of_item(item: Any) -> str | None:
    """The path of an image, or the key of a WebDataset sample; None if the item has no name."""
    if isinstance(item, (str, os.PathLike)):
        return os.fspath(item)
    if isinstance(item, Mapping):
        name = item.get("__key__") or (item.get("path") if _is_encoded(item) else None)
        return None if name is None else str(name)
    if isinstance(item, (list, tuple)) and item:
        return name_of_item(_first_image(item))
    return None


def items_of_batch(value: Any, image_key: str | None = None, *, batched: bool = False) -> Iterator[Any]:
    """The items of a batch; or the value itself if it is one item.

    Parameters
    ----------
    value
        A batch is an array or tensor of 4 dimensions, a list of images, a tuple or list that begins with one of these
        (images and labels), or a dictionary of batches.
    image_key : str, optional
    batched : bool, default False
        Whether the value is a batch of a DataLoader: then it may also be a tuple of images, or grey images of 3
        dimensions.
    """
    batch = value
    if isinstance(value, Mapping) and not _is_encoded(value):
        batch = _entry(value, image_key, required=False)
    if isinstance(batch, (list, tuple)) and not _is_batch(batch):
        # Columns, such as images and labels, or one item, or a tuple of items.
        columns = (tuple, list) if batched and isinstance(batch, tuple) else list
        for entry in batch:
            if _is_batch(entry, columns) or (batched and _ndim(entry) == 3 and not all(map(_may_be_image, batch))):
                batch = entry
                break
            if _is_single(entry):
                break
    rows = isinstance(batch, (list, tuple)) or _ndim(batch) == 3
    if _is_batch(batch) or (batched and rows):
        yield from batch
    else:
        yield value


def _is_batch(value: Any, columns: Any = list) -> bool:
    """Whether this is an array of 4 dimensions, or a list of images; paths are not mixed with others."""
    if isinstance(value, columns):
        paths = {isinstance(entry, (str, os.PathLike)) for entry in value}
        return len(paths) == 1 and all(map(_may_be_image, value))
    return _ndim(value) == 4


def _is_single(value: Any) -> bool:
    """Whether this is one image, not a batch."""
    return _is_pil(value) or isinstance(value, (bytes, bytearray, memoryview, Mapping)) or _ndim(value) in (2, 3)


def _entry(item: Mapping[Any, Any], image_key: str | None, *, required: bool = True) -> Any:
    """The image, or batch of images, in a dictionary.

    Raises
    ------
    AmbiguousKeyError
        If several keys may be meant.
    ValueError
        If there is none and it is required, else the dictionary is returned.
    """
    keys = ", ".join(map(repr, item))
    if image_key is not None:
        if image_key in item:
            return item[image_key]
        if required:
            raise ValueError(f"there is no image_key {image_key!r}; the keys are {keys}")
        return item
    named = [key for key, value in item.items() if str(key).lower().rpartition(".")[2] in _KEYS and _is_entry(value)]
    found = named or [key for key, value in item.items() if _is_certainly_image(value)]
    if len(found) > 1:
        raise AmbiguousKeyError(
            f"several entries may be the image, {', '.join(map(repr, found))}: pass image_key=; the keys are {keys}"
        )
    if found:
        return item[found[0]]
    if required:
        raise ValueError(f"no entry is an image: pass image_key=; the keys are {keys}")
    return item


def _first_image(entries: Sequence[Any]) -> Any:
    """The image among the entries of a tuple (image, label) or (key, image)."""
    for is_image in (_is_certainly_image, _is_single, _may_be_image):
        for entry in entries:
            if is_image(entry):
                return entry
    raise TypeError(f"no image among entries of the types {', '.join(type(entry).__name__ for entry in entries)}")


def _is_pil(value: Any) -> bool:
    return hasattr(value, "convert") and hasattr(value, "mode")


def _is_encoded(value: Any) -> bool:
    """Whether this is an image file as Hugging Face stores it: {"bytes": ..., "path": ...}."""
    return isinstance(value, Mapping) and set(value) == {"bytes", "path"}


def _ndim(value: Any) -> int:
    """Number of dimensions of an array or tensor, else 0."""
    return len(value.shape) if hasattr(value, "__array__") and hasattr(value, "shape") else 0


def _may_be_image(value: Any) -> bool:
    if isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview, Mapping)) or _is_pil(value):
        return True
    if isinstance(value, tuple):  # an image and its label
        return any(_may_be_image(entry) for entry in value)
    return _ndim(value) in (2, 3)


def _is_certainly_image(value: Any) -> bool:
    if _is_pil(value) or _is_encoded(value):
        return True
    if isinstance(value, list):
        return bool(value) and all(map(_is_certainly_image, value))
    return _ndim(value) in (3, 4) and (value.shape[-1] in _CHANNELS or value.shape[-3] in _CHANNELS)


def _is_entry(value: Any) -> bool:
    """Whether the entry of a dictionary under one of `_KEYS` may be an image or a batch."""
    return _may_be_image(value) or _is_batch(value) or _ndim(value) == 3
