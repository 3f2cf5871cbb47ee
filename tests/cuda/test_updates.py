"""Updates on a device with features that are not finite, or for which there is no memory."""

import copy
from ctypes import byref, c_size_t

import ml_dtypes
import numpy as np
import pytest
from device_arrays import DeviceArray
from places import Host
from runtime_calls import assert_quiet

from fidfast import Moments

pytestmark = pytest.mark.usefixtures("extension")

HOST = Host()


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
    text = rf"the first such row is {bad - 1} of an earlier batch; that batch and all later ones \(2\) were left out"
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
    with pytest.raises(
        ValueError, match=r"row is 2 of an earlier batch; that batch and all later ones \(1\) were left out"
    ):
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
