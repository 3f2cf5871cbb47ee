"""Decoding of images to (height, width, 3) uint8 pixels."""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fidfast._arguments import optional, require_real

__all__ = ["DEFAULT", "Decoding", "as_rgb", "decode", "open_regular", "opened", "require_size", "scaled"]

#: The largest of uncompressed files, 16 bits per channel of RGBA, and what metadata may add.
_BYTES_PER_PIXEL, _METADATA = 8, 1 << 26

#: Images of an array with at most this number of pixels are read without Pillow.
_FEW_PIXELS = 1 << 24

#: Pillow's limit is a global variable.
_LIMIT_LOCK = threading.RLock()


@dataclass(frozen=True)
class Decoding:
    """How files become pixels.

    Parameters
    ----------
    max_value : float, optional
        Value of white in pixels wider than 8 bits; by default 65,535 in 16-bit grey.
    max_pixels : int, optional
        Largest height times width that is decoded; by default Pillow's limit.
    """

    max_value: float | None = None
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_value", "max_pixels"):
            optional(require_real, name, getattr(self, name), lambda x: 0 < x < float("inf"), "positive and finite")


DEFAULT = Decoding()


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file; ValueError for a FIFO, socket or device, which could wait for a writer for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")
    flags = getattr(os, "O_NONBLOCK", 0)  # a FIFO may have taken the place of the file since
    file = open(path, "rb", opener=lambda path, mode: os.open(path, mode | flags))  # noqa: SIM115  # returned
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("not a regular file")
    return file


def require_pixels(height: int, width: int, max_pixels: int | None) -> None:
    """Raise ValueError if an image has more pixels than `max_pixels`, by default than Pillow allows."""
    pixels = height * width
    if pixels <= (max_pixels or _FEW_PIXELS):
        return
    if pixels > (max_pixels or _pillow_max_pixels() or pixels):
        raise ValueError(
            f"has {pixels:,} pixels ({width:,} x {height:,}), max_pixels is {max_pixels or _pillow_max_pixels():,}; "
            "pass a larger max_pixels (--max-pixels) to read it"
        )


def _pillow_max_pixels() -> int:
    """The number of pixels above which Pillow raises an error; 0 if it never does."""
    from PIL import Image

    return 2 * int(Image.MAX_IMAGE_PIXELS or 0)


def require_size(size: int, decoding: Decoding) -> None:
    """Raise ValueError if a file in an archive is larger than any image file with the allowed number of pixels."""
    if size <= _METADATA:
        return
    most = decoding.max_pixels or _pillow_max_pixels() or size
    if size > _BYTES_PER_PIXEL * most + _METADATA:
        raise ValueError(
            f"has {size:,} bytes, more than an uncompressed image of {most:,} pixels; pass a larger max_pixels "
            "(--max-pixels) to read it"
        )


def decode(file: IO[bytes], decoding: Decoding = DEFAULT) -> NDArray[np.uint8]:
    """Decode an image file to (height, width, 3) uint8."""
    with opened(file, decoding.max_pixels) as image:
        return as_rgb(image, decoding.max_value)


@contextmanager
def opened(file: IO[bytes], max_pixels: int | None = None) -> Iterator[Any]:
    """The PIL image of a file, whose header has been read; ValueError if it has more pixels than allowed."""
    from PIL import Image, UnidentifiedImageError

    advice = "pass a larger max_pixels (--max-pixels)"
    try:
        with _pillow_limit(max_pixels), Image.open(file) as image:
            width, height = image.size
            if max_pixels is not None:
                require_pixels(height, width, max_pixels)
            if image.format == "EPS":  # a program, which Pillow passes to Ghostscript
                raise ValueError("not an image, but a PostScript program")
            yield image
    except UnidentifiedImageError:
        raise ValueError("not an image, or an unsupported format") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{str(error).split(', could')[0]}; {advice} to read it") from None


@contextmanager
def _pillow_limit(max_pixels: int | None) -> Iterator[None]:
    """Replace Pillow's limit on the pixels of an image; None keeps the limit and hides the warning at half of it."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if max_pixels is None:
            yield
            return
        with _LIMIT_LOCK:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                yield
            finally:
                Image.MAX_IMAGE_PIXELS = limit


def as_rgb(image: Any, max_value: float | None = None) -> NDArray[np.uint8]:
    """Convert a PIL image to (height, width, 3) uint8.

    Converts like ``PIL.Image.convert("RGB")``, as other FID tools do: grey is repeated, palettes are looked up, CMYK is
    converted, an alpha channel is dropped, and the EXIF orientation is ignored. Grey of 16 or 32 bits or in floating
    point is scaled so that `max_value` is white, where PIL would clip it at 255.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        grey = scaled(np.asarray(image), max_value)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL warns about palettes with transparency, which is dropped here
        return np.array(image.convert("RGB"))


def scaled(pixels: NDArray[Any], max_value: float | None) -> NDArray[np.uint8]:
    """Pixels wider than 8 bits, scaled so that `max_value` is 255, by default 65,535 in integers; rounded."""
    low, high = pixels.min(initial=0), pixels.max(initial=0)
    if max_value is None and np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(
            f"floating point pixels are not supported without max_value (--max-value), the value of white; these are "
            f"from {low:g} to {high:g}"
        )
    white = 65535 if max_value is None else max_value
    if not (low >= 0 and high <= white):  # also NaN
        given = f"max_value is {white:g}" if max_value is not None else "white is 65535"
        raise ValueError(
            f"pixels from {low:g} to {high:g}, but black is 0 and {given}; pass max_value (--max-value), the value of "
            "white, and convert images with values below 0"
        )
    if float(white).is_integer() and not np.issubdtype(pixels.dtype, np.floating):
        white = int(white)
        return ((pixels.astype(np.int64) * 255 + (white - 1) // 2) // white).astype(np.uint8)
    return np.floor(pixels.astype(np.float64) * (255 / white) + 0.5).astype(np.uint8)
