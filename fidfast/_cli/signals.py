"""Signals that end a command."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

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

    def end(number: int, frame: FrameType | None) -> NoReturn:
        received.append(number)
        raise Terminated(number)

    replaced = []
    try:
        with suppress(ValueError):  # not in the main thread
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
                    signal.signal(number, end)
                    replaced.append(number)
        yield received
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def ignoring_signals() -> Iterator[None]:
    """Ignore a second signal, which would end the process with a traceback."""
    numbers = [getattr(signal, name) for name in ("SIGINT", *_NAMES) if hasattr(signal, name)]
    handlers = {}
    try:
        with suppress(ValueError):  # not in the main thread
            for number in numbers:
                handlers[number] = signal.signal(number, signal.SIG_IGN)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
