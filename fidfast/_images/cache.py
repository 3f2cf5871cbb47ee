"""Moments of images, kept by the content that they are of."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from fidfast import _core
from fidfast._images.images import Images

__all__ = ["folder", "path_of"]


def folder() -> Path:
    """Where statistics are kept: ``$FIDFAST_CACHE``, or the user's own place for such files."""
    if given := os.environ.get("FIDFAST_CACHE"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fidfast"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fidfast"


def path_of(images: Images, extractor: str) -> Path:
    """The file for these images under this extractor, there or not yet.

    The key is made of names, sizes and times of change inside the folder or archive, of the extractor's full name with
    its resize, and of this package's version: a changed image, another resize or a renamed folder never gets the
    statistics of something else.
    """
    key = "\n".join((images.fingerprint(), extractor, _core.__version__))
    return folder() / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"
