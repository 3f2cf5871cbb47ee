"""Cache of the moments of images, keyed by image content and extractor."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from fidfast import _core
from fidfast._images.images import Images

__all__ = ["folder", "path_of"]


def folder() -> Path:
    """``$FIDFAST_CACHE``, or the user's cache folder for fidfast."""
    if override := os.environ.get("FIDFAST_CACHE"):
        return Path(override)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fidfast"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fidfast"


def path_of(images: Images, extractor: str) -> Path:
    """The cache file for these images and this extractor; it need not exist.

    The key is a hash of the images' fingerprint, the extractor's full name with its resize, and the package version. A
    changed image, another resize or another version gives another file.
    """
    key = "\n".join((images.fingerprint(), extractor, _core.__version__))
    return folder() / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"
