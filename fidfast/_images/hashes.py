"""Hashes of files, kept in the cache folder so that unchanged files are not read again."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from fidfast._files import write_whole
from fidfast._images.decode import open_regular
from fidfast._progress import progress_bar

__all__ = ["HASH_FOLDER", "FileState", "folder", "hash_files", "states_of"]

#: Folder, inside the cache folder, of the kept hashes.
HASH_FOLDER = "hashes"

#: Seconds after its last change from which the hash of a file is kept. A change in the same tick of the file system's
#: clock leaves the times as they are, and pages of a memory map are written with a delay of up to half a minute.
SECONDS_UNTIL_KEPT = 60.0

#: First bytes of a file of kept hashes: format and version.
_MARK = b"fidfast hashes 1\n"
_DIGEST_SIZE = 32
_STATE = struct.Struct("<5Q")

_THREADS = 8
_FILES_PER_TASK = 64
_BYTES_PER_READ = 1 << 20

#: Bytes and files to be read from which progress is shown.
_LONG = 1 << 28, 5000

_T = TypeVar("_T")
_R = TypeVar("_R")


class FileState(NamedTuple):
    """What changes when a file changes; all zero for a file that cannot be read."""

    device: int = 0
    inode: int = 0
    ctime_ns: int = 0
    size: int = 0
    mtime_ns: int = 0

    def packed(self) -> bytes:
        return _STATE.pack(*(value & 0xFFFFFFFFFFFFFFFF for value in self))

    def can_be_kept(self, now: float) -> bool:
        """Whether every later change of the file will change its state.

        File systems with times in whole seconds (FAT, sshfs) may derive the ctime from the mtime, which ``cp -p`` sets.
        """
        return self.ctime_ns % 1_000_000_000 != 0 and now - self.ctime_ns / 1e9 > SECONDS_UNTIL_KEPT


def folder() -> Path:
    """``$FIDFAST_CACHE``, or the user's cache folder for fidfast."""
    if override := os.environ.get("FIDFAST_CACHE"):
        return Path(override)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fidfast"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fidfast"


def states_of(paths: Sequence[Path]) -> list[FileState]:
    """The present state of each file."""
    return list(_in_threads(_state_of, paths))


def hash_files(paths: Sequence[Path], source: Path, *, progress: bool = False) -> tuple[list[bytes], list[FileState]]:
    """BLAKE2b of the bytes of each file, and the state of the file before it was read.

    Parameters
    ----------
    paths : sequence of Path
    source : Path
        Folder or file of the data set; names the file of kept hashes.
    progress : bool, default False
        Whether to show a progress bar if there is much to read.

    Returns
    -------
    digests : list of bytes
        32 bytes each; empty for a file that cannot be read.
    states : list of FileState
    """
    states = states_of(paths)
    file = folder() / HASH_FOLDER / hashlib.blake2b(os.fsencode(source.resolve()), digest_size=16).hexdigest()
    kept = _load(file)
    digests = [kept.get(state.packed(), b"") for state in states]
    new = [i for i, digest in enumerate(digests) if not digest]
    size = sum(states[i].size for i in new)
    long = size >= _LONG[0] or len(new) >= _LONG[1]
    reader = _Reader()
    label = f"hashing {source.name}"
    with progress_bar(size >> 20, progress and long, label=label, unit="MB") as bar:
        done = 0
        for i, (digest, state) in zip(new, _in_threads(reader.hash, [paths[i] for i in new], reader.stop), strict=True):
            digests[i], states[i] = digest, state
            bar.update((done + state.size >> 20) - (done >> 20))
            done += state.size
    now = time.time()
    rows = [
        state.packed() + digest
        for state, digest in zip(states, digests, strict=True)
        if digest and state.can_be_kept(now)
    ]
    if any(digests[i] and states[i].can_be_kept(now) for i in new):
        with suppress(OSError):  # on a full or read-only disk the files are read again next time
            file.parent.mkdir(parents=True, exist_ok=True)
            with write_whole(file) as out:
                out.write(_MARK + b"".join(rows))
    return digests, states


class _Reader:
    """Hashes files until `stop` is set."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def hash(self, path: Path) -> tuple[bytes, FileState]:
        digest = hashlib.blake2b(digest_size=_DIGEST_SIZE)
        try:
            with open_regular(path) as file:
                before = _as_state(os.fstat(file.fileno()))
                while (block := file.read(_BYTES_PER_READ)) and not self.stop.is_set():
                    digest.update(block)
        except (OSError, ValueError):
            return b"", FileState()
        return digest.digest(), before


def _state_of(path: Path) -> FileState:
    try:
        return _as_state(os.stat(path))
    except OSError:
        return FileState()


def _as_state(status: os.stat_result) -> FileState:
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    return FileState(status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size, status.st_mtime_ns)


def _load(file: Path) -> dict[bytes, bytes]:
    """The kept digests by packed state; empty if the file is missing or damaged."""
    try:
        with open_regular(file) as opened:
            content = opened.read()
    except (OSError, ValueError):
        return {}
    step = _STATE.size + _DIGEST_SIZE
    if not content.startswith(_MARK) or (len(content) - len(_MARK)) % step:
        return {}
    middles = range(len(_MARK) + _STATE.size, len(content), step)
    return {content[i - _STATE.size : i]: content[i : i + _DIGEST_SIZE] for i in middles}


def _in_threads(function: Callable[[_T], _R], items: Sequence[_T], stop: threading.Event | None = None) -> Iterator[_R]:
    """The results in order; `stop` is set if the caller is interrupted."""
    parts = [items[i : i + _FILES_PER_TASK] for i in range(0, len(items), _FILES_PER_TASK)]
    executor = ThreadPoolExecutor(_THREADS)
    try:
        for results in executor.map(lambda part: list(map(function, part)), parts):
            yield from results
    finally:
        if stop is not None:
            stop.set()
        executor.shutdown(cancel_futures=True)
