"""Streams and memory of updates, and several devices."""

import numpy as np
import pytest

import fidfast

#: Granularity of memory allocation on a GPU, in bytes.
GRANULARITY = 2 << 20


def assert_near(moments, rows, tolerance=1e-12):
    on_host = fidfast.Moments(rows.shape[1], precision="float64")
    on_host.update(rows)
    found, expected = moments.stats(), on_host.stats()
    assert found.num_samples == expected.num_samples
    deviations = np.sqrt(np.diag(expected.sigma))
    assert np.all(np.abs(found.sigma - expected.sigma) <= tolerance * np.outer(deviations, deviations))


def test_a_buffer_may_be_overwritten_after_each_update(rng, gpu):
    """In the caller's stream, without a wait of the host."""
    dim = gpu.dims[1]
    rows = rng.standard_normal((12 * dim, dim))
    moments = fidfast.Moments(dim, precision="float64", device=gpu.name)
    with gpu.side_stream():
        buffer = gpu.array(np.zeros((dim, dim)))
        for batch in np.split(rows, 12):
            gpu.overwrite(buffer, batch)
            moments.update(buffer, **gpu.update_options)
    assert_near(moments, rows)


def test_an_update_does_not_wait_for_earlier_work(rng, gpu):
    dim = gpu.dims[1]
    rows = rng.standard_normal((2200, dim))

    def update_with_all(after):
        moments = fidfast.Moments(dim, precision="float64", device=gpu.name)
        with gpu.side_stream():
            arrays = [gpu.array(batch) for batch in np.split(rows, [1200, 1900])]
            is_done = gpu.keep_busy(after)
            for array in arrays:
                moments.update(array, **gpu.update_options)
            assert moments.num_samples == len(rows)
            was_done = is_done()
            assert_near(moments, rows)
            assert is_done()
        return was_done

    update_with_all(after=0.001)  # the first call loads kernels and libraries
    assert not update_with_all(after=2.0)


def test_1000_updates_allocate_no_memory(rng, gpu):
    dim = gpu.dims[1]
    updates = 1000 if dim > 100 else 100
    batch = gpu.array(rng.standard_normal((60, dim)).astype(np.float32))
    moments = fidfast.Moments(dim, device=gpu.name)
    for _ in range(20):  # more than one block, so that all kernels are loaded
        moments.update(batch)
    before = gpu.free_bytes()
    for _ in range(updates):
        moments.update(batch)
    assert gpu.free_bytes() == pytest.approx(before, abs=GRANULARITY)
    assert moments.num_samples == 60 * (updates + 20)


def test_deleted_moments_and_gaussians_free_their_memory(rng, gpu):
    dim = gpu.dims[1]
    rows = gpu.array(rng.standard_normal((2 * dim, dim)))
    other = fidfast.Moments(dim, device=gpu.name)
    other.update(rows)

    def use():
        moments = fidfast.Moments(dim, device=gpu.name)
        moments.update(rows)
        return fidfast.frechet_distance(moments.stats(), other.stats())

    distance = use()
    before = gpu.free_bytes()
    for _ in range(5):
        assert use() == distance
    assert gpu.free_bytes() == pytest.approx(before, abs=GRANULARITY)


def test_out_of_memory(rng, gpu):
    rows = rng.standard_normal((30, 5))
    moments = fidfast.Moments(5, precision="float64", device=gpu.name)
    moments.update(gpu.array(rows[:20]))
    too_large = int(np.sqrt(gpu.total_bytes() / 8)) + 1  # the scatter alone does not fit
    before = gpu.free_bytes()
    with pytest.raises(MemoryError, match=r"CUDA device 0 is out of memory: \d+ bytes are needed, \d+ of \d+ are free"):
        fidfast.Moments(too_large, device=gpu.name)
    assert gpu.free_bytes() == pytest.approx(before, abs=GRANULARITY)
    moments.update(gpu.array(rows[20:]))
    assert_near(moments, rows)


def test_several_devices(rng, gpu):
    if not gpu.others():
        pytest.skip("there is one device")
    rows = rng.standard_normal((50, 6))
    other = gpu.others()[0]
    first, second = (fidfast.Moments(6, precision="float64", device=device.name) for device in (gpu, other))
    current = gpu.current_device()
    for batch in np.split(rows, 2):
        first.update(gpu.array(batch))
        second.update(other.array(batch))
    assert gpu.current_device() == current
    assert (first.device, second.device) == (gpu.name, other.name)
    assert first.stats() == second.stats()
    first.update(other.array(rows))  # copied through the host
    assert first.num_samples == 100
    first.merge(second)
    assert_near(first, np.concatenate([rows, rows, rows]))
    assert fidfast.frechet_distance(first.stats(), second.stats()) == pytest.approx(0, abs=1e-2)
    assert gpu.current_device() == current
