"""For tests of the interpreter: compiles CUDA C++ to PTX, and launches kernels on NumPy arrays."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np

from ptx import machine
from ptx.memory import Allocation
from ptx.program import Kernel, Program


def compiler() -> str | None:
    return shutil.which("nvcc")


def compile_kernels(source: str, architecture: int, folder: Path) -> dict[str, Kernel]:
    """The kernels of `source` by name. They must be declared `extern "C"`."""
    text, ptx = folder / f"kernels_{architecture}.cu", folder / f"kernels_{architecture}.ptx"
    text.write_text(source)
    command = [compiler(), "-std=c++17", "-O3", f"-arch=compute_{architecture}", "-ptx", str(text), "-o", str(ptx)]
    subprocess.run(command, check=True, capture_output=True)
    return Program(ptx.read_text()).kernels


class ArrayMemory:
    """Arrays that kernels may access. Those in `unwritten` count as uninitialised."""

    def __init__(self, arrays, unwritten=()):
        self.allocations = []
        for array in arrays:
            data = array.reshape(-1).view(np.uint8)  # a view: the arrays are contiguous
            written = not any(array is other for other in unwritten)
            self.allocations.append(Allocation(array.ctypes.data, data, np.full(data.size, written)))

    def find(self, address: int) -> Allocation | None:
        for allocation in self.allocations:
            if allocation.base <= address < allocation.base + len(allocation.bytes):
                return allocation
        return None


def launch(kernel: Kernel, grid, block, *arguments, unwritten=(), dynamic_shared_bytes=0, step_limit=1_000_000):
    """Launch with arrays for pointers, numbers, and bytes for structs. Arrays in `unwritten` are uninitialised."""
    memory = ArrayMemory([argument for argument in arguments if isinstance(argument, np.ndarray)], unwritten)
    given = []
    for parameter, argument in zip(kernel.parameters, arguments, strict=True):
        if isinstance(argument, np.ndarray):
            argument = argument.ctypes.data
        given.append(
            argument if isinstance(argument, bytes) else np.array(argument).astype(parameter.dtype).tobytes(),
        )
    grid, block = ((extents,) if isinstance(extents, int) else extents for extents in (grid, block))
    return machine.launch(kernel, memory, grid, block, given, dynamic_shared_bytes, step_limit)
