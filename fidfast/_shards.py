"""Part K of N of a source of images or features: contiguous ranges that cover it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Shard"]


class Shard(NamedTuple):
    """One of `count` parts, whose sizes differ by at most one."""

    #: From 1 to `count`.
    number: int
    count: int

    def range_of(self, total: int) -> range:
        """Indices of this part of `total` images or rows."""
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
