"""Print the memory of this process before the first batch and its peak, in bytes, for one tool.

Arguments: TOOL FOLDER. The folder holds ``features``, raw float32, and ``reference.npz``.
"""

import re
import resource
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[2]))
from benchmarks import peers  # noqa: F401  # so that the memory of its imports does not count
from benchmarks.gans.streaming_tools import TOOL
from fidfast import GaussianStats

_STATUS = Path("/proc/self/status")


def memory(key: str) -> int:
    """Current (VmRSS) or peak (VmHWM) memory in bytes; without /proc the peak."""
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * int(re.search(rf"{key}:\s*(\d+) kB", _STATUS.read_text()).group(1))


class Batches:
    """The batches in a file, one in memory at a time."""

    def __init__(self, path: Path, dim: int) -> None:
        self._path, self._dim = path, dim
        self._rows = path.stat().st_size // (4 * dim)

    def __iter__(self):
        with self._path.open("rb") as file:
            for start in range(0, self._rows, 250):
                rows = min(250, self._rows - start)
                yield torch.from_numpy(np.fromfile(file, np.float32, rows * self._dim).reshape(rows, self._dim))

    def __len__(self) -> int:
        return self._rows


tool, folder = sys.argv[1], Path(sys.argv[2])
if _STATUS.exists():
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the imports does not count
before = memory("VmRSS")
reference = GaussianStats.load(folder / "reference.npz")
distance = TOOL[tool](reference)
distance(Batches(folder / "features", reference.dim))
print(before, memory("VmHWM"))
