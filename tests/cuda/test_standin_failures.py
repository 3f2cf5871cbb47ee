"""Errors, devices, injected failures, and logs of the stand-in."""

import ctypes
from ctypes import byref, c_int, c_size_t, c_uint, c_void_p

import numpy as np
import pytest
from device_arrays import DeviceArray
from runtime_calls import (
    INVALID_HANDLE,
    LAUNCH_FAILURE,
    ON_DEVICE,
    OUT_OF_MEMORY,
    TO_HOST,
    UNKNOWN,
    copy,
    fill,
    scratch,
    synchronize,
)


def test_a_failed_device_is_lost_and_the_other_is_not(cuda, streams):
    stream, other, array = streams(), streams(1), scratch(device=1)
    unwritten, target = scratch(), scratch()
    copy(cuda, target.address, unwritten.address, 16, ON_DEVICE, stream)
    assert synchronize(cuda, stream) == LAUNCH_FAILURE
    address = c_void_p()
    for _ in range(2):
        assert cuda.status_of("cudaMalloc", byref(address), c_size_t(8)) == LAUNCH_FAILURE
        assert cuda.status_of("cudaGetLastError") == LAUNCH_FAILURE
    cuda.current_device = 1
    assert fill(cuda, array, 1, other) == 0
    assert synchronize(cuda, other) == 0


def test_driver_states(cuda):
    count, version = c_int(-1), c_int(-1)
    for state, error, expected in (("none", 35, 0), ("old", 35, 12040), ("no device", 100, 13000)):
        cuda.set_driver(state)
        assert cuda.status_of("cudaGetDeviceCount", byref(count)) == error
        assert cuda.status_of("cudaDriverGetVersion", byref(version)) == 0
        assert version.value == expected
        assert cuda.status_of("cublasCreate_v2", byref(c_void_p())) == 1
    cuda.set_driver("present")
    assert cuda.status_of("cudaGetDeviceCount", byref(count)) == 0
    assert count.value == 2


def test_devices(cuda):
    cuda.set_device(1, compute_capability=(9, 0), single_to_double_ratio=64)
    value = c_int()
    for attribute, expected in ((75, 9), (76, 0), (87, 64), (16, 4), (1, 0)):
        cuda.call("cudaDeviceGetAttribute", byref(value), attribute, 1)
        assert value.value == expected
    assert cuda.status_of("cudaSetDevice", 2) == 101
    name = ctypes.create_string_buffer(4096)
    cuda.call("cudaGetDeviceProperties", name, 1)
    assert name.value == b"Stand-in 1"


@pytest.fixture
def recorded():
    """The libraries, for calls that are recorded like those of the extension."""
    return ctypes.CDLL("libcudart.so.13"), ctypes.CDLL("libcublas.so.13"), ctypes.CDLL("libcusolver.so.12")


def test_injected_failures(cuda, recorded):
    runtime, blas, solver = recorded
    address, handle = c_void_p(), c_void_p()
    with cuda.failing(2) as happened:
        assert runtime.cudaMalloc(byref(address), c_size_t(8)) == 0
        cuda.free(cuda.allocate(8))  # the test's own calls do not count
        assert not happened()
        assert runtime.cudaMalloc(byref(handle), c_size_t(8)) == OUT_OF_MEMORY
        assert happened()
    assert handle.value is None
    assert runtime.cudaGetLastError() == OUT_OF_MEMORY
    assert runtime.cudaGetLastError() == 0
    for status, create in ((14, blas.cublasCreate_v2), (7, solver.cusolverDnCreate)):
        with cuda.failing(1):
            assert create(byref(handle)) == status
        assert handle.value is None
    with cuda.failing(1, status=13):
        assert blas.cublasCreate_v2(byref(handle)) == 13
    with cuda.failing(1):
        assert runtime.cudaFree(address) == UNKNOWN  # and releases
    assert cuda.live()["allocation"] == 0


def test_a_failed_wait_drops_queued_work(cuda, recorded, streams):
    stream, host, array = streams(), np.zeros(4, np.int32), DeviceArray(np.ones(4, np.int32))
    copy(cuda, host.ctypes.data, array.address, 16, TO_HOST, stream)
    with cuda.failing(1):
        assert recorded[0].cudaStreamSynchronize(c_void_p(stream)) == UNKNOWN
    assert synchronize(cuda, stream) == 0  # writes nothing to memory that the caller may have freed
    assert (host == 0).all()


def test_calls_are_logged_and_objects_counted(cuda, recorded):
    runtime, blas, _ = recorded
    stream, address, handle, before = c_void_p(), c_void_p(), c_void_p(), cuda.live()
    runtime.cudaStreamCreateWithFlags(byref(stream), c_uint(1))
    runtime.cudaMalloc(byref(address), c_size_t(8))
    runtime.cudaMemsetAsync(address, 0, c_size_t(8), stream)
    blas.cublasCreate_v2(byref(handle))
    assert {kind: count - before[kind] for kind, count in cuda.live().items() if count != before[kind]} == {
        "stream": 1,
        "allocation": 1,
        "cublas handle": 1,
    }
    blas.cublasDestroy_v2(handle)
    runtime.cudaFree(address)
    runtime.cudaStreamDestroy(stream)
    assert cuda.live() == before
    assert cuda.calls() == [
        ("cudaStreamCreateWithFlags", 0, 0),
        ("cudaMalloc", 0, 0),
        ("cudaMemsetAsync", 0, stream.value),
        ("cublasCreate_v2", 0, 0),
        ("cublasDestroy_v2", 0, 0),
        ("cudaFree", 0, 0),
        ("cudaStreamDestroy", 0, stream.value),
    ]
    assert blas.cublasDestroy_v2(handle) == 7
    assert runtime.cudaStreamSynchronize(stream) == INVALID_HANDLE
    assert cuda.reasons()[0].startswith("cublasDestroy_v2: destroyed cublas handle")
    assert cuda.reasons()[1].startswith("cudaStreamSynchronize: destroyed stream")


def test_queued_work_of_a_destroyed_stream_runs(cuda):
    stream, array = cuda.new_stream(), scratch()
    fill(cuda, array, 1, stream)
    cuda.destroy_stream(stream)
    assert not cuda.is_written(array.address, 16)
    assert cuda.status_of("cudaDeviceSynchronize") == 0
    assert cuda.is_written(array.address, 16)
