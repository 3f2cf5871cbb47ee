"""Time and peak memory of merging many files of moments, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import fidfast
from benchmarks import machine
from fidfast import Moments


def write_parts(folder: Path, parts: int, dim: int) -> tuple[Moments, int]:
    """Write a file for each part of one source, with mean and scatter of more than dim rows; the bytes of one.

    The moments of the first part are computed. The others have the same scatter and another mean: what is read and
    merged does not depend on the numbers.
    """
    from fidfast._files import SourcePart
    from fidfast._parts import save_parts

    rng = np.random.default_rng(0)
    n = dim + 1024
    rows = rng.standard_normal((n, dim), dtype=np.float32)
    first = Moments.from_features(rows, precision="float64")
    state = first.state()
    total = Moments(dim, precision="float64")
    for part in range(1, parts + 1):
        shifted = {**state, "0/mean": state["0/mean"] + rng.standard_normal(dim)}
        moments = Moments.from_state(shifted)
        path = folder / f"{part}.moments.npz"
        save_parts(path, moments, (SourcePart(part, parts, n * parts, "source"),))
        total.merge(moments)
    return total, path.stat().st_size


def measure(parts: int, dim: int) -> dict[str, Any]:
    """Seconds and bytes of the merge; its error against merging one after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        total, size = write_parts(folder, parts, dim)
        command = [sys.executable, "-m", "benchmarks.scale.merging", str(folder), str(folder / "merged")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
        found = json.loads(done.stdout)
        stats, expected = fidfast.GaussianStats.load(folder / "merged.npz"), total.stats()
    scale = np.sqrt(np.outer(np.diag(expected.sigma), np.diag(expected.sigma)))
    error = float(np.max(np.abs(stats.sigma - expected.sigma) / scale))
    assert stats.num_samples == total.num_samples, (stats.num_samples, total.num_samples)
    return {"parts": parts, "dim": dim, "file_bytes": size, "error": error, **found}


def main() -> None:
    """Merge the files of a folder, and write the statistics. Arguments: FOLDER OUT."""
    fidfast.fid(np.eye(3), np.eye(3))  # loads BLAS
    before = machine.memory(peak=True)
    start = time.perf_counter()
    fidfast.merge_parts(sys.argv[1]).moments.stats().save(sys.argv[2])
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "bytes": machine.memory(peak=True), "bytes_before": before}))


if __name__ == "__main__":
    main()
