"""Networks inside wrappers: their attributes, their names, and evaluation mode.

Wrappers are those of torch (``DataParallel``, ``DistributedDataParallel``, fully sharded networks, ``AveragedModel``,
``torch.compile``), of PEFT, timm (``ModelEma``) and DeepSpeed, and others whose only submodule is called ``module``.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from fidfast._warnings import warn_user

__all__ = [
    "NetworkName",
    "attribute_of",
    "device_of",
    "dtype_of",
    "evaluating",
    "has_replaced_forward",
    "is_on",
    "is_sharded",
    "layer_path",
    "name_of",
    "owner_of",
    "same_attributes",
    "unwrapped",
    "warn_of_unused_attributes",
    "wrapped_networks",
]

#: Names under which wrappers hold their network.
_HOLDERS = ("_orig_mod", "module", "base_model", "ema_model", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")

#: Modules with the classes of sharded networks.
_SHARDED = "torch.distributed.fsdp"

#: Attributes that `same_attributes` copies.
_ATTRIBUTES = ("num_features", "input_size", "input_range", "pretrained_cfg")

#: Numbers of each tensor that the digest of the weights contains.
_SAMPLED = 256


class NetworkName(NamedTuple):
    """Name of a network, and what distinguishes it from others of this name."""

    name: str
    #: Digest of the weights; None if the name was given, or there are no weights.
    weights: str | None

    @property
    def full(self) -> str:
        """Both parts."""
        return f"{self.name}-weights-{self.weights}" if self.weights else self.name


def wrapped_networks(model: Any) -> Iterator[tuple[str, Any]]:
    """The model, and the networks inside its wrappers, outermost first, each with its path: "", "module." and so on."""
    path, name, inner = "", "", model
    seen: set[int] = set()
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        yield path, inner
        name, inner = _held(inner, inside_peft=name == "base_model")
        path += f"{name}."


def _held(model: Any, *, inside_peft: bool) -> tuple[str, Any]:
    """The network in a wrapper, with its name; ("", None) if the model is not a wrapper."""
    parts = dict(model.named_children()) if isinstance(model, torch.nn.Module) else {}
    for name in (*_HOLDERS, "model") if inside_peft else _HOLDERS:
        if name in parts and (name != "module" or len(parts) == 1):
            return name, parts[name]
    return "", None


def unwrapped(model: Any) -> Any:
    """The network without wrappers that compute nothing.

    Outside its training loop a wrapper may wait for other processes, or have no ``forward``.
    """
    while isinstance(model, torch.nn.Module):
        parts = dict(model.named_children())
        only = parts.get("_orig_mod", parts.get("module"))
        computes_nothing = isinstance(model, (torch.nn.DataParallel, DistributedDataParallel, AveragedModel))
        hooked = model._forward_hooks or model._forward_pre_hooks
        if only is None or hooked or not (computes_nothing or "_orig_mod" in parts or _has_no_forward(model)):
            break
        model = only
    return model


def _has_no_forward(model: torch.nn.Module) -> bool:
    return getattr(type(model), "forward", None) is torch.nn.Module.forward


def attribute_of(model: Any, name: str, default: Any = None) -> Any:
    """An attribute of the model or, if it has none, of the network in its wrappers; None counts as none."""
    for _, network in wrapped_networks(model):
        if (value := getattr(network, name, None)) is not None:
            return value
    return default


def warn_of_unused_attributes(model: Any) -> None:
    """Warn if a network has one part, called ``model``, whose preprocessing it may lack: it may also do it itself."""
    parts = dict(model.named_children()) if isinstance(model, torch.nn.Module) else {}
    if parts.keys() != {"model"}:
        return
    for name in ("input_size", "input_range"):
        if attribute_of(model, name) is None and (value := getattr(parts["model"], name, None)) is not None:
            warn_user(
                f"{type(model).__name__} has no {name}, but its part 'model' has {name}={value}, which is not used: "
                f"set {name} of {type(model).__name__} to it, or to what images should be converted to"
            )


def layer_path(model: torch.nn.Module, layer: str) -> str:
    """Path of a layer in `unwrapped(model)`, if it is a layer of the model or of the network in its wrappers.

    Raises
    ------
    AttributeError
        If there is no such layer.
    """
    network = unwrapped(model)
    removed = next(path for path, inner in wrapped_networks(model) if inner is network)
    for path, inner in wrapped_networks(model):
        try:
            inner.get_submodule(layer)
        except AttributeError:
            continue
        return (path + layer).removeprefix(removed)
    network.get_submodule(layer)  # raises
    return layer


def name_of(model: Any) -> NetworkName:
    """Name of a network: its attribute ``name``, else its architecture and a digest of its weights.

    The architecture is that of timm's configuration with its tag, the repository of a network of transformers, or the
    name of the class. For functions it is the name of the function.
    """
    if (name := attribute_of(model, "name")) is not None and str(name):
        return NetworkName(str(name), attribute_of(model, "digest_of_weights"))
    *_, (_, network) = wrapped_networks(model)
    owner = owner_of(network)
    if owner is not None and owner is not network:
        owner_name, method = name_of(owner), network.__name__
        if method in ("forward", "_wrapped_call_impl"):  # that of a call
            return owner_name
        return NetworkName(f"{owner_name.name}.{method}", owner_name.weights)
    return NetworkName(_architecture(model, network), None if is_sharded(model) else _weights(network))


def _architecture(model: Any, network: Any) -> str:
    config = attribute_of(model, "pretrained_cfg")
    if isinstance(config, dict) and config.get("architecture"):
        return ".".join(str(config[key]) for key in ("architecture", "tag") if config.get(key))
    if isinstance(path := getattr(network, "name_or_path", None), str) and path:  # of transformers
        return "--".join(path.strip("/").split("/")[-2:])  # in names, a slash precedes resize and arithmetic
    if isinstance(network, torch.jit.ScriptModule):
        return str(network.original_name)
    if isinstance(network, functools.partial):
        return _architecture(network.func, network.func)
    if inspect.isroutine(network) and network.__name__ != "<lambda>":
        return network.__name__
    # fully_shard replaces the class of a network by a derived one.
    return next(base.__name__ for base in type(network).__mro__ if not base.__module__.startswith(_SHARDED))


def _weights(network: Any) -> str | None:
    """A digest of names, shapes and a sample of the weights, the same for all devices and wrappers."""
    digest = hashlib.sha256()
    if isinstance(network, torch.nn.Module):
        tensors = [*network.named_parameters(), *network.named_buffers()]
        if not tensors:
            return None
        try:
            for name, tensor in tensors:
                digest.update(name.encode())
                digest.update(_sample(tensor))
        except (RuntimeError, NotImplementedError, ValueError):  # not initialised, or on the meta device
            return None
    elif hasattr(network, "get_inputs"):  # an ONNX session
        content, path = getattr(network, "_model_bytes", None), getattr(network, "_model_path", None)
        if content is None and path is not None:
            content = Path(path).read_bytes()
        if content is None:
            return None
        digest.update(content)
    else:
        return None
    return digest.hexdigest()[:8]


def _sample(tensor: torch.Tensor) -> bytes:
    """The shape of a tensor, and some of its numbers; no numbers of integers, which count batches, for example."""
    shape = str(tuple(tensor.shape)).encode()
    if not tensor.is_floating_point():
        return shape
    numbers = tensor.detach().reshape(-1)
    return shape + numbers[:: max(1, len(numbers) // _SAMPLED)].cpu().double().numpy().tobytes()


def same_attributes(copy: Any, model: Any) -> None:
    """Give a network that replaces `model` its attributes and its name."""
    copy.name, copy.digest_of_weights = name_of(model)
    for attribute in _ATTRIBUTES:
        if (value := attribute_of(model, attribute)) is not None:
            setattr(copy, attribute, value)


def owner_of(model: Any) -> torch.nn.Module | None:
    """The module itself, or that of a bound method; None for other callables."""
    owner = model if isinstance(model, torch.nn.Module) else getattr(model, "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) else None


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode of a module, or of the module of a bound method; restores the mode of every submodule.

    The autocast that ``accelerate.Accelerator.prepare`` adds to a network's ``forward`` is suspended.
    """
    owner = owner_of(model)
    parts = [] if owner is None else list(owner.modules())
    modes = [(part, getattr(part, "training", False)) for part in parts]
    changes = any(training for _, training in modes)
    replaced = [
        (part, {name: vars(part).pop(name) for name in ("forward", "_original_forward") if name in vars(part)})
        for part in parts
        if "_original_forward" in vars(part)
    ]
    try:
        if owner is not None and changes:
            owner.eval()
        yield
    finally:
        if owner is not None and changes:
            owner.train(modes[0][1])  # a class may do more than set the mode of its parts
            for part, training in modes:
                if getattr(part, "training", training) != training:
                    part.training = training
        for part, forward in replaced:
            vars(part).update(forward)


def device_of(model: Any) -> torch.device | None:
    """Device of the first parameter or buffer of a module; None if it has none."""
    if not isinstance(model, torch.nn.Module):
        return None
    tensor = next(model.parameters(), None)
    tensor = next(model.buffers(), None) if tensor is None else tensor
    return None if tensor is None else tensor.device


def dtype_of(model: Any) -> torch.dtype:
    """Dtype of the first floating-point parameter of a module; float32 if it has none."""
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else ()
    return next((weight.dtype for weight in parameters if weight.is_floating_point()), torch.float32)


def is_on(model: Any, device: torch.device | str) -> bool:
    """Whether a module has no weights, or its first ones are on the device; "cuda" is any CUDA device."""
    own, device = device_of(model), torch.device(device)
    return own is None or own == device or (own.type == device.type and device.index is None)


def is_sharded(model: Any) -> bool:
    """Whether a module or submodule holds a part of its weights only, and cannot be copied or run in inference mode."""
    parts = model.modules() if isinstance(model, torch.nn.Module) else ()
    return any(base.__module__.startswith(_SHARDED) for part in parts for base in type(part).__mro__)


def has_replaced_forward(model: torch.nn.Module) -> bool:
    """Whether a module or submodule has a function as its own ``forward``, which a copy would share.

    That of accelerate does not count, since `evaluating` suspends it.
    """
    parts = (part for part in model.modules() if "_original_forward" not in vars(part))
    return any(isinstance(vars(part).get("forward"), types.FunctionType) for part in parts)
