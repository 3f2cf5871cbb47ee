"""The description of a folder or archive of images."""

import numpy as np
import pytest
from image_files import flat, png, write_files

import fidfast
from fidfast._images import describe, describe_images


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_folders_and_archives(tmp_path, kind):
    files = {
        "0.png": flat(1),
        "1.png": flat(1, 8, 9),
        "1b.png": png(np.zeros((4, 5), np.uint8)),
        "2.jpg": b"no image",
        "3.gif": b"",
        ".hidden.png": b"",
    }
    path = write_files(kind, tmp_path / "a", files)
    assert describe_images(path) == {
        "images": 4,
        "suffixes": {".png": 3, ".jpg": 1},
        "headers_read": 4,
        "sizes": {"5 x 4": 2, "9 x 8": 1},
        "modes": {"RGB": 2, "L": 1},
        "broken": [f"{path}/2.jpg: not an image, or an unsupported format"],
        "ignored": {"hidden (.hidden.png)": 1, ".gif (3.gif)": 1},
    }


def test_samples_with_several_images(tmp_path):
    files = {f"{i}.{suffix}": flat(1) for i in range(3) for suffix in ("jpg", "mask.png")}
    found = describe_images(write_files("tar", tmp_path / "a", files))
    assert (found["images"], found["suffixes"]) == (3, {".jpg": 3})
    assert found["ignored"] == {"further image of a sample .mask.png (0.mask.png)": 3}
    files = {f"{i}.{suffix}": flat(1) for i in range(3) for suffix in ("left.png", "right.png")}
    found = describe_images(write_files("tar", tmp_path / "b", files))  # fid asks for a suffix
    assert (found["images"], found["suffixes"]) == (6, {".left.png": 3, ".right.png": 3})


def test_a_sample_of_the_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(describe, "_HEADERS", 5)
    path = write_files("zip", tmp_path / "a", {f"{i:02}.{i}.png": flat(1, 4, 5 + i) for i in range(23)})
    found = describe_images(path)
    assert (found["images"], found["headers_read"], sum(found["sizes"].values())) == (23, 5, 5)
    assert found["suffixes"] == {".png": 23}  # the numbers are part of the names
    monkeypatch.setattr(describe, "_HEADERS", 1000)
    sizes = describe_images(path)["sizes"]
    assert (len(sizes), sizes["others"]) == (11, 13)


def test_file_info(tmp_path):
    path = write_files("zip", tmp_path / "a", {"0.png": flat(1), "1.txt": b""})
    for source in (path, str(path)):
        info = fidfast.file_info(source)
        assert (info.file, info.holds) == (str(path), "images")
        assert info.properties["sizes"] == {"5 x 4": 1}
        assert info.to_dict()["ignored"] == {".txt (1.txt)": 1}
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8, 3), np.uint8))
    assert fidfast.file_info(tmp_path / "a.npy").properties["shape"] == [2, 8, 8, 3]
