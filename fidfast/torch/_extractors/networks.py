"""Networks inside wrappers: their attributes, their names, and evaluation mode.

Wrappers are those of torch (``DataParallel``, ``DistributedDataParallel``, fully sharded networks, ``AveragedModel``,
``torch.compile``), of PEFT, timm (``ModelEma``) and DeepSpeed, and others whose only submodule is called ``module``.
"""

from __future__ import annotations

import hashlib
import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.fx

from fidfast._warnings import warn_user
from fidfast.torch._extractors.callables import owner_of, undecorated

__all__ = [
    "NetworkName",
    "attribute_of",
    "called_networks",
    "device_of",
    "dtype_of",
    "evaluating",
    "has_replaced_forward",
    "is_exported",
    "is_on",
    "is_sharded",
    "layer_path",
    "name_of",
    "same_attributes",
    "unwrapped",
    "warn_of_unused_attributes",
    "wrapped_networks",
]

#: Names under which wrappers hold their network.
_HOLDERS = ("_orig_mod", "module", "base_model", "ema_model", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")

#: Those that only wrappers which compute nothing use.
_PRIVATE_HOLDERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")

#: Modules and packages whose wrappers compute nothing; in the last one, `torch.nn.Module` has no ``forward``.
_WRAPPERS = (
    "torch.nn.parallel.",
    "torch.optim.swa_utils.",
    "peft.",
    "timm.utils.",
    "accelerate.",
    "deepspeed.",
    "ema_pytorch.",
    "torch.nn.modules.module.",
)

#: Attributes that describe the features, not the images.
_OF_FEATURES = ("name", "num_features", "digest_of_weights")

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


def wrapped_networks(model: Any, through: Callable[[Any, str, Any], bool] | None = None) -> Iterator[tuple[str, Any]]:
    """The model, and the networks inside its wrappers, outermost first, each with its path: "", "module." and so on.

    Ends at the first wrapper for which ``through(wrapper, name, inner)`` is False.
    """
    path, name, inner = "", "", model
    seen: set[int] = set()
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        yield path, inner
        wrapper = inner
        name, inner = _held(wrapper, inside_peft=name == "base_model")
        if inner is not None and through is not None and not through(wrapper, name, inner):
            return
        path += f"{name}."


def _held(model: Any, *, inside_peft: bool) -> tuple[str, Any]:
    """The network in a wrapper, with its name; ("", None) if the model is not a wrapper."""
    parts = dict(model.named_children()) if isinstance(model, torch.nn.Module) else {}
    for name in (*_HOLDERS, "model") if inside_peft else _HOLDERS:
        if name in parts and (name != "module" or len(parts) == 1):
            return name, parts[name]
    return "", None


def called_networks(model: Any) -> list[Any]:
    """The model, and the networks inside wrappers that return the same output, outermost first."""
    return [network for _, network in wrapped_networks(model, _computes_nothing)]


def _computes_nothing(wrapper: torch.nn.Module, name: str, inner: Any = None) -> bool:
    """Whether a wrapper only distributes, averages, adapts or compiles the network that it holds under this name."""
    if wrapper._forward_hooks or wrapper._forward_pre_hooks or not _holds_only(wrapper, name):
        return False
    if name in _PRIVATE_HOLDERS:
        return True
    if "forward" in vars(wrapper) and "_original_forward" not in vars(wrapper):
        return False
    package = next(base.__module__ for base in type(wrapper).__mro__ if "forward" in vars(base))
    return f"{package}.".startswith(_WRAPPERS)


def _holds_only(wrapper: torch.nn.Module, name: str) -> bool:
    parts = {part for part, _ in wrapper.named_children()}
    return parts == {name} or (name == "ema_model" and parts == {name, "online_model"})


def _has_the_same_name(wrapper: torch.nn.Module, name: str, inner: Any) -> bool:
    """Whether a wrapper has the name and the number of features of the network that it holds under this name."""
    if _computes_nothing(wrapper, name):
        return True
    counters = all(buffer.ndim == 0 and not buffer.is_floating_point() for buffer in wrapper.buffers(recurse=False))
    has_weights = not counters or next(wrapper.parameters(recurse=False), None) is not None
    # The features of `inner`, without the wrapper, would be those before its classifier.
    return _holds_only(wrapper, name) and not has_weights and not hasattr(inner, "forward_features")


def unwrapped(model: Any) -> Any:
    """The network without wrappers that compute nothing.

    Outside its training loop a wrapper may wait for other processes, or have no ``forward``.
    """
    while isinstance(model, torch.nn.Module):
        name, inner = _held(model, inside_peft=False)
        if name not in ("_orig_mod", "module") or not _computes_nothing(model, name):
            break
        model = inner
    return model


def attribute_of(model: Any, name: str, default: Any = None) -> Any:
    """An attribute of the model or, if it has none, of the network in its wrappers; None and methods count as none."""
    of_features = name in _OF_FEATURES
    through = _has_the_same_name if of_features else None
    owner = owner_of(model)
    if owner is not None and owner is not model and (not of_features or _is_call(model)):
        if (value := getattr(model, name, None)) is not None and not callable(value):
            return value
        model = owner
    for _, network in wrapped_networks(model, through):
        if (value := getattr(network, name, None)) is not None and not callable(value):
            return value
    return default


def _is_call(model: Any) -> bool:
    """Whether a callable calls a network, not another of its methods."""
    model = undecorated(model)
    names = ("forward", "_wrapped_call_impl")  # those of network.forward and network.__call__
    return isinstance(model, torch.nn.Module) or getattr(model, "__name__", None) in names


def warn_of_unused_attributes(model: Any) -> None:
    """Warn if a network has one part, called ``model``, whose preprocessing it may lack: it may also do it itself."""
    parts = dict(model.named_children()) if isinstance(model, torch.nn.Module) else {}
    if parts.keys() != {"model"}:
        return
    for name in ("input_size", "input_range"):
        if attribute_of(model, name) is None and (value := attribute_of(parts["model"], name)) is not None:
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
    *_, (_, network) = wrapped_networks(model, _has_the_same_name)
    owner = owner_of(network)
    if owner is not None and owner is not network:
        owner_name = name_of(owner)
        if _is_call(network):
            return owner_name
        return NetworkName(f"{owner_name.name}.{undecorated(network).__name__}", owner_name.weights)
    network = undecorated(network)
    return NetworkName(_architecture(model, network), None if is_sharded(model) else _weights(network))


def _architecture(model: Any, network: Any) -> str:
    for _, part in wrapped_networks(model, _has_the_same_name):
        config = getattr(part, "pretrained_cfg", None)
        if isinstance(config, dict) and config.get("architecture"):
            return ".".join(str(config[key]) for key in ("architecture", "tag") if config.get(key))
    if isinstance(path := getattr(network, "name_or_path", None), str) and path:  # of transformers
        return "--".join(path.strip("/").split("/")[-2:])  # in names, a slash precedes resize and arithmetic
    if isinstance(network, torch.jit.ScriptModule):
        return str(network.original_name)
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
            _set_mode(owner, False)
        yield
    finally:
        if owner is not None and changes:
            _set_mode(owner, modes[0][1])  # a class may do more than set the mode of its parts
            for part, training in modes:
                if getattr(part, "training", training) != training:
                    part.training = training
        for part, forward in replaced:
            vars(part).update(forward)


def _set_mode(module: torch.nn.Module, training: bool) -> None:
    """Set the mode of a module and its submodules, except those of `torch.export`, whose mode is fixed."""
    if not is_exported(module):
        module.train(training)
        return
    if not _has_fixed_mode(module):
        module.training = training
        for part in module.children():
            _set_mode(part, training)


def is_exported(module: torch.nn.Module) -> bool:
    """Whether a module or submodule is of `torch.export`."""
    return any(map(_has_fixed_mode, module.modules()))


def _has_fixed_mode(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.fx.GraphModule) and "train" in vars(module)


def device_of(model: Any) -> torch.device | None:
    """Device of the first parameter or buffer of a module, or of that of a method; None if it has none."""
    if (model := owner_of(model)) is None:
        return None
    tensor = next(model.parameters(), None)
    tensor = next(model.buffers(), None) if tensor is None else tensor
    return None if tensor is None else tensor.device


def dtype_of(model: Any) -> torch.dtype:
    """Dtype of the first floating-point parameter of a module, or of that of a method; float32 if it has none."""
    owner = owner_of(model)
    parameters = () if owner is None else owner.parameters()
    return next((weight.dtype for weight in parameters if weight.is_floating_point()), torch.float32)


def is_on(model: Any, device: torch.device | str) -> bool:
    """Whether a module has no weights, or its first ones are on the device; "cuda" is any CUDA device."""
    own, device = device_of(model), torch.device(device)
    return own is None or own == device or (own.type == device.type and device.index is None)


def is_sharded(model: Any) -> bool:
    """Whether a module or submodule holds a part of its weights only, and cannot be copied or run in inference mode."""
    owner = owner_of(model)
    parts = () if owner is None else owner.modules()
    return any(base.__module__.startswith(_SHARDED) for part in parts for base in type(part).__mro__)


def has_replaced_forward(model: torch.nn.Module) -> bool:
    """Whether a module or submodule has a function as its own ``forward``, which a copy would share.

    That of accelerate does not count, since `evaluating` suspends it.
    """
    parts = (part for part in model.modules() if "_original_forward" not in vars(part))
    return any(isinstance(vars(part).get("forward"), types.FunctionType) for part in parts)
