"""Print the peak memory in bytes of an interpreter with NumPy, and of a stream of ROWS rows.

Arguments: ROWS DIM [FUNCTION]. With FUNCTION: of this function of two sets of ROWS rows instead of the stream.
"""

import re
import resource
import sys
from pathlib import Path

import numpy as np


def peak() -> int:
    """Peak memory of this process; on Linux not from getrusage, where a child starts with the peak of its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text()).group(1))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


rows, dim = map(int, sys.argv[1:3])
rng = np.random.default_rng(0)
batch = rng.standard_normal((1000, dim), dtype=np.float32)
interpreter = peak()

import fidfast  # noqa: E402

for function in sys.argv[3:]:
    getattr(fidfast, function)(*(rng.standard_normal((rows, dim), dtype=np.float32) for _ in range(2)))
    print(interpreter, peak())
    sys.exit()

moments = fidfast.Moments(dim)
for _ in range(rows // len(batch)):
    moments.update(batch)
    batch += 1e-3  # in place, so that only the memory of fidfast grows
stats = moments.stats()
assert stats.num_samples == rows
print(interpreter, peak())
