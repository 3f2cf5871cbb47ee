"""Pickles and files of torch: equal to pickle and torch on honest files, bounded on hostile ones; nothing is called."""

import collections
import itertools
import pickle
import random
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from mutations import mutations

import fidfast
from fidfast import GaussianStats
from fidfast._files import catalog_of, read
from fidfast._files.buffers import strided_entry
from fidfast._files.objects import Objects, PickleError
from fidfast._files.pickles import read_pickle
from fidfast._files.records import Entry


def loaded(value):
    """A value of `read_pickle` with arrays for entries."""
    if isinstance(value, Entry):
        return value.load()
    if isinstance(value, Objects):
        return np.array(loaded(value.items[0]), dtype=object) if len(value.items) == 1 else value
    if isinstance(value, dict):
        return {key: loaded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(loaded, value))
    return value


def require_equal(found, expected):
    if isinstance(expected, dict):
        assert list(found) == [str(key) for key in expected]
        for key, item in expected.items():
            require_equal(found[str(key)], item)
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected)
        for mine, theirs in itertools.zip_longest(found, expected):
            require_equal(mine, theirs)
    elif isinstance(expected, np.ndarray) and expected.dtype.hasobject:
        require_equal(found.item(), expected.item())
    elif isinstance(expected, (np.ndarray, np.generic)):
        assert found.shape == expected.shape
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)
    else:
        assert type(found) is type(expected)
        assert found == expected


MATRIX = np.arange(6.0).reshape(2, 3)
ARRAYS = [
    MATRIX, np.asfortranarray(MATRIX), MATRIX[:, ::2], MATRIX.T, MATRIX.astype(">f4"), MATRIX.astype("f2"),
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2), np.array(2.5), np.empty((0, 3)), np.array([True, False]),
    np.array([1 + 2j]), np.array(["a", "bcd"]), np.array([b"a", b"bcd"]), np.array([2**63], np.uint64),
    np.array([-1, 7], ">i2"), np.longdouble([1, 2]), np.array({"mu": MATRIX, "n": 3}, dtype=object),
    np.float64(0.5), np.int8(-3), np.bool_(True), np.str_("x"), np.float32(0.25),
]  # fmt: skip
VALUES = [
    None, True, False, 0, -1, 255, 65536, -(2**31), 2**40, -(2**70), 0.1, float("inf"), "", "text", "\ud800é\n'\\",
    b"", b"bytes\xff", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1, [2, (3,)]], {}, {"a": {1: 2}},
    collections.OrderedDict(a=1), collections.Counter("aab"), collections.defaultdict(list, a=[1]), [[0.5] * 30] * 3000,
    {0.5: 1, None: 2, True: 3, (1, "a"): 4, b"c": 5, 2**70: 6}, {np.int64(3): 1, np.str_("d"): 2}, [None] * 1500,
    "x" * 300, b"y" * 300, b"z" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_read_as_pickle_reads_them(protocol):
    for value in [*ARRAYS, *VALUES, [*ARRAYS, *VALUES], {str(i): value for i, value in enumerate(ARRAYS)}]:
        data = pickle.dumps(value, protocol)
        found, end = read_pickle(data)
        assert end == len(data)
        require_equal(loaded(found), pickle.loads(data))


def test_every_prefix_is_refused():
    data = pickle.dumps({"mu": MATRIX, "list": [1, 2.5, "x", b"y"], "n": np.float64(3)}, 4)
    for end in range(len(data)):
        with pytest.raises(PickleError):
            read_pickle(data[:end])


# Hostile pickles ----------------------------------------------------------------------------------------------------

DTYPE = b"cnumpy\ndtype\n(U\x02%s\x89\x88tR"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
DTYPE_STATE = b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def array_pickle(dtype=DTYPE % b"f8", shape=b"K\x02\x85", data=b"C\x10" + bytes(16), fortran=b"\x89"):
    return b"\x80\x02" + EMPTY + b"(K\x01" + shape + dtype + DTYPE_STATE + fortran + data + b"tb."


def doubled(times, first=b"K\x01\x85"):
    """A tuple of the last one, twice, again and again."""
    return first + b"2\x86" * times


HOSTILE = {
    "size": array_pickle(shape=b"K\x03\x85"),
    "negative shape": array_pickle(shape=b"J\xff\xff\xff\xff\x85"),
    "negative shapes": array_pickle(shape=b"J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86"),
    "shape beyond 64 bits": array_pickle(shape=b"\x8a\x09" + b"\0" * 8 + b"\1\x85"),
    "product beyond 64 bits": array_pickle(shape=b"\x8a\x05\0\0\0\0\1\x8a\x05\0\0\0\0\1\x86"),
    "shape of floats": array_pickle(shape=b"G@\0\0\0\0\0\0\0\x85"),
    "shape of booleans": array_pickle(shape=b"\x88\x88\x86"),
    "33 axes": array_pickle(shape=b"(" + b"K\x01" * 33 + b"t"),
    "items of 0 bytes": array_pickle(DTYPE % b"V0", b"J\xff\xff\xff\x7f\x85", b"C\0"),
    "void": array_pickle(DTYPE % b"V8"),
    "dates": array_pickle(DTYPE % b"M8"),
    "objects from bytes": array_pickle(DTYPE % b"O8"),
    "item size": b"\x80\x02" + DTYPE % b"V8" + b"(K\x03U\x01<NNNJ\0\0\1\0K\1K\0tb.",
    "subarray": b"\x80\x02" + DTYPE % b"f8" + b"(K\x03U\x01<" + DTYPE % b"f8" + b"J\0\0\1\0\x85\x86NNK\0K\0K\0tb.",
    "fields": b"\x80\x02" + DTYPE % b"f8" + b"(K\x03U\x01<N(U\1at}J\0\0\1\0K\1K\0tb.",
    "byte order": b"\x80\x02" + DTYPE % b"f8" + b"(K\x03U\x01?NNNK\0K\0K\0tb.",
    "byte order of a bomb": b"\x80\x02" + DTYPE % b"f8" + b"(K\x03" + doubled(40) + b"NNNK\0K\0K\0tb.",
    "dtype of a long name": b"\x80\x02cnumpy\ndtype\n(X\x50\xc3\0\0" + b"f8,,," * 10000 + b"\x89\x88tR.",
    "scalar of an object": b"\x80\x02cnumpy.core.multiarray\nscalar\n(" + DTYPE % b"O8" + b"C\x08" + bytes(8) + b"tR.",
    "array that was not built": b"\x80\x02" + EMPTY + b".",
    "array built twice": array_pickle()[:-1] + b"(K\x01K\x02\x85" + DTYPE % b"f8" + b"\x89C\x10" + bytes(16) + b"tb.",
    "state of a dictionary": b"\x80\x02}}b.",
    "unfolding": b"\x80\x04" + doubled(40) + b".",
    "hashing": b"\x80\x04}" + doubled(40) + b"K\1s.",
    "hashing in a set": b"\x80\x04\x8f(" + doubled(40) + doubled(40) + b"\x900" + b"".join([b"}", doubled(40), b"Ns."]),
    "axes": b"\x80\x05cnumpy._core.numeric\n_frombuffer\n(C\x08" + bytes(8) + DTYPE % b"f8" + b"K\1\x85U\1K"
    + doubled(40) + b"tR.",
    "lists of lists": b"\x80\x04]q\0" + b"]h\0ah\0aq\0" * 60 + b".",
    "list of itself": b"\x80\x04]q\0h\0a.",
    "dictionary of itself": b"\x80\x04}q\0U\1ah\0s.",
    "deep": b"]" * 10**4 + b"a" * (10**4 - 1) + b".",
    "deep tuples": b")" + b"\x85" * 10**4 + b".",
    "marks": b"(" * 10**6 + b".",
    "LONG1": b"\x8a\xff" + b"\xff" * 255 + b".",
    "LONG4": b"\x8b\xff\xff\xff\x7f" + bytes(100) + b".",
    "negative LONG4": b"\x8b\xff\xff\xff\xff.",
    "BINUNICODE8": b"\x8d" + b"\xff" * 8 + b"x.",
    "BINBYTES8": b"\x8e" + b"\xff" * 7 + b"\x7fx.",
    "BYTEARRAY8": b"\x96" + b"\xff" * 7 + b"\x7fx.",
    "BINSTRING": b"T\xff\xff\xff\xffx.",
    "FRAME": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "decimal": b"L" + b"9" * 10**6 + b"L\n.",
    "line": b"S'" + b"a" * 10**6,
    "float": b"Fx\n.",
    "quotes": b"S'\\x\n.",
    "protocol": b"\x80\x06N.",
    "out of band": b"\x80\x05\x97.",
    "persistent": b"\x80\x02U\1aQ.",
    "extension": b"\x80\x02\x82\1.",
    "memo": b"h\5.",
    "no value": b".",
    "POP": b"00.",
    "no list": b"\x80\x02K\1K\2a.",
    "no mark": b"\x80\x02]e.",
    "odd items": b"\x80\x02}(U\1au.",
    "equal keys": b"\x80\x02}(U\1aK\1U\1aK\2u.",
    "nested key": b"\x80\x02}K\1\x85\x85K\1s.",
    "long key": b"\x80\x02}X\0\4\0\0" + b"x" * 1024 + b"\x85K\1s.",
    "key of items": b"\x80\x02}(" + b"K\1" * 9 + b"tK\1s.",
    "copies of text": b"\x80\x02c_codecs\nencode\nq\0X\0\1\0\0" + b"x" * 256
    + b"q\1U\6latin1q\2" + b"h\0h\1h\2\x86R0" * 9 + b"N.",
    "copies of dictionaries": b"\x80\x02ccollections\nCounter\nq\0}q\1("
    + b"".join(b"J" + i.to_bytes(4, "little") + b"N" for i in range(200)) + b"u" + b"h\0h\1\x85R0" * 9 + b".",
    "global": b"cos\nsystem\n(U\4echotR.",
    "stack global": b"\x80\x04\x8c\2os\x8c\6system\x93.",
    "global of a bomb": b"\x80\x04" + doubled(40) + b"\x8c\1x\x93.",
    "call of data": b"\x80\x02K\1)R.",
    "arguments": b"\x80\x02cnumpy\ndtype\n)R.",
    "new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "instance": b"(ios\nsystem\n.",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(name, tmp_path):
    with pytest.raises(PickleError) as caught:
        read_pickle(HOSTILE[name])
    assert len(str(caught.value)) < 400
    path = tmp_path / "x.pkl"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match=r"features_a: .*x\.pkl.*numpy\.savez") as caught:
        fidfast.fid(path, MATRIX)
    assert "weights_only" not in str(caught.value)


def test_shared_text_is_not_copied(tmp_path):
    """2,000 references to 10 MB of text need the memory of one, not 20 GB."""
    for text in ("x" * 10**7, b"x" * 10**7):
        path = tmp_path / "x.pkl"
        path.write_bytes(pickle.dumps({"list": [text] * 2000, "dict": dict.fromkeys(range(2000), text), "mu": MATRIX}))
        tracemalloc.start()
        catalog_of(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * 10**7  # the file and its text, and less than both again
        tracemalloc.stop()


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_batches_that_repeat_are_bounded_by_the_file(tmp_path, monkeypatch, save):
    path, batch = tmp_path / "x.pt", np.ones((100, 50), np.float32)
    if save is not torch.save:
        path = tmp_path / "x.pkl"
    batches = [torch.from_numpy(batch) if save is torch.save else batch] * 300
    save({"all_features": batches}, path)
    assert read(path).features.shape == (30_000, 50)  # less than 1 GiB
    monkeypatch.setattr("fidfast._files.buffers._MAX_UNPACKED", 10**6)
    with pytest.raises(ValueError, match=r"x\.p.*'all_features' would have 12,000,000 bytes in memory"):
        read(path)


def test_numbers_of_opcodes_are_limited(monkeypatch):
    monkeypatch.setattr("fidfast._files.pickles._MAX_OPERATIONS", 1000)
    assert read_pickle(b"N0" * 499 + b"N.")[0] is None
    with pytest.raises(PickleError, match="it has more than 1,000 opcodes"):
        read_pickle(b"N0" * 500 + b"N.")


@pytest.mark.parametrize("protocol", range(6))
def test_mutated_pickles(protocol):
    """Every outcome is a value or a ValueError."""
    rng = random.Random(protocol)
    mapping = collections.OrderedDict(n=3, keys=["a", 2.5, (b"x", None)])
    data = pickle.dumps(
        {"mu": MATRIX, "sigma": np.asfortranarray(MATRIX), "more": mapping, "s": np.float32(1)}, protocol
    )
    outcomes = collections.Counter()
    for changed in itertools.islice(mutations(data, rng), 600):
        try:
            value = loaded(read_pickle(changed)[0])
        except ValueError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert len(repr(value)) < 10**6
    assert min(outcomes["refused"], outcomes["read"]) > 10


# Files of torch -----------------------------------------------------------------------------------------------------


def rewritten(path, target, **changes):
    """A copy of a zip file with other contents of some members."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            end = name.partition("/")[2]
            if end in changes and changes[end] is None:
                continue
            archive.writestr(name, changes.get(end, source.read(name)))


@pytest.mark.filterwarnings("ignore:Sparse BSR tensor")
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_are_read_as_torch_reads_them(tmp_path, zipped):
    base = torch.arange(24, dtype=torch.float64)
    linear = torch.nn.Linear(2, 3)
    content = {
        "slice": base[4:16:3], "transposed": base.reshape(4, 6).T, "scalar": base[3], "empty": base[:0].reshape(0, 5),
        "expanded": base[:2].expand(3, 2), "parameter": torch.nn.Parameter(base.clone()), "half": base.half(),
        "bfloat16": base.bfloat16(), "complex": base[:2] * (1 + 2j), "bool": base > 3, "state": linear.state_dict(),
        "size": base.reshape(2, 12).shape, "device": base.device, "array": MATRIX, "name": "x",
        "set": {1, 2}, "layout": torch.ones(4, 4).to_sparse_bsr((2, 2)), "meta": torch.ones(2, device="meta"),
        "attributes": base.clone(), "conjugate": torch.tensor([1 + 2j]).conj(), "uint16": base.to(torch.uint16),
    }  # fmt: skip
    content["attributes"].more = 1
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    entries = catalog_of(tmp_path / "x.pt").entries
    for key, value in {**content, **{f"state/{key}": value for key, value in content["state"].items()}}.items():
        if key in ("set", "layout", "meta"):
            assert entries[key].dtype == "object"
        elif isinstance(value, torch.Tensor):
            found = entries[key].load()
            expected = value.detach().resolve_conj()
            expected = expected.float() if value.dtype == torch.bfloat16 else expected
            assert entries[key].dtype == str(value.dtype).removeprefix("torch.")
            assert found.flags.aligned
            np.testing.assert_array_equal(found, expected.numpy())
    np.testing.assert_array_equal(entries["array"].load(), MATRIX)
    assert entries["size"].load().tolist() == [2, 12]


@pytest.mark.parametrize(
    "dtype", ["bfloat16", *(f"float8_{kind}" for kind in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz"))]
)
def test_narrow_floats_have_the_values_of_torch(tmp_path, dtype):
    bits = 16 if dtype == "bfloat16" else 8
    codes = torch.arange(2**bits, dtype=torch.int32).to(torch.uint16 if bits == 16 else torch.uint8)
    tensor = codes.view(getattr(torch, dtype))
    torch.save(tensor, tmp_path / "x.pt")
    np.testing.assert_array_equal(catalog_of(tmp_path / "x.pt").entries[""].load(), tensor.float().numpy())


def test_checksums_may_be_left_out(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(torch.from_numpy(MATRIX), tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_array_equal(read(tmp_path / "x.pt").features, MATRIX)


def test_hostile_files_of_torch(tmp_path):
    path, bad = tmp_path / "x.pt", tmp_path / "bad.pt"
    torch.save(torch.from_numpy(MATRIX), path)
    pickled = zipfile.ZipFile(path).read("x/data.pkl")
    size, stride = b"K\x02K\x03\x86", b"K\x03K\x01\x86"
    assert pickled.count(size) == pickled.count(stride) == 1
    changes = [
        {"data/0": MATRIX.tobytes()[:-1]},
        {"data/0": MATRIX.tobytes() + b"x"},
        {"data/0": None},
        {"data.pkl": None},
        *(
            {"data.pkl": HOSTILE[name]}
            for name in ("unfolding", "hashing", "item size", "size", "global", "persistent")
        ),
        {"data.pkl": pickled.replace(size, b"K\x03K\x03\x86")},
        {"data.pkl": pickled.replace(size, b"J\xff\xff\xff\xffK\x03\x86")},
        {"data.pkl": pickled.replace(stride, b"K\x04K\x01\x86")},
        {"data.pkl": pickled.replace(stride, b"J\xff\xff\xff\xffK\x01\x86")},
        {"data.pkl": pickled.replace(stride, b"K\x01\x85")},
        {"data.pkl": pickled.replace(size, b"J\0\0\0\x40K\x03\x86").replace(stride, b"K\x00K\x01\x86")},
        {"data.pkl": pickled.replace(b"DoubleStorage", b"QInt8Storage")},
        {"data.pkl": pickled.replace(b"DoubleStorage", b"FloatStorage")},
    ]
    for change in changes:
        rewritten(path, bad, **change)
        with pytest.raises(ValueError, match=r"features_a: .*bad\.pt") as caught:
            fidfast.fid(bad, MATRIX)
        assert "weights_only" not in str(caught.value)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(MATRIX.tobytes()) + 12] ^= 1
    bad.write_bytes(damaged)
    with pytest.raises(ValueError, match="'x/data/0' is damaged: its checksum does not match"):
        fidfast.fid(bad, MATRIX)


def test_views_stay_in_their_storage():
    """A view is accepted exactly if all of its items are in the storage."""
    rng = random.Random(0)
    storage = np.arange(10.0)
    for _ in range(500):
        ndim = rng.randrange(4)
        shape, strides = ([rng.randrange(5) for _ in range(ndim)] for _ in range(2))
        offset = rng.randrange(12)
        places = [offset + sum(map(int.__mul__, index, strides)) for index in itertools.product(*map(range, shape))]
        fits = all(place < 10 for place in places)
        try:
            entry = strided_entry(lambda: storage.view(np.uint8), 80, "float64", tuple(shape), tuple(strides), offset)
        except ValueError:
            assert not fits
        else:
            assert fits
            np.testing.assert_array_equal(entry.load().reshape(-1), storage[places] if places else [])


@pytest.mark.parametrize("zipped", [True, False])
def test_mutated_files_of_torch(tmp_path, zipped):
    rng = random.Random(0)
    path = tmp_path / "x.pt"
    torch.save({"mu": torch.zeros(2), "sigma": torch.eye(2)}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    for changed in itertools.islice(mutations(data, rng), 100):
        path.write_bytes(changed)
        message = "x.pt"
        try:
            GaussianStats.load(path)
        except ValueError as error:
            message = str(error)
        assert "x.pt" in message
        assert "weights_only" not in message
