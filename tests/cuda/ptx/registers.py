"""Registers of many threads, and operands of instructions as functions that read and write them.

A register holds the bits of its value as unsigned integers (bool for predicates): an array with one element for each
thread, or a scalar if all threads hold the same value. `lanes` selects the threads that execute an instruction: an
ascending array of thread numbers, or `ALL`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from ptx.program import TYPE_BYTES, Fault, Kernel

ALL = slice(None)

#: The NumPy type for each PTX type. bfloat16 is kept as bits.
DTYPES = {"pred": np.dtype(bool), "bf16": np.dtype(np.uint16)}
DTYPES |= {f"{kind}{8 * size}": np.dtype(f"u{size}") for kind in "ub" for size in (1, 2, 4, 8)}
DTYPES |= {f"s{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)}
DTYPES |= {f"f{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)}


class Violation(Exception):  # noqa: N818 - not the program's error but the kernel's
    """A fault of one lane, given by its position among the executing lanes. The machine adds the other details."""

    def __init__(self, reason: str, position: int = 0):
        super().__init__(reason)
        self.position = int(position)


class Registers:
    """All registers of `count` threads, with a record of which threads have written each of them."""

    def __init__(self, number: int, count: int):
        self.count = count
        self._values: list[np.ndarray | np.generic | None] = [None] * number
        self._written_by: dict[int, np.ndarray] = {}  # only for registers that some, but not all, threads have written

    def read(self, register: int, lanes) -> np.ndarray | np.generic:
        value = self._values[register]
        if value is None:
            raise Violation("reads a register that was never written")
        if register in self._written_by:
            written = self._written_by[register][lanes]
            if not written.all():
                raise Violation("reads a register that this thread has never written", np.argmin(written))
        return value[lanes] if isinstance(value, np.ndarray) else value

    def write(self, register: int, lanes, value: np.ndarray | np.generic, dtype: np.dtype) -> None:
        """`value` has the width of `dtype`, the register's storage type."""
        if lanes is ALL:
            if isinstance(value, np.ndarray) and value.ndim:
                # A view may share the memory of another register.
                value = value.view(dtype) if value.base is None else value.view(dtype).copy()
            else:
                value = np.asarray(value).view(dtype)[()]
            self._values[register] = value
            self._written_by.pop(register, None)
            return
        current = self._values[register]
        if current is None:
            current = np.zeros(self.count, dtype)
            self._written_by[register] = np.zeros(self.count, bool)
        elif not isinstance(current, np.ndarray):
            current = np.full(self.count, current, dtype)
        self._values[register] = current
        current[lanes] = np.asarray(value).view(dtype)
        if register in self._written_by:
            written = self._written_by[register]
            written[lanes] = True
            if written.all():
                del self._written_by[register]


class Operands:
    """Makes readers and writers for the operands of one kernel's instructions.

    A reader takes (threads, lanes) and returns an array or a scalar. A writer takes (threads, lanes, value). `symbols`
    are the addresses of shared and local variables and of parameters in their state spaces.
    """

    def __init__(self, kernel: Kernel, symbols: dict[str, int]):
        self._numbers = {name: number for number, name in enumerate(kernel.registers)}
        self._types = kernel.registers
        self.symbols = symbols

    @property
    def count(self) -> int:
        return len(self._numbers)

    def is_register(self, text: str) -> bool:
        return text in self._numbers

    def reader(self, text: str, ptx_type: str) -> Callable:
        dtype = DTYPES[ptx_type]
        if text in self._numbers:
            return self._register_reader(text, ptx_type)
        if text.startswith("%"):
            return _special_reader(text, dtype)
        constant = self._constant(text, dtype)
        return lambda threads, lanes: constant

    def predicate_reader(self, text: str) -> Callable:
        """A reader of a predicate that may be negated: `!%p`."""
        read = self.reader(text.lstrip("!"), "pred")
        return (lambda threads, lanes: np.logical_not(read(threads, lanes))) if text.startswith("!") else read

    def writer(self, text: str, ptx_type: str) -> Callable:
        """Values narrower than the register are sign-extended or zero-extended, as their type requires."""
        if text == "_":
            return lambda threads, lanes, value: None
        number, storage = self._storage(text)
        dtype = DTYPES[ptx_type]
        if storage == dtype or (storage.itemsize == dtype.itemsize and "b" not in (storage.kind, dtype.kind)):
            return lambda threads, lanes, value: threads.registers.write(number, lanes, value, storage)
        if "b" in (storage.kind, dtype.kind) or storage.itemsize < dtype.itemsize or dtype.kind == "f":
            raise Fault(f"{text} cannot hold a value of type .{ptx_type}")
        extended = np.dtype(f"{dtype.kind}{storage.itemsize}")

        def write(threads, lanes, value):
            threads.registers.write(number, lanes, value.view(dtype).astype(extended), storage)

        return write

    def address(self, text: str) -> Callable:
        """A reader of `[register+offset]` or `[symbol+offset]`."""
        match = re.match(r"\[\s*([%\w$@]+)\s*(?:\+\s*(-?\w+)\s*)?\]$", text)
        if match is None:
            raise Fault(f"unknown address: {text}")
        offset = int(match[2] or "0", 0)
        if match[1] not in self._numbers:
            constant = np.uint64(self._constant(match[1], np.dtype(np.int64)) + offset)
            return lambda threads, lanes: constant
        number, storage = self._storage(match[1])
        if storage.itemsize not in (4, 8) or storage.kind == "b":
            raise Fault(f"{match[1]} cannot hold an address")
        bits = np.uint64(offset & 0xFFFFFFFFFFFFFFFF)

        def read(threads, lanes):
            return np.add(threads.registers.read(number, lanes), bits, dtype=np.uint64)

        return read

    def _storage(self, name: str) -> tuple[int, np.dtype]:
        if name not in self._numbers:
            raise Fault(f"unknown register: {name}")
        ptx_type = self._types[name]
        return self._numbers[name], np.dtype(bool) if ptx_type == "pred" else np.dtype(f"u{TYPE_BYTES[ptx_type]}")

    def _register_reader(self, name: str, ptx_type: str) -> Callable:
        number, storage = self._storage(name)
        dtype = DTYPES[ptx_type]
        if storage == dtype:
            return lambda threads, lanes: threads.registers.read(number, lanes)
        if "b" in (storage.kind, dtype.kind) or storage.itemsize < dtype.itemsize:
            raise Fault(f"{name} cannot be read as .{ptx_type}")
        if storage.itemsize == dtype.itemsize:
            return lambda threads, lanes: threads.registers.read(number, lanes).view(dtype)
        narrow = np.dtype(f"u{dtype.itemsize}")
        return lambda threads, lanes: threads.registers.read(number, lanes).astype(narrow).view(dtype)

    def _constant(self, text: str, dtype: np.dtype) -> np.generic:
        if re.match(r"0[fF][0-9A-Fa-f]{8}$", text):
            bits = np.array(int(text[2:], 16), np.uint32)
        elif re.match(r"0[dD][0-9A-Fa-f]{16}$", text):
            bits = np.array(int(text[2:], 16), np.uint64)
        elif re.match(r"-?(0x[0-9A-Fa-f]+|0|[1-9]\d*)U?$", text):
            value = int(text.rstrip("U"), 0)
            if dtype.kind == "b":
                return np.bool_(value != 0)
            bits = np.array(value & ((1 << 8 * dtype.itemsize) - 1), f"u{dtype.itemsize}")
        elif match := re.match(r"([\w$]+)(?:\+(\d+))?$", text):
            if match[1] not in self.symbols:
                raise Fault(f"unknown operand: {text}")
            bits = np.array(self.symbols[match[1]] + int(match[2] or "0"), np.uint64).astype(f"u{dtype.itemsize}")
        else:
            raise Fault(f"unknown operand: {text}")
        if bits.dtype.itemsize != dtype.itemsize:
            raise Fault(f"{text} is not a constant of {dtype.itemsize} bytes")
        return bits.view(dtype)[()]


def _special_reader(text: str, dtype: np.dtype) -> Callable:
    name, _, axis = text[1:].partition(".")
    if name in ("tid", "ntid", "ctaid", "nctaid") and axis in ("x", "y", "z"):
        key = name, "xyz".index(axis)
    elif name in ("laneid", "warpid", "nwarpid", *(f"lanemask_{c}" for c in ("eq", "lt", "le", "gt", "ge"))):
        key = name, 0
    else:
        raise Fault(f"unknown register: {text}")

    def read(threads, lanes):
        value = threads.special(key)
        return value[lanes].astype(dtype) if isinstance(value, np.ndarray) else value.astype(dtype)

    return read
