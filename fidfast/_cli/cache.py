"""The command ``fidfast cache``."""

from __future__ import annotations

import argparse
import re

from fidfast._images.cache import ImageCache, image_cache

__all__ = ["add_cache_arguments", "update_cache"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def add_cache_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    command.add_argument(
        "--older-than", type=_days, metavar="DAYS", help="remove what was not used for this number of days"
    )
    command.add_argument(
        "--max-size",
        type=_size,
        metavar="SIZE",
        help="remove the least recently used beyond this size, 2GB for example",
    )
    command.add_argument("--clear", action="store_true", help="remove everything")
    command.add_argument("--json", action="store_true", help="print all numbers as one JSON object")


def update_cache(options: argparse.Namespace) -> ImageCache:
    """Remove what the options say, and describe the rest."""
    return image_cache(older_than=options.older_than, max_size=options.max_size, clear=options.clear)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of days, got {text!r}")
    return days


def _size(text: str) -> float:
    """Bytes of ``2GB``, ``500 MB``, ``1.5GiB`` or ``1000``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)(?:b|bytes)?", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise argparse.ArgumentTypeError(f"must be a size such as 500MB or 2GB, got {text!r}")
    return float(match[1]) * _UNITS[match[2]]
