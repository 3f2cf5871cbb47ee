"""Which files of a folder or archive are its images; all others are counted."""

import os
import socket
import tarfile

import pytest
from image_files import flat, write_files

from fidfast._images import BrokenImageError, describe_images, open_images


def names(path, **options):
    return list(open_images(path, **options).names)


KINDS = ["folder", "zip", "tar"]


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_files_and_other_formats_are_counted(tmp_path, kind):
    hidden = (".thumbnails/a.png", "x/.ipynb_checkpoints/b.png", "__MACOSX/x/a.png", "@eaDir/a.jpg", "._a.png")
    others = ("a.gif", "b.GIF", "c.avif", "x/d.jfif", "notes.txt", ".DS_Store", "README")
    files = {name: flat(0) for name in ("a.png", "x/b.JPG", "x/c.webp", *hidden, *others)}
    images = open_images(write_files(kind, tmp_path / "a", files))
    assert sorted(images.names) == ["a.png", "x/b.JPG", "x/c.webp"]
    by_reason = {reason.split(" (")[0]: number for reason, number in images.ignored.items()}
    assert by_reason == {"hidden": 5, ".gif": 2, ".avif": 1, ".jfif": 1, ".txt": 1, "no extension": 1}
    assert ".avif (c.avif)" in images.ignored


@pytest.mark.parametrize("kind", KINDS)
def test_a_suffix_reads_other_formats(tmp_path, kind):
    path = write_files(kind, tmp_path / "a", {"a.jfif": flat(1), "b.gif": flat(2), "c.txt": b""})
    with pytest.raises(ValueError, match=r"not read: 1 \.jfif \(a\.jfif\), 1 \.gif .*pass suffix"):
        open_images(path)
    assert names(path, suffix="jfif") == ["a.jfif"]
    for both in ("jfif,gif", (".JFIF", ".gif"), ["gif", "jfif"]):
        images = open_images(path, suffix=both)
        assert list(images.names) == ["a.jfif", "b.gif"]
        assert images[1][0, 0, 0] == 2
    with pytest.raises(ValueError, match=r"no file with the suffix \.png; its suffixes are \.jfif \(1\), \.gif"):
        open_images(path, suffix="png")


def test_invalid_suffixes(tmp_path):
    write_files("folder", tmp_path / "a", {"a.png": flat(1)})
    for suffix in ("", "png,", ()):
        with pytest.raises(ValueError, match="suffix must not be empty"):
            open_images(tmp_path / "a", suffix=suffix)
    with pytest.raises(TypeError, match="suffix must be a string or strings, got \\[3\\]"):
        open_images(tmp_path / "a", suffix=[3])


# Several images per sample ------------------------------------------------------------------------------------------


def samples(*suffixes, keys=("0001", "0002")):
    return {f"{key}.{suffix}": flat(i) for key in keys for i, suffix in enumerate(suffixes)}


@pytest.mark.parametrize("keys", [("0001",), ("0001", "0002"), ("x/0001", "y/0001", "./0002")])
def test_masks_of_a_webdataset_are_not_images(tmp_path, keys):
    path = write_files("tar", tmp_path / "a", samples("jpg", "cls", "mask.png", "seg.png", keys=keys))
    images = open_images(path)
    assert list(images.names) == [f"{key}.jpg" for key in keys]
    assert images.ignored == {
        f".cls ({keys[0]}.cls)": len(keys),
        f"further image of a sample .mask.png ({keys[0]}.mask.png)": len(keys),
        f"further image of a sample .seg.png ({keys[0]}.seg.png)": len(keys),
    }
    assert names(path, suffix="mask.png") == [f"{key}.mask.png" for key in keys]
    assert names(path, suffix=".jpg") == [f"{key}.jpg" for key in keys]
    assert len(names(path, suffix="png")) == 2 * len(keys)  # no file has exactly this suffix
    assert names(path, suffix="png,jpg") == [f"{key}.jpg" for key in keys]
    assert len(names(path, suffix="*")) == 3 * len(keys)


@pytest.mark.parametrize(
    "files",
    [
        samples("left.png", "right.png"),  # two views
        samples("jpg", "png"),
        samples("0.jpg", "1.jpg"),
        {**samples("jpg", "mask.png"), "0003.depth.png": flat(0)},
    ],
)
def test_samples_without_one_image_are_an_error(tmp_path, files):
    with pytest.raises(ValueError, match=r"holds several images of one sample .*by suffix: \..*pass suffix"):
        open_images(write_files("tar", tmp_path / "a", files))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "files",
    [
        [f"{animal}.{i}.jpg" for animal in ("cat", "dog") for i in range(4)],
        [f"frame.{i:04}.png" for i in range(3)],
        ["a.left.png", "b.right.png", "c.png"],
        ["v1.5.png"],
    ],
)
def test_names_with_dots(tmp_path, kind, files):
    path = write_files(kind, tmp_path / "a", {name: flat(0) for name in files})
    assert sorted(names(path)) == sorted(files)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_other_sources_are_read_completely_with_a_warning(tmp_path, kind):
    path = write_files(kind, tmp_path / "a", samples("jpg", "mask.png"))
    with pytest.warns(UserWarning, match=r"several images of the same sample, by suffix: \.jpg \(2\), \.mask\.png"):
        assert len(open_images(path)) == 4
    assert names(path, suffix="jpg") == ["0001.jpg", "0002.jpg"]


# Links and files that are not regular -------------------------------------------------------------------------------


def test_a_folder_that_is_linked_twice_is_read_once(tmp_path):
    folder = write_files("folder", tmp_path / "a", {"z/1.png": flat(1), "z/y/2.png": flat(2), "3.png": flat(3)})
    (folder / "a").symlink_to(folder / "z")
    (folder / "loop").symlink_to(folder)
    images = open_images(folder)
    assert list(images.names) == ["3.png", "z/1.png", "z/y/2.png"]  # not by the names of the links
    assert images.ignored == {"in a folder linked twice (a)": 5}  # two in a, three in loop
    outside = write_files("folder", tmp_path / "b", {"4.png": flat(4)})
    for name in ("q", "p"):
        (folder / name).symlink_to(outside)
    assert "p/4.png" in names(folder)
    assert "q/4.png" not in names(folder)


def test_a_visible_link_to_a_hidden_folder(tmp_path):
    folder = write_files("folder", tmp_path / "a", {".data/1.png": flat(1)})
    (folder / "data").symlink_to(folder / ".data")
    assert names(folder) == ["data/1.png"]


def test_a_folder_that_cannot_be_read_is_a_broken_image_unless_it_is_hidden(tmp_path, monkeypatch):
    folder = write_files("folder", tmp_path / "a", {"1.png": flat(1), ".trash/2.png": flat(2), "x/3.png": flat(3)})
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(os.path.normpath(path)) in refused:
            raise PermissionError(f"refused {path}")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    refused = [".trash"]
    assert names(folder) == ["1.png", "x/3.png"]
    refused.append("x")
    images = open_images(folder)
    assert list(images.names) == ["x/", "1.png"]  # first, so that it is found before a network runs
    with pytest.raises(BrokenImageError, match=r"^.*/a/x/: refused .*/x"):
        images[0]
    assert images[1].shape == (4, 5, 3)
    assert describe_images(folder)["images"] == 1


def test_links_to_files_are_images(tmp_path):
    """As in a cache of Hugging Face, where equal images are links to one file."""
    folder = write_files("folder", tmp_path / "a", {"1.png": flat(1)})
    (folder / "2.png").symlink_to("1.png")
    os.link(folder / "1.png", folder / "3.png")
    assert names(folder) == ["1.png", "2.png", "3.png"]


def test_files_that_are_not_regular_do_not_hang(tmp_path, monkeypatch):
    folder = write_files("folder", tmp_path / "a", {"1.png": flat(1)})
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("pipe.png")
    (folder / "null.png").symlink_to("/dev/null")
    monkeypatch.chdir(folder)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        images = open_images(folder)
    assert list(images.names) == ["1.png"]
    ((reason, number),) = images.ignored.items()
    assert (reason.split(" (")[0], number) == ("not a regular file", 4)
    images.fingerprint()
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"a\.npy is not a regular file"):
        open_images(tmp_path / "a.npy")


def test_a_link_to_nothing_is_one_broken_image(tmp_path):
    folder = write_files("folder", tmp_path / "a", {"1.png": flat(1)})
    (folder / "2.png").symlink_to("gone.png")
    (folder / "3.png").symlink_to("3.png")
    images = open_images(folder)
    images.fingerprint()
    for i, reason in ((1, "No such file"), (2, "Too many levels of symbolic links")):
        with pytest.raises(BrokenImageError, match=f"^{folder}/{i + 1}.png: {reason}"):
            images[i]
    assert images[0][0, 0, 0] == 1


# Archives -----------------------------------------------------------------------------------------------------------


def test_links_in_a_tar(tmp_path):
    folder = write_files("folder", tmp_path / "a", {"1.png": flat(1)})
    os.link(folder / "1.png", folder / "2.png")
    (folder / "3.png").symlink_to("1.png")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("1.png", "2.png", "3.png"):
            archive.add(folder / name, name)
    images = open_images(tmp_path / "a.tar")
    assert list(images.names) == ["1.png", "2.png"]
    assert images[1][0, 0, 0] == 1
    assert images.ignored == {"link (3.png)": 1}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_of_two_files_with_one_name_the_last_counts(tmp_path, kind):
    path = write_files(kind, tmp_path / "a", {"1.png": flat(1), "2.png": flat(2)})
    if kind == "tar":
        with tarfile.open(path, "a") as archive:
            content = write_files("folder", tmp_path / "b", {"1.png": flat(9)}) / "1.png"
            archive.add(content, "1.png")
    else:
        import zipfile

        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("1.png", flat(9))
    images = open_images(path)
    assert {name: int(image[0, 0, 0]) for name, image in zip(images.names, images, strict=True)} == {
        "1.png": 9,
        "2.png": 2,
    }
    assert images.ignored == {"replaced by a later file of the same name (1.png)": 1}


def test_broken_images_of_an_archive_are_named_with_it(tmp_path):
    for kind in ("zip", "tar"):
        path = write_files(kind, tmp_path / "a", {"x/1.png": b"no image"})
        with pytest.raises(BrokenImageError, match=f"^{path}/x/1.png: not an image"):
            open_images(path)[0]


@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_compressed_archives_say_what_to_do(tmp_path, ending):
    mode = {"tgz": "gz"}.get(ending, ending.split(".")[-1])
    for name in (f"a.{ending}", "b.tar"):
        with tarfile.open(tmp_path / name, f"w:{mode}") as archive:
            archive.add(write_files("folder", tmp_path / "a", {"1.png": flat(1)}) / "1.png", "1.png")
        with pytest.raises(ValueError, match=f"{name} is compressed.*decompress it"):
            open_images(tmp_path / name)


def test_nested_archives_are_counted(tmp_path):
    inner = write_files("zip", tmp_path / "inner", {"1.png": flat(1)}).read_bytes()
    images = open_images(write_files("tar", tmp_path / "a", {"0.png": flat(0), "inner.zip": inner}))
    assert (len(images), images.ignored) == (1, {".zip (inner.zip)": 1})
    with pytest.raises(ValueError, match=r"holds no images; .*not read: 2 \.tar \(shards-0\.tar\)"):
        open_images(write_files("folder", tmp_path / "shards", {f"shards-{i}.tar": inner for i in range(2)}))
