"""Images of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fidfast._images.decode import decode
from fidfast._images.images import Images, is_image_name, require_images

__all__ = ["FolderImages"]


class FolderImages(Images):
    """The image files of a folder and its subfolders, sorted by their relative names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = sorted(path.relative_to(folder).as_posix() for path in _image_files(folder))
        require_images(self._names, folder)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def _identity(self) -> Iterable[str]:
        for name in self._names:
            status = (self._folder / name).stat()
            yield f"{name}\t{status.st_size}\t{status.st_mtime_ns}"

    def _read(self, index: int) -> NDArray[np.uint8]:
        with open(self._folder / self._names[index], "rb") as file:
            return decode(file)


def _image_files(folder: Path) -> Iterator[Path]:
    """The image files of a folder and its subfolders, symbolic links included; OSError if a folder is unreadable."""

    def stop(error: OSError) -> None:
        raise error

    seen = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        targets = {name: os.path.realpath(os.path.join(parent, name)) for name in folders}
        folders[:] = [name for name in folders if targets[name] not in seen]  # a link to a parent would recurse forever
        seen.update(targets.values())
        yield from (Path(parent, name) for name in names if is_image_name(name))
