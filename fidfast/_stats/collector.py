"""Sums and copies of whatever collects a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeVar

__all__ = ["Mergeable"]

_T = TypeVar("_T", bound="Mergeable")


class Mergeable(ABC):
    """``a + b`` and ``a += b`` of collectors that merge, and deep copies of those that copy themselves."""

    __slots__ = ()

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Add what `other` has collected."""

    @abstractmethod
    def __copy__(self: _T) -> _T: ...

    def __deepcopy__(self: _T, memo: dict[int, Any]) -> _T:
        return self.__copy__()

    def __add__(self: _T, other: object) -> _T:
        if not isinstance(other, type(self)):
            return NotImplemented
        total = self.__copy__()
        total.merge(other)
        return total

    def __iadd__(self: _T, other: object) -> _T:
        if not isinstance(other, type(self)):
            return NotImplemented
        self.merge(other)
        return self
