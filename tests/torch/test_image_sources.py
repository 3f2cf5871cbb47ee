"""Every source of the same images gives the same moments; what is not an image is an error."""

import numpy as np
import pytest
import torch
from photographs import crops
from PIL import Image
from sources import IMAGES, PICTURES, TENSOR, Columns, Items, Stream, channel_means, encoded, not_called
from torch.utils.data import BatchSampler, DataLoader, SubsetRandomSampler, TensorDataset

import fidfast
import fidfast.torch as ft

LABELS = torch.zeros(12)
LAST = torch.from_numpy(IMAGES)
BYTES = [encoded(image) for image in IMAGES]


def halves(images):
    return [images[:5], images[5:]]


def loader(items, **options):
    return DataLoader(items, **{"batch_size": 5, **options})


def stacked(items):
    return torch.from_numpy(np.stack(items))


def columns_of(items):
    return tuple(zip(*items, strict=True))


def dictionary(items):
    return {"image": [item["image"] for item in items], "label": [item["label"] for item in items]}


SOURCES = {
    # Arrays and tensors
    "uint8 tensor": lambda: TENSOR,
    "uint8 tensor, channels last": lambda: LAST,
    "float tensor": lambda: TENSOR / 255,
    "float tensor, channels last": lambda: LAST / 255,
    "float16 tensor that requires a gradient": lambda: (TENSOR / 255).double().requires_grad_(),
    "float array": lambda: TENSOR.numpy() / 255,
    "float array, channels last": lambda: (IMAGES / 255).astype(np.float32),
    "array of objects": lambda: np.array([*PICTURES, None], dtype=object)[:-1],
    # Lists and other iterables
    "list of PIL images": lambda: PICTURES,
    "tuple of arrays": lambda: tuple(IMAGES),
    "list of tensors": lambda: list(TENSOR),
    "list of pairs": lambda: [(picture, 3) for picture in PICTURES],
    "list of bytes": lambda: BYTES,
    "list of batches": lambda: halves(TENSOR),
    "list of a loader": lambda: list(loader(TensorDataset(TENSOR, LABELS))),
    "generator": lambda: (picture for picture in PICTURES),
    "generator of lists": lambda: (part for part in halves(PICTURES)),
    "map": lambda: map(Image.fromarray, IMAGES),
    "enumerate": lambda: enumerate(PICTURES),
    "values of a dictionary": lambda: dict(enumerate(PICTURES)).values(),
    "iterator of a loader": lambda: iter(loader(TensorDataset(TENSOR))),
    # torch
    "TensorDataset": lambda: TensorDataset(TENSOR / 255),
    "TensorDataset, channels last": lambda: TensorDataset(LAST / 255, LABELS),
    "IterableDataset of PIL images": lambda: Stream(PICTURES),
    "IterableDataset, channels last": lambda: Stream(list(IMAGES)),
    "IterableDataset of tensors, channels last": lambda: Stream(list(LAST)),
    "IterableDataset of batches": lambda: Stream(halves(TENSOR)),
    "IterableDataset of batches and labels": lambda: Stream([(part, LABELS[: len(part)]) for part in halves(TENSOR)]),
    "IterableDataset with captions": lambda: Stream([(picture, ["a b", "c d"]) for picture in PICTURES]),
    "loader, channels last": lambda: loader(Items(list(LAST))),
    "loader of arrays": lambda: loader(Items(list(IMAGES))),
    "loader of PIL images": lambda: loader(Items(PICTURES)),
    "loader of PIL images and labels": lambda: loader(Items([(picture, 1) for picture in PICTURES])),
    "loader of an IterableDataset": lambda: loader(Stream(PICTURES)),
    "loader with its own collate_fn": lambda: loader(Items(list(IMAGES)), collate_fn=stacked),
    "loader of columns": lambda: loader(Items([(picture, 1) for picture in PICTURES]), collate_fn=columns_of),
    "loader without batches": lambda: loader(Items(list(TENSOR)), batch_size=None),
    "loader with workers": lambda: loader(Items([(picture, 1) for picture in PICTURES]), num_workers=1),
    # Hugging Face
    "columns": lambda: Columns(image=PICTURES, label=list(range(12))),
    "columns of another name": lambda: Columns(scan=PICTURES, label=list(range(12))),
    "columns of files": lambda: Columns(image=[{"bytes": file, "path": None} for file in BYTES]),
    "one column": lambda: Columns(image=PICTURES)["image"],
    "loader of columns by collate_fn": lambda: loader(
        Columns(image=PICTURES, label=list(range(12))), collate_fn=dictionary
    ),
    # WebDataset
    "samples": lambda: Stream([{"__key__": "a", "jpg": file, "json": b"{}", "cls": b"3"} for file in BYTES]),
    "decoded samples": lambda: Stream([{"__key__": "a", "png": picture, "txt": "a b"} for picture in PICTURES]),
    "tuples of samples": lambda: Stream([("key", file) for file in BYTES]),
    "batched samples": lambda: Stream([(part, [3] * len(part)) for part in halves(PICTURES)]),
}


@pytest.fixture(scope="module")
def expected():
    return ft.stats_of_images(IMAGES, channel_means, precision="float64")


@pytest.mark.parametrize("kind", SOURCES)
def test_sources_of_the_same_images(kind, expected):
    moments, skipped = ft.moments_of_images(SOURCES[kind](), channel_means, precision="float64")
    assert (moments.num_samples, skipped) == (12, [])
    # float32 rounding of the pixels (1e-7) and of the sums over 90 pixels of the network.
    np.testing.assert_allclose(moments.stats().mu, expected.mu, rtol=1e-6)
    np.testing.assert_allclose(moments.stats().sigma, expected.sigma, atol=1e-6 * np.abs(expected.sigma).max())


GREY = IMAGES[:, :, :, 0]
GREY_SOURCES = {
    "uint8 tensor": lambda: torch.from_numpy(GREY),
    "float array": lambda: GREY / 255.0,
    "float tensor (n, 1, h, w)": lambda: torch.from_numpy(GREY)[:, None] / 255,
    "float array (n, h, w, 1)": lambda: GREY[..., None] / 255.0,
    "PIL images": lambda: [Image.fromarray(image) for image in GREY],
    "Dataset": lambda: TensorDataset(torch.from_numpy(GREY) / 255),
    "loader": lambda: loader(TensorDataset(torch.from_numpy(GREY))),
    "loader with its own collate_fn": lambda: loader(Items(list(torch.from_numpy(GREY))), collate_fn=torch.stack),
}


@pytest.mark.parametrize("kind", GREY_SOURCES)
def test_grey_images(kind):
    expected = ft.stats_of_images(GREY, channel_means)
    np.testing.assert_allclose(ft.stats_of_images(GREY_SOURCES[kind](), channel_means).mu, expected.mu, rtol=1e-6)


def test_paths(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path, file in zip(paths, BYTES, strict=True):
        path.write_bytes(file)
    expected = ft.features_of_images(IMAGES, channel_means).features
    for source in (paths, [str(path) for path in paths], iter(paths), [(path, 3) for path in paths]):
        found = ft.features_of_images(source, channel_means)
        np.testing.assert_array_equal(found.features, expected)
        assert found.names == [str(path) for path in paths]


def test_mixed_sizes():
    mixed = list(crops(1, [(20, 30), (24, 24)] * 4))
    expected = np.array([image.mean((0, 1)) for image in mixed]) / 255
    for source in (mixed, Stream(mixed), loader(Items(mixed)), (Image.fromarray(image) for image in mixed)):
        found = ft.features_of_images(source, channel_means)
        # The network's float32 sums over up to 600 pixels.
        np.testing.assert_allclose(found.features, expected[found.indices], rtol=1e-6)


def test_a_stream_has_no_total(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    ft.moments_of_images(iter(PICTURES), channel_means, progress=True)
    err = capsys.readouterr().err
    assert "12 images" in err
    assert "12/" not in err


# Keys of dictionaries -----------------------------------------------------------------------------------------------


def test_the_key_of_the_image():
    both = Columns(image=PICTURES[::-1][:6] * 2, pixel_values=PICTURES)
    message = "several entries may be the image, 'image', 'pixel_values': pass image_key=; the keys are 'image', 'pixel"
    for source in (both, Stream([both[i] for i in range(12)]), loader(both)):
        with pytest.raises(ValueError, match=message):
            ft.stats_of_images(source, not_called, skip_broken=True)
        found = ft.stats_of_images(source, channel_means, image_key="pixel_values")
        np.testing.assert_allclose(found.mu, ft.stats_of_images(IMAGES, channel_means).mu, rtol=1e-6)
    masks = Stream([{"__key__": "a", "jpg": file, "seg.png": file} for file in BYTES])
    with pytest.raises(ValueError, match=r"'jpg', 'seg.png': pass image_key="):
        ft.stats_of_images(masks, not_called)
    assert ft.stats_of_images(masks, channel_means, image_key="jpg").num_samples == 12
    with pytest.raises(ValueError, match="image 0: there is no image_key 'img'; the keys are 'image', 'pixel_values'"):
        ft.stats_of_images(both, not_called, image_key="img")
    with pytest.raises(
        ValueError, match="image 0: no entry is an image: pass image_key=; the keys are 'label', 'text'"
    ):
        ft.stats_of_images(Columns(label=[1, 2], text=["a", "b"]), not_called)
    with pytest.raises(TypeError, match="pass one of its entries; the keys are 'train', 'test'"):
        ft.stats_of_images({"train": both, "test": both}, not_called)


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "images must be a path, an array, a Dataset, a DataLoader or an iterable of images, got int"),
        (PICTURES[0], "images must be several, got one image: pass a list"),
        (BYTES[0], "images must be several, got one image: pass a list"),
        ([], "there are no images"),
        (iter(()), "there are no images"),
        (torch.rand(32, 32, 3), r"images of shape \(32, 32, 3\) are one image: pass images\[None\]"),
        (torch.rand(4, 2, 8, 8), r"with 1, 3 or 4 channels, got shape \(4, 2, 8, 8\)"),
        (["/gone.png"] * 2, r"/gone\.png: .*No such file or directory"),
        ([b"no image"] * 2, "image 0: not an image, or an unsupported format"),
        ([None] * 2, "image 0: not an image, but NoneType"),
        ([(3, "x", 2.0)] * 2, "x: .*No such file"),
        ([(3, 2.0)] * 2, "image 0: no image among entries of the types int, float"),
        (Items([ZeroDivisionError("by zero")] * 2), "image 0: ZeroDivisionError: by zero"),
        (TENSOR.float() / 127.5 - 1, r"from -1 to 1: if they are from -1 to 1, pass \(x \+ 1\) / 2"),
        (TENSOR.float(), "from 0 to 255: if they are from 0 to 255, pass x / 255, or uint8"),
        (torch.full((2, 3, 4, 4), 1.000003), r"from 0 to 1, got values from 1.0000\d+ to 1.0000\d+"),
    ],
    ids=str,
)
def test_what_is_not_an_image_is_found_before_the_network_runs(source, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ft.moments_of_images(source, not_called)


def test_rounding_beyond_1_is_clipped():
    """A few operations round to at most 4 spacings of the type at 1."""
    exact = torch.full((2, 3, 4, 4), 1.0)
    for factor in (1 + 1e-7, 1 + 4e-7):
        rounded = torch.stack([exact[0] * factor, exact[1] * 0 - 3e-7])
        found = ft.features_of_images(rounded, channel_means).features
        np.testing.assert_array_equal(found, [[1, 1, 1], [0, 0, 0]])


def test_checkpoints_need_a_fixed_order(tmp_path):
    shuffled = loader(Items(PICTURES), shuffle=True)
    for source, reason in (
        (iter(PICTURES), "list_iterator cannot be read from the middle: pass a path, a list or a Dataset"),
        (Stream(PICTURES), "Stream cannot be read from the middle"),
        (loader(Stream(PICTURES)), "the DataLoader reads an IterableDataset"),
        (shuffled, "the DataLoader shuffles: pass shuffle=False"),
        (DataLoader(Items(PICTURES), batch_sampler=shuffled.batch_sampler), "the DataLoader shuffles"),
        (DataLoader(Items(PICTURES), batch_sampler=[[0, 1]]), "the DataLoader shuffles"),
    ):
        with pytest.raises(ValueError, match=f"checkpoint needs a fixed order of images, but {reason}"):
            ft.moments_of_images(source, not_called, checkpoint=tmp_path / "run.npz")


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"batch_size": 5}, 12),
        ({"batch_size": 5, "drop_last": True}, 10),
        ({"sampler": SubsetRandomSampler([3, 4, 5]), "batch_size": 2}, 3),
        ({"batch_sampler": BatchSampler(SubsetRandomSampler([3, 4, 5]), 2, drop_last=True)}, 2),
        ({"batch_sampler": [[0, 1], [2]]}, 3),
    ],
)
def test_a_loader_keeps_its_sampler(monkeypatch, capsys, options, number):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    found = ft.moments_of_images(DataLoader(Items(PICTURES), **options), channel_means, progress=True)
    assert found.moments.num_samples == number
    # The length of another object than a BatchSampler is that of batches, so the bar has no total.
    assert (f"{number}/{number}" in capsys.readouterr().err) == (not isinstance(options.get("batch_sampler"), list))


def test_arrays_of_a_metric(expected):
    reference = fidfast.GaussianStats(expected.mu, expected.sigma, num_samples=12)
    distances = []
    for images in (TENSOR, IMAGES, IMAGES / 255.0, TENSOR.numpy()):
        metric = ft.FrechetDistance(channel_means, reference)
        metric.update(images)
        distances.append(metric.compute())
    np.testing.assert_allclose(distances, 0, atol=1e-6 * np.trace(expected.sigma))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_the_value_of_white_applies_to_arrays_in_memory(tmp_path, rng, dtype):
    """As to a file: an array, a tensor, and lists, also of a single image."""
    array = rng.integers(0, 1024, (6, 8, 8, 3)).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    tensor = torch.from_numpy(array).movedim(3, 1)
    expected = ft.features_of_images(tmp_path / "a.npy", channel_means, max_value=1023).features
    for source in (array, tensor, list(array), list(tensor), iter(array), DataLoader(tensor, 4)):
        found = ft.features_of_images(source, channel_means, max_value=1023).features
        np.testing.assert_array_equal(found, expected)


def test_the_value_of_white_applies_to_half_precision():
    """The integers up to 255 are exact in bfloat16."""
    expected = ft.features_of_images(TENSOR, channel_means).features
    for source in (TENSOR.bfloat16(), list(TENSOR.bfloat16()), TENSOR.half()):
        np.testing.assert_array_equal(ft.features_of_images(source, channel_means, max_value=255).features, expected)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_grey_batches_of_a_stream_need_an_axis_of_channels(rng, convert):
    grey = rng.integers(0, 256, (12, 8, 8), dtype=np.uint8)
    expected = ft.features_of_images(grey, channel_means).features
    with pytest.raises(fidfast.torch.BrokenImageError, match=r"got shape \(6, 8, 8\); pass a batch of grey images as"):
        ft.features_of_images((convert(grey[i : i + 6]) for i in (0, 6)), channel_means)
    for batches in (grey[:, None], grey[..., None]):
        stream = (convert(batches[i : i + 6]) for i in (0, 6))
        np.testing.assert_array_equal(ft.features_of_images(stream, channel_means).features, expected)
