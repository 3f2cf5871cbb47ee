"""Devices of networks."""

from __future__ import annotations

import re

import torch

__all__ = ["check_device", "resolve_device"]


def check_device(device: torch.device | str | int | None) -> torch.device:
    """The device of `resolve_device`, after a check that it can be used.

    Raises
    ------
    ValueError
        If there is no such device, or it is not available on this machine.
    """
    try:
        found = resolve_device(device)
        if found.type == "cuda" and torch.cuda.is_available() and (found.index or 0) >= torch.cuda.device_count():
            raise RuntimeError(f"the devices are 'cuda:0' to 'cuda:{torch.cuda.device_count() - 1}'")
        torch.empty(1, device=found).cpu()
    except Exception as error:  # each backend has its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        index = re.fullmatch(r"(?:gpu:?)?(\d*)", str(device).lower())
        hint = "" if index is None else f"; did you mean 'cuda:{index[1] or 0}'?"
        raise ValueError(f"device {str(device)!r} cannot be used: {reason}{hint}") from error
    return found


def resolve_device(device: torch.device | str | int | None) -> torch.device:
    """The given device, or by default CUDA if available."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
