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

__all__ = ["fold_batch_norms", "prepare"]

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
        and the features carry noise of some 1e-3.
    compile : {"auto", True, False}, default "auto"
        Whether to use `torch.compile`. "auto" does so from 10,000 images on, and keeps the result only where it is
        faster.
    num_images : int, optional
        How many images will pass, for "auto"; without it nothing is compiled.
    device : torch.device, optional
        Where the copy goes; where the model is, unless given.

    Returns
    -------
    torch.nn.Module
        Takes batches (n, 3, height, width) of any float type; gives float32 features, in the model's own form.

    Raises
    ------
    ValueError
        If `precision` or `compile` is none of the above.
    """
    if precision not in _DTYPES:
        raise ValueError(f"precision must be one of {', '.join(_DTYPES)}, got {precision!r}")
    if compile not in ("auto", True, False):
        raise ValueError(f"compile must be 'auto', True or False, got {compile!r}")
    ready = copy.deepcopy(model).eval().requires_grad_(False)
    if device is not None:
        ready = ready.to(device)
    ready = fold_batch_norms(ready).to(dtype=_DTYPES[precision], memory_format=torch.channels_last)
    tries = compile == "auto" and num_images is not None and num_images >= COMPILE_FROM
    return _Prepared(ready, _DTYPES[precision], "always" if compile is True else "if faster" if tries else "never")


class _Prepared(nn.Module):
    """Hands batches on in the layout and type that the network was prepared for."""

    def __init__(self, network: nn.Module, dtype: torch.dtype, compiling: str) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.compiling = compiling
        self._compiled: Callable[[torch.Tensor], Any] | None = None
        self._batch_size = 0  # that it was compiled for

    def forward(self, images: torch.Tensor) -> Any:
        images = images.to(dtype=self.dtype, memory_format=torch.channels_last)
        if self.compiling != "never":
            self._compile(images)
        n = len(images)
        if self._compiled is None or n > self._batch_size:
            return _floats(self.network(images))
        if n < self._batch_size:  # a stream's last batch: filled up, since another size would be compiled again
            images = torch.cat([images, images.new_zeros(self._batch_size - n, *images.shape[1:])])
        return _floats(self._compiled(images), n)

    def _compile(self, images: torch.Tensor) -> None:
        """Once, at the first batch, whose size is that of the others."""
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


class _Tracer(fx.Tracer):
    """Sees convolutions and batch norms as wholes, also those of classes that others derive from torch's."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, (nn.Conv2d, nn.BatchNorm2d)) or super().is_leaf_module(module, qualified_name)


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """The network with each batch norm that follows a convolution folded into its weights.

    A batch norm in evaluation mode is an affine map of each channel, and so is part of the convolution before it
    (Jacob et al., 2018, section 3.2). Networks whose control flow depends on the data are returned as they are.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode; is changed.
    """
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except Exception:  # whatever a forward may raise at the sight of a proxy
        return model
    modules = dict(model.named_modules())
    for node in list(graph.nodes):
        before = node.args[0] if node.args else None
        if not (_calls(node, modules, nn.BatchNorm2d) and _calls(before, modules, nn.Conv2d)):
            continue
        assert isinstance(before, fx.Node)
        shared = sum(other.target == before.target for other in graph.nodes if other.op == "call_module") > 1
        if len(before.users) > 1 or shared:
            continue
        parent, _, leaf = str(before.target).rpartition(".")
        folded = fuse_conv_bn_eval(modules[str(before.target)], modules[str(node.target)])
        setattr(model.get_submodule(parent), leaf, folded)
        node.replace_all_uses_with(before)
        graph.erase_node(node)
    return fx.GraphModule(model, graph)


def _calls(node: Any, modules: dict[str, nn.Module], kind: type[nn.Module]) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_module" and isinstance(modules[str(node.target)], kind)
