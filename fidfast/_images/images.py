"""Base class of all image sources: a sequence of (height, width, 3) uint8 images with names."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXTENSIONS", "BrokenImageError", "Images", "is_image_name", "require_images"]

#: File name extensions of images.
EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class BrokenImageError(ValueError):
    """An image cannot be read; the message gives its name and the reason."""


class Images(ABC, Sequence[NDArray[np.uint8]]):
    """A sequence of images, each (height, width, 3) uint8; can be pickled for worker processes."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """Name of each image, for messages."""

    @abstractmethod
    def _identity(self) -> Iterable[str]:
        """Strings that identify the content, without reading all of it."""

    @abstractmethod
    def _read(self, index: int) -> NDArray[np.uint8]: ...

    def fingerprint(self) -> str:
        """SHA-256 of the names inside, sizes and modification times; changes when the images change."""
        digest = hashlib.sha256(type(self).__name__.encode())
        for line in self._identity():
            digest.update(b"\n" + os.fsencode(line))
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """The image, or a list of images for a slice; raises `BrokenImageError` if it cannot be read."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} images")
        index %= len(self)
        try:
            return self._read(index)
        except BrokenImageError:
            raise
        except Exception as error:  # decoders raise many types: OSError, SyntaxError, struct.error, ...
            raise BrokenImageError(f"{self.names[index]}: {error or type(error).__name__}") from error


def is_image_name(name: str) -> bool:
    """Whether a file has an image's extension and is not one of the metadata files of macOS."""
    metadata = name.startswith("__MACOSX/") or os.path.basename(name).startswith("._")
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not metadata


def require_images(names: Sequence[str], origin: Path | str) -> None:
    """Raise ValueError if there are no images."""
    if not names:
        raise ValueError(f"{origin} holds no images; supported extensions are {', '.join(sorted(EXTENSIONS))}")
