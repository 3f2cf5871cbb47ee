"""Parsing of instructions: modifiers, and the operands of elementwise functions."""

from __future__ import annotations

from collections.abc import Callable

from ptx.program import Fault, Instruction
from ptx.registers import Operands


class Modifiers:
    """The modifiers of one instruction. Each is taken once; `finish` rejects those that are left."""

    def __init__(self, instruction: Instruction):
        self._left = list(instruction.modifiers)

    def take(self, *choices: str) -> str | None:
        for choice in choices:
            if choice in self._left:
                self._left.remove(choice)
                return choice
        return None

    def take_all(self) -> set[str]:
        taken, self._left = set(self._left), []
        return taken

    def take_type(self, allowed: str) -> str:
        """The last modifier, one of the types in `allowed` (written `u16 s32 ...`)."""
        if not self._left or self._left[-1] not in allowed.split():
            raise Fault(f"unknown type: .{self._left[-1] if self._left else ''}")
        return self._left.pop()

    def finish(self) -> None:
        if self._left:
            raise Fault(f"unknown modifier: .{self._left[0]}")


def expect(instruction: Instruction, number: int) -> tuple[str, ...]:
    if len(instruction.operands) != number:
        raise Fault(f"{number} operands expected")
    return instruction.operands


def apply(operands: Operands, instruction: Instruction, function: Callable, result: str, *arguments: str) -> Callable:
    """`result = function(arguments)`. `result` and `arguments` are PTX types."""
    target, *sources = expect(instruction, 1 + len(arguments))
    write = operands.writer(target, result)
    reads = [operands.reader(source, ptx_type) for source, ptx_type in zip(sources, arguments, strict=True)]
    if len(reads) == 1:
        (first,) = reads
        return lambda threads, lanes: write(threads, lanes, function(first(threads, lanes)))
    if len(reads) == 2:
        first, second = reads
        return lambda threads, lanes: write(threads, lanes, function(first(threads, lanes), second(threads, lanes)))
    return lambda threads, lanes: write(threads, lanes, function(*(read(threads, lanes) for read in reads)))
