"""Device placement: which device holds an array or a compiled object, streams, and copies between devices."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from fidfast import _core, cuda

__all__ = [
    "as_backend_input",
    "backend_module",
    "cuda_device_of",
    "device_name",
    "device_of_core",
    "moments_on_device",
    "parse_device",
    "to_host",
]

#: DLPack device types of GPU memory: kDLCUDA and kDLCUDAManaged.
_CUDA_TYPES = (2, 13)


def parse_device(device: Any) -> int | None:
    """Number of the CUDA device that "cuda" or "cuda:N" names; None for "cpu".

    Raises
    ------
    ValueError
        If `device` is neither.
    """
    name = str(device)
    kind, _, number = name.partition(":")
    if name == "cpu":
        return None
    if kind == "cuda" and (not number or number.isdecimal()):
        return int(number or 0)
    raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {name!r}")


def device_name(device: int | None) -> str:
    """Inverse of `parse_device`."""
    return "cpu" if device is None else f"cuda:{device}"


def cuda_device_of(features: Any) -> int | None:
    """Number of the CUDA device that holds the features, or None."""
    if not hasattr(features, "__dlpack_device__"):
        return None
    try:
        kind, number = map(int, features.__dlpack_device__())
    except Exception:  # of any library; the core reports it
        return None
    return number if kind in _CUDA_TYPES else None


def _current_stream(features: Any) -> int | None:
    """Handle of the stream that the array's library currently uses; None if it does not expose one."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(features, torch.Tensor):
        return int(torch.cuda.current_stream(features.device).cuda_stream)
    if cupy is not None and isinstance(features, cupy.ndarray):
        return int(cupy.cuda.get_current_stream().ptr)
    return None


def _torch_device_guard(features: Any) -> AbstractContextManager[Any]:
    """Makes the device of a CUDA tensor the current one: torch exports tensors of the current device only."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(features, torch.Tensor) and features.is_cuda:
        device: AbstractContextManager[Any] = torch.cuda.device(features.device)
        return device
    return nullcontext()


def to_host(features: Any) -> Any:
    """A copy in host memory if a GPU holds the features, else the features themselves."""
    if cuda_device_of(features) is None:
        return features
    for copy in ("cpu", "get"):  # torch and CuPy
        if hasattr(features, copy):
            return getattr(features, copy)()
    if hasattr(features, "__array__"):  # JAX
        return np.asarray(features)
    with _torch_device_guard(features):
        return np.from_dlpack(features, device="cpu", copy=True)


def as_backend_input(
    features: Any, holder: int | None, device: int | None, stream: int | None
) -> Iterator[tuple[Any, int | None]]:
    """Yield, once, features on `holder` in a form that the backend of `device` accepts, with the stream to wait for.

    Features on another device are copied to the host, all at once, so that the backend accepts or rejects all of them.
    """
    if holder is None:
        yield features, None
    elif holder == device:
        with _torch_device_guard(features):
            yield features, _current_stream(features) if stream is None else stream
    else:
        yield to_host(features), None


def backend_module(device: int | None) -> ModuleType:
    """The compiled module that implements the core on this device.

    Raises
    ------
    RuntimeError
        If the device cannot be used.
    """
    if device is None:
        return _core
    extension = cuda.extension(device)
    if extension is None:
        raise RuntimeError(f"{device_name(device)} cannot be used: {cuda.why_not(device)}")
    return extension


def device_of_core(core: Any) -> int | None:
    """Device of a compiled `Moments` or `Gaussian`."""
    return None if type(core).__module__ == _core.__name__ else int(core.device)


def moments_on_device(moments: _core.Moments, device: int | None) -> _core.Moments:
    """The moments on `device`: the same object if they are there, else a copy."""
    if device_of_core(moments) == device:
        return moments
    module = backend_module(device)
    copied: _core.Moments = module.Moments.from_state(moments.state(), device or 0)
    return copied
