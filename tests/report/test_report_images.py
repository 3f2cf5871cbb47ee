"""Images of a report: grey ones are shown, wrong types are errors at once, unreadable images do not end the report."""

import numpy as np
import pytest

import fidfast

N = 40
rng = np.random.default_rng(0)
SIDES = rng.standard_normal((N, 3)), rng.standard_normal((50, 3))


class Failing:
    """Images of which those in `rows` raise `error`."""

    def __init__(self, error, rows):
        self.error, self.rows = error, rows

    def __len__(self):
        return N

    def __getitem__(self, row):
        if row in self.rows:
            raise self.error
        return np.full((4, 4, 3), row, np.uint8)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_images_of_any_number_of_channels(shape):
    images = [np.full(shape, row, np.uint8) for row in range(N)]
    found = fidfast.report(*SIDES, images=images, most_harmful=3, all_pairs=False)
    for sample in found.most_harmful:
        assert sample.image.shape == (4, 5, 3)
        assert np.all(sample.image == sample.row)
    assert "images" not in found.reasons
    assert found.html()


@pytest.mark.parametrize("argument", ["images", "reference_images"])
@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8), "a.png"])
def test_the_type_is_checked_before_the_metrics(monkeypatch, argument, image):
    monkeypatch.setattr("fidfast._report.build._Metrics", None)
    with pytest.raises(TypeError, match=f"^{argument} must be .*, got shape .* and dtype"):
        fidfast.report(*SIDES, **{argument: [image] * (N if argument == "images" else 50)})


@pytest.mark.parametrize("error", [OSError("disk <full>"), TypeError("no"), MemoryError("none left")])
def test_images_that_raise_are_not_shown(error):
    worst = np.argsort(-fidfast.influence(*SIDES))
    images = Failing(error, {0, worst[1], worst[2]})
    found = fidfast.report(*SIDES, images=images, most_harmful=3, all_pairs=False)
    assert [sample.image is None for sample in found.most_harmful] == [row in images.rows for row in worst[:3]]
    assert found.reasons["images"].startswith("not shown: images: row ")
    assert f"{type(error).__name__}: {error}" in found.reasons["images"]
    assert "more)" in found.reasons["images"]
    assert "not shown: images: row " in " ".join(found.table().split())
    assert "Images not shown: images: row " in found.html()
    assert "<full>" not in found.html()
