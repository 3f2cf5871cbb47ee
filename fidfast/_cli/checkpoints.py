"""The files from which interrupted commands continue."""

from __future__ import annotations

import argparse
import os

from fidfast._cli.output import write_message
from fidfast._files import npz_path, read_header, read_progress

__all__ = ["check_shard", "checkpoint_of_stats", "how_to_continue", "images_done", "write_continued"]


def checkpoint_of_stats(options: argparse.Namespace) -> str:
    """File of an unfinished run of `stats`; its name is shortened to the 255 bytes that file systems allow.

    Of several processes each has its own file: ``out.partial.rank-0-of-2.npz``.
    """
    folder, name = os.path.split(options.out.removesuffix(".npz"))
    most = 243 if options.launch.size == 1 else 220
    return os.path.join(folder, f"{os.fsdecode(os.fsencode(name)[:most])}.partial.npz")


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


def check_shard(out: str, shard: str) -> None:
    """Raise a ValueError if a file holds another shard, which the moments of `shard` would replace."""
    try:
        parts = read_header(out, ["Moments"]).parts
    except (OSError, ValueError):  # none, or something else, as for other commands
        return
    for part in parts:
        if f"{part.shard}/{part.shards}" != shard:
            raise ValueError(f"{out} holds {part}: pass another name for shard {shard}, or delete it")


def _found(options: argparse.Namespace) -> str:
    """The checkpoints of the command that exist, with their numbers of images."""
    paths = []
    if options.command == "stats":
        paths = [checkpoint_of_stats(options)]
    elif options.command == "evaluate" and options.checkpoint is not None:
        stem = npz_path(options.checkpoint).removesuffix(".npz")  # as `evaluate` names them
        paths = [f"{stem}.{side}.npz" for side in ("samples", "reference")]
    found = []
    for path in paths:
        files, holds = [path], "holds"
        if (size := options.launch.size) > 1:
            stem = path.removesuffix(".npz")
            files, holds = [f"{stem}.rank-{rank}-of-{size}.npz" for rank in range(size)], "hold"
            path = f"{stem}.rank-*-of-{size}.npz"
        numbers = [number for file in files if (number := images_done(file)) is not None]
        found += [f"{path} {holds} {sum(numbers):,} images"] if numbers else []
    return " and ".join(found)
