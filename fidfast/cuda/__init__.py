"""Availability of CUDA devices, and their self-test.

Features on a GPU stay there: `Moments`, the distance, the transport map and `estimate` run on the device that holds
them. If a device cannot be used, or its self-test differs from the CPU, its features are copied to the host instead,
and the results are the same.

``python -m fidfast.cuda`` runs the full self-test and prints a report for bug reports.
"""

from __future__ import annotations

import importlib.util
import threading
from types import ModuleType
from typing import Any

from fidfast import _core
from fidfast._warnings import warn_user
from fidfast.cuda import _problems

__all__ = ["available", "info"]

_lock = threading.Lock()
#: Result of the self-test of each device: None if it passed, else the reason why the device is not used.
_reasons: dict[int, str | None] = {}


def _load() -> tuple[ModuleType | None, str]:
    """The compiled extension, or None and the reason why it is missing."""
    if importlib.util.find_spec("fidfast._cuda") is None:
        return None, "fidfast was built without CUDA"
    try:
        from fidfast import _cuda
    except ImportError as error:  # the CUDA runtime is not installed
        return None, str(error)
    return _cuda, ""


def available() -> bool:
    """Whether there is a CUDA device that fidfast supports.

    Returns
    -------
    bool
        True if the CUDA extension was built and at least one device has compute capability 8.0 or later. The self-test
        is not run.
    """
    extension, _ = _load()
    return extension is not None and any(device["usable"] for device in _devices(extension))


def info() -> dict[str, Any]:
    """Describe the CUDA devices and libraries without allocating device memory.

    Returns
    -------
    dict
        ``available`` : bool
            Result of `available`.
        ``reason`` : str or None
            Why no device is available.
        ``architectures`` : str or None
            The GPU architectures that the extension was compiled for.
        ``devices`` : list of dict
            For each device ``name``, ``compute_capability`` (major, minor), ``memory`` in bytes, number of
            ``multiprocessors``, ``tensor_cores`` (whether float16 and bfloat16 features are multiplied on tensor
            cores) and ``usable`` (whether fidfast supports the device).
        ``libraries`` : dict
            Versions of the driver and the runtime, and versions and paths of cuBLAS and cuSOLVER. If these cannot be
            loaded, ``{"error": message}``.
    """
    extension, reason = _load()
    if extension is None:
        return {"available": False, "reason": reason, "architectures": None, "devices": [], "libraries": {}}
    devices = _devices(extension)
    if not devices:
        reason = f"no CUDA device: {extension.device_count()[1]}"
    elif not any(device["usable"] for device in devices):
        reason = "; ".join(f"CUDA device {number}: {_unsupported(device)}" for number, device in enumerate(devices))
    return {
        "available": not reason,
        "reason": reason or None,
        "architectures": extension.architectures,
        "devices": devices,
        "libraries": _libraries(extension) if devices else {},
    }


def _devices(extension: ModuleType) -> list[dict[str, Any]]:
    properties = [extension.describe(device) for device in range(extension.device_count()[0])]
    return [{**device, "usable": _unsupported(device) is None} for device in properties]


def _unsupported(properties: dict[str, Any]) -> str | None:
    """Why no compiled kernel can run on the device, or None."""
    major, minor = properties["compute_capability"]
    return f"its compute capability is {major}.{minor}; fidfast needs 8.0 or later" if major < 8 else None


def _libraries(extension: ModuleType) -> dict[str, Any]:
    try:
        versions: dict[str, Any] = extension.versions()
    except RuntimeError as error:  # reported in the result, not raised
        return {"error": str(error)}
    return versions


def extension(device: int) -> ModuleType | None:
    """The compiled extension if this device can be used, else None. The first call for a device runs its self-test.

    Raises
    ------
    MemoryError
        If the device has too little free memory for the self-test. A later call runs it again.
    """
    module, _ = _load()
    if module is None:
        return None
    with _lock:
        if device not in _reasons:
            _reasons[device] = _self_test(module, device)
        return module if _reasons[device] is None else None


def why_not(device: int) -> str | None:
    """Why `extension` returned None for this device."""
    module, reason = _load()
    return reason if module is None else _reasons.get(device)


def _self_test(module: ModuleType, device: int) -> str | None:
    """Why not to use the device, or None."""
    count, why = module.device_count()
    if count == 0:
        return f"no CUDA device: {why}"
    if not 0 <= device < count:
        return f"there are {count} CUDA devices"
    properties = module.describe(device)
    if (reason := _unsupported(properties)) is not None:
        return reason
    tensor_cores = properties["tensor_cores"]
    try:
        on_gpu = _problems.self_test_values(module, device, tensor_cores)
        on_cpu = _problems.self_test_values(_core, 0, tensor_cores)
    except MemoryError:
        raise
    except Exception as error:  # a wrong intermediate value can raise anything
        reason = f"its self-test failed: {error}"
    else:
        different = [name for name in on_cpu if not _agree(on_gpu[name], on_cpu[name])]
        if not different:
            return None
        values = "; ".join(f"{name} {on_gpu[name]!r} on the GPU, {on_cpu[name]!r} on the CPU" for name in different)
        reason = f"its self-test differs from the CPU: {values}"
    warn_user(
        f"CUDA device {device} is not used: {reason}. The CPU is used instead. Please report this with the "
        "output of `python -m fidfast.cuda`"
    )
    return reason


def _agree(on_gpu: float, on_cpu: float) -> bool:
    """Rounding errors are about 1e-14 here, and any real fault is far larger than the tolerance."""
    return abs(on_gpu - on_cpu) <= 1e-9 * abs(on_cpu)
