"""What a set of images holds, from the headers of a sample; warnings of dark pixels and of further frames."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np

from fidfast._images.arrays import ArrayImages
from fidfast._images.decode import Decoding, open_regular, opened, require_pixels
from fidfast._images.images import EncodedImages, Images, reason_of
from fidfast._images.open import open_images
from fidfast._images.selection import suffix_of
from fidfast._warnings import warn_user

__all__ = ["describe_images", "warn_of_frames", "warn_of_range"]

#: Largest number of files whose headers `describe_images` reads.
_HEADERS = 1000

#: Largest number of images that `warn_of_range` and `warn_of_frames` open.
_SAMPLED = 64

#: Number of different sizes and modes that are listed.
_MOST_COMMON = 10


def describe_images(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Properties of the images of a folder or archive, in JSON types.

    Returns
    -------
    dict
        ``images``, their number; ``suffixes``, ``sizes`` (width x height) and ``modes`` (as Pillow names them) with
        the number of images of each; ``headers_read``, the number of evenly spaced images from which sizes and modes
        are; ``broken``, those of them that are not images; ``ignored``, the number of files that are not read, by
        reason.

    Raises
    ------
    FileNotFoundError, ValueError
        As `open_images`, except that samples with several images are described, not refused.
    """
    try:
        images = open_images(path)
    except ValueError:
        images = open_images(path, suffix="*")  # raises again unless samples have several images
    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    broken = []
    indices = _evenly(len(images), _HEADERS)
    for index in indices:
        try:
            assert isinstance(images, EncodedImages)
            with images.open_file(index) as file, opened(file) as image:
                sizes["{} x {}".format(*image.size)] += 1
                modes[image.mode] += 1
        except Exception as error:  # as in Images.__getitem__
            broken.append(f"{images.path_of(index)}: {reason_of(error)}")
    names = [name for name in images.names if not name.endswith("/")]  # without folders that cannot be read
    suffixes = Counter(f".{suffix_of(name)}" for name in names)
    if len(suffixes) > _MOST_COMMON:  # names with dots
        suffixes = Counter(os.path.splitext(name)[1].lower() for name in names)
    return {
        "images": len(names),
        "suffixes": _largest(suffixes),
        "headers_read": len(indices),
        "sizes": _largest(sizes),
        "modes": _largest(modes),
        "broken": broken,
        "ignored": dict(images.ignored),
    }


def _largest(counts: Counter[str]) -> dict[str, int]:
    """The most common entries, and the sum of the others."""
    common = counts.most_common(_MOST_COMMON)
    others = counts.total() - sum(number for _, number in common)
    return {**dict(common), **({"others": others} if others else {})}


def _evenly(total: int, number: int) -> list[int]:
    """At most `number` indices below `total`, evenly spaced."""
    return sorted({i * total // min(total, number) for i in range(min(total, number))})


def warn_of_range(images: Images | Sequence[Any], decoding: Decoding, origin: object) -> None:
    """Warn if pixels use so little of their range that the images are nearly black.

    Files often hold 8 to 14 bits in 16; masks hold 0 and 1; floats from 0 to 1 may have been divided by 255. A sample
    of evenly spaced images is read. If `max_value` is given, only arrays of floats are checked.

    Parameters
    ----------
    images : Images or sequence
        A sequence may hold paths, PIL images, arrays and tensors; other items are not checked.
    decoding : Decoding
    origin : object
        Of the images, for the message.
    """
    indices = _evenly(len(images), _SAMPLED)
    brightness = partial(_brightness_of, max_value=decoding.max_value)
    found: list[tuple[float, float]] = []
    for index in indices:
        found.append(_measured(brightness, images, index, decoding, (0.0, 255.0)))
        if found[-1][0] > found[-1][1] / 255 * (1 + 1e-6):  # 1 / 255 is rounded in floats
            break
    else:
        value, white = max(found, default=(0, 0))
        if value > 0:
            warn_user(
                f"{origin}: the values of the images are 0 and 1, white is 255: multiply them by 255"
                if (value, white) == (1, 255)
                else f"{origin}: the largest value of the images is {value:.3g}, white is {white:g}, so the images "
                "are black: rescale them, or pass max_value (--max-value), the value of white"
            )
    if decoding.max_value is not None or isinstance(images, ArrayImages):
        return
    largest = {16: 0, 8: 0}
    for index in indices:
        bits, number = _measured(_largest_of, images, index, decoding, (8, 0))
        largest[bits] = max(largest[bits], number)
    where = f"{origin}: in a sample of {len(indices)} images" if len(indices) < len(images) else origin
    if 0 < largest[16] < 1 << 14:
        white = next(2**bits - 1 for bits in (8, 10, 12, 14) if largest[16] < 2**bits)
        warn_user(
            f"{where}: the largest value of 16-bit grey is {largest[16]:,}, white is 65,535, so that the images are "
            f"dark: pass max_value={white} (--max-value {white}) if that is white, max_value=65535 if not"
        )
    if 0 < largest[8] < 1 << 6:
        warn_user(
            f"{where}: the largest value of 16-bit colour is about {largest[8] << 8:,}, white is 65,535, so that the "
            "images are dark; Pillow reads the upper 8 bits only: convert the files to 8 bits per channel"
        )


def warn_of_frames(images: Images | Sequence[Any], decoding: Decoding, origin: object) -> None:
    """Warn if files hold several frames or pages, of which the first is read. A sample of the files is opened."""
    found = [(_measured(_frames_of, images, index, decoding, 1), -index) for index in _evenly(len(images), _SAMPLED)]
    frames, index = max(found, default=(1, 0))
    if frames > 1:
        name = images.names[-index] if isinstance(images, Images) else images[-index]
        warn_user(
            f"{origin}: files with several frames or pages count as one image, the first of them: {name} has {frames}"
        )


_T = TypeVar("_T")


def _measured(
    measure: Callable[[Any], _T], images: Images | Sequence[Any], index: int, decoding: Decoding, otherwise: _T
) -> _T:
    """The measure of an image that is not decoded yet, or of an item in memory; `otherwise` of a broken image."""
    try:
        with _opened_item(images, index, decoding) as item:
            return measure(item)
    except Exception:  # broken images are reported when they are read
        return otherwise


@contextmanager
def _opened_item(images: Images | Sequence[Any], index: int, decoding: Decoding) -> Iterator[Any]:
    """The PIL image of a file, or an item in memory."""
    if isinstance(images, EncodedImages):
        file = images.open_file(index)
    else:
        item: Any = images.stored(index) if isinstance(images, ArrayImages) else images[index]
        if not isinstance(item, (str, os.PathLike)):
            if len(shape := getattr(item, "shape", ())) > 1:
                height, width = sorted(shape)[-2:]
                require_pixels(height, width, decoding.max_pixels)
            yield item
            return
        file = open_regular(item)
    with file, opened(file, decoding.max_pixels) as image:
        yield image


def _is_pil(item: Any) -> bool:
    return hasattr(item, "convert") and hasattr(item, "mode")


def _frames_of(item: Any) -> int:
    """Number of frames; 1 for the further pictures of a photograph (MPO)."""
    return 1 if getattr(item, "format", None) == "MPO" else int(getattr(item, "n_frames", 1))


def _brightness_of(item: Any, max_value: float | None) -> tuple[float, float]:
    """The largest value and white of an image of 8 bits or floats; those of a white image if it is not checked."""
    if _is_pil(item):
        if max_value is not None or item.mode == "F" or item.mode.startswith("I"):  # checked by `_largest_of`
            return 255, 255
        item = np.asarray(item.convert("RGB"))
    dtype = str(getattr(item, "dtype", "")).rpartition(".")[2]
    if "float" in dtype:
        return float(item.max()), max_value or 1
    return (float(item.max()), 255) if dtype == "uint8" and max_value is None else (255, 255)


def _largest_of(image: Any) -> tuple[int, int]:
    """Bits of the values that are decoded, 16 or 8, and the largest; 0 unless a file has more than 8 bits."""
    if not _is_pil(image):
        return 8, 0
    if image.mode.startswith("I"):
        return 16, int(np.asarray(image).max(initial=0))
    if any("16" in str(tile[3]) for tile in getattr(image, "tile", ())):  # the raw mode, for example RGB;16B
        return 8, int(np.asarray(image.convert("RGB")).max(initial=0))
    return 8, 0
