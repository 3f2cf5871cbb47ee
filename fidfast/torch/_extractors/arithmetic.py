"""Settings of torch under which extractors run, whatever those of the caller are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

__all__ = ["full_float32", "ordinary_tensors"]


@contextmanager
def full_float32(*, benchmark: bool | None = None, device: torch.device | None = None) -> Iterator[None]:
    """Context in which torch has its default settings, except that float32 is never rounded to TF32 or bfloat16.

    It turns off autocast, TF32 (also that which cuDNN uses by default), and deterministic algorithms, sets the default
    dtype to float32, and replaces the default device. All settings are restored, also after an error. Gradients stay
    enabled if they are. It can be nested and used in several threads.

    Parameters
    ----------
    benchmark : bool, optional
        Whether cuDNN searches for the fastest algorithms. By default as the caller has set it.
    device : torch.device, optional
        Default device if the caller has set one; by default the CPU. A network may rely on a default device, which is
        then that of the images.
    """
    with ExitStack() as stack:
        for kind in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        outermost = not getattr(_thread, "inside", False)
        if outermost:
            _thread.inside, _thread.has_default_device = True, torch.get_default_device().type != "cpu"
            stack.callback(setattr, _thread, "inside", False)
        if _thread.has_default_device:
            # In every torch function it costs some microseconds.
            stack.enter_context(torch.device("cpu") if device is None else device)
        stack.enter_context(_global_settings)
        if benchmark is not None:
            stack.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
            torch.backends.cudnn.benchmark = benchmark
        yield


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Context in which weights are made without a graph, but not for inference only: they may be used in training."""
    with torch.inference_mode(False), torch.no_grad():
        yield


_AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")
_thread = threading.local()


class _GlobalSettings:
    """Sets what torch keeps for the process. The first of several threads saves it, and the last one restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._saved = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                with ExitStack() as saved:
                    _set_all(saved)
                    self._saved = saved.pop_all()
            self._users += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._saved.close()


_global_settings = _GlobalSettings()


def _set_all(saved: ExitStack) -> None:
    """Change the settings that differ, and add their restoration to `saved`, which calls it in reverse order."""
    if torch.get_default_dtype() != torch.float32:
        saved.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
    if torch.are_deterministic_algorithms_enabled():
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        saved.callback(torch.use_deterministic_algorithms, True, warn_only=warn_only)
        torch.use_deterministic_algorithms(False)
    if torch.backends.cudnn.deterministic:
        saved.callback(setattr, torch.backends.cudnn, "deterministic", True)
        torch.backends.cudnn.deterministic = False
    _disable_tf32(saved)


def _disable_tf32(saved: ExitStack) -> None:
    # Both are unreadable if they contradict `fp32_precision`, which then has precedence.
    matmul, cudnn = _readable(torch.get_float32_matmul_precision), _readable(lambda: torch.backends.cudnn.allow_tf32)
    # A value that is not set is that of the level above, so the upper levels are cleared first and restored last.
    operations = []
    for part in (torch.backends, *_BACKENDS, *_OPERATIONS):
        precision = getattr(part, "fp32_precision", None)  # since torch 2.9
        if part in _OPERATIONS:
            operations.append((part, precision))
        elif precision not in (None, "none", "ieee"):
            saved.callback(setattr, part, "fp32_precision", precision)
            part.fp32_precision = "none"
    for part, precision in operations:
        if precision is not None:
            saved.callback(_set_precision, part, precision)
    if matmul not in (None, "highest"):
        saved.callback(torch.set_float32_matmul_precision, matmul)
        torch.set_float32_matmul_precision("highest")
    if cudnn:
        saved.callback(setattr, torch.backends.cudnn, "allow_tf32", True)
        torch.backends.cudnn.allow_tf32 = False
    for part, precision in operations:
        if precision not in (None, "none", "ieee"):
            _set_precision(part, "ieee")


def _operations(*parts: tuple[Any, str]) -> list[Any]:
    return [getattr(backend, name) for backend, name in parts if hasattr(backend, name)]


_BACKENDS = (torch.backends.cudnn, torch.backends.mkldnn)
_OPERATIONS = _operations(
    (torch.backends.cuda, "matmul"),
    (torch.backends.cudnn, "conv"),
    (torch.backends.cudnn, "rnn"),
    (torch.backends.mkldnn, "matmul"),
    (torch.backends.mkldnn, "conv"),
    (torch.backends.mkldnn, "rnn"),
)


def _set_precision(operation: Any, precision: str) -> None:
    if operation.fp32_precision != precision:
        operation.fp32_precision = precision


def _readable(get: Callable[[], Any]) -> Any:
    try:
        return get()
    except RuntimeError:
        return None
