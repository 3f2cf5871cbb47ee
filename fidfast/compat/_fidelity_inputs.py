"""The inputs of torch-fidelity's ``calculate_metrics`` as sources of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fidfast._arguments import require_path

__all__ = ["fidelity_input"]


def fidelity_input(name: str, values: Mapping[str, Any]) -> Any:
    """The source of images that an input of ``calculate_metrics`` specifies.

    Parameters
    ----------
    name : {"input1", "input2"}
    values : mapping
        All keywords, checked.

    Raises
    ------
    TypeError, ValueError
        If the input is not available, or a folder has no images with the extensions.
    """
    from torch_fidelity import GenerativeModelBase
    from torch_fidelity.registry import DATASETS_REGISTRY

    source = values[name]
    if isinstance(source, GenerativeModelBase):
        num_samples = values[f"{name}_model_num_samples"]
        if num_samples is None:
            raise ValueError(f"{name}_model_num_samples must be given for a generator")
        return _GeneratedImages(source, num_samples, values["batch_size"] or 64, values["rng_seed"], values["cuda"])
    if not isinstance(source, (str, os.PathLike)):
        return source
    path = require_path(name, source)
    if path in DATASETS_REGISTRY:
        return _registered_dataset(DATASETS_REGISTRY[path], values)
    if os.path.isdir(path):
        files = _files(name, path, values)
        size = values["samples_resize_and_crop"]
        return _SquareImages(files, size) if size else files
    if path.endswith((".onnx", ".pth")):
        raise ValueError(
            f"{name}: a generator in a file is not available: load {path}, and pass it in torch-fidelity's "
            "GenerativeModelModuleWrapper or GenerativeModelONNX"
        )
    return path


def _registered_dataset(make: Any, values: Mapping[str, Any]) -> Any:
    """A dataset of torch-fidelity's registry, in torch-fidelity's folder."""
    import torch

    root = values["datasets_root"] or os.path.join(os.path.dirname(torch.hub.get_dir()), "fidelity_datasets")
    os.makedirs(root, exist_ok=True)
    return make(root, values["datasets_download"])


def _files(name: str, folder: str, values: Mapping[str, Any]) -> list[str]:
    """The files with the extensions, sorted by their path without links as in torch-fidelity; hidden ones too."""
    extensions = tuple(f".{part.strip()}" for part in values["samples_find_ext"].split(",") if part.strip())
    found = []
    for root, folders, files in os.walk(folder):
        if not values["samples_find_deep"]:
            folders.clear()
        found += [os.path.join(root, file) for file in files if os.path.splitext(file)[1].lower() in extensions]
    if not found:
        hint = "" if values["samples_find_deep"] else "; samples_find_deep=True also reads the folders in it"
        raise ValueError(f"{name}: {folder} has no files with samples_find_ext={values['samples_find_ext']!r}{hint}")
    return sorted(map(os.path.realpath, found))


class _SquareImages:
    """Images resized so that the shorter side has `size` pixels, and cropped to a square."""

    def __init__(self, files: list[str], size: int) -> None:
        self.files = files
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        from PIL import Image
        from torchvision.transforms import functional

        with Image.open(self.files[index]) as image:
            resized = functional.resize(image.convert("RGB"), self.size)
        return functional.center_crop(resized, [self.size, self.size])


class _GeneratedImages:
    """The batches of a generator, from the random numbers that torch-fidelity draws."""

    def __init__(self, model: Any, num_samples: int, batch_size: int, seed: int, cuda: bool) -> None:
        self.model = model
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.cuda = cuda

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[Any]:
        import torch
        from torch_fidelity.registry import NOISE_SOURCE_REGISTRY

        device = torch.device("cuda" if self.cuda and torch.cuda.is_available() else "cpu")
        model = self.model.to(device)
        random = np.random.RandomState(self.seed)
        for first in range(0, self.num_samples, self.batch_size):
            size = min(self.batch_size, self.num_samples - first)
            arguments = [NOISE_SOURCE_REGISTRY[model.z_type](random, (size, model.z_size))]
            if model.num_classes > 0:
                arguments.append(torch.from_numpy(random.randint(0, model.num_classes, size)))
            with torch.no_grad():
                images = model(*(argument.to(device) for argument in arguments))
            yield images
