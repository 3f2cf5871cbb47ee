"""Conversion of networks and callables to `Extractor`.

Networks of torch-fidelity, torchmetrics and timm, the TorchScript file of the StyleGAN repositories, and ONNX sessions
are recognised and need no wrapper.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fidfast._arguments import optional, require_instance, require_text
from fidfast._results import is_inception
from fidfast.torch._extractors.callables import owner_of, warn_of_training
from fidfast.torch._extractors.extractor import DEFAULT_RESIZE, Extractor
from fidfast.torch._extractors.networks import (
    attribute_of,
    called_networks,
    layer_path,
    name_of,
    same_attributes,
    unwrapped,
    warn_of_unused_attributes,
)
from fidfast.torch._extractors.resize import check_resize

__all__ = ["LayerFeatures", "PooledFeatures", "ScriptFeatures", "as_extractor", "at_layer"]


def as_extractor(model: Any, *, name: str | None = None, resize: str | None = None) -> Extractor:
    """Convert any network or callable to an `Extractor`.

    Parameters
    ----------
    model : Extractor, callable, torch.nn.Module, torch.jit.ScriptModule or onnxruntime.InferenceSession
        From a batch (n, 3, height, width) to ``(n, dim)``, ``(n, dim, 1, 1)``, or a list, tuple or dictionary that
        holds exactly one such array. Its attributes ``name``, ``num_features``, ``input_size`` (an int for a square, or
        (height, width)) and ``input_range`` (values of black and white, default ``(0, 1)``) are used. If a wrapper
        (``DataParallel``, ``AveragedModel``, ``torch.compile`` and others) does not have one, it is that of the network
        inside. Modules are called in evaluation mode; then the mode of every submodule is restored.
    name : str, optional
        Overrides the attribute ``name``. If neither is given, the name is that of the architecture (timm's
        configuration with its tag, the repository of a network of transformers, else the class or the function), and a
        digest of the weights is added to `Extractor.full_name`.
    resize : str, optional
        One of `fidfast.torch.RESIZES`, for networks with an ``input_size``. Default "pil-bicubic".

    Raises
    ------
    TypeError, ValueError
        If the model is not callable, or an attribute has an invalid value.

    Warns
    -----
    UserWarning
        If only a part called ``model`` of a network, not the network, has an ``input_size`` or ``input_range``, or a
        function calls a network that is in training mode.

    Notes
    -----
    Wrappers that only distribute, average or compile a network are removed: the network runs on one device, and is
    compiled if `prepare` compiles it.
    """
    optional(require_text, "name", name)
    if resize is not None:
        check_resize(resize)
    if not (callable(model) or hasattr(model, "run")):
        raise TypeError(f"model: an extractor must be callable, got {type(model).__name__}")
    if isinstance(model, Extractor):
        named = replace(model, name=name, weights=None) if name else model
        return replace(named, resize=check_resize(resize or model.resize))
    label, weights = (name, None) if name else name_of(model)
    if is_inception(label):
        raise ValueError(f"the name {label!r} is reserved for the 2015 Inception network; pass another name=")
    common: dict[str, Any] = {"name": label, "resize": check_resize(resize or DEFAULT_RESIZE), "weights": weights}
    if hasattr(model, "get_inputs") and hasattr(model, "run"):
        return _from_onnx(model, common)
    warn_of_training(model, "the extractor")
    network = unwrapped(model)
    if isinstance(network, torch.jit.ScriptModule) and _has_argument(network, "return_features"):
        return Extractor(ScriptFeatures(network), takes_uint8=True, **common)
    if any(base.__module__.startswith("torch_fidelity.") for base in type(network).__mro__):
        return Extractor(network, takes_uint8=True, **common)
    for inner in called_networks(model):
        if hasattr(inner, "forward_features"):
            return _from_attributes(PooledFeatures(inner), model, common)
    return _from_attributes(network, model, {**common, "num_features": attribute_of(model, "num_features")})


def at_layer(model: torch.nn.Module, layer: str) -> torch.nn.Module:
    """Use the output of a layer as features: ``at_layer(inception_v3(...), "avgpool")``.

    Parameters
    ----------
    model : torch.nn.Module
        Its attributes ``input_size``, ``input_range`` and ``pretrained_cfg`` (of timm) are kept, also those of a
        network in a wrapper.
    layer : str
        Name of a submodule whose output is (n, dim) or (n, dim, 1, 1).

    Returns
    -------
    torch.nn.Module
        From a batch of images to the output of the layer.

    Raises
    ------
    AttributeError
        If there is no such layer.
    TypeError
        If the model is not a module.
    """
    require_instance("model", model, torch.nn.Module)
    require_text("layer", layer)
    module = LayerFeatures(unwrapped(model), layer_path(model, layer))
    same_attributes(module, model)
    module.name, module.num_features = f"{module.name}.{layer}", None
    return module


def _from_attributes(call: Any, model: Any, common: dict[str, Any]) -> Extractor:
    """Extractor that calls `call`, with the attributes of the model or its configuration of timm."""
    owner = owner_of(model)
    source = model if owner is None else owner  # a bound method has the attributes of its module
    warn_of_unused_attributes(source)
    config = attribute_of(source, "pretrained_cfg") or attribute_of(source, "default_cfg")
    bounds, size = attribute_of(source, "input_range"), attribute_of(source, "input_size")
    if bounds is None and isinstance(config, Mapping) and "mean" in config and "std" in config:
        return Extractor(
            call,
            input_size=_input_size(config.get("input_size") if size is None else size),
            offset=tuple(255.0 * value for value in config["mean"]),
            divisor=tuple(255.0 * value for value in config["std"]),
            **common,
        )
    size = _input_size(size)
    low, high = _input_range(bounds)
    if (low, high) == (0, 255):
        identity = (1.0, 1.0, 1.0)
        return Extractor(
            call, input_size=size, takes_uint8=size is None, offset=(0.0, 0.0, 0.0), divisor=identity, **common
        )
    # (x - offset) / divisor is low at 0 and high at 255.
    divisor = 255.0 / (high - low)
    return Extractor(call, input_size=size, offset=(-low * divisor,) * 3, divisor=(divisor,) * 3, **common)


def _from_onnx(session: Any, common: dict[str, Any]) -> Extractor:
    source = session.get_inputs()[0]
    sides = source.shape[2:] if len(source.shape) == 4 else ()
    size = tuple(sides) if len(sides) == 2 and all(isinstance(side, int) for side in sides) else None

    def call(images: torch.Tensor) -> Any:
        return session.run(None, {source.name: images.cpu().numpy()})

    return Extractor(call, input_size=size, takes_uint8="uint8" in source.type, **common)


class ScriptFeatures(torch.nn.Module):
    """A TorchScript network that takes uint8 images, resizes them, and returns features on request."""

    def __init__(self, model: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        return self.model(images, return_features=True)


class PooledFeatures(torch.nn.Module):
    """The input of the classifier of a timm-like network."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        features = self.model.forward_features(images)
        if hasattr(self.model, "forward_head"):
            return self.model.forward_head(features, pre_logits=True)
        if isinstance(features, Mapping):  # of DINOv2
            return features["x_norm_clstoken"]
        return features.mean(dim=(2, 3)) if features.ndim == 4 else features


class LayerFeatures(torch.nn.Module):
    """The output of a layer of a network."""

    def __init__(self, model: torch.nn.Module, layer: str) -> None:
        super().__init__()
        self.model = model
        self.layer = layer
        model.get_submodule(layer)  # raises if there is no such layer

    def forward(self, images: torch.Tensor) -> Any:
        outputs: list[Any] = []
        # Registered for this call only: in a copy of the network a permanent hook would still refer to this object.
        hook = self.model.get_submodule(self.layer).register_forward_hook(lambda *call: outputs.append(call[2]))
        try:
            self.model(images)
        finally:
            hook.remove()
        return outputs.pop()


def _has_argument(model: torch.jit.ScriptModule, name: str) -> bool:
    return any(argument.name == name for argument in model.forward.schema.arguments)


def _input_size(size: Any) -> tuple[int, int] | None:
    """(height, width) of an int, (height, width), or (channels, height, width) as in timm's configurations."""
    if size is None:
        return None
    try:
        values = tuple(size) if hasattr(size, "__len__") and not isinstance(size, Mapping) else (size, size)
        sides = tuple(operator.index(side) for side in values)
        valid = not any(isinstance(side, (bool, np.bool_)) for side in values) and min(sides) > 0
        valid = valid and (len(sides) == 2 or (len(sides) == 3 and sides[0] in (1, 3)))
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(f"input_size must be an int, (height, width) or (3, height, width), got {size!r}")
    return sides[-2], sides[-1]


def _input_range(bounds: Any) -> tuple[float, float]:
    """The values of black and white."""
    if bounds is None:
        return 0.0, 1.0
    try:
        low, high = (float(value) for value in (() if isinstance(bounds, str) else bounds))
        valid = -math.inf < low < high < math.inf
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            f"input_range must be (low, high) with low < high, the values of black and white, got {bounds!r}"
        )
    return low, high
