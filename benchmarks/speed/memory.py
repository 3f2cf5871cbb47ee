"""Prints the peak memory, in bytes, of an interpreter with NumPy, and of the work that the arguments name.

``moments ROWS DIM`` is a stream of so many rows to their statistics, ``kernel ROWS DIM`` the kernel distance of two
sets of so many rows, which are part of it.
"""

import re
import resource
import sys
from pathlib import Path

import numpy as np


def peak() -> int:
    """Of this process so far. On Linux not by getrusage, in which a child starts with its parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text()).group(1))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


work = sys.argv[1]
rows, dim = map(int, sys.argv[2:])
rng = np.random.default_rng(0)
batch = rng.standard_normal((1000, dim), dtype=np.float32)
interpreter = peak()

import fidfast  # noqa: E402

if work == "moments":
    moments = fidfast.Moments(dim)
    for _ in range(rows // len(batch)):
        moments.update(batch)
        batch += 1e-3  # in place: the stream's own memory is not what is measured
    stats = moments.stats()
    assert stats.num_samples == rows
else:
    assert work == "kernel"
    sets = [rng.standard_normal((rows, dim), dtype=np.float32) for _ in range(2)]
    assert fidfast.kid(*sets).num_samples == (rows, rows)
print(interpreter, peak())
