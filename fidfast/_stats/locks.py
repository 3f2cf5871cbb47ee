"""Objects with a lock that can be copied, pickled and forked, and methods that hold it."""

from __future__ import annotations

import functools
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

__all__ = ["Lock", "Locked", "atomic", "holding", "share_lock"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_L = TypeVar("_L", bound="Locked")

_NUMBERS = itertools.count()

#: All locks by number, for forks. Weak references without a callback, in which Python would ignore an interrupt.
_LOCKS: dict[int, weakref.ref[Lock]] = {}
#: Length of `_LOCKS` from which a new lock removes the references to locks that do not exist any more.
_limit = 1024

#: How long a fork waits for the operations of other threads, in seconds.
_FORK_TIMEOUT = 10.0


class Lock:
    """A `threading.RLock`. A copy or an unpickled lock is a new one.

    A fork waits until no thread holds a lock, so that the child finds every object complete. After `_FORK_TIMEOUT` it
    no longer waits, and the locks that are still held are free in the child.

    It is held by ``with lock.lock``, whose methods are those of C: an interrupt within an `__enter__` in Python would
    leave the lock held for ever.
    """

    __slots__ = ("__weakref__", "lock", "number")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.number = next(_NUMBERS)
        _LOCKS[self.number] = weakref.ref(self)
        if len(_LOCKS) >= _limit:
            _remove_dead_references()

    def __reduce__(self) -> tuple[Any, ...]:
        return Lock, ()


class Locked:
    """An object whose methods can be `atomic`; a subclass with ``__slots__`` needs one for ``_lock``."""

    __slots__ = ()

    _lock: Lock

    def __new__(cls: type[_L], *args: Any, **kwargs: Any) -> _L:
        self = super().__new__(cls)
        self._lock = Lock()
        return self


@contextmanager
def holding(*objects: object) -> Iterator[None]:
    """Hold the locks of all `Locked` objects, so that no other thread changes or reads them.

    They are acquired in the order of their creation, so that threads cannot deadlock.
    """
    locks = {owner._lock for owner in objects if isinstance(owner, Locked)}
    yield from _holding(sorted(locks, key=lambda lock: lock.number))


def _holding(locks: list[Lock]) -> Iterator[None]:
    if not locks:
        yield
        return
    with locks[0].lock:
        yield from _holding(locks[1:])


def share_lock(owner: Locked, part: _L) -> _L:
    """The part, with the lock of its owner."""
    part._lock = owner._lock
    return part


def atomic(method: Callable[Concatenate[_L, _P], _R]) -> Callable[Concatenate[_L, _P], _R]:
    """A method that holds the locks of its object and of all arguments that have one."""

    @functools.wraps(method)
    def locked(self: _L, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        if any(isinstance(each, Locked) for each in (*args, *kwargs.values())):
            with holding(self, *args, *kwargs.values()):
                return method(self, *args, **kwargs)
        with self._lock.lock:
            return method(self, *args, **kwargs)

    return locked


class _Forks(threading.local):
    """The locks that this thread holds during a fork."""

    def __init__(self) -> None:
        self.held: list[Lock] = []


_FORKS = _Forks()


def _remove_dead_references() -> None:
    global _limit
    for number, reference in _items():
        if reference() is None:
            _LOCKS.pop(number, None)
    _limit = max(1024, 2 * len(_LOCKS))


def _all_locks() -> list[Lock]:
    """The locks in the order of their creation."""
    return [lock for _, reference in sorted(_items()) if (lock := reference()) is not None]


def _items() -> list[tuple[int, weakref.ref[Lock]]]:
    while True:
        try:
            return list(_LOCKS.items())
        except RuntimeError:  # another thread has created an object meanwhile
            continue


def _before_fork() -> None:
    deadline = time.monotonic() + _FORK_TIMEOUT
    for lock in _all_locks():
        if lock.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            _FORKS.held.append(lock)


def _after_fork() -> None:
    while _FORKS.held:
        _FORKS.held.pop().lock.release()


def _after_fork_in_child() -> None:
    held = set(_FORKS.held)
    for lock in _all_locks():
        if lock not in held:  # a thread that does not exist in the child may hold it
            lock.lock = threading.RLock()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
