"""The inputs of clean-fid's functions as sources of images or statistics."""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fidfast._arguments import require_text, shown

__all__ = ["GeneratedImages", "ImageFunctions", "cleanfid_images", "find_statistics", "statistics_file"]

#: Where clean-fid's authors publish statistics.
_URL = "https://www.cs.cmu.edu/~clean-fid/stats"

#: Extensions that clean-fid reads in folders, in lower case.
_EXTENSIONS = (".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp", ".npy")


@dataclass(frozen=True)
class ImageFunctions:
    """Functions of the user that change an image: ``custom_image_tranform``, then ``custom_fn_resize``."""

    functions: tuple[Callable[..., Any], ...]

    def __call__(self, item: Any) -> Any:
        """The changed image of an item of a source."""
        from fidfast.torch._images.items import image_pixels

        image: Any = image_pixels(item).movedim(0, 2).numpy()
        for function in self.functions:
            image = np.asarray(function(image))
        return _pixels_of_array(image)


@dataclass(frozen=True)
class _Items:
    """Items that are changed when they are read."""

    items: Sequence[Any]
    change: Callable[[Any], Any]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.change(self.items[index])


def cleanfid_images(source: Any, functions: ImageFunctions, options: Any, name: str) -> Any:
    """The images of a folder, an archive or another source, changed by the user's functions.

    Parameters
    ----------
    source
        As `fidfast.torch.moments_of_images`; a folder may also contain ``.npy`` files of one image.
    functions : ImageFunctions
    options : fidfast.torch.ImageOptions
    name : str
        Name of the argument.
    """
    from fidfast.torch._images.sources import ImageSource, open_source

    if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
        found = (Path(root, file) for root, _, files in os.walk(os.fspath(source)) for file in files)
        files = sorted(file for file in found if file.suffix.lower() in _EXTENSIONS)
        if any(file.suffix.lower() == ".npy" for file in files):
            source = _Items(files, _loaded)
    if not functions.functions:
        return source
    opened = open_source(source, options, name=name)
    if opened.indexed is not None:
        return _Items(opened.indexed, functions)
    return ImageSource(stream=map(functions, opened.stream()), length=opened.length, unordered=opened.unordered)


def _loaded(file: Path) -> Any:
    """The path of an image, or the image in an ``.npy``."""
    return _pixels_of_array(np.load(file, allow_pickle=False)) if file.suffix.lower() == ".npy" else file


def _pixels_of_array(image: np.ndarray[Any, Any]) -> Any:
    """An array from 0 to 255 as an item of a source, whose floats are from 0 to 1."""
    import torch

    if image.dtype == np.uint8:
        return image
    return torch.from_numpy(np.asarray(image, np.float32)).movedim(2, 0).clamp(0, 255) / 255


@dataclass(frozen=True)
class GeneratedImages:
    """Batches of a generator from normal random numbers of torch's global generator, as clean-fid draws them."""

    generator: Callable[..., Any]
    num_images: int
    z_dim: int
    batch_size: int
    device: Any

    def __len__(self) -> int:
        return self.num_images

    def __iter__(self) -> Iterator[Any]:
        import torch

        for first in itertools.count(step=self.batch_size):
            if first >= self.num_images:
                return
            with torch.no_grad():  # clean-fid draws complete batches, also the last
                images = self.generator(torch.randn((self.batch_size, self.z_dim)).to(self.device))
            if images.dtype != torch.uint8:
                images = images.float().clamp(0, 255) / 255
            yield images[: self.num_images - first]


def statistics_file(name: Any, resolution: Any, split: Any, mode: str, *, kid: bool) -> str:
    """Name of clean-fid's file of the statistics of a data set; checks the arguments."""
    for argument, value in (("dataset_name", name), ("dataset_split", split)):
        if os.sep in require_text(argument, value) or not value:
            raise ValueError(f"{argument} must be the name of a data set of clean-fid, got {shown(value)}")
    if isinstance(resolution, bool) or not isinstance(resolution, (int, str)) or os.sep in str(resolution):
        raise TypeError(f"dataset_res must be an int or 'na', got {shown(resolution)}")
    resolution = "na" if split == "custom" else resolution
    return f"{name}_{mode}_{split}_{resolution}{'_kid' * kid}.npz".lower()


def find_statistics(file: str, *, progress: bool) -> str:
    """Path of a file of clean-fid, which is downloaded if it is in neither of two folders.

    Raises
    ------
    FileNotFoundError
        If it is not found and cannot be downloaded; the message says where it is and where to put it.
    """
    import torch

    spec = importlib.util.find_spec("cleanfid")
    folders = [Path(folder, "stats") for folder in (spec.submodule_search_locations or ())] if spec else []
    cached = Path(torch.hub.get_dir(), "clean-fid")
    for folder in (*folders, cached):
        if (folder / file).is_file():
            return str(folder / file)
    try:
        cached.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(f"{_URL}/{file}", str(cached / file), progress=progress)
    except OSError as error:
        raise FileNotFoundError(
            f"dataset_name, dataset_res, dataset_split: {file} could not be downloaded ({error}); download "
            f"{_URL}/{file} to {cached}, or pass the statistics or images of the reference as fdir2"
        ) from error
    return str(cached / file)
