"""ADM's reference batches, which hold images and the statistics of more images: which of both each function uses."""

import json
import warnings

import numpy as np
import pytest
import torch

import fidfast
import fidfast.torch as ft
from fidfast._cli import commands as cli
from fidfast._files import write_several_stats
from fidfast._stats import record_of_stats
from fidfast.torch._images.sources import open_source


def means(images):
    """A network: the mean of each channel."""
    return images.float().mean(dim=(2, 3))


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def stats():
    """Statistics that are not those of the images."""
    return fidfast.GaussianStats(np.full(3, 9.0), np.diag([1.0, 2.0, 3.0]))


@pytest.fixture
def batch(tmp_path, images, stats, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("virtual.npz", images[:12], mu=stats.mu, sigma=stats.sigma, mu_s=np.zeros(3), sigma_s=np.eye(3))
    return "virtual.npz"


USED = "statistics 'mu,sigma' (the file also holds 'mu_s,sigma_s' and 12 images)"


def test_distances_use_the_statistics(batch, images, stats):
    assert fidfast.fid(batch, stats) == 0
    assert fidfast.fid(stats, batch) == 0
    assert ft.fid_of_images(batch, stats) == 0
    with pytest.warns(UserWarning, match="different extractors"):
        assert ft.fid_of_images(images, batch, means) == ft.fid_of_images(images, stats, means)
    terms = fidfast.frechet_terms(stats, batch)
    assert terms.used == terms.to_dict()["used"] == {"reference": USED}
    assert str(terms).endswith(f"; reference: {USED}")
    assert fidfast.frechet_terms(stats, stats).used == {}


def test_functions_of_images_use_the_images(batch, images):
    message = (
        r"virtual\.npz: the images are used, though the file also holds statistics \('mu,sigma' and 'mu_s,sigma_s'\), "
        r"which may be those of more images; GaussianStats\.load reads them"
    )
    with pytest.warns(UserWarning, match=message):
        assert ft.stats_of_images(batch, means) == ft.stats_of_images(images[:12], means)
    with pytest.warns(UserWarning, match=message):
        assert ft.moments_of_images(batch, means).moments.num_samples == 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = ft.features_of_images(batch, means, num_workers=0).features
        np.testing.assert_array_equal(features, ft.features_of_images(images[:12], means, num_workers=0).features)
        found = ft.estimate_of_images(images[12:], batch, means, num_workers=0)
        ft.stats_of_images(images, means, num_workers=0)
    expected = ft.estimate_of_images(images[12:], images[:12], means, num_workers=0)
    assert (found.value, found.unbiased) == (expected.value, expected.unbiased)


@pytest.mark.parametrize("key", [None, "arr_0", "images"])
def test_the_images_by_key(batch, images, key):
    found = open_source(batch, ft.ImageOptions(), key).images
    np.testing.assert_array_equal(np.stack(list(found)), images[:12])


@pytest.fixture
def run(batch, images, capsys, tmp_path):
    """Runs a command with a network, and returns its output; `samples.npz` holds images alone, as ADM writes them."""
    np.savez("samples.npz", images[12:])
    (tmp_path / "means_of_channels.py").write_text("def make():\n    return lambda x: x.float().mean((2, 3))\n")

    def run_command(*arguments):
        options = ("--extractor", "means_of_channels:make", "--quiet", "--num-workers", "0")
        code = cli.main((*arguments, *options))
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run_command


@pytest.mark.parametrize("key", ["arr_0", "images"])
def test_the_command_line_uses_the_images_if_the_key_says_so(run, images, key):
    found = json.loads(run("fid", "samples.npz", "virtual.npz", "--key", "", "--key", key, "--json"))
    assert found["distance"] == pytest.approx(ft.fid_of_images(images[12:], images[:12], means), rel=1e-9)
    assert found["used"] == {"virtual.npz": "images (the file also holds statistics)"}
    out = run("stats", "virtual.npz", "out.npz", "--key", key)
    assert "virtual.npz: images (the file also holds statistics)" in out.splitlines()
    assert fidfast.GaussianStats.load("out.npz").num_samples == 12


def test_a_pair_of_entries_against_images(run, images):
    """The key is that of the reference; the file of samples holds images alone."""
    reference = fidfast.GaussianStats.load("virtual.npz", key="mu_s,sigma_s")
    found = json.loads(run("fid", "samples.npz", "virtual.npz", "--key", "mu_s,sigma_s", "--json"))
    expected = fidfast.frechet_distance(ft.stats_of_images(images[12:], means), (reference.mu, reference.sigma))
    assert found["distance"] == pytest.approx(expected, rel=1e-9)
    assert found["extractor"][1] == "inception-spatial"


@pytest.mark.parametrize("as_name", [True, False])
def test_the_extractor_chooses_among_the_statistics(tmp_path, images, as_name, monkeypatch):
    """In a file of several extractors: by name, or that of an `Extractor`."""
    expected = ft.stats_of_images(images, ft.Extractor(means, name="means"))
    other = fidfast.GaussianStats(np.zeros(2), np.eye(2), extractor="inception")
    records = {"inception": record_of_stats(other), "means": record_of_stats(expected)}
    write_several_stats(tmp_path / "all.npz", records)
    monkeypatch.setattr("fidfast.torch._extractors.named.load_extractor", lambda name: ft.Extractor(means, name=name))
    extractor = "means" if as_name else ft.Extractor(means, name="means")
    assert ft.fid_of_images(images, tmp_path / "all.npz", extractor) == pytest.approx(0, abs=1e-9)
    metric = ft.FrechetDistance(extractor, tmp_path / "all.npz")
    metric.update(torch.from_numpy(images).permute(0, 3, 1, 2))
    # Squares of means of pixels, about 130^2, in float32.
    assert float(metric.compute()) == pytest.approx(0, abs=1e-2)
    with pytest.raises(
        ValueError, match=r"reference: .* holds statistics 'mu,sigma' of inception .* extractor is clip"
    ):
        ft.fid_of_images(images, tmp_path / "all.npz", ft.Extractor(means, name="clip"))
