"""The parts of a run: computed in processes, stored as they finish, resumed after an interruption."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from tqdm import tqdm

import fidfast

_HERE = Path(__file__).parent

#: Queue of the progress of worker processes, set in these.
_queue: Any = None


class CannotResumeError(Exception):
    """A run that was started in other circumstances, or is still running."""


class Part:
    """One part of a run, as the function that computes it sees it."""

    def __init__(self, path: Path | None, report: Callable[[int, bool], None]) -> None:
        self._path = path
        self._report = report

    def advance(self, steps: int = 1) -> None:
        """Count finished steps in the progress bar."""
        self._report(steps, False)

    def save(self, state: Mapping[str, Any], *, steps: int) -> None:
        """Store the state of an unfinished part: tensors, numbers, strings, and lists and dicts of these.

        Parameters
        ----------
        state : mapping
            All that `load` must return for the part to continue with identical results.
        steps : int
            Steps that are done.
        """
        if self._path is not None:
            _save({"steps": steps, "state": dict(state)}, self._path)

    def load(self) -> dict[str, Any] | None:
        """The state that was stored last, or None if the part starts from the beginning."""
        if self._path is None or not self._path.exists():
            return None
        stored = torch.load(self._path, weights_only=True)
        self._report(stored["steps"], True)
        return stored["state"]


class Work:
    """Computes the parts of a run.

    Parameters
    ----------
    folder : Path, optional
        Where finished parts and states of unfinished ones are stored. By default nothing is.
    settings : dataclass, optional
        The settings of the run.
    resume : bool, default False
        Whether to use the parts in the folder; else they are removed.
    processes : int, default 1
        Parts that run at a time, each in a process of its own with an equal share of the threads. With 1 they run
        in this process.
    progress : bool, default False
        Whether to show a progress bar with the time left.

    Raises
    ------
    CannotResumeError
        If the run in the folder has other settings, code, versions or numbers of processes and threads, all of which
        results depend on, or if another process works on it.
    """

    def __init__(
        self,
        folder: Path | None = None,
        settings: Any = None,
        *,
        resume: bool = False,
        processes: int = 1,
        progress: bool = False,
    ) -> None:
        self.folder = folder
        self.processes = processes
        #: Seconds that an interrupted run took before this one continued it.
        self.seconds_before = 0.0
        self._progress = progress
        self._start = self._stored = time.perf_counter()
        self._unlock: Callable[[], Any] = lambda: None
        if folder is None:
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT)
        self._unlock = weakref.finalize(self, os.close, lock)
        try:
            self._open(folder, lock, json.loads(json.dumps(_circumstances(settings, processes))), resume)
        except CannotResumeError:
            self.close()
            raise
        times = folder / "seconds.json"
        self.seconds_before = json.loads(times.read_text()) if times.exists() else 0.0

    @staticmethod
    def _open(folder: Path, lock: int, circumstances: dict[str, Any], resume: bool) -> None:
        """Lock the folder, and check or remove the run in it."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotResumeError(f"another process runs in {folder}: wait for it, or use another --out") from error
        path = folder / "circumstances.json"
        if resume and path.exists():
            _compare(json.loads(path.read_text()), circumstances, folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            replace_file(path, json.dumps(circumstances).encode())

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process, or another object of this one, use the folder."""
        self._unlock()

    @property
    def seconds(self) -> float:
        """Time of the run so far, with that before an interruption, up to the last stored state."""
        return self.seconds_before + time.perf_counter() - self._start

    def map(
        self,
        function: Callable[..., Any],
        parts: Mapping[str, Mapping[str, Any]],
        *,
        steps: int | Mapping[str, int] = 1,
        label: str = "",
    ) -> dict[str, Any]:
        """Compute ``function(part, **arguments)`` for each part, or read its result if it is stored.

        Parameters
        ----------
        function : callable
            Of a module (workers import it). Its first argument is a `Part`. It returns tensors, numbers, strings, None,
            and lists and dicts of these.
        parts : mapping
            Name of each part, unique in the run, to its keyword arguments.
        steps : int or mapping
            Steps of each part in the progress bar; `function` reports them by `Part.advance`, and parts that do not
            report count as done at the end.
        label : str, optional
            Text before the progress bar.

        Returns
        -------
        dict
            Name of each part to its result, in the order of `parts`.
        """
        total = {name: steps if isinstance(steps, int) else steps[name] for name in parts}
        results = {name: torch.load(path, weights_only=True) for name in parts if (path := self._finished(name))}
        missing = {name: arguments for name, arguments in parts.items() if name not in results}
        done = sum(total[name] for name in results)
        bar = tqdm(
            total=sum(total.values()), initial=done, desc=label or None, disable=not self._progress, file=sys.stderr
        )
        counts = dict.fromkeys(missing, 0)

        def count(name: str, steps: int, resumed: bool) -> None:
            if name in results:  # a message that was read after the result
                return
            counts[name] += steps
            if resumed and self._progress:  # not part of the rate from which the time left is computed
                bar.n += steps
                bar.initial += steps
                bar.last_print_n += steps
            elif not resumed:
                bar.update(steps)
            self._store_time(every=5.0)

        # The number of processes does not depend on the parts that are left: an interrupted run continues as it began.
        processes = min(self.processes, len(parts))
        with bar, contextlib.closing(self._compute(function, missing, count, processes)) as computed:
            for name, result in computed:
                results[name] = result
                if (path := self._path(name, "done")) is not None:
                    _save(result, path)
                    path.with_suffix(".state").unlink(missing_ok=True)
                bar.update(total[name] - counts[name])
                self._store_time()
        return {name: results[name] for name in parts}

    def _compute(
        self,
        function: Callable[..., Any],
        parts: Mapping[str, Mapping[str, Any]],
        count: Callable[..., None],
        processes: int,
    ) -> Iterator[tuple[str, Any]]:
        """Names and results of parts, as they finish."""
        if processes <= 1 or not parts:
            for name, arguments in parts.items():
                part = Part(self._path(name, "state"), lambda steps, resumed, name=name: count(name, steps, resumed))
                yield name, function(part, **arguments)
            return
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        threads = max(1, torch.get_num_threads() // processes)
        others = set(multiprocessing.active_children())
        with (
            _importable(),
            ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=(queue, threads)) as pool,
        ):
            pending = {
                pool.submit(_run_part, function, name, self._path(name, "state"), dict(arguments)): name
                for name, arguments in parts.items()
            }
            try:
                while pending:
                    finished, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                    while not queue.empty():
                        count(*queue.get())
                    for future in finished:
                        yield pending.pop(future), future.result()
            except BaseException:  # GeneratorExit too: the caller failed
                pool.shutdown(wait=False, cancel_futures=True)
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()
                raise

    def _store_time(self, every: float = 0.0) -> None:
        """Store the time of the run, if the last time that was done is long enough ago."""
        now = time.perf_counter()
        if self.folder is not None and now - self._stored >= every:
            self._stored = now
            replace_file(self.folder / "seconds.json", json.dumps(self.seconds).encode())

    def _path(self, name: str, kind: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{quote(name, safe='')}.{kind}"

    def _finished(self, name: str) -> Path | None:
        path = self._path(name, "done")
        return path if path is not None and path.exists() else None


def replace_file(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _circumstances(settings: Any, processes: int) -> dict[str, Any]:
    """What the results of a run depend on."""
    code = hashlib.sha256()
    for path in sorted(_HERE.glob("*.py")):
        code.update(path.read_bytes())
    return {
        **(asdict(settings) if settings is not None else {}),
        "number of processes": processes,
        "number of threads": torch.get_num_threads(),
        "version of torch": torch.__version__,
        "version of fidfast": fidfast.__version__,
        "code": code.hexdigest()[:12],
    }


def _compare(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    for key in {**wanted, **found}:
        if found.get(key) != wanted.get(key):
            raise CannotResumeError(
                f"the run in {folder} cannot be resumed: its {key} is {found.get(key)}, and now {wanted.get(key)}; "
                "use the same, or start again without --resume"
            )


def _start_worker(queue: Any, threads: int) -> None:
    global _queue
    _queue = queue
    queue.cancel_join_thread()  # unread progress must not keep the process alive
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


def _run_part(function: Callable[..., Any], name: str, path: Path | None, arguments: dict[str, Any]) -> Any:
    return function(Part(path, lambda steps, resumed: _queue.put((name, steps, resumed))), **arguments)


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Lets workers import `benchmarks`; last in the path, so that they import the installed fidfast."""
    root = str(_HERE.parents[1])
    sys.path.append(root)
    try:
        yield
    finally:
        sys.path.remove(root)


def _save(value: Any, path: Path) -> None:
    """Write a value of torch completely or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    torch.save(value, temporary)
    temporary.replace(path)
