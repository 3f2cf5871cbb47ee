"""Broken images of every source, and images with NaN features: named, counted and skipped on request."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from sources import IMAGES, PICTURES, TENSOR, Columns, Items, Stream, channel_means, encoded
from torch.utils.data import DataLoader

import fidfast.torch as ft

BROKEN = (3, 7)
EXPECTED = np.delete(IMAGES.mean((1, 2)) / 255, BROKEN, axis=0)


class Cursor:
    """An iterator that raises for some items and continues."""

    def __init__(self, items):
        self.items = iter(items)

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self.items)
        if isinstance(item, Exception):
            raise item
        return item


def loader(items, **options):
    return DataLoader(items, **{"batch_size": 5, **options})


def with_errors(images, error=None):
    """The images, and in place of some an error, or else an item that is not an image."""
    items = list(images)
    for index in BROKEN:
        items[index] = error if error is not None else f"/gone/{index}.png"
    return items


ERROR = OSError("cannot read")
SOURCES = {
    "list": lambda: with_errors(PICTURES),
    "list of bytes": lambda: with_errors([encoded(image) for image in IMAGES], b"no image"),
    "Dataset": lambda: Items(with_errors(TENSOR, ERROR)),
    "Dataset of pairs": lambda: Items([(picture, 3) if picture else (None, 3) for picture in with_errors(PICTURES, 0)]),
    "columns": lambda: Columns(image=with_errors(PICTURES, {"bytes": b"no image", "path": None})),
    "IterableDataset": lambda: Stream(with_errors(PICTURES)),
    "IterableDataset that raises": lambda: Stream(Cursor(with_errors(PICTURES, ERROR))),
    "iterator": lambda: Cursor(with_errors(PICTURES, ERROR)),
    "map": lambda: map(Items(with_errors(TENSOR, ERROR)).__getitem__, range(12)),
    "generator": lambda: (item for item in with_errors(PICTURES)),
    "loader": lambda: loader(Items(with_errors(TENSOR, ERROR))),
    "loader of a stream": lambda: loader(Stream(with_errors(PICTURES))),
    "loader with its own collate_fn": lambda: loader(Items(with_errors(TENSOR, ERROR)), collate_fn=torch.stack),
    "loader with batches of one": lambda: loader(
        Items(with_errors(TENSOR, ERROR)), collate_fn=torch.stack, batch_size=1
    ),
    "loader without batches": lambda: loader(Items(with_errors(TENSOR, ERROR)), batch_size=None),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_broken_images_raise_or_are_skipped(kind):
    with pytest.raises(ft.BrokenImageError, match=r"^(image 3: |/gone/3\.png: )"):
        ft.features_of_images(SOURCES[kind](), channel_means)
    found = ft.features_of_images(SOURCES[kind](), channel_means, skip_broken=True, batch_size=4)
    numbers = [message.removeprefix("/gone/").removeprefix("image ").split(":")[0] for message in found.skipped]
    assert [number.removesuffix(".png") for number in numbers] == ["3", "7"]
    assert found.indices == [index for index in range(12) if index not in BROKEN]
    # The network's float32 sums over 90 pixels.
    np.testing.assert_allclose(found.features, EXPECTED, rtol=1e-6)


def test_workers(tmp_path):
    found = ft.features_of_images(Items(with_errors(TENSOR, ERROR)), channel_means, skip_broken=True, num_workers=2)
    assert found.skipped == ["image 3: OSError: cannot read", "image 7: OSError: cannot read"]
    loaded = ft.features_of_images(
        loader(Items(with_errors(TENSOR, ERROR)), num_workers=1), channel_means, skip_broken=True
    )
    assert loaded.skipped[0] == "image 3: item 3 of the Dataset: OSError: cannot read"
    np.testing.assert_array_equal(loaded.features, found.features)


def test_the_cause_is_the_error_of_the_dataset():
    with pytest.raises(ft.BrokenImageError, match=r"^image 3: OSError: cannot read") as caught:
        ft.features_of_images(Items(with_errors(TENSOR, ERROR)), channel_means)
    assert caught.value.__cause__ is ERROR


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_fifo_does_not_wait_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    found = ft.features_of_images([tmp_path / "fifo.png", *IMAGES], channel_means, skip_broken=True)
    assert found.skipped == [f"{tmp_path / 'fifo.png'}: not a regular file"]


def test_samples_are_named_by_their_key():
    samples = [{"__key__": f"00{i}", "jpg": encoded(image)} for i, image in enumerate(IMAGES)]
    samples[3]["jpg"] = b"no image"
    del samples[7]["jpg"]
    found = ft.features_of_images(Stream(samples), channel_means, skip_broken=True)
    assert [message.split(":")[0] for message in found.skipped] == ["003", "007"]
    assert found.names[:4] == ["000", "001", "002", "004"]


def test_a_generator_that_raises_is_not_taken_for_complete():
    """The images after its error are lost, so that the result would be that of other images."""

    def generator():
        yield from PICTURES[:7]
        raise ERROR

    for source in (generator(), map(Image.Image.copy, generator()), Stream(generator())):
        with pytest.raises(
            ft.BrokenImageError, match=r"image 7: OSError: cannot read; the iterable cannot be read fur"
        ):
            ft.features_of_images(source, channel_means, skip_broken=True)


def test_a_collate_fn_that_raises_breaks_its_batch():
    tensors = list(TENSOR)

    def refuse(items):
        if items[0] is tensors[5]:
            raise ERROR
        return torch.stack(items)

    found = ft.features_of_images(loader(Items(tensors), collate_fn=refuse), channel_means, skip_broken=True)
    assert found.skipped == [f"image {i}: collate_fn: OSError: cannot read" for i in range(5, 10)]
    assert found.indices == [0, 1, 2, 3, 4, 10, 11]


def test_results_without_a_list_warn_of_skipped_images():
    with pytest.warns(UserWarning, match=r"source: skipped 2 images; the first: /gone/3\.png"):
        ft.stats_of_images(with_errors(PICTURES), channel_means, skip_broken=True)
    with pytest.warns(UserWarning, match=r"samples: skipped 2 images; the first: /gone/3\.png"):
        ft.fid_of_images(with_errors(PICTURES), IMAGES, channel_means, skip_broken=True)


def test_no_image_can_be_read():
    for source in ([b"no image"] * 3, Stream([b"no image"] * 3)):
        with pytest.raises(ValueError, match="none of the 3 images could be used; the first: image 0: not an image"):
            ft.moments_of_images(source, channel_means, skip_broken=True)


# NaN features -------------------------------------------------------------------------------------------------------


def nan_for_black(images):
    """NaN for an image whose first pixel is black."""
    features = images.mean(dim=(2, 3))
    features[images[:, :, 0, 0].sum(dim=1) == 0] = float("nan")
    return features


@pytest.fixture
def with_black():
    images = IMAGES.copy()
    images[list(BROKEN), 0, 0] = 0
    return images


@pytest.mark.parametrize("function", [ft.moments_of_images, ft.features_of_images])
@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_images_with_nan_features_are_named_by_their_number(tmp_path, with_black, function, batch_size):
    extractor = ft.as_extractor(nan_for_black, name="net")
    paths = [tmp_path / f"{i:02}.png" for i in range(12)]
    for path, image in zip(paths, with_black, strict=True):
        path.write_bytes(encoded(image))
    for source, name in (
        (tmp_path, r".*/0{0}\.png \(image {0}\)"),
        (paths, r".*/0{0}\.png \(image {0}\)"),
        (list(with_black), "image {0}"),
        (Stream(list(with_black)), "image {0}"),
    ):
        message = ": extractor net: features hold NaN or infinity$"
        with pytest.raises(ft.BrokenImageError, match=f"^{name.format(3)}{message}"):
            function(source, extractor, batch_size=batch_size)
        found = function(source, extractor, batch_size=batch_size, skip_broken=True)
        assert len(found.skipped) == 2
        for text, index in zip(found.skipped, BROKEN, strict=True):
            assert f"image {index}" in text
            assert text.endswith("extractor net: features hold NaN or infinity")
        if function is ft.features_of_images:
            assert found.indices == [index for index in range(12) if index not in BROKEN]
        else:
            assert found.moments.num_samples == 10


def test_only_nan_features():
    with pytest.raises(ValueError, match=r"none of the 12 images could be used; the first: .*: features hold NaN"):
        ft.moments_of_images(IMAGES, lambda images: channel_means(images) / 0, skip_broken=True)


def test_an_extractor_must_return_a_row_for_each_image():
    with pytest.raises(ValueError, match="extractor function returned 24 rows for 8 images"):
        ft.moments_of_images(IMAGES, lambda images: images.mean(dim=3).flatten(0, 1))
