"""Whether fidfast can work on this machine's GPUs, and whether what it computes there is right.

Features that lie on a GPU stay there: `Moments`, the distance, the transport map and `estimate` work where they find
them. Where that is not possible, or a first small problem comes out otherwise than on the CPU, features are copied to
the host, and the answer is the same.

``python -m fidfast.cuda`` tests it all and prints a report that can be pasted into an issue.
"""

from __future__ import annotations

import importlib.util
import threading
import warnings
from types import ModuleType
from typing import Any

from fidfast import _core

__all__ = ["available", "info"]

_lock = threading.Lock()
#: By device: why it is not used, or None where it is.
_verdicts: dict[int, str | None] = {}


def _load() -> tuple[ModuleType | None, str]:
    """The extension, or why it is not there."""
    if importlib.util.find_spec("fidfast._cuda") is None:
        return None, "fidfast was built without a CUDA compiler"
    try:
        from fidfast import _cuda
    except ImportError as error:  # without the CUDA runtime
        return None, str(error)
    return _cuda, ""


def available() -> bool:
    """Whether there is a GPU that fidfast is compiled for."""
    extension, _ = _load()
    return extension is not None and any(device["usable"] for device in _devices(extension))


def info() -> dict[str, Any]:
    """What there is, in plain values. Takes no memory of any GPU.

    Returns
    -------
    dict
        ``available``; ``reason``, why not, or None; ``architectures``, what the extension was compiled for;
        ``devices``, a list of dicts with ``name``, ``compute_capability``, ``memory`` in bytes, number of
        ``multiprocessors``, ``tensor_cores`` (whether rows of 16 bits are multiplied on them) and ``usable`` (whether
        fidfast is compiled for it); ``libraries``, the versions of the driver and the runtime, and versions and files
        of cuBLAS and cuSOLVER, or the ``error`` in finding them.
    """
    extension, reason = _load()
    if extension is None:
        return {"available": False, "reason": reason, "architectures": None, "devices": [], "libraries": {}}
    devices = _devices(extension)
    if not devices:
        reason = f"no CUDA device: {extension.device_count()[1]}"
    elif not any(device["usable"] for device in devices):
        reason = "; ".join(f"CUDA device {number}: {_too_old(device)}" for number, device in enumerate(devices))
    return {
        "available": not reason,
        "reason": reason or None,
        "architectures": extension.architectures,
        "devices": devices,
        "libraries": _libraries(extension) if devices else {},
    }


def _devices(extension: ModuleType) -> list[dict[str, Any]]:
    described = [extension.describe(device) for device in range(extension.device_count()[0])]
    return [{**device, "usable": _too_old(device) is None} for device in described]


def _too_old(described: dict[str, Any]) -> str | None:
    """What keeps a device from running any of what is compiled, or None."""
    major, minor = described["compute_capability"]
    return f"its compute capability is {major}.{minor}, and fidfast needs 8.0" if major < 8 else None


def _libraries(extension: ModuleType) -> dict[str, Any]:
    try:
        versions: dict[str, Any] = extension.versions()
    except RuntimeError as error:  # it has to be told, not met
        return {"error": str(error)}
    return versions


def extension(device: int) -> ModuleType | None:
    """The module that works on this device, or None where it cannot be used; the first call tries it out.

    Raises
    ------
    MemoryError
        If the GPU has no memory left for that; another time it may have some.
    """
    module, _ = _load()
    if module is None:
        return None
    with _lock:
        if device not in _verdicts:
            _verdicts[device] = _first_look(module, device)
        return module if _verdicts[device] is None else None


def why_not(device: int) -> str | None:
    """Why `extension` gives None."""
    module, reason = _load()
    return reason if module is None else _verdicts.get(device)


def _first_look(module: ModuleType, device: int) -> str | None:
    """Why not to use it, or None."""
    count, why = module.device_count()
    if count == 0:
        return f"no CUDA device: {why}"
    if not 0 <= device < count:
        return f"there are {count} CUDA devices"
    described = module.describe(device)
    if (too_old := _too_old(described)) is not None:
        return too_old
    from fidfast.cuda.check import first_problem

    tensor_cores = described["tensor_cores"]
    try:
        there, here = first_problem(module, device, tensor_cores), first_problem(_core, 0, tensor_cores)
    except MemoryError:
        raise
    except Exception as error:  # wrong numbers may end in any
        reason = f"it fails: {error}"
    else:
        different = {name: (there[name], here[name]) for name in here if not _agree(there[name], here[name])}
        if not different:
            return None
        numbers = "; ".join(f"{name} {theirs!r} there, {ours!r} here" for name, (theirs, ours) in different.items())
        reason = f"it does not agree with the CPU: {numbers}"
    warnings.warn(
        f"CUDA device {device} is not used, and the CPU does its work, since {reason}. Please report this with the "
        "output of `python -m fidfast.cuda`",
        stacklevel=2,
    )
    return reason


def _agree(there: float, here: float) -> bool:
    """Far from rounding, which is some 1e-14 here, and from any real fault."""
    return abs(there - here) <= 1e-9 * abs(here)
