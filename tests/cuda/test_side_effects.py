"""Effects on other users of CUDA in the process: pending errors, late allocations, blocked streams."""

from ctypes import byref, c_double, c_size_t, c_uint, c_void_p

import numpy as np
import pytest
from device_arrays import DeviceArray
from runtime_calls import OUT_OF_MEMORY, fill, scratch

from fidfast import Moments

pytestmark = pytest.mark.usefixtures("extension")

LEGACY = 0


def index_of(cuda, name, work):
    """The number of the first call of that name in work(), as `Standin.failing` counts."""
    cuda.clear_calls()
    work()
    return [call.name for call in cuda.calls()].index(name) + 1


@pytest.mark.parametrize("name", ["cudaMalloc", "cudaHostAlloc", "cudaMemsetAsync"])
def test_a_reported_error_is_cleared(cuda, name):
    """Otherwise torch would report it after one of its own launches."""
    index = index_of(cuda, name, lambda: Moments(3, device="cuda:0"))
    with cuda.failing(index), pytest.raises((RuntimeError, MemoryError)):
        Moments(3, device="cuda:0")
    assert cuda.status_of("cudaGetLastError") == 0


def test_a_failed_free_leaves_no_error(cuda):
    moments = Moments(3, device="cuda:0")
    cuda.clear_calls()
    with cuda.failing(1) as happened:
        del moments
        assert happened()
    assert cuda.calls()[0].name in ("cudaFree", "cudaFreeHost")
    assert cuda.status_of("cudaGetLastError") == 0


def test_counting_devices_without_a_driver_leaves_no_error(cuda, extension):
    for state in ("none", "old", "no device"):
        cuda.set_driver(state)
        assert extension.device_count()[0] == 0
        assert cuda.status_of("cudaGetLastError") == 0
        cuda.set_driver("present")


@pytest.mark.parametrize("name", ["cudaMalloc", "cudaHostAlloc"])
def test_out_of_memory_is_a_memory_error(cuda, name):
    index = index_of(cuda, name, lambda: Moments(3, device="cuda:0"))
    with cuda.failing(index, OUT_OF_MEMORY), pytest.raises(MemoryError):
        Moments(3, device="cuda:0")


def test_the_default_stream_and_fidfasts_stream_do_not_wait_for_each_other(rng, cuda, streams):
    stream = streams()
    moments = Moments(3, device="cuda:0")
    batch = DeviceArray(rng.standard_normal((5, 3)))
    cuda.synchronize()
    moments.update(batch, stream=stream)
    assert (waiting := cuda.pending()) > 0
    array = scratch()
    assert fill(cuda, array, 7, LEGACY) == 0
    cuda.synchronize(LEGACY)
    assert (array.to_numpy() == 0x07070707).all()
    assert cuda.pending() == waiting


def test_pinned_memory_may_be_overwritten_after_a_call(rng, cuda, extension):
    """Copies from pinned memory are asynchronous: they run after the call has returned."""
    values = rng.standard_normal((3, 3))
    address = c_void_p()
    cuda.call("cudaHostAlloc", byref(address), c_size_t(values.nbytes), c_uint(0))
    pinned = np.ctypeslib.as_array((c_double * 9).from_address(address.value)).reshape(3, 3)
    empty = extension.Moments(3, "float64", 0).state()
    pinned[:] = values @ values.T
    expected = pinned.copy()
    state = {**empty, "count": 40, "mean": np.zeros(3), "mean_low": np.zeros(3), "scatter": pinned}
    moments = extension.Moments.from_state(state, 0)
    pinned[:] = 7.0
    assert np.array_equal(moments.state()["scatter"], expected)
    del pinned, state
    cuda.call("cudaFreeHost", address)


@pytest.mark.parametrize("n", [3, 1500])
def test_an_update_after_an_unmerge_allocates_nothing(rng, cuda, streams, n):
    """The buffer of waiting rows keeps its size."""
    rows = rng.standard_normal((40, 50))
    moments, part = Moments(50, precision="float64", device="cuda:0"), Moments(50, precision="float64", device="cuda:0")
    moments.update(DeviceArray(rows))
    part.update(DeviceArray(rows[10:30]))
    moments.unmerge(part)
    assert moments.num_samples == 20
    stream = streams()
    batch = DeviceArray(rng.standard_normal((n, 50)))
    cuda.clear_calls()
    moments.update(batch, stream=stream)
    assert not {call.name for call in cuda.calls()} & {"cudaMalloc", "cudaFree", "cudaStreamSynchronize"}
