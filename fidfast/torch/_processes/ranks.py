"""The processes that share the images of a call, and how they wait for each other.

A process that is done waits by reading the store of the process group, since a collective operation would fail after
the timeout of the group. Every process writes a sign of life to the store, so that waiting for a dead one ends.
"""

from __future__ import annotations

import json
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

__all__ = ["OtherProcessError", "Ranks", "require_group", "sharing"]

#: Seconds between two signs of life.
BEAT = 1.0
#: Seconds without a sign of life after which a process counts as dead.
SILENT = 60.0
#: Seconds within which all processes must make the call.
ENTRY = 1800.0
#: Most bytes of features that are sent at a time.
_CHUNK = 2**26


class OtherProcessError(RuntimeError):
    """Another process has failed; `rank` is its rank, and `is_dead` whether it cannot say why."""

    def __init__(self, message: str, rank: int, *, is_dead: bool = False) -> None:
        super().__init__(message)
        self.rank = rank
        self.is_dead = is_dead


class Ranks:
    """The processes of a group during one call that all of them make.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, optional
        By default the default group.
    alone : bool, default False
        Whether this process does all the work.
    """

    def __init__(self, group: Any = None, *, alone: bool = False) -> None:
        self.group = group
        self.rank: int = 0 if alone else dist.get_rank(group)
        self.size: int = 1 if alone else dist.get_world_size(group)
        #: Number of processes on this machine, and the first of them.
        self.local_size, self._local_first = 1, self.rank
        self._store: Any = None
        self._meetings = self._passes = 0
        self._failure: OtherProcessError | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        # Progress of the current pass over images.
        self._done = self._shown = 0
        self._done_by_others: dict[int, int] = {}
        self._bar: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this process shows progress and writes what is written once."""
        return self.rank == 0

    def __enter__(self) -> Ranks:
        if self.size == 1:
            return self
        name = (dist.group.WORLD if self.group is None else self.group).group_name
        calls = dist.PrefixStore(f"fidfast/{name}", dist.distributed_c10d._get_default_store())
        # Each process counts its calls in the store, so that the processes of a new group begin with the same number.
        self._store = dist.PrefixStore(str(calls.add(f"calls/{self.rank}", 1)), calls)
        self._thread = threading.Thread(target=self._watch, name="fidfast-ranks", daemon=True)
        self._thread.start()
        try:
            hosts = self.exchange(socket.gethostname())
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        self.local_size, self._local_first = hosts.count(hosts[self.rank]), hosts.index(hosts[self.rank])
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._store is None:
            return
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        with suppress(RuntimeError):  # the process that has the store may have ended
            if error is not None and not isinstance(error, OtherProcessError):
                self.fail(error)
            self._store.set(f"alive/{self.rank}", "left")
            if error is not None and self.is_first:  # which may have the store, and end the process
                self._await_others(3 * BEAT)

    def fail(self, error: BaseException) -> None:
        """Raise an error about this one in the other processes."""
        with suppress(RuntimeError):
            self._publish(f"rank {self.rank} raised {type(error).__name__}: {error}", self.rank)

    def post(self, key: str, text: str) -> None:
        """Store a text that other processes can read during the call."""
        with suppress(RuntimeError):
            self._store.set(key, text)

    def posted(self, key: str, seconds: float) -> str | None:
        """The text that a process has stored; None if there is none after some seconds, or no store any more."""
        end = time.monotonic() + seconds
        with suppress(RuntimeError):
            while time.monotonic() < end:
                if self._store.check([key]):
                    return str(self._store.get(key).decode())
                time.sleep(0.05)
        return None

    def _await_others(self, seconds: float) -> None:
        """Wait until the others have left the call, at most for some seconds."""
        end = time.monotonic() + seconds
        keys = [f"alive/{rank}" for rank in range(1, self.size)]
        while time.monotonic() < end:
            if self._store.check(keys) and all(self._store.get(key) == b"left" for key in keys):
                return
            time.sleep(0.05)

    # Waiting ---------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise an error if another process has failed or died."""
        if self._failure is not None:
            raise self._failure

    def exchange(self, value: Any = None) -> list[Any]:
        """Wait for all processes, and return their values by rank; values of some MB at most.

        Raises
        ------
        OtherProcessError
            If another process has failed or died.
        """
        if self.size == 1:
            return [value]
        self._meetings += 1
        keys = [f"meeting/{self._meetings}/{rank}" for rank in range(self.size)]
        read = f"meeting/{self._meetings}/read"
        with self._reachable():
            self._store.set(keys[self.rank], pickle.dumps(value))
            self._wait(lambda: self._store.check(keys), ENTRY if self._meetings == 1 else None)
            values = [pickle.loads(self._store.get(key)) for key in keys]
            self._store.add(read, 1)
            if self.is_first:  # which may have the store, and end the process
                self._wait(lambda: self._store.add(read, 0) == self.size)
                for key in (*keys, read):
                    self._store.delete_key(key)
        return values

    @contextmanager
    def after_first_of_machine(self) -> Iterator[None]:
        """Run the block in one process of each machine before the others: it may download a file."""
        if self.size == 1:
            yield
            return
        self._meetings += 1
        key = f"ready/{self._meetings}/{self._local_first}"
        with self._reachable():
            if self.rank != self._local_first:
                self._wait(lambda: self._store.check([key]))
        yield
        if self.rank == self._local_first:
            with self._reachable():
                self._store.set(key, "")

    def _wait(self, ready: Callable[[], bool], limit: float | None = None) -> None:
        begin, pause = time.monotonic(), 0.001
        while not ready():
            self.check()
            if limit is not None and time.monotonic() - begin > limit:
                absent = [rank for rank in range(self.size) if not self._store.check([f"alive/{rank}"])]
                if absent:
                    ranks = ", ".join(map(str, absent))
                    raise OtherProcessError(f"rank {ranks} has not made the call within {limit:.0f} s", absent[0])
            self._show()
            time.sleep(pause)
            pause = min(1.5 * pause, 0.1)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """Replace the errors of the store."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, OtherProcessError):
                raise
            raise _unreachable(error) from error

    def _watch(self) -> None:
        """Write signs of life, and notice processes that have failed or died; runs in a thread."""
        seen: dict[int, tuple[bytes, float]] = {}
        # The first process watches all, and publishes what it finds; the others watch the first.
        watched = [rank for rank in range(self.size) if rank != self.rank and (self.is_first or rank == 0)]
        beats = 0
        try:
            while self._failure is None:
                beats += 1
                self._store.set(f"alive/{self.rank}", f"{beats} {self._passes} {self._done}")
                if self._store.check(["failed"]):
                    message, rank, is_dead = json.loads(self._store.get("failed"))
                    self._failure = OtherProcessError(f"another process failed: {message}", rank, is_dead=is_dead)
                    return
                for rank in watched:
                    silent = self._seconds_silent(rank, seen)
                    if silent > SILENT:
                        message = f"rank {rank} has given no sign of life for {silent:.0f} s"
                        self._publish(message, rank, is_dead=True)
                        self._failure = OtherProcessError(f"another process failed: {message}", rank, is_dead=True)
                if self._stop.wait(BEAT):
                    return
        except RuntimeError as error:
            self._failure = _unreachable(error)

    def _seconds_silent(self, rank: int, seen: dict[int, tuple[bytes, float]]) -> float:
        """Seconds since the last sign of life; 0 before the process makes the call, and after it."""
        now, key = time.monotonic(), f"alive/{rank}"
        if not self._store.check([key]):
            return 0.0
        value = self._store.get(key)
        if value == b"left":
            return 0.0
        if rank not in seen or seen[rank][0] != value:
            seen[rank] = value, now
            _, passes, done = map(int, value.split())
            self._done_by_others[rank] = done if passes == self._passes else 0
        return now - seen[rank][1]

    def _publish(self, message: str, rank: int, *, is_dead: bool = False) -> None:
        if self._store.add("failures", 1) == 1:
            self._store.set("failed", json.dumps([message, rank, is_dead]))

    # Progress --------------------------------------------------------------------------------------------------------

    @contextmanager
    def progress(self, bar: Any, initial: int) -> Iterator[Ranks]:
        """Show the images that all processes have done on the bar of the first; `initial` are done by this process."""
        self._done_by_others.clear()
        self._done, self._shown, self._bar = initial, initial, bar
        self._passes += 1
        yield self

    def update(self, number: int) -> None:
        """Count images of the current pass; raise an error if another process has failed or died."""
        self.check()
        self._done += number
        self._show()

    def end_pass(self, total: int | None) -> None:
        """Show that all images are done."""
        self._done_by_others.clear()
        self._done = total or self._done
        self._show()
        self._bar = None

    def _show(self) -> None:
        if self._bar is not None:
            done = self._done + sum(self._done_by_others.values())
            if done > self._shown:
                self._bar.update(done - self._shown)
                self._shown = done

    # Arrays ----------------------------------------------------------------------------------------------------------

    def from_first(self, value: Any) -> Any:
        """The value of the first process, which may be large. All processes wait for it."""
        if self.size == 1:
            return value
        self.exchange()
        values = [value]
        dist.broadcast_object_list(values, src=_global_rank(self.group, 0), group=self.group)
        return values[0]

    def concatenated(self, rows: NDArray[np.float32], counts: list[int]) -> NDArray[np.float32]:
        """The rows (n, dim) of all processes in the order of their ranks; call it after `exchange`.

        Parameters
        ----------
        rows : (k, dim) float32 array
        counts : list of int
            Number of rows of each process.
        """
        device = torch.device("cuda" if dist.get_backend(self.group) == "nccl" else "cpu")
        dim = rows.shape[1]
        total = np.empty((sum(counts), dim), np.float32)
        step = max(1, _CHUNK // (4 * dim))
        first = 0
        for rank, count in enumerate(counts):
            if rank == self.rank:
                total[first : first + count] = rows
            for begin in range(first, first + count, step):
                chunk = torch.from_numpy(total[begin : min(begin + step, first + count)])
                sent = chunk.to(device)
                dist.broadcast(sent, src=_global_rank(self.group, rank), group=self.group)
                if device.type != "cpu":
                    chunk.copy_(sent)
            first += count
        return total


def _global_rank(group: Any, rank: int) -> int:
    return rank if group is None else dist.get_global_rank(group, rank)


def _unreachable(error: Exception) -> OtherProcessError:
    first = str(error).partition("\n")[0]
    message = f"the store of the process group cannot be reached, its process has ended ({first})"
    return OtherProcessError(message, 0, is_dead=True)


_ACTIVE: ContextVar[Ranks | None] = ContextVar("fidfast_ranks", default=None)


def require_group(distributed: bool, group: Any) -> None:
    """Raise an error unless the arguments `distributed` and `group` fit together."""
    if group is None:
        return
    if dist.is_available() and group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError("group does not contain this process: call the function in the processes of the group only")
    if not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(f"group must be a torch.distributed.ProcessGroup or None, got {type(group).__name__}")
    if not distributed:
        raise ValueError("group needs distributed=True")


@contextmanager
def sharing(distributed: bool, group: Any) -> Iterator[Ranks]:
    """The processes that share the images of a call; only this one if `distributed` is False.

    Inside a block with the same group it returns the processes of that block.

    Raises
    ------
    RuntimeError
        If no process group is initialised.
    """
    if not distributed:
        yield Ranks(alone=True)
        return
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError("distributed=True needs a process group: call torch.distributed.init_process_group first")
    active = _ACTIVE.get()
    if active is not None and active.group is group:
        yield active
        return
    with Ranks(group) as ranks:
        token = _ACTIVE.set(ranks)
        try:
            yield ranks
        finally:
            _ACTIVE.reset(token)
