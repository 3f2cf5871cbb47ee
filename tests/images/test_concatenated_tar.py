"""Tar files with several archives."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from fidfast._images import open_images


def tar_of(names):
    stream, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), 7, np.uint8)).save(png, "PNG")
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(png.getvalue())
            archive.addfile(member, io.BytesIO(png.getvalue()))
    return stream.getvalue()


def test_all_archives_of_a_concatenated_tar_are_read(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_of(["a.png", "b.png"]) + tar_of(["c.png"]) + tar_of(["d.png"]) + bytes(100))
    images = open_images(tmp_path / "x.tar")
    assert list(images.names) == ["a.png", "b.png", "c.png", "d.png"]
    assert all((image == 7).all() for image in images)


@pytest.mark.parametrize("extra", [b"x" * 600, tar_of(["b.png"])[512:], tar_of(["b.png"])[:300]])
def test_other_data_after_the_end_mark_is_an_error(tmp_path, extra):
    (tmp_path / "x.tar").write_bytes(tar_of(["a.png"]) + extra)
    with pytest.raises(ValueError, match=r"x\.tar is damaged or not a \.tar file"):
        open_images(tmp_path / "x.tar")
