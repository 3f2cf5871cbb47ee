"""Features in several files: those of a folder, or that match a pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fidfast._files.items import is_features, names_mean, text_of
from fidfast._files.records import Entry, Tree
from fidfast._files.rows import RowPart, Rows, dtype_of_rows, part_of
from fidfast._files.write import STATE_MARK
from fidfast._files.zarr_arrays import is_zarr

__all__ = ["find_shards", "is_pattern", "merged_tree", "require_one_format"]

#: Suffixes of files of features in folders; folders of zarr have ``.zarr``.
SHARD_SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet", ".zarr")


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Whether a path that does not exist is a pattern of names, as in the module `glob`."""
    return glob.has_magic(os.fspath(path)) and not os.path.exists(path)


def find_shards(path: str | os.PathLike[str]) -> list[Path]:
    """The files of features in a folder, without those of its folders, or that match a pattern, sorted by name.

    Hidden files, and those whose names begin with an underscore, are left out. Empty for any other path.

    Raises
    ------
    ValueError
        If a pattern matches other files.
    """
    if is_pattern(path):
        found = sorted(glob.glob(os.fspath(path), recursive=True))
        other = next((name for name in found if not _is_shard(name)), None)
        if other is not None:
            raise ValueError(f"{path} matches {other}, which is not a file of features ({', '.join(SHARD_SUFFIXES)})")
    elif os.path.isdir(path) and not is_zarr(path):
        with os.scandir(path) as scan:
            found = sorted(entry.path for entry in scan if _is_shard(entry.path))
    else:
        return []
    return [Path(name) for name in found]


def require_one_format(files: Sequence[Path], path: str | os.PathLike[str]) -> None:
    """Raise a ValueError if the files that `find_shards` has found have several suffixes."""
    by_suffix = {file.suffix.lower(): file for file in reversed(files)}
    if len(by_suffix) > 1:
        one, other = sorted(by_suffix.values())[:2]
        raise ValueError(
            f"{os.fspath(path)} holds files of several formats, such as {one} and {other}: choose those of one with a "
            f"pattern, for example {os.path.join(_folder_of(path), '*' + one.suffix)!r}"
        )


def _folder_of(path: str | os.PathLike[str]) -> str:
    return os.path.dirname(os.fspath(path)) if is_pattern(path) else os.fspath(path)


def _is_shard(name: str) -> bool:
    if not name.lower().endswith(SHARD_SUFFIXES) or os.path.basename(name).startswith((".", "_")):
        return False
    return is_zarr(name) if os.path.isdir(name) else not name.lower().endswith(".zarr")


def merged_tree(files: Sequence[Path], open_file: Callable[[Path], Tree], path: str) -> Tree:
    """The features of all files as one array for each key, in the order of the files, and the name of the extractor.

    Raises
    ------
    ValueError
        If a file holds something else, has no rows, or lacks a key of the first file, or if the extractors differ. If
        only dims or dtypes differ, the error is raised when the array is read.
    """
    trees = [_flat(open_file(file)) for file in files]
    first = trees[0]
    for file, tree in zip(files, trees, strict=True):
        if STATE_MARK in tree:
            raise ValueError(f"{file} holds a checkpoint, not features: `fidfast merge` joins those of Moments")
        if not any(_is_usable(key, entry) for key, entry in tree.items()):
            held = ", ".join(f"{key!r} {entry}" for key, entry in list(tree.items())[:5]) or "nothing"
            raise ValueError(f"{file} holds no (n, dim) features in floating point, but {held}")
        if (one := text_of(first, "extractor")) != (other := text_of(tree, "extractor")):
            raise ValueError(f"{files[0]} has the extractor {one!r}, but {file} has {other!r}")
    merged: dict[str, Entry] = {}
    for key, entry in first.items():
        if _is_usable(key, entry):
            merged[key] = _merged_entry(key, files, trees)
        elif key == "extractor":
            merged[key] = entry
    return merged


def _flat(tree: Tree, prefix: str = "") -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for key, value in tree.items():
        found.update({prefix + key: value} if isinstance(value, Entry) else _flat(value, f"{prefix}{key}/"))
    return found


def _is_usable(key: str, entry: Entry) -> bool:
    return is_features(entry) and not names_mean(key)


def _merged_entry(key: str, files: Sequence[Path], trees: Sequence[dict[str, Entry]]) -> Entry:
    label = f" {key!r}" if key else ""
    first = trees[0][key]
    parts: list[RowPart] = []
    reason = None
    for file, tree in zip(files, trees, strict=True):
        entry = tree.get(key)
        reason = reason or _why_not(entry, first, file, files[0], label)
        if entry is not None and entry.shape:
            parts.append(part_of(entry, file))
    n = sum(part.n for part in parts)
    dim = int(np.prod(first.shape[1:], dtype=object))
    dtype = dtype_of_rows(first)
    if dtype is None:
        reason = reason or f"{files[0]}:{label} has dtype {first.dtype}, which is not supported"
    if reason is not None or dtype is None:
        why = str(reason)

        def refuse() -> Any:
            raise ValueError(why)

        return Entry((n, dim), "object", refuse)
    return Entry((n, dim), first.dtype, lambda: Rows(parts, dim, dtype))


def _why_not(entry: Entry | None, first: Entry, file: Path, first_file: Path, label: str) -> str | None:
    """Why a shard does not continue the first, or None."""
    if entry is None:
        return f"{file} has no{label or ' single array'}, which {first_file} has"
    if len(entry.shape) > 1 and entry.shape[0] == 0:
        return f"{file}:{label or ' the array'} has no rows: remove the file, or write it again"
    if entry.shape[1:] != first.shape[1:]:
        return f"{file}:{label or ' the array'} has shape {entry.shape}, but in {first_file} it has {first.shape}"
    if entry.dtype != first.dtype:
        return f"{file}:{label or ' the array'} has dtype {entry.dtype}, but in {first_file} it has {first.dtype}"
    if entry.columns != first.columns:
        pairs = zip(entry.columns, first.columns, strict=False)
        number, (one, other) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        return f"column {number} of {file} is {one!r}, but in {first_file} it is {other!r}"
    return None
