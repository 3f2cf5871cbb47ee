"""Instructions that the threads of a warp execute together.

Each is decoded to two functions of (threads, lanes): one returns the mask of the lanes that must arrive, the other
executes the instruction once they have. Registers of a warp's lanes are arranged as rows of 32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ptx.access import load_words
from ptx.conversions import bfloat16_to_float32
from ptx.forms import Modifiers
from ptx.program import Fault, Instruction, split_operands
from ptx.registers import DTYPES, Operands, Violation

WARP = 32
FULL_MASK = np.uint32(0xFFFFFFFF)
_LANE = np.arange(WARP)


def is_warp_instruction(instruction: Instruction) -> bool:
    return instruction.opcode in _MAKERS or instruction.modifiers[:2] == ("warp", "sync")


def decode_warp_instruction(operands: Operands, instruction: Instruction) -> tuple[Callable, Callable]:
    modifiers = Modifiers(instruction)
    if modifiers.take("sync") is None and instruction.opcode != "activemask":
        raise Fault("only forms with .sync are supported")
    return _MAKERS.get(instruction.opcode, _warp_barrier)(operands, instruction, modifiers)


def _full_warp(threads, lanes):
    """The mask of `.aligned` instructions, which need a warp of 32 threads."""
    present = np.zeros(threads.count, bool)
    present[lanes] = True
    if not present.reshape(-1, WARP)[threads.warp[lanes]].all():
        alone = ~threads.live.reshape(-1, WARP)[threads.warp[lanes]].all(axis=1)
        if alone.any():
            raise Violation("needs all 32 threads of the warp", np.argmax(alone))
    return FULL_MASK


def _warp_barrier(operands, instruction, modifiers):
    if instruction.opcode not in ("bar", "barrier") or modifiers.take("warp") is None or len(instruction.operands) != 1:
        raise Fault("unknown form of a barrier")
    modifiers.finish()
    mask = operands.reader(instruction.operands[0], "u32")
    return mask, lambda threads, lanes: threads.pass_warp_barrier(lanes, mask(threads, lanes))


def _shuffle(operands, instruction, modifiers):
    modifiers.take_type("b32")
    mode = modifiers.take("up", "down", "bfly", "idx")
    modifiers.finish()
    if mode is None or len(instruction.operands) != 5:
        raise Fault("unknown form of shfl")
    targets, *sources = instruction.operands
    target, _, in_range = targets.partition("|")
    write = operands.writer(target.strip(), "b32")
    write_in_range = operands.writer(in_range.strip(), "pred") if in_range else None
    value, amount, clamp, mask = (operands.reader(source, "u32") for source in sources)

    def execute(threads, lanes):
        lane, number = threads.lane[lanes], threads.number[lanes]
        offset = np.bitwise_and(amount(threads, lanes), np.uint32(31)).astype(np.int64)
        limits = clamp(threads, lanes)
        segment, last = (
            ((limits >> np.uint32(8)) & np.uint32(31)).astype(np.int64),
            (limits & np.uint32(31)).astype("i8"),
        )
        first_lane = lane & segment
        last_lane = first_lane | (last & ~segment)
        source = {
            "up": lane - offset,
            "down": lane + offset,
            "bfly": lane ^ offset,
            "idx": first_lane | (offset & ~segment),
        }[mode]
        fits = source >= last_lane if mode == "up" else source <= last_lane
        source = np.where(fits, source, lane) + (number - lane)
        present = np.zeros(threads.count, bool)
        present[lanes] = True
        if not present[source].all():
            raise Violation("reads from a lane that does not take part", np.argmin(present[source]))
        sent = np.zeros(threads.count, np.uint32)
        sent[lanes] = value(threads, lanes)
        write(threads, lanes, sent[source])
        if write_in_range:
            write_in_range(threads, lanes, fits)

    return mask, execute


def _vote(operands, instruction, modifiers):
    mode = modifiers.take("all", "any", "uni", "ballot")
    result = modifiers.take_type("b32" if mode == "ballot" else "pred")
    modifiers.finish()
    if mode is None or len(instruction.operands) != 3:
        raise Fault("unknown form of vote")
    target, condition, members = instruction.operands
    write = operands.writer(target, result)
    holds, mask = operands.predicate_reader(condition), operands.reader(members, "u32")

    def execute(threads, lanes):
        votes = np.broadcast_to(holds(threads, lanes), threads.count_of(lanes))
        members = mask(threads, lanes)
        yes = _ballot(threads, lanes, votes) & members
        no = _ballot(threads, lanes, ~votes) & members
        write(
            threads, lanes, {"ballot": yes, "all": no == 0, "any": yes != 0, "uni": (no == 0) | (yes == 0)}[mode].copy()
        )

    return mask, execute


def _ballot(threads, lanes, votes):
    """For each lane, the bits of the lanes of its warp whose vote is True."""
    voted = np.zeros(threads.count, np.uint32)
    voted[lanes] = votes.astype(np.uint32) << threads.lane[lanes].astype(np.uint32)
    return np.bitwise_or.reduce(voted.reshape(-1, WARP), axis=1)[threads.warp[lanes]]


def _active_mask(operands, instruction, modifiers):
    modifiers.take_type("b32")
    modifiers.finish()
    (target,) = instruction.operands
    write = operands.writer(target, "b32")

    def execute(threads, lanes):
        write(threads, lanes, _ballot(threads, lanes, np.ones(threads.count_of(lanes), bool)))

    return lambda threads, lanes: np.left_shift(np.uint32(1), threads.lane[lanes].astype(np.uint32)), execute


# Position of element h of register r of lane l in the fragments of m16n8k8 and m16n8k16 (PTX ISA, "Matrix Fragments for
# mma.m16n8k16 with floating point type"), with g = l // 4 and t = l % 4:
#   A: row g + 8 (r % 2), column 2t + h + 8 (r // 2);  B: row 2t + h + 8r, column g;  C, D: row g + 8 (r // 2), column
#   2t + r % 2.
_GROUP, _IN_GROUP = _LANE // 4, _LANE % 4


def _matrix_multiply(operands, instruction, modifiers):
    modifiers.take("aligned")
    shape = modifiers.take("m16n8k16", "m16n8k8")
    layout = modifiers.take("row"), modifiers.take("col")
    element = modifiers.take("bf16", "f16")
    same = modifiers.take(element or "bf16")
    accumulators = modifiers.take("f32"), modifiers.take("f32")
    modifiers.finish()
    order = ("sync", "aligned", shape, "row", "col", "f32", element, element, "f32")
    if None in (shape, *layout, element, same, *accumulators) or instruction.modifiers != order:
        raise Fault("unknown form of mma")
    depth = 16 if shape == "m16n8k16" else 8
    names = [split_operands(operand[1:-1]) for operand in instruction.operands]
    if [len(group) for group in names] != [4, depth // 4, depth // 8, 4]:
        raise Fault("unknown form of mma")
    writes = [operands.writer(name, "f32") for name in names[0]]
    a_reads, b_reads = ([operands.reader(name, "b32") for name in group] for group in names[1:3])
    c_reads = [operands.reader(name, "f32") for name in names[3]]

    def halves(bits, threads, lanes):
        """The two 16-bit elements of each register, in rows of 32 lanes."""
        words = np.broadcast_to(bits(threads, lanes), threads.count_of(lanes)).reshape(-1, WARP)
        for half in (words & np.uint32(0xFFFF), words >> np.uint32(16)):
            half = half.astype(np.uint16)
            yield bfloat16_to_float32(half) if element == "bf16" else half.view(np.float16)

    def execute(threads, lanes):
        warps = threads.count_of(lanes) // WARP
        a, b, c = np.empty((warps, 16, depth)), np.empty((warps, depth, 8)), np.empty((warps, 16, 8))
        for r, read in enumerate(a_reads):
            for h, value in enumerate(halves(read, threads, lanes)):
                a[:, _GROUP + 8 * (r % 2), 2 * _IN_GROUP + h + 8 * (r // 2)] = value
        for r, read in enumerate(b_reads):
            for h, value in enumerate(halves(read, threads, lanes)):
                b[:, 2 * _IN_GROUP + h + 8 * r, _GROUP] = value
        for r, read in enumerate(c_reads):
            value = np.broadcast_to(read(threads, lanes), warps * WARP).reshape(-1, WARP)
            c[:, _GROUP + 8 * (r // 2), 2 * _IN_GROUP + r % 2] = value
        d = (a @ b + c).astype(np.float32)
        for r, write in enumerate(writes):
            write(threads, lanes, d[:, _GROUP + 8 * (r // 2), 2 * _IN_GROUP + r % 2].ravel())

    return _full_warp, execute


def _load_matrices(operands, instruction, modifiers):
    modifiers.take("aligned")
    modifiers.take_type("b16")
    shape, space = modifiers.take("m8n8"), modifiers.take("shared", "shared::cta")
    count = int((modifiers.take("x1", "x2", "x4") or "x0")[1:])
    transposed = modifiers.take("trans") is not None
    modifiers.finish()
    if shape is None or space is None or count == 0 or len(instruction.operands) != 2:
        raise Fault("unknown form of ldmatrix")
    names = split_operands(instruction.operands[0].strip("{}"))
    if len(names) != count:
        raise Fault("unknown form of ldmatrix")
    writes = [operands.writer(name, "b32") for name in names]
    locate = operands.address(instruction.operands[1])

    def execute(threads, lanes):
        number = threads.number[lanes]
        asking = number[number % WARP < 8 * count]  # lane 8 m + i gives the address of row i of matrix m
        addresses = np.broadcast_to(locate(threads, asking), len(asking))
        words = load_words(threads, asking, "shared", addresses, DTYPES["b32"], 4)
        rows = np.stack(words, axis=1).view(np.uint16).reshape(-1, count, 8, 8)
        if transposed:
            rows = rows.swapaxes(2, 3)
        for matrix, write in enumerate(writes):
            low, high = (rows[:, matrix, _GROUP, 2 * _IN_GROUP + h].astype(np.uint32) for h in (0, 1))
            write(threads, lanes, (high << np.uint32(16) | low).ravel())

    return _full_warp, execute


_MAKERS = {
    "shfl": _shuffle,
    "vote": _vote,
    "activemask": _active_mask,
    "mma": _matrix_multiply,
    "ldmatrix": _load_matrices,
}
