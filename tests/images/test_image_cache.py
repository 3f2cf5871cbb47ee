"""`image_cache` describes and removes what is in the cache, and nothing else."""

import os
import time

import numpy as np
import pytest

import fidfast
from fidfast._files import State, write_state
from fidfast._images import cache, open_images


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(rng, tmp_path, number, days):
    """One cached file, last used some days ago."""
    array = rng.integers(0, 256, (number, 4, 5, 3), dtype=np.uint8)
    np.save(tmp_path / f"{number}.npy", array)
    images = open_images(tmp_path / f"{number}.npy")
    moments = fidfast.Moments(3, extractor="net/pil-bicubic-32")
    moments.update(array.mean(axis=(1, 2)))
    path = cache.cache_file(images, "net/pil-bicubic-32")
    cache.save(path, moments, images)
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path, images, moments


def test_the_cached_moments_are_those_that_were_saved(folder, rng, tmp_path):
    path, images, moments = fill(rng, tmp_path, 5, days=7)
    assert cache.load(path, images) == moments
    assert fidfast.image_cache().entries[0].age < 1  # used now
    other = open_images(np.zeros((6, 4, 5, 3), np.uint8))
    assert cache.load(path, other) is None  # another number of images
    write_state(path, State("Moments", {"dim": np.asarray(3)}))
    assert cache.load(path, images) is None


def test_images_that_changed_meanwhile_are_not_cached(folder, rng, tmp_path):
    path, images, moments = fill(rng, tmp_path, 5, days=0)
    path.unlink()
    np.save(tmp_path / "5.npy", np.zeros((5, 4, 5, 3), np.uint8))
    cache.save(path, moments, images)
    assert not path.exists()


def test_description(folder, rng, tmp_path):
    fill(rng, tmp_path, 5, days=3)
    path, _, _ = fill(rng, tmp_path, 6, days=1)
    found = fidfast.image_cache()
    assert [entry.num_images for entry in found.entries] == [6, 5]  # the last used first
    entry = found.entries[0]
    assert (entry.file, entry.extractor, entry.source) == (str(path), "net/pil-bicubic-32", str(tmp_path / "6.npy"))
    assert entry.size == path.stat().st_size
    assert entry.age == pytest.approx(1, abs=0.01)
    assert found.size == sum(entry.size for entry in found.entries)
    assert found.removed == 0
    assert str(found).startswith(f"{folder}: 2 sets of images, ")
    assert "6 images" in found.table()
    assert "used 1 day ago" in found.table()


def test_removal_by_age_and_size(folder, rng, tmp_path):
    paths = [fill(rng, tmp_path, number, days)[0] for number, days in ((5, 30), (6, 20), (7, 10))]
    assert fidfast.image_cache(older_than=25).removed == 1
    assert [path.exists() for path in paths] == [False, True, True]
    size = paths[2].stat().st_size
    found = fidfast.image_cache(max_size=size + 1)
    assert ([path.exists() for path in paths], found.removed, found.size) == ([False, False, True], 1, size)
    assert fidfast.image_cache(max_size=0).entries == []
    with pytest.raises(ValueError, match="older_than must be at least 0, got -1"):
        fidfast.image_cache(older_than=-1)
    with pytest.raises(ValueError, match="max_size must be at least 0, got nan"):
        fidfast.image_cache(max_size=float("nan"))


def test_only_files_of_the_cache_are_removed(folder, rng, tmp_path):
    fill(rng, tmp_path, 5, days=0)
    (folder / "hashes").mkdir()
    (folder / "hashes" / ("a" * 32)).write_bytes(b"fidfast hashes 1\n")
    old, new = (folder / f".{'b' * 64}.npz.{name}.tmp" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"partial")
    os.utime(old, (0, 0))  # left by a process that was killed
    mine = [folder / "reference.npz", folder / "notes.txt", folder / "hashes" / "mine"]
    for path in mine:
        path.write_text("of the user")
    (folder / f"{'c' * 64}.npz").write_bytes(b"damaged")
    (entry,) = (entry for entry in fidfast.image_cache().entries if entry.extractor is None)
    assert str(entry).startswith("damaged, ")
    assert not old.exists()
    found = fidfast.image_cache(clear=True)
    assert (found.entries, found.size) == ([], 0)
    left = {path for path in folder.rglob("*") if path.is_file()}
    assert left == {*mine, new}


def test_an_absent_cache_is_empty(folder):
    found = fidfast.image_cache(clear=True)
    assert (found.entries, found.size, found.removed) == ([], 0, 0)
    assert str(found) == f"{folder}: 0 sets of images, 0 bytes"
