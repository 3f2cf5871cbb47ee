"""Images among the arrays of an ``.npz``: which are read, and the choice by key."""

import pickle

import numpy as np
import pytest

from fidfast._files import catalog_of
from fidfast._images import open_images, uses_images


def batch(rng, *shape, dtype=np.uint8):
    return rng.integers(0, 2 if dtype == np.bool_ else 256, shape).astype(dtype)


def read(path, **options):
    return np.stack(list(open_images(path, **options)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npz"


def test_the_key_chooses_among_several(path, rng):
    arrays = {"images": batch(rng, 5, 8, 9, 3), "samples": batch(rng, 5, 8, 9, 3)}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="holds several images: 'images', 'samples'; choose one with --key"):
        open_images(path)
    opened = {key: open_images(path, key=key) for key in arrays}
    for key, images in opened.items():
        np.testing.assert_array_equal(np.stack(list(images)), arrays[key])
        np.testing.assert_array_equal(np.stack(list(pickle.loads(pickle.dumps(images)))), arrays[key])
    assert opened["images"].fingerprint() != opened["samples"].fingerprint()
    with pytest.raises(ValueError, match="holds no images under 'x'; its keys are 'images', 'samples'"):
        open_images(path, key="x")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "other",
    [
        np.zeros((5, 8, 9), np.uint8),
        np.eye(5, 10, dtype=np.uint8)[:, :, None],
        np.zeros((5, 8, 9, 1), np.uint8),
        np.zeros((5, 8, 9, 3), np.bool_),
        np.zeros((5, 8, 9, 3), np.float32),
        np.zeros((5, 3, 8, 9), np.uint8),
    ],
    ids=["masks", "one-hot labels", "masks with channel", "bool", "float32", "channels first"],
)
def test_positional_arrays_of_another_kind_are_not_read(path, rng, save, other):
    images = batch(rng, 5, 8, 9, 3)
    save(path, images, other)
    found = open_images(path)
    np.testing.assert_array_equal(np.stack(list(found)), images)
    assert found.ignored == {"other array (arr_1)": 1}


def test_statistics_beside_the_images_are_not_counted_as_unread(path, rng):
    """A note says that the file holds them; ADM's reference batches are such files."""
    images = batch(rng, 5, 8, 9, 3)
    np.savez(path, arr_0=images, mu=np.zeros(3), sigma=np.eye(3), mu_s=np.zeros(2), sigma_s=np.eye(2))
    assert open_images(path).ignored == {}
    np.savez(path, arr_0=images, labels=np.arange(5), weight=np.ones((5, 3, 3, 3)))
    assert open_images(path).ignored == {"other arrays (labels)": 2}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool", "float32"])
@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3), (3, 8, 9)])
def test_positional_batches_of_one_kind_are_joined(path, rng, dtype, shape):
    batches = [batch(rng, n, *shape, dtype=np.dtype(dtype)) for n in (5, 4, 2)]
    np.savez(path, *batches)
    options = {"max_value": 255} if dtype in ("uint16", "float32") else {}
    np.testing.assert_array_equal(read(path, **options), read_array(np.concatenate(batches), **options))


def read_array(array, **options):
    return np.stack(list(open_images(array, **options)))


def test_images_after_labels_and_under_another_name(path, rng):
    images = batch(rng, 5, 8, 9, 3)
    for arrays in ({"arr_0": np.arange(5), "arr_1": images}, {"x": images, "y": np.arange(5)}):
        np.savez(path, **arrays)
        assert uses_images(path)
        assert catalog_of(path).kinds == ["images"]
        np.testing.assert_array_equal(read(path), images)
    np.savez(path, x=images, y=255 - images)
    with pytest.raises(ValueError, match="several images: 'x', 'y'; choose"):
        open_images(path)
    np.testing.assert_array_equal(read(path, key="y"), 255 - images)
    np.savez(path, x=images / 255, features=np.ones((5, 4)))
    assert not uses_images(path)
    assert uses_images(path, key="x")
    np.testing.assert_array_equal(read(path, key="x", max_value=1), images)
