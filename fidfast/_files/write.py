"""Atomic writing of statistics and checkpoints."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from fidfast import _core
from fidfast._files.records import State, Stats

__all__ = ["STATE_MARK", "require_writable", "write_state", "write_stats", "write_whole"]

#: Entry that marks an archive as a checkpoint; its value is the kind of the state.
STATE_MARK = "fidfast_state"


def write_stats(path: str | os.PathLike[str], stats: Stats) -> None:
    """Write an ``.npz`` with ``mu`` and ``sigma``, which other FID tools can read, and the metadata."""
    metadata = {
        "num_samples": stats.num_samples,
        "ddof": stats.ddof,
        "extractor": stats.extractor,
        "product_errors": stats.product_errors,
        "fidfast_version": _core.__version__,
    }
    arrays = {"mu": stats.mu, "sigma": stats.sigma}
    _write_npz(path, {**arrays, **{key: value for key, value in metadata.items() if value is not None}})


def write_state(path: str | os.PathLike[str], state: State) -> None:
    """Write a checkpoint."""
    progress = {} if state.progress is None else {"progress": json.dumps(asdict(state.progress))}
    _write_npz(path, {STATE_MARK: state.kind, "fidfast_version": _core.__version__, **progress, **state.entries})


def _write_npz(path: str | os.PathLike[str], entries: Mapping[str, Any]) -> None:
    path = Path(path)
    if path.suffix != ".npz":
        path = path.with_name(path.name + ".npz")
    with write_whole(path) as file:
        np.savez(file, **entries)


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise an OSError before any work if `write_whole` could not write this file; needs no space on the disk."""
    path = Path(path)
    if path.is_dir() or os.fspath(path) in ("", "."):
        raise IsADirectoryError(f"{path} is a folder: pass the name of a file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such folder to write to: {path.parent}")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"):
            pass
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to, which replaces `path` at the end; after an error `path` is unchanged."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode_of(path))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _mode_of(path: Path) -> int:
    """Permissions of the file that is replaced; for a new file, the default of the umask."""
    if path.exists():
        return path.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
