"""`fidfast.fid` and `fid_of_images` take images, features and statistics on either side, and choose the extractor."""

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from image_files import png, write_files
from photographs import write
from sources import IMAGES, PICTURES, TENSOR, Columns, Stream, channel_means, encoded, not_called
from torch.utils.data import DataLoader, TensorDataset

import fidfast
import fidfast.torch as ft
from fidfast.torch._extractors import stored
from fidfast.torch._images import checks

SAMPLES = IMAGES[:6]
REFERENCE = IMAGES[6:]


class Means(torch.nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3))


def load_small(name, *, weights=None, like=None, resize=None):
    """Stands in for `load_extractor`: three features, with the names and pixels of the named extractors."""
    assert weights is None
    convention = ft.LIKE[like or "torch-fidelity"]
    return ft.Extractor(
        Means().eval(),
        name,
        input_size=(8, 8),
        resize=resize or (convention.resize if name == "inception" else "pil-bicubic"),
        offset=(convention.offset,) * 3,
        divisor=(convention.divisor,) * 3,
        variant=None if convention.divisor == 128 else f"divisor-{convention.divisor}",
    )


@pytest.fixture
def small(monkeypatch):
    """Small networks instead of the named ones."""
    monkeypatch.setattr(checks, "load_extractor", load_small)
    monkeypatch.setattr(
        stored, "load_extractors", lambda names, **options: [load_small(name, **options) for name in names]
    )
    monkeypatch.setattr(checks, "open_extractor", lambda model: load_small(model) if isinstance(model, str) else model)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "samples", SAMPLES)


# fidfast.fid --------------------------------------------------------------------------------------------------------


def test_fid_of_images_of_any_kind(tmp_path, folder, small):
    import zipfile

    with zipfile.ZipFile(tmp_path / "samples.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    np.save(tmp_path / "samples.npy", SAMPLES)
    np.savez(tmp_path / "samples.npz", arr_0=SAMPLES)
    reference = ft.stats_of_images(REFERENCE, load_small("inception"))
    expected = ft.fid_of_images(SAMPLES, REFERENCE, load_small("inception"))
    assert expected > 0
    for source in (
        *(folder, str(folder), tmp_path / "samples.zip", tmp_path / "samples.npy", tmp_path / "samples.npz"),
        *(SAMPLES, TENSOR[:6], TENSOR[:6] / 255, PICTURES[:6], tuple(PICTURES[:6]), Stream(PICTURES[:6])),
        *(sorted(folder.iterdir()), Columns(image=PICTURES[:6]), DataLoader(TensorDataset(TENSOR[:6]), batch_size=4)),
    ):
        # The network's float32 sums.
        assert fidfast.fid(source, reference) == pytest.approx(expected, rel=1e-4)
    assert fidfast.fid(REFERENCE, folder) == pytest.approx(expected, rel=1e-4)


def test_features_are_not_taken_for_images():
    """Batches of features may be from 0 to 1, as grey images are."""
    rows = np.random.default_rng(0).random((2, 20, 30))
    loader = DataLoader(TensorDataset(torch.from_numpy(rows[0])), batch_size=4)
    for source in (list(rows), iter(rows), (part for part in rows), rows.tolist(), [*rows[0]], rows):
        with pytest.raises((TypeError, ValueError), match=r"^features(_a:)? (features )?must be"):
            fidfast.fid(source, rows[0])
    with pytest.raises(TypeError, match=r"features_a: image 0: no image among entries of the types Tensor \(30,\)"):
        fidfast.fid(loader, rows[0])


def test_statistics_win_in_a_file_with_images_and_statistics(tmp_path):
    """As the reference batches of ADM: images of a part, and the statistics of all."""
    stats = fidfast.GaussianStats(np.ones(3), np.eye(3))
    np.savez(tmp_path / "both.npz", arr_0=SAMPLES, mu=stats.mu, sigma=stats.sigma)
    other = fidfast.GaussianStats(np.zeros(3), np.eye(3))
    assert fidfast.fid(tmp_path / "both.npz", other) == pytest.approx(3)
    assert ft.fid_of_images(tmp_path / "both.npz", other, not_called) == pytest.approx(3)


def test_without_torch_the_message_says_what_to_install(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "fidfast.torch._images.distances", None)
    message = "hold{} images, whose features need torch: pip install 'fidfast\\[images\\]', or pass features"
    with pytest.raises(ImportError, match=f"^features_a and features_b {message.format('')}"):
        fidfast.fid(folder, SAMPLES)
    with pytest.raises(ImportError, match=f"^features_b {message.format('s')}"):
        fidfast.fid(np.eye(3), folder)
    assert fidfast.fid(np.eye(3), np.eye(3)) == pytest.approx(0, abs=1e-12)


def test_without_weights_the_message_says_what_to_do(monkeypatch, tmp_path, folder):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded .*; download https://.*fid_of_images\(.*"):
        fidfast.fid(folder, SAMPLES)


def test_without_torch_fidelity_the_message_says_what_to_install(monkeypatch, folder, weights):
    monkeypatch.setenv("TORCH_HOME", str(weights.parents[2]))
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with (
        pytest.warns(UserWarning, match="is not an FID"),
        pytest.raises(ImportError, match=r"the extractor inception needs torch-fidelity: pip install 'fidfast\[images"),
    ):
        fidfast.fid(folder, SAMPLES)


@pytest.mark.parametrize("name", ["frechet_distance", "frechet_terms", "estimate", "kid", "precision_recall", "mifid"])
def test_metrics_of_features_say_what_to_do_with_images(folder, name):
    metric = getattr(fidfast, name)
    rows = np.random.default_rng(0).normal(size=(50, 3))
    with pytest.raises(
        ValueError, match=r"samples: .*samples holds images, not features: compute them with fidfast.tor"
    ):
        metric(folder, rows)
    with pytest.raises(TypeError, match=r"reference: an array of shape \(6, 10, 9, 3\) holds images, not features"):
        metric(rows, SAMPLES)


# Features of the shape (n, dim, 1, 1) -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["fid", "frechet_distance", "estimate", "kid", "cmmd", "precision_recall", "mifid", "influence"]
)
def test_pooled_feature_maps_are_features(tmp_path, name):
    rows = np.random.default_rng(0).normal(size=(2, 60, 3))
    metric = getattr(fidfast, name)
    maps = [side[:, :, None, None] for side in rows]
    np.save(tmp_path / "maps.npy", maps[1])
    np.savez(tmp_path / "maps.npz", arr_0=maps[1])
    expected = metric(*rows)
    for source in (maps[1], torch.from_numpy(maps[1]), tmp_path / "maps.npy", tmp_path / "maps.npz"):
        found = metric(maps[0], source)
        if name == "influence":
            np.testing.assert_array_equal(found, expected)
        else:
            assert found == expected


def test_moments_of_pooled_feature_maps():
    rows = np.random.default_rng(0).normal(size=(60, 3))
    maps = rows[:, :, None, None]
    expected = fidfast.Moments.from_features(rows)
    assert fidfast.Moments.from_features(maps) == expected
    moments = fidfast.Moments(3)
    moments.update(torch.from_numpy(maps))
    assert moments == expected
    classes = fidfast.ClassMoments(3)
    classes.update(maps, "a")
    assert classes["a"] == expected
    assert ft.fid_of_images(maps, rows, not_called) == 0
    with pytest.raises(ValueError, match="features must be 2-D"):
        moments.update(maps.repeat(2, axis=3))


# Both sides of fid_of_images ----------------------------------------------------------------------------------------


def test_either_side_may_be_statistics(tmp_path, folder):
    moments = ft.moments_of_images(REFERENCE, channel_means).moments
    moments.save(tmp_path / "moments.npz")
    moments.stats().save(tmp_path / "stats.npz")
    rows = ft.features_of_images(REFERENCE, channel_means).features
    expected = ft.fid_of_images(folder, REFERENCE, channel_means)
    results = ft.moments_of_images(REFERENCE, channel_means), ft.features_of_images(REFERENCE, channel_means)
    for source in (*results, moments, moments.stats(), tmp_path / "moments.npz", tmp_path / "stats.npz", rows):
        assert ft.fid_of_images(folder, source, channel_means) == pytest.approx(expected, rel=1e-5)
        assert ft.fid_of_images(source, folder, channel_means) == pytest.approx(expected, rel=1e-5)


def test_the_extractor_of_the_statistics_is_used(tmp_path, folder, small):
    for name in ("inception", "efficientnet-lite0"):
        for changes in ({}, {"resize": "pil-bicubic"}, {"input_size": (4, 6)}):
            extractor = replace(load_small(name, like="pytorch-fid" if name == "inception" else None), **changes)
            ft.stats_of_images(REFERENCE, extractor).save(tmp_path / "reference.npz")
            expected = ft.fid_of_images(SAMPLES, REFERENCE, extractor)
            # Another extractor would warn, which is an error here.
            assert fidfast.fid(folder, tmp_path / "reference.npz") == pytest.approx(expected, rel=1e-4)
            assert ft.fid_of_images(tmp_path / "reference.npz", folder) == pytest.approx(expected, rel=1e-4)
    stats = ft.stats_of_images(REFERENCE, load_small("inception"), dtype="bfloat16")
    assert stats.extractor.endswith("/bfloat16")
    assert ft.fid_of_images(REFERENCE, stats) == pytest.approx(0, abs=1e-6)


def test_statistics_of_an_unknown_extractor_are_refused_at_once(folder, small):
    refused = {
        "Pooled/pil-bicubic-16": "which cannot be loaded by name: pass the extractor",
        "os:abort": "which cannot be loaded by name: pass the extractor",
        "inception/unknown-8": "but the one that is loaded by name is 'inception",
        "inception-weights-12345678": "but the one that is loaded by name is 'inception",
    }
    for name, message in refused.items():
        stats = fidfast.GaussianStats(np.zeros(3), np.eye(3), extractor=name)
        with pytest.raises(
            ValueError, match=f"statistics of features_b were computed with the extractor '{name}', {message[:3]}"
        ):
            fidfast.fid(folder, stats)
        with pytest.raises(ValueError, match=message):
            ft.fid_of_images(stats, folder)
    nameless = fidfast.GaussianStats(np.zeros(3), np.eye(3))
    expected = ft.fid_of_images(folder, nameless, load_small("inception"))
    assert fidfast.fid(folder, nameless) == expected


def test_other_weights_than_those_of_another_tools_file_are_a_warning(monkeypatch, folder, small, tmp_path):
    """Its statistics are assumed to be those of the Inception network, whose weights may be replaced on purpose."""
    np.savez(tmp_path / "adm.npz", mu=np.zeros(3), sigma=np.eye(3), mu_s=np.zeros(3), sigma_s=np.eye(3))
    replaced = replace(load_small("inception"), name="inception-weights-12345678")
    monkeypatch.setattr(stored, "load_extractors", lambda names, **options: [replaced])
    with pytest.warns(UserWarning, match="different extractors, 'inception-weights-12345678/.*' and 'inception'"):
        found = fidfast.fid(folder, tmp_path / "adm.npz")
    assert found == ft.fid_of_images(folder, fidfast.GaussianStats(np.zeros(3), np.eye(3)), replaced)


def test_stored_names_of_the_inception_network(monkeypatch, weights, folder):
    """The name of the weights is found again, and no other network is taken for it."""
    monkeypatch.setenv("TORCH_HOME", str(weights.parents[2]))
    with pytest.warns(UserWarning, match="is not an FID"):
        extractor = ft.load_extractor("inception")
    monkeypatch.setattr(stored, "load_extractors", lambda names, **options: [extractor])  # loaded once
    like, full_name = ft.LIKE["pytorch-fid"], f"{extractor.name}/torch-bilinear-299/divisor-127.5"
    found, dtype = stored.extractor_of_statistics(f"{full_name}/bfloat16", "reference")
    assert (found.full_name, dtype, found.num_features) == (full_name, "bfloat16", 2048)
    assert (found.offset, found.divisor) == ((like.offset,) * 3, (like.divisor,) * 3)
    with pytest.raises(
        ValueError, match=r"loaded by name is 'inception-weights-.*: pass the weights .* \(--extractor inception\) to"
    ):
        stored.extractor_of_statistics("inception/tf1-bilinear-299", "reference")


# like ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("like", ft.LIKE)
def test_like(small, like):
    extractor, ddof = load_small("inception", like=like), ft.LIKE[like].ddof
    expected = ft.fid_of_images(SAMPLES, REFERENCE, extractor, ddof=ddof)
    for given in ((), ("inception",)):
        assert ft.fid_of_images(SAMPLES, REFERENCE, *given, like=like) == expected
    assert ft.stats_of_images(SAMPLES, None, like=like) == ft.stats_of_images(SAMPLES, extractor, ddof=ddof)
    sides = [np.concatenate([side // divisor for divisor in (1, 2, 3)]) for side in (SAMPLES, REFERENCE)]
    found = ft.estimate_of_images(*sides, like=like)
    rows = [ft.features_of_images(side, extractor).features for side in sides]
    unbiased = fidfast.estimate(*rows)
    # The network's float32 sums depend on the batches.
    assert found.unbiased == pytest.approx(unbiased.unbiased, rel=1e-4)
    assert found.stderr == pytest.approx(unbiased.stderr, rel=1e-4)
    stats = [fidfast.Moments.from_features(side).stats(ddof=ddof) for side in rows]
    assert found.value == pytest.approx(fidfast.frechet_distance(*stats), rel=1e-4)
    assert (found.value == pytest.approx(unbiased.value, rel=1e-4)) == (ddof == 1)


def test_like_is_an_option_of_inception():
    for extractor in (channel_means, "efficientnet-lite0"):
        with pytest.raises(ValueError, match="like is an option of the extractor inception, not of"):
            ft.fid_of_images(SAMPLES, REFERENCE, extractor, like="clean-fid")
    with pytest.raises(ValueError, match=r"like must be one of 'torch-fidelity', .* got 'fid'"):
        ft.fid_of_images(SAMPLES, REFERENCE, like="fid")


def test_different_divisors_warn(folder):
    stats = ft.stats_of_images(REFERENCE, channel_means, ddof=0)
    with pytest.warns(UserWarning, match="different divisors: samples has ddof 1 and reference has ddof 0"):
        ft.fid_of_images(folder, stats, channel_means)


def test_estimate_of_images_and_statistics(folder):
    images = [IMAGES[i % 12] for i in range(30)] + [encoded(IMAGES[3])]
    rows = ft.features_of_images(images, channel_means).features
    reference = ft.stats_of_images(REFERENCE, channel_means)
    found = ft.estimate_of_images(images, reference, channel_means)
    expected = fidfast.estimate(rows, reference)
    assert found.num_samples == (31, None)
    assert (found.value, found.stderr) == pytest.approx((expected.value, expected.stderr), rel=1e-6)
    with pytest.raises(ValueError, match="checkpoint applies to one set of images"):
        ft.estimate_of_images(images, reference, channel_means, checkpoint="run.npz")


def test_groups_of_images_by_folder(tmp_path, rng):
    """Frames of 20 videos, each in a folder of its own."""
    frames = {
        f"{video}/{frame}.png": png((colour + rng.integers(-9, 10, (8, 8, 3))).astype(np.uint8))
        for video, colour in enumerate(rng.integers(30, 220, (20, 3)))
        for frame in range(3)
    }
    folder = write_files("folder", tmp_path / "videos", frames)
    reference = ft.stats_of_images(REFERENCE, channel_means)
    found = ft.estimate_of_images(folder, reference, channel_means, groups=os.path.dirname)
    features = ft.features_of_images(folder, channel_means)
    videos = [name.split("/")[0] for name in features.names]
    expected = fidfast.estimate(features.features, reference, groups=videos)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-6)
    assert found.stderr > 1.2 * ft.estimate_of_images(folder, reference, channel_means).stderr
    with pytest.raises(TypeError, match="groups must be callable, got list"):
        ft.estimate_of_images(folder, reference, channel_means, groups=videos)
    with pytest.raises(ValueError, match="groups must have 2 items, one for each side, got 1"):
        ft.estimate_of_images(folder, reference, channel_means, groups=(os.path.dirname,))
