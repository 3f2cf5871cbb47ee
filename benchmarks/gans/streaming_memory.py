"""Print the memory of this process before the first batch and its peak, in bytes, for one tool.

Arguments: TOOL FOLDER. The folder holds ``features``, raw float32, and ``reference.npz``.
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[2]))
from benchmarks import machine, peers  # noqa: F401  # so that the memory of its imports does not count
from benchmarks.gans.streaming_tools import TOOL
from fidfast import GaussianStats


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
if (clear := Path("/proc/self/clear_refs")).exists():
    clear.write_text("5")  # the peak of the imports does not count
before = machine.memory(peak=False)
reference = GaussianStats.load(folder / "reference.npz")
distance = TOOL[tool](reference)
distance(Batches(folder / "features", reference.dim))
print(before, machine.memory(peak=True))
