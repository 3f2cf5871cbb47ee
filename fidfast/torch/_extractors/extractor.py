"""The extractor protocol, and `Extractor`, to which every network is converted.

An extractor is a callable from a batch of images to ``(n, dim)``, ``(n, dim, 1, 1)``, or a list, tuple or dictionary
that holds exactly one such array. It may have these attributes:

``name``
    Stored with statistics and printed with results. By default that of the architecture.
``num_features``
    ``dim``.
``input_size``
    An int for a square, or (height, width), to which images are resized. Without it they are not resized.
``input_range``
    Values of black and white in the network's input, ``(0, 1)`` by default. With ``(0, 255)`` and no ``input_size``
    the batch is uint8.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import torch

from fidfast._arguments import (
    optional,
    require_bool,
    require_callable,
    require_choice,
    require_integer,
    require_real,
    require_sequence,
    require_text,
)
from fidfast.torch._extractors.arithmetic import full_float32, ordinary_tensors
from fidfast.torch._extractors.networks import NetworkName, device_of, dtype_of, evaluating, is_on, is_sharded
from fidfast.torch._extractors.prepare import PreparedNetwork, is_copyable, prepare
from fidfast.torch._extractors.resize import check_resize

__all__ = ["DEFAULT_RESIZE", "Extractor", "features_of", "output_of"]

#: For extractors that have an input size and do not specify a resize.
DEFAULT_RESIZE = "pil-bicubic"

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Extractor:
    """A network and its preprocessing of images."""

    #: From a batch to features, in any of the forms that `as_extractor` accepts.
    model: Callable[[torch.Tensor], Any]
    #: Name of the network, without the parts that `full_name` adds.
    name: str
    _: KW_ONLY
    #: (height, width) to which images are resized, or None for no resize.
    input_size: tuple[int, int] | None = None
    #: One of `fidfast.torch.RESIZES`.
    resize: str = DEFAULT_RESIZE
    #: A pixel ``x`` from 0 to 255 becomes ``(x - offset) / divisor``, per channel.
    offset: Channels = (0.0, 0.0, 0.0)
    divisor: Channels = (255.0, 255.0, 255.0)
    #: Number of features, or None if the network does not specify it.
    num_features: int | None = None
    #: Whether the network takes uint8 images and does all preprocessing itself.
    takes_uint8: bool = False
    #: Arithmetic of the network, as in `prepare`.
    dtype: str = "float32"
    #: Whether the name determines the features, so that statistics may be cached under it.
    reproducible: bool = False
    #: Suffix of the name that distinguishes variants of one network.
    variant: str | None = None
    #: Digest of the weights, if the name does not determine them.
    weights: str | None = None
    #: Key of the features in the dictionary that `model` returns; None if it returns features alone.
    output: str | None = None

    def __post_init__(self) -> None:
        require_callable("model", self.model, "from a batch of images to features")
        require_text("name", self.name)
        check_resize(self.resize)
        require_choice("dtype", self.dtype, ("float32", "bfloat16"))
        optional(require_integer, "num_features", self.num_features, 1)
        for name in ("takes_uint8", "reproducible"):
            require_bool(name, getattr(self, name))
        for name in ("variant", "weights", "output"):
            optional(require_text, name, getattr(self, name))
        if self.input_size is not None and len(require_sequence("input_size", self.input_size)) != 2:
            raise ValueError(f"input_size must be (height, width), got {self.input_size!r}")
        for name in ("offset", "divisor"):
            numbers = [
                require_real(f"{name}[{i}]", x) for i, x in enumerate(require_sequence(name, getattr(self, name)))
            ]
            if len(numbers) != 3 or (name == "divisor" and 0 in numbers):
                raise ValueError(f"{name} must be three numbers{' other than 0' * (name == 'divisor')}, got {numbers}")

    @property
    def full_name(self) -> str:
        """Name that is stored with statistics: network and weights, resize, arithmetic."""
        parts = [NetworkName(self.name, self.weights).full]
        if self.input_size is not None:
            height, width = self.input_size
            parts.append(f"{self.resize}-{height}" + (f"x{width}" if width != height else ""))
        parts += [self.variant] if self.variant else []
        parts += [self.dtype] if self.dtype != "float32" else []
        return "/".join(parts)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, dim) of images (n, 3, height, width), uint8 or float32 from 0 to 255.

        The network runs on the device and in the dtype of its weights, in evaluation mode, and not under the caller's
        autocast, default dtype and device, or TF32. Gradients are computed if they are enabled.
        """
        return features_of(self, output_of(self, images))

    def prepared(
        self,
        *,
        dtype: str | None = None,
        compile: str | bool = "auto",
        num_images: int | None = None,
        batch_size: int | None = None,
        device: torch.device | str | None = None,
    ) -> Extractor:
        """Return the extractor with its network prepared by `fidfast.torch.prepare`, which documents the arguments.

        Networks that cannot be prepared (TorchScript, networks that take uint8) and networks that are already prepared
        are copied to the device if they are on another. Networks with hooks stay on their device, and the images are
        moved to it. The user's network never changes.

        Raises
        ------
        ValueError
            If `dtype` is given for such a network and differs from the network's.
        """
        model: Any = self.model
        is_module = isinstance(model, torch.nn.Module)
        obstacle = (
            "is already prepared" if isinstance(model, PreparedNetwork)
            else "takes uint8 images" if self.takes_uint8
            else "is not a torch.nn.Module" if not is_module
            else "is a ScriptModule" if isinstance(model, torch.jit.ScriptModule)
            else "has hooks, a function as its own forward or sharded weights, or is exported" if not is_copyable(model)
            else None
        )  # fmt: skip
        if obstacle is None:
            dtype = dtype or "float32"
            model = prepare(
                model, dtype=dtype, compile=compile, num_images=num_images, batch_size=batch_size, device=device
            )
            return replace(self, model=model, dtype=dtype)
        if dtype not in (None, self.dtype):
            raise ValueError(f"dtype={dtype!r} needs a network that can be prepared, but {self.name} {obstacle}")
        if not is_module or device is None or is_on(model, device) or not is_copyable(model):
            return self
        with ordinary_tensors():
            return replace(self, model=copy.deepcopy(model).to(device))


@functools.lru_cache(maxsize=64)
def _channel_tensor(values: Channels, device: torch.device) -> torch.Tensor:
    """(1, 3, 1, 1) on the device. Cached: a copy to a GPU for every batch would synchronise."""
    with torch.inference_mode(False):  # later calls may need gradients
        return torch.tensor(values, device=device, dtype=torch.float32).view(1, 3, 1, 1)


def output_of(extractor: Extractor, images: torch.Tensor) -> Any:
    """What the network returns for images as in `Extractor.__call__`; `features_of` takes the features from it.

    Extractors with the same network and preprocessing, but another `output`, have it in common.
    """
    if torch.is_inference_mode_enabled() and is_sharded(extractor.model):
        with ordinary_tensors():
            return output_of(extractor, images.clone())
    images = images.to(device_of(extractor.model) or images.device)
    with full_float32(device=images.device), evaluating(extractor.model):
        if extractor.takes_uint8:
            images = images if images.dtype == torch.uint8 else images.round().to(torch.uint8)
        else:
            values = (extractor.offset, extractor.divisor)
            offset, divisor = (_channel_tensor(channels, images.device) for channels in values)
            images = ((images.float() - offset) / divisor).to(dtype_of(extractor.model))
        return extractor.model(images)


def features_of(extractor: Extractor, output: Any) -> torch.Tensor:
    """The (n, dim) features of an extractor in what its network returned.

    Raises
    ------
    TypeError, ValueError
        If there is no such tensor, there are several, or it does not have `num_features` columns.
    """
    if extractor.output is not None:
        if not isinstance(output, Mapping) or extractor.output not in output:
            found = f"the keys {', '.join(map(repr, output))}" if isinstance(output, Mapping) else type(output).__name__
            raise TypeError(f"{extractor.name} has output={extractor.output!r}, but the network returned {found}")
        output = output[extractor.output]
    features = _only_tensor(output)
    if extractor.num_features not in (None, features.shape[1]):
        raise ValueError(
            f"{extractor.name} has num_features={extractor.num_features}, but returned {features.shape[1]} columns"
        )
    return features


def _only_tensor(output: Any) -> torch.Tensor:
    """The only (n, dim) tensor in an output."""
    choices = ""
    while not isinstance(output, torch.Tensor):
        if isinstance(output, Mapping):
            choices = f": pass an Extractor with output={' or '.join(map(repr, output))}"
            output = list(output.values())
        if isinstance(output, (list, tuple)) and len(output) == 1:
            output = output[0]
        elif hasattr(output, "__array__"):
            output = torch.as_tensor(output)
        else:
            found = f"{len(output)} outputs{choices}" if isinstance(output, (list, tuple)) else type(output).__name__
            raise TypeError(f"the extractor must return one (n, dim) tensor, got {found}")
    if output.ndim == 4 and output.shape[2:] == (1, 1):
        output = output[:, :, 0, 0]
    if output.ndim != 2:
        raise ValueError(f"the extractor must return (n, dim) or (n, dim, 1, 1), got shape {tuple(output.shape)}")
    return output
