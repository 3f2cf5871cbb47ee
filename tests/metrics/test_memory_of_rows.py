"""Metrics of rows need no copy of the features: they run in less memory than one of a memory-mapped file."""

import os
import subprocess
import sys

import numpy as np
import pytest

CALLS = {
    "kid": "fidfast.kid(samples, reference)",
    "kid in float64": "fidfast.kid(samples, reference, precision='float64')",
    "cmmd": "fidfast.cmmd(samples, reference)",
    "precision_recall": "fidfast.precision_recall(samples, reference)",
    "cosine": "fidfast._core.mean_nearest_cosine_distance(np.load(samples), np.load(reference, mmap_mode='r'), True)",
}

PROGRAM = """
import resource, sys
import numpy as np
import fidfast

small = [np.random.default_rng(seed).random((600, 64), dtype=np.float32) for seed in (0, 1)]
for function in (fidfast.kid, fidfast.cmmd, fidfast.precision_recall):
    function(*small)  # loads BLAS
with open("/proc/self/status") as file:
    before = next(1024 * int(line.split()[1]) for line in file if line.startswith("VmData"))
limit = before + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
samples, reference = sys.argv[1:3]
print(CALL)
"""


def write_rows(path, n, dim, dtype, factor):
    """Random rows, of which the first and the last are multiplied by `factor`; returns the bytes of the rows."""
    rng = np.random.default_rng(n)
    rows = np.lib.format.open_memmap(path, "w+", dtype, (n, dim))
    for block in np.split(rows, range(64, n, 64)):
        block[:] = rng.standard_normal(block.shape, np.float32)
    rows[[0, -1]] *= dtype(factor)
    return rows.nbytes


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_DATA and /proc")
@pytest.mark.parametrize(
    ("call", "dtype", "n", "dim", "factor"),
    [
        ("kid", np.float32, 512, 2**16, 1e3),
        ("kid in float64", np.float32, 512, 2**16, 1.0),
        ("kid", np.float64, 512, 2**15, 2.0**150),
        ("cmmd", np.float32, 512, 2**16, 1e4),
        ("precision_recall", np.float32, 2048, 2**14, 1e3),
        ("cosine", np.float64, 1024, 2**14, 2.0**500),
    ],
)
def test_memory_is_below_a_copy_of_the_features(call, dtype, n, dim, factor, tmp_path):
    samples, reference = tmp_path / "samples.npy", tmp_path / "reference.npy"
    write_rows(samples, 48, dim, dtype, 1.0)
    size = write_rows(reference, n, dim, dtype, factor)  # 128 MiB: larger than all blocks of any function
    command = [sys.executable, "-c", PROGRAM.replace("CALL", CALLS[call]), samples, reference, str(size)]
    # Several threads of BLAS would wait for each other if the processors are busy.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
