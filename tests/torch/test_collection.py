"""A pass over images for several extractors gives each of them what a pass of its own gives, bit for bit."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from photographs import planes, write
from several import IMAGES, Extremes, Networks, assert_equal_parts, collect

import fidfast
import fidfast.torch as ft
from fidfast import InceptionScore
from fidfast.torch._images import batches
from fidfast.torch._images.checks import check_images_of_several
from fidfast.torch._images.collection import Need


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    return write(tmp_path / "images", IMAGES)


# The pass -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_several_extractors_get_what_each_gets_alone(batch_size):
    found = collect(IMAGES, Networks().needs(), batch_size=batch_size)
    for number, need in enumerate(Networks().needs()):
        alone = collect(IMAGES, [need], batch_size=batch_size)
        assert_equal_parts(found.parts[number], alone.parts[0])
    moments = ft.moments_of_images(IMAGES, Networks().extractors[0], batch_size=batch_size).moments
    assert found.parts[0].moments == moments
    features = ft.features_of_images(IMAGES, Networks().extractors[3], batch_size=batch_size)
    np.testing.assert_array_equal(found.parts[3].rows, features.features)
    assert (found.names, found.indices) == (features.names, features.indices)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_rows_are_in_the_order_of_the_images(batch_size):
    """Also for images of several sizes in a batch; the splits of some scores are consecutive images."""
    networks = Networks()
    found = collect(IMAGES, networks.needs(), batch_size=batch_size)
    assert found.indices == list(range(len(IMAGES)))
    rows = torch.cat([networks.extractors[3](planes(image)[None]) for image in IMAGES]).numpy()
    np.testing.assert_array_equal(found.parts[3].rows, rows)


def test_images_are_decoded_and_resized_once_and_networks_run_once(monkeypatch):
    decoded, resized, networks = [], [], Networks()
    pixels, resize = batches.image_pixels, batches.resize
    monkeypatch.setattr(batches, "image_pixels", lambda *given: (decoded.append(1), pixels(*given))[1])
    monkeypatch.setattr(batches, "resize", lambda *given: (resized.append(given[1:]), resize(*given))[1])
    collect(IMAGES, networks.needs(), batch_size=8)
    assert len(decoded) == len(IMAGES) + 1  # the first image is checked before
    sizes = [("pil-bicubic", (16, 16)), ("tf1-bilinear", (8, 9))]
    assert sorted(resized) == sorted(sizes * len(IMAGES))
    assert networks.first.calls == [8, 8] * 4  # two sizes
    assert sorted(networks.second.calls) == [2, 2, 2, 2, 2, 2, 2, 2, 4, 4, 4, 4]


def test_networks_prepared_together_share_their_weights():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    extractor = ft.as_extractor(network, name="x")
    two = [extractor, replace(extractor, name="y", input_size=(9, 9))]
    _, prepared, _ = check_images_of_several(IMAGES, two, options=ft.ImageOptions(dtype="bfloat16", num_workers=0))
    assert prepared[0].model is prepared[1].model
    assert [one.full_name for one in prepared] == ["x/bfloat16", "y/pil-bicubic-9/bfloat16"]


def test_an_image_that_is_broken_for_one_extractor_is_skipped_for_all(folder):
    white = np.full((20, 20, 3), 255, np.uint8)
    for number in (5, 6, 30):
        write(folder / f"{number:04}", [white])  # between the images of this number and the next
    needs, clean = Networks(), Networks().needs()
    needs.first.broken = 1.0  # of which `highest` does not suffer
    found = collect(folder, needs.needs(), skip_broken=True)
    expected = collect(write(folder.parent / "clean", IMAGES), clean)
    assert len(found.skipped) == 3
    assert all("0000.png (image " in message and "lowest: features hold NaN" in message for message in found.skipped)
    assert len(found.indices) == len(IMAGES)
    for one, another in zip(found.parts, expected.parts, strict=True):
        for kind in ("moments", "score"):
            if getattr(one, kind) is not None:
                assert getattr(one, kind).num_samples == len(IMAGES)
        np.testing.assert_array_equal(one.rows, another.rows)
        if one.score is not None:  # the sums of other batches round differently
            np.testing.assert_allclose(one.score.compute().scores, another.score.compute().scores, rtol=1e-12)
    with pytest.raises(ft.BrokenImageError, match=r"0000\.png \(image .*lowest: features hold NaN or infinity"):
        collect(folder, needs.needs())


def test_rows_that_overflow_float32_are_broken():
    def large(images):
        return images.double().amax(dim=(2, 3)) * 1e36

    found = collect([np.full((8, 8, 3), value, np.uint8) for value in (1, 99, 255, 2)] * 2, [
        Need(ft.as_extractor(large, name="large"), rows=True)
    ], skip_broken=True)  # fmt: skip
    assert np.isfinite(found.parts[0].rows).all()


@pytest.mark.parametrize("rows", [False, True])
def test_memory(rows):
    """Rows are in memory once; without them it does not depend on the number of images."""
    dim, n = 2048, 400

    def wide(images):
        return images.amax(dim=(2, 3)).repeat(1, dim // 3 + 1)[:, :dim]

    peaks = []
    for number in (n // 10, n):
        images = np.zeros((number, 2, 2, 3), np.uint8) + np.arange(number, dtype=np.uint8)[:, None, None, None]
        score = None if rows else InceptionScore(dim)
        needs = [Need(ft.as_extractor(wide, name="wide"), rows=rows, score=score)]
        tracemalloc.start()
        collect(images if rows else iter(images), needs, batch_size=16)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    size = 4 * dim * n
    # Besides: lists of names, a few batches, the score.
    assert peaks[1] < 1.2 * size if rows else peaks[1] < peaks[0] + 0.05 * size


def test_outputs_that_are_missing_or_several():
    network = Extremes()
    with pytest.raises(TypeError, match="has output='mean', but the network returned the keys 'highest', 'lowest'"):
        collect(IMAGES, [Need(ft.Extractor(network.forward, "x", output="mean"), moments=True)])
    with pytest.raises(TypeError, match="has output='mean', but the network returned Tensor"):
        collect(IMAGES, [Need(ft.Extractor(lambda x: x.amax(dim=(2, 3)), "x", output="mean"), moments=True)])
    with pytest.raises(TypeError, match=r"must return one \(n, dim\) tensor, got 2 outputs"):
        collect(IMAGES, [Need(ft.Extractor(network.forward, "x"), moments=True)])


# Statistics ---------------------------------------------------------------------------------------------------------


def test_statistics_by_extractor(tmp_path):
    highest, *_, unresized = Networks().extractors
    found = ft.stats_by_extractor(IMAGES, [highest, unresized], ddof=0, batch_size=5)
    assert list(found) == ["highest", "unresized"]
    for one in (highest, unresized):
        assert found[one.name] == ft.stats_of_images(IMAGES, one, ddof=0, batch_size=5)
    fidfast.save_stats(tmp_path / "stats", found)
    for name, stats in found.items():
        assert (
            fidfast.GaussianStats.load(tmp_path / "stats.npz", key="mu,sigma" if name == "highest" else name) == stats
        )
    with pytest.raises(ValueError, match=r"extractors\[0\] and extractors\[1\] have the same name 'highest'"):
        ft.stats_by_extractor(IMAGES, [highest, highest])
    with pytest.raises(ValueError, match="like is an option of the extractor inception"):
        ft.stats_by_extractor(IMAGES, [highest], like="adm")
