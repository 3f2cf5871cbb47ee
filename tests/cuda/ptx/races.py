"""Data races: conflicting accesses of threads that no barrier orders.

Every access has a stamp: block, number of barriers that the block has passed, number of warp barriers since then,
thread. For each granule (of the narrowest width accessed so far), memory keeps the stamp of the last store and one
stamp for all loads. Two accesses, at least one of them a store, conflict unless they are made by the same thread, by
the same block with a barrier between them, or by the same warp with a `bar.warp.sync` between them.
"""

from __future__ import annotations

import numpy as np

from ptx.registers import Violation

# Bits of a stamp, from the lowest: thread 11, warp barriers 12, block barriers 18, block + 1 in the 22 above.
_WARP_BARRIER, _BLOCK_BARRIER, _BLOCK = 11, 23, 41
MOST_WARP_BARRIERS, MOST_BLOCK_BARRIERS, MOST_BLOCKS = (1 << 12) - 1, (1 << 18) - 1, (1 << 22) - 2

# Instead of the thread: this plus the warp for several threads of one warp, or threads of several warps.
_SEVERAL_OF_WARP, _SEVERAL_WARPS = 1024, 2047
_SEVERAL_BLOCKS = -1  # instead of the stamp
_NOBODY = 0


def stamp(block, block_barriers, warp_barriers, thread):
    return ((block + 1) << _BLOCK) | (block_barriers << _BLOCK_BARRIER) | (warp_barriers << _WARP_BARRIER) | thread


def _thread(stamps):
    return stamps & ((1 << _WARP_BARRIER) - 1)


def _warp(stamps):
    """The warp, or -1 for threads of several warps."""
    thread = _thread(stamps)
    if (thread < _SEVERAL_OF_WARP).all():
        return thread >> 5
    warp = np.where(thread >= _SEVERAL_OF_WARP, thread - _SEVERAL_OF_WARP, thread >> 5)
    return np.where(thread == _SEVERAL_WARPS, -1, warp)


def _warp_barriers(stamps):
    return (stamps >> _WARP_BARRIER) & MOST_WARP_BARRIERS


def _conflicts(earlier, now):
    """Whether an access stamped `earlier` (possibly by several threads) is unordered with one stamped `now`."""
    other_block = (earlier >> _BLOCK) != (now >> _BLOCK)
    same_interval = (earlier >> _BLOCK_BARRIER) == (now >> _BLOCK_BARRIER)
    ordered_in_warp = (_warp(earlier) == _warp(now)) & (_warp_barriers(earlier) < _warp_barriers(now))
    conflict = other_block | (same_interval & (_thread(earlier) != _thread(now)) & ~ordered_in_warp)
    return (earlier != _NOBODY) & conflict


def _merged(earlier, now):
    """One stamp for two loads: a later store conflicts with it if it conflicts with one of the loads."""
    other_block = (earlier != _NOBODY) & ((earlier >> _BLOCK) != (now >> _BLOCK))
    same_interval = (earlier >> _BLOCK_BARRIER) == (now >> _BLOCK_BARRIER)
    if not same_interval.any():
        return np.where(other_block, _SEVERAL_BLOCKS, now)
    same_warp = _warp(earlier) == _warp(now)
    replaced = (_thread(earlier) == _thread(now)) | (same_warp & (_warp_barriers(earlier) < _warp_barriers(now)))
    several = now & ~np.int64((1 << _WARP_BARRIER) - 1)
    several = several | np.where(same_warp, _SEVERAL_OF_WARP + _warp(now), _SEVERAL_WARPS)
    result = np.where(same_interval & ~replaced, several, now)
    return np.where(other_block, _SEVERAL_BLOCKS, result)


def _describe(earlier: int, now: int) -> str:
    if earlier == _SEVERAL_BLOCKS:
        return "several blocks"
    block, thread, warp = (earlier >> _BLOCK) - 1, int(_thread(np.int64(earlier))), int(_warp(np.int64(earlier)))
    several = f"threads of warp {warp}" if warp >= 0 else "threads of several warps"
    who = f"thread {thread}" if thread < _SEVERAL_OF_WARP else several
    return f"{who} of block {block}" if block != (now >> _BLOCK) - 1 else f"{who} of this block"


class AccessHistory:
    """The last accesses to `size` bytes starting at `base`."""

    def __init__(self, base: int, size: int):
        self._base, self._end = base, base + size
        self._granule = 0  # bytes
        self._stores = self._loads = np.zeros(0, np.int64)
        self.ever_stored = False

    def load(self, addresses: np.ndarray, width: int, stamps: np.ndarray, read_only: bool) -> None:
        """Addresses are multiples of `width`, which is a power of two."""
        granules, stamps = self._granules(addresses, width, stamps)
        if self.ever_stored:
            stored = self._stores[granules]
            if (stored != stamps).any():
                conflicts = _conflicts(stored, stamps)
                if conflicts.any():
                    self._report("loads", "stored to", conflicts, stored, stamps, width)
            if read_only and stored.any():
                reason = "reads through the read-only cache memory that this launch has written"
                raise Violation(reason, np.argmax(stored != 0) * self._granule // width)
        merged = stamps
        while True:  # several lanes of one instruction may load from one granule: each pass merges one of them
            loaded = self._loads[granules]
            if (loaded == stamps).all():
                break
            if not loaded.any():
                merged = stamps
            else:
                merged = _merged(loaded, stamps)
                if (merged == loaded).all():
                    break
            self._loads[granules] = merged
            kept = self._loads[granules]
            lost = np.flatnonzero(kept != merged)
            if not lost.size:
                break
            granules, stamps = granules[lost], stamps[lost]

    def store(self, addresses: np.ndarray, width: int, stamps: np.ndarray) -> None:
        granules, stamps = self._granules(addresses, width, stamps)
        for action, earlier in ("stored to", self._stores[granules]), ("loaded from", self._loads[granules]):
            if earlier.any():
                conflicts = _conflicts(earlier, stamps)
                if conflicts.any():
                    self._report("stores to", action, conflicts, earlier, stamps, width)
        self._stores[granules] = stamps
        self.ever_stored = True
        kept = self._stores[granules]
        if (kept != stamps).any():
            self._report("stores to", "stored to", kept != stamps, kept, stamps, width, "in the same instruction")

    def _report(self, action, other_action, conflicts, earlier, now, width, when="with no barrier between") -> None:
        position = int(np.argmax(conflicts))
        who = _describe(int(earlier[position]), int(now[position]))
        reason = f"race: {action} an address that {who} {other_action}, {when}"
        raise Violation(reason, position // max(1, width // self._granule))

    def _granules(self, addresses: np.ndarray, width: int, stamps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The granules of all accesses, and the stamp for each of them."""
        if self._granule == 0:
            self._granule = width
            self._stores = np.zeros((self._end - 1) // width - self._base // width + 1, np.int64)
            self._loads = np.zeros_like(self._stores)
        while self._granule > width:
            self._halve()
        first = (addresses // np.uint64(self._granule)).view(np.int64) - self._base // self._granule
        parts = width // self._granule
        if parts == 1:
            return first, stamps
        return (first[:, None] + np.arange(parts)).ravel(), np.repeat(stamps, parts)

    def _halve(self) -> None:
        old, self._granule = self._granule, self._granule // 2
        skipped = self._base // self._granule - 2 * (self._base // old)
        count = (self._end - 1) // self._granule - self._base // self._granule + 1
        self._stores, self._loads = (
            np.repeat(history, 2)[skipped : skipped + count] for history in (self._stores, self._loads)
        )
