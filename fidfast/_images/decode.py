"""Decoding of images to (height, width, 3) uint8 pixels."""

from __future__ import annotations

import warnings
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_rgb", "decode"]


def decode(file: IO[bytes]) -> NDArray[np.uint8]:
    """Decode an image file to (height, width, 3) uint8."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return as_rgb(image)
    except UnidentifiedImageError:
        raise ValueError("not an image, or an unsupported format") from None


def as_rgb(image: Any) -> NDArray[np.uint8]:
    """Convert a PIL image to (height, width, 3) uint8.

    Converts like ``PIL.Image.convert("RGB")``, as other FID tools do: grey is repeated, palettes are looked up, CMYK is
    converted, an alpha channel is dropped, and the EXIF orientation is ignored. 16-bit grey is scaled to 8 bits, where
    PIL would clip it.
    """
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        grey = ((np.clip(wide, 0, 65535) * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if image.mode == "F":
        raise ValueError("floating point pixels are not supported")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL warns about palettes with transparency, which is dropped here
        return np.array(image.convert("RGB"))
