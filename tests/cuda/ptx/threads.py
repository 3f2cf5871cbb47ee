"""Threads of some blocks of one launch: their registers, memory and position in the grid."""

from __future__ import annotations

import math

import numpy as np

from ptx import races
from ptx.memory import Arena, GlobalMemory, Layout
from ptx.program import Kernel
from ptx.registers import ALL, Registers, Violation

_WARP = 32


class Threads:
    """All threads of blocks `first_block` to `first_block + blocks`, numbered consecutively.

    Each block is padded to a multiple of 32 threads. Padding is never live.
    """

    def __init__(
        self,
        kernel: Kernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        first_block: int,
        blocks: int,
        registers: int,
        layouts: tuple[Layout, Layout],
        parameters: np.ndarray,
        global_memory: GlobalMemory,
    ):
        self.kernel, self.grid, self.shape = kernel, grid, block
        threads = math.prod(block)
        self.per_block = -(-threads // _WARP) * _WARP
        self.count = blocks * self.per_block
        self.number = np.arange(self.count)
        self.block = self.number // self.per_block  # within these blocks
        self.in_block = self.number % self.per_block
        self.warp, self.lane = self.number // _WARP, self.number % _WARP
        self.first_block = first_block
        self.live = self.in_block < threads
        self.live_in_block = np.full(blocks, threads)
        self.registers = Registers(registers, self.count)
        shared, local = layouts
        self.shared = Arena(shared, blocks, tracks_races=True)
        self.local = Arena(local, self.count, tracks_races=False)
        self.parameters, self.global_memory = parameters, global_memory
        self.stamps = races.stamp(self.block + first_block, 0, 0, self.in_block)
        self._specials: dict[tuple[str, int], np.ndarray | np.generic] = {}

    def count_of(self, lanes) -> int:
        return self.count if lanes is ALL else len(lanes)

    def lanes(self, numbers: np.ndarray):
        """Ascending thread numbers, or ALL if these are all threads."""
        return ALL if len(numbers) == self.count else numbers

    def union(self, first, second):
        if first is ALL or second is ALL:
            return ALL
        marked = np.zeros(self.count, bool)
        marked[first] = True
        marked[second] = True
        return self.lanes(np.flatnonzero(marked))

    def leave(self, lanes) -> None:
        self.live[lanes] = False
        self.live_in_block -= np.bincount(self.block[lanes], minlength=len(self.live_in_block))

    def pass_block_barrier(self, lanes) -> None:
        stamps = self.stamps[lanes]
        passed = (stamps >> 23) & races.MOST_BLOCK_BARRIERS
        if (passed == races.MOST_BLOCK_BARRIERS).any():
            raise Violation("more barriers than races can be tracked over")
        self.stamps[lanes] = races.stamp((stamps >> 41) - 1, passed + 1, 0, self.in_block[lanes])

    def pass_warp_barrier(self, lanes, mask) -> None:
        """Orders the accesses of a warp. A barrier of only some of its live threads is taken to order nothing."""
        live = np.bitwise_or.reduce(
            np.where(self.live, np.uint32(1) << self.lane.astype(np.uint32), np.uint32(0)).reshape(-1, _WARP), axis=1
        )[self.warp[lanes]]
        complete = (live & ~mask) == 0
        stamps = self.stamps[lanes]
        if (((stamps >> 11) & races.MOST_WARP_BARRIERS) == races.MOST_WARP_BARRIERS).any():
            raise Violation("more barriers than races can be tracked over")
        self.stamps[lanes] = np.where(complete, stamps + (1 << 11), stamps)

    def special(self, key: tuple[str, int]) -> np.ndarray | np.generic:
        if key not in self._specials:
            self._specials[key] = self._make_special(*key)
        return self._specials[key]

    def _make_special(self, name: str, axis: int) -> np.ndarray | np.generic:
        if name == "ntid":
            return np.uint32(self.shape[axis])
        if name == "nctaid":
            return np.uint32(self.grid[axis])
        if name == "tid":
            return np.uint32(0) if self.shape[axis] == 1 else _coordinate(self.in_block, self.shape, axis)
        if name == "ctaid":
            return np.uint32(0) if self.grid[axis] == 1 else _coordinate(self.block + self.first_block, self.grid, axis)
        if name == "nwarpid":
            return np.uint32(self.per_block // _WARP)
        if name == "warpid":
            return (self.in_block // _WARP).astype(np.uint32)
        if name == "laneid":
            return self.lane.astype(np.uint32)
        bit = np.uint64(1) << self.lane.astype(np.uint64)
        below, ones = bit - np.uint64(1), np.uint64(0xFFFFFFFF)
        masks = {"eq": bit, "lt": below, "le": below | bit, "gt": ones & ~(below | bit), "ge": ones & ~below}
        return masks[name.removeprefix("lanemask_")].astype(np.uint32)

    def describe(self, number: int) -> str:
        block, thread = int(self.block[number]) + self.first_block, int(self.in_block[number])
        where = (tuple(int(_coordinate(np.array(n), of, axis)) for axis in range(3)) for n, of in
                 ((block, self.grid), (thread, self.shape)))  # fmt: skip
        return "block {}, thread {}".format(*where)


def _coordinate(number: np.ndarray, extents: tuple[int, int, int], axis: int) -> np.ndarray:
    return (number // math.prod(extents[:axis]) % extents[axis]).astype(np.uint32)
