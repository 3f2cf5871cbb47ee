"""Callables that users pass instead of a module: methods, functions, and partial, compiled or decorated ones."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import re
import types
from contextlib import suppress
from typing import Any

import torch

from fidfast._warnings import warn_user

__all__ = ["digest_of", "owner_of", "undecorated", "warn_of_training"]


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


def digest_of(model: Any) -> str:
    """SHA-256 of what a callable computes, as far as it can be known: structure and weights, code and its variables.

    Variables that the callable assigns, and those of other types than numbers, strings, tuples, dtypes and modules, are
    not included: callables with equal digests may differ in them.
    """
    digest = hashlib.sha256()
    owner = owner_of(model)
    if owner is not None:
        _add_module(digest, owner)
    if isinstance(model, functools.partial):
        for name, value in (*enumerate(model.args), *sorted(model.keywords.items())):
            _add_variable(digest, str(name), value)
    function = undecorated(model)
    variables: dict[str, Any] = {}
    if isinstance(function, types.MethodType):
        function = function.__func__
    elif not isinstance(function, (types.FunctionType, torch.nn.Module)):
        digest.update(type(function).__qualname__.encode())
        variables.update(getattr(function, "__dict__", {}))
        function = vars(type(function)).get("__call__")
    if isinstance(function, types.FunctionType):
        _add_code(digest, function.__code__)
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        variables.update({str(number): value for number, value in enumerate(defaults)})
        with suppress(ValueError):  # a variable without a value
            variables.update(inspect.getclosurevars(function).nonlocals)
        for step in dis.get_instructions(function):
            if step.opname in ("STORE_DEREF", "STORE_ATTR"):  # a counter, for example
                variables.pop(step.argval, None)
    for name, value in sorted(variables.items()):
        _add_variable(digest, name, value)
    return digest.hexdigest()


def _add_module(digest: Any, module: torch.nn.Module) -> None:
    digest.update(re.sub("0x[0-9a-f]+", "", repr(module)).encode())
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())


def _add_variable(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, torch.nn.Module):
        digest.update(name.encode())
        _add_module(digest, value)
    elif isinstance(value, (bool, int, float, str, bytes, tuple, torch.dtype, torch.Size, type(None))):
        digest.update(f"{name}={value!r}".encode())


def _add_code(digest: Any, code: types.CodeType) -> None:
    digest.update(code.co_code)
    digest.update(" ".join(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _add_code(digest, constant)
        else:
            digest.update(repr(constant).encode())
