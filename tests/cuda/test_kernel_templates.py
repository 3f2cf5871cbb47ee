"""The templates of most kernels: every element is processed exactly once, and reductions propagate NaN.

The header is compiled on its own, so that there can be fewer blocks than elements.
"""

import ctypes
import shutil
import subprocess
from ctypes import c_int64, c_uint, c_void_p
from pathlib import Path

import numpy as np
import pytest
from device_arrays import DeviceArray

SOURCE = Path(__file__).parent / "kernel_templates.cu"
CSRC = Path(__file__).parents[2] / "csrc"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The folder of a library with the kernels, and of their PTX."""
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on PATH, so no kernel can be compiled")
    folder = tmp_path_factory.mktemp("kernel_templates")
    options = ["-std=c++17", "-O1", "--extended-lambda", "--expt-relaxed-constexpr", f"-I{CSRC}", str(SOURCE)]
    shared = ["-cudart", "shared", "-shared", "-Xcompiler", "-fPIC", "-gencode=arch=compute_80,code=compute_80"]
    command = ["nvcc", *options, *shared, "--keep", "--keep-dir", str(folder), "-o", str(folder / "kernels.so")]
    subprocess.run(command, check=True)  # --keep leaves the PTX in the folder
    return folder


@pytest.fixture
def kernels(cuda, compiled):
    """Calls a function of kernel_templates.cu and waits for its work."""
    library = ctypes.CDLL(str(compiled / "kernels.so"))
    cuda.load_ptx((compiled / "kernel_templates.ptx").read_text(encoding="utf-8"))
    stream = cuda.new_stream()

    def call(name, *arguments):
        pointers = [c_void_p(each.address) if isinstance(each, DeviceArray) else each for each in arguments]
        assert getattr(library, name)(*pointers, c_void_p(stream)) == 0
        cuda.synchronize(stream)
        assert cuda.reasons() == []

    call.library = library
    yield call
    cuda.reset()
    cuda.destroy_stream(stream)


@pytest.mark.grid(keep=5)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (31, 8), (32, 9), (33, 17), (65, 50)])
@pytest.mark.parametrize("blocks", [1, 3, 9])
def test_every_element_is_processed_once(kernels, rows, columns, blocks):
    """With a grid-stride loop if there are fewer blocks than columns."""
    counts = DeviceArray(np.zeros((columns, rows)))
    kernels("launch_elements", c_int64(rows), c_int64(columns), c_uint(blocks), counts)
    assert (counts.to_numpy() == 1).all()


@pytest.mark.grid(keep=6)
@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 700])
@pytest.mark.parametrize(("items", "blocks"), [(1, 1), (5, 5), (7, 3), (4, 1)])
def test_every_item_is_summed_once(kernels, rng, items, count, blocks):
    """Blocks reuse their shared memory for several items."""
    values = rng.integers(-1000, 1000, (items, count)).astype(float)
    sums = DeviceArray(np.zeros(items))
    kernels("launch_items", c_int64(items), c_int64(count), c_uint(blocks), DeviceArray(values), sums)
    assert (sums.to_numpy() == values.sum(1)).all()


@pytest.mark.grid(keep=6)
@pytest.mark.parametrize("n", [1, 7, 8, 9, 40])
@pytest.mark.parametrize("units", [1, 31, 32, 33, 70])
def test_every_unit_is_summed_once(kernels, rng, units, n):
    values = rng.integers(-1000, 1000, (n, units)).astype(float)
    sums = DeviceArray(np.zeros(units))
    kernels("launch_units", c_int64(units), c_int64(n), DeviceArray(values), sums)
    assert (sums.to_numpy() == values.sum(0)).all()


def test_extremes(kernels, rng):
    """The largest value is NaN if there is a NaN. The smallest value is not tested with NaN."""
    values = rng.standard_normal((6, 300))
    for row, column in ((3, 0), (4, 170), (5, 299)):
        values[row, column] = np.nan
    largest, smallest = DeviceArray((6,)), DeviceArray((6,))
    kernels("launch_extremes", c_int64(6), c_int64(300), DeviceArray(values), largest, smallest)
    assert (largest.to_numpy()[:3] == values[:3].max(1)).all()
    assert np.isnan(largest.to_numpy()[3:]).all()
    assert (smallest.to_numpy()[:3] == values[:3].min(1)).all()


def test_number_of_blocks(kernels):
    blocks = kernels.library.blocks
    blocks.restype = c_uint
    for size, of_block, most, expected in [(1, 8, 10, 1), (8, 8, 10, 1), (9, 8, 10, 2), (800, 8, 10, 10)]:
        assert blocks(c_int64(size), c_int64(of_block), c_int64(most)) == expected
