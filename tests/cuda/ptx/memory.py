"""Memory of a kernel: every access is checked for bounds, initialisation and races."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ptx.races import AccessHistory
from ptx.registers import Violation

#: Generic addresses of shared and local memory start here. No process has memory at these addresses.
SHARED_WINDOW, LOCAL_WINDOW, WINDOW_BYTES = 1 << 62, 1 << 61, 1 << 32


@dataclass
class Allocation:
    """Global memory that a kernel may access."""

    base: int  # address of the first byte
    bytes: np.ndarray  # uint8, a view of the memory itself
    written: np.ndarray  # bool, whether each byte was ever written


class Memory(Protocol):
    def find(self, address: int) -> Allocation | None:
        """The allocation that holds the byte at `address`."""


class Region:
    """Bytes at consecutive addresses, accessed by many threads at once. The caller checks bounds."""

    def __init__(self, base: int, data: np.ndarray, written: np.ndarray, tracks_races: bool = True):
        self.base, self.end = base, base + len(data)
        self._data, self._written = data, written.view(np.uint8)
        self._all_written: bool | None = None
        self._history = AccessHistory(base, len(data)) if tracks_races else None
        self._views: dict[int, tuple[int, np.ndarray, np.ndarray]] = {}

    def load(self, addresses: np.ndarray, width: int, stamps: np.ndarray, read_only: bool = False) -> np.ndarray:
        first, values, written = self._elements(width)
        positions = (addresses // np.uint64(width)).view(np.int64) - first
        if self._all_written is None:
            self._all_written = bool(self._written.all())
        if not self._all_written:
            initialised = written[positions] == written.dtype.type(0x0101010101010101 >> (64 - 8 * width))
            if not initialised.all():
                raise Violation("reads memory that was never written", np.argmin(initialised))
        if self._history is not None:
            self._history.load(addresses, width, stamps, read_only)
        return values[positions]

    def store(self, addresses: np.ndarray, values: np.ndarray, stamps: np.ndarray) -> None:
        width = values.dtype.itemsize
        first, elements, written = self._elements(width)
        positions = (addresses // np.uint64(width)).view(np.int64) - first
        if self._history is not None:
            self._history.store(addresses, width, stamps)
        elements[positions] = values
        if not self._all_written:
            written[positions] = 0x0101010101010101 >> (64 - 8 * width)

    def _elements(self, width: int) -> tuple[int, np.ndarray, np.ndarray]:
        """(number of the first aligned element, the elements, whether their bytes were written)."""
        if width not in self._views:
            skipped = -self.base % width
            end = skipped + (len(self._data) - skipped) // width * width
            views = (array[skipped:end].view(f"u{width}") for array in (self._data, self._written))
            self._views[width] = ((self.base + skipped) // width, *views)
        return self._views[width]


class GlobalMemory:
    """The allocations that one launch has accessed so far."""

    def __init__(self, memory: Memory):
        self._memory = memory
        self._regions: list[Region] = []  # by address
        self._bases = np.zeros(0, np.uint64)

    def regions_of(self, addresses: np.ndarray, size: int) -> list[tuple[Region, np.ndarray | slice]]:
        """The regions that contain accesses of `size` bytes, each with the positions of its accesses."""
        lowest, highest = int(addresses.min()), int(addresses.max())
        region = self._region_at(lowest)
        if region is not None and highest + size <= region.end:
            return [(region, slice(None))]
        found = []
        left = np.arange(len(addresses))
        while left.size:
            position = left[np.argmin(addresses[left])]
            region = self._region_at(int(addresses[position]))
            if region is None:
                raise Violation(f"out of bounds: no global memory at {int(addresses[position]):#x}", position)
            inside = addresses[left] < np.uint64(region.end)
            found.append((region, left[inside]))
            beyond = addresses[left[inside]] > np.uint64(max(region.end - size, 0))
            if beyond.any():
                raise Violation(
                    f"out of bounds: {size} bytes at {int(addresses[left[inside]][np.argmax(beyond)]):#x} of global "
                    f"memory that ends at {region.end:#x}",
                    left[inside][np.argmax(beyond)],
                )
            left = left[~inside]
        return found

    def _region_at(self, address: int) -> Region | None:
        number = int(np.searchsorted(self._bases, np.uint64(address), side="right")) - 1
        if number >= 0 and address < self._regions[number].end:
            return self._regions[number]
        allocation = self._memory.find(address)
        if allocation is None or not allocation.base <= address < allocation.base + len(allocation.bytes):
            return None
        region = Region(allocation.base, allocation.bytes, allocation.written)
        self._regions.insert(number + 1, region)
        self._bases = np.array([each.base for each in self._regions], np.uint64)
        return region


class Arena:
    """Shared memory of many blocks or local memory of many threads, with the same layout for each owner."""

    def __init__(self, layout: Layout, owners: int, tracks_races: bool):
        self._layout, self._stride = layout, layout.size
        size = owners * self._stride
        self._region = Region(0, np.zeros(size, np.uint8), np.zeros(size, bool), tracks_races)

    def translate(self, addresses: np.ndarray, size: int, owners: np.ndarray) -> tuple[Region, np.ndarray]:
        """Convert addresses in the memory of one owner to addresses in the region of all owners."""
        last = addresses + np.uint64(size - 1)
        outside = (addresses >= np.uint64(self._stride)) | (last >= np.uint64(self._stride)) | (last < addresses)
        start, stop = (
            np.where(outside, np.uint64(0), addresses).view(np.int64),
            np.where(outside, 0, last.view(np.int64)),
        )
        outside |= ~self._layout.inside[start] | ~self._layout.inside[stop]
        if outside.any():
            position = np.argmax(outside)
            raise Violation(f"out of bounds: no {self._layout.space} memory at {int(addresses[position]):#x}", position)
        return self._region, addresses + owners.astype(np.uint64) * np.uint64(self._stride)


class Layout:
    """Addresses of the variables of one state space, with gaps, so that overruns do not reach the next variable."""

    _FIRST, _GAP = 1024, 16

    def __init__(self, space: str, variables, dynamic_bytes: int = 0):
        self.space = space
        self.symbols: dict[str, int] = {}
        extents = []
        end = self._FIRST
        for variable in sorted(variables, key=lambda variable: variable.size is None):  # the dynamic one last
            size = dynamic_bytes if variable.size is None else variable.size
            start = -(-end // variable.alignment) * variable.alignment
            self.symbols[variable.name] = start
            extents.append((start, start + size))
            if variable.size is not None:
                end = start + size + self._GAP
        self.size = -(-max([end, *(stop for _, stop in extents)]) // 128) * 128 + 128
        self.inside = np.zeros(self.size, bool)
        for start, stop in extents:
            self.inside[start:stop] = True
