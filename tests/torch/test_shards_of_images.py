"""Moments of the shards of images: together those of all images, whatever runs are killed."""

import os
import shutil

import numpy as np
import pytest
import torch
from image_files import write_files
from sources import IMAGES, PICTURES, TENSOR, Items, Stream, channel_means, encoded, not_called
from torch.utils.data import DataLoader

import fidfast
import fidfast.torch as ft
from fidfast.torch._images import extraction_pass
from fidfast.torch._images.options import ImageOptions
from fidfast.torch._images.sources import open_source

FILES = {f"{k % 3}/{k:02}.png": encoded(image) for k, image in enumerate(IMAGES)}
SOURCES = {
    "folder": lambda path: write_files("folder", path, FILES),
    "tar": lambda path: write_files("tar", path, FILES),
    "array": lambda path: IMAGES,
    "list": lambda path: PICTURES,
    "Dataset": lambda path: Items(PICTURES),
    "loader": lambda path: DataLoader(Items(PICTURES), batch_size=5),
}


def shards(folder, source, number, **options):
    """The files of all shards."""
    files = []
    for k in range(1, number + 1):
        files.append(folder / f"{k}.moments.npz")
        ft.moments_of_images(source, channel_means, shard=f"{k}/{number}", **options).save(files[-1])
    return files


@pytest.mark.grid(keep=8)
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("number", [1, 5, 15])
def test_the_shards_of_a_source(kind, number, tmp_path):
    source = SOURCES[kind](tmp_path / "source")
    (tmp_path / "parts").mkdir()
    merged = fidfast.merge_parts(shards(tmp_path / "parts", source, number)[::-1])
    assert merged.moments == ft.moments_of_images(source, channel_means).moments
    assert [(part.shards, part.num_samples) for part in merged.parts] == [(1, 12)]


@pytest.mark.parametrize("blocks", [1, 2])
def test_options_of_shards(blocks, tmp_path):
    merged = fidfast.merge_parts(shards(tmp_path, IMAGES, 5, precision="float64", blocks=blocks)).moments
    expected = ft.moments_of_images(IMAGES, channel_means).moments.stats()
    assert (merged.precision, len(merged.blocks)) == ("float64", blocks)
    # Sums of float64.
    np.testing.assert_allclose(merged.stats().sigma, expected.sigma, rtol=1e-12, atol=1e-12 * expected.sigma.max())


def test_products_are_float64_by_default(tmp_path, rng):
    images = rng.integers(0, 256, (3000, 4, 4, 3), dtype=np.uint8)
    mixing = torch.from_numpy(rng.standard_normal((48, 600)))

    def many_features(batch):
        return (batch.double().flatten(1) @ mixing).sin().float()  # 512 and more may be multiplied in float32

    files = []
    for k in range(1, 4):
        files.append(tmp_path / f"{k}.moments.npz")
        ft.moments_of_images(images, many_features, shard=f"{k}/3").save(files[-1])
    merged, expected = fidfast.merge_parts(files).moments, ft.moments_of_images(images, many_features).moments
    assert merged.precision == expected.precision == "float64"
    # Sums of 3,000 products of float64 in another order; in float32 they differ by 1e-7.
    sigma = expected.stats().sigma
    np.testing.assert_allclose(merged.stats().sigma, sigma, rtol=0, atol=1e-14 * sigma.max())
    assert ft.moments_of_images(images[:5], many_features, precision="float32").moments.precision == "float32"


def test_broken_images_of_shards(tmp_path):
    files = {**FILES, "0/00.png": b"", "0/03.png": b"no image"}  # all images of the first shard
    source = write_files("folder", tmp_path / "source", files)
    merged = fidfast.merge_parts(shards(tmp_path, source, 6, skip_broken=True))
    expected = ft.moments_of_images(source, channel_means, skip_broken=True)
    assert merged.moments == expected.moments
    assert merged.skipped == expected.skipped
    with pytest.raises(ft.BrokenImageError, match=r"0/00\.png"):
        ft.moments_of_images(source, channel_means, shard="1/6")


def test_a_source_without_images_has_no_shards(tmp_path):
    with pytest.raises(ValueError, match="there are no images"):
        ft.moments_of_images([], channel_means, shard="1/2")
    everything = write_files("folder", tmp_path, dict.fromkeys(FILES, b"no image"))
    with pytest.raises(ValueError, match=r"number of features of the extractor .* is unknown: all images are broken"):
        ft.moments_of_images(everything, channel_means, shard="1/6", skip_broken=True)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "list of paths", "npy"])
def test_machines_with_copies_agree_on_the_source(kind, tmp_path):
    def source(name, files):
        path = tmp_path / name
        if kind == "npy":
            path.mkdir()
            np.save(path / "images.npy", np.stack([IMAGES[0] * 0 + len(content) % 256 for content in files.values()]))
            return path / "images.npy"
        path = write_files("folder" if kind == "list of paths" else kind, path, files)
        return sorted(path.glob("*/*.png")) if kind == "list of paths" else path

    def digest(name, files):
        return open_source(source(name, files), ImageOptions()).digest()

    first = digest("a", FILES)
    assert digest("b", FILES) == first
    assert digest("c", {**FILES, "0/00.png": b"other"}) != first
    assert digest("d", dict(list(FILES.items())[:-1])) != first
    if kind != "npy":
        assert digest("e", {name.replace("2/", "3/"): content for name, content in FILES.items()}) != first


def test_a_shard_that_was_killed_continues(monkeypatch, tmp_path):
    """What a killed process leaves is a copy of its last checkpoint."""
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)
    copy, checkpoint = tmp_path / "copy.npz", tmp_path / "checkpoint.npz"
    calls = []

    def counted(images):
        calls.append(len(images))
        if checkpoint.exists() and not copy.exists():
            shutil.copy(checkpoint, copy)
        return channel_means(images)

    counted.__name__ = "means"
    options = {"batch_size": 1, "checkpoint": checkpoint}
    found = ft.moments_of_images(PICTURES, counted, shard="2/2", **options)
    assert sum(calls) == 6
    for other in ("1/2", "4/4", None):
        os.replace(copy, checkpoint)
        with pytest.raises(ValueError, match="belongs to another run"):
            ft.moments_of_images(PICTURES, counted, shard=other, **options)
        shutil.copy(checkpoint, copy)
    calls.clear()
    assert ft.moments_of_images(PICTURES, counted, shard="2/2", **options).moments == found.moments
    assert 0 < sum(calls) < 6
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (ft.stats_of_images, (IMAGES, not_called)),
        (ft.stats_by_extractor, (IMAGES, [not_called])),
        (ft.fid_of_images, (IMAGES, IMAGES, not_called)),
        (ft.estimate_of_images, (IMAGES, IMAGES, not_called)),
        (ft.features_of_images, (IMAGES, not_called)),
        (ft.evaluate, (IMAGES, IMAGES)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_functions_without_shards(function, arguments):
    message = f"shard applies to moments_of_images, .* not to {function.__name__}"
    with pytest.raises(ValueError, match=message):
        function(*arguments, options=ImageOptions(shard="1/2"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Stream(PICTURES), "part 1/2 needs images in a fixed order, but Stream cannot be read from the middle"),
        (DataLoader(Items(PICTURES), shuffle=True), "the DataLoader shuffles: pass shuffle=False"),
        ([TENSOR[:5], TENSOR[5:]], "the list holds batches"),
    ],
    ids=["stream", "loader", "batches"],
)
def test_sources_without_a_fixed_order(source, message):
    with pytest.raises(ValueError, match=message):
        ft.moments_of_images(source, not_called, shard="1/2")


def test_the_cache_keeps_shards_apart(monkeypatch, tmp_path):
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    source = write_files("zip", tmp_path / "source", FILES)
    extractor = ft.Extractor(torch.nn.Flatten(), "flat", input_size=(2, 2), reproducible=True)
    found = [ft.moments_of_images(source, extractor, shard=f"{k}/2", use_cache=True) for k in (1, 2, 1)]
    assert [one.from_cache for one in found] == [False, False, True]
    assert found[0].moments == found[2].moments
    assert found[0].moments != found[1].moments
