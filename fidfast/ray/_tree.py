"""Moments of many parts, merged by a tree of Ray tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import ray

from fidfast._stats import ClassMoments, Moments
from fidfast._stats.serialization import pack_moments, unpack_moments

__all__ = ["FAN_IN", "Merged", "block_of_part", "merged_blocks"]

#: Number of blocks that one task merges.
FAN_IN = 8

#: Merges that run at the same time, for each 8 CPUs of the cluster.
_MERGES = 2


class Merged(NamedTuple):
    """The moments of all parts."""

    #: By column of the features.
    moments: dict[str, Moments | ClassMoments]
    #: Sum of the numbers of rows that the parts report.
    num_rows: int
    #: Name of each part: of the Ray task that computed it, and its number in the task.
    parts: list[str]
    #: One message for each broken image that was skipped.
    skipped: list[str]


def block_of_part(part: Merged) -> pa.Table:
    """One row for each column of features: the packed moments, and the other fields, which are the same in all rows."""
    columns = list(part.moments) or [""]  # without moments if all images are broken
    packed = [pack_moments(part.moments[column]) if part.moments else b"" for column in columns]
    strings = pa.list_(pa.string())
    return pa.table(
        {
            "column": pa.array(columns, pa.string()),
            # Arrow's type with 64-bit offsets: the moments of dim 16,384 have more than 2 GiB.
            "moments": pa.chunked_array([_without_copy(one) for one in packed], pa.large_binary()),
            "num_rows": pa.array([part.num_rows] * len(columns), pa.int64()),
            "parts": pa.array([part.parts] * len(columns), strings),
            "skipped": pa.array([part.skipped] * len(columns), strings),
        }
    )


def _without_copy(packed: bytes) -> pa.Array:
    offsets = pa.py_buffer(b"".join(number.to_bytes(8, "little") for number in (0, len(packed))))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(packed)])


def _merge(first: pa.Table, others: Sequence[Any]) -> pa.Table:  # runs in a task
    """The rows of several blocks in one; only one of the other blocks is on this node at a time."""
    total = Merged({}, 0, [], [])
    total = _added(total, first)
    del first
    for other in others:
        total = _added(total, ray.get(other))
    return block_of_part(total)


def _added(total: Merged, block: pa.Table) -> Merged:
    """The sum of the parts in `total`, which changes, and in a block."""
    seen: set[str] = set()
    num_rows = total.num_rows
    for row in range(len(block)):
        column, count, parts, skipped = (
            block.column(name)[row].as_py() for name in ("column", "num_rows", "parts", "skipped")
        )
        if column:
            moments = unpack_moments(block.column("moments")[row].as_buffer())
            if column in total.moments:
                total.moments[column].merge(moments)  # type: ignore[arg-type]  # of one class
            else:
                total.moments[column] = moments
        if seen.isdisjoint(parts):  # once for the columns of a part
            num_rows += count
            total.parts.extend(parts)
            total.skipped.extend(skipped)
        seen.update(parts)
    return Merged(total.moments, num_rows, total.parts, total.skipped)


class _Tree:
    """Merges blocks as they arrive, so that at most ``FAN_IN - 1`` of each level wait."""

    def __init__(self) -> None:
        # Ray runs the task on the node of its first argument. A task without a CPU cannot wait for one that the actors
        # of a dataset hold. Lost nodes are no reason to give up.
        self._merge = ray.remote(_merge).options(num_cpus=0, max_retries=-1, name="fidfast.ray: merge moments")
        self._levels: list[list[Any]] = []
        self._running: list[Any] = []
        self._most = max(2, int(ray.cluster_resources().get("CPU", 1)) // 8 * _MERGES)

    def add(self, ref: Any, level: int = 0) -> None:
        """Add a block of a level; 8 of them become one of the next level."""
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(ref)
        if len(self._levels[level]) == FAN_IN:
            merged = self._merged(self._levels[level])
            self._levels[level] = []
            self.add(merged, level + 1)

    def _merged(self, refs: list[Any]) -> Any:
        if len(refs) == 1:
            return refs[0]
        while len(self._running) >= self._most:
            _, self._running = ray.wait(self._running, fetch_local=False)
        merged = self._merge.remote(refs[0], refs[1:])
        self._running.append(merged)
        return merged

    def root(self) -> Any:
        """The block of all rows, or None without blocks."""
        carried: list[Any] = []
        for level in self._levels:
            carried = [self._merged([*level, *carried])] if level or carried else []
        return carried[0] if carried else None


def merged_blocks(blocks: Iterator[Any]) -> Merged:
    """The sum of all blocks, by references.

    Raises
    ------
    RuntimeError
        If a part is counted twice.
    """
    tree = _Tree()
    for block in blocks:
        tree.add(block)
    root = tree.root()
    found = Merged({}, 0, [], [])
    if root is not None:
        found = _added(found, ray.get(root))
    if len(set(found.parts)) < len(found.parts):
        raise RuntimeError(f"{len(found.parts) - len(set(found.parts))} parts of the dataset were counted twice")
    return found
