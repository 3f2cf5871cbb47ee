"""Everything that can be known is checked before a network runs, for both sides and in every function."""

import os

import numpy as np
import pytest
import torch
from photographs import write
from sources import IMAGES, PICTURES, Stream, channel_means, encoded, not_called

import fidfast
import fidfast.torch as ft


def named(function, name, num_features=None):
    function = ft.as_extractor(function, name=name)
    return ft.Extractor(function.model, name, num_features=num_features)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "images", IMAGES)


@pytest.fixture
def stats():
    """Statistics of dim 3."""
    return ft.stats_of_images(IMAGES, channel_means)


FUNCTIONS = {
    "fid_of_images": lambda source, **options: ft.fid_of_images(IMAGES, source, not_called, **options),
    "reversed": lambda source, **options: ft.fid_of_images(source, IMAGES, not_called, **options),
    "estimate_of_images": lambda source, **options: ft.estimate_of_images(IMAGES, source, not_called, **options),
    "stats_of_images": lambda source, **options: ft.stats_of_images(source, not_called, **options),
    "check_images": lambda source, **options: ft.check_images(
        {"samples": IMAGES, "reference": source}, not_called, options=ft.ImageOptions(**options)
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_mistakes_in_a_source(tmp_path, name):
    function = FUNCTIONS[name]
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "0.png").write_bytes(encoded(IMAGES[0]))
    (tmp_path / "broken").mkdir()
    for i in range(2):
        (tmp_path / "broken" / f"{i}.png").write_bytes(b"no image")
    for source, message in (
        (tmp_path / "gone", "no such file or folder: .*gone"),
        (tmp_path / "empty", "empty holds no images"),
        (tmp_path / "one", "a covariance needs at least 2 images, got 1"),
        (tmp_path / "broken", r"0\.png: not an image"),
        (IMAGES[:1], "at least 2 images, got 1"),
        (PICTURES[:1], "at least 2 images, got 1"),
        (Stream(PICTURES[:1]), "at least 2 images, got 1"),
        ((picture for picture in PICTURES[:1]), "at least 2 images, got 1"),
        (np.zeros((3, 2, 2, 2), np.uint8), "with 1, 3 or 4 channels"),
        ([None, None], "image 0: not an image"),
    ):
        with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
            function(source)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_mistakes_in_options(name):
    function = FUNCTIONS[name]
    for device, reason in (("gpu0", "Invalid device string"), ("abc", "Expected one of cpu, cuda"), ("cuda:99", ".*")):
        with pytest.raises(ValueError, match=f"device '{device}' cannot be used: {reason}"):
            function(IMAGES, device=device)
    with pytest.raises(ValueError, match="dtype='bfloat16' needs a network that can be prepared"):
        function(IMAGES, dtype="bfloat16")


def test_the_name_of_the_side_is_in_the_message():
    for sources, name in (((IMAGES, IMAGES[:1]), "reference"), ((IMAGES[:1], IMAGES), "samples")):
        with pytest.raises(ValueError, match=f"^{name}: a covariance needs at least 2 images, got 1"):
            ft.fid_of_images(*sources, not_called)
    with pytest.raises(ValueError, match=r"^reference: image 0: not an image"):
        ft.fid_of_images(IMAGES, [b"no image"] * 2, not_called)
    with pytest.raises(ValueError, match=r"^samples: a covariance needs at least 4 images, got 3"):
        ft.fid_of_images(IMAGES[:3], IMAGES, not_called, ddof=3)
    assert ft.moments_of_images(IMAGES[:1], channel_means).moments.num_samples == 1  # may be merged later


def test_images_are_checked_before_the_extractor_is_loaded():
    with pytest.raises(ValueError, match=r"^reference: image 0: not an image"):
        ft.fid_of_images(IMAGES, [b"no image"] * 2, "no extractor")


def test_dim_of_statistics(tmp_path, folder):
    wide = fidfast.GaussianStats(np.zeros(5), np.eye(5))
    wide.save(tmp_path / "wide.npz")
    np.save(tmp_path / "features.npy", np.random.default_rng(0).normal(size=(9, 5)))
    message = "reference has dim 5, but the extractor net has dim 3: pass the extractor that computed reference"
    seen = []

    def counting(images):
        seen.append(len(images))
        return channel_means(images)

    for reference in (wide, tmp_path / "wide.npz", tmp_path / "features.npy", np.zeros((4, 5)), fidfast.Moments(5)):
        if isinstance(reference, fidfast.Moments):
            reference.update(np.eye(5))
        with pytest.raises(ValueError, match=message):  # the extractor says its dim
            ft.fid_of_images(folder, reference, named(not_called, "net", num_features=3))
        with pytest.raises(ValueError, match=message):  # one image is enough to find it
            ft.fid_of_images(folder, reference, named(counting, "net"))
    assert seen == [1] * 5
    with pytest.raises(ValueError, match="reference has dim 5, but the extractor net has dim 3"):
        ft.FrechetDistance(named(not_called, "net", num_features=3), wide)
    with pytest.raises(ValueError, match="samples has dim 5, but reference has dim 3"):
        ft.fid_of_images(wide, fidfast.GaussianStats(np.zeros(3), np.eye(3)))


def test_different_extractors_are_reported_before_the_network_runs(folder, stats):
    with (
        pytest.warns(UserWarning, match="different extractors, 'other' and 'channel_means'"),
        pytest.raises(AssertionError, match="the network ran"),
    ):
        ft.fid_of_images(folder, stats, named(not_called, "other", num_features=3))


def test_checkpoints(tmp_path, folder):
    (tmp_path / "run.npz").mkdir()
    for checkpoint, error, message in (
        (tmp_path / "gone" / "run.npz", FileNotFoundError, "checkpoint: no such folder to write to: .*gone"),
        (tmp_path / "run", IsADirectoryError, r"checkpoint: .*run\.npz is a folder"),
    ):
        for function in (ft.moments_of_images, ft.stats_of_images):
            with pytest.raises(error, match=message):
                function(folder, not_called, checkpoint=checkpoint)


def test_a_checkpoint_that_cannot_be_written(monkeypatch, tmp_path, folder):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=f"checkpoint: the folder {tmp_path} cannot be written to"):
        ft.moments_of_images(folder, not_called, checkpoint=tmp_path / "run.npz")


def test_a_checkpoint_without_its_suffix_continues(monkeypatch, tmp_path):
    monkeypatch.setattr("fidfast.torch._images.extraction_pass.CHECKPOINT_INTERVAL", 0.0)
    seen = []

    def interrupted(images):
        seen.append(len(images))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return channel_means(images)

    with pytest.raises(KeyboardInterrupt):
        ft.moments_of_images(IMAGES, interrupted, checkpoint=tmp_path / "run", batch_size=2)
    assert (tmp_path / "run.npz").exists()
    resumed = ft.moments_of_images(IMAGES, interrupted, checkpoint=tmp_path / "run", batch_size=2).moments
    assert sum(seen) == 12 + 2  # the interrupted batch is repeated
    assert resumed.num_samples == 12
    assert not list(tmp_path.glob("run*"))


def test_checked_sources_are_used_as_they_are(folder, stats):
    checked = ft.check_images({"samples": folder, "reference": stats}, channel_means)
    (folder / "0000.png").unlink()
    (folder / "0000.png").write_bytes(encoded(IMAGES[0]))
    moments = ft.moments_of_images(checked.sources["samples"], checked.extractor, options=checked.options).moments
    assert fidfast.fid(moments, checked.sources["reference"]) == pytest.approx(0, abs=1e-9)
    only_statistics = ft.check_images({"samples": stats, "reference": stats}, "no extractor")
    assert only_statistics.extractor is None


def test_a_stream_is_read_once(stats):
    """The check reads the first images of a stream, and the pass must not miss them."""
    for source in (iter(IMAGES), Stream(PICTURES), torch.utils.data.DataLoader(Stream(IMAGES), batch_size=5)):
        found = ft.stats_of_images(source, channel_means)
        assert found.num_samples == 12
        np.testing.assert_allclose(found.mu, stats.mu, rtol=1e-6)
