"""The demonstration, on fewer images: distances grow with the disturbance."""

import numpy as np
import pytest
from PIL import Image

from fidfast import cli, demo


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
    assert out.endswith(f"plot: {tmp_path / 'plot.png'}\n")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size == (1800, 630)
        assert len(np.unique(np.asarray(image))) > 100  # lines, letters and digits
