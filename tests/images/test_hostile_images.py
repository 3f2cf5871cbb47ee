"""Images that promise more than they hold, programs in place of images, and files that change while they are opened."""

import io
import os
import struct
import tracemalloc
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from image_files import flat, write_files
from PIL import Image

from fidfast._images import BrokenImageError, open_images, warn_of_frames
from fidfast._images.decode import open_regular


@contextmanager
def bounded_memory(size):
    """Fails if more bytes are allocated at a time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size


def png_of(*chunks):
    body = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def header(width, height):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


SMALL = (header(4, 4), (b"IDAT", zlib.compress(bytes(4 * 13))), (b"IEND", b""))
ZEROS = zlib.compress(bytes(1 << 24), 9)
HOSTILE = {
    "pixels": (
        png_of(header(20_000, 20_000), *SMALL[1:]),
        r"400000000 pixels\) exceeds limit of 178956970.*max_pixels",
    ),
    "text": (png_of(SMALL[0], (b"zTXt", b"a\0\0" + ZEROS), *SMALL[1:]), "Decompressed data too large"),
    "profile": (png_of(SMALL[0], (b"iCCP", b"a\0\0" + ZEROS), *SMALL[1:]), "Decompressed data too large"),
    "data": (png_of(SMALL[0], (b"IDAT", ZEROS), SMALL[2]), None),
    "chunk": (png_of(SMALL[0])[:-4] + struct.pack(">I", 2**31 - 1) + b"IDAT", ""),
    "program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n", "a PostScript program"),
}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("name", HOSTILE)
def test_bombs_take_no_memory(tmp_path, kind, name):
    """Each is an error, or the image of 4 x 4 pixels."""
    content, message = HOSTILE[name]
    path = write_files(kind, tmp_path / "x", {"1.png": flat(1), "2.png": content})
    images = open_images(path)
    images[0]  # imports the decoder
    with bounded_memory(1 << 23):  # of the 16 MB of zeros, and 1.2 GB of pixels
        if message is None:
            assert images[1].shape == (4, 4, 3)
        else:
            with pytest.raises(BrokenImageError, match=f"/2.png: .*{message}"):
                images[1]


def test_max_pixels_allows_larger_images_and_names_both_numbers(tmp_path):
    path = write_files("folder", tmp_path / "x", {"1.png": flat(1, 10, 12)})
    assert open_images(path, max_pixels=120)[0].shape == (10, 12, 3)
    with pytest.raises(BrokenImageError, match=r"has 120 pixels \(12 x 10\), max_pixels is 119; pass a larger max_pix"):
        open_images(path, max_pixels=119)[0]
    with pytest.raises(BrokenImageError, match=r"images\[1\]: has 120 pixels \(12 x 10\), max_pixels is 119"):
        open_images(np.zeros((2, 10, 12, 3), np.uint8), max_pixels=119)[1]


def test_a_broadcast_array_is_read_one_image_at_a_time(rng):
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    images = open_images(np.broadcast_to(image, (10**12, 64, 64, 3)))
    assert len(images) == 10**12
    np.testing.assert_array_equal(images[10**12 - 1], image)
    assert images.names[-1] == f"images[{10**12 - 1}]"
    few = np.broadcast_to(image, (500, 64, 64, 3))
    expected = open_images(few.copy()).fingerprint()
    with bounded_memory(20 * image.nbytes):  # of 500
        assert open_images(few).fingerprint() == expected


def test_a_fifo_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(flat(1))
    regular = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda path: regular)
    with pytest.raises(ValueError, match="not a regular file"):
        open_regular(path)


def test_names_in_warnings_are_escaped(tmp_path):
    name, gif = "\x1b[31m\u202e\n\udcff.png", io.BytesIO()
    frame = Image.new("L", (2, 2))
    frame.save(gif, "GIF", save_all=True, append_images=[Image.new("L", (2, 2), 9)])
    path = write_files("folder", tmp_path / "x", {name: gif.getvalue()})
    images = open_images(path)
    assert list(images.names) == [name]
    with pytest.warns(UserWarning, match="files with several frames") as caught:
        warn_of_frames(images, images.decoding, "x")
    assert str(caught[0].message).endswith(r"the first of them: \x1b[31m\u202e\n\udcff.png has 2")
