"""Print the peak memory in bytes of an interpreter with NumPy, and of a stream of ROWS rows.

Arguments: ROWS DIM [FUNCTION]. With FUNCTION: of this function of two sets of ROWS rows instead of the stream.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[2]))
from benchmarks.machine import memory

rows, dim = map(int, sys.argv[1:3])
rng = np.random.default_rng(0)
batch = rng.standard_normal((1000, dim), dtype=np.float32)
interpreter = memory(peak=True)

import fidfast  # noqa: E402

for function in sys.argv[3:]:
    getattr(fidfast, function)(*(rng.standard_normal((rows, dim), dtype=np.float32) for _ in range(2)))
    print(interpreter, memory(peak=True))
    sys.exit()

moments = fidfast.Moments(dim)
for _ in range(rows // len(batch)):
    moments.update(batch)
    batch += 1e-3  # in place, so that only the memory of fidfast grows
stats = moments.stats()
assert stats.num_samples == rows
print(interpreter, memory(peak=True))
