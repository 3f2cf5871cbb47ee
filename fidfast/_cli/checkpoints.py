"""The files from which interrupted commands continue."""

from __future__ import annotations

import argparse
import os

from fidfast._cli.output import write_message
from fidfast._files import npz_path, read_progress

__all__ = ["checkpoint_of_stats", "how_to_continue", "images_done", "write_continued"]


def checkpoint_of_stats(options: argparse.Namespace) -> str:
    """File of an unfinished run of `stats`; its name is shortened to the 255 bytes that file systems allow."""
    folder, name = os.path.split(options.out.removesuffix(".npz"))
    return os.path.join(folder, f"{os.fsdecode(os.fsencode(name)[:243])}.partial.npz")


def how_to_continue(options: argparse.Namespace) -> str:
    """The end of a message after an unfinished extraction."""
    found = _found(options)
    return f"; continue with the same command: {found}" if found else ""


def write_continued(options: argparse.Namespace) -> None:
    """Write which checkpoints the command continues from."""
    found = _found(options)
    if found and not options.quiet:
        write_message(f"fidfast: continuing: {found}")


def images_done(checkpoint: str) -> int | None:
    """Number of images in a checkpoint; None if there is none."""
    try:
        progress = read_progress(checkpoint)
    except OSError:
        return None
    return None if progress is None else progress.done


def _found(options: argparse.Namespace) -> str:
    """The checkpoints of the command that exist, with their numbers of images."""
    paths = []
    if options.command == "stats":
        paths = [checkpoint_of_stats(options)]
    elif options.command == "evaluate" and options.checkpoint is not None:
        stem = npz_path(options.checkpoint).removesuffix(".npz")  # as `evaluate` names them
        paths = [f"{stem}.{side}.npz" for side in ("samples", "reference")]
    numbers = {path: images_done(path) for path in paths}
    return " and ".join(f"{path} holds {number:,} images" for path, number in numbers.items() if number is not None)
