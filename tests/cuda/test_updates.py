"""Updates on a device: what they call, what waits for what, and features that are not finite."""

import copy
import threading
from ctypes import byref, c_size_t

import ml_dtypes
import numpy as np
import pytest
from device_arrays import DeviceArray
from places import Host
from runtime_calls import fill

from fidfast import Moments

pytestmark = pytest.mark.usefixtures("extension")

HOST = Host()
LEGACY = 1  # the default stream that waits for all others, as DLPack counts it
#: What an update may call besides kernels: none of it allocates, frees or waits.
QUIET = {
    "cudaGetDeviceCount",
    "cudaGetDevice",
    "cudaSetDevice",
    "cudaMemcpyAsync",
    "cudaEventRecord",
    "cudaStreamWaitEvent",
    "cublasDsyrk_v2",
}


def moments_on_host(*batches, dim=4):
    moments = Moments(dim, "float64")
    for batch in batches:
        moments.update(batch)
    return moments


def assert_same(moments, expected):
    assert moments.num_samples == expected.num_samples
    ours, theirs = moments.stats(), expected.stats()
    # Sums of n products in another order: eps sqrt(n) of the variances, which are 1 here.
    np.testing.assert_allclose(ours.sigma, theirs.sigma, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.mu, theirs.mu, rtol=0, atol=1e-12)


def assert_quiet(calls):
    assert {call.name for call in calls if not call.name.startswith("_Z")} <= QUIET


# What waits for what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_an_update_allocates_nothing_frees_nothing_and_waits_for_nothing(rng, cuda, streams, dtype):
    """Over several borders of blocks; and nothing at all has run before something waits."""
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
    assert moments.num_samples == len(rows)  # neither does this wait
    assert cuda.calls() == calls
    assert_same(moments, moments_on_host(rows))


@pytest.mark.parametrize("legacy", [False, True])
def test_the_producers_stream_and_ours_wait_for_each_other(rng, cuda, streams, legacy):
    """A producer that writes late, and writes over its rows as soon as it may, disturbs nothing."""
    rows = rng.standard_normal((30, 4))
    producer = LEGACY if legacy else streams()
    moments = Moments(4, "float64", device="cuda:0")
    for part in np.split(rows, [3, 20]):
        batch = DeviceArray(part, stream=producer)
        cuda.clear_calls()
        moments.update(batch, stream=0 if legacy else producer)
        assert_quiet(cuda.calls())
        assert np.isnan(batch.to_numpy()).all()  # nothing has run
        (asked,) = batch.requested_streams
        assert asked not in (None, 0, 1, 2, producer)  # ours, which the exporter then makes wait
        assert fill(cuda, batch, 0, producer) == 0
    cuda.synchronize(producer)  # as far as this stream has come; ours may be behind where nothing has held it up
    assert_same(moments, moments_on_host(rows))
    assert cuda.pending() == 0


def test_a_producer_that_drops_its_rows_at_once(rng, cuda, streams):
    """Their memory goes in the order of their stream, which waits for the reading."""
    rows = rng.standard_normal((1100, 4)).astype(np.float32)
    producer = streams()
    moments = Moments(4, device="cuda:0")
    for part in np.array_split(rows, 4):
        moments.update(DeviceArray(part, stream=producer), stream=producer)
    assert_same(moments, moments_on_host(rows))


def test_without_a_stream_the_host_waits(rng, cuda, streams):
    rows = rng.standard_normal((8, 4))
    producer = streams()
    batch = DeviceArray(rows, stream=producer)
    moments = Moments(4, "float64", device="cuda:0")
    cuda.clear_calls()
    moments.update(batch)
    assert cuda.calls()[-1].name == "cudaStreamSynchronize"
    assert cuda.pending() == 0
    assert fill(cuda, batch, 0, producer) == 0
    cuda.synchronize(producer)
    assert_same(moments, moments_on_host(rows))


def test_batches_of_several_streams(rng, cuda, streams):
    rows = rng.standard_normal((1200, 4))
    producers = [streams(), streams(), streams(blocking=True)]
    moments = Moments(4, "float64", device="cuda:0")
    batches = [DeviceArray(part, stream=producers[k % 3]) for k, part in enumerate(np.array_split(rows, 6))]
    for k, batch in enumerate(batches):
        moments.update(batch, stream=producers[k % 3])
        assert fill(cuda, batch, 0, producers[k % 3]) == 0
    for producer in producers[::-1]:
        cuda.synchronize(producer)
    assert_same(moments, moments_on_host(rows))


@pytest.mark.parametrize("current", [0, 1])
def test_two_devices_take_turns_and_the_threads_device_stays(rng, cuda, streams, current):
    rows = rng.standard_normal((20, 4))
    cuda.current_device = current
    both = [Moments(4, "float64", device=f"cuda:{k}") for k in (0, 1)]
    producers = [streams(0), streams(1)]
    for part in np.split(rows, [3, 9]):
        for k in (0, 1):
            both[k].update(DeviceArray(part, device=k, stream=producers[k]), stream=producers[k])
            assert cuda.current_device == current
    assert both[0] == both[1]
    assert cuda.current_device == current
    assert_same(both[0], moments_on_host(rows))


def test_threads_on_one_object_lose_no_row(rng, cuda, streams):
    batches = [rng.standard_normal((40, 4)) for _ in range(60)]
    moments = Moments(4, "float64", device="cuda:0")
    failures = []

    def work(mine, producer):
        try:
            for batch in mine:
                moments.update(DeviceArray(batch, stream=producer), stream=producer)
                if len(failures) > 0:
                    return
            moments.stats()  # a reader among the writers
        except Exception as error:  # it would be lost with its thread
            failures.append(error)

    producers = [streams(), streams()]
    threads = [threading.Thread(target=work, args=(batches[k::2], producers[k])) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    assert failures == []
    assert_same(moments, moments_on_host(*batches))


# NaN and infinity ---------------------------------------------------------------------------------------------------


def with_bad_row(rows, row, value=np.nan):
    bad = rows.copy()
    bad[row, 1] = value
    return bad


@pytest.fixture
def collector(rng, streams):
    """Gives batches to moments on the device, in a stream."""

    class Collector:
        def __init__(self):
            self.stream = streams()
            self.moments = Moments(4, "float64", device="cuda:0")

        def give(self, rows):
            self.moments.update(DeviceArray(rows, stream=self.stream), stream=self.stream)

    made = Collector()
    yield made
    del made.moments  # before leaks are looked for


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_a_batch_that_is_not_finite_changes_nothing(rng, cuda, collector, dtype, value):
    rows = rng.standard_normal((10, 4)).astype(dtype)
    collector.give(rows[:3])
    before = copy.copy(collector.moments)
    cuda.clear_calls()
    collector.give(with_bad_row(rows, 6, value))
    assert_quiet(cuda.calls())
    with pytest.raises(ValueError, match=r"^features hold NaN or infinity; the first such row is 6$"):
        collector.moments.stats()
    assert collector.moments.num_samples == 3
    assert collector.moments == before
    collector.give(rows[3:])
    assert collector.moments == moments_of_batches(rows[:3], rows[3:])


def moments_of_batches(*batches):
    """On the device, by calls that have nothing to complain of."""
    moments = Moments(4, "float64", device="cuda:0")
    for batch in batches:
        moments.update(DeviceArray(batch))
    return moments


#: Rows before, and in the batch that is bad: what waits, what is folded, and by how many blocks.
SIZES = {
    "the first batch": (0, 3),
    "rows that are kept": (2, 2),
    "kept rows become waiting ones": (3, 60),
    "rows that wait": (60, 30),
    "one block folds": (1000, 30),
    "a whole block is folded where it lies": (0, 1024),
    "several blocks": (1100, 2200),
    "the last row of a block": (1020, 4),
}


@pytest.mark.parametrize("size", SIZES)
def test_batches_after_a_bad_one_are_void_until_it_is_found(rng, cuda, collector, size):
    first, bad = SIZES[size]
    rows = rng.standard_normal((first + bad, 4))
    later = [rng.standard_normal((n, 4)) for n in (5, 1030)]
    if first > 0:
        collector.give(rows[:first])
    before = copy.copy(collector.moments)
    collector.give(with_bad_row(rows[first:], bad - 1))
    collector.give(later[0])
    collector.give(with_bad_row(later[1], 4))  # one is enough
    text = f"the first such row is {bad - 1} of the batch before the last 2, which were left out with it"
    with pytest.raises(ValueError, match=text):
        collector.moments.stats()
    assert collector.moments.num_samples == first
    assert collector.moments == before
    collector.give(rows[first:])
    collector.give(later[1])
    expected = [rows[:first]] if first else []
    assert collector.moments == moments_of_batches(*expected, rows[first:], later[1])


def test_of_several_bad_rows_the_first_is_named(rng, collector):
    rows = rng.standard_normal((1500, 4))
    for row in (1400, 700, 301, 257, 300):
        rows[row, row % 4] = np.inf
    collector.give(rows)
    with pytest.raises(ValueError, match=r"the first such row is 257$"):
        collector.moments.stats()


def test_the_next_update_finds_it_where_the_device_has_come_that_far(rng, cuda, collector):
    rows = rng.standard_normal((10, 4))
    collector.give(rows[:5])
    collector.give(with_bad_row(rows, 2))
    collector.give(rows)  # the device has not come to the bad one, and nobody waits for it
    cuda.synchronize()
    with pytest.raises(ValueError, match="row is 2 of the batch before the last 1, which were left out"):
        collector.give(rows)
    assert collector.moments == moments_of_batches(rows[:5])
    collector.give(rows[5:])
    assert collector.moments == moments_of_batches(rows[:5], rows[5:])


READERS = {
    "stats": lambda moments, other: moments.stats(),
    "copy": lambda moments, other: copy.copy(moments),
    "state": lambda moments, other: moments.__reduce__(),
    "==": lambda moments, other: moments == other,
    "== it": lambda moments, other: other == moments,
    "merge": lambda moments, other: moments.merge(other),
    "merge it": lambda moments, other: other.merge(moments),
    "merge with itself": lambda moments, other: moments.merge(moments),
    "unmerge": lambda moments, other: moments.unmerge(other),
    "unmerge it": lambda moments, other: other.unmerge(moments),
}


@pytest.mark.parametrize("reader", READERS)
def test_whoever_reads_finds_it_and_changes_nothing(rng, collector, reader):
    rows = rng.standard_normal((1100, 4))
    collector.give(rows)
    other = moments_of_batches(rows[:600], rows)
    before = copy.copy(collector.moments), copy.copy(other)
    collector.give(with_bad_row(rows, 1))
    with pytest.raises(ValueError, match=r"the first such row is 1$"):
        READERS[reader](collector.moments, other)
    assert (collector.moments, other) == before
    if reader != "unmerge":  # of more rows than there are
        READERS[reader](collector.moments, other)  # told once


def test_reset_forgets_it(rng, collector):
    rows = rng.standard_normal((10, 4))
    collector.give(with_bad_row(rows, 2))
    collector.moments.reset()
    assert collector.moments == Moments(4, "float64", device="cuda:0")
    collector.give(rows)
    assert collector.moments == moments_of_batches(rows)


def test_moments_may_go_while_their_work_waits(rng, cuda, collector):
    before = cuda.live()
    moments = Moments(4, device="cuda:0")
    moments.update(DeviceArray(with_bad_row(rng.standard_normal((1100, 4)), 3), stream=collector.stream),
                   stream=collector.stream)  # fmt: skip
    del moments
    cuda.synchronize()
    assert cuda.live() == before


# Out of memory ------------------------------------------------------------------------------------------------------


def free_bytes(cuda, device=0):
    free, total = c_size_t(), c_size_t()
    with cuda.on_device(device):
        cuda.call("cudaMemGetInfo", byref(free), byref(total))
    return free.value, total.value


def leave(cuda, bytes_left):
    free, total = free_bytes(cuda)
    cuda.set_device(0, capacity=total - free + bytes_left)


def test_out_of_memory_names_both_numbers_and_leaves_no_trace(rng, cuda, collector):
    rows = rng.standard_normal((1100, 4))
    collector.give(rows)
    before, part = copy.copy(collector.moments), moments_of_batches(rows[:600])
    objects = cuda.live()
    text = r"CUDA device 0 is out of memory: \d+ bytes are needed, \d+ of \d+ are free"
    for left in (0, 100, 5000, 50_000):
        leave(cuda, left)
        for work in (
            lambda: Moments(4, device="cuda:0"),
            lambda: Moments(600, device="cuda:0"),
            lambda: copy.copy(collector.moments),
            lambda: collector.moments.update(np.ones((20_000, 4))),  # from the host: a copy of all of it
        ):
            with pytest.raises(MemoryError, match=text):
                work()
            assert cuda.live() == objects
        cuda.set_device(0)
        assert collector.moments == before
    leave(cuda, 0)
    for work in (collector.moments.stats, lambda: collector.moments.unmerge(part)):
        with pytest.raises(MemoryError, match=r" bytes are needed, 0 of \d+ are free"):
            work()
        assert cuda.live() == objects
    cuda.set_device(0)
    assert collector.moments == before
    batch = DeviceArray(rows[:5])
    leave(cuda, 0)
    collector.moments.update(batch)  # an update needs none
    cuda.set_device(0)
    assert collector.moments == moments_of_batches(rows, rows[:5])
