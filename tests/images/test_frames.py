"""Files with several frames or pages."""

import warnings

import numpy as np
import pytest
from PIL import Image

from fidfast._images import open_images, warn_of_frames
from fidfast._images.decode import Decoding


def check(images):
    warn_of_frames(images, images.decoding, images.origin)


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".gif", ".png"])
def test_further_frames_are_named(tmp_path, rng, suffix):
    frames = [Image.fromarray(pixels) for pixels in rng.integers(0, 256, (3, 8, 8, 3), np.uint8)]
    frames[0].save(tmp_path / f"one{suffix}")
    check(open_images(tmp_path, suffix=suffix[1:]))  # warnings are errors here
    frames[0].save(tmp_path / f"several{suffix}", save_all=True, append_images=frames[1:])
    message = rf"count as one image, the first of them: .*several{suffix} has 3"
    with pytest.warns(UserWarning, match=message):
        check(open_images(tmp_path, suffix=suffix[1:]))
    paths = sorted(tmp_path.iterdir())
    with pytest.warns(UserWarning, match=message):
        warn_of_frames(paths, Decoding(), "samples")


def test_photographs_with_further_pictures_and_arrays_have_one_frame(tmp_path, rng):
    frames = [Image.fromarray(pixels) for pixels in rng.integers(0, 256, (2, 8, 8, 3), np.uint8)]
    frames[0].save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=frames[1:])
    (tmp_path / "broken.png").write_bytes(b"no image")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(open_images(tmp_path))
        check(open_images(np.zeros((3, 8, 8, 3), np.uint8)))
        warn_of_frames([np.zeros((8, 8), np.uint8)], Decoding(), "samples")
