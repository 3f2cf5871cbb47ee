"""Moments and Gaussians as values on a device: copies, pickles, files, sums, and the way from one device to another."""

import copy
import pickle

import numpy as np
import pytest
from places import Host, StandinDevice

import fidfast
from fidfast import GaussianStats, Moments

pytestmark = pytest.mark.usefixtures("extension")

HOST, FIRST, SECOND = Host(), StandinDevice("cuda:0"), StandinDevice("cuda:1")


def moments_of(place, *batches, **options):
    moments = Moments(5, "float64", device=place.name, **options)
    for batch in batches:
        moments.update(place.array(batch))
    return moments


@pytest.mark.parametrize("n", [0, 3, 40, 1100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_copies_pickles_and_checkpoints_go_on_with_the_same_digits(rng, tmp_path, n, dtype):
    rows = rng.standard_normal((n + 1050, 5)).astype(dtype)
    original = moments_of(FIRST, rows[:n], extractor="tower")
    original.save(tmp_path / "run")
    copies = {
        "copy": (copy.copy(original), "cuda:0"),
        "deepcopy": (copy.deepcopy(original), "cuda:0"),
        "pickle": (pickle.loads(pickle.dumps(original)), "cpu"),
        "checkpoint": (Moments.load(tmp_path / "run.npz"), "cpu"),
    }
    untouched = copy.copy(original)
    original.update(FIRST.array(rows[n:]))
    for name, (other, where) in copies.items():
        assert other == untouched, name
        assert untouched == other, name
        assert other.device == where, name
        other.update(FIRST.array(rows[n:]))  # from the host it follows the rows
        assert other.device == "cuda:0"
        assert other == original, name
        assert other.stats() == original.stats()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_moments_have_equal_bits(dtype):
    rows = np.zeros((3, 5), dtype)
    other = rows.copy()
    other[1, 2] = -0.0
    for place in (HOST, FIRST):
        assert moments_of(place, rows) == moments_of(place, rows.copy())
        assert moments_of(place, rows) != moments_of(place, other)


def test_the_text_of_moments_names_the_device(rng):
    rows = rng.standard_normal((4, 5))
    for place, told in ((HOST, ""), (FIRST, ", device='cuda:0'"), (SECOND, ", device='cuda:1'")):
        text = f"Moments(dim=5, num_samples=4, precision='float64', extractor=None{told})"
        assert repr(moments_of(place, rows)) == text


def test_moments_follow_features_unless_told_where_they_are(rng):
    rows = rng.standard_normal((4, 5))
    follows, stays = Moments(5), Moments(5, device="cpu")
    for moments in (follows, stays):
        moments.update(rows)
        assert moments.device == "cpu"
        moments.update(FIRST.array(rows))
    assert (follows.device, stays.device) == ("cuda:0", "cpu")
    assert (copy.copy(follows)._stays, copy.copy(stays)._stays) == (False, True)
    assert follows == stays
    # Once on a GPU they stay: rows of the host and of another GPU are copied there.
    follows.update(rows)
    follows.update(SECOND.array(rows))
    stays.update(rows)
    stays.update(rows)
    assert follows.device == "cuda:0"
    assert follows == stays


@pytest.mark.parametrize("mine", [HOST, FIRST, SECOND], ids=lambda place: place.name)
@pytest.mark.parametrize("theirs", [HOST, FIRST, SECOND], ids=lambda place: place.name)
def test_merge_and_unmerge_take_moments_from_anywhere(rng, mine, theirs):
    rows = rng.standard_normal((30, 5))
    moments, other = moments_of(mine, rows[:12]), moments_of(theirs, rows[12:])
    expected = moments_of(HOST, rows[:12], rows[12:])
    before = copy.copy(other)
    total = moments + other
    moments += other
    assert moments == total == expected
    assert moments.device == mine.name
    moments.unmerge(other)
    assert moments == moments_of(HOST, rows[:12])
    assert other == before
    assert other.device == theirs.name


@pytest.mark.parametrize("n", [3, 40])
def test_statistics_are_values_of_the_host(rng, tmp_path, n):
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
    kept = stats.sigma
    expected = kept.copy()
    del stats
    np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize("n", [3, 40])
def test_distances_between_places(rng, n):
    """Where either side lies on a GPU, the work is done there; two GPUs do it on the first side's."""
    rows1, rows2 = rng.standard_normal((n, 5)), rng.standard_normal((30, 5)) + 0.5
    expected = fidfast.fid(rows1, rows2)
    stats = {(place, k): moments_of(place, rows).stats() for place in (HOST, FIRST, SECOND) for k, rows in
             enumerate((rows1, rows2))}  # fmt: skip
    for one in (HOST, FIRST, SECOND):
        for other in (HOST, FIRST, SECOND):
            # The same rows in the same order of sums: some eps of the traces, 10.
            found = fidfast.frechet_distance(stats[one, 0], stats[other, 1])
            assert abs(found - expected) <= 1e-13 * 10
            assert fidfast.fid(one.array(rows1), other.array(rows2)) == pytest.approx(expected, rel=1e-12)
    # The factor of a reference that came to the GPU is kept there.
    assert set(stats[HOST, 1]._elsewhere) == {0, 1}


def test_a_gaussian_is_taken_to_a_device_once(rng, cuda):
    reference, generated = (
        GaussianStats(np.zeros(5), np.eye(5)),
        moments_of(FIRST, rng.standard_normal((40, 5))).stats(),
    )
    values = {fidfast.frechet_distance(reference, generated)}
    cuda.clear_calls()
    values.add(fidfast.frechet_distance(reference, generated))
    factorisations = [call for call in cuda.calls() if call.name == "cusolverDnXpotrf"]
    assert factorisations == []
    assert len(values) == 1


def test_work_on_two_devices_leaves_the_threads_device(rng, cuda):
    rows = rng.standard_normal((40, 5))
    for current in (0, 1):
        cuda.current_device = current
        for place in (FIRST, SECOND):
            moments = moments_of(place, rows)
            fidfast.frechet_distance(moments.stats(), GaussianStats(np.zeros(5), np.eye(5)))
            moments.reset()
            with pytest.raises(ValueError, match="a covariance needs"):
                moments.stats()
            del moments
            assert cuda.current_device == current


def test_places_that_are_none():
    for name in ("gpu", "cuda:x", "cuda:-1", "mps"):
        with pytest.raises(ValueError, match=f"device must be 'cpu', 'cuda' or 'cuda:N', got '{name}'"):
            Moments(3, device=name)
    assert Moments(3, device="cuda").device == "cuda:0"


def test_the_core_refuses_what_lies_elsewhere(extension, rng):
    """The package brings things together; a caller of the compiled module is told that they are not."""
    here, there = extension.Moments(5, "float64", 0), extension.Moments(5, "float64", 1)
    rows = rng.standard_normal((9, 5))
    for work in (here.merge, here.unmerge, here.equals):
        with pytest.raises(ValueError, match="both must be on one device, got devices 0 and 1"):
            work(there)
    with pytest.raises(ValueError, match="features are on CUDA device 1, but the work is on device 0"):
        here.update(SECOND.array(rows))
    here.update(rows)
    there.update(rows)
    pair = here.stats(1), there.stats(1)
    for work in (extension.frechet_distance, extension.frechet_terms, extension.transport_map):
        with pytest.raises(ValueError, match="both must be on one device, got devices 0 and 1"):
            work(*pair)
    with pytest.raises(ValueError, match="both must be on one device, got devices 0 and 1"):
        extension.Jackknife(*pair, True, True, "float64", True)
