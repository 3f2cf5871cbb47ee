"""Print the peak of this process's own memory in megabytes while a function reads features from files.

Arguments: FUNCTION ROWS DIM [FORMAT] [FOLDER]. FUNCTION is a function of `fidfast` of two sets of features, or
`compare`, of three. Each set has ROWS rows of float32 in FORMAT: one npy (default), or shards as npy-shards,
safetensors or parquet, or zarr. They are written to a temporary folder in FOLDER. Own memory is ``RssAnon`` of
/proc/self/status: the pages of mapped files, which the system can drop, do not count.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

import fidfast

#: Rows that are written at a time.
_ROWS = 8192


def own_memory() -> int:
    """``RssAnon`` of this process in bytes."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))


class Peak:
    """The largest own memory within the block, above that at its start, in bytes."""

    def __enter__(self) -> Peak:
        self._ended = threading.Event()
        self._before = self._most = own_memory()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.002):
            self._most = max(self._most, own_memory())

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.bytes = self._most - self._before


def blocks(rows: int, dim: int, seed: int):
    """Blocks of random features."""
    rng = np.random.default_rng(seed)
    for first in range(0, rows, _ROWS):
        yield (rng.standard_normal((min(_ROWS, rows - first), dim), dtype=np.float32) + 0.01 * seed).clip(0)


def write_npy(path: Path, rows: int, dim: int, seed: int) -> Path:
    """One ``.npy``."""
    file = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", np.float32, (rows, dim))
    first = 0
    for block in blocks(rows, dim, seed):
        file[first : first + len(block)] = block
        first += len(block)
    return path.with_suffix(".npy")


def write_shards(path: Path, rows: int, dim: int, seed: int, kind: str) -> Path:
    """A folder of files of `_ROWS` rows, or a zarr array of such chunks."""
    if kind == "zarr":
        import zarr

        array = zarr.create_array(path.with_suffix(".zarr"), shape=(rows, dim), chunks=(_ROWS, dim), dtype=np.float32)
        for i, block in enumerate(blocks(rows, dim, seed)):
            array[i * _ROWS : i * _ROWS + len(block)] = block
        return path.with_suffix(".zarr")
    path.mkdir()
    for i, block in enumerate(blocks(rows, dim, seed)):
        file = path / f"{i:05d}.{kind}"
        if kind == "npy":
            np.save(file, block)
        elif kind == "safetensors":
            from safetensors.numpy import save_file

            save_file({"features": block}, file)
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            array = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), dim)
            pq.write_table(pa.table({"features": array}), file)
    return path


def main() -> None:
    function, rows, dim = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    kind = sys.argv[4] if len(sys.argv) > 4 else "npy"
    with tempfile.TemporaryDirectory(dir=sys.argv[5] if len(sys.argv) > 5 else None) as folder:
        write = write_npy if kind == "npy" else lambda *args: write_shards(*args, kind.removesuffix("-shards"))
        sides = [write(Path(folder, f"{seed}"), rows, dim, seed) for seed in range(3 if function == "compare" else 2)]
        fidfast.fid(np.eye(3), np.eye(3))  # loads BLAS
        getattr(fidfast, function)(*(np.random.default_rng(i).random((1200, 8)) for i in range(len(sides))))
        with Peak() as peak:
            print(getattr(fidfast, function)(*sides))
        print(f"{function} {rows} x {dim} {kind}: {peak.bytes / 1e6:.0f} MB")


main()
