"""The demonstration, on fewer images: distances grow with the disturbance."""

import numpy as np
import pytest
from PIL import Image

from fidfast._cli import commands as cli
from fidfast.torch import _demo as demo


@pytest.fixture(scope="module")
def result():
    return demo.run(40, progress=False)


def test_distances_grow_with_the_disturbance(result):
    assert result.num_samples == 40
    assert result.extractor == "efficientnet-lite0/pil-bicubic-96"
    assert result.halves > 0
    assert set(result.distances) == {"blurred", "noised", "swirled", "masked"}
    for name, row in result.distances.items():
        assert np.all(np.diff([0.0, *row]) > 0), name


def test_a_growing_sample(result):
    grown = result.growth
    assert (grown.num_directions, grown.dim, grown.num_reference) == (2, 1280, 20)
    assert grown.num_samples == [estimate.num_samples[0] for estimate in grown.estimates]
    assert (grown.num_samples[0], grown.num_samples[-1]) == (5, 20)
    assert np.all(np.diff(grown.num_samples) > 0)
    for estimate in grown.estimates:
        assert estimate.note is None
        assert estimate.stderr > 0
        assert estimate.num_samples[1] is None  # the reference is taken as known


def test_the_growing_sample_is_estimated_on_the_references_principal_directions(rng):
    # Of 100 directions two vary much, and the shift along them is all that a projection can keep: the mean term is 9.
    scale = np.r_[5.0, 4.0, np.full(98, 0.01)]
    reference, sample = (rng.standard_normal((400, 100)) * scale for _ in range(2))
    grown = demo.growth((sample + np.r_[0.0, 3.0, np.zeros(98)]).astype(np.float32), reference.astype(np.float32))
    assert (grown.num_directions, grown.num_samples[0], grown.num_samples[-1]) == (32, 65, 400)
    last = grown.estimates[-1]
    # The difference of two means of 400 rows adds its own error to that of the reference as known.
    assert abs(last.unbiased - 9) < 4 * (last.stderr + 2 * 3 * 4 / 400**0.5)
    assert all(first.stderr > last.stderr for first in grown.estimates[:3])


def test_disturbances_leave_the_range_and_repeat():
    images = demo.digits(5)
    assert images.shape == (5, demo.SIDE, demo.SIDE)
    assert images.min() == 0
    assert images.max() <= 1
    first, second = list(demo.disturbed(images)), list(demo.disturbed(images))
    assert len(first) == 16
    for (name, strength, copy), (_, _, again) in zip(first, second, strict=True):
        np.testing.assert_array_equal(copy, again)
        assert copy.min() >= 0, name
        assert copy.max() <= 1, name
        assert np.abs(copy - images).mean() > 0.002, (name, strength)
    np.testing.assert_array_equal(images, demo.digits(5))


def test_the_table_holds_every_number(result):
    lines = demo.table(result).splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(result.distances)
    numbers = [[float(number) for number in line.split()[1:]] for line in lines[1:]]
    np.testing.assert_allclose(numbers, list(result.distances.values()), atol=0.005)


def test_the_command(monkeypatch, tmp_path, capsys, result):
    monkeypatch.setattr(demo, "run", lambda **_options: result)
    assert cli.main(["demo", "--quiet", "--out", str(tmp_path / "plot.png")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Fréchet distance of 40 handwritten digits to their disturbed copies")
    assert out.endswith(f"plots: {tmp_path / 'plot.png'} and {tmp_path / 'plot-growth.png'}\n")
    for name, size in (("plot.png", (1800, 630)), ("plot-growth.png", (1200, 630))):
        with Image.open(tmp_path / name) as image:
            assert image.size == size
            assert len(np.unique(np.asarray(image))) > 100  # lines, letters and digits
