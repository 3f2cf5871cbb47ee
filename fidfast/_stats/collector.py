"""Base class of the objects that collect a stream: addition, copies, checkpoints and pickles."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fidfast._arguments import require_path
from fidfast._files import State, read_state, write_state
from fidfast._stats.locks import Locked, atomic

__all__ = ["Collector"]

_C = TypeVar("_C", bound="Collector")


class Collector(Locked, ABC):
    """Base class of objects that collect a stream, can be merged, and can be saved and continued.

    A subclass defines `merge`, `reset`, `state` and `from_state`; addition, copies, pickles, checkpoints and
    comparison follow from them. The methods of a subclass are `atomic`.
    """

    __slots__ = ("_lock",)

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Add the data that `other` has collected."""

    @abstractmethod
    def reset(self) -> None:
        """Remove everything collected so far."""

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """Everything collected, as named arrays of numbers or strings in host memory."""

    @classmethod
    @abstractmethod
    def from_state(cls: type[_C], state: Mapping[str, NDArray[Any]]) -> _C:
        """Inverse of `state`."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint; `load` continues from it with identical results.

        Parameters
        ----------
        path : path
            ``.npz`` is appended if the name does not end in it. The file is written atomically.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        write_state(require_path("path", path), State(type(self).__name__, self.state()))

    @classmethod
    def load(cls: type[_C], path: str | os.PathLike[str]) -> _C:
        """Read a checkpoint that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        ValueError
            If the file is damaged or not a checkpoint of this class.
        """
        return read_state(require_path("path", path), cls.__name__, cls.from_state)

    def __add__(self: _C, other: object) -> _C:
        if not isinstance(other, type(self)):
            return NotImplemented
        total = self.__copy__()
        total.merge(other)
        return total

    def __iadd__(self: _C, other: object) -> _C:
        if not isinstance(other, type(self)):
            return NotImplemented
        self.merge(other)
        return self

    def __copy__(self: _C) -> _C:
        return self.from_state(self.state())

    def __deepcopy__(self: _C, memo: dict[int, Any]) -> _C:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_state, (self.state(),)

    @atomic
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        mine, theirs = self.state(), other.state()
        return mine.keys() == theirs.keys() and all(np.array_equal(mine[key], theirs[key]) for key in mine)

    __hash__ = None  # type: ignore[assignment]  # mutable
