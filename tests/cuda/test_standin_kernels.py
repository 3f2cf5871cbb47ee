"""Kernels compiled by nvcc, launched through the stand-in and run by the PTX interpreter."""

import ctypes
import gc
import shutil
import subprocess
import threading
from ctypes import byref, c_double, c_int, c_size_t, c_uint, c_void_p
from pathlib import Path

import numpy as np
import pytest
import standin
from device_arrays import DeviceArray
from ptx import machine

INVALID_CONFIGURATION, INVALID_FUNCTION, INVALID_HANDLE = 9, 98, 400
LAUNCH_FAILURE, UNKNOWN = 719, 999
SOURCE = Path(__file__).parent / "standin_kernels.cu"
LANGUAGE = ["-std=c++17"]


@pytest.fixture(scope="module")
def library_path(tmp_path_factory):
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on PATH, so no kernel can be compiled")
    path = tmp_path_factory.mktemp("kernels") / "libkernels.so"
    options = [*LANGUAGE, "-cudart", "shared", "-shared", "-Xcompiler", "-fPIC"]
    target = "-gencode=arch=compute_80,code=[sm_80,compute_80]"
    subprocess.run(["nvcc", *options, target, str(SOURCE), "-o", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def ptx(library_path):
    """The PTX in the library, without cuobjdump, which most tests do not need."""
    path = library_path.with_suffix(".ptx")
    subprocess.run(["nvcc", *LANGUAGE, "-arch=compute_80", "-ptx", str(SOURCE), "-o", str(path)], check=True)
    return path.read_text(encoding="utf-8")


@pytest.fixture
def kernels(cuda, library_path, ptx):
    loaded = ctypes.CDLL(str(library_path))
    cuda.load_ptx(ptx)
    return loaded


@pytest.fixture
def stream(cuda):
    made = cuda.new_stream()
    yield made
    cuda.reset()
    cuda.destroy_stream(made)


def scale(kernels, source, target, n, factor, stream, *, grid_y=1, block=32, shared_bytes=0):
    return kernels.launch_scale(
        c_void_p(source.address), c_void_p(target.address), c_int(n), c_double(factor), c_uint(grid_y), c_uint(block),
        c_uint(shared_bytes), c_void_p(stream),
    )  # fmt: skip


def synchronize(cuda, stream):
    return cuda.status_of("cudaStreamSynchronize", c_void_p(stream))


def test_a_kernel_runs_when_a_call_waits(cuda, kernels, stream, rng):
    values = rng.normal(size=50)
    source, target = DeviceArray(values), DeviceArray((50,))
    assert scale(kernels, source, target, 50, 2.5, stream) == 0
    assert np.isnan(target.to_numpy()).all()
    assert synchronize(cuda, stream) == 0
    assert (target.to_numpy() == 2.5 * values).all()
    (launch,) = cuda.calls()
    assert "scale" in launch.name
    assert launch.stream == stream
    assert cuda.reasons() == []


def test_ptx_is_extracted_from_a_library(cuda, kernels, library_path, stream):
    cuda.forget_kernels()
    try:
        cuda.load_kernels(library_path)
    except standin.UnavailableError as missing:
        pytest.skip(str(missing))
    source, target = DeviceArray(np.ones(3)), DeviceArray((3,))
    assert scale(kernels, source, target, 3, 2.0, stream) == 0
    assert synchronize(cuda, stream) == 0
    assert (target.to_numpy() == 2.0).all()
    with pytest.raises(RuntimeError, match="cuobjdump cannot read"):
        cuda.load_kernels(SOURCE)


def test_structs_and_dynamic_shared_memory(cuda, kernels, stream):
    values = np.arange(13, dtype=np.float32)
    row, result = DeviceArray(values), DeviceArray((1,), np.float32)
    arguments = c_void_p(row.address), c_int(13), c_void_p(result.address), c_uint(16), c_void_p(stream)
    assert kernels.launch_sum(*arguments) == 0
    assert synchronize(cuda, stream) == 0
    assert result.to_numpy() == values.sum()


def test_kernels_write_pinned_memory(cuda, kernels, stream):
    address = c_void_p()
    cuda.call("cudaHostAlloc", byref(address), c_size_t(32), c_uint(2))
    seen = (c_double * 4).from_address(address.value)
    seen[:] = [0.0] * 4
    source = DeviceArray(np.arange(4.0))
    arguments = c_void_p(source.address), address, c_int(4), c_double(3.0), c_uint(1), c_uint(32), c_uint(0)
    assert kernels.launch_scale(*arguments, c_void_p(stream)) == 0
    assert list(seen) == [0.0] * 4
    assert synchronize(cuda, stream) == 0
    assert list(seen) == [0.0, 3.0, 6.0, 9.0]
    cuda.call("cudaFreeHost", address)


def test_a_kernel_that_breaks_the_rules_loses_the_device(cuda, kernels, stream):
    source, target, unwritten = DeviceArray(np.ones(8)), DeviceArray((8,)), DeviceArray((8,))
    there = DeviceArray(np.ones(8), device=1)
    for arguments, reason in (
        ((source, target, 9), "out of bounds"),
        ((unwritten, target, 8), "never written"),
        ((there, target, 8), "memory of another device"),
    ):
        assert scale(kernels, *arguments, 1.0, stream) == 0
        assert synchronize(cuda, stream) == LAUNCH_FAILURE
        assert reason in cuda.reasons()[-1]
        assert scale(kernels, source, target, 8, 1.0, stream) == LAUNCH_FAILURE
        cuda.reset()


def test_a_kernel_with_a_freed_argument_fails(cuda, kernels, stream):
    target = DeviceArray((8,))
    assert scale(kernels, DeviceArray(np.ones(8)), target, 8, 1.0, stream) == 0
    assert synchronize(cuda, stream) == LAUNCH_FAILURE
    assert "out of bounds" in cuda.reasons()[-1]


@pytest.mark.parametrize(
    "options", [{"block": 1025}, {"grid_y": 65536}, {"grid_y": 0}, {"shared_bytes": 49153}], ids=str
)
def test_invalid_launch_configurations(cuda, kernels, stream, options):
    source, target = DeviceArray(np.ones(8)), DeviceArray((8,))
    assert scale(kernels, source, target, 8, 1.0, stream, **options) == INVALID_CONFIGURATION
    assert cuda.pending() == 0


def test_a_launch_needs_the_current_device_and_ptx(cuda, kernels, stream):
    source, target = DeviceArray(np.ones(8)), DeviceArray((8,))
    cuda.current_device = 1
    assert scale(kernels, source, target, 8, 1.0, stream) == INVALID_HANDLE
    assert "a stream of device 0 while device 1 is current" in cuda.reasons()[-1]
    cuda.current_device = 0
    cuda.forget_kernels()
    assert scale(kernels, source, target, 8, 1.0, stream) == INVALID_FUNCTION
    assert "no PTX is loaded" in cuda.reasons()[-1]


def test_an_injected_failure_of_a_launch(cuda, kernels, stream):
    source, target = DeviceArray(np.ones(8)), DeviceArray((8,))
    with cuda.failing(1) as happened:
        assert scale(kernels, source, target, 8, 1.0, stream) == UNKNOWN
        assert happened()
    assert cuda.pending() == 0


def test_no_garbage_is_collected_while_a_kernel_runs(cuda, kernels, stream, monkeypatch):
    """It could be an object of the extension, whose memory is freed after all queued work has run."""
    launch, seen = machine.launch, []
    monkeypatch.setattr(
        machine, "launch", lambda *arguments, **options: (seen.append(gc.isenabled()), launch(*arguments, **options))
    )
    source, target = DeviceArray(np.ones(8)), DeviceArray((8,))
    assert scale(kernels, source, target, 8, 1.0, stream) == 0
    assert synchronize(cuda, stream) == 0
    assert seen == [False]
    assert gc.isenabled()


def test_a_thread_that_holds_the_gil_does_not_block_a_kernel(cuda, kernels, stream):
    """One thread runs kernels, which need the GIL; another thread calls the runtime while it holds the GIL."""
    n = 2000
    source, target = DeviceArray(np.ones(n)), DeviceArray((n,))
    for _ in range(20):
        assert scale(kernels, source, target, n, 1.0, stream) == 0
    with_gil = ctypes.PyDLL("libcudart.so.13")
    runner = threading.Thread(target=synchronize, args=(cuda, stream), daemon=True)
    runner.start()
    for _ in range(2000):
        assert with_gil.cudaFree(None) == 0
    runner.join(timeout=30)
    assert not runner.is_alive()
    assert cuda.pending() == 0
