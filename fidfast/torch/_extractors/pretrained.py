"""Extractors of the pretrained networks in `NETWORKS`."""

from __future__ import annotations

import importlib
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import torch

from fidfast._network_table import NETWORKS, PretrainedNetwork
from fidfast.torch._extractors.arithmetic import full_float32, ordinary_tensors
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.networks import name_of

__all__ = ["PretrainedFeatures", "find_file", "pretrained", "require_package"]


def pretrained(name: str, weights: str | os.PathLike[str] | None) -> Extractor:
    """The extractor of a network in `NETWORKS`.

    Parameters
    ----------
    name : str
        A key of `NETWORKS`.
    weights : path or None
        A ``.safetensors`` file, or a file of ``torch.save`` (OpenAI's TorchScript files too), as timm, torchvision or
        the authors of the network distribute it. If None, torch's cache and the cache of the Hugging Face Hub are
        searched, then the file is downloaded.

    Returns
    -------
    Extractor
        Its name contains a digest of the weights, which is that of the tensors, whatever the format of the file.

    Raises
    ------
    FileNotFoundError
        If the weights are not found and cannot be downloaded; the message says what to download and where to put it.
    ImportError
        If the package with the architecture is not installed.
    ValueError
        If the file does not hold weights of this network.
    """
    entry = NETWORKS[name]
    architecture = _architecture(name, entry)
    path = find_file(name, entry, weights)
    with full_float32(), ordinary_tensors():
        network = architecture()
        _load(network, _tensors(path), f"weights: {path} does not hold the weights of {name}")
        network.eval().requires_grad_(False)
        digest = name_of(network).weights  # before the positions depend on the input size
        _set_input_size(network, entry)
    return Extractor(
        PretrainedFeatures(network, entry.output).eval(),
        name=name,
        input_size=(entry.input_size, entry.input_size),
        resize=entry.resize,
        offset=_scaled(entry.mean),
        divisor=_scaled(entry.std),
        num_features=entry.num_features,
        reproducible=True,
        weights=digest,
    )


class PretrainedFeatures(torch.nn.Module):
    """The features of a network: ``output`` as in `PretrainedNetwork`."""

    def __init__(self, network: torch.nn.Module, output: str) -> None:
        super().__init__()
        self.network = network
        self.output = output

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.output == "mean":  # in float32, whatever the network's arithmetic
            return self.network.forward_features(images).float().mean(dim=(2, 3))
        features = self.network(images)
        return torch.nn.functional.normalize(features.float()) if self.output == "unit" else features


def find_file(name: str, entry: PretrainedNetwork, weights: str | os.PathLike[str] | None) -> Path:
    """The weights file, as in `pretrained`; raises as it does."""
    if weights is not None:
        path = Path(weights)
        if not path.exists():
            raise FileNotFoundError(f"no such weights file: {path}")
        if not path.is_file():  # opening a FIFO would wait for a writer for ever
            raise ValueError(f"weights: {path} is not a regular file")
        return path
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for file in (entry.file_name, *entry.other_files):
        if (folder / file).is_file():
            return folder / file
    target = folder / entry.file_name
    try:
        return _downloaded(entry, target)
    except Exception as error:  # of the Hub's HTTP client, which has no common base class
        digest = f" (SHA-256 {entry.sha256}...)" if entry.sha256 else ""
        raise FileNotFoundError(
            f"the weights of {name} could not be downloaded ({error}); download {entry.file_url}{digest}, and pass it "
            f"as weights (--weights {name}=FILE) or put it at {target}"
        ) from error


def _downloaded(entry: PretrainedNetwork, target: Path) -> Path:
    if entry.repository is None:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(entry.url, str(target), entry.sha256, progress=False)
        return target
    from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache

    if isinstance(found := try_to_load_from_cache(entry.repository, "model.safetensors"), str):
        return Path(found)
    probe = urllib.request.Request(hf_hub_url(entry.repository, "model.safetensors"), method="HEAD")
    try:
        urllib.request.urlopen(probe, timeout=30).close()
    except urllib.error.HTTPError:
        pass  # the next line raises an error with the reason
    return Path(hf_hub_download(entry.repository, "model.safetensors"))  # without a network it retries for 30 s


def require_package(name: str) -> Any:
    """The module with the architecture of a network; raises ImportError with the next step."""
    package = NETWORKS[name].package
    try:
        return importlib.import_module("timm" if package == "timm" else "torchvision.models")
    except ImportError as error:
        raise ImportError(f"the extractor {name} needs {package}: pip install 'fidfast[networks]' ({error})") from error


def _architecture(name: str, entry: PretrainedNetwork) -> Any:
    """A function that returns the network, without weights, on the meta device."""
    module = require_package(name)

    def create() -> torch.nn.Module:
        with torch.device("meta"):
            if entry.package == "timm":
                return module.create_model(entry.architecture, **entry.options)
            network = getattr(module, entry.architecture)(**entry.options)
            if entry.architecture == "vgg16":
                network.classifier = network.classifier[:5]  # up to the ReLU of the second fully connected layer
            else:
                network.fc = torch.nn.Identity()
            return network

    return create


def _tensors(path: Path) -> dict[str, Any]:
    """The dictionary in a weights file. No code in it is executed."""
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that torch.jit.load is deprecated
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except RuntimeError as error:
                if "TorchScript" not in str(error):
                    raise
                state = torch.jit.load(path, map_location="cpu").state_dict()
    except Exception as error:  # unpicklers raise many types
        raise ValueError(f"weights: {path} is damaged or holds objects other than weights: {error}") from error
    for key in ("model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise ValueError(f"weights: {path} must hold a dictionary of tensors, got {type(state).__name__}")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _load(network: torch.nn.Module, tensors: dict[str, Any], refusal: str) -> None:
    """Give a network on the meta device its weights, in float32.

    Raises
    ------
    ValueError
        If one is missing, or has another shape; the message begins with `refusal`.
    """
    convert = getattr(importlib.import_module(type(network).__module__), "checkpoint_filter_fn", None)
    if convert is not None:  # timm's conversion from the formats of the authors
        _check_positions(network, tensors, refusal)
        try:
            tensors = convert(tensors, network)
        except Exception as error:
            raise ValueError(f"{refusal} ({type(error).__name__}: {error})") from error
    found = {}
    for key, expected in network.state_dict().items():
        tensor = tensors.get(key)
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{refusal}: {key} is missing")
        if tensor.shape != expected.shape:
            raise ValueError(f"{refusal}: {key} has shape {tuple(tensor.shape)}, expected {tuple(expected.shape)}")
        found[key] = tensor.to(expected.dtype)
    network.load_state_dict(found, assign=True)


def _check_positions(network: Any, tensors: dict[str, Any], refusal: str) -> None:
    """Refuse position embeddings of another input size, which timm's conversion would interpolate."""
    for key in ("pos_embed", "visual.trunk.pos_embed", "visual.positional_embedding"):
        if isinstance(found := tensors.get(key), torch.Tensor) and found.shape[-2] != network.pos_embed.shape[-2]:
            raise ValueError(
                f"{refusal}: {key} has {found.shape[-2]} positions, expected {network.pos_embed.shape[-2]}"
            )


def _set_input_size(network: Any, entry: PretrainedNetwork) -> None:
    """Interpolate the position embeddings of DINOv2 as its own code does, for the input size.

    ``interpolate_pos_encoding`` of facebookresearch/dinov2: bicubic without antialiasing, scaled by (new + 0.1) / old
    positions. timm's interpolation is antialiased, which changes the features.
    """
    positions = getattr(network, "pos_embed", None)
    if positions is None or entry.options.get("dynamic_img_size"):
        return
    new, old = entry.input_size // network.patch_embed.patch_size[0], isqrt(positions.shape[1] - 1)
    if new == old:
        return
    network.set_input_size(entry.input_size)
    grid = positions[:, 1:].unflatten(1, (old, old)).movedim(3, 1)
    grid = torch.nn.functional.interpolate(grid, scale_factor=(new + 0.1) / old, mode="bicubic")
    network.pos_embed = torch.nn.Parameter(
        torch.cat([positions[:, :1], grid.flatten(2).movedim(1, 2)], dim=1), requires_grad=False
    )


def _scaled(values: tuple[float, float, float]) -> tuple[float, float, float]:
    """Values for pixels from 0 to 255 instead of 0 to 1."""
    red, green, blue = (255.0 * value for value in values)
    return red, green, blue
