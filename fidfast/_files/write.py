"""Atomic writing of files."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from fidfast import _core
from fidfast._errors import with_message
from fidfast._files.records import State, Stats

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "STATE_MARK",
    "TEMPORARY_NAME",
    "npz_path",
    "require_name",
    "require_writable",
    "write_several_stats",
    "write_state",
    "write_stats",
    "write_whole",
]

#: Entry that marks an archive as a checkpoint; its value is the kind of the state.
STATE_MARK = "fidfast_state"

#: Regular expression of the names of temporary files. They are short, whatever the length of the final name.
TEMPORARY_NAME = r"\.fidfast-[0-9a-f]{16}-\d+\.tmp"

_ACL = "system.posix_acl_access"


def write_stats(path: str | os.PathLike[str], stats: Stats) -> None:
    """Write an ``.npz`` with ``mu`` and ``sigma``, which other FID tools can read, and the metadata."""
    _write_npz(path, {**_entries_of(stats), "fidfast_version": _core.__version__})


def write_several_stats(path: str | os.PathLike[str], stats: Mapping[str, Stats]) -> None:
    """Write the statistics of several extractors to one ``.npz``.

    Parameters
    ----------
    path : path
    stats : mapping of str to Stats
        By the names of the extractors. The first are ``mu``, ``sigma`` and the metadata as in `write_stats`, so that
        other FID tools read them; those of another extractor ``name`` are ``name/mu``, ``name/sigma``,
        ``name/extractor``, ... The extractor of statistics without one is their name.

    Raises
    ------
    ValueError
        If there are no statistics, or a name is empty or that of an entry of the first.
    OSError
        If the file cannot be written; an older file is unchanged.
    """
    if not stats:
        raise ValueError("stats must hold the statistics of at least one extractor, got an empty mapping")
    entries: dict[str, Any] = {}
    for name, record in stats.items():
        prefix = f"{name}/" if entries else ""
        if not name or name in entries or name.startswith("/") or name.endswith("/"):
            raise ValueError(f"{name!r} cannot be the name of an extractor in a file of statistics")
        named = _entries_of(replace(record, extractor=record.extractor or name))
        entries.update({prefix + key: value for key, value in named.items()})
    _write_npz(path, {**entries, "fidfast_version": _core.__version__})


def _entries_of(stats: Stats) -> dict[str, Any]:
    entries = {
        "mu": stats.mu,
        "sigma": stats.sigma,
        "num_samples": stats.num_samples,
        "ddof": stats.ddof,
        "extractor": stats.extractor,
        "product_errors": stats.product_errors,
    }
    return {key: value for key, value in entries.items() if value is not None}


def write_state(path: str | os.PathLike[str], state: State) -> None:
    """Write a checkpoint."""
    described = {} if state.progress is None else {"progress": json.dumps(asdict(state.progress))}
    if state.parts:
        described["parts"] = json.dumps([asdict(part) for part in state.parts])
    _write_npz(path, {STATE_MARK: state.kind, "fidfast_version": _core.__version__, **described, **state.entries})


def _write_npz(path: str | os.PathLike[str], entries: Mapping[str, Any]) -> None:
    with write_whole(npz_path(path)) as file:
        np.savez(file, **entries)


def npz_path(path: str | os.PathLike[str]) -> str:
    """The file that `write_stats` and `write_state` write: ``.npz`` is appended if the name does not end in it.

    Raises
    ------
    OSError
        If it cannot be the name of a file.
    """
    text = os.fspath(path)
    require_name(text)
    return text if text.endswith(".npz") else f"{text}.npz"


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise an OSError before any work if `write_whole` could not write this file; needs no space on the disk."""
    with _naming(path):
        descriptor, temporary = _create(_target_of(path))
        os.close(descriptor)
        if temporary is not None:
            os.unlink(temporary)


@contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to, which replaces `path` at the end; after an error `path` is unchanged.

    At the end the file is on the disk: it is safe to remove what it was made from. A symbolic link is followed; an
    older file keeps its permissions and, if possible, its owner. If the process is killed, a temporary file may be
    left, which the next writing of the same path removes; on file systems of Linux with ``O_TMPFILE`` none is left.

    Raises
    ------
    OSError
        If the file cannot be written; the message names `path`.
    """
    with _naming(path):
        target = _target_of(path)
        descriptor, temporary = _create(target)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                _copy_permissions(target, descriptor)
                yield file
                file.flush()
                os.fsync(descriptor)
                if temporary is None:
                    temporary = _link(descriptor, target)
                os.replace(temporary, target)
        except BaseException:
            if temporary is not None:
                with suppress(OSError):
                    os.unlink(temporary)
            raise
        _sync_folder(target.parent)


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Names the file in an OSError of the system, whose message lacks it or names a temporary file."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:
            raise
        raise with_message(error, f"cannot write {os.fspath(path)}: {error.strerror}") from error


def require_name(path: str | os.PathLike[str]) -> None:
    """Raise an OSError if this cannot be the name of a file to write."""
    text = os.fspath(path)
    if text == "-":
        raise FileNotFoundError("the output is a file, not standard output: pass its name instead of -")
    if not text:
        raise FileNotFoundError("the name of the file to write is empty")
    if not os.path.basename(text):
        raise IsADirectoryError(f"{text} is the name of a folder: pass the name of a file to write")


def _target_of(path: str | os.PathLike[str]) -> Path:
    """The file that is replaced, which is not a symbolic link; raises an OSError if it cannot be."""
    text = os.fspath(path)
    require_name(text)
    target = Path(os.path.realpath(text))
    for folder in (Path(text).parent, target.parent):
        if not folder.is_dir():
            raise FileNotFoundError(f"no such folder to write to: {folder}")
    try:
        mode = os.stat(text).st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{text} is a folder: pass the name of a file to write")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if not os.access(text, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected")
    return target


# Temporary files ----------------------------------------------------------------------------------------------------


def _create(target: Path) -> tuple[int, Path | None]:
    """A new file in the folder of the target, with the permissions of a new file; None is a file without a name."""
    if _can_link(target):
        descriptor = _create_nameless(target)
        _lock(descriptor)
        return descriptor, None
    for name in _temporary_names(target):
        with suppress(FileExistsError):
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            _lock(descriptor)
            if os.fstat(descriptor).st_nlink > 0:  # else another process removed it before it was locked
                return descriptor, name
            os.close(descriptor)
    raise AssertionError("there is always another name")


def _can_link(target: Path) -> bool:
    """Whether the file system has files without a name, which disappear if the process is killed."""
    if not hasattr(os, "O_TMPFILE"):
        return False
    with suppress(OSError):
        descriptor = _create_nameless(target)
        try:
            _lock(descriptor)
            os.unlink(_link(descriptor, target))
            return True
        finally:
            os.close(descriptor)
    return False


def _create_nameless(target: Path) -> int:
    return os.open(target.parent, os.O_TMPFILE | os.O_RDWR, 0o666)


def _link(descriptor: int, target: Path) -> Path:
    """Give a file without a name a temporary one."""
    for name in _temporary_names(target):
        with suppress(FileExistsError):
            # With a descriptor of a folder, Python calls linkat, which follows the link of /proc.
            os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=descriptor, follow_symlinks=True)
            return name
    raise AssertionError("there is always another name")


def _temporary_names(target: Path) -> Iterator[Path]:
    """Names for temporary files of the target. Those of processes that were killed are removed."""
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    for number in itertools.count():
        name = target.with_name(f".fidfast-{digest}-{number}.tmp")
        if not os.path.lexists(name) or _remove_stale(name):
            yield name


def _remove_stale(name: Path) -> bool:
    """Remove a temporary file unless a process is writing it: then that process has locked it."""
    if fcntl is None:
        return False
    with suppress(OSError):
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name)
            return True
        finally:
            os.close(descriptor)
    return False


def _lock(descriptor: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks, where `_remove_stale` fails too
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def _copy_permissions(target: Path, descriptor: int) -> None:
    """Owner, mode and access control list of the file that is replaced, as far as the process may set them."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return
    if not hasattr(os, "fchown"):
        os.chmod(descriptor, stat.S_IMODE(status.st_mode))
        return
    for owner in ((status.st_uid, -1), (-1, status.st_gid)):
        with suppress(OSError):
            os.fchown(descriptor, *owner)
    os.fchmod(descriptor, status.st_mode & 0o777)
    if hasattr(os, "getxattr"):
        with suppress(OSError):
            os.removexattr(descriptor, _ACL)  # inherited from the folder
        with suppress(OSError):
            os.setxattr(descriptor, _ACL, os.getxattr(target, _ACL))


def _sync_folder(folder: Path) -> None:
    """Write the entries of a folder to the disk."""
    with suppress(OSError):  # some systems cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
