"""Preparation of networks for inference: batch norms folded, channels last, optionally bfloat16 and compiled."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fidfast._arguments import optional, require_choice, require_instance, require_integer
from fidfast._warnings import warn_user
from fidfast.torch._extractors.arithmetic import full_float32, ordinary_tensors
from fidfast.torch._extractors.devices import check_device
from fidfast.torch._extractors.networks import (
    device_of,
    evaluating,
    has_replaced_forward,
    is_exported,
    is_sharded,
    same_attributes,
    unwrapped,
)

__all__ = ["PreparedNetwork", "fold_batch_norms", "is_copyable", "prepare"]

#: Minimum number of images for which ``compile="auto"`` compiles. Compiling an Inception network takes 30 to 60 s and
#: saves up to a fifth of 50 ms per image in float32.
COMPILE_FROM = 10_000

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def prepare(
    model: nn.Module,
    *,
    dtype: str = "float32",
    compile: str | bool = "auto",
    num_images: int | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Return a faster copy of a network that computes the same features.

    Parameters
    ----------
    model : torch.nn.Module
        From a batch of images to features; not changed.
    dtype : {"float32", "bfloat16"}, default "float32"
        Arithmetic of the network. With "float32" the features equal those of the model in evaluation mode to 1e-5
        relative. With "bfloat16" convolutions are several times faster on CPUs with AMX or AVX-512 BF16 and on GPUs,
        and the features have an error of one to a few per cent; docs/images.md lists the effect on distances. Other
        CPUs emulate bfloat16, which is slower than "float32".
    compile : {"auto", True, False}, default "auto"
        Whether to use `torch.compile`. "auto" compiles for 10,000 images or more, and keeps the compiled network only
        if it is faster.
    num_images : int, optional
        Number of images that will be processed, for "auto". By default unknown, and "auto" does not compile.
    batch_size : int, optional
        Batch size for which the network is compiled. By default that of the first batch.
    device : torch.device, optional
        Device of the copy. By default that of the model.

    Returns
    -------
    torch.nn.Module
        From batches (n, 3, height, width) of any float type to float32 features, in the same containers as the model
        returns. It has the model's ``name``, ``num_features``, ``input_size`` and ``input_range``, or those of the
        network in its wrappers. The default dtype, autocast and TF32 settings of the caller have no effect on it.

    Raises
    ------
    ValueError
        If `dtype` or `compile` is not one of the above, the model has forward hooks, which would still act on the
        original, or the model returns something other than features (timm's networks).

    Warns
    -----
    UserWarning
        If `dtype` is "bfloat16" and the CPU has no instructions for it.
    """
    require_instance("model", model, nn.Module)
    require_choice("dtype", dtype, tuple(_DTYPES))
    require_choice("compile", compile, ("auto", True, False))
    if device is not None and str(device) != "meta":  # where a network needs no memory
        device = check_device(device)
    optional(require_integer, "num_images", num_images, 0)
    optional(require_integer, "batch_size", batch_size, 1)
    network = unwrapped(model)
    if hasattr(network, "forward_features"):
        raise ValueError(f"{type(network).__name__} does not return its features: use as_extractor(model).prepared()")
    if not is_copyable(network):
        raise ValueError(
            f"{type(network).__name__} has forward hooks, a function as its own forward, or sharded weights, or "
            "is exported, and cannot be copied: remove them, or use at_layer(model, layer)"
        )
    with full_float32(), ordinary_tensors():
        with evaluating(network):
            ready = copy.deepcopy(network)
        ready.eval().requires_grad_(False)
        if device is not None:
            ready = ready.to(device)
        ready = fold_batch_norms(ready).to(dtype=_DTYPES[dtype], memory_format=torch.channels_last)
    on_cpu = (device_of(ready) or torch.device("cpu")).type == "cpu"
    if dtype == "bfloat16" and on_cpu and not has_bfloat16():
        warn_user(
            "this CPU has no bfloat16 instructions (AVX-512 BF16, AMX or Arm's BF16) and emulates them, which is "
            "slower than float32 (8 times with AVX2 and efficientnet-lite0): use float32"
        )
    try_compiling = compile == "auto" and num_images is not None and num_images >= COMPILE_FROM
    compiling = "always" if compile is True else "if faster" if try_compiling else "never"
    prepared = PreparedNetwork(ready, _DTYPES[dtype], compiling, batch_size or 0)
    same_attributes(prepared, model)
    return prepared


def is_copyable(model: nn.Module) -> bool:
    """Whether a copy of the model is independent of it: no hooks, replaced forward, sharded weights, or export."""
    hooks = any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    return not (hooks or has_replaced_forward(model) or is_sharded(model) or is_exported(model))


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; True for a CPU of unknown capabilities."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.8
        supported = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")]
        return any(check() for check in supported if check is not None)
    capabilities = torch.cpu.get_capabilities()
    found = [bool(value) for name, value in capabilities.items() if name in ("avx512_bf16", "amx_bf16", "bf16")]
    return any(found) or not found


class PreparedNetwork(nn.Module):
    """Converts batches to the memory format and dtype of its network, and compiles it at the first full batch."""

    def __init__(self, network: nn.Module, dtype: torch.dtype, compiling: str, batch_size: int) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.compiling = compiling
        self._compiled: Callable[[torch.Tensor], Any] | None = None
        self._batch_size = batch_size  # for which the network is compiled; 0: that of the first batch

    def forward(self, images: torch.Tensor) -> Any:
        with full_float32(device=images.device), evaluating(self):
            return self._forward(images)

    def _forward(self, images: torch.Tensor) -> Any:
        images = images.to(dtype=self.dtype, memory_format=torch.channels_last)
        n = len(images)
        if self.compiling != "never" and n >= self._batch_size:
            self._compile(images)
        if self._compiled is None or n > self._batch_size:
            return _floats(self.network(images))
        if n < self._batch_size:  # the last batch of a stream; padded, since another size would be compiled again
            images = torch.cat([images, images.new_zeros(self._batch_size - n, *images.shape[1:])])
        return _floats(self._compiled(images), n)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}  # copies and pickles are not compiled

    def _compile(self, images: torch.Tensor) -> None:
        """Compile the network for the shape of this batch; called once."""
        always, self.compiling = self.compiling == "always", "never"
        import torch._inductor.config as inductor

        with inductor.patch(freezing=True), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about missing compiler features
            try:
                compiled = torch.compile(self.network, dynamic=False)
                compiled(images)
            except Exception:
                if always:
                    raise
                return  # no compiler on this machine, or an unsupported network
        if always or _seconds(compiled, images) < _seconds(self.network, images):
            self._compiled, self._batch_size = compiled, len(images)


def _seconds(call: Callable[[torch.Tensor], Any], images: torch.Tensor) -> float:
    """Duration of the faster of two calls."""
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        call(images)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        times.append(time.perf_counter() - begin)
    return min(times)


def _floats(output: Any, n: int | None = None) -> Any:
    """The first n rows of every tensor as float32, in the same containers."""
    if isinstance(output, torch.Tensor):
        return output[:n].float()
    if isinstance(output, (list, tuple)):
        return [_floats(item, n) for item in output]
    if isinstance(output, dict):
        return {key: _floats(item, n) for key, item in output.items()}
    return output


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """Fold each batch norm that follows a convolution into the weights of the convolution.

    A batch norm in evaluation mode is an affine map of each channel (Jacob et al., 2018, section 3.2). Only torch's own
    layers are folded: subclasses may compute something else, as timm's batch norms do. A network with data-dependent
    control flow is returned unchanged.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode and without hooks; changed in place.

    Returns
    -------
    torch.nn.Module
    """
    if "forward" in vars(model):  # the tracer would use the forward of the class
        return model
    try:
        graph = fx.Tracer().trace(model)
    except Exception:  # forward may raise anything when called with a proxy
        return model
    modules = dict(model.named_modules())
    for node in list(graph.nodes):
        norm = _called(node, modules)
        before = node.args[0] if node.args else node
        convolution = _called(before, modules)
        if type(norm) is not nn.BatchNorm2d or norm.running_mean is None or type(convolution) is not nn.Conv2d:
            continue
        calls = sum(_called(other, modules) is convolution for other in graph.nodes)
        if len(before.users) > 1 or calls > 1:
            continue
        parent, _, leaf = str(before.target).rpartition(".")
        setattr(model.get_submodule(parent), leaf, fuse_conv_bn_eval(convolution, norm))
        node.replace_all_uses_with(before)
        graph.erase_node(node)
    return fx.GraphModule(model, graph)


def _called(node: Any, modules: dict[str, nn.Module]) -> Any:
    """The module that a node of the graph calls, or None."""
    return modules[str(node.target)] if isinstance(node, fx.Node) and node.op == "call_module" else None
