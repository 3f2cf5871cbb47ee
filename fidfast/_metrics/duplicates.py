"""Equal rows, in two sets or several times in one: standard errors assume that all rows are independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast._inputs import Input
from fidfast._results import Result

__all__ = ["EqualRows", "PairResult", "equal_keys", "find_equal_rows", "join_cautions"]


@dataclass(frozen=True)
class PairResult(Result):
    """Base of the results that compare two sets of rows."""

    #: Number of rows of the samples that are also rows of the reference; None if a side has no rows.
    shared_rows: int | None = field(default=None, kw_only=True, repr=False)
    #: What limits the meaning of the result, or None.
    caution: str | None = field(default=None, kw_only=True, repr=False)

    def _with_caution(self, text: str) -> str:
        return text if self.caution is None else f"{text}; {self.caution}"


class _Side(NamedTuple):
    """Equal rows of one side. A side that is given as Moments has blocks of rows instead."""

    name: str
    unit: str
    #: Number of rows.
    total: int
    #: How many of them the other side has too.
    shared: int
    #: How many of them are equal to an earlier row of the same side.
    repeated: int
    #: How often each row occurs, if that number is the same for all; else 1.
    times: int


class EqualRows(NamedTuple):
    """Equal rows of two sets, found by `find_equal_rows`."""

    sides: tuple[_Side, _Side]
    #: (n,) how often each row of the first side occurs on the second.
    times_in_reference: NDArray[np.int64]
    #: Whether each row is the same share of both sides; True for two sides without rows.
    same_distribution: bool

    @property
    def shared_rows(self) -> int | None:
        """Number of rows of the first side that the second side has too; None if a side has no rows."""
        return self.sides[0].shared if all(side.unit == "rows" for side in self.sides) else None

    @property
    def overlap(self) -> float:
        """Shared part of both sides, from 0 to 1."""
        shared, total = sum(side.shared for side in self.sides), sum(side.total for side in self.sides)
        return shared / total if total > 0 else 0.0

    @property
    def shared(self) -> str | None:
        """Which rows are shared, or None."""
        one, two = self.sides
        if one.shared == 0:
            return None
        return f"{one.shared:,} of the {one.total:,} {one.unit} of {one.name} are also in {two.name}"

    @property
    def repeated(self) -> str | None:
        """Which rows repeat, or None."""
        texts = [
            f"{side.repeated:,} of the {side.total:,} {side.unit} of {side.name} repeat earlier ones"
            for side in self.sides
            if side.repeated > 0
        ]
        return " and ".join(texts) or None

    def why_no_error(self) -> str | None:
        """Why there is no error bar if a side contains each row several times, or None."""
        for side in self.sides:
            if side.times == side.total > 1:
                return f"the {side.total:,} {side.unit} of {side.name} are all equal"
            if side.times > 1:
                return f"{side.name} contains each of its {side.unit} {side.times:,} times: pass each once"
        return None

    def caution(self, of_shared: str, of_repeated: str) -> str | None:
        """Which rows are shared or repeat and what each means for a result, or None."""
        shared = None if self.shared is None else f"{self.shared}{of_shared}"
        repeated = None if self.repeated is None else f"{self.repeated}: {of_repeated}"
        return join_cautions(shared, self.why_no_error(), repeated)


def find_equal_rows(
    samples: Input, reference: Input, groups: Sequence[NDArray[np.int64] | None] = (None, None)
) -> EqualRows:
    """Equal rows of two inputs; rows are equal if all their numbers are, whatever their types.

    Equal rows of one group, given by the (n,) numbers of the groups of both sides, do not count as repeated.
    """
    names = samples.name, reference.name
    units = _unit(samples), _unit(reference)
    return equal_keys((_keys(samples), _keys(reference)), names, units, groups)


def equal_keys(
    keys: tuple[NDArray[np.int64], NDArray[np.int64]],
    names: tuple[str, str],
    units: tuple[str, str] = ("rows", "rows"),
    groups: Sequence[NDArray[np.int64] | None] = (None, None),
    one_in: int = 1,
) -> EqualRows:
    """As `find_equal_rows`, from a key of each row: equal for equal rows.

    With `one_in` above 1, these are the keys of a sample of the rows, chosen by their keys, and the counts of the
    result are estimates.
    """
    one, two = keys
    times = _times_in(two, one)
    of_one, of_two = (np.unique(some, return_counts=True) for some in (one, two))
    same = np.array_equal(of_one[0], of_two[0]) and np.array_equal(of_one[1] * len(two), of_two[1] * len(one))
    first = _side(names[0], units[0], one, two, groups[0], one_in)
    return EqualRows((first, _side(names[1], units[1], two, one, groups[1], one_in)), times, same)


def join_cautions(*cautions: str | None) -> str | None:
    """All that are not None."""
    return "; ".join(caution for caution in cautions if caution is not None) or None


def _keys(source: Input) -> NDArray[np.int64]:
    """A hash of each row, or of each block; (0,) for statistics."""
    if source.rows is not None:
        return source.row_hashes
    # Equal streams of batches give equal bits.
    states = [block.state() for block in source.blocks]
    keys = [hash(tuple(array.tobytes() for array in state.values())) for state in states]
    return np.array(keys, dtype=np.int64)


def _times_in(keys: NDArray[np.int64], sought: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each of the sought keys occurs.

    Without `np.isin`, whose hash table ends the process if Python ends while a daemon thread is in it.
    """
    ordered = np.sort(keys)
    return np.asarray(np.searchsorted(ordered, sought, "right") - np.searchsorted(ordered, sought))


def _unit(source: Input) -> str:
    return "rows" if source.rows is not None else "blocks"


def _side(
    name: str,
    unit: str,
    keys: NDArray[np.int64],
    other: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    one_in: int,
) -> _Side:
    once = keys if groups is None else np.unique(np.stack([keys, groups]), axis=1)[0]
    times = np.unique(once, return_counts=True)[1]
    shared = int(np.count_nonzero(_times_in(other, keys)))
    same = int(times[0]) if len(times) > 0 and np.all(times == times[0]) else 1
    return _Side(name, unit, len(keys) * one_in, shared * one_in, (len(once) - len(times)) * one_in, same)
