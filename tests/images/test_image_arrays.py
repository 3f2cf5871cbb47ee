"""Arrays of every shape and dtype: read as what they are, or refused."""

import re

import numpy as np
import pytest

from fidfast._images import open_images


def pixels(rng, *shape):
    return rng.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((5, 12, 17), (12, 17)),
        ((2, 12, 17), (12, 17)),
        ((4, 12, 17), (12, 17)),
        ((1, 12, 17), (12, 17)),
        ((5, 12, 17, 1), (12, 17)),
        ((5, 12, 17, 3), (12, 17)),
        ((5, 12, 17, 4), (12, 17)),
        ((5, 1, 12, 17), (12, 17)),
        ((5, 3, 12, 17), (12, 17)),
        ((3, 3, 12, 17), (12, 17)),
        ((3, 4, 12, 17), (12, 17)),
        ((3, 12, 17, 3), (12, 17)),
        # An alpha channel only if there is no other meaning.
        ((5, 4, 4, 3), (4, 4)),
        ((5, 3, 4, 4), (4, 4)),
        ((5, 4, 9, 1), (4, 9)),
    ],
)
def test_shapes_with_one_meaning(rng, shape, size):
    array = pixels(rng, *shape)
    images = open_images(array)
    assert len(images) == shape[0]
    assert images[0].shape == (*size, 3)
    first = array[0][..., None] if array.ndim == 3 else array[0]
    planes = first if first.shape[:2] == size else np.moveaxis(first, 0, 2)
    np.testing.assert_array_equal(images[0], np.broadcast_to(planes[..., :3], (*size, 3)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((32, 32), "for one grey image pass array[None]"),
        ((32, 32, 3), "shape (32, 32, 3) is one image (height, width, 3): for one image pass array[None]"),
        ((32, 32, 4), "is one image (height, width, 4)"),
        ((32, 32, 1), "is one image (height, width, 1)"),
        ((3, 32, 32), "is one image (3, height, width) or 3 grey images: pass array[None] for one image"),
        ((3, 32, 3), "is one image (height, width, 3)"),
        ((5, 3, 32, 3), "is (n, height, width, 3) or (n, 3, height, width)"),
        ((5, 1, 32, 3), "is (n, height, width, 3) or (n, 1, height, width)"),
        ((5, 4, 32, 4), "is (n, height, width, 4) or (n, 4, height, width)"),
        ((5, 32, 32, 2), "got shape (5, 32, 32, 2)"),
        ((5, 2, 3, 32, 32), "got shape (5, 2, 3, 32, 32)"),
        ((0, 32, 32, 3), "images holds no images"),
    ],
)
def test_shapes_without_a_meaning_or_with_two(shape, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        open_images(np.zeros(shape, np.uint8))


def test_what_the_messages_advise_works(rng):
    image = pixels(rng, 32, 30, 3)
    np.testing.assert_array_equal(open_images(image[None])[0], image)
    np.testing.assert_array_equal(open_images(np.moveaxis(image, 2, 0)[None])[0], image)
    grey = pixels(rng, 3, 32, 30)
    assert len(open_images(grey[..., None])) == 3
    np.testing.assert_array_equal(open_images(grey[1][None])[0][..., 2], grey[1])


def test_bool_is_black_and_white(rng):
    masks = rng.random((5, 12, 17)) > 0.5
    np.testing.assert_array_equal(open_images(masks)[3][..., 0], np.where(masks[3], 255, 0))


@pytest.mark.parametrize(
    ("dtype", "white"), [("uint16", 4095), (">u2", 65535), ("int32", 255), ("float32", 1.0), ("float64", 0.5)]
)
def test_other_numbers_need_the_value_of_white(rng, dtype, white):
    array = (rng.random((5, 12, 17, 3)) * white).astype(dtype)
    with pytest.raises(TypeError, match=f"got dtype {array.dtype}; for other numbers pass max_value"):
        open_images(array)
    found = open_images(array, max_value=white)[2]
    # Rounded to the next integer: at most half of one away, and the rounding of the product.
    np.testing.assert_allclose(found, array[2].astype(np.float64) * 255 / white, rtol=0, atol=0.5 + 1e-9)
    array[2, 0, 0, 0] = white
    assert open_images(array, max_value=white)[2][0, 0, 0] == 255
    if white != 65535:  # uint16 does not hold twice that
        array[2, 0, 0, 1] = white * 2
        with pytest.raises(ValueError, match=r"images\[2\]: pixels from .*max_value is"):
            open_images(array, max_value=white)[2]


def test_dtypes_that_are_not_numbers():
    with pytest.raises(TypeError, match="images must be uint8, got dtype <U1"):
        open_images(np.full((2, 8, 8), "a"), max_value=1)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_savez_of_single_images_and_of_batches(tmp_path, rng, save):
    singles = [pixels(rng, 20 + i, 30, 3) for i in range(12)]  # arr_10 after arr_9
    save(tmp_path / "singles.npz", *singles)
    images = open_images(tmp_path / "singles.npz")
    assert len(images) == 12
    for image, single in zip(images, singles, strict=True):
        np.testing.assert_array_equal(image, single)
    assert images.path_of(3) == f"{tmp_path}/singles.npz['arr_3']"
    batches = [pixels(rng, n, 20, 30, 3) for n in (2, 3)]
    save(tmp_path / "batches.npz", *batches)
    np.testing.assert_array_equal(np.stack(list(open_images(tmp_path / "batches.npz"))), np.concatenate(batches))


def test_other_arrays_of_a_file_are_counted(tmp_path, rng):
    np.savez(tmp_path / "a.npz", arr_0=pixels(rng, 5, 20, 30, 3), arr_1=np.arange(5), mu=np.zeros(3))
    images = open_images(tmp_path / "a.npz")
    assert (len(images), images.ignored) == (5, {"other arrays (arr_1)": 2})
    np.savez(tmp_path / "one.npz", pixels(rng, 32, 32, 3))
    with pytest.raises(ValueError, match=r"shape \(32, 32, 3\) is one image"):
        open_images(tmp_path / "one.npz")
