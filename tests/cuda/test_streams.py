"""Updates on a device: the calls that they make, and the order of work in streams."""

import contextlib
import sys
import threading
import types

import ml_dtypes
import numpy as np
import pytest
from device_arrays import DeviceArray
from runtime_calls import assert_quiet, fill

import fidfast
from fidfast import Moments

pytestmark = pytest.mark.usefixtures("extension")

LEGACY = 1  # DLPack's number of the legacy default stream


def moments_on_host(*batches, dim=4):
    moments = Moments(dim, precision="float64")
    for batch in batches:
        moments.update(batch)
    return moments


def assert_near(moments, expected):
    assert moments.num_samples == expected.num_samples
    # Sums of n products in a different order: eps sqrt(n) times the variances, which are 1 here.
    np.testing.assert_allclose(moments.stats().sigma, expected.stats().sigma, rtol=0, atol=1e-12)
    np.testing.assert_allclose(moments.stats().mu, expected.stats().mu, rtol=0, atol=1e-12)


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_an_update_does_not_allocate_free_or_wait(rng, cuda, streams, dtype):
    """With batches that cross several blocks."""
    rows = rng.standard_normal((3600, 4)).astype(dtype)
    moments = Moments(4, device="cuda:0")
    stream = streams()
    batches = [DeviceArray(part, stream=stream) for part in np.split(rows, [2, 3, 800, 1100, 3300])]
    cuda.synchronize()
    cuda.clear_calls()
    for batch in batches:
        moments.update(batch, stream=stream)
    calls = cuda.calls()
    assert_quiet(calls)
    assert sum(call.name == "cublasDsyrk_v2" for call in calls) == 3
    assert cuda.pending() >= sum(call.name.startswith("_Z") for call in calls) > 0
    assert moments.num_samples == len(rows)  # does not wait either
    assert cuda.calls() == calls
    assert_near(moments, moments_on_host(rows))


@pytest.mark.parametrize("legacy", [False, True])
def test_the_producers_stream_and_fidfasts_stream_wait_for_each_other(rng, cuda, streams, legacy):
    """Arrays may be written after the update was called, and overwritten right after it, in the producer's stream."""
    rows = rng.standard_normal((30, 4))
    producer = LEGACY if legacy else streams()
    moments = Moments(4, precision="float64", device="cuda:0")
    for part in np.split(rows, [3, 20]):
        batch = DeviceArray(part, stream=producer)
        cuda.clear_calls()
        moments.update(batch, stream=0 if legacy else producer)
        assert_quiet(cuda.calls())
        assert np.isnan(batch.to_numpy()).all()  # nothing has run
        (requested,) = batch.requested_streams
        assert requested not in (None, 0, 1, 2, producer)  # fidfast's stream, which the exporter makes wait
        assert fill(cuda, batch, 0, producer) == 0
    cuda.synchronize(producer)
    assert_near(moments, moments_on_host(rows))
    assert cuda.pending() == 0


def test_the_stream_argument_is_waited_for(rng, cuda, streams):
    """Even if the exporter does not know that this stream writes the array."""
    rows = rng.standard_normal((30, 4)).astype(np.float32)
    batch = DeviceArray(np.ones_like(rows))
    writer = streams()
    moments = Moments(4, precision="float64", device="cuda:0")
    assert fill(cuda, batch, 0, writer) == 0
    moments.update(batch, stream=writer)
    assert moments.num_samples == 30
    assert not moments.stats().mu.any()


class WithCurrentDevice(DeviceArray):
    """Like torch tensors, which are exported only while their device is torch's current device."""

    is_cuda = True
    is_nested = is_quantized = is_meta = requires_grad = False
    layout = "strided"
    current = 0

    def is_conj(self):
        return False

    is_neg = is_conj

    def __dlpack__(self, **options):
        if WithCurrentDevice.current != self.device:
            raise BufferError("Can't export tensors on a different CUDA device index")
        return super().__dlpack__(**options)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_device_of_a_tensor_is_current_during_its_export(rng, cuda, monkeypatch, blocks):
    @contextlib.contextmanager
    def device(number):
        with monkeypatch.context() as changed:
            changed.setattr(WithCurrentDevice, "current", number)
            yield

    stream = types.SimpleNamespace(cuda_stream=LEGACY)
    calls = types.SimpleNamespace(device=device, current_stream=lambda number: stream)
    torch = types.SimpleNamespace(Tensor=WithCurrentDevice, cuda=calls, strided="strided")
    monkeypatch.setitem(sys.modules, "torch", torch)
    rows = rng.standard_normal((30, 4))
    moments = Moments(4, precision="float64", blocks=blocks)
    moments.update(WithCurrentDevice(rows, device=1))
    assert WithCurrentDevice.current == 0
    with pytest.raises(ValueError, match="5 columns"):
        moments.update(WithCurrentDevice(rng.standard_normal((3, 5)), device=1))
    assert WithCurrentDevice.current == 0
    assert moments.device == "cuda:1"
    np.testing.assert_allclose(moments.stats().sigma, np.cov(rows.T), rtol=0, atol=1e-14 * 30)
    assert fidfast.estimate(WithCurrentDevice(rows, device=1), rows + 1).num_samples == (30, 30)


def test_arrays_may_be_deleted_after_an_update(rng, cuda, streams):
    """Their memory is freed in the order of their stream, which waits until they were read."""
    rows = rng.standard_normal((1100, 4)).astype(np.float32)
    producer = streams()
    moments = Moments(4, device="cuda:0")
    for part in np.array_split(rows, 4):
        moments.update(DeviceArray(part, stream=producer), stream=producer)
    assert_near(moments, moments_on_host(rows))


def test_without_a_stream_the_host_waits(rng, cuda, streams):
    rows = rng.standard_normal((8, 4))
    producer = streams()
    batch = DeviceArray(rows, stream=producer)
    moments = Moments(4, precision="float64", device="cuda:0")
    cuda.clear_calls()
    moments.update(batch)
    assert cuda.calls()[-1].name == "cudaStreamSynchronize"
    assert cuda.pending() == 0
    assert fill(cuda, batch, 0, producer) == 0
    cuda.synchronize(producer)
    assert_near(moments, moments_on_host(rows))


def test_batches_of_several_streams(rng, cuda, streams):
    rows = rng.standard_normal((1200, 4))
    producers = [streams(), streams(), streams(blocking=True)]
    moments = Moments(4, precision="float64", device="cuda:0")
    batches = [DeviceArray(part, stream=producers[k % 3]) for k, part in enumerate(np.array_split(rows, 6))]
    for k, batch in enumerate(batches):
        moments.update(batch, stream=producers[k % 3])
        assert fill(cuda, batch, 0, producers[k % 3]) == 0
    for producer in producers[::-1]:
        cuda.synchronize(producer)
    assert_near(moments, moments_on_host(rows))


@pytest.mark.parametrize("current", [0, 1])
def test_updates_on_two_devices_keep_the_current_device(rng, cuda, streams, current):
    rows = rng.standard_normal((20, 4))
    cuda.current_device = current
    both = [Moments(4, precision="float64", device=f"cuda:{k}") for k in (0, 1)]
    producers = [streams(0), streams(1)]
    for part in np.split(rows, [3, 9]):
        for k in (0, 1):
            both[k].update(DeviceArray(part, device=k, stream=producers[k]), stream=producers[k])
            assert cuda.current_device == current
    assert both[0] == both[1]
    assert cuda.current_device == current
    assert_near(both[0], moments_on_host(rows))


def test_threads_that_update_the_same_moments(rng, cuda, streams):
    batches = [rng.standard_normal((40, 4)) for _ in range(60)]
    moments = Moments(4, precision="float64", device="cuda:0")
    failures = []

    def work(mine, producer):
        try:
            for batch in mine:
                moments.update(DeviceArray(batch, stream=producer), stream=producer)
                if len(failures) > 0:
                    return
            moments.stats()  # a reader among the writers
        except Exception as error:  # threads drop exceptions
            failures.append(error)

    producers = [streams(), streams()]
    threads = [threading.Thread(target=work, args=(batches[k::2], producers[k])) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    assert failures == []
    assert_near(moments, moments_on_host(*batches))
