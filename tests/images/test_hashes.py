"""The fingerprint of images depends on their bytes alone; hashes are kept only where every change can be seen."""

import io
import os
import shutil
import tarfile
import time

import numpy as np
import pytest
from image_files import flat, write_files

from fidfast._images import hashes, open_images
from fidfast._images.hashes import FileState


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def later(monkeypatch):
    """Make the files of the test older than `SECONDS_UNTIL_KEPT`, for this module."""
    monkeypatch.setattr(hashes, "SECONDS_UNTIL_KEPT", -1.0)


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read."""
    names = []
    original = hashes._Reader.hash

    def hash_and_note(self, path):
        names.append(path.name)
        return original(self, path)

    monkeypatch.setattr(hashes._Reader, "hash", hash_and_note)
    return names


def fingerprint(source):
    return open_images(source).fingerprint()


def write(kind, path, number):
    """Images of equal names, sizes and times, whatever the number."""
    if kind in ("folder", "zip", "tar"):
        # Stored, so that files of other colours have the same size.
        files = {f"{i}.bmp": bmp(number + i) for i in range(3)}
        written = write_files(kind, path, files)
    else:
        written = path.with_suffix(f".{kind}")
        array = np.full((3, 4, 5, 3), number, np.uint8)
        if kind == "npy":
            np.save(written, array)
        else:
            np.savez(written, arr_0=array, arr_1=np.arange(3))
    for file in [written, *written.rglob("*")] if written.is_dir() else [written]:
        os.utime(file, (0, 0))
    return written


def bmp(number):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(file, "BMP")
    return file.getvalue()


KINDS = ["folder", "zip", "tar", "npy", "npz"]


@pytest.mark.parametrize("kind", KINDS)
def test_equal_names_sizes_and_times_are_told_apart(tmp_path, kind, later):
    one, two = (write(kind, tmp_path / name, number) for name, number in (("one", 10), ("two", 20)))
    same = write(kind, tmp_path / "same", 10)
    for _ in range(2):  # read, and from the kept hashes
        assert fingerprint(one) == fingerprint(same) != fingerprint(two)
    # Replaced by another file with the old times, as cp -p and rsync -t do; a file written in place likewise.
    if kind == "folder":
        for file in two.iterdir():
            shutil.copy2(file, one)
    else:
        shutil.copy2(two, one)
    assert one.stat().st_mtime == 0
    assert fingerprint(one) == fingerprint(two) != fingerprint(same)


def test_arrays_in_memory():
    array = np.zeros((2, 4, 5, 3), np.uint8)
    other = array.copy()
    other[1, 3, 4, 2] = 1
    assert fingerprint(array) == fingerprint(array.copy()) != fingerprint(other)
    assert fingerprint(np.asfortranarray(other)) == fingerprint(other)
    assert fingerprint(array[..., 0]) != fingerprint(array[:1, ..., 0].reshape(2, 2, 5))


def test_the_choice_of_files_and_the_value_of_white_change_the_fingerprint(tmp_path):
    path = write_files("tar", tmp_path / "a", {"0.jpg": flat(1), "0.mask.png": flat(2)})
    options = [{}, {"suffix": "mask.png"}, {"suffix": "*"}, {"max_value": 4095}]
    assert len({open_images(path, **chosen).fingerprint() for chosen in options}) == 4


def test_unchanged_files_are_read_once(tmp_path, later, reads):
    folder = write("folder", tmp_path / "a", 10)
    first = fingerprint(folder)
    assert sorted(reads) == ["0.bmp", "1.bmp", "2.bmp"]
    assert fingerprint(folder) == first
    assert len(reads) == 3
    (folder / "1.bmp").write_bytes(bmp(99))
    os.utime(folder / "1.bmp", (0, 0))
    assert fingerprint(folder) != first
    assert reads[3:] == ["1.bmp"]
    folder.rename(tmp_path / "b")  # the same files under another path
    write("folder", tmp_path / "a", 30)
    assert fingerprint(tmp_path / "a") not in (first, fingerprint(tmp_path / "b"))


def test_hashes_of_young_files_are_not_kept(tmp_path, cache_folder, reads):
    folder = write("folder", tmp_path / "a", 10)
    fingerprint(folder)
    fingerprint(folder)
    assert len(reads) == 6
    assert not cache_folder.exists()


def test_which_hashes_are_kept():
    now = time.time()

    def state(age, rest=5):
        return FileState(ctime_ns=(int(now) - age) * 1_000_000_000 + rest)

    assert state(120).can_be_kept(now)
    assert not state(2).can_be_kept(now)
    assert not state(-3600).can_be_kept(now)  # of a server whose clock is ahead
    assert not state(120, rest=0).can_be_kept(now)  # times in whole seconds
    assert FileState(inode=2**64 - 1, mtime_ns=-1).packed() != FileState(inode=2**64 - 2, mtime_ns=-1).packed()


@pytest.mark.parametrize("damage", [b"", b"other", b"fidfast hashes 1\n" + b"x" * 71])
def test_damaged_hashes_are_replaced(tmp_path, cache_folder, later, reads, damage):
    folder = write("folder", tmp_path / "a", 10)
    first = fingerprint(folder)
    (file,) = (cache_folder / "hashes").iterdir()
    content = file.read_bytes()
    file.write_bytes(damage)
    assert fingerprint(folder) == first
    assert file.read_bytes() == content
    assert len(reads) == 6


def test_a_folder_that_cannot_be_written_costs_a_second_reading_only(tmp_path, monkeypatch, later, reads):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    folder = write("folder", tmp_path / "a", 10)
    expected = fingerprint(folder)
    monkeypatch.setenv("FIDFAST_CACHE", str(blocked))
    assert fingerprint(folder) == fingerprint(folder) == expected
    assert len(reads) == 9


def test_a_change_after_the_fingerprint_is_seen(tmp_path):
    folder = write("folder", tmp_path / "a", 10)
    images = open_images(folder)
    before = images.fingerprint()
    assert not images.have_changed()
    (folder / "2.bmp").write_bytes(bmp(77))
    assert images.have_changed()
    assert images.fingerprint() != before
    (folder / "2.bmp").unlink()
    assert images.have_changed()


def test_two_archives_unpacked_with_one_time(tmp_path):
    found = []
    for number in (1, 2):
        archive = tarfile.open(write_files("tar", tmp_path / f"{number}", {"a.png": flat(number)}))  # noqa: SIM115
        with archive:
            archive.extractall(tmp_path / f"folder{number}", filter="data")
        found.append(fingerprint(tmp_path / f"folder{number}"))
    assert found[0] != found[1]


def test_progress_of_long_readings(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hashes, "_LONG", (1, 1))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    images = open_images(write("folder", tmp_path / "a", 10))
    images.fingerprint(progress=True)
    assert "hashing a" in capsys.readouterr().err
