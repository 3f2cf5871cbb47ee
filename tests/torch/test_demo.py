"""The demonstration with fewer images: distances grow with the corruption."""

import json

import numpy as np
import pytest
from PIL import Image

import fidfast.torch as ft
from fidfast._cli import commands as cli
from fidfast.torch import _demo


@pytest.fixture(scope="module")
def result():
    return ft.demo(num_samples=40)


def test_distances_grow_with_the_corruption(result):
    assert result.num_samples == 40
    assert result.extractor == "efficientnet-lite0/pil-bicubic-96"
    assert result.between_halves > 0
    assert set(result.distances) == {"blurred", "noised", "swirled", "masked"}
    for name, row in result.distances.items():
        assert np.all(np.diff([0.0, *row]) > 0), name


def test_growing_sample(result):
    growth = result.growth
    assert (growth.num_directions, growth.dim, growth.num_reference) == (2, 1280, 20)
    assert growth.num_samples == [estimate.num_samples[0] for estimate in growth.estimates]
    assert (growth.num_samples[0], growth.num_samples[-1]) == (5, 20)
    assert np.all(np.diff(growth.num_samples) > 0)
    for estimate in growth.estimates:
        assert estimate.note is None
        assert estimate.stderr > 0
        assert estimate.num_samples[1] is None  # the reference is taken as exact


def test_growing_sample_is_projected_on_principal_directions_of_the_reference(rng):
    # Of 100 directions two have a large variance. The samples are shifted by 3 along one: the mean term is 9.
    scale = np.r_[5.0, 4.0, np.full(98, 0.01)]
    reference, samples = (rng.standard_normal((400, 100)) * scale for _ in range(2))
    samples[:, 1] += 3
    growth = _demo.growing_sample(samples.astype(np.float32), reference.astype(np.float32))
    assert (growth.num_directions, growth.num_samples[0], growth.num_samples[-1]) == (32, 65, 400)
    last = growth.estimates[-1]
    # The standard error takes the reference as exact; the error of the reference's mean of 400 rows is added.
    assert abs(last.unbiased - 9) < 4 * (last.stderr + 2 * 3 * 4 / 400**0.5)
    assert all(first.stderr > last.stderr for first in growth.estimates[:3])


def test_corruptions_keep_the_range_and_are_deterministic():
    images = _demo.digits(5)
    assert images.shape == (5, _demo.SIDE, _demo.SIDE)
    assert images.min() == 0
    assert images.max() <= 1
    first, second = list(_demo.corrupted_images(images)), list(_demo.corrupted_images(images))
    assert len(first) == 16
    for (name, strength, corrupted), (_, _, again) in zip(first, second, strict=True):
        np.testing.assert_array_equal(corrupted, again)
        assert corrupted.min() >= 0, name
        assert corrupted.max() <= 1, name
        assert np.abs(corrupted - images).mean() > 0.002, (name, strength)
    np.testing.assert_array_equal(images, _demo.digits(5))


def test_dictionary_is_json(result):
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["distances"] == result.distances
    assert len(plain["growth"]["estimates"]) == len(result.growth.num_samples)


def test_table_contains_every_distance(result):
    lines = result.table().splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(result.distances)
    numbers = [[float(number) for number in line.split()[1:]] for line in lines[1:]]
    np.testing.assert_allclose(numbers, list(result.distances.values()), atol=0.005)


def test_command(monkeypatch, tmp_path, capsys, result):
    monkeypatch.setattr(ft, "demo", lambda **_options: result)
    assert cli.main(["demo", "--quiet", "--out", str(tmp_path / "plot")]) == 0  # without a suffix
    out = capsys.readouterr().out
    assert out.startswith("Fréchet distance of 40 handwritten digits to their corrupted copies")
    assert result.table() in out
    assert out.endswith(f"plots: {tmp_path / 'plot.png'} and {tmp_path / 'plot-growth.png'}\n")
    for name, size in (("plot.png", (1800, 630)), ("plot-growth.png", (1200, 630))):
        with Image.open(tmp_path / name) as image:
            assert image.size == size
            assert len(np.unique(np.asarray(image))) > 100  # lines, letters and digits
