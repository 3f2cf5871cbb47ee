"""Types of the options of the command line: functions that return the value of a text, or raise an error; defaults."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence

from fidfast._shards import Shard

__all__ = ["at_least", "names", "positive", "precision_of_rows", "shard", "weights_of"]


def shard(text: str) -> str:
    """A part K/N."""
    try:
        return str(Shard.from_text("--shard", text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--shard ")) from None


def names(text: str) -> list[str]:
    """Names with commas between them."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"must be names with commas between them, got {text!r}")
    return found


def weights_of(given: Sequence[str]) -> str | dict[str, str]:
    """The file of ``--weights FILE``, or the files of each ``--weights NAME=FILE`` by name."""
    files: dict[str, str] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not equals or os.path.exists(text):
            if len(given) > 1:
                raise argparse.ArgumentTypeError(
                    f"--weights is given {len(given)} times, but {text} has no name: pass NAME=FILE for each network"
                )
            return text
        if not (name and file):
            raise argparse.ArgumentTypeError(f"--weights must be FILE or NAME=FILE, got {text!r}")
        if name in files:
            raise argparse.ArgumentTypeError(f"--weights has two files for {name}: {files[name]} and {file}; pass one")
        files[name] = file
    return files


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return value


def at_least(least: int) -> Callable[[str], int]:
    """A function that returns an integer of at least this."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be an integer, got {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return number


def precision_of_rows(options: argparse.Namespace) -> str:
    """Arithmetic of given features and of metrics of rows, as `ImageOptions.precision_of_rows`."""
    return str(options.precision or "float32")
