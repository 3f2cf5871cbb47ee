"""Images of more than 8 bits per channel, and large images."""

import io
import re
import warnings

import numpy as np
import pytest
from image_files import flat, png, png16
from PIL import Image

from fidfast._images import BrokenImageError, describe, open_images
from fidfast._images.decode import Decoding


def tiff(mode, array):
    file = io.BytesIO()
    Image.frombytes(mode, array.shape[::-1], array.tobytes()).save(file, "TIFF")
    return file.getvalue()


def warn_of_range(images):
    describe.warn_of_range(images, images.decoding, images.origin)


def read(folder, content, **options):
    (folder / "a.png").write_bytes(content)
    return open_images(folder, **options)[0]


#: Mode of the file -> dtype of its pixels.
MODES = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("white", [1, 255, 1023, 4095, 65535])
def test_the_value_of_white(tmp_path, rng, mode, white):
    wide = (rng.integers(0, white + 1, (9, 8))).astype(MODES[mode])
    wide[0, :2] = 0, white
    found = read(tmp_path, tiff(mode, wide), max_value=white)
    # Rounded to the next integer.
    assert np.abs(found[..., 0] - wide.astype(np.float64) * 255 / white).max() <= 0.5
    assert (found[0, 0, 0], found[0, 1, 0]) == (0, 255)
    assert np.all(found == found[..., :1])


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "F"])
def test_white_is_65535_in_integers_by_default(tmp_path, mode):
    wide = np.array([[0, 257, 65535]]).astype(MODES[mode])
    assert read(tmp_path, tiff(mode, wide))[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize(
    ("mode", "values", "options", "message"),
    [
        ("I", [0, 70000], {}, "pixels from 0 to 70000, but black is 0 and white is 65535; pass max_value"),
        ("I", [-5, 10], {}, "pixels from -5 to 10"),
        ("I;16", [0, 4096], {"max_value": 4095}, "max_value is 4095; pass max_value (--max-value)"),
        ("F", [0.0, 0.5], {}, "not supported without max_value (--max-value), the value of white; these are from 0 to"),
        ("F", [0.0, np.nan], {"max_value": 1}, "pixels from nan to nan"),
        ("F", [-1.0, 1.0], {"max_value": 1}, "convert images with values below 0"),
    ],
)
def test_values_outside_the_range_are_errors(tmp_path, mode, values, options, message):
    with pytest.raises(BrokenImageError, match=re.escape(message)):
        read(tmp_path, tiff(mode, np.array([values]).astype(MODES[mode])), **options)


@pytest.mark.parametrize("option", ["max_value", "max_pixels"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_invalid_options(tmp_path, option, value):
    (tmp_path / "a.png").write_bytes(flat(1))
    with pytest.raises(ValueError, match=f"{option} must be positive and finite, got {value}"):
        open_images(tmp_path, **{option: value})


# A warning if little of the range is used ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("largest", "advice"), [(200, 255), (255, 255), (256, 1023), (4000, 4095), (16383, 16383), (16384, None)]
)
def test_dark_wide_images_warn_once(tmp_path, rng, largest, advice):
    for i in range(3):
        wide = rng.integers(0, largest + 1 if i == 1 else 5, (9, 8), dtype=np.uint16)
        wide[0, 0] = largest if i == 1 else 0
        (tmp_path / f"{i}.png").write_bytes(png(wide))
    images = open_images(tmp_path)
    if advice is None:
        warn_of_range(images)  # warnings are errors here
        return
    with pytest.warns(UserWarning, match="the largest value of 16-bit grey is") as found:
        warn_of_range(images)
    (warning,) = found
    assert f"the largest value of 16-bit grey is {largest:,}, white is 65,535" in str(warning.message)
    assert f"--max-value {advice})" in str(warning.message)
    warn_of_range(open_images(tmp_path, max_value=advice))
    warn_of_range(open_images(tmp_path, max_value=65535))


def test_dark_wide_colour_warns(tmp_path):
    (tmp_path / "a.png").write_bytes(png16(np.full((4, 5, 3), 4000)))
    with pytest.warns(UserWarning, match="the largest value of 16-bit colour is about 3,840, white is 65,535"):
        warn_of_range(open_images(tmp_path))
    (tmp_path / "a.png").write_bytes(png16(np.full((4, 5, 3), 40000)))
    warn_of_range(open_images(tmp_path))
    assert open_images(tmp_path)[0][0, 0, 0] == 40000 >> 8  # as Pillow and the other tools read it


def test_paths_and_pil_images_of_a_list_warn(tmp_path, rng):
    wide = Image.fromarray(rng.integers(0, 256, (9, 8), dtype=np.uint16))
    wide.save(tmp_path / "a.png")
    for items in ([tmp_path / "a.png"], [str(tmp_path / "a.png"), "gone.png"], [wide]):
        with pytest.warns(UserWarning, match=r"^samples: the largest value of 16-bit grey is .*max_value=255 "):
            describe.warn_of_range(items, Decoding(), "samples")
        describe.warn_of_range(items, Decoding(max_value=255), "samples")
    describe.warn_of_range([np.ones((4, 5)), (wide, 3), {"image": wide}], Decoding(), "samples")


def test_what_does_not_warn(tmp_path):
    (tmp_path / "black.png").write_bytes(png(np.zeros((4, 5), np.uint16)))
    (tmp_path / "dark.png").write_bytes(flat(1))
    (tmp_path / "broken.png").write_bytes(b"")
    warn_of_range(open_images(tmp_path))
    warn_of_range(open_images(np.zeros((3, 8, 8, 3), np.uint8)))
    with pytest.warns(UserWarning, match="the values of the images are 0 and 1, white is 255"):
        warn_of_range(open_images(np.ones((3, 8, 8, 3), np.uint8)))


# Large images -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_limit(monkeypatch):
    """Pillow's limit, as of images of 100 pixels: an error above 200, a warning above 100."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)


def test_images_beyond_the_limit_of_pillow(tmp_path, small_limit):
    content = flat(1, 20, 30)
    with pytest.raises(BrokenImageError, match=r"600 pixels\) exceeds limit of 200 pixels; pass a larger max_pixels"):
        read(tmp_path, content)
    assert read(tmp_path, content, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(BrokenImageError, match=r"has 600 pixels \(30 x 20\), max_pixels is 599; pass a larger"):
        read(tmp_path, content, max_pixels=599)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_images_near_the_limit_do_not_warn(tmp_path, small_limit):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path, flat(1, 10, 15)).shape == (10, 15, 3)


def test_masks_and_floats_divided_twice_warn(tmp_path, rng):
    masks = rng.integers(0, 2, (3, 9, 8), dtype=np.uint8)
    for i, mask in enumerate(masks):
        (tmp_path / f"{i}.png").write_bytes(png(mask))
    files = sorted(tmp_path.iterdir())
    for images in (files, list(map(Image.open, files)), list(masks), open_images(tmp_path)):
        with pytest.warns(UserWarning, match="^samples: the values of the images are 0 and 1, white is 255"):
            describe.warn_of_range(images, Decoding(), "samples")
    floats = (masks / np.float32(255)).astype(np.float32)
    for images in (floats, list(floats), floats / 2, floats.astype(np.float64)):
        with pytest.warns(UserWarning, match=r"^samples: the largest value of the images is 0.00\d+, white is 1, so"):
            describe.warn_of_range(images, Decoding(), "samples")
    dark = open_images(floats[..., None], max_value=255)
    with pytest.warns(UserWarning, match=r"the largest value of the images is 0.00392, white is 255, so"):
        warn_of_range(dark)
    warn_of_range(open_images(floats[..., None], max_value=1 / 255))
    (tmp_path / "1.png").write_bytes(flat(2, 9, 8))
    warn_of_range(open_images(tmp_path))
    describe.warn_of_range([*masks, np.full((9, 8), 2, np.uint8)], Decoding(), "samples")
    describe.warn_of_range([*floats, np.float32([[0.01]])], Decoding(), "samples")
