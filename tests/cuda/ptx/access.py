"""`ld` and `st`: decodes an instruction to a function of (threads, lanes) that accesses memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ptx.forms import Modifiers
from ptx.memory import LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BYTES
from ptx.program import TYPE_BYTES, Fault, Instruction, split_operands
from ptx.registers import DTYPES, Operands, Violation

_TYPES = " ".join(name for name in DTYPES if name not in ("pred", "f16", "bf16"))
_SPACES = ("global", "shared", "shared::cta", "local")
# All are treated as plain accesses: races are reported even where the hardware orders them.
_ORDERS = ("weak", "volatile", "relaxed")
_SCOPES = ("cta", "gpu", "sys")
_EVICTION_HINTS = ("evict_normal", "evict_unchanged", "evict_first", "evict_last", "no_allocate")
_CACHE_HINTS = ("ca", "cg", "cs", "lu", "cv", "wb", "wt", *(f"L1::{hint}" for hint in _EVICTION_HINTS))
_PREFETCH_HINTS = ("L2::64B", "L2::128B", "L2::256B")


def decode_access(operands: Operands, instruction: Instruction) -> Callable:
    modifiers = Modifiers(instruction)
    ptx_type = modifiers.take_type(_TYPES)
    if modifiers.take(*_ORDERS) == "relaxed" and modifiers.take(*_SCOPES) is None:
        raise Fault("a relaxed access needs a scope")
    space = modifiers.take("param", *_SPACES) or "generic"
    modifiers.take(*_CACHE_HINTS)
    modifiers.take(*_PREFETCH_HINTS)
    is_load = instruction.opcode == "ld"
    read_only = is_load and modifiers.take("nc") is not None
    vector = int((modifiers.take("v2", "v4", "v8") or "v1")[1:])
    modifiers.finish()
    if len(instruction.operands) != 2 or (space == "param" and not is_load):
        raise Fault("unknown form of a memory access")
    values, address = instruction.operands if is_load else reversed(instruction.operands)
    names = split_operands(values[1:-1]) if vector > 1 else [values]
    if len(names) != vector or TYPE_BYTES[ptx_type] * vector > 32:
        raise Fault("unknown form of a memory access")
    locate = operands.address(address)
    space = space.removesuffix("::cta")
    if not is_load:
        return _store(space, locate, [operands.reader(name, ptx_type) for name in names], TYPE_BYTES[ptx_type])
    writes = [operands.writer(name, ptx_type) for name in names]
    if space == "param":
        return _load_parameter(locate, writes, DTYPES[ptx_type])
    return _load(space, locate, writes, DTYPES[ptx_type], read_only)


def load_words(threads, lanes, space: str, addresses: np.ndarray, dtype: np.dtype, count: int, read_only=False) -> list:
    """`count` consecutive values starting at each address, as `count` arrays."""
    width = dtype.itemsize
    results = [np.empty(len(addresses), np.dtype(f"u{width}")) for _ in range(count)]
    for positions, region, inside, stamps in _accesses(threads, lanes, space, addresses, width * count):
        for position, result in enumerate(results):
            with _at(positions):
                result[positions] = region.load(inside + np.uint64(width * position), width, stamps, read_only)
    return [result.view(dtype) for result in results]


def _for_each_lane(values, number: int) -> np.ndarray:
    return values if isinstance(values, np.ndarray) and values.ndim else np.broadcast_to(values, number)


def _load(space: str, locate: Callable, writes: list[Callable], dtype: np.dtype, read_only: bool) -> Callable:
    def execute(threads, lanes):
        addresses = _for_each_lane(locate(threads, lanes), threads.count_of(lanes))
        values = load_words(threads, lanes, space, addresses, dtype, len(writes), read_only)
        for write, value in zip(writes, values, strict=True):
            write(threads, lanes, value)

    return execute


def _store(space: str, locate: Callable, reads: list[Callable], width: int) -> Callable:
    bits = np.dtype(f"u{width}")

    def execute(threads, lanes):
        number = threads.count_of(lanes)
        addresses = _for_each_lane(locate(threads, lanes), number)
        values = [_for_each_lane(read(threads, lanes), number).view(bits) for read in reads]
        for positions, region, inside, stamps in _accesses(threads, lanes, space, addresses, width * len(reads)):
            for position, value in enumerate(values):
                with _at(positions):
                    region.store(inside + np.uint64(width * position), value[positions], stamps)

    return execute


def _load_parameter(locate: Callable, writes: list[Callable], dtype: np.dtype) -> Callable:
    width = dtype.itemsize

    def execute(threads, lanes):
        addresses = locate(threads, lanes)
        parameters = threads.parameters
        if (addresses % np.uint64(width)).any() or (addresses + np.uint64(width * len(writes)) > len(parameters)).any():
            raise Violation("misaligned or beyond the parameters")
        for position, write in enumerate(writes):
            offsets = np.arange(width * position, width * (position + 1))
            values = parameters[np.atleast_1d(addresses).astype(np.int64)[:, None] + offsets].view(dtype)[:, 0]
            write(threads, lanes, values.copy() if addresses.ndim else values[0])

    return execute


class _at:  # noqa: N801 - a context manager, used as `with _at(positions)`
    """Converts the position of a violation among some of the lanes to its position among all of them."""

    def __init__(self, positions):
        self._positions = positions

    def __enter__(self):
        return None

    def __exit__(self, kind, violation, trace):
        if isinstance(violation, Violation) and isinstance(self._positions, np.ndarray):
            violation.position = int(self._positions[violation.position])


def _accesses(threads, lanes, space: str, addresses: np.ndarray, size: int):
    """Check alignment and bounds. Yields (positions among the lanes, region, addresses in it, stamps)."""
    misaligned = addresses & np.uint64(size - 1) != 0
    if misaligned.any():
        position = np.argmax(misaligned)
        raise Violation(f"misaligned: {size} bytes at {int(addresses[position]):#x}", position)
    stamps = threads.stamps[lanes]
    if space == "global":
        for region, positions in threads.global_memory.regions_of(addresses, size):
            yield positions, region, addresses[positions], stamps[positions]
    elif space in ("shared", "local"):
        arena, owners = (threads.shared, threads.block) if space == "shared" else (threads.local, threads.number)
        region, inside = arena.translate(addresses, size, owners[lanes])
        yield slice(None), region, inside, stamps
    else:
        yield from _generic_accesses(threads, lanes, addresses, size)


def _generic_accesses(threads, lanes, addresses: np.ndarray, size: int):
    window = addresses // np.uint64(WINDOW_BYTES)
    slots = threads.number[lanes]
    spaces = {"shared": window == SHARED_WINDOW // WINDOW_BYTES, "local": window == LOCAL_WINDOW // WINDOW_BYTES}
    spaces["global"] = ~(spaces["shared"] | spaces["local"])
    for space, chosen in spaces.items():
        if chosen.any():
            outer = np.flatnonzero(chosen)
            start = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "global": 0}[space]
            moved = addresses[outer] - np.uint64(start)
            with _at(outer):
                for positions, region, inside, stamps in _accesses(threads, slots[outer], space, moved, size):
                    yield outer[positions], region, inside, stamps
