"""Extractors: anything that turns a batch of images into features, in one form.

The protocol is small. An extractor is a callable from a batch to ``(n, dim)``, ``(n, dim, 1, 1)``, a list, tuple or
dictionary of one such. It may say more about itself in attributes:

``name``
    what stands beside the number and in the file of statistics;
``num_features``
    ``dim``;
``input_size``
    the side, or (height, width), that the images are resized to; without it they are passed as they are;
``input_range``
    what 0 and 255 become: ``(0, 1)`` unless it says otherwise; at ``(0, 255)`` the batch is uint8 where no resize
    comes before it.

Networks of torch-fidelity, torchmetrics, timm, the TorchScript file of the StyleGAN repositories and ONNX sessions are
known by what they are, and need not be wrapped.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from fidfast._inputs import is_inception
from fidfast.torch._extractors.prepare import Prepared, has_hooks, prepare
from fidfast.torch._extractors.resize import RESIZES

__all__ = ["Extractor", "as_extractor", "at_layer"]


#: The resize for extractors that have an input size and say nothing of how to come to it.
DEFAULT_RESIZE = "pil-bicubic"

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Extractor:
    """A network, and what happens to images before it."""

    #: From a batch to features, in any of the forms of the protocol.
    model: Callable[[torch.Tensor], Any]
    #: The network's name, without what `full_name` adds.
    name: str
    #: (height, width) that images are resized to, or None to pass them as they are.
    input_size: tuple[int, int] | None = None
    #: One of `fidfast.torch.RESIZES`.
    resize: str = DEFAULT_RESIZE
    #: A pixel ``x`` from 0 to 255 becomes ``(x - offset) / divisor``, by channel.
    offset: Channels = (0.0, 0.0, 0.0)
    divisor: Channels = (255.0, 255.0, 255.0)
    #: How many features it says it has, or None where it does not say.
    num_features: int | None = None
    #: Whether the network takes uint8 images and does the rest itself.
    takes_uint8: bool = False
    #: The arithmetic of the network, as `prepare` left it.
    precision: str = "float32"
    #: Whether the name alone says what the features are, so that statistics may be kept under it.
    reproducible: bool = False
    #: What else tells it from its like in the name.
    variant: str | None = None

    @property
    def full_name(self) -> str:
        """The name that is stored with statistics: network, resize, arithmetic."""
        parts = [self.name]
        if self.input_size is not None:
            height, width = self.input_size
            parts.append(f"{self.resize}-{height}" + (f"x{width}" if width != height else ""))
        parts += [self.variant] if self.variant else []
        parts += [self.precision] if self.precision != "float32" else []
        return "/".join(parts)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, dim) of images (n, 3, height, width), uint8 or float32 from 0 to 255, on the images' device."""
        if self.takes_uint8:
            images = images if images.dtype == torch.uint8 else images.round().to(torch.uint8)
        else:
            offset, divisor = (_by_channel(values, images.device) for values in (self.offset, self.divisor))
            images = (images.float() - offset) / divisor
        features = features_of(self.model(images))
        if self.num_features not in (None, features.shape[1]):
            raise ValueError(
                f"{self.name} says num_features={self.num_features}, but returned {features.shape[1]} columns"
            )
        return features

    def prepared(
        self,
        precision: str | None = None,
        compile: str | bool = "auto",
        *,
        num_images: int | None = None,
        batch_size: int | None = None,
        device: torch.device | str | None = None,
    ) -> Extractor:
        """The extractor with its network through `fidfast.torch.prepare`.

        Networks that cannot be prepared (callables, TorchScript, those that take uint8 or have hooks) and those that
        are prepared already are left as they are, but go to the device.

        Raises
        ------
        ValueError
            If `precision` is given, and is another than such a network has.
        """
        model: Any = self.model
        module = isinstance(model, torch.nn.Module)
        why = (
            "is prepared already" if isinstance(model, Prepared)
            else "takes uint8" if self.takes_uint8
            else "is no module of torch's" if not module or isinstance(model, torch.jit.ScriptModule)
            else "has forward hooks" if has_hooks(model)
            else None
        )  # fmt: skip
        if why is None:
            precision = precision or "float32"
            model = prepare(model, precision, compile, num_images=num_images, batch_size=batch_size, device=device)
            return replace(self, model=model, precision=precision)
        if precision not in (None, self.precision):
            raise ValueError(f"precision {precision!r} needs a network that can be prepared, but {self.name} {why}")
        return replace(self, model=model.to(device)) if module and device is not None else self

    def weights_digest(self) -> str:
        """SHA-256 of the network's weights, or a word where it has none that can be seen."""
        if not isinstance(self.model, torch.nn.Module):
            return "unknown"
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


@functools.lru_cache(maxsize=64)
def _by_channel(values: Channels, device: torch.device) -> torch.Tensor:
    """(1, 3, 1, 1) on the device, brought there once: a copy at every batch would stop the queue."""
    with torch.inference_mode(False):  # kept for later calls too, which may be differentiated
        return torch.tensor(values, device=device).view(1, 3, 1, 1)


def features_of(output: Any) -> torch.Tensor:
    """The (n, dim) tensor in what an extractor returned.

    Raises
    ------
    TypeError, ValueError
        If there is none, or several.
    """
    while not isinstance(output, torch.Tensor):
        if isinstance(output, Mapping):
            output = list(output.values())
        if isinstance(output, (list, tuple)) and len(output) == 1:
            output = output[0]
        elif hasattr(output, "__array__"):
            output = torch.as_tensor(output)
        else:
            what = f"{len(output)} outputs" if isinstance(output, (list, tuple)) else type(output).__name__
            raise TypeError(f"the extractor must return one (n, dim) tensor, got {what}")
    if output.ndim == 4 and output.shape[2:] == (1, 1):
        output = output[:, :, 0, 0]
    if output.ndim != 2:
        raise ValueError(f"the extractor must return (n, dim) or (n, dim, 1, 1), got shape {tuple(output.shape)}")
    return output


# Networks as they come ----------------------------------------------------------------------------------------------


def as_extractor(model: Any, *, name: str | None = None, resize: str | None = None) -> Extractor:
    """Any network or callable as an `Extractor`.

    Parameters
    ----------
    model : Extractor, callable, torch.nn.Module, torch.jit.ScriptModule or onnxruntime.InferenceSession
        See the module's docstring for what it may return and say about itself. Modules are put into evaluation mode.
    name : str, optional
        Stands for the attribute ``name``; else the class's name.
    resize : str, optional
        One of `fidfast.torch.RESIZES`, for networks with an ``input_size``. "pil-bicubic" unless given.

    Raises
    ------
    TypeError, ValueError
        If it is not callable, or an attribute is not usable.
    """
    if isinstance(model, Extractor):
        return replace(model, resize=known_resize(resize or model.resize), name=name or model.name)
    if isinstance(model, torch.nn.Module):
        model = model.eval()
    label = name or getattr(model, "name", None) or type(model).__name__
    if is_inception(str(label)):
        raise ValueError(f"the name {label!r} is that of the 2015 Inception network; call yours another")
    common: dict[str, Any] = {"name": str(label), "resize": known_resize(resize or DEFAULT_RESIZE)}
    if hasattr(model, "get_inputs") and hasattr(model, "run"):
        return _of_onnx(model, common)
    if not callable(model):
        raise TypeError(f"an extractor must be callable, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule) and _takes(model, "return_features"):
        return Extractor(_ReturningFeatures(model), takes_uint8=True, **common)
    if any(base.__module__.startswith("torch_fidelity.") for base in type(model).__mro__):
        return Extractor(model, takes_uint8=True, **common)
    if hasattr(model, "forward_features"):
        return _of_timm(model, common)
    common["num_features"] = getattr(model, "num_features", None)
    return _of_attributes(model, model, common)


def _of_attributes(call: Any, source: Any, common: dict[str, Any]) -> Extractor:
    """`call`, by what `source` says of itself."""
    size = _size(getattr(source, "input_size", None))
    low, high = getattr(source, "input_range", None) or (0.0, 1.0)
    if not low < high:
        raise ValueError(f"input_range must be (low, high) with low < high, got {(low, high)}")
    if (low, high) == (0, 255):
        same = (1.0, 1.0, 1.0)
        return Extractor(
            call, input_size=size, takes_uint8=size is None, offset=(0.0, 0.0, 0.0), divisor=same, **common
        )
    # (x - offset) / divisor is low at 0 and high at 255.
    divisor = 255.0 / (high - low)
    return Extractor(call, input_size=size, offset=(-low * divisor,) * 3, divisor=(divisor,) * 3, **common)


def _of_timm(model: Any, common: dict[str, Any]) -> Extractor:
    """By ``forward_features`` and the pooling before the classifier; the rest is in the network's configuration."""
    known = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}
    if not ("mean" in known and "std" in known):
        return _of_attributes(_PooledFeatures(model), model, common)
    shape = known.get("input_size")
    return Extractor(
        _PooledFeatures(model),
        input_size=_size(shape[1:] if shape else None),
        offset=tuple(255.0 * value for value in known["mean"]),
        divisor=tuple(255.0 * value for value in known["std"]),
        **common,
    )


def _of_onnx(session: Any, common: dict[str, Any]) -> Extractor:
    source = session.get_inputs()[0]
    uint8 = "uint8" in source.type
    sides = source.shape[2:] if len(source.shape) == 4 else ()
    size = tuple(sides) if len(sides) == 2 and all(isinstance(side, int) for side in sides) else None

    def run(images: torch.Tensor) -> Any:
        return session.run(None, {source.name: images.cpu().numpy()})

    return Extractor(run, input_size=size, takes_uint8=uint8, **common)


class _ReturningFeatures(torch.nn.Module):
    """The TorchScript convention: one file for logits and features, uint8 in, resized inside."""

    def __init__(self, model: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        return self.model(images, return_features=True)


class _PooledFeatures(torch.nn.Module):
    """What a timm-like model hands to its classifier."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        features = self.model.forward_features(images)
        if hasattr(self.model, "forward_head"):
            return self.model.forward_head(features, pre_logits=True)
        return features.mean(dim=(2, 3)) if features.ndim == 4 else features


class _AtLayer(torch.nn.Module):
    def __init__(self, model: torch.nn.Module, layer: str) -> None:
        super().__init__()
        self.model = model
        self.layer = layer
        model.get_submodule(layer)  # raises where there is none

    def forward(self, images: torch.Tensor) -> Any:
        seen: list[Any] = []
        # For this call only: a hook that stayed would still point here from a copy of the network.
        hook = self.model.get_submodule(self.layer).register_forward_hook(lambda *call: seen.append(call[2]))
        try:
            self.model(images)
        finally:
            hook.remove()
        return seen.pop()


def at_layer(model: torch.nn.Module, layer: str) -> torch.nn.Module:
    """The network with the output of one of its layers as features: ``at_layer(inception_v3(...), "avgpool")``.

    Parameters
    ----------
    model : torch.nn.Module
        Its attributes ``input_size`` and ``input_range`` are kept.
    layer : str
        Name of a submodule whose output is (n, dim) or (n, dim, 1, 1).

    Raises
    ------
    AttributeError
        If there is no such layer.
    """
    hooked = _AtLayer(model, layer)
    hooked.name = f"{getattr(model, 'name', None) or type(model).__name__}.{layer}"
    for attribute in ("input_size", "input_range"):
        if hasattr(model, attribute):
            setattr(hooked, attribute, getattr(model, attribute))
    return hooked


def _takes(model: torch.jit.ScriptModule, argument: str) -> bool:
    return any(known.name == argument for known in model.forward.schema.arguments)


def _size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"input_size must be a side or (height, width), got {size!r}")
    return sides[0], sides[1]


def known_resize(resize: str) -> str:
    if resize not in RESIZES:
        raise ValueError(f"unknown resize {resize!r}; known are {', '.join(RESIZES)}")
    return resize
