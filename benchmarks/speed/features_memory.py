"""Print the peak of this process's own memory in megabytes while a function reads features from files.

FUNCTION is a function of `fidfast` of two sets of features, or `compare`, of three. Each set has ROWS rows of float32
in FORMAT: one npy (default), or shards as npy-shards, safetensors or parquet, or zarr. They are written to a temporary
folder in FOLDER. With ``--distant N``, every N-th row is 1,000 times as far from the origin as the others. Own memory
is ``RssAnon`` of /proc/self/status: the pages of mapped files, which the system can drop, do not count.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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


def blocks(rows: int, dim: int, seed: int, distant: int | None) -> Iterator[NDArray[np.float32]]:
    """Blocks of random features."""
    rng = np.random.default_rng(seed)
    for first in range(0, rows, _ROWS):
        block = (rng.standard_normal((min(_ROWS, rows - first), dim), dtype=np.float32) + 0.01 * seed).clip(0)
        if distant is not None:
            block[-first % distant :: distant] *= 1e3
        yield block


def write_npy(path: Path, rows: int, dim: int, features: Iterator[NDArray[np.float32]]) -> Path:
    """One ``.npy``."""
    file = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", np.float32, (rows, dim))
    first = 0
    for block in features:
        file[first : first + len(block)] = block
        first += len(block)
    return path.with_suffix(".npy")


def write_shards(path: Path, rows: int, dim: int, features: Iterator[NDArray[np.float32]], kind: str) -> Path:
    """A folder of files of `_ROWS` rows, or a zarr array of such chunks."""
    if kind == "zarr":
        import zarr

        array = zarr.create_array(path.with_suffix(".zarr"), shape=(rows, dim), chunks=(_ROWS, dim), dtype=np.float32)
        for i, block in enumerate(features):
            array[i * _ROWS : i * _ROWS + len(block)] = block
        return path.with_suffix(".zarr")
    path.mkdir()
    for i, block in enumerate(features):
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("function", metavar="FUNCTION")
    parser.add_argument("rows", metavar="ROWS", type=int)
    parser.add_argument("dim", metavar="DIM", type=int)
    parser.add_argument("kind", metavar="FORMAT", nargs="?", default="npy")
    parser.add_argument("folder", metavar="FOLDER", nargs="?")
    parser.add_argument("--distant", metavar="N", type=int)
    given = parser.parse_args()
    function, rows, dim = getattr(fidfast, given.function), given.rows, given.dim
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        sides = []
        for seed in range(3 if given.function == "compare" else 2):
            path, features = Path(folder, f"{seed}"), blocks(rows, dim, seed, given.distant)
            if given.kind == "npy":
                sides.append(write_npy(path, rows, dim, features))
            else:
                sides.append(write_shards(path, rows, dim, features, given.kind.removesuffix("-shards")))
        fidfast.fid(np.eye(3), np.eye(3))  # loads BLAS
        function(*(np.random.default_rng(i).random((1200, 8)) for i in range(len(sides))))
        with Peak() as peak:
            print(function(*sides))
        distant = "" if given.distant is None else f", 1 in {given.distant:,} distant"
        print(f"{given.function} {rows} x {dim} {given.kind}{distant}: {peak.bytes / 1e6:.0f} MB")


main()
