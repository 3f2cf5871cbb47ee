"""The parts of a run: computed in processes, stored as they finish, resumed after an interruption."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from tqdm import tqdm

_ROOT = Path(__file__).parents[2]

#: Queue of the progress of worker processes, set in these.
_queue: Any = None


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
        The settings of the run. A folder with other settings is rejected.
    resume : bool, default False
        Whether to use the parts in the folder; else they are removed.
    processes : int, default 1
        Parts that run at a time, each in a process of its own with an equal share of the threads. With 1 they run
        in this process.
    progress : bool, default False
        Whether to show a progress bar with the time left.

    Raises
    ------
    ValueError
        If the folder is of a run with other settings.
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
        self._start = time.perf_counter()
        if folder is None:
            return
        wanted = json.loads(json.dumps(asdict(settings))) if settings is not None else {}
        path = folder / "settings.json"
        if resume and path.exists():
            found = json.loads(path.read_text())
            different = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
            if different:
                key = sorted(different)[0]
                raise ValueError(
                    f"the run in {folder} has {key}={found.get(key)}, but now {key}={wanted.get(key)}: "
                    "use the same settings, or start again without --resume"
                )
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            path.write_text(json.dumps(wanted))
        times = folder / "seconds.json"
        self.seconds_before = json.loads(times.read_text()) if times.exists() else 0.0

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
        with tqdm(
            total=sum(total.values()), initial=done, desc=label or None, disable=not self._progress, file=sys.stderr
        ) as bar:
            counts = dict.fromkeys(missing, 0)

            def count(name: str, steps: int, resumed: bool) -> None:
                if name in results:  # a message that was read after the result
                    return
                counts[name] += steps
                if resumed and self._progress:  # not part of the rate from which the time left is computed
                    bar.initial += steps
                bar.update(steps)

            for name, result in self._compute(function, missing, count):
                results[name] = result
                if (path := self._path(name, "done")) is not None:
                    _save(result, path)
                    path.with_suffix(".state").unlink(missing_ok=True)
                bar.update(total[name] - counts[name])
                self._store_time()
        return {name: results[name] for name in parts}

    def _compute(
        self, function: Callable[..., Any], parts: Mapping[str, Mapping[str, Any]], count: Callable[..., None]
    ) -> Iterator[tuple[str, Any]]:
        """Names and results of parts, as they finish."""
        if self.processes == 1 or len(parts) < 2:
            for name, arguments in parts.items():
                part = Part(self._path(name, "state"), lambda steps, resumed, name=name: count(name, steps, resumed))
                yield name, function(part, **arguments)
            return
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        processes = min(self.processes, len(parts))
        threads = max(1, torch.get_num_threads() // processes)
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
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                raise

    def _store_time(self) -> None:
        if self.folder is not None:
            seconds = self.seconds_before + time.perf_counter() - self._start
            (self.folder / "seconds.json").write_text(json.dumps(seconds))

    def _path(self, name: str, kind: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{quote(name, safe='')}.{kind}"

    def _finished(self, name: str) -> Path | None:
        path = self._path(name, "done")
        return path if path is not None and path.exists() else None


def _start_worker(queue: Any, threads: int) -> None:
    global _queue
    _queue = queue
    torch.set_num_threads(threads)


def _run_part(function: Callable[..., Any], name: str, path: Path | None, arguments: dict[str, Any]) -> Any:
    return function(Part(path, lambda steps, resumed: _queue.put((name, steps, resumed))), **arguments)


@contextmanager
def _importable() -> Iterator[None]:
    """Lets workers import `benchmarks`; last in the path, so that they import the installed fidfast."""
    sys.path.append(str(_ROOT))
    try:
        yield
    finally:
        sys.path.remove(str(_ROOT))


def _save(value: Any, path: Path) -> None:
    """Write a file completely or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{time.monotonic_ns()}.tmp")
    torch.save(value, temporary)
    temporary.replace(path)
