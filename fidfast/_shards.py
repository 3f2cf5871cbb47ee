"""Part K of N of a source of images or features: contiguous ranges that cover it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from fidfast._arguments import require_text

__all__ = ["Shard", "sampled"]

#: Images or rows of a source that its digest covers.
_SAMPLED = 16


class Shard(NamedTuple):
    """One of several parts of a source."""

    #: From 1 to `parts`.
    number: int
    parts: int

    @classmethod
    def from_text(cls, name: str, value: Any) -> Shard:
        """The shard of "3/64"; `name` is that of the argument."""
        text = require_text(name, value)
        match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
        shard = None if match is None else cls(int(match[1]), int(match[2]))
        if shard is None or not 1 <= shard.number <= shard.parts:
            expected = "K/N with K from 1 to N, for example '3/64'"
            raise ValueError(f"{name} must be {expected}, got {text[:60]!r}")
        return shard

    def range_of(self, total: int, multiple: int = 1) -> range:
        """Indices of this part of `total` images or rows.

        The sizes of the parts differ by at most one. If they are at least `multiple`, all parts but the first begin at
        the next multiple of it instead.
        """
        bounds = [total * number // self.parts for number in (self.number - 1, self.number)]
        if total // self.parts >= multiple > 1:
            bounds = [min(-(-bound // multiple) * multiple, total) for bound in bounds]
        return range(*bounds)

    def __str__(self) -> str:
        return f"{self.number}/{self.parts}"


def sampled(total: int) -> list[int]:
    """Evenly spaced indices of the images or rows of a source that its digest covers."""
    number = min(total, _SAMPLED)
    return [i * total // number for i in range(number)]
