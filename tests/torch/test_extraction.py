"""Moments, features and distances of images do not depend on the source, the batches or interruptions."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from photographs import assert_same, crops, planes, write
from PIL import Image

import fidfast
import fidfast.torch as ft
from fidfast._images import cache
from fidfast.torch._images import extraction_pass
from fidfast.torch._images.options import default_num_workers


@pytest.fixture(scope="module")
def images():
    return np.stack(list(crops(0, [(24, 24)] * 50)))


@pytest.fixture(scope="module")
def stats(images):
    """Expected mean and covariance."""
    return expected_stats(images)


@pytest.fixture
def folder(tmp_path, images):
    return write(tmp_path / "images", images)


class Colours(torch.nn.Module):
    """A small network with random weights that counts its images."""

    name = "Colours"
    input_size = 16

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 5, bias=False)
        with torch.no_grad():
            self.conv.weight.normal_(generator=torch.Generator().manual_seed(3))
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        return self.conv(images).relu().mean(dim=(2, 3))


def expected_stats(images):
    """Mean and covariance, computed image by image."""
    network = Colours()
    with torch.inference_mode():
        rows = [
            network(ft.resize(torch.from_numpy(image.copy()).permute(2, 0, 1), "pil-bicubic", (16, 16))[None] / 255)
            for image in images
        ]
    rows = torch.cat(rows).double().numpy()
    return rows.mean(0), np.cov(rows, rowvar=False)


# Sources ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [None, 0, 2])
def test_folder(folder, images, num_workers, stats):
    moments, skipped = ft.moments_of_images(folder, Colours(), num_workers=num_workers)
    assert (moments.num_samples, skipped) == (50, [])
    assert moments.extractor == "Colours/pil-bicubic-16"
    assert_same(moments.stats(), stats)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_result_does_not_depend_on_batch_size(images, batch_size, stats):
    assert_same(ft.stats_of_images(images, Colours(), batch_size=batch_size), stats)


class ListDataset(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


DATASETS = {
    "uint8 tensors": planes,
    "floats from 0 to 1": lambda image: planes(image) / 255,
    "images and labels": lambda image: (planes(image), 3),
    "PIL": Image.fromarray,
    "dictionaries": lambda image: {"label": 3, "image": planes(image)},
}


@pytest.mark.parametrize("kind", DATASETS)
def test_torch_dataset(images, kind, stats):
    assert_same(ft.stats_of_images(ListDataset([DATASETS[kind](image) for image in images]), Colours()), stats)


@pytest.mark.parametrize("mode", ["P", "L", "LA", "CMYK", "1", "RGBA", "YCbCr"])
def test_pil_images_of_a_dataset_equal_those_of_a_folder(images, mode):
    items = [Image.fromarray(image).convert(mode) for image in images]
    expected = expected_stats([np.array(item.convert("RGB")) for item in items])
    assert_same(ft.stats_of_images(ListDataset(items), Colours()), expected)


def test_loader_of_lists_of_arrays():
    mixed = list(crops(1, [(20, 30), (24, 24)] * 6))
    loader = torch.utils.data.DataLoader(ListDataset(mixed), batch_size=5, collate_fn=list)
    assert_same(ft.stats_of_images(loader, Colours()), expected_stats(mixed))


@pytest.mark.parametrize("kind", ["uint8 tensors", "floats from 0 to 1", "images and labels", "dictionaries"])
def test_torch_data_loader(images, kind, stats):
    loader = torch.utils.data.DataLoader(ListDataset([DATASETS[kind](image) for image in images]), batch_size=8)
    assert_same(ft.stats_of_images(loader, Colours()), stats)


def test_mixed_sizes(tmp_path):
    mixed = list(crops(1, [(20, 30), (24, 24), (20, 30), (64, 17)] * 6))
    folder = write(tmp_path / "mixed", mixed)
    assert_same(ft.stats_of_images(folder, Colours()), expected_stats(mixed))
    # Without an input size the network receives images of their original sizes.
    network = Colours()
    network.input_size = None
    rows = np.concatenate([network(planes(image)[None] / 255).detach().double().numpy() for image in mixed])
    assert_same(ft.stats_of_images(folder, network), (rows.mean(0), np.cov(rows, rowvar=False)))


def test_precision_of_the_moments(images):
    assert ft.moments_of_images(images, Colours()).moments.precision == "float64"
    assert ft.moments_of_images(images, Colours(), precision="float32").moments.precision == "float32"
    with pytest.raises(ValueError, match="precision must be 'float32' or 'float64', got 'float16'"):
        ft.moments_of_images(images, Colours(), precision="float16")


def test_progress_bar_on_terminals_only(monkeypatch, capsys, images):
    ft.moments_of_images(images, Colours(), progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    ft.moments_of_images(images, Colours(), progress=True)
    err = capsys.readouterr().err
    assert "50/50" in err
    assert "images/s" in err
    ft.moments_of_images(images, Colours())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        (
            torch.zeros(3, 4, 4, dtype=torch.int64),
            TypeError,
            "images must be uint8, or floats from 0 to 1, got torch.int64",
        ),
        (torch.full((3, 4, 4), 255.0), ValueError, "must be from 0 to 1, got values from 255 to 255"),
        (torch.full((3, 4, 4), float("nan")), ValueError, "must be from 0 to 1, but they hold NaN or infinity"),
        (torch.full((3, 4, 4), float("inf")), ValueError, "must be from 0 to 1, but they hold NaN or infinity"),
        (torch.zeros(5, 4, 4), ValueError, r"a height, a width and 1, 3 or 4 channels, got shape \(5, 4, 4\)"),
        (torch.zeros(4), ValueError, r"got shape \(4,\)"),
    ],
)
def test_invalid_images(item, error, message):
    with pytest.raises(error, match=message):
        ft.stats_of_images(ListDataset([item] * 3), Colours())


def test_error_for_nonfinite_features_names_the_extractor(images):
    def divided(batch):
        return batch.mean(dim=(2, 3)) / 0

    with pytest.raises(ValueError, match="extractor divided: features hold NaN or infinity"):
        ft.stats_of_images(images, ft.as_extractor(divided, name="divided"))


@pytest.mark.parametrize(
    ("cores", "device", "workers"),
    [(1, "cpu", 0), (2, "cpu", 0), (3, "cpu", 1), (64, "cpu", 2), (2, "cuda", 2), (64, "cuda:1", 8)],
)
def test_default_num_workers(monkeypatch, cores, device, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: range(cores), raising=False)
    assert default_num_workers(torch.device(device)) == workers
    assert default_num_workers(device) == workers


# Broken images ------------------------------------------------------------------------------------------------------


def test_broken_images_raise_or_are_skipped(folder, images):
    (folder / "0003.png").write_bytes(b"no image")
    (folder / "0040.png").write_bytes((folder / "0041.png").read_bytes()[:500])
    with pytest.raises(ft.BrokenImageError, match=r"images/0003\.png: not an image"):
        ft.moments_of_images(folder, Colours())
    moments, skipped = ft.moments_of_images(folder, Colours(), skip_broken=True)
    assert [message.split(":")[0] for message in skipped] == [f"{folder}/0003.png", f"{folder}/0040.png"]
    assert_same(moments.stats(), expected_stats(np.delete(images, [3, 40], axis=0)))


def test_only_broken_images(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none of the 1 images could be used; the first: .*/a\.png: not an image"):
        ft.moments_of_images(tmp_path, Colours(), skip_broken=True)


# The cache ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def count_and_moments(source, **changes):
    """Number of images that the network processed, and the moments."""
    extractor = replace(ft.as_extractor(Colours()), reproducible=True)
    # A callable that is not a module is not copied, so that its counter can be read.
    network = Colours()
    extractor = replace(extractor, model=lambda batch: network(batch), **changes)
    moments = ft.moments_of_images(source, extractor, use_cache=True, num_workers=0, skip_broken=True).moments
    return network.seen, moments


def test_cache_depends_on_the_images(folder, cache_folder):
    count, first = count_and_moments(folder)
    assert count == 50
    count, again = count_and_moments(folder)
    assert count == 0
    assert again == first
    renamed = folder.rename(folder.with_name("renamed"))
    assert count_and_moments(renamed)[0] == 0
    os.utime(renamed / "0007.png", (1, 1))
    assert count_and_moments(renamed)[0] == 0
    for change in (
        lambda: (renamed / "0007.png").unlink(),
        lambda: (renamed / "0008.png").rename(renamed / "0008b.png"),
    ):
        change()
        count, _ = count_and_moments(renamed)
        assert count == len(list(renamed.iterdir()))
        assert count_and_moments(renamed)[0] == 0


def test_cache_depends_on_the_extractor(folder, cache_folder):
    for changes in ({}, {"resize": "tf1-bilinear"}, {"input_size": (17, 16)}, {"name": "other"}, {"variant": "x"}):
        assert count_and_moments(folder, **changes)[0] == 50, changes
    assert len(list(cache_folder.iterdir())) == 5
    # An extractor that is not reproducible is not cached.
    assert count_and_moments(folder, name="again", reproducible=False)[0] == 50
    assert count_and_moments(folder, name="again", reproducible=False)[0] == 50
    assert len(list(cache_folder.iterdir())) == 5


def test_moments_with_skipped_images_are_not_cached(folder, cache_folder):
    (folder / "0003.png").write_bytes(b"no image")
    assert count_and_moments(folder)[0] == count_and_moments(folder)[0] == 49


def test_damaged_or_unwritable_cache_is_ignored(folder, cache_folder):
    count_and_moments(folder)
    (file,) = cache_folder.iterdir()
    file.write_bytes(b"damaged")
    assert count_and_moments(folder)[0] == 50
    assert count_and_moments(folder)[0] == 0
    file.unlink()
    cache_folder.rmdir()
    cache_folder.write_text("a file where the folder should be")
    assert count_and_moments(folder)[0] == 50


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("FIDFAST_CACHE", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "fidfast"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "fidfast"


# Checkpoints --------------------------------------------------------------------------------------------------------


def interrupted(network, after):
    """An extractor that raises KeyboardInterrupt after a number of images."""
    limits = [after]  # lists are not compared when a run is continued

    def call(batch):
        if network.seen >= limits[0]:
            raise KeyboardInterrupt
        return network(batch)

    return replace(ft.as_extractor(network), model=call)


@pytest.mark.parametrize(("num_workers", "interval"), [(0, 0.0), (1, 0.0), (0, 1e9)])
def test_interrupted_run_continues(monkeypatch, tmp_path, folder, num_workers, interval):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", interval)
    (folder / "0003.png").write_bytes(b"no image")
    checkpoint = tmp_path / "run.npz"
    options = ft.ImageOptions(checkpoint=checkpoint, batch_size=8, num_workers=num_workers, skip_broken=True)
    expected = ft.moments_of_images(folder, interrupted(Colours(), 10**6), options=options)
    assert not checkpoint.exists()

    with pytest.raises(KeyboardInterrupt):
        ft.moments_of_images(folder, interrupted(Colours(), 23), options=options)
    assert checkpoint.exists()
    with pytest.raises(ft.BrokenImageError, match=r"0003\.png"):
        ft.moments_of_images(folder, interrupted(Colours(), 10**6), options=options, skip_broken=False)
    network = Colours()
    resumed = ft.moments_of_images(folder, interrupted(network, 10**6), options=options)
    assert network.seen == 50 - 24  # three batches of 8 were done
    assert resumed.skipped == expected.skipped
    assert resumed.moments == expected.moments  # exactly
    assert not checkpoint.exists()


def test_interrupted_run_over_a_data_loader_continues(monkeypatch, tmp_path, images):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)
    loader = torch.utils.data.DataLoader(ListDataset([planes(image) for image in images]), batch_size=8)
    checkpoint = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        ft.moments_of_images(loader, interrupted(Colours(), 23), checkpoint=checkpoint)
    network = Colours()
    resumed = ft.moments_of_images(loader, interrupted(network, 10**6), checkpoint=checkpoint)
    assert network.seen == 50 - 24
    assert resumed.moments == ft.moments_of_images(loader, interrupted(Colours(), 10**6)).moments


def test_checkpoint_refuses_a_shuffling_loader(tmp_path, images):
    loader = torch.utils.data.DataLoader(ListDataset([planes(image) for image in images]), shuffle=True)
    with pytest.raises(ValueError, match="checkpoint needs a fixed order of images, but the DataLoader shuffles"):
        ft.moments_of_images(loader, Colours(), checkpoint=tmp_path / "run.npz")


def test_stream_of_unknown_length(images, stats):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return map(planes, images)

    for source in (Stream(), torch.utils.data.DataLoader(Stream(), batch_size=8)):
        assert_same(ft.stats_of_images(source, Colours()), stats)


def test_checkpoint_of_another_run_is_refused(monkeypatch, tmp_path, folder):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)
    checkpoint = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        ft.moments_of_images(folder, interrupted(Colours(), 20), checkpoint=checkpoint)
    other = replace(ft.as_extractor(Colours()), resize="tf1-bilinear")
    changes = "other images, options or metrics, or other extractors than Colours/tf1-bilinear-16"
    with pytest.raises(ValueError, match=rf"run.npz belongs to another run \({changes}\)"):
        ft.moments_of_images(folder, other, checkpoint=checkpoint)
    changed = Colours()
    changed.conv.weight.data[0] += 1
    with pytest.raises(ValueError, match="belongs to another run"):
        ft.moments_of_images(folder, changed, checkpoint=checkpoint)
    (folder / "0000.png").unlink()
    with pytest.raises(ValueError, match="belongs to another run"):
        ft.moments_of_images(folder, Colours(), checkpoint=checkpoint)
    fidfast.Moments(6).save(checkpoint)
    with pytest.raises(
        ValueError, match=r"run\.npz is damaged or not a checkpoint of an unfinished run: pass another name"
    ):
        ft.moments_of_images(folder, Colours(), checkpoint=checkpoint)


def test_damaged_checkpoint_is_a_named_error(monkeypatch, tmp_path, folder):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)
    checkpoint = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        ft.moments_of_images(folder, interrupted(Colours(), 20), checkpoint=checkpoint)
    with np.load(checkpoint) as archive:
        entries = dict(archive)
    for entry in ("0/count", "dim", "precision", "extractor"):
        np.savez(checkpoint, **{key: value for key, value in entries.items() if key != f"0/moments/{entry}"})
        with pytest.raises(ValueError, match=f"run.npz: the state of Collection has no '{entry}'"):
            ft.moments_of_images(folder, interrupted(Colours(), 10**6), checkpoint=checkpoint)
    np.savez(checkpoint, **{**entries, "0/moments/dim": np.array([1, 2])})
    with pytest.raises(ValueError, match=r"run.npz: 'dim' must be an integer from 1 to \d+, got \[1, 2\]"):
        ft.moments_of_images(folder, interrupted(Colours(), 10**6), checkpoint=checkpoint)
