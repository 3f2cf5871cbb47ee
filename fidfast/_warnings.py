"""Warnings that point at the caller's line outside the package."""

from __future__ import annotations

import sys
import warnings

from fidfast._text import printable

__all__ = ["warn_user"]


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Emit a warning at the line outside the package that led to the call.

    Control characters and line breaks, which names in the message may contain, are escaped.
    """
    warnings.warn(printable(message), category, stacklevel=_caller_level())


def _caller_level() -> int:
    """Stack level, as the caller passes it to `warnings.warn`, of the first frame outside the package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "fidfast":
        frame, level = frame.f_back, level + 1
    return level
