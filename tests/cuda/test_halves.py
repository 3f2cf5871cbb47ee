"""Rows of 16 bits that go to tensor cores, and are left out since one of them is not finite."""

import numpy as np
import pytest
from device_arrays import DeviceArray

from fidfast import Moments

DIM, FIRST, SECOND = 512, 700, 400  # the second batch fills the block of 1,024


def moments_of(*batches):
    moments = Moments(DIM, "float32", device="cuda:1")
    for batch in batches:
        moments.update(DeviceArray(batch, device=1))
    return moments


def same(moments, others):
    ours, theirs = (each._whole().state() for each in (moments, others))
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_bad_batch_that_fills_a_block_leaves_nothing(cuda, extension, rng):
    """The block is neither multiplied nor is the memory read that its rows would have come to."""
    rows = rng.standard_normal((FIRST + SECOND, DIM)).astype(np.float16)
    good, bad = rows[:FIRST], rows[FIRST:].copy()
    bad[17, 3] = np.inf
    cuda.clear_calls()
    moments = moments_of(good, bad)
    assert any("rank_update" in call.name for call in cuda.calls())
    with pytest.raises(ValueError, match="the first such row is 17"):
        moments.stats()
    assert moments.num_samples == FIRST
    assert same(moments, moments_of(good))


def test_a_bad_batch_after_a_block_leaves_the_scatter_as_it_is(extension, rng):
    rows = rng.standard_normal((1024, DIM)).astype(np.float16)
    bad = rows.copy()
    bad[1000, 511] = np.nan
    moments = moments_of(rows)
    before = moments._whole().state()
    assert before["count"] == 1024
    moments.update(DeviceArray(bad, device=1))
    with pytest.raises(ValueError, match="the first such row is 1000"):
        moments.stats()
    after = moments._whole().state()
    assert all(np.array_equal(before[name], after[name]) for name in before)
