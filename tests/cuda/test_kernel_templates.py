"""The shapes that most kernels have: nothing is left out, nothing is done twice, and what has no number counts.

The header alone is compiled, so that there can be fewer blocks than work. FIDFAST_CSRC names another csrc.
"""

import ctypes
import os
import shutil
import subprocess
from ctypes import c_int64, c_uint, c_void_p
from pathlib import Path

import numpy as np
import pytest
from device_arrays import DeviceArray

SOURCE = Path(__file__).parent / "kernel_shapes.cu"
CSRC = os.environ.get("FIDFAST_CSRC", str(Path(__file__).parents[2] / "csrc"))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The kernels in a library, and their PTX."""
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on PATH, so no kernel can be compiled")
    folder = tmp_path_factory.mktemp("shapes")
    options = ["-std=c++17", "-O1", "--extended-lambda", "--expt-relaxed-constexpr", f"-I{CSRC}", str(SOURCE)]
    shared = ["-cudart", "shared", "-shared", "-Xcompiler", "-fPIC", "-gencode=arch=compute_80,code=compute_80"]
    subprocess.run(["nvcc", *options, *shared, "-o", str(folder / "shapes.so")], check=True)
    subprocess.run(["nvcc", *options, "-arch=compute_80", "-ptx", "-o", str(folder / "shapes.ptx")], check=True)
    return folder


@pytest.fixture
def shapes(cuda, compiled):
    """Calls a function of kernel_shapes.cu, and waits for what it gives to the device."""
    library = ctypes.CDLL(str(compiled / "shapes.so"))
    cuda.load_ptx((compiled / "shapes.ptx").read_text(encoding="utf-8"))
    stream = cuda.new_stream()

    def call(name, *arguments):
        given = [c_void_p(each.address) if isinstance(each, DeviceArray) else each for each in arguments]
        assert getattr(library, name)(*given, c_void_p(stream)) == 0
        cuda.synchronize(stream)
        assert cuda.reasons() == []

    call.library = library
    yield call
    cuda.reset()
    cuda.destroy_stream(stream)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (31, 8), (32, 9), (33, 17), (65, 50)])
@pytest.mark.parametrize("blocks", [1, 3, 9])
def test_every_element_is_done_once(shapes, rows, columns, blocks):
    """By blocks that come again where there are fewer than columns."""
    counts = DeviceArray(np.zeros((columns, rows)))
    shapes("launch_elements", c_int64(rows), c_int64(columns), c_uint(blocks), counts)
    assert (counts.to_numpy() == 1).all()


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 700])
@pytest.mark.parametrize(("items", "blocks"), [(1, 1), (5, 5), (7, 3), (4, 1)])
def test_every_item_is_summed_once(shapes, rng, items, count, blocks):
    """Blocks use their shared memory again for each of several items."""
    values = rng.integers(-1000, 1000, (items, count)).astype(float)
    sums = DeviceArray(np.zeros(items))
    shapes("launch_items", c_int64(items), c_int64(count), c_uint(blocks), DeviceArray(values), sums)
    assert (sums.to_numpy() == values.sum(1)).all()


@pytest.mark.parametrize("n", [1, 7, 8, 9, 40])
@pytest.mark.parametrize("units", [1, 31, 32, 33, 70])
def test_every_unit_is_summed_once(shapes, rng, units, n):
    values = rng.integers(-1000, 1000, (n, units)).astype(float)
    sums = DeviceArray(np.zeros(units))
    shapes("launch_units", c_int64(units), c_int64(n), DeviceArray(values), sums)
    assert (sums.to_numpy() == values.sum(0)).all()


def test_extremes_and_what_is_no_number(shapes, rng):
    """NaN is the largest of all, wherever it stands; of the smallest nobody asks it."""
    values = rng.standard_normal((6, 300))
    for row, place in ((3, 0), (4, 170), (5, 299)):
        values[row, place] = np.nan
    largest, smallest = DeviceArray((6,)), DeviceArray((6,))
    shapes("launch_extremes", c_int64(6), c_int64(300), DeviceArray(values), largest, smallest)
    assert (largest.to_numpy()[:3] == values[:3].max(1)).all()
    assert np.isnan(largest.to_numpy()[3:]).all()
    assert (smallest.to_numpy()[:3] == values[:3].min(1)).all()


def test_blocks_cover_their_size_and_are_no_more_than_there_are(shapes):
    blocks = shapes.library.blocks
    blocks.restype = c_uint
    for size, of_block, most, expected in [(1, 8, 10, 1), (8, 8, 10, 1), (9, 8, 10, 2), (800, 8, 10, 10)]:
        assert blocks(c_int64(size), c_int64(of_block), c_int64(most)) == expected
