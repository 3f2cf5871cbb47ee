"""Callables that users pass instead of a module: methods, functions, and partial, compiled or decorated ones."""

from __future__ import annotations

import functools
import inspect
import types
from contextlib import suppress
from typing import Any

import torch

from fidfast._warnings import warn_user

__all__ = ["owner_of", "undecorated", "warn_of_training"]


def owner_of(model: Any) -> torch.nn.Module | None:
    """The module itself, or that of a method, also if partial, compiled or decorated; None for other callables."""
    model = undecorated(model)
    owner = model if isinstance(model, torch.nn.Module) else getattr(model, "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) else None


def undecorated(model: Any) -> Any:
    """The callable in `functools.partial`, `torch.compile` and decorators with `functools.wraps`."""
    while not isinstance(model, (torch.nn.Module, types.MethodType)):
        names = vars(model) if hasattr(model, "__dict__") else {}
        inner = model.func if isinstance(model, functools.partial) else None
        inner = inner or names.get("_torchdynamo_orig_callable") or names.get("__wrapped__")
        if inner is None or inner is model:
            break
        model = inner
    return model


def warn_of_training(function: Any, action: str) -> None:
    """Warn if a function calls modules in training mode, which cannot be set to evaluation mode for it."""
    if owner_of(function) is not None:
        return
    found: dict[str, Any] = {}
    if isinstance(function, functools.partial):
        found.update({str(number): value for number, value in enumerate(function.args)}, **function.keywords)
    function = undecorated(function)
    if isinstance(function, types.FunctionType):
        with suppress(ValueError):  # a variable without a value
            found.update(inspect.getclosurevars(function).nonlocals)
            found.update(inspect.getclosurevars(function).globals)
    else:
        found.update(getattr(getattr(function, "__self__", function), "__dict__", {}))
    for name, value in found.items():
        owner = owner_of(value) if callable(value) and not isinstance(value, type) else None
        if owner is not None and any(getattr(part, "training", False) for part in owner.modules()):
            warn_user(
                f"{action} calls the network {name!r} ({type(owner).__name__}), which is in training mode and stays "
                f"in it: call {name}.eval() before, or pass the network or its method"
            )
