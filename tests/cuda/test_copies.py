"""Moments and Gaussians on devices: copies, pickles, files, sums, and moves between devices."""

import copy
import pickle

import numpy as np
import pytest
from devices import Host, StandinDevice

import fidfast
from fidfast import GaussianStats, Moments

pytestmark = pytest.mark.usefixtures("extension")

HOST, FIRST, SECOND = Host(), StandinDevice("cuda:0"), StandinDevice("cuda:1")


def moments_of(device, *batches, **options):
    moments = Moments(5, precision="float64", device=device.name, **options)
    for batch in batches:
        moments.update(device.array(batch))
    return moments


@pytest.mark.grid(keep=1)
@pytest.mark.parametrize("n", [0, 3, 40, 1100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_copies_pickles_and_checkpoints_continue_bit_for_bit(rng, tmp_path, n, dtype):
    rows = rng.standard_normal((n + 1050, 5)).astype(dtype)
    original = moments_of(FIRST, rows[:n], extractor="tower")
    original.save(tmp_path / "run")
    copies = {
        "copy": (copy.copy(original), "cuda:0"),
        "deepcopy": (copy.deepcopy(original), "cuda:0"),
        "pickle": (pickle.loads(pickle.dumps(original)), "cpu"),
        "checkpoint": (Moments.load(tmp_path / "run.npz"), "cpu"),
    }
    before = copy.copy(original)
    original.update(FIRST.array(rows[n:]))
    for name, (other, device) in copies.items():
        assert other == before, name
        assert before == other, name
        assert other.device == device, name
        other.update(FIRST.array(rows[n:]))  # moments on the host move to the device of the rows
        assert other.device == "cuda:0"
        assert other == original, name
        assert other.stats() == original.stats()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_moments_have_equal_bits(dtype):
    rows = np.zeros((3, 5), dtype)
    other = rows.copy()
    other[1, 2] = -0.0
    for device in (HOST, FIRST):
        assert moments_of(device, rows) == moments_of(device, rows.copy())
        assert moments_of(device, rows) != moments_of(device, other)


def test_repr_names_the_device(rng):
    rows = rng.standard_normal((4, 5))
    for device, suffix in ((HOST, ""), (FIRST, ", device='cuda:0'"), (SECOND, ", device='cuda:1'")):
        expected = f"Moments(dim=5, num_samples=4, precision='float64', extractor=None{suffix})"
        assert repr(moments_of(device, rows)) == expected


def test_moments_move_to_the_features_unless_a_device_is_given(rng):
    rows = rng.standard_normal((4, 5))
    follows, stays = Moments(5), Moments(5, device="cpu")
    for moments in (follows, stays):
        moments.update(rows)
        assert moments.device == "cpu"
        moments.update(FIRST.array(rows))
    assert (follows.device, stays.device) == ("cuda:0", "cpu")
    assert (copy.copy(follows)._device_fixed, copy.copy(stays)._device_fixed) == (False, True)
    assert follows == stays
    # Moments on a GPU stay there: rows on the host or on another GPU are copied to it.
    follows.update(rows)
    follows.update(SECOND.array(rows))
    stays.update(rows)
    stays.update(rows)
    assert follows.device == "cuda:0"
    assert follows == stays


@pytest.mark.grid(keep=4)
@pytest.mark.parametrize("device", [HOST, FIRST, SECOND], ids=lambda device: device.name)
@pytest.mark.parametrize("other_device", [HOST, FIRST, SECOND], ids=lambda device: device.name)
def test_merge_and_unmerge_of_moments_on_different_devices(rng, device, other_device):
    rows = rng.standard_normal((30, 5))
    moments, other = moments_of(device, rows[:12]), moments_of(other_device, rows[12:])
    expected = moments_of(HOST, rows[:12], rows[12:])
    before = copy.copy(other)
    total = moments + other
    moments += other
    assert moments == total == expected
    assert moments.device == device.name
    moments.unmerge(other)
    assert moments == moments_of(HOST, rows[:12])
    assert other == before
    assert other.device == other_device.name


@pytest.mark.parametrize("n", [3, 40])
def test_stats_are_arrays_on_the_host(rng, tmp_path, n):
    stats = moments_of(FIRST, rng.standard_normal((n, 5)), extractor="tower").stats(ddof=0)
    stats.save(tmp_path / "stats")
    loaded = GaussianStats.load(tmp_path / "stats.npz")
    assert loaded == stats
    for other in (copy.copy(stats), copy.deepcopy(stats), pickle.loads(pickle.dumps(stats))):
        assert other == stats
        assert (other.ddof, other.extractor) == (0, "tower")
    for array in (stats.mu, stats.sigma):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    sigma = stats.sigma
    expected = sigma.copy()
    del stats
    np.testing.assert_array_equal(sigma, expected)


@pytest.mark.grid(keep=1)
@pytest.mark.parametrize("n", [3, 40])
def test_distances_between_devices(rng, n):
    """The distance is computed on the GPU of either argument; of two GPUs, on that of the first."""
    rows1, rows2 = rng.standard_normal((n, 5)), rng.standard_normal((30, 5)) + 0.5
    expected = fidfast.fid(rows1, rows2)
    stats = {
        (device, k): moments_of(device, rows).stats()
        for device in (HOST, FIRST, SECOND)
        for k, rows in enumerate((rows1, rows2))
    }
    for one in (HOST, FIRST, SECOND):
        for other in (HOST, FIRST, SECOND):
            # Sums in the same order: a few eps times the traces, which are about 10.
            found = fidfast.frechet_distance(stats[one, 0], stats[other, 1])
            assert abs(found - expected) <= 1e-13 * 10
            assert fidfast.fid(one.array(rows1), other.array(rows2)) == pytest.approx(expected, rel=1e-12)
    # Copies of the reference on both GPUs are cached with their factors.
    assert set(stats[HOST, 1]._copies) == {0, 1}


def test_a_gaussian_is_copied_to_a_device_once(rng, cuda):
    reference, generated = (
        GaussianStats(np.zeros(5), np.eye(5)),
        moments_of(FIRST, rng.standard_normal((40, 5))).stats(),
    )
    distance = fidfast.frechet_distance(reference, generated)
    cuda.clear_calls()
    assert fidfast.frechet_distance(reference, generated) == distance
    assert "cusolverDnXpotrf" not in [call.name for call in cuda.calls()]


def test_the_current_device_does_not_change(rng, cuda):
    rows = rng.standard_normal((40, 5))
    for current in (0, 1):
        cuda.current_device = current
        for device in (FIRST, SECOND):
            moments = moments_of(device, rows)
            fidfast.frechet_distance(moments.stats(), GaussianStats(np.zeros(5), np.eye(5)))
            moments.reset()
            with pytest.raises(ValueError, match="a covariance needs"):
                moments.stats()
            del moments
            assert cuda.current_device == current


def test_invalid_devices():
    for name in ("gpu", "cuda:x", "cuda:-1", "mps"):
        with pytest.raises(ValueError, match=f"device must be 'cpu', 'cuda' or 'cuda:N', got '{name}'"):
            Moments(3, device=name)
    assert Moments(3, device="cuda").device == "cuda:0"


def test_the_extension_rejects_mixed_devices(extension, rng):
    """The Python package copies arguments to one device; the extension does not."""
    first, second = extension.Moments(5, "float64", 0), extension.Moments(5, "float64", 1)
    rows = rng.standard_normal((9, 5))
    for work in (first.merge, first.unmerge, first.equals):
        with pytest.raises(ValueError, match="both must be on one device, got devices 0 and 1"):
            work(second)
    with pytest.raises(ValueError, match="features are on CUDA device 1, but the work is on device 0"):
        first.update(SECOND.array(rows))
    first.update(rows)
    second.update(rows)
    pair = first.stats(ddof=1), second.stats(ddof=1)
    for work in (extension.frechet_distance, extension.frechet_terms, extension.transport_map):
        with pytest.raises(ValueError, match="both must be on one device, got devices 0 and 1"):
            work(*pair)
    with pytest.raises(ValueError, match="both must be on one device, got devices 0 and 1"):
        extension.Jackknife(*pair, True, True, "float64", True)
