"""Reading statistics, features and checkpoints of this package and of other tools."""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fidfast import _core
from fidfast._files.catalog import Catalog
from fidfast._files.folders import is_stats_folder, open_folder
from fidfast._files.formats import FORMATS, open_npy, tree_of
from fidfast._files.records import Content, Entries, Entry, Features, Progress, SourcePart, State, Stats, Tree
from fidfast._files.shards import find_shards, is_pattern, merged_tree, require_one_format
from fidfast._files.states import check_state, require_semidefinite
from fidfast._files.torch_files import read_torch
from fidfast._files.write import STATE_MARK
from fidfast._files.zarr_arrays import is_zarr, open_zarr

__all__ = [
    "catalog_of",
    "is_supported",
    "naming",
    "parts_of",
    "read",
    "read_object",
    "read_progress",
    "read_state",
    "reading",
    "reading_state",
    "require_tensors",
    "state_of",
]

#: What libraries raise for damaged files, beside ValueError.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    AttributeError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    struct.error,
    TypeError,
)

#: How the names of the dtypes of tensors start.
_NUMBERS = ("float", "bfloat", "int", "uint", "bool", "complex")

_T = TypeVar("_T")


def read(
    path: str | os.PathLike[str], *, key: str | None = None, rows: bool = False, extractor: str | None = None
) -> Content:
    """The content of a file; of its arrays only those that are needed.

    Parameters
    ----------
    path : path
    key, rows, extractor
        What to choose if the file holds several things: see `Catalog.read`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the suffix is unknown, the file is damaged, it holds neither statistics nor features, or several of them and
        none was chosen.
    """
    catalog = catalog_of(path)
    with naming(path), reading(path):
        if catalog.is_state:
            return state_of(catalog)
        return catalog.read(key=key, rows=rows, extractor=extractor)


def catalog_of(path: str | os.PathLike[str]) -> Catalog:
    """What a file holds. Reads the headers of arrays; a pickle completely.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the suffix is unknown or the file is damaged.
    """
    path = Path(path)
    files = find_shards(path) if is_pattern(path) else []
    if files:
        return _catalog_of_shards(path, files)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if path.is_dir() and is_stats_folder(path):
        with naming(path), reading(path):
            return Catalog(open_folder(path, open_npy), str(path), container="folder")
    files = find_shards(path)
    if files:
        return _catalog_of_shards(path, files)
    return Catalog(_tree_of_file(path), str(path))


def _catalog_of_shards(path: Path, files: list[Path]) -> Catalog:
    require_one_format(files, path)
    if len(files) == 1:
        return Catalog(_tree_of_file(files[0]), str(files[0]))
    return Catalog(merged_tree(files, _tree_of_file, str(path)), str(path), container="folder")


def _tree_of_file(path: Path) -> Tree:
    """The entries of a file, or of a folder of zarr."""
    if is_zarr(path):
        with naming(path), reading(path):
            return open_zarr(path)
    open_format = FORMATS.get(path.suffix.lower())
    if open_format is None:
        raise ValueError(f"{path}: unknown suffix {path.suffix!r}; supported are {', '.join(FORMATS)}")
    if not path.is_file():  # opening a FIFO would wait for a writer for ever
        raise ValueError(f"{path} is not a regular file")
    try:
        with reading(path):
            return open_format(path)
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} is damaged or not a {path.suffix} file: {error}") from error


def is_supported(path: str | os.PathLike[str]) -> bool:
    """Whether the path is of a format that `read` reads: a file, a folder of statistics or features, or a pattern."""
    if Path(path).is_file() and Path(path).suffix.lower() in FORMATS:
        return True
    return is_zarr(path) or is_stats_folder(path) or bool(find_shards(path))


def require_tensors(path: str | os.PathLike[str]) -> None:
    """Raise a ValueError unless a file of ``torch.save`` is a dictionary of tensors and nothing else."""
    try:
        tree = tree_of(read_torch(Path(path)))
        entries: Tree = {} if isinstance(tree, Entry) else tree
        for key, entry in entries.items() or [("the object", tree)]:
            if not isinstance(entry, Entry) or not entry.dtype.startswith(_NUMBERS):
                raise ValueError(f"{key!r} is not a tensor")
    except (ValueError, *_DAMAGED) as error:
        raise ValueError(f"{os.fspath(path)} is damaged or holds objects other than weights: {error}") from error


def read_object(value: Any) -> Stats | Features:
    """Statistics or features in a dictionary of arrays, or a tuple of mu and sigma.

    Raises
    ------
    ValueError
        If it holds neither, or several of them.
    """
    try:
        tree = tree_of(value)
    except RecursionError:
        raise ValueError(f"the {type(value).__name__} contains itself, or is nested too deep") from None
    return Catalog({"": tree} if isinstance(tree, Entry) else tree, f"the {type(value).__name__}").read()


def read_state(path: str | os.PathLike[str], kind: str, from_state: Callable[[Entries], _T]) -> _T:
    """Read the checkpoint of a collector of class `kind`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, holds something else, or belongs to an unfinished run.
    """
    catalog = catalog_of(path)
    if not catalog.is_state and catalog.kinds:  # which read would reject if there are several
        raise ValueError(f"{os.fspath(path)} holds {' and '.join(catalog.kinds)}, not a checkpoint of {kind}")
    content = read(path)
    if not isinstance(content, State) or content.kind != kind:
        raise ValueError(f"{os.fspath(path)} holds {content.what}, not a checkpoint of {kind}")
    if content.progress is not None:
        raise ValueError(f"{os.fspath(path)} holds {content.what}, which only the same run can continue")
    with naming(path), reading_state(kind):
        return from_state(content.entries)


def read_progress(path: str | os.PathLike[str]) -> Progress | None:
    """How much of a run is done in its checkpoint, without reading the state; None for any other file.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    """
    try:
        catalog = catalog_of(path)
        with reading(path):
            return _progress_of(catalog.entries["progress"].load()) if catalog.is_state else None
    except ValueError:
        return None


def state_of(catalog: Catalog, *, checked: bool = True) -> State:
    """The state in a file. If not `checked`, `from_state` checks it, except that scatters are semidefinite."""
    entries = {key: entry.load() for key, entry in catalog.entries.items()}
    kind = str(entries.pop(STATE_MARK))
    _require_version(entries.pop("fidfast_version", None))
    progress, parts = entries.pop("progress", None), entries.pop("parts", None)
    for key in ("num_images", "source"):  # of files of the cache of images
        entries.pop(key, None)
    if checked:
        with reading_state(kind):
            check_state(kind, entries)
        require_semidefinite(entries)  # in O(dim^3)
    return State(
        kind, entries, None if progress is None else _progress_of(progress), () if parts is None else parts_of(parts)
    )


def _progress_of(value: Any) -> Progress:
    return Progress(**json.loads(str(value)))


def parts_of(value: Any) -> tuple[SourcePart, ...]:
    """The parts in the text that `write_state` stores."""
    return tuple(SourcePart(**part) for part in json.loads(str(value)))


def _require_version(version: Any) -> None:
    """Raise a ValueError if a later version wrote the state: its entries may have another meaning."""
    numbers = [re.match(r"(\d{1,9})\.(\d{1,9})", str(text)) for text in (version, _core.__version__)]
    if version is None or numbers[0] is None or numbers[1] is None:
        raise ValueError(f"fidfast_version must be a version, got {str(version)[:50]!r}")
    if tuple(map(int, numbers[0].groups())) > tuple(map(int, numbers[1].groups())):
        raise ValueError(f"it was written by fidfast {version}, and this is {_core.__version__}: upgrade fidfast")


# Errors -------------------------------------------------------------------------------------------------------------


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns the errors of damaged files into a ValueError that names the file."""
    try:
        yield
    except _DAMAGED as error:
        raise ValueError(f"{os.fspath(path)} is damaged or not a {Path(path).suffix} file: {error}") from error


@contextmanager
def reading_state(kind: str) -> Iterator[None]:
    """Raises a ValueError for a state that lacks an entry or has entries of other types."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"the state of {kind} has no {error}") from error
    except (TypeError, OverflowError, RuntimeError) as error:  # the last from numbers beyond 64 bits
        raise ValueError(f"the state of {kind} is damaged: {error}") from error


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Adds the file's name to a ValueError that lacks it."""
    try:
        yield
    except ValueError as error:
        if os.fspath(path) in str(error):
            raise
        raise ValueError(f"{os.fspath(path)}: {error}") from error
