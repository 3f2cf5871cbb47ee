"""Features in several files and in files that are read in slices: the same as the array."""

import os
import tracemalloc

import numpy as np
import pytest
import zarr
from shard_files import SINGLE, WRITERS, write_file, write_shards

import fidfast
from fidfast._files import Rows, read, rows
from fidfast._inputs import open_input
from fidfast._metrics import scale
from fidfast._stats import slices


@pytest.fixture(params=["in memory", "on disk"])
def reading(request, monkeypatch):
    """Rows that are needed in any order: read at once, or copied to a temporary file."""
    monkeypatch.setattr(rows, "MAX_IN_MEMORY", 2**27 if request.param == "in memory" else 0)
    monkeypatch.setattr(rows, "_ROWS", 17)
    monkeypatch.setattr(slices, "ROWS_PER_SLICE", 23)
    return request.param


def split(features, rng, number=4):
    """Parts of random lengths of at least 1."""
    return np.split(features, np.sort(rng.choice(np.arange(1, len(features)), number - 1, replace=False)))


@pytest.mark.grid(keep=10)
@pytest.mark.parametrize("name", WRITERS)
def test_any_sharding_gives_the_result_of_the_array(name, reading, tmp_path):
    rng = np.random.default_rng(len(name))
    a = rng.standard_normal((150, 5)).astype(rng.choice([np.float32, np.float64]))
    b = (rng.standard_normal((90, 5)) + 0.3).astype(np.float32)
    folder = write_shards(tmp_path / "a", name, split(a, rng))
    file = write_file(tmp_path, name, a)
    # Sums over slices are merged in another order: the distance of `Moments` is within 1e-12 for any slices.
    expected = fidfast.fid(a, b, precision="float64")
    estimated = fidfast.estimate(a, b, precision="float64")
    for source in (folder, file, str(folder / f"*{file.suffix}")):
        assert fidfast.fid(source, b, precision="float64") == pytest.approx(expected, rel=1e-12)
        found = fidfast.estimate(source, b, precision="float64")
        # Leave-one-out distances are differences of numbers of the size of the distance: 1e-12 of it, over the error.
        assert found.unbiased == pytest.approx(estimated.unbiased, abs=1e-11 * expected)
        assert found.stderr == pytest.approx(estimated.stderr, rel=1e-9)
        assert fidfast.kid(source, b) == fidfast.kid(a, b)
        assert fidfast.manifold_metrics(b, source) == fidfast.manifold_metrics(b, a)
    info = fidfast.file_info(folder)
    assert info.holds == "features"
    assert info.properties["shape"][:2] == [150, 5]


@pytest.mark.grid(keep=10)
@pytest.mark.parametrize("name", [*WRITERS, *SINGLE])
def test_slices_in_any_order_are_the_rows(name, reading, tmp_path):
    """Also of a file alone, whatever the sizes of chunks, pages and groups."""
    rng = np.random.default_rng(0)
    features = rng.integers(-60, 60, (120, 6)).astype(np.float32)  # exact in bfloat16
    parts = [features] if name in SINGLE else split(features, rng, 5)
    paths = [write_file(tmp_path, name, part, f"part-{i}") for i, part in enumerate(parts)]
    entries = [read(path, rows=True).features for path in paths]
    if reading == "on disk" and entries[0].dtype.isnative and not isinstance(entries[0], np.memmap):
        # Files in a format that is not mapped as it is.
        assert isinstance(entries[0], Rows) or name.startswith(("compressed", "Fortran", "pooled")), name
    found = open_input(paths[0] if name in SINGLE else str(tmp_path / f"part-*{paths[0].suffix}"), "x", rows=True).rows
    assert found.shape == features.shape
    for _ in range(30):
        first, last = sorted(rng.integers(0, 121, 2))
        np.testing.assert_array_equal(found[first:last], features[first:last])
    np.testing.assert_array_equal(np.concatenate([found[i : i + 7] for i in range(0, 120, 7)]), features)
    np.testing.assert_array_equal(np.asarray(found), features)


def test_files_are_ordered_by_name(tmp_path):
    folder = write_shards(tmp_path / "x", "array .npy", np.eye(12, 3)[:, None, :])
    os.rename(folder / "part-10.npy", folder / "part-9.npy")
    np.save(folder / ".hidden.npy", np.ones((2, 2)))
    np.save(folder / "_other.npy", np.ones((2, 2)))
    (folder / "_SUCCESS").touch()
    (folder / "README").touch()
    np.testing.assert_array_equal(np.asarray(read(folder).features), np.eye(12, 3)[[*range(10), 11, 10]])


def test_one_of_several_arrays_is_chosen_by_key(tmp_path):
    parts = np.random.default_rng(0).standard_normal((3, 20, 4))
    for i, part in enumerate(parts):
        np.savez(tmp_path / f"{i}.npz", a=part, b=-part, labels=np.arange(20))
    np.testing.assert_array_equal(np.asarray(read(tmp_path, key="b").features), -parts.reshape(60, 4))
    with pytest.raises(ValueError, match=r"holds neither .* its keys are 'a' float64 \(60, 4\), 'b' float64 \(60, 4\)"):
        fidfast.fid(tmp_path, parts[0])


def test_no_more_than_some_slices_are_in_memory(tmp_path, monkeypatch):
    """Whatever the number of shards. NumPy's allocations are counted; those of the core are in benchmarks/speed."""
    monkeypatch.setattr(rows, "MAX_IN_MEMORY", 0)
    monkeypatch.setattr(rows, "_ROWS", 128)
    monkeypatch.setattr(slices, "ROWS_PER_SLICE", 128)
    dim, shard, n = 96, 128, 3_072
    rng = np.random.default_rng(0)
    sides = [
        write_shards(tmp_path / side, "array .npy", rng.standard_normal((n // shard, shard, dim)) + shift)
        for side, shift in (("a", 0.0), ("b", 0.1))
    ]
    slice_bytes = 128 * dim * 8
    # A slice, its parts, and three arrays of its size in one formula; of each row of both sides a hash and 15 numbers.
    # Entry and header of each file: 4 kB.
    bound = 5 * slice_bytes + 2 * n * 16 * 8 + 2 * 4096 * n // shard
    assert bound < n * dim * 8  # of one side
    functions = (fidfast.fid, fidfast.estimate, fidfast.kid, fidfast.precision_recall)
    for function in functions:
        function(rng.standard_normal((200, dim)), rng.standard_normal((200, dim)))  # imports
        tracemalloc.start()
        function(*sides)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < bound, function.__name__


def test_features_in_extreme_units_are_read_in_slices(tmp_path, reading, monkeypatch):
    """A power of 2 changes no digit of the distance, nor do slices beyond 1e-12 of it."""
    monkeypatch.setattr(scale, "MAX_IN_MEMORY", rows.MAX_IN_MEMORY)
    monkeypatch.setattr(scale, "ROWS_PER_SLICE", slices.ROWS_PER_SLICE)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((150, 5)), rng.standard_normal((90, 5)) + 0.3
    expected = fidfast.estimate(a, b)
    for exponent in (60, -60, 450):
        for i, side in enumerate((a, b)):
            write_shards(tmp_path / f"{exponent}-{i}", "array .npy", np.split(np.ldexp(side, exponent), [30, 80]))
        sides = tmp_path / f"{exponent}-0", tmp_path / f"{exponent}-1"
        found = fidfast.estimate(*sides)
        assert np.ldexp(found.unbiased, -2 * exponent) == pytest.approx(expected.unbiased, rel=1e-10)
        assert np.ldexp(found.stderr, -2 * exponent) == pytest.approx(expected.stderr, rel=1e-9)
        assert np.ldexp(fidfast.fid(*sides), -2 * exponent) == pytest.approx(fidfast.fid(a, b), rel=1e-12)


class Chunks:
    """An array in chunks that counts the rows that are read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.chunks, self.read = array, array.shape, array.dtype, (16, 5), 0

    def __getitem__(self, key):
        self.read += len(self.array[key])
        return self.array[key]

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("read at once")


def test_rows_are_read_as_often_as_documented(monkeypatch):
    monkeypatch.setattr(rows, "MAX_IN_MEMORY", 0)
    monkeypatch.setattr(slices, "ROWS_PER_SLICE", 23)
    rng = np.random.default_rng(0)
    a, b, c = (Chunks(rng.standard_normal((160, 5)) + shift) for shift in (0.0, 0.1, 0.2))
    for function, sides, times in (
        (fidfast.fid, (a, b), (1, 1)),
        (fidfast.estimate, (a, b), (2, 2)),
        (fidfast.compare, (a, b, c), (2, 2, 3)),
        (fidfast.kid, (a, b), (1, 1)),
        (fidfast.manifold_metrics, (a, b), (1, 1)),
        (fidfast.report, (a, b), (1, 1)),
    ):
        for side in sides:
            side.read = 0
        function(*sides)
        assert tuple(side.read / 160 for side in sides) == times, function.__name__


def test_temporary_files_have_no_names(tmp_path, monkeypatch):
    """So that nothing is left behind by a process that is killed."""
    monkeypatch.setattr(rows, "MAX_IN_MEMORY", 0)
    monkeypatch.setattr(rows.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    features = np.random.default_rng(0).standard_normal((40, 3))
    found = read(write_shards(tmp_path / "x", "array .npy", np.split(features, 4))).features
    np.testing.assert_array_equal(found.mapped(), features)
    assert isinstance(found.mapped(), np.memmap)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_all_functions_of_rows(tmp_path, reading):
    """That two sides in shards, and rows in chunks in memory, give the results of the arrays."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal((n, 5)) + shift for n, shift in ((150, 0.0), (120, 0.2), (150, 0.4)))
    shards = [
        write_shards(tmp_path / str(i), "tensor .safetensors", split(side, rng)) for i, side in enumerate((a, b, c))
    ]
    chunks = [zarr.create_array(tmp_path / f"{i}.zarr", data=side, chunks=(40, 3)) for i, side in enumerate((a, b, c))]
    groups = (np.arange(150) // 3, np.arange(120) // 3)
    functions = {
        "kid_subsets": lambda x, y, z: fidfast.kid_subsets(x, y, subsets=3, subset_size=50).mean,
        "cmmd": lambda x, y, z: fidfast.cmmd(x, y),
        "mifid": lambda x, y, z: fidfast.mifid(x, y, precision="float64"),
        "mind": lambda x, y, z: fidfast.mind(x, y, num_projections=50).value,
        "vendi": lambda x, y, z: fidfast.vendi(x),
        "density_coverage": lambda x, y, z: fidfast.density_coverage(x, y).density,
        "precision_recall": lambda x, y, z: fidfast.precision_recall(x, y, like="adm").recall,
        "fid_infinity": lambda x, y, z: fidfast.fid_infinity(x, y, precision="float64").value,
        "frechet_terms": lambda x, y, z: fidfast.frechet_terms(x, y, precision="float64").distance,
        "compare": lambda x, y, z: fidfast.compare(x, z, y, paired=True, precision="float64").stderr,
        "groups": lambda x, y, z: fidfast.estimate(x, y, groups=groups, precision="float64").stderr,
        "influence": lambda x, y, z: float(fidfast.influence(x, y, precision="float64")[7]),
        "report": lambda x, y, z: fidfast.report(x, y).kid.value,
    }
    for name, function in functions.items():
        expected = float(function(a, b, c))
        for sides in (shards, chunks):
            # Moments differ within 1e-12, and small differences of distances by a few orders more.
            assert float(function(*sides)) == pytest.approx(expected, rel=1e-8), name
