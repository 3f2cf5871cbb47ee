"""Updates on a device with features that are not finite, and with too little memory."""

import copy
from ctypes import byref, c_size_t

import ml_dtypes
import numpy as np
import pytest
from device_arrays import DeviceArray
from runtime_calls import assert_quiet

import fidfast
from fidfast import Moments

pytestmark = pytest.mark.usefixtures("extension")

# NaN and infinity ---------------------------------------------------------------------------------------------------


def with_bad_row(rows, row, value=np.nan):
    bad = rows.copy()
    bad[row, 1] = value
    return bad


@pytest.fixture
def updates(streams):
    """Moments on the device, and a method that updates them with an array made in a stream."""

    class Updates:
        def __init__(self):
            self.stream = streams()
            self.moments = Moments(4, precision="float64", device="cuda:0")

        def add(self, rows):
            self.moments.update(DeviceArray(rows, stream=self.stream), stream=self.stream)

    created = Updates()
    yield created
    del created.moments  # before the check for leaks


@pytest.mark.grid(keep=5)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_a_nonfinite_batch_changes_nothing(rng, cuda, updates, dtype, value):
    rows = rng.standard_normal((10, 4)).astype(dtype)
    updates.add(rows[:3])
    before = copy.copy(updates.moments)
    cuda.clear_calls()
    updates.add(with_bad_row(rows, 6, value))
    assert_quiet(cuda.calls())
    with pytest.raises(ValueError, match=r"^features hold NaN or infinity; the first such row is 6$"):
        updates.moments.stats()
    assert updates.moments.num_samples == 3
    assert updates.moments == before
    updates.add(rows[3:])
    assert updates.moments == moments_of_batches(rows[:3], rows[3:])


def moments_of_batches(*batches):
    """Moments of finite batches on the device."""
    moments = Moments(4, precision="float64", device="cuda:0")
    for batch in batches:
        moments.update(DeviceArray(batch))
    return moments


#: Number of rows before the bad batch, and of the bad batch.
SIZES = {
    "first batch": (0, 3),
    "kept": (2, 2),
    "kept to waiting": (3, 60),
    "waiting": (60, 30),
    "one block": (1000, 30),
    "block without a copy": (0, 1024),
    "several blocks": (1100, 2200),
    "last row of a block": (1020, 4),
}


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize("size", SIZES)
def test_batches_after_a_bad_batch_are_discarded_until_it_is_reported(rng, cuda, updates, size):
    first, bad = SIZES[size]
    rows = rng.standard_normal((first + bad, 4))
    later = [rng.standard_normal((n, 4)) for n in (5, 1030)]
    if first > 0:
        updates.add(rows[:first])
    before = copy.copy(updates.moments)
    updates.add(with_bad_row(rows[first:], bad - 1))
    updates.add(later[0])
    updates.add(with_bad_row(later[1], 4))  # not reported: only the first bad batch is
    text = rf"the first such row is {bad - 1} of an earlier batch; that batch and all later ones \(2\) were left out"
    with pytest.raises(ValueError, match=text):
        updates.moments.stats()
    assert updates.moments.num_samples == first
    assert updates.moments == before
    updates.add(rows[first:])
    updates.add(later[1])
    expected = [rows[:first]] if first else []
    assert updates.moments == moments_of_batches(*expected, rows[first:], later[1])


def test_the_first_of_several_bad_rows_is_named(rng, updates):
    rows = rng.standard_normal((1500, 4))
    for row in (1400, 700, 301, 257, 300):
        rows[row, row % 4] = np.inf
    updates.add(rows)
    with pytest.raises(ValueError, match=r"the first such row is 257$"):
        updates.moments.stats()


def test_the_next_update_reports_a_bad_batch_that_the_device_has_reached(rng, cuda, updates):
    rows = rng.standard_normal((10, 4))
    updates.add(rows[:5])
    updates.add(with_bad_row(rows, 2))
    updates.add(rows)  # the device has not reached the bad batch, and the update does not wait
    cuda.synchronize()
    with pytest.raises(
        ValueError, match=r"row is 2 of an earlier batch; that batch and all later ones \(1\) were left out"
    ):
        updates.add(rows)
    assert updates.moments == moments_of_batches(rows[:5])
    updates.add(rows[5:])
    assert updates.moments == moments_of_batches(rows[:5], rows[5:])


READERS = {
    "stats": lambda moments, other: moments.stats(),
    "copy": lambda moments, other: copy.copy(moments),
    "state": lambda moments, other: moments.__reduce__(),
    "==": lambda moments, other: moments == other,
    "== reversed": lambda moments, other: other == moments,
    "merge": lambda moments, other: moments.merge(other),
    "merge reversed": lambda moments, other: other.merge(moments),
    "merge with itself": lambda moments, other: moments.merge(moments),
    "unmerge": lambda moments, other: moments.unmerge(other),
    "unmerge reversed": lambda moments, other: other.unmerge(moments),
}


@pytest.mark.grid(keep=3)
@pytest.mark.parametrize("reader", READERS)
def test_every_read_reports_a_bad_batch_and_changes_nothing(rng, updates, reader):
    rows = rng.standard_normal((1100, 4))
    updates.add(rows)
    other = moments_of_batches(rows[:600], rows)
    before = copy.copy(updates.moments), copy.copy(other)
    updates.add(with_bad_row(rows, 1))
    with pytest.raises(ValueError, match=r"the first such row is 1$"):
        READERS[reader](updates.moments, other)
    assert (updates.moments, other) == before
    if reader != "unmerge":  # which has more rows than the moments
        READERS[reader](updates.moments, other)  # reported once only


def test_reset_discards_a_bad_batch(rng, updates):
    rows = rng.standard_normal((10, 4))
    updates.add(with_bad_row(rows, 2))
    updates.moments.reset()
    assert updates.moments == Moments(4, precision="float64", device="cuda:0")
    updates.add(rows)
    assert updates.moments == moments_of_batches(rows)


def test_moments_can_be_deleted_while_their_work_is_queued(rng, cuda, updates):
    before = cuda.live()
    moments = Moments(4, device="cuda:0")
    moments.update(DeviceArray(with_bad_row(rng.standard_normal((1100, 4)), 3), stream=updates.stream),
                   stream=updates.stream)  # fmt: skip
    del moments
    cuda.synchronize()
    assert cuda.live() == before


# Out of memory ------------------------------------------------------------------------------------------------------


def free_bytes(cuda, device=0):
    free, total = c_size_t(), c_size_t()
    with cuda.on_device(device):
        cuda.call("cudaMemGetInfo", byref(free), byref(total))
    return free.value, total.value


def limit_free_memory(cuda, bytes_left):
    free, total = free_bytes(cuda)
    cuda.set_device(0, capacity=total - free + bytes_left)


def test_out_of_memory_names_both_numbers_and_changes_nothing(rng, cuda, updates):
    rows = rng.standard_normal((1100, 4))
    updates.add(rows)
    before, part = copy.copy(updates.moments), moments_of_batches(rows[:600])
    objects = cuda.live()
    text = r"CUDA device 0 is out of memory: \d+ bytes are needed, \d+ of \d+ are free"
    for left in (0, 100, 5000, 50_000):
        limit_free_memory(cuda, left)
        for work in (
            lambda: Moments(4, device="cuda:0"),
            lambda: Moments(600, device="cuda:0"),
            lambda: copy.copy(updates.moments),
            lambda: updates.moments.update(np.ones((20_000, 4))),  # copies the batch from the host
        ):
            with pytest.raises(MemoryError, match=text):
                work()
            assert cuda.live() == objects
        cuda.set_device(0)
        assert updates.moments == before
    limit_free_memory(cuda, 0)
    for work in (updates.moments.stats, lambda: updates.moments.unmerge(part)):
        with pytest.raises(MemoryError, match=r" bytes are needed, 0 of \d+ are free"):
            work()
        assert cuda.live() == objects
    cuda.set_device(0)
    assert updates.moments == before
    batch = DeviceArray(rows[:5])
    limit_free_memory(cuda, 0)
    updates.moments.update(batch)  # needs no memory
    cuda.set_device(0)
    assert updates.moments == moments_of_batches(rows, rows[:5])


@pytest.mark.parametrize("dim", [4, 60])
def test_a_batch_whose_squares_overflow_changes_nothing(rng, dim):
    moments = Moments(dim, device="cuda:0")
    rows = rng.standard_normal((10, dim))
    moments.update(DeviceArray(rows))
    before = copy.copy(moments)
    moments.update(DeviceArray(with_bad_row(rows, 6, -1e155)))
    with pytest.raises(
        ValueError, match=r"^the squares of the features.*: row 6 holds a magnitude of 1e\+155, and the "
    ):
        moments.stats()
    assert moments == before
    moments.update(DeviceArray(with_bad_row(rows, 6, 2.0**503)))
    assert moments.num_samples == 20


@pytest.mark.parametrize("exponent", [-300, 300])
def test_distances_of_large_and_small_features(rng, exponent):
    sides = [rng.standard_normal((n, 4)) for n in (30, 40)]
    base = fidfast.fid(*map(DeviceArray, sides))
    scaled = [DeviceArray(np.ldexp(side, exponent)) for side in sides]
    assert fidfast.fid(*scaled) == np.ldexp(base, 2 * exponent) == fidfast.fid(*scaled[::-1])
