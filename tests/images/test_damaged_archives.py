"""A damaged archive or array is an error or gives all of its images, some of them broken; never fewer images."""

import io
import math
import pickle
import shutil
import subprocess
import tarfile
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from image_files import flat

from fidfast._images import BrokenImageError, holds_images, open_images
from fidfast._images.decode import Decoding
from fidfast._images.tar import tar_members

NUMBER = 4
LONG = "folder/" * 30


def tar_of(form, folder=""):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for i in range(NUMBER):
            member = tarfile.TarInfo(f"{folder}{i:03}.png")
            member.size = len(flat(i))
            archive.addfile(member, io.BytesIO(flat(i)))
    return stream.getvalue()


def zip_of(method):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for i in range(NUMBER):
            # With 64 bytes per entry in the directory, one bit of the directory's size removes an entry.
            archive.writestr(zipfile.ZipInfo(f"{i:014}.png"), flat(i), method)
    return stream.getvalue()


def npy():
    stream = io.BytesIO()
    np.save(stream, np.arange(NUMBER * 60, dtype=np.uint8).reshape(NUMBER, 4, 5, 3))
    return stream.getvalue()


def npz(save, *arrays):
    stream = io.BytesIO()
    save(stream, *arrays)
    return stream.getvalue()


ARRAYS = np.arange(NUMBER * 60, dtype=np.uint8).reshape(NUMBER, 4, 5, 3)
FILES = {
    "ustar.tar": tar_of(tarfile.USTAR_FORMAT),
    "gnu.tar": tar_of(tarfile.GNU_FORMAT, LONG),
    "pax.tar": tar_of(tarfile.PAX_FORMAT, LONG),
    "stored.zip": zip_of(zipfile.ZIP_STORED),
    "deflated.zip": zip_of(zipfile.ZIP_DEFLATED),
    "array.npy": npy(),
    "array.npz": npz(np.savez, ARRAYS),
    "compressed.npz": npz(np.savez_compressed, ARRAYS),
    "single.npz": npz(np.savez, *ARRAYS),
}


def counted(path, content):
    """Number of images, with broken ones and those that are said not to be read; None after an error that names it."""
    path.write_bytes(content)
    holds_images(path)  # raises nothing
    try:
        images = open_images(path)
    except (ValueError, TypeError) as error:
        return None if str(path) in str(error) else 0
    for index in range(len(images)):
        with suppress(BrokenImageError):
            images[index]
    return len(images) + sum(images.ignored.values())


@pytest.mark.parametrize("name", FILES)
def test_no_bit_and_no_cut_hides_images(tmp_path, rng, name):
    content, path = FILES[name], tmp_path / name
    assert counted(path, content) == NUMBER
    # The headers are small beside the pixels and the padding: half of the bits are those that are not zero.
    used = np.flatnonzero(np.frombuffer(content, np.uint8))
    for position in np.concatenate([rng.choice(used, 30), rng.integers(len(content), size=20)]):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        assert counted(path, bytes(damaged)) in (NUMBER, None), position
    for length in rng.integers(len(content), size=15):
        assert counted(path, content[:length]) in (NUMBER, None), length


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_none_of_many_bits_hides_images(tmp_path, rng, name):
    content = FILES[name]
    for bit in rng.choice(8 * len(content), min(1000, 8 * len(content)), replace=False):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        assert counted(tmp_path / name, bytes(damaged)) in (NUMBER, None), bit


def test_no_bit_of_the_end_of_a_zip_hides_images(tmp_path):
    content, name = FILES["deflated.zip"], "x.zip"
    for bit in range(8 * 22):
        damaged = bytearray(content)
        damaged[len(content) - 22 + bit // 8] ^= 1 << bit % 8
        assert counted(tmp_path / name, bytes(damaged)) in (NUMBER, None), bit


def test_a_tar_without_its_end_is_an_error(tmp_path):
    content = FILES["ustar.tar"]
    path = tmp_path / "x.tar"
    path.write_bytes(content[:2048])  # two members, without the end mark
    with pytest.raises(
        ValueError, match=r"x\.tar .*: its end mark is missing, at byte 2,048: .*head -c 1024 /dev/zero"
    ):
        open_images(path)
    path.write_bytes(content[:2048] + bytes(1024))  # as the message says
    assert len(open_images(path)) == 2
    path.write_bytes(content + b"more")
    with pytest.raises(ValueError, match=f"other data follow its end, at byte .*truncate -s {len(content)} FILE"):
        open_images(path)


@pytest.mark.parametrize("header", ["path", "linkpath"])
def test_a_long_name_for_all_members_is_an_error(tmp_path, header):
    """Decoding it for each member would take time quadratic in the size of the file."""
    member = tarfile.TarInfo("a.png")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={header: "x" * 10**5}) as archive:
        archive.addfile(member)
    with pytest.raises(ValueError, match=r"x\.tar .*a name has 100,000 bytes"):
        open_images(path)


@pytest.mark.parametrize("extra", [FILES["stored.zip"], b"more"])
@pytest.mark.parametrize("before", [True, False])
def test_a_zip_beside_other_data_is_an_error(tmp_path, extra, before):
    content = FILES["deflated.zip"]
    path = tmp_path / "x.zip"
    if before and extra == b"more":  # the program of a self-extracting archive
        assert counted(path, extra + content) == NUMBER
    else:
        assert counted(path, extra + content if before else content + extra) is None


def test_members_that_overlap_are_an_error(tmp_path):
    content = bytearray(FILES["stored.zip"])
    first = content.index(b"PK\1\2")
    second = content.index(b"PK\1\2", first + 1)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.zip is damaged .* overlaps another file"):
        open_images(tmp_path / "x.zip")


def pax_header(body):
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(body)
    return header.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)


def with_size(field):
    """A header with this field of the size, and a valid checksum."""
    header = bytearray(tarfile.TarInfo("a.png").tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    "start",
    [
        with_size((-512).to_bytes(12, "big", signed=True)),
        with_size(b"\x80" + (2**70).to_bytes(11, "big")),
        with_size(b"-0000000512\0"),
        with_size(b"0o000000512\0"),
        with_size(b"99999999999\0"),
        pax_header(b"12 size=-12\n"),
        pax_header(b"20 size=1000000000000\n"),
        pax_header(b"1" * 100_000),  # quadratic time in Python's tarfile
        pax_header(b"9999 path=a.png\n"),
        pax_header(b"0 path=a.png\n"),
        pax_header(b"16 path=b.png\n") * 2000,  # deep recursion in Python's tarfile
        pax_header(b""),
    ],
)
def test_hostile_headers_of_a_tar(tmp_path, start):
    path = tmp_path / "x.tar"
    assert counted(path, start + FILES["ustar.tar"][-1024:]) is None
    assert counted(path, start + FILES["ustar.tar"]) in (NUMBER, None)


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar")
@pytest.mark.parametrize("form", ["v7", "ustar", "oldgnu", "gnu", "posix"])
def test_members_are_those_of_other_tools(tmp_path, form):
    folder = tmp_path / "files"
    (folder / ("deep/" * 12)).mkdir(parents=True)
    names = ["a.png", "deep/" * 12 + "b.png", "é.png"] + (["n" * 150 + ".png"] if "gnu" in form else [])
    for name in names:
        (folder / name).write_bytes(name.encode() * 100)
    (folder / "hard.png").hardlink_to(folder / "a.png")
    (folder / "soft.png").symlink_to("a.png")
    with (folder / "sparse.png").open("wb") as file:
        for i in range(30):
            file.seek(i * 65536)
            file.write(b"x")
    path = tmp_path / "x.tar"
    # The formats lack some of these files, which tar then leaves out.
    sparse = [] if form in ("v7", "ustar") else ["-S"]
    subprocess.run(["tar", *sparse, "-H", form, "-cf", path, "-C", tmp_path, "files"], check=False, capture_output=True)
    with path.open("rb") as file:
        found = list(tar_members(file))
    with tarfile.open(path) as archive:
        expected = archive.getmembers()
    assert [member.name.rstrip("/") for member in found] == [member.name for member in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.kind == "file") == (theirs.isreg() and not theirs.issparse())
        assert (ours.kind == "sparse file") == theirs.issparse()
        assert (ours.kind == "folder", ours.kind == "hard link") == (theirs.isdir(), theirs.islnk())
        if ours.kind == "file":
            assert (ours.offset, ours.size) == (theirs.offset_data, theirs.size)
        if ours.kind in ("link", "hard link"):
            assert ours.target == theirs.linkname


def test_a_member_larger_than_any_image_is_broken(tmp_path, monkeypatch):
    path = tmp_path / "x.zip"
    path.write_bytes(FILES["deflated.zip"])
    monkeypatch.setattr("fidfast._images.decode._METADATA", 10)
    images = open_images(path, max_pixels=5)
    assert images.decoding == Decoding(None, 5)
    with pytest.raises(BrokenImageError, match=r"000\.png: has \d+ bytes, more than an uncompressed image of 5 pixels"):
        images[0]


def test_a_changed_pixel_of_an_array_in_an_npz_is_an_error(tmp_path):
    content = bytearray(FILES["array.npz"])
    content[content.index(bytes(range(40, 60)))] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.npz is damaged or not a \.npz file: Bad CRC-32 for file 'arr_0.npy'"):
        open_images(tmp_path / "x.npz")


def test_an_array_that_cannot_be_in_the_file_is_an_error(tmp_path):
    """Its header and the directory agree on 2 TB."""
    shape, header = (10**9, 32, 64, 1), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", header.getvalue())
        archive.infolist()[0].file_size = len(header.getvalue()) + math.prod(shape)
    (tmp_path / "x.npz").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match=r"x\.npz is damaged .*'arr_0.npy' cannot have 2,048,000,000,\d+ bytes"):
        open_images(tmp_path / "x.npz")


def test_an_array_longer_than_its_header_is_an_error(tmp_path):
    (tmp_path / "x.npy").write_bytes(npy() * 2)  # two arrays in one file
    with pytest.raises(
        ValueError, match=r"x\.npy is damaged or not a \.npy file: .*uint8 \(4, 4, 5, 3\), but 608 bytes"
    ):
        open_images(tmp_path / "x.npy")


def test_a_file_that_becomes_shorter_is_broken(tmp_path):
    for name in ("ustar.tar", "stored.zip"):
        path = tmp_path / name
        path.write_bytes(FILES[name])
        images = open_images(path)
        path.write_bytes(FILES[name][:600])
        with pytest.raises(BrokenImageError, match=f"^{path}/"):
            images[3]
        path.unlink()
        with pytest.raises(BrokenImageError, match="No such file"):
            pickle.loads(pickle.dumps(images))[3]  # as in a worker process, which opens the file again
