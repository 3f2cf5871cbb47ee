"""The runtime of the stand-in: each rule is tested by a program that breaks it."""

import ctypes
import signal
import subprocess
import sys
import threading
from ctypes import byref, c_double, c_int, c_size_t, c_uint, c_void_p
from pathlib import Path

import numpy as np
import pytest
import standin
from device_arrays import DeviceArray
from runtime_calls import (
    INVALID_HANDLE,
    INVALID_VALUE,
    LAUNCH_FAILURE,
    NOT_READY,
    ON_DEVICE,
    OUT_OF_MEMORY,
    TO_DEVICE,
    TO_HOST,
    copy,
    fill,
    scratch,
    synchronize,
)

LEGACY, PER_THREAD = 0, 2


# Memory


@pytest.mark.parametrize(
    "statement",
    [
        "ctypes.string_at(cuda.allocate(8), 1)",  # device memory
        "ctypes.memset(cuda.allocate(8), 0, 1)",
        "ctypes.string_at(pinned + 256, 1)",  # past the end of pinned memory
        "cuda.call('cudaFreeHost', ctypes.c_void_p(pinned)); ctypes.string_at(pinned, 1)",
        "ctypes.string_at(cuda.new_stream(), 1)",  # inside a handle
    ],
)
def test_invalid_accesses_of_the_host_crash(cuda, statement):
    program = f"""
import ctypes, standin
cuda = standin.load()
address = ctypes.c_void_p()
cuda.call("cudaHostAlloc", ctypes.byref(address), ctypes.c_size_t(256), 0)
pinned = address.value
ctypes.memset(pinned, 0, 256)
print("before", flush=True)
{statement}
print("after")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=Path(standin.__file__).parent
    )
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "before\n"), done.stderr


def test_reads_of_uninitialised_memory_fail(cuda, streams):
    stream, source, target = streams(), scratch(), scratch()
    assert copy(cuda, target.address, source.address, 16, ON_DEVICE, stream) == 0
    assert synchronize(cuda, stream) == LAUNCH_FAILURE
    assert "source: byte 0 is read but was never written" in cuda.reasons()[-1]


def test_sizes_and_kinds_of_copies_are_checked(cuda, streams):
    stream, array, host = streams(), scratch(), ctypes.create_string_buffer(32)
    address = ctypes.addressof(host)
    assert copy(cuda, array.address, address, 17, TO_DEVICE, stream) == INVALID_VALUE
    assert "destination reaches 1 bytes past the end" in cuda.reasons()[-1]
    assert copy(cuda, array.address, address, 16, TO_HOST, stream) == INVALID_VALUE
    assert "the kind of copy does not fit the pointers" in cuda.reasons()[-1]
    assert copy(cuda, array.address, array.address + 4, 8, ON_DEVICE, stream) == INVALID_VALUE
    assert "overlap" in cuda.reasons()[-1]
    assert cuda.status_of("cudaMemset", c_void_p(address), 0, c_size_t(8)) == INVALID_VALUE
    assert "no device memory" in cuda.reasons()[-1]
    assert cuda.pending() == 0


def test_use_after_free_fails(cuda, streams):
    stream, address = streams(), cuda.allocate(64)
    cuda.free(address)
    assert cuda.status_of("cudaFree", c_void_p(address)) == INVALID_VALUE
    assert "was freed" in cuda.reasons()[-1]
    later = cuda.allocate(64)
    assert later != address
    cuda.free(later)
    assert cuda.status_of("cudaMemsetAsync", c_void_p(address), 0, c_size_t(8), c_void_p(stream)) == INVALID_VALUE
    assert "destination was freed" in cuda.reasons()[-1]


def test_freeing_an_array_before_its_work_has_run_fails(cuda, streams):
    other, array = streams(), scratch()
    assert fill(cuda, array, 1, other) == 0
    del array
    assert synchronize(cuda, other) == LAUNCH_FAILURE
    assert "was freed before the work on it ran" in cuda.reasons()[-1]


def test_an_array_may_be_freed_before_the_work_in_its_own_stream(cuda, streams):
    own = streams()
    array = scratch(stream=own)
    assert fill(cuda, array, 1, own) == 0
    del array
    assert synchronize(cuda, own) == 0


def test_allocation_in_stream_order(cuda, streams):
    first, second, address = streams(), streams(), c_void_p()
    cuda.call("cudaMallocAsync", byref(address), c_size_t(16), c_void_p(first))
    fill_ = "cudaMemsetAsync", address, 1, c_size_t(16)
    assert cuda.status_of(*fill_, c_void_p(first)) == 0
    assert synchronize(cuda, first) == 0
    cuda.call("cudaFreeAsync", address, c_void_p(first))
    assert cuda.status_of(*fill_, c_void_p(first)) == INVALID_VALUE
    assert "was freed (by cudaFreeAsync)" in cuda.reasons()[-1]
    assert synchronize(cuda, first) == 0
    cuda.call("cudaMallocAsync", byref(address), c_size_t(16), c_void_p(first))
    assert cuda.status_of("cudaMemsetAsync", address, 1, c_size_t(16), c_void_p(second)) == 0
    assert synchronize(cuda, second) == LAUNCH_FAILURE
    assert "used before its stream has allocated it" in cuda.reasons()[-1]
    cuda.reset()
    cuda.free(address.value)


def test_capacity(cuda):
    cuda.set_device(0, capacity=1000)
    free, total, address = c_size_t(), c_size_t(), c_void_p()
    held = cuda.allocate(600)
    cuda.call("cudaMemGetInfo", byref(free), byref(total))
    assert (free.value, total.value) == (400, 1000)
    assert cuda.status_of("cudaMalloc", byref(address), c_size_t(401)) == OUT_OF_MEMORY
    assert address.value is None
    cuda.free(held)
    cuda.free(cuda.allocate(1000))


def test_pinned_memory(cuda, streams):
    stream, target, address, on_device = streams(), scratch(), c_void_p(), c_void_p()
    cuda.call("cudaHostAlloc", byref(address), c_size_t(16), c_uint(2))
    cuda.call("cudaHostGetDevicePointer", byref(on_device), address, c_uint(0))
    assert on_device.value == address.value
    ctypes.memset(address, 1, 16)
    assert copy(cuda, target.address, address.value, 16, TO_DEVICE, stream) == 0
    ctypes.memset(address, 2, 16)  # too early: the copy has not run
    assert synchronize(cuda, stream) == 0
    assert (target.to_numpy().view(np.uint8) == 2).all()
    cuda.call("cudaFreeHost", address)


def test_two_dimensional_copies(cuda, streams, rng):
    values = rng.normal(size=(3, 5))
    stream, target, result = streams(), DeviceArray((3, 4), row_padding=2), np.zeros((3, 4))
    pitches = c_size_t(target.strides[0]), c_size_t(values.strides[0])
    cuda.call("cudaMemcpy2DAsync", c_void_p(target.address), pitches[0], values.ctypes.data_as(c_void_p), pitches[1],
              c_size_t(32), c_size_t(3), TO_DEVICE, c_void_p(stream))  # fmt: skip
    cuda.call("cudaMemcpy2DAsync", result.ctypes.data_as(c_void_p), c_size_t(32), c_void_p(target.address), pitches[0],
              c_size_t(32), c_size_t(3), TO_HOST, c_void_p(stream))  # fmt: skip
    assert (result == 0).all()
    assert synchronize(cuda, stream) == 0
    assert (result == values[:, :4]).all()


# Streams and events


def test_nothing_runs_before_a_call_waits(cuda, streams):
    stream, host = streams(), (c_double * 2)(1.0, 2.0)
    array, size = DeviceArray((2,)), ctypes.sizeof(host)
    assert copy(cuda, array.address, ctypes.addressof(host), size, TO_DEVICE, stream) == 0
    host[0] = 3.0  # pageable memory was read at the call
    assert copy(cuda, ctypes.addressof(host), array.address, size, TO_HOST, stream) == 0
    assert cuda.status_of("cudaStreamQuery", c_void_p(stream)) == NOT_READY
    assert host[0] == 3.0
    assert np.isnan(array.to_numpy()).all()
    assert synchronize(cuda, stream) == 0
    assert host[0] == 1.0
    assert cuda.status_of("cudaStreamQuery", c_void_p(stream)) == 0


def test_waiting_runs_only_the_work_that_it_depends_on(cuda, streams):
    first, second, third = streams(), streams(), streams()
    a, b, c, d = (scratch() for _ in range(4))
    fill(cuda, a, 1, first)
    cuda.wait_for(second, first)
    fill(cuda, b, 1, second)
    fill(cuda, c, 1, first)  # after what the second stream waits for
    fill(cuda, d, 1, third)
    assert synchronize(cuda, second) == 0
    assert [cuda.is_written(array.address, 16) for array in (a, b, c, d)] == [True, True, False, False]
    assert [cuda.is_pending(stream) for stream in (first, second, third)] == [True, False, True]
    assert cuda.status_of("cudaDeviceSynchronize") == 0
    assert cuda.pending() == 0


def test_unsynchronised_streams_run_in_an_adverse_order(cuda, streams):
    first, second, source, target = streams(), streams(), scratch(), scratch()
    fill(cuda, source, 1, first)
    copy(cuda, target.address, source.address, 16, ON_DEVICE, second)  # no event between them
    assert cuda.status_of("cudaDeviceSynchronize") == LAUNCH_FAILURE
    assert "never written" in cuda.reasons()[-1]


@pytest.mark.parametrize("legacy", [LEGACY, 1])
def test_the_legacy_default_stream(cuda, streams, legacy):
    blocking, free = streams(blocking=True), streams()
    a, b, c, d = (scratch() for _ in range(4))
    fill(cuda, a, 1, blocking)
    fill(cuda, b, 1, free)
    fill(cuda, c, 1, legacy)
    fill(cuda, d, 1, blocking)
    assert cuda.status_of("cudaStreamQuery", c_void_p(legacy)) == NOT_READY
    assert synchronize(cuda, blocking) == 0  # d waits for c, and c for a
    assert [cuda.is_written(array.address, 16) for array in (a, b, c, d)] == [True, False, True, True]
    fill(cuda, a, 2, blocking)
    assert synchronize(cuda, legacy) == 0
    assert [cuda.is_pending(stream) for stream in (blocking, free)] == [False, True]


def test_the_default_stream_of_each_thread(cuda):
    array = scratch()
    fill(cuda, array, 1, PER_THREAD)
    thread = threading.Thread(target=synchronize, args=(cuda, PER_THREAD))
    thread.start()
    thread.join()
    assert cuda.is_pending(PER_THREAD)
    assert synchronize(cuda, PER_THREAD) == 0
    assert cuda.is_written(array.address, 16)


def test_events(cuda, streams):
    stream, event, array = streams(), c_void_p(), scratch()
    cuda.call("cudaEventCreateWithFlags", byref(event), c_uint(2))
    assert cuda.status_of("cudaEventQuery", event) == 0  # never recorded
    fill(cuda, array, 1, stream)
    cuda.call("cudaEventRecord", event, c_void_p(stream))
    fill(cuda, array, 2, stream)
    assert cuda.status_of("cudaEventQuery", event) == NOT_READY
    assert cuda.status_of("cudaEventSynchronize", event) == 0
    assert (array.to_numpy() == 0x01010101).all()
    assert cuda.is_pending(stream)
    cuda.current_device = 1
    assert cuda.status_of("cudaEventRecord", event, c_void_p(0)) == INVALID_HANDLE
    assert "an event of device 0 in a stream of device 1" in cuda.reasons()[-1]
    cuda.call("cudaEventDestroy", event)
    assert cuda.status_of("cudaEventDestroy", event) == INVALID_HANDLE
    assert "destroyed event" in cuda.reasons()[-1]


def test_synchronous_copies_wait_as_documented(cuda, streams):
    host, a, b = (ctypes.c_int * 4)(*range(4)), scratch(), scratch()
    arguments = c_size_t(16), c_int(TO_DEVICE)
    cuda.call("cudaMemcpy", c_void_p(a.address), host, *arguments)
    assert cuda.is_pending(LEGACY)  # pageable memory was read, but the copy may not be complete
    cuda.call("cudaMemcpy", c_void_p(b.address), c_void_p(a.address), c_size_t(16), c_int(ON_DEVICE))
    assert not cuda.is_written(b.address, 16)
    cuda.call("cudaMemcpy", host, c_void_p(b.address), c_size_t(16), c_int(TO_HOST))
    assert cuda.pending() == 0
