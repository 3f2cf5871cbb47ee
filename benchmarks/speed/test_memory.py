"""Peak memory, each case in a separate process. The times are not used."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("memory.py")


def memory_above_interpreter(benchmark, task: str, *arguments: object) -> float:
    """Bytes above those of the interpreter; also stored in the extra information of the case."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]

    def run() -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    interpreter, peak = map(int, benchmark.pedantic(run, rounds=1).split())
    benchmark.extra_info["memory_of"] = task
    benchmark.extra_info["megabytes_above_the_interpreter"] = (peak - interpreter) / 1e6
    return peak - interpreter


@pytest.mark.benchmark(group="memory of a stream")
@pytest.mark.parametrize("rows", [10_000, 1_000_000])
def test_stream(benchmark, rows, dim):
    if benchmark.disabled:
        rows = min(rows, 20_000)
    assert memory_above_interpreter(benchmark, f"a stream of {rows:,} rows", rows, dim) < 250e6


@pytest.mark.benchmark(group="memory of two sets")
@pytest.mark.parametrize("function", ["kid", "precision_recall"])
def test_two_sets(benchmark, function, sets, dim):
    task = f"{function} of 2 x {len(sets[0]):,} rows, with the rows"
    assert memory_above_interpreter(benchmark, task, len(sets[0]), dim, function) < 1e9
