"""What others in the process would meet of fidfast's: errors that were reported, memory taken late, streams held up."""

from ctypes import byref, c_double, c_size_t, c_uint, c_void_p

import numpy as np
import pytest
from device_arrays import DeviceArray
from runtime_calls import OUT_OF_MEMORY, fill, scratch

from fidfast import Moments

pytestmark = pytest.mark.usefixtures("extension")

LEGACY = 0


def index_of(cuda, name, work):
    """Which of the calls of work() is the first of that name, as `Standin.failing` counts."""
    cuda.clear_calls()
    work()
    return [call.name for call in cuda.calls()].index(name) + 1


@pytest.mark.parametrize("name", ["cudaMalloc", "cudaHostAlloc", "cudaMemsetAsync"])
def test_an_error_that_was_reported_is_no_later_calls(cuda, name):
    """What torch asks for after its own launches would else be ours."""
    place = index_of(cuda, name, lambda: Moments(3, device="cuda:0"))
    with cuda.failing(place), pytest.raises((RuntimeError, MemoryError)):
        Moments(3, device="cuda:0")
    assert cuda.status_of("cudaGetLastError") == 0


def test_memory_that_cannot_be_freed_leaves_no_error(cuda):
    moments = Moments(3, device="cuda:0")
    cuda.clear_calls()
    with cuda.failing(1) as happened:
        del moments
        assert happened()
    assert cuda.calls()[0].name in ("cudaFree", "cudaFreeHost")
    assert cuda.status_of("cudaGetLastError") == 0


def test_a_count_of_no_devices_leaves_no_error(cuda, extension):
    for state in ("none", "old", "no device"):
        cuda.set_driver(state)
        assert extension.device_count()[0] == 0
        assert cuda.status_of("cudaGetLastError") == 0
        cuda.set_driver("present")


@pytest.mark.parametrize("name", ["cudaMalloc", "cudaHostAlloc"])
def test_out_of_memory_is_a_memory_error_wherever_it_comes_from(cuda, name):
    place = index_of(cuda, name, lambda: Moments(3, device="cuda:0"))
    with cuda.failing(place, OUT_OF_MEMORY), pytest.raises(MemoryError):
        Moments(3, device="cuda:0")


def test_the_default_stream_and_ours_do_not_wait_for_each_other(rng, cuda, streams):
    """Its work may take long, and be that of anybody in the process."""
    stream = streams()
    moments = Moments(3, device="cuda:0")
    batch = DeviceArray(rng.standard_normal((5, 3)))
    cuda.synchronize()
    moments.update(batch, stream=stream)
    assert (waiting := cuda.pending()) > 0
    theirs = scratch()
    assert fill(cuda, theirs, 7, LEGACY) == 0
    cuda.synchronize(LEGACY)
    assert (theirs.to_numpy() == 0x07070707).all()
    assert cuda.pending() == waiting


def test_what_is_copied_from_pinned_memory_may_be_overwritten(rng, cuda, extension):
    """Of pinned memory a copy is made later, when the host's call has returned long ago."""
    values = rng.standard_normal((3, 3))
    size = values.nbytes
    place = c_void_p()
    cuda.call("cudaHostAlloc", byref(place), c_size_t(size), c_uint(0))
    pinned = np.ctypeslib.as_array((c_double * 9).from_address(place.value)).reshape(3, 3)
    empty = extension.Moments(3, "float64", 0).state()
    pinned[:] = values @ values.T
    expected = pinned.copy()
    state = {**empty, "count": 40, "mean": np.zeros(3), "mean_low": np.zeros(3), "scatter": pinned}
    moments = extension.Moments.from_state(state, 0)
    pinned[:] = 7.0
    assert np.array_equal(moments.state()["scatter"], expected)
    del pinned, state
    cuda.call("cudaFreeHost", place)


@pytest.mark.parametrize("n", [3, 1500])
def test_an_update_after_an_unmerge_takes_no_memory(rng, cuda, streams, n):
    """What is left of the rows that wait has room for all that may come."""
    rows = rng.standard_normal((40, 50))
    moments, part = Moments(50, "float64", device="cuda:0"), Moments(50, "float64", device="cuda:0")
    moments.update(DeviceArray(rows))
    part.update(DeviceArray(rows[10:30]))
    moments.unmerge(part)
    assert moments.num_samples == 20
    stream = streams()
    batch = DeviceArray(rng.standard_normal((n, 50)))
    cuda.clear_calls()
    moments.update(batch, stream=stream)
    assert not {call.name for call in cuda.calls()} & {"cudaMalloc", "cudaFree", "cudaStreamSynchronize"}
