"""Runs kernels: many blocks at a time, each instruction for all threads with the same program counter.

Threads that diverge form groups, and the group with the lowest program counter runs first, so that groups reconverge
where the code does. At an instruction that waits for other threads (a barrier, a shuffle), a group stops until they
arrive. If nothing else can run and they have not arrived, that is a fault.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ptx.access import decode_access
from ptx.decoder import decode
from ptx.memory import GlobalMemory, Layout, Memory
from ptx.program import Fault, Instruction, Kernel
from ptx.races import MOST_BLOCKS
from ptx.registers import ALL, Operands, Violation
from ptx.threads import Threads
from ptx.warp import decode_warp_instruction, is_warp_instruction

__all__ = ["Fault", "Statistics", "launch"]

_THREADS_AT_ONCE = 1 << 15
_ARENA_BYTES_AT_ONCE = 1 << 24
_COMPUTE, _BRANCH, _INDEXED_BRANCH, _EXIT, _BLOCK_BARRIER, _WARP_TOGETHER = range(6)


@dataclass
class Statistics:
    steps: int = 0  # instructions executed, each for a group of threads
    instructions: int = 0  # instructions executed, counted for every thread


def launch(
    kernel: Kernel,
    memory: Memory,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    arguments: list[bytes],
    dynamic_shared_bytes: int = 0,
    step_limit: int = 1_000_000,
) -> Statistics:
    """Run `kernel` to completion.

    Parameters
    ----------
    arguments
        The bytes of each parameter.
    step_limit
        Largest number of steps for each group of blocks that run together. A kernel that exceeds it is taken to loop
        endlessly.

    Raises
    ------
    Fault
        For undefined behaviour and unsupported PTX. The message names kernel, block, thread, instruction and reason.
    """
    grid, block = ((*(int(extent) for extent in extents), 1, 1)[:3] for extents in (grid, block))
    parameters = _check_launch(kernel, grid, block, arguments)
    if dynamic_shared_bytes not in kernel.decoded:
        kernel.decoded[dynamic_shared_bytes] = _decoded_kernel(kernel, dynamic_shared_bytes)
    layouts, operands, steps = kernel.decoded[dynamic_shared_bytes]
    statistics = Statistics()
    global_memory = GlobalMemory(memory)
    per_block = -(-math.prod(block) // 32) * 32
    arena_bytes = layouts[0].size + layouts[1].size * (per_block if layouts[1].symbols else 0)
    at_once = max(1, min(_THREADS_AT_ONCE // per_block, _ARENA_BYTES_AT_ONCE // arena_bytes))
    for first in range(0, math.prod(grid), at_once):
        number = min(at_once, math.prod(grid) - first)
        threads = Threads(kernel, grid, block, first, number, operands.count, layouts, parameters, global_memory)
        with np.errstate(all="ignore"):
            _Execution(threads, steps, statistics, step_limit).run()
    return statistics


def _check_launch(kernel: Kernel, grid, block, arguments: list[bytes]) -> np.ndarray:
    """The bytes of all parameters at their offsets."""
    if min(*grid, *block) < 1 or grid[0] >= 1 << 31 or max(grid[1:]) > 65535 or block[2] > 64:
        raise Fault(f"{kernel.name}: a grid of {grid} blocks of {block} threads cannot be launched")
    if math.prod(block) > min(1024, kernel.most_threads) or kernel.required_block not in (None, block):
        raise Fault(f"{kernel.name}: was not compiled for blocks of {block} threads")
    if math.prod(grid) > MOST_BLOCKS:
        raise Fault(f"{kernel.name}: races cannot be tracked over {math.prod(grid)} blocks")
    sizes = [len(argument) for argument in arguments]
    if sizes != kernel.parameter_sizes:
        raise Fault(f"{kernel.name}: got arguments of {sizes} bytes, needs {kernel.parameter_sizes}")
    offsets = _parameter_offsets(kernel)
    parameters = np.zeros(max([0, *(offsets[p.name] + p.size for p in kernel.parameters)]), np.uint8)
    for parameter, argument in zip(kernel.parameters, arguments, strict=True):
        start = offsets[parameter.name]
        parameters[start : start + parameter.size] = np.frombuffer(bytes(argument), np.uint8)
    return parameters


def _decoded_kernel(kernel: Kernel, dynamic_shared_bytes: int) -> tuple[tuple[Layout, ...], Operands, list[_Step]]:
    """Takes as long as a small launch, so the result is cached."""
    layouts = tuple(
        Layout(space, [v for v in kernel.variables.values() if v.space == space], dynamic_shared_bytes)
        for space in ("shared", "local")
    )
    symbols = layouts[0].symbols | layouts[1].symbols | _parameter_offsets(kernel)
    operands = Operands(kernel, symbols)
    return layouts, operands, [_decoded(kernel, operands, instruction) for instruction in kernel.instructions]


def _parameter_offsets(kernel: Kernel) -> dict[str, int]:
    offsets, end = {}, 0
    for parameter in kernel.parameters:
        offsets[parameter.name] = -(-end // parameter.alignment) * parameter.alignment
        end = offsets[parameter.name] + parameter.size
    return offsets


class _Step:
    """A decoded instruction."""

    def __init__(self, kernel: Kernel, operands: Operands, instruction: Instruction):
        self.text = instruction.text
        self.guard = operands.reader(instruction.predicate, "pred") if instruction.predicate else None
        self.negated = instruction.negated
        self.execute = self.mask = self.target = self.targets = None
        opcode, modifiers = instruction.opcode, instruction.modifiers
        if opcode == "bra" and modifiers in ((), ("uni",)):
            self.kind, self.target = _BRANCH, _label(kernel, instruction.operands[0])
        elif opcode == "brx" and modifiers in (("idx",), ("idx", "uni")):
            self.kind, self.execute = _INDEXED_BRANCH, operands.reader(instruction.operands[0], "u32")
            labels = kernel.branch_targets.get(instruction.operands[1], [])
            self.targets = np.array([_label(kernel, label) for label in labels])
        elif opcode in ("ret", "exit") and not modifiers and not instruction.operands:
            self.kind = _EXIT
        elif is_warp_instruction(instruction):
            self.kind = _WARP_TOGETHER
            self.mask, self.execute = decode_warp_instruction(operands, instruction)
        elif opcode in ("bar", "barrier"):
            if modifiers not in (("sync",), ("sync", "aligned"), ("cta", "sync"), ("cta", "sync", "aligned")):
                raise Fault("unknown form of a barrier")
            if instruction.operands != ("0",):
                raise Fault("only barrier 0 of all threads of a block is supported")
            self.kind = _BLOCK_BARRIER
        else:
            self.kind = _COMPUTE
            self.execute = (decode_access if opcode in ("ld", "st") else decode)(operands, instruction)


def _label(kernel: Kernel, name: str) -> int:
    if name not in kernel.labels:
        raise Fault(f"unknown label: {name}")
    return kernel.labels[name]


def _decoded(kernel: Kernel, operands: Operands, instruction: Instruction) -> _Step:
    try:
        return _Step(kernel, operands, instruction)
    except Fault as fault:
        raise Fault(f"{kernel.name}: `{instruction.text}`: {fault}") from None


class _Execution:
    """Runs the threads of some blocks from the first instruction to the last."""

    def __init__(self, threads: Threads, steps: list[_Step], statistics: Statistics, step_limit: int):
        self._threads, self._steps, self._statistics = threads, steps, statistics
        self._last_step = statistics.steps + step_limit
        self._ready = {0: threads.lanes(np.flatnonzero(threads.live))}  # program counter: lanes
        self._waiting: dict[int, np.ndarray | slice] = {}  # the same for lanes that wait for other lanes
        self._counter, self._lanes = 0, ALL  # of the current step, for messages

    def run(self) -> None:
        try:
            while self._ready or self._waiting:
                if not self._ready:
                    self._release()
                counter = min(self._ready)
                self._advance(counter, self._ready.pop(counter))
        except Violation as violation:
            threads = self._threads
            where = threads.describe(int(threads.number[self._lanes][violation.position]))
            text = self._steps[self._counter].text if self._counter < len(self._steps) else "(the end)"
            raise Fault(f"{threads.kernel.name}: {where}: `{text}`: {violation}") from None

    def _advance(self, counter: int, lanes) -> None:
        """Run `lanes` until they join another group, diverge, wait or end."""
        next_group = min(self._ready, default=len(self._steps))
        while lanes is not None:
            if counter >= next_group:
                self._put(counter, lanes)
                return
            self._counter, self._lanes = counter, lanes
            step = self._steps[counter]
            self._count(lanes)
            if step.guard is None:
                taken, others = lanes, None
            else:
                taken, others = self._split(lanes, step.guard(self._threads, lanes), step.negated)
            self._lanes = taken
            if step.kind == _COMPUTE:
                if taken is not None:
                    step.execute(self._threads, taken)
                counter += 1
                continue
            if taken is not None:
                target = self._leave_sequence(step, counter, taken)
                if target is not None and others is None:
                    counter = target
                    continue
                if target is not None:
                    self._put(target, taken)
            counter, lanes = counter + 1, others
            next_group = min(self._ready, default=len(self._steps))

    def _leave_sequence(self, step: _Step, counter: int, lanes) -> int | None:
        """Execute a step that changes the control flow. Returns the next program counter if all lanes share one."""
        if step.kind == _BRANCH:
            target = self._steps[step.target] if step.target < len(self._steps) else None
            # Threads that branch to the end exit at once, so that no barrier waits for them.
            if target is not None and target.kind == _EXIT and target.guard is None:
                self._end(lanes)
                return None
            return step.target
        if step.kind == _INDEXED_BRANCH:
            index = np.broadcast_to(step.execute(self._threads, lanes), self._threads.count_of(lanes))
            if (index >= len(step.targets)).any():
                raise Violation("branches beyond the list of targets", np.argmax(index >= len(step.targets)))
            numbers = self._threads.number[lanes]
            for target in np.unique(step.targets[index]):
                self._put(int(target), self._threads.lanes(numbers[step.targets[index] == target]))
            return None
        if step.kind == _EXIT:
            self._end(lanes)
            return None
        if counter in self._waiting:
            lanes = self._threads.union(lanes, self._waiting.pop(counter))
            self._lanes = lanes
        if self._complete(step, lanes).all():
            self._pass(step, lanes)
            self._put(counter + 1, lanes)
        else:
            self._waiting[counter] = lanes
        return None

    def _split(self, lanes, condition, negated: bool):
        """Lanes for which the guard is true and lanes for which it is false. None stands for no lanes."""
        if np.ndim(condition) == 0:
            return (lanes, None) if bool(condition) != negated else (None, lanes)
        chosen = ~condition if negated else condition
        if chosen.all():
            return lanes, None
        if not chosen.any():
            return None, lanes
        numbers = self._threads.number[lanes]
        return numbers[chosen], numbers[~chosen]

    def _put(self, counter: int, lanes) -> None:
        if counter >= len(self._steps):
            raise Violation("runs past the end of the kernel")
        others = self._ready.get(counter)
        self._ready[counter] = lanes if others is None else self._threads.union(lanes, others)

    def _count(self, lanes) -> None:
        self._statistics.steps += 1
        self._statistics.instructions += self._threads.count_of(lanes)
        if self._statistics.steps > self._last_step:
            raise Violation("still running at the step limit: an endless loop?")

    def _complete(self, step: _Step, lanes) -> np.ndarray:
        """For each of the lanes waiting at `step`, whether all lanes that it waits for have arrived."""
        threads = self._threads
        if step.kind == _BLOCK_BARRIER:
            arrived = np.bincount(threads.block[lanes], minlength=len(threads.live_in_block))
            return (arrived == threads.live_in_block)[threads.block[lanes]]
        mask = np.broadcast_to(step.mask(threads, lanes), threads.count_of(lanes)).astype(np.uint32)
        bit = np.uint32(1) << threads.lane.astype(np.uint32)
        if (mask & bit[lanes] == 0).any():
            raise Violation("the lane is not in its own mask", np.argmax(mask & bit[lanes] == 0))
        present = np.zeros(threads.count, np.uint32)
        present[lanes] = mask
        missing = _bits_by_warp(np.where(threads.live & (present == 0), bit, np.uint32(0)))
        rows = present.reshape(-1, 32)
        if not ((rows == 0) | (rows == rows.max(axis=1, keepdims=True))).all():
            self._check_masks(rows, lanes)
        return (mask & missing[threads.warp[lanes]]) == 0

    def _check_masks(self, rows: np.ndarray, lanes) -> None:
        """Lanes of one warp may execute with different masks only if the masks are disjoint."""
        for other in range(32):
            theirs = rows[:, other : other + 1]
            named = (rows >> np.uint32(other)) & np.uint32(1) == 1
            clash = (named & (theirs != 0) & (rows != theirs)).ravel()
            if clash.any():
                number = int(np.argmax(clash))
                raise Violation(
                    "lanes of one mask name different masks", np.argmax(self._threads.number[lanes] == number)
                )

    def _pass(self, step: _Step, lanes) -> None:
        if step.kind == _BLOCK_BARRIER:
            self._threads.pass_block_barrier(lanes)
        else:
            step.execute(self._threads, lanes)

    def _release(self) -> None:
        """Called when nothing else can run: continue the lanes whose partners have all arrived. None is a fault."""
        for counter, lanes in list(self._waiting.items()):
            self._counter, self._lanes = counter, lanes
            step = self._steps[counter]
            complete = self._complete(step, lanes)
            if complete.any():
                numbers = self._threads.number[lanes]
                passing = self._threads.lanes(numbers[complete])
                self._lanes = passing
                self._pass(step, passing)
                self._put(counter + 1, passing)
                del self._waiting[counter]
                if not complete.all():
                    self._waiting[counter] = numbers[~complete]
        if not self._ready:
            counter, lanes = min(self._waiting.items(), key=lambda item: item[0])
            self._counter, self._lanes = counter, lanes
            raise Violation(self._not_reached(self._steps[counter]))

    def _not_reached(self, step: _Step) -> str:
        if step.kind == _BLOCK_BARRIER:
            return "not converged: the barrier is not reached by all live threads of the block"
        return "not converged: the lanes of the mask do not meet"

    def _end(self, lanes) -> None:
        self._threads.leave(lanes)
        for counter, waiting in self._waiting.items():
            step, threads = self._steps[counter], self._threads
            if step.kind == _BLOCK_BARRIER:
                stuck = np.isin(threads.block[waiting], threads.block[lanes])
            else:
                ended = np.zeros(threads.count, np.uint32)
                ended[lanes] = np.uint32(1) << threads.lane[lanes].astype(np.uint32)
                stuck = (step.mask(threads, waiting) & _bits_by_warp(ended)[threads.warp[waiting]]) != 0
            if stuck.any():
                self._counter, self._lanes = counter, waiting
                raise Violation(self._not_reached(step), np.argmax(stuck))


def _bits_by_warp(bits: np.ndarray) -> np.ndarray:
    return np.bitwise_or.reduce(bits.reshape(-1, 32), axis=1)
