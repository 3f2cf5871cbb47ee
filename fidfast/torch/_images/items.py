"""From an item of a data set (array, tensor, PIL image, path, bytes, dictionary, tuple) to the pixels of one image."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fidfast._arguments import as_dense, shape_of_array
from fidfast._images import as_rgb
from fidfast._images.decode import DEFAULT, Decoding, decode, open_regular, require_pixels, scaled
from fidfast._images.selection import EXTENSIONS
from fidfast._masked import require_unmasked
from fidfast.torch._images.pixels import pixels_of_floats

__all__ = ["AmbiguousKeyError", "as_pixels", "image_pixels", "items_of_batch", "name_of_item"]

#: Keys of images in a dictionary; of a key with dots (WebDataset's ``left.png``) the last part counts.
_KEYS = frozenset(("image", "images", "img", "imgs", "picture", "photo", "pixels", "pixel_values")) | frozenset(
    extension.removeprefix(".") for extension in EXTENSIONS
)
_CHANNELS = (1, 3, 4)


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
        Of files and PIL images; its `max_value` also applies to arrays of floats and of integers wider than 8 bits.

    Raises
    ------
    TypeError, ValueError, OSError
        If this is not an image.
    """
    require_unmasked(item, "image")
    if isinstance(item, Mapping) and not _is_encoded(item):
        item = _entry(item, image_key)
    if _is_encoded(item):
        item = item["path"] if item.get("bytes") is None else item["bytes"]
    if isinstance(item, (list, tuple)):
        return image_pixels(_first_image(item), image_key, decoding)
    if isinstance(item, (str, os.PathLike)):
        with open_regular(item) as file:
            item = decode(file, decoding)
    elif isinstance(item, (bytes, bytearray, memoryview)):
        item = decode(io.BytesIO(item), decoding)
    elif _is_pil(item):
        item = as_rgb(item, decoding.max_value)
    item = as_dense(item, "an image")
    if not isinstance(item, torch.Tensor) and np.asarray(item).dtype.kind not in "biufc":
        raise TypeError(f"not an image, but {type(item).__name__}")
    if len(shape := getattr(item, "shape", ())) > 1:
        height, width = sorted(shape)[-2:]
        require_pixels(height, width, decoding.max_pixels)
    if decoding.max_value is not None and _is_wide(item):
        item = item.detach().cpu() if isinstance(item, torch.Tensor) else item
        item = scaled(np.asarray(item.float() if "bfloat16" in str(item.dtype) else item), decoding.max_value)
    pixels = _channels_first(item[0] if getattr(item, "ndim", 0) == 4 and len(item) == 1 else item)
    return as_pixels(pixels.expand(3, -1, -1) if pixels.shape[0] == 1 else pixels[:3])


def _is_wide(array: Any) -> bool:
    """Whether an array or tensor has floats, or integers of more than 8 bits."""
    return re.fullmatch(r"u?int(16|32|64)|b?float\d+", str(array.dtype).rpartition(".")[2]) is not None


def _channels_first(image: Any) -> torch.Tensor:
    """One image as a tensor (channels, height, width) in host memory. Grey images may lack the axis of the channels."""
    is_tensor = isinstance(image, torch.Tensor)
    if not is_tensor:
        array = np.array(image)  # torch needs writable memory, in the native byte order
        image = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    tensor = image.detach().cpu()
    shape = tuple(tensor.shape)
    if tensor.ndim == 2:
        tensor = tensor[None]
    elif tensor.ndim == 3:
        first, last = shape[0] in _CHANNELS, shape[2] in _CHANNELS
        if is_tensor:  # an axis of 4 in a tensor of some other order of axes is not taken for channels
            last = last and not first and (shape[2] < 4 or min(shape[:2]) > 4)
        if last:
            tensor = tensor.movedim(2, 0)
    if tensor.ndim != 3 or tensor.shape[0] not in _CHANNELS or 0 in shape:
        advice = "; pass a batch of grey images as (n, 1, height, width) or (n, height, width, 1)"
        raise ValueError(
            f"an image must have a height, a width and 1, 3 or 4 channels, got shape {shape}"
            + (advice if tensor.ndim == 3 and 0 not in shape else "")
        )
    return tensor


def as_pixels(images: torch.Tensor) -> torch.Tensor:
    """Convert one image or a batch, uint8, bool, or floats from 0 to 1, to uint8 or float32 from 0 to 255."""
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if not images.is_floating_point():
        raise TypeError(f"images must be uint8, or floats from 0 to 1, got {images.dtype}")
    return pixels_of_floats(images)


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
    found = [f"{type(entry).__name__} {tuple(getattr(entry, 'shape', ())) or ''}".rstrip() for entry in entries]
    raise TypeError(f"no image among entries of the types {', '.join(found)}")


def _is_pil(value: Any) -> bool:
    return hasattr(value, "convert") and hasattr(value, "mode")


def _is_encoded(value: Any) -> bool:
    """Whether this is an image file as Hugging Face stores it: {"bytes": ..., "path": ...}."""
    return isinstance(value, Mapping) and set(value) == {"bytes", "path"}


def _ndim(value: Any) -> int:
    """Number of dimensions of an array or tensor, else 0."""
    return len(shape_of_array(value)) if hasattr(value, "__array__") else 0


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
