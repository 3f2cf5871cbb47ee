"""Distances between images, statistics, moments and files of them."""

import numpy as np
import pytest
from photographs import crops, write

import fidfast
import fidfast.torch as ft


def channel_means(images):
    return images.mean(dim=(2, 3))


def not_called(images):
    raise AssertionError("the network ran")


@pytest.fixture
def images():
    return np.stack(list(crops(0, [(24, 24)] * 50)))


@pytest.fixture
def folder(tmp_path, images):
    return write(tmp_path / "images", images)


def test_statistics(folder, images):
    reference = ft.stats_of_images(images[:30], channel_means)
    distance = ft.fid_of_images(folder, reference, channel_means)
    assert distance == pytest.approx(fidfast.frechet_distance(ft.stats_of_images(folder, channel_means), reference))
    assert ft.fid_of_images(images[:30], folder, channel_means) == ft.fid_of_images(reference, folder, channel_means)
    with pytest.raises(ValueError, match="checkpoint applies to one set of images"):
        ft.fid_of_images(folder, reference, channel_means, checkpoint="run.npz")


def test_moments_and_files(tmp_path, folder, images):
    moments = ft.moments_of_images(images[:30], channel_means).moments
    moments.save(tmp_path / "moments.npz")
    moments.stats(ddof=0).save(tmp_path / "stats.npz")
    np.save(tmp_path / "features.npy", ft.features_of_images(images[:30], channel_means).features)
    expected = fidfast.frechet_distance(ft.stats_of_images(folder, channel_means, ddof=0), moments.stats(ddof=0))
    for name in ("moments.npz", "stats.npz", "features.npy"):
        for reference in (tmp_path / name, str(tmp_path / name)):
            assert ft.fid_of_images(folder, reference, channel_means, ddof=0) == pytest.approx(expected, rel=1e-6)
    assert ft.fid_of_images(folder, moments, channel_means, ddof=0) == pytest.approx(expected)


def test_extractor_is_loaded_for_images_only(tmp_path, images):
    moments = ft.moments_of_images(images, channel_means).moments
    moments.save(tmp_path / "moments.npz")
    assert ft.fid_of_images(moments, tmp_path / "moments.npz", "no extractor") == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="unknown extractor 'no extractor'"):
        ft.fid_of_images(moments, images, "no extractor")


def test_errors_of_files_are_raised_before_the_network_runs(tmp_path, folder):
    (tmp_path / "damaged.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"reference: .*damaged\.npz is damaged"):
        ft.fid_of_images(folder, tmp_path / "damaged.npz", not_called)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        ft.fid_of_images(tmp_path / "gone", folder, not_called)
