"""The file from which an interrupted run continues."""

from __future__ import annotations

import os
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

__all__ = ["Checkpoint", "check_checkpoint", "kept_after_error", "removed_after"]

#: Kind of the state, as in `_files.states`.
_KIND = "Collection"


class Checkpoint:
    """The checkpoint of one run. Files of other runs are neither overwritten nor removed.

    Parameters
    ----------
    path : path
        ``.npz`` is appended if the name does not end in it.
    job : str
        Identifies images, extractor and options.
    extractors : str
        Names of the extractors, for messages.
    """

    def __init__(self, path: str | os.PathLike[str], job: str, extractors: str) -> None:
        self._path = npz_path(path)
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


def check_checkpoint(path: str | os.PathLike[str]) -> None:
    """Raise an error before any work if the file cannot be a checkpoint.

    Raises
    ------
    OSError
        If it cannot be written.
    ValueError
        If it exists and is not a checkpoint of an unfinished run.
    """
    path = npz_path(path)
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
