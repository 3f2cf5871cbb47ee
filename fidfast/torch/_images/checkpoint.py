"""The file from which an interrupted run continues."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fidfast._errors import with_message
from fidfast._files import (
    Entries,
    Progress,
    State,
    npz_path,
    read,
    read_progress,
    require_writable,
    write_state,
)
from fidfast._warnings import warn_user
from fidfast.torch._processes.ranks import Ranks

__all__ = ["Checkpoint", "check_checkpoint", "checkpoint_path", "kept_after_error", "removed_after"]

#: Kind of the state, as in `_files.states`.
_KIND = "Collection"


class Checkpoint:
    """The checkpoint of one run. Files of other runs are neither overwritten nor removed.

    Parameters
    ----------
    path : path
        As `checkpoint_path` returns it.
    job : str
        Identifies images, extractor and options.
    extractors : str
        Names of the extractors, for messages.
    """

    def __init__(self, path: str | os.PathLike[str], job: str, extractors: str) -> None:
        self._path = os.fspath(path)
        self._job = job
        self._extractors = extractors
        self._warned = False
        #: Returns the arguments of `save` for the finished run.
        self.finished: Callable[[], tuple[Entries, int, list[str]]] | None = None

    def load(self) -> tuple[Entries, Progress] | None:
        """What an earlier run has saved; None if there is no file.

        Raises
        ------
        ValueError
            If the file is damaged, of another run, or not a checkpoint.
        """
        if not os.path.exists(self._path):
            return None
        content = read(self._path)
        progress = content.progress if isinstance(content, State) else None
        if not isinstance(content, State) or progress is None or content.kind != _KIND or progress.job != self._job:
            raise ValueError(
                f"{self._path} belongs to another run (other images, options or metrics, or other extractors than "
                f"{self._extractors}); delete it to start over"
            )
        num_samples = int(content.entries["num_samples"])
        if num_samples + len(progress.skipped) != progress.done:
            raise ValueError(
                f"{self._path} is damaged: {progress.done} images are done, but it holds {num_samples} samples "
                f"and {len(progress.skipped)} skipped images; delete it to start over"
            )
        return content.entries, progress

    def save(self, entries: Entries, done: int, skipped: list[str]) -> None:
        """Write the state of the run; if that fails, warn once, since the run can go on without a checkpoint."""
        try:
            if not self._is_own():
                raise FileExistsError(f"cannot write {self._path}: it is not the checkpoint of this run any more")
            write_state(self._path, State(_KIND, entries, Progress(self._job, done, skipped)))
        except (OSError, MemoryError) as error:
            if not self._warned:
                self._warned = True
                warn_user(f"checkpoint: {error or type(error).__name__}; the run continues without it")

    def save_finished(self) -> None:
        """Write the finished run, without a warning."""
        if self.finished is not None:
            self._warned = True
            self.save(*self.finished())

    def remove(self) -> None:
        """Remove the file if it is of this run."""
        with suppress(OSError):
            if self._is_own():
                os.unlink(os.path.realpath(self._path))

    def _is_own(self) -> bool:
        """Whether the file is of this run or does not exist."""
        try:
            progress = read_progress(self._path)
        except FileNotFoundError:
            return True
        return progress is not None and progress.job == self._job


def checkpoint_path(path: str | os.PathLike[str], ranks: Ranks) -> str:
    """The file of this process: ``run.npz``, or ``run.rank-0-of-2.npz`` if processes share the images."""
    path = npz_path(path)
    return path if ranks.size == 1 else f"{path.removesuffix('.npz')}.rank-{ranks.rank}-of-{ranks.size}.npz"


def check_checkpoint(path: str | os.PathLike[str], ranks: Ranks) -> None:
    """Raise an error before any work if the file of this process cannot be a checkpoint.

    Raises
    ------
    OSError
        If it cannot be written.
    ValueError
        If it exists and is not a checkpoint of an unfinished run, or there is one of another number of processes.
    """
    _require_same_number(npz_path(path), ranks.size)
    path = checkpoint_path(path, ranks)
    folder = os.path.dirname(path) or "."
    try:
        if os.path.isdir(folder) and not os.access(folder, os.W_OK):
            raise PermissionError(f"the folder {folder} cannot be written to")
        require_writable(path)
    except OSError as error:
        raise with_message(error, f"checkpoint: {error}") from error
    if os.path.exists(path) and read_progress(path) is None:
        raise ValueError(
            f"checkpoint: {path} is damaged or not a checkpoint of an unfinished run: pass another name, or delete it"
        )


def _require_same_number(path: str, size: int) -> None:
    """Raise a ValueError if there is a checkpoint of a run with another number of processes."""
    folder, name = os.path.split(path)
    stem = re.escape(name.removesuffix(".npz"))
    try:
        names = os.listdir(folder or ".")
    except OSError:  # which `check_checkpoint` reports
        return
    for other in sorted(names):
        found = re.fullmatch(rf"{stem}(?:\.rank-\d+-of-(\d+))?\.npz", other)
        if found and (number := int(found[1] or 1)) != size and read_progress(os.path.join(folder, other)) is not None:
            of = "1 process" if number == 1 else f"{number} processes"
            raise ValueError(
                f"checkpoint: {os.path.join(folder, other)} is of a run with {of}, this one has {size}: continue with "
                f"{of}, or delete the file to start over"
            )


@contextmanager
def removed_after(checkpoint: Checkpoint | None) -> Iterator[None]:
    """Remove the checkpoint after the block, which makes the result safe; after an error, save the finished run."""
    with kept_after_error(checkpoint):
        yield
    if checkpoint is not None:
        checkpoint.remove()


@contextmanager
def kept_after_error(checkpoint: Checkpoint | None) -> Iterator[None]:
    """Save the finished run if the block raises."""
    try:
        yield
    except BaseException:
        if checkpoint is not None:
            checkpoint.save_finished()
        raise
