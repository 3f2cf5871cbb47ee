"""Signals that end a command."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

__all__ = ["Terminated", "ending_commands", "ignoring_signals"]

#: Signals that end a command like Ctrl-C: of `kill` and job schedulers, and of a terminal that is closed.
_NAMES = ("SIGTERM", "SIGHUP")


class Terminated(KeyboardInterrupt):
    """Raised in the main thread by a signal, so that an interrupted run saves its checkpoint."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def ending_commands() -> Iterator[list[int]]:
    """Raise `Terminated` for signals whose default is to end the process; the block gets the numbers received.

    Outside the main thread nothing changes.
    """
    received: list[int] = []
    replaced: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> NoReturn:
        received.append(number)
        _ignore_workers(replaced)
        raise Terminated(number)

    try:
        with suppress(ValueError):  # not in the main thread
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
                    replaced[number] = signal.signal(number, end)
        yield received
    finally:
        _restore(replaced)


@contextmanager
def ignoring_signals() -> Iterator[None]:
    """Ignore further signals, which would end the process with a traceback."""
    replaced: dict[int, Any] = {}
    try:
        with suppress(ValueError):  # not in the main thread
            _ignore_workers(replaced)
            for name in ("SIGINT", *_NAMES):
                if hasattr(signal, name):
                    replaced[getattr(signal, name)] = signal.signal(getattr(signal, name), signal.SIG_IGN)
        yield
    finally:
        _restore(replaced)


def _ignore_workers(replaced: dict[int, Any]) -> None:
    """Remove the handler of torch that raises an error for each worker that dies, since the command ends already."""
    while hasattr(signal, "SIGCHLD") and callable(handler := signal.getsignal(signal.SIGCHLD)):
        with suppress(RuntimeError):  # of that handler, for a signal that waits
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            replaced[signal.SIGCHLD] = handler


def _restore(replaced: dict[int, Any]) -> None:
    for number, handler in replaced.items():
        signal.signal(number, handler)
