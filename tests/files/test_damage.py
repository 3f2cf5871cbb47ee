"""Damaged and hostile .npz, .npy and .safetensors files are refused with their name, and never misread."""

import itertools
import json
import random
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from mutations import mutations

import fidfast
from fidfast import GaussianStats
from fidfast._files import read
from fidfast._files.zips import members_of

ROWS = np.arange(40.0).reshape(10, 4) ** 2
SIGMA = np.cov(ROWS, rowvar=False)


def refused(path, message=""):
    with pytest.raises(ValueError, match=rf"{path.name}.*{message}"):
        read(path)


def npy(array, **changes):
    """An array in NumPy's format, with another header if there are changes."""
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **changes}
    text = repr(header).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + array.tobytes()


HEADERS = {
    "more rows": {"shape": (11, 4)},
    "fewer rows": {"shape": (9, 4)},
    "negative": {"shape": (-10, -4)},
    "huge": {"shape": (2**40, 2**40)},
    "booleans": {"shape": (True, 40)},
    "list": {"shape": [10, 4]},
    "narrow": {"descr": "<f4"},
    "void": {"descr": "|V8"},
    "dates": {"descr": "<M8[s]"},
    "subarray": {"descr": ("<f8", (2,))},
    "fields": {"descr": [("a", "<f8")]},
    "pickled": {"descr": "|O"},
    "unknown": {"descr": "<x8"},
    "nested": {"shape": "(" * 90},
    "code": {"shape": "__import__('os')"},
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_headers_of_arrays(tmp_path, name, suffix, method):
    path, data = tmp_path / f"x{suffix}", npy(ROWS, **HEADERS[name])
    if suffix == ".npy":
        path.write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("features.npy", data)
            archive.writestr("more.npy", npy(ROWS))
    refused(path)


def test_arrays_of_a_wrong_length(tmp_path):
    path, data = tmp_path / "x.npy", npy(ROWS)
    for changed in (data[:-1], data + b"x", data + npy(ROWS), data[:130], data[:20], data[:3], b""):
        path.write_bytes(changed)
        refused(path)
    path.write_bytes(data)
    np.testing.assert_array_equal(read(path).features, ROWS)


# Zip archives -------------------------------------------------------------------------------------------------------


def test_every_bit_of_an_npz_matters(tmp_path):
    """A file with one changed bit is refused, or read as the same statistics: dates and versions are not checked."""
    path = tmp_path / "x.npz"
    for save in (np.savez, np.savez_compressed):
        save(path, mu=ROWS.mean(axis=0), sigma=SIGMA)
        expected, data, rng = GaussianStats.load(path), path.read_bytes(), random.Random(0)
        outcomes = []
        for bit in sorted(rng.sample(range(8 * len(data)), 150)):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            try:
                stats = GaussianStats.load(path)
            except ValueError as error:
                outcomes.append("x.npz" in str(error))
            else:
                np.testing.assert_array_equal(stats.mu, expected.mu)
                np.testing.assert_array_equal(stats.sigma, expected.sigma)
        assert all(outcomes)
        assert len(outcomes) > 90


def test_every_prefix_of_an_npz_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, mu=ROWS.mean(axis=0), sigma=SIGMA)
    data = path.read_bytes()
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        refused(path)


def central(data, number):
    """Position of an entry of a zip archive's directory."""
    position = -1
    for _ in range(number + 1):
        position = data.index(b"PK\1\2", position + 1)
    return position


def test_hostile_archives(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy(ROWS[:5]))
        archive.writestr("b.npy", npy(ROWS[5:]))
    data = path.read_bytes()
    first, second = central(data, 0), central(data, 1)
    changes = {
        "the first member for both": (second + 42, struct.pack("<I", 0)),
        "size of the other": (first + 20, struct.pack("<II", 700, 700)),
        "another method": (first + 10, struct.pack("<H", 8)),
        "another name": (first + 46, b"c"),
        "equal names": (second + 46, b"a"),
        "an offset beyond the end": (second + 42, struct.pack("<I", 2**31)),
        "a larger uncompressed size": (first + 24, struct.pack("<I", 2**31)),
    }
    for position, value in changes.values():
        path.write_bytes(data[:position] + value + data[position + len(value) :])
        refused(path)
    path.write_bytes(data[:first] + data[second:-22] + data[-22:])  # a member that is not listed
    refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("features.npy", npy(ROWS))
    refused(path, "save it again with numpy.savez")


def test_archives_with_data_of_other_programs(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", npy(ROWS))
        archive.writestr("__MACOSX/._features.npy", b"attributes")
    path.write_bytes(b"#!/bin/sh" + path.read_bytes() + b"a signature")
    np.testing.assert_array_equal(read(path).features, ROWS)


def test_archives_that_unpack_to_far_more(tmp_path, monkeypatch):
    monkeypatch.setattr("fidfast._files.buffers._MAX_UNPACKED", 10**6)
    path = tmp_path / "x.npz"
    np.savez_compressed(path, features=np.zeros((100_000, 4)))
    refused(path, "would have 3,200,128 bytes in memory")
    np.savez_compressed(path, features=np.zeros((30_000, 4)))
    assert read(path).features.shape == (30_000, 4)


def test_members_are_the_bytes_that_zipfile_reads(tmp_path, rng):
    path = tmp_path / "x.zip"
    contents = {
        f"{i}": rng.integers(0, 1 + 255 * (i % 2), size).astype(np.uint8) for i, size in enumerate((0, 1, 10**5))
    }
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.mkdir("folder") if hasattr(archive, "mkdir") else None
            for name, content in contents.items():
                archive.writestr(name, content.tobytes())
        members = members_of(path)
        assert list(members) == list(contents)
        for name, content in contents.items():
            np.testing.assert_array_equal(members[name].read(), content)
            np.testing.assert_array_equal(members[name].map(), content)
            assert members[name].head(100) == content[:100].tobytes()


# safetensors --------------------------------------------------------------------------------------------------------


def write_safetensors(path, header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + ROWS.tobytes())


def tensor(**changes):
    return {"dtype": "F64", "shape": [10, 4], "data_offsets": [0, 320], **changes}


HALVES = [tensor(shape=[5, 4], data_offsets=[0, 160]), tensor(shape=[5, 4], data_offsets=[160, 320])]
SAFETENSORS = {
    "dtype": {"features": tensor(dtype="F4")},
    "unknown dtype": {"features": tensor(dtype="X9")},
    "number as dtype": {"features": tensor(dtype=64)},
    "shape": {"features": tensor(shape=[11, 4])},
    "negative shape": {"features": tensor(shape=[-10, -4])},
    "shape of floats": {"features": tensor(shape=[10.0, 4])},
    "booleans": {"features": tensor(shape=[True, 40])},
    "outside": {"features": tensor(data_offsets=[8, 328])},
    "gap": {"features": tensor(shape=[9, 4], data_offsets=[32, 320])},
    "end": {"features": tensor(shape=[9, 4], data_offsets=[0, 288])},
    "descending": {"features": tensor(data_offsets=[320, 0])},
    "overlap": {"features": tensor(), "more": tensor()},
    "missing entry": {"features": {"dtype": "F64", "shape": [10, 4]}},
    "additional entry": {"features": tensor(more=1)},
    "metadata": {"features": tensor(), "__metadata__": {"a": 1}},
    "list": [tensor()],
    "twice": b'{"features": %s, "features": %s}' % tuple(json.dumps(half).encode() for half in HALVES),
    "nesting": b"[" * 10**5,
    "no JSON": b"{",
    "no UTF-8": b"\xff\xff",
    "digits": b'{"features": {"dtype": "F64", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 320]}}',
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_hostile_safetensors(tmp_path, name):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, SAFETENSORS[name])
    refused(path)


def test_honest_safetensors(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"__metadata__": {"extractor": "net"}, "features": tensor()})
    assert read(path).extractor == "net"
    np.testing.assert_array_equal(read(path).features, ROWS)
    write_safetensors(path, {"other": tensor(dtype="F4", shape=[0, 4], data_offsets=[0, 0]), "features": tensor()})
    np.testing.assert_array_equal(read(path).features, ROWS)


@pytest.mark.parametrize("length", [0, 1, 2**62, 2**64 - 1])
def test_length_of_the_header_of_safetensors(tmp_path, length):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"features": tensor()})
    data = path.read_bytes()
    path.write_bytes(struct.pack("<Q", length) + data[8:])
    refused(path)
    path.write_bytes(data[:5])
    refused(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_mutated_files(tmp_path, suffix):
    """Every outcome is a result or a ValueError with the name of the file."""
    path, rng = tmp_path / f"x{suffix}", random.Random(0)
    if suffix == ".npy":
        np.save(path, ROWS)
    elif suffix == ".npz":
        np.savez(path, mu=ROWS.mean(axis=0), sigma=SIGMA, extractor="net", num_samples=10)
    else:
        safetensors.numpy.save_file({"features": ROWS}, path, metadata={"extractor": "net"})
    for changed in itertools.islice(mutations(path.read_bytes(), rng), 100):
        path.write_bytes(changed)
        message = path.name
        try:
            fidfast.file_info(path)
            read(path)
        except ValueError as error:
            message = str(error)
        assert path.name in message
