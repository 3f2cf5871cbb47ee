"""Measured times of the operations whose cost grows with the number of samples or of workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fidfast
from benchmarks import machine

#: Rows in memory, which are updated repeatedly: larger than any cache.
POOL = 20_000
#: Rows of one update.
BATCH = 10_000


def features(dim: int, rows: int = POOL) -> NDArray[np.float32]:
    """Features with a decaying spectrum, like those of networks."""
    rng = np.random.default_rng(0)
    scale = np.logspace(0, -2, dim, dtype=np.float32)
    return rng.standard_normal((rows, dim), dtype=np.float32) * scale


def fastest(function: Callable[[], object], repeats: int) -> float:
    """The shortest time of some calls, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def update(moments: fidfast.Moments, pool: NDArray[np.float32], n: int) -> None:
    """Add n rows, in batches from the pool."""
    for first in range(0, n, BATCH):
        start = first % len(pool)
        moments.update(pool[start : start + min(BATCH, n - first)])


def over_samples(dim: int, numbers: Sequence[int], repeats: int) -> list[dict[str, float]]:
    """Seconds, and memory above that of the rows after the last update, of a stream of each length."""
    pool = features(dim)
    update(fidfast.Moments(dim), pool, BATCH)  # loads BLAS
    before = machine.memory(peak=False)
    found = []
    for n in numbers:
        memory = []

        def stream(n: int = n, memory: list[int] = memory) -> None:
            moments = fidfast.Moments(dim)
            update(moments, pool, n)
            memory.append(machine.memory(peak=False) - before)

        seconds = fastest(stream, repeats if n <= 100_000 else 1)
        found.append({"n": n, "seconds": seconds, "bytes": max(memory)})
    return found


def over_workers(dim: int, n: int, workers: Sequence[int], repeats: int) -> list[dict[str, float]]:
    """Seconds in which some processes with one thread each add n rows in all, without their start."""
    found = []
    for count in workers:
        shares = [n * (rank + 1) // count - n * rank // count for rank in range(count)]
        found.append({"workers": count, "seconds": min(_together(dim, shares) for _ in range(repeats))})
    return found


def _together(dim: int, shares: Sequence[int]) -> float:
    """The longest time of one process for each share, which begin together."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scale.rates", str(dim), str(share)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=root,
        )
        for share in shares
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # ready
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("start\n")
        process.stdin.flush()
    return max(json.loads(process.communicate()[0]) for process in processes)


def merge(dim: int, repeats: int) -> float:
    """Seconds of one merge of two moments with mean and scatter."""
    rows = features(dim, dim + 1000)
    one, two = fidfast.Moments.from_features(rows), fidfast.Moments.from_features(rows + 1)

    def both() -> None:
        for _ in range(10):
            one.merge(two)

    return fastest(both, repeats) / 10


def distance(dim: int, repeats: int) -> float:
    """Seconds of one distance of two covariances."""
    rows = features(dim, 2 * dim)
    sides = [fidfast.Moments.from_features(rows * scale).stats() for scale in (1.0, 1.1)]
    arrays = [(np.array(side.mu), np.array(side.sigma)) for side in sides]
    return fastest(lambda: fidfast.fid(*(fidfast.GaussianStats(*each) for each in arrays)), repeats)


def state_bytes(dim: int) -> int:
    """Bytes of the state of moments with more than dim rows, as it is sent and stored."""
    state = fidfast.Moments.from_features(features(dim, dim + 1024)).state()
    return sum(value.nbytes for key, value in state.items() if "rows" not in key)


def exponent(points: Sequence[dict[str, Any]], x: str, y: str) -> float:
    """Slope of log y over log x, by least squares."""
    return float(np.polyfit(*(np.log([point[name] for point in points]) for name in (x, y)), 1)[0])


def main() -> None:
    """Print the seconds of a process that adds rows after a line on standard input. Arguments: DIM ROWS."""
    dim, n = map(int, sys.argv[1:3])
    pool, moments = features(dim), fidfast.Moments(dim)
    update(fidfast.Moments(dim), pool, BATCH)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    update(moments, pool, n)
    print(json.dumps(time.perf_counter() - start))


if __name__ == "__main__":
    main()
