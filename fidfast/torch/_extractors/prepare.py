"""A network made ready for inference: batch norms folded, channels last, bfloat16 on request, compiled if it pays."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["Prepared", "fold_batch_norms", "has_hooks", "prepare"]

#: From this many images on, ``compile="auto"`` tries. Compiling takes half a minute to a minute for an Inception
#: network, and gains up to a fifth of 50 ms an image in float32.
COMPILE_FROM = 10_000

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def prepare(
    model: nn.Module,
    precision: str = "float32",
    compile: str | bool = "auto",
    *,
    num_images: int | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """A copy of a network that gives the same features faster.

    Parameters
    ----------
    model : torch.nn.Module
        From a batch of images to features; stays as it is.
    precision : {"float32", "bfloat16"}, default "float32"
        Arithmetic of the network. In "float32" the features are those of the model in evaluation mode to 1e-5
        relative. In "bfloat16" convolutions are several times as fast on CPUs with AMX or AVX-512 BF16 and on GPUs,
        and the features carry noise of a per cent or a few; docs/images.md has what that does to distances.
    compile : {"auto", True, False}, default "auto"
        Whether to use `torch.compile`. "auto" does so from 10,000 images on, and keeps the result only where it is
        faster.
    num_images : int, optional
        How many images will pass, for "auto"; without it nothing is compiled.
    batch_size : int, optional
        What the network is compiled for; the size of the first batch, unless given.
    device : torch.device, optional
        Where the copy goes; where the model is, unless given.

    Returns
    -------
    torch.nn.Module
        Takes batches (n, 3, height, width) of any float type; gives float32 features, in the model's own form. Has
        the model's ``name``, ``num_features``, ``input_size`` and ``input_range``.

    Raises
    ------
    ValueError
        If `precision` or `compile` is none of the above; if the model has forward hooks, which would go on working
        for the original; or if its features are not what it returns (timm's).
    """
    if precision not in _DTYPES:
        raise ValueError(f"precision must be one of {', '.join(_DTYPES)}, got {precision!r}")
    if compile not in ("auto", True, False):
        raise ValueError(f"compile must be 'auto', True or False, got {compile!r}")
    if hasattr(model, "forward_features"):
        raise ValueError(f"{type(model).__name__} is more than its features: use as_extractor(model).prepared()")
    if has_hooks(model):
        raise ValueError(f"{type(model).__name__} has forward hooks, which a copy of it would not have of its own")
    ready = copy.deepcopy(model).eval().requires_grad_(False)
    if device is not None:
        ready = ready.to(device)
    ready = fold_batch_norms(ready).to(dtype=_DTYPES[precision], memory_format=torch.channels_last)
    tries = compile == "auto" and num_images is not None and num_images >= COMPILE_FROM
    compiling = "always" if compile is True else "if faster" if tries else "never"
    prepared = Prepared(ready, _DTYPES[precision], compiling, batch_size or 0)
    for attribute in ("name", "num_features", "input_size", "input_range"):
        if hasattr(model, attribute):
            setattr(prepared, attribute, getattr(model, attribute))
    return prepared


def has_hooks(model: nn.Module) -> bool:
    """Whether a module in it has forward hooks."""
    return any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


class Prepared(nn.Module):
    """Hands batches on in the layout and type that the network was prepared for."""

    def __init__(self, network: nn.Module, dtype: torch.dtype, compiling: str, batch_size: int) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.compiling = compiling
        self._compiled: Callable[[torch.Tensor], Any] | None = None
        self._batch_size = batch_size  # that it is compiled for; 0 for the first batch's

    def forward(self, images: torch.Tensor) -> Any:
        images = images.to(dtype=self.dtype, memory_format=torch.channels_last)
        n = len(images)
        if self.compiling != "never" and n >= self._batch_size:
            self._compile(images)
        if self._compiled is None or n > self._batch_size:
            return _floats(self.network(images))
        if n < self._batch_size:  # a stream's last batch: filled up, since another size would be compiled again
            images = torch.cat([images, images.new_zeros(self._batch_size - n, *images.shape[1:])])
        return _floats(self._compiled(images), n)

    def _compile(self, images: torch.Tensor) -> None:
        """Once, at the first whole batch."""
        always, self.compiling = self.compiling == "always", "never"
        import torch._inductor.config as inductor

        with inductor.patch(freezing=True), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the compiler would like to have found
            try:
                compiled = torch.compile(self.network, dynamic=False)
                compiled(images)
            except Exception:
                if always:
                    raise
                return  # no compiler on this machine, or a network it cannot take: it was only worth a try
        if always or _seconds(compiled, images) < _seconds(self.network, images):
            self._compiled, self._batch_size = compiled, len(images)


def _seconds(call: Callable[[torch.Tensor], Any], images: torch.Tensor) -> float:
    """The faster of two runs."""
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        call(images)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        times.append(time.perf_counter() - begin)
    return min(times)


def _floats(output: Any, n: int | None = None) -> Any:
    """The first n rows as float32, in whatever form they come."""
    if isinstance(output, torch.Tensor):
        return output[:n].float()
    if isinstance(output, (list, tuple)):
        return [_floats(item, n) for item in output]
    if isinstance(output, dict):
        return {key: _floats(item, n) for key, item in output.items()}
    return output


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """The network with each batch norm that follows a convolution folded into its weights.

    A batch norm in evaluation mode is an affine map of each channel, and so is part of the convolution before it
    (Jacob et al., 2018, section 3.2). Only torch's own layers are folded: a class that derives from one may well do
    more, and timm's batch norms do. Networks whose control flow depends on the data are returned as they are.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode and without hooks; is changed.
    """
    try:
        graph = fx.Tracer().trace(model)
    except Exception:  # whatever a forward may raise at the sight of a proxy
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
