"""Parts of a source: contiguous, together the images in order, with the names and numbers of the complete source."""

import pickle

import numpy as np
import pytest
import torch
from image_files import write_files
from sources import IMAGES, PICTURES, TENSOR, Items, Stream, channel_means, encoded
from torch.utils.data import DataLoader, TensorDataset

import fidfast.torch as ft
from fidfast.torch._images.options import ImageOptions
from fidfast.torch._images.sources import open_source

FILES = {f"{k % 3}/{k:02}.png": encoded(image) for k, image in enumerate(IMAGES)}
BROKEN = {**FILES, "0/09.png": b"no image", "2/05.png": b""}


def saved(path, **arrays):
    np.savez(path / "images.npz", **arrays)
    return path / "images.npz"


SOURCES = {
    "folder": lambda path: write_files("folder", path, FILES),
    "zip": lambda path: write_files("zip", path, FILES),
    "tar": lambda path: write_files("tar", path, FILES),
    "npz": lambda path: saved(path, images=IMAGES),
    "npz of several arrays": lambda path: saved(path, arr_0=IMAGES[:5], arr_1=IMAGES[5:6], arr_2=IMAGES[6:]),
    "npz of single images": lambda path: saved(path, **{f"arr_{k}": image for k, image in enumerate(IMAGES)}),
    "array": lambda path: IMAGES,
    "float tensor": lambda path: TENSOR / 255,
    "list": lambda path: PICTURES,
    "list of paths": lambda path: sorted(write_files("folder", path, FILES).glob("*/*.png")),
    "Dataset": lambda path: TensorDataset(TENSOR),
    "loader": lambda path: DataLoader(Items(PICTURES), batch_size=5, drop_last=True),
    "loader with workers": lambda path: DataLoader(TensorDataset(TENSOR), batch_size=5, num_workers=1),
    "loader without batches": lambda path: DataLoader(Items(list(TENSOR)), batch_size=None),
}


def opened(kind, path):
    return open_source(SOURCES[kind](path), ImageOptions())


def features(source, **options):
    return ft.features_of_images(source, channel_means, **options)


@pytest.mark.parametrize("kind", SOURCES)
def test_parts_are_the_images_in_order(kind, tmp_path):
    complete = features(opened(kind, tmp_path))
    for count in (1, 5):
        source = opened(kind, tmp_path)
        parts = [source.part(index, count) for index in range(count)]
        assert [(part.first, part.length) for part in parts] == [
            (n * k // count, n * (k + 1) // count - n * k // count) for k, n in enumerate([len(complete.names)] * count)
        ]
        assert len({part.fingerprint(progress=False) for part in parts}) == count
        rows = [features(part) for part in parts]
        np.testing.assert_array_equal(np.concatenate([one.features for one in rows]), complete.features)
        assert [name for one in rows for name in one.names] == complete.names
        assert [index for one in rows for index in one.indices] == complete.indices


@pytest.mark.parametrize("kind", ["folder", "zip", "npz of several arrays", "array", "float tensor"])
def test_parts_of_parts_copies_and_fingerprints(kind, tmp_path):
    part = opened(kind, tmp_path).part(1, 2).part(0, 3)  # images 6 and 7
    again = opened(kind, tmp_path).part(3, 6)
    assert (part.first, part.length) == (again.first, again.length) == (6, 2)
    assert part.fingerprint(progress=False) == again.fingerprint(progress=False)
    copied = pickle.loads(pickle.dumps(part.indexed))
    for index in range(2):
        np.testing.assert_array_equal(np.asarray(copied[index]), np.asarray(opened(kind, tmp_path).indexed[6 + index]))
    if part.images is not None:
        assert list(copied.names) == list(part.images.names)
        assert copied.fingerprint() == part.images.fingerprint()


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "npy"])
def test_fingerprints_of_parts_depend_on_their_images_only(kind, tmp_path):
    def fingerprints(name, images):
        path = tmp_path / name
        if kind == "npy":
            path = path.with_suffix(".npy")
            np.save(path, images)
        else:
            path = write_files(kind, path, {f"{k:02}.png": encoded(image) for k, image in enumerate(images)})
        source = open_source(path, ImageOptions())
        return [source.part(index, 2).fingerprint(progress=False) for index in range(2)]

    before, after = fingerprints("a", IMAGES), fingerprints("b", [IMAGES[1], *IMAGES[1:]])
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)


@pytest.mark.parametrize(
    "kind",
    {
        "folder": lambda path: write_files("folder", path, BROKEN),
        "tar": lambda path: write_files("tar", path, BROKEN),
        "Dataset": lambda path: Items([*TENSOR[:7], OSError("no"), *TENSOR[8:]]),
        "loader": lambda path: DataLoader(Items([*TENSOR[:7], OSError("no"), *TENSOR[8:]]), batch_size=4),
        "NaN": lambda path: TENSOR.div(255).index_fill(0, torch.tensor([7]), torch.nan),
    }.items(),
    ids=lambda kind: kind[0],
)
def test_broken_images_have_the_names_of_the_complete_source(kind, tmp_path):
    source = kind[1](tmp_path)
    complete = features(source, skip_broken=True)
    assert len(complete.skipped) > 0
    parts = [open_source(source, ImageOptions()).part(index, 4) for index in range(4)]
    rows = [features(part, skip_broken=True) for part in parts]
    assert [message for one in rows for message in one.skipped] == complete.skipped
    assert [index for one in rows for index in one.indices] == complete.indices


def test_more_parts_than_images():
    parts = [open_source(PICTURES[:2], ImageOptions()).part(index, 5) for index in range(5)]
    assert [part.length for part in parts] == [0, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Stream(PICTURES), "part 1/2 needs images in a fixed order, but Stream cannot be read from the middle"),
        ([TENSOR[:5], TENSOR[5:]], "the list holds batches"),
        (DataLoader(TensorDataset(TENSOR), shuffle=True), "the DataLoader shuffles: pass shuffle=False"),
        (DataLoader(Stream(PICTURES)), "reads an IterableDataset"),
    ],
)
def test_no_parts_without_a_fixed_order(source, message):
    with pytest.raises(ValueError, match=message):
        open_source(source, ImageOptions()).part(0, 2)


@pytest.mark.parametrize(("index", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_parts_that_do_not_exist(index, count):
    with pytest.raises(ValueError, match="must be at"):
        open_source(PICTURES, ImageOptions()).part(index, count)
