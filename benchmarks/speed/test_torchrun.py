"""Time of the moments of the same rows in one process with all cores, and in two processes of torchrun that share them.

After the start of the processes. The two processes have half of the cores each.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("sharing.py")


@contextmanager
def started(size: int, rows: int, dim: int) -> Iterator[list[subprocess.Popen[str]]]:
    """The processes, which wait for lines on standard input."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    threads = max(1, (os.cpu_count() or 1) // size)
    variables = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": threads}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rows), str(dim)],
            env={**os.environ, **{name: str(value) for name, value in variables.items()}, "RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.communicate()


@pytest.mark.benchmark(group="moments of 1,000,000 rows")
@pytest.mark.parametrize("tool", ["fidfast", "one process"])
def test_moments(benchmark, tool, dim):
    rows = 1_000_000 if dim >= 1024 and not benchmark.disabled else 50_000
    size = 2 if tool == "fidfast" else 1
    with started(size, rows, dim) as processes:

        def compute() -> list[str]:
            for process in processes:
                print(file=process.stdin, flush=True)
            return [process.stdout.readline() for process in processes]

        found = compute()  # also starts SciPy and the connections
        assert {line.split()[0] for line in found} == {str(rows)}
        assert len(set(found)) == 1
        benchmark.pedantic(compute, rounds=3)
