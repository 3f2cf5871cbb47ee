"""Where features, moments and Gaussians lie, and how they come together in one place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from fidfast import _core, cuda

__all__ = [
    "core_at",
    "cuda_device_of",
    "device_of_core",
    "moved",
    "name_of",
    "number_of",
    "on_host",
    "presented",
    "stream_of",
]

#: DLPack's types of devices whose memory is a GPU's.
_CUDA = (2, 13)

#: Of features that are copied from a GPU to the host.
_ROWS_AT_A_TIME = 8192


def number_of(device: Any) -> int | None:
    """A device by its name: the number of a CUDA device, or None for the host. Takes "cpu", "cuda", "cuda:1".

    Raises
    ------
    ValueError
        If it is none of these.
    """
    name = str(device)
    kind, _, number = name.partition(":")
    if name == "cpu":
        return None
    if kind == "cuda" and (not number or number.isdecimal()):
        return int(number or 0)
    raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {name!r}")


def name_of(device: int | None) -> str:
    """The inverse of `number_of`."""
    return "cpu" if device is None else f"cuda:{device}"


def cuda_device_of(features: Any) -> int | None:
    """Number of the CUDA device that holds them, or None."""
    if not hasattr(features, "__dlpack_device__"):
        return None
    kind, number = features.__dlpack_device__()
    return int(number) if int(kind) in _CUDA else None


def stream_of(features: Any) -> int | None:
    """Handle of the stream in whose order the library that made them works, where it tells."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(features, torch.Tensor):
        return int(torch.cuda.current_stream(features.device).cuda_stream)
    if cupy is not None and isinstance(features, cupy.ndarray):
        return int(cupy.cuda.get_current_stream().ptr)
    return None


def _made_current(features: Any) -> AbstractContextManager[Any]:
    """While it lasts, torch's current device is that of its features, of which alone it exports."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(features, torch.Tensor) and features.is_cuda:
        device: AbstractContextManager[Any] = torch.cuda.device(features.device)
        return device
    return nullcontext()


def on_host(features: Any) -> Any:
    """Features that a GPU holds, in the host's memory; others as they are."""
    if cuda_device_of(features) is None:
        return features
    for copy in ("cpu", "get"):  # torch's name for it, and CuPy's
        if hasattr(features, copy):
            return getattr(features, copy)()
    if hasattr(features, "__array__"):  # JAX's
        return np.asarray(features)
    return np.from_dlpack(features, device="cpu", copy=True)


def presented(features: Any, device: int | None, stream: int | None) -> Iterator[tuple[Any, int | None]]:
    """Features as the core on this device takes them, in parts where they must be copied, and the stream to obey."""
    here = cuda_device_of(features)
    if here is None or here == device:
        with _made_current(features):
            yield features, None if here is None else stream_of(features) if stream is None else stream
        return
    for first in range(0, max(len(features), 1), _ROWS_AT_A_TIME):
        yield on_host(features[first : first + _ROWS_AT_A_TIME]), None


def core_at(device: int | None) -> ModuleType:
    """The compiled module that works there.

    Raises
    ------
    RuntimeError
        If that device cannot be used.
    """
    if device is None:
        return _core
    extension = cuda.extension(device)
    if extension is None:
        raise RuntimeError(f"{name_of(device)} cannot be used: {cuda.why_not(device)}")
    return extension


def device_of_core(core: Any) -> int | None:
    """Where a `Moments` or `Gaussian` of a compiled module lies."""
    return None if type(core).__module__ == _core.__name__ else int(core.device)


def moved(moments: _core.Moments, device: int | None) -> _core.Moments:
    """The same moments on this device, themselves where they lie there."""
    if device_of_core(moments) == device:
        return moments
    module = core_at(device)
    made: _core.Moments = module.Moments.from_state(moments.state(), device or 0)
    return made
