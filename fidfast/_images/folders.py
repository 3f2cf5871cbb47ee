"""Images of a folder."""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from fidfast._images.decode import Decoding, open_regular
from fidfast._images.images import EncodedImages, require_images
from fidfast._images.selection import Ignored, is_hidden, is_picture, select

__all__ = ["FolderImages"]


class FolderImages(EncodedImages):
    """The image files of a folder and its subfolders, sorted by their relative names.

    Symbolic links to folders are followed, but every folder is read once. A link to a missing file is a broken image,
    and so is a folder that cannot be read, whose name here ends in a slash; these are the first images.
    """

    def __init__(self, folder: Path, suffixes: tuple[str, ...] | None, decoding: Decoding) -> None:
        ignored = Ignored()
        found, unreadable = _file_names(folder, ignored)
        names = sorted(found)
        chosen = [names[i] for i in select(names, suffixes, ignored, folder, archive=False)]
        self._names = [f"{name}/" for name in sorted(unreadable)] + chosen
        self.origin = folder
        self.decoding = decoding
        self.ignored = ignored.to_dict()
        require_images(self._names, folder, ignored)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def files(self) -> Sequence[Path]:
        return [Path(self.origin, name) for name in self._names]

    def _identity(self) -> Iterable[str]:
        return self._names

    def _select(self, indices: range) -> None:
        self._names = self._names[indices.start : indices.stop]

    def open_file(self, index: int) -> IO[bytes]:
        path = Path(self.origin, self._names[index])
        if self._names[index].endswith("/"):
            os.scandir(path).close()  # raises the error
        return open_regular(path)


def _file_names(folder: Path, ignored: Ignored) -> tuple[list[str], list[str]]:
    """Relative names of the regular files of a folder and its subfolders, and of the subfolders that cannot be read.

    Folders are read before links to folders, and hidden folders last, so that a folder with several names is read under
    the plainest.
    """
    names: list[str] = []
    unreadable: list[str] = []
    #: By device and inode of each folder that was read: its path without links, and its number of pictures.
    read: dict[tuple[int, int], tuple[str, int]] = {}
    twice: list[str] = []
    folders, links, hidden = [""], [], []  # type: tuple[list[str], list[str], list[str]]
    while folders or links or hidden:
        is_link = not folders and bool(links)
        name = folders.pop() if folders else heapq.heappop(links) if links else hidden.pop()
        path = os.path.join(folder, name)
        try:
            status = os.stat(path)
            with os.scandir(path) as scan:
                entries = list(scan)
        except OSError:
            if not name:
                raise
            if not is_hidden(name):  # else its pictures would only be counted
                unreadable.append(name)
            continue
        identity = status.st_dev, status.st_ino
        if identity in read:
            if is_link:
                twice.append(name)
            continue
        pictures = 0
        for entry in entries:
            inner = f"{name}/{entry.name}" if name else entry.name
            mode = _mode_of(entry)
            if stat.S_ISDIR(mode) and is_hidden(inner):
                if not entry.is_symlink():
                    hidden.append(inner)
            elif stat.S_ISDIR(mode):
                if entry.is_symlink():
                    heapq.heappush(links, inner)
                else:
                    folders.append(inner)
            elif stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and is_picture(inner)):
                names.append(inner)
                pictures += is_picture(inner) and not is_hidden(inner)
            elif is_picture(inner):
                ignored.add("not a regular file", inner)
        read[identity] = os.path.realpath(path), pictures
    for name in twice:
        target = os.path.realpath(os.path.join(folder, name))
        below = os.path.join(target, "")
        number = sum(count for path, count in read.values() if path == target or path.startswith(below))
        ignored.add("in a folder linked twice", name, number)
    return names, unreadable


def _mode_of(entry: os.DirEntry[str]) -> int:
    """Type of a file, or of the target of a link; S_IFLNK for a link without target."""
    try:
        if entry.is_dir():  # mostly without a system call
            return stat.S_IFDIR
        return stat.S_IFREG if entry.is_file() else entry.stat().st_mode
    except OSError:
        return stat.S_IFLNK
