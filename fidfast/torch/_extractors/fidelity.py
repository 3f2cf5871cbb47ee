"""The networks of torch-fidelity's registry as extractors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from fidfast._files import require_tensors
from fidfast.torch._extractors.arithmetic import full_float32, ordinary_tensors
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.named import load_extractors

__all__ = ["Layer", "default_layer", "load_layers"]

#: The networks that the metrics use by default.
_DEFAULTS = {"isc": "inception-v3-compat", "fid": "inception-v3-compat", "kid": "inception-v3-compat", "prc": "vgg16"}

#: Layers of inception-v3-compat that `load_extractors` provides, prepared for inference.
_OURS = {"2048": "inception", "logits_unbiased": "inception-logits"}


class Layer(NamedTuple):
    """A layer of a network."""

    #: Key of torch-fidelity's registry.
    network: str
    #: One of the network's ``get_provided_features_list()``.
    layer: str


def default_layer(metric: str, network: str | None, layer: str | None) -> Layer:
    """The layer that torch-fidelity uses for a metric ("isc", "fid", "kid", "prc"), unless one is given.

    Raises
    ------
    ValueError
        If there is no such network or layer.
    """
    network = network or _DEFAULTS[metric]
    if network not in FEATURE_EXTRACTORS_REGISTRY:
        choices = ", ".join(FEATURE_EXTRACTORS_REGISTRY)
        raise ValueError(f"feature_extractor must be one of {choices}, got {network!r}")
    provided = FEATURE_EXTRACTORS_REGISTRY[network].get_provided_features_list()
    layer = layer or FEATURE_EXTRACTORS_REGISTRY[network].get_default_feature_layer_for_metric(metric)
    if layer not in provided:
        raise ValueError(f"feature_layer_{metric} must be one of {', '.join(provided)} of {network}, got {layer!r}")
    return Layer(network, layer)


def load_layers(
    layers: Iterable[Layer], *, weights: str | os.PathLike[str] | None, dtype: str | None, verbose: bool
) -> dict[Layer, Extractor]:
    """The extractors of the layers; those of one network share it.

    Parameters
    ----------
    layers : iterable of Layer
    weights : path, optional
        As torch-fidelity's ``feature_extractor_weights_path``.
    dtype : str, optional
        As its ``feature_extractor_internal_dtype``.
    verbose : bool
        Whether torch-fidelity shows the progress of a download.
    """
    found: dict[Layer, Extractor] = {}
    of_network: dict[str, list[str]] = {}
    for network, layer in layers:
        of_network.setdefault(network, []).append(layer)
    for network, names in of_network.items():
        if network == "inception-v3-compat" and _OURS.keys() >= set(names):
            extractors = load_extractors([_OURS[name] for name in names], weights=weights)
        else:
            extractors = _extractors_of_registry(network, names, weights, dtype, verbose)
        found.update(zip((Layer(network, name) for name in names), extractors, strict=True))
    return found


def _extractors_of_registry(
    network: str, layers: list[str], weights: str | os.PathLike[str] | None, dtype: str | None, verbose: bool
) -> list[Extractor]:
    if weights is not None and not network.startswith("clip-"):  # whose weights are TorchScript
        require_tensors(weights)  # torch-fidelity would execute a pickle of other objects
    make = FEATURE_EXTRACTORS_REGISTRY[network]
    with full_float32(), ordinary_tensors():
        model = make(
            network,
            layers,
            feature_extractor_weights_path=weights,
            feature_extractor_internal_dtype=dtype,
            verbose=verbose,
        )
        named = _NamedLayers(model.requires_grad_(False).eval())
    return [Extractor(named, name=f"{network}-{layer}", output=layer, takes_uint8=True) for layer in layers]


class _NamedLayers(torch.nn.Module):
    """A network of torch-fidelity that returns its features by the names of the layers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        features: dict[str, torch.Tensor] = self.model.convert_features_tuple_to_dict(self.model(images))
        return features
