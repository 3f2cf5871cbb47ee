"""Messages about features in several files, and about files of Parquet and zarr: each names the file."""

import json
import pickle
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image
from shard_files import WRITERS, write_columns, write_file, write_shards

import fidfast
from fidfast._files import rows
from fidfast._images import uses_images

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((30, 4)).astype(np.float32)


def message_of(source, kind=ValueError, function=fidfast.fid):
    with pytest.raises(kind) as caught:
        function(source, FEATURES)
    return str(caught.value)


@pytest.mark.parametrize("name", [name for name in WRITERS if not name.startswith("Fortran")])
def test_a_row_that_is_not_finite_is_named_with_its_file(name, tmp_path):
    parts = FEATURES.reshape(3, 10, 4).copy()
    parts[1, 7, 2] = np.nan
    folder = write_shards(tmp_path / "x", name, parts)
    file = re.escape(str(folder / "part-01"))
    for function in (fidfast.fid, fidfast.kid):
        found = message_of(folder, function=function)
        assert re.fullmatch(
            rf"(features_a|samples): {file}\.\w+: features hold NaN or infinity; the first such row is 7", found
        )


@pytest.mark.parametrize(
    "name", ["array .npy", "tensor .safetensors", "lists of fixed size .parquet", "format 3 .zarr"]
)
@pytest.mark.parametrize(
    ("shard", "message"),
    [
        (FEATURES[:, :3], r"part-01\.\w+:.* has shape \(30, 3\), but in .*part-00\.\w+ it has \(30, 4\)"),
        (FEATURES.astype(np.float64), r"part-01\.\w+:.* has dtype float64, but in .*part-00\.\w+ it has float32"),
        (FEATURES[:0], r"part-01\.\w+:.* has no rows: remove the file, or write it again"),
    ],
)
def test_shards_that_disagree(name, shard, message, tmp_path):
    folder = write_shards(tmp_path / "x", name, [FEATURES, shard, FEATURES])
    assert re.search(rf"^features_a: .*{message}$", message_of(folder))


def test_files_that_are_no_shards(tmp_path):
    np.savez(tmp_path / "a.npz", features=FEATURES, extractor="one")
    np.savez(tmp_path / "b.npz", features=FEATURES, extractor="two")
    assert "a.npz has the extractor 'one', but " in message_of(tmp_path)
    np.savez(tmp_path / "b.npz", embeddings=FEATURES, extractor="one")
    assert re.search(r"b\.npz has no 'features', which .*a\.npz has$", message_of(tmp_path))
    fidfast.Moments.from_features(FEATURES).stats().save(tmp_path / "b.npz")
    assert re.search(r"b\.npz holds no \(n, dim\) features in floating point, but 'mu' ", message_of(tmp_path))
    fidfast.Moments(4).save(tmp_path / "b.npz")
    assert re.search(r"b\.npz holds a checkpoint, not features: ", message_of(tmp_path))
    (tmp_path / "b.npz").write_bytes(b"")
    assert re.search(r"b\.npz is damaged or not a \.npz file", message_of(tmp_path))
    np.save(tmp_path / "c.npy", FEATURES)
    assert re.search(r"several formats, such as .*a\.npz and .*c\.npy: .* '.*/\*\.npz'", message_of(tmp_path))
    assert fidfast.fid(tmp_path / "*.n?y", FEATURES) == 0
    (tmp_path / "d.txt").touch()
    assert re.search(r"matches .*d\.txt, which is not a file of features", message_of(tmp_path / "*.*"))
    assert message_of(tmp_path / "*.zarr", FileNotFoundError) == f"no such file: {tmp_path / '*.zarr'}"


def test_a_pattern_is_a_path_if_a_file_has_the_name(tmp_path):
    np.save(tmp_path / "a[1].npy", FEATURES)
    np.save(tmp_path / "a1.npy", FEATURES + 1)
    assert fidfast.fid(tmp_path / "a[1].npy", FEATURES) == 0


def test_images_beside_features(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "x.png")
    np.save(tmp_path / "a.npy", FEATURES)
    found = message_of(tmp_path)
    assert re.search(r"holds images, such as .*x\.png, and files of features, such as .*a\.npy: .*/\*\.npy'$", found)
    assert fidfast.fid(str(tmp_path / "*.npy"), FEATURES) == 0
    np.save(tmp_path / "a.npy", np.arange(3))  # labels
    assert fidfast.file_info(tmp_path).holds == "images"
    (tmp_path / "x.png").unlink()
    np.save(tmp_path / "a.npy", np.zeros((8, 8, 3), np.uint8))  # an image, which fidfast.compat.cleanfid reads
    assert uses_images(tmp_path)


# Parquet -------------------------------------------------------------------------------------------------------------


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_columns_of_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    ragged = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0]])
    assert "row 2 of 'features' has 1 numbers, but row 0 has 2" in message_of(parquet(path, features=ragged))
    assert "row 1 of 'features' is null" in message_of(parquet(path, features=pa.array([[1.0], None])))
    assert "row 1 of 'features' has a null" in message_of(parquet(path, features=pa.array([[1.0, 2.0], [1.0, None]])))
    assert "row 1 of 'b' is null" in message_of(parquet(path, a=pa.array([1.0, 2.0]), b=pa.array([1.0, None])))
    mixed = parquet(path, a=pa.array([1.0, 2.0]), score=pa.array([1.0, 2.0], pa.float32()))
    assert "several types, float64 ('a') and float32 ('score')" in message_of(mixed)
    found = message_of(parquet(path, name=pa.array(["x"]), vector=pa.array([[1.0, 2.0]])))
    assert "if 'vector' holds the features, choose it with --key" in found
    found = message_of(parquet(path, label=pa.array([1, 2])))
    assert "'label' object (2,)" in found


def test_columns_in_another_order(tmp_path):
    folder = write_shards(tmp_path / "x", "columns .parquet", [FEATURES])
    pq.write_table(pa.table({f"f{j}": FEATURES[:, j] for j in (0, 2, 1, 3)}), folder / "part-01.parquet")
    assert re.search(
        r"column 1 of .*part-01\.parquet is 'f2', but in .*part-00\.parquet it is 'f1'", message_of(folder)
    )
    write_columns(folder / "part-01.parquet", FEATURES, "g")
    assert re.search(
        r"column 0 of .*part-01\.parquet is 'g0', but in .*part-00\.parquet it is 'f0'", message_of(folder)
    )


# Zarr ----------------------------------------------------------------------------------------------------------------


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).mkdir, (self.path,)


def test_no_codec_executes_code(tmp_path):
    """Pickles are a codec of format 2, which may be a filter of numbers too."""
    path, executed = tmp_path / "x.zarr", tmp_path / "executed"
    zarr.create_array(path, data=FEATURES, chunks=FEATURES.shape, zarr_format=2, compressors=None)
    metadata = json.loads((path / ".zarray").read_text())
    (path / "0.0").write_bytes(pickle.dumps(Payload(executed)))
    codec = {"id": "pickle", "protocol": 5}
    for change in ({"compressor": codec}, {"filters": [codec]}, {"filters": [codec], "dtype": "|O"}):
        (path / ".zarray").write_text(json.dumps({**metadata, **change}))
        for function in (fidfast.fid, fidfast.kid):
            assert "x.zarr" in message_of(path, function=function)
    assert not executed.exists()
    (path / ".zarray").write_text(json.dumps({**metadata, "filters": [{"id": "base64"}]}))
    assert "x.zarr: the array has the codec 'base64', which is not supported" in message_of(path)
    assert fidfast.file_info(path).entries == {"": "object (30, 4)"}


@pytest.mark.parametrize("change", [{"shape": [10**12, 4]}, {"shape": [30, 4], "chunks": [10**9, 10**3]}])
def test_an_array_far_larger_than_its_files(tmp_path, change):
    path = tmp_path / "x.zarr"
    zarr.create_array(path, data=FEATURES, chunks=(10, 4), zarr_format=2)
    metadata = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps({**metadata, **change}))
    assert re.search(r"x\.zarr: the array would have [\d,]+ bytes in memory, but \d+ bytes in the", message_of(path))


def test_chunks_that_are_missing(tmp_path):
    path = tmp_path / "x.zarr"
    zarr.create_array(path, data=FEATURES, chunks=(10, 4))
    (path / "c" / "1" / "0").unlink()
    np.save(tmp_path / "zeros.npy", np.concatenate([FEATURES[:10], 0 * FEATURES[:10], FEATURES[20:]]))
    parts = [path, write_file(tmp_path, "format 3 .zarr", FEATURES)]
    with pytest.warns(UserWarning, match=r"x\.zarr: the array: 1 of 3 chunks are not stored, and are read as 0\.0"):
        fidfast.fid(str(tmp_path / "*.zarr"), FEATURES)
    assert all(part.exists() for part in parts)


# Packages and disks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("package", "name"), [("pyarrow", "columns .parquet"), ("zarr", "format 3 .zarr")])
def test_packages_that_are_missing(tmp_path, monkeypatch, package, name):
    path = write_file(tmp_path, name, FEATURES)
    monkeypatch.setitem(sys.modules, package, None)
    assert "pip install 'fidfast[features]'" in message_of(path, ImportError)


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MAX_IN_MEMORY", 0)
    monkeypatch.setattr(rows.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    monkeypatch.setattr(rows.tempfile, "tempdir", str(tmp_path))
    folder = write_shards(tmp_path / "x", "array .npy", [FEATURES, FEATURES])
    found = message_of(folder, OSError, fidfast.kid)
    assert f"the rows have 960 bytes, and are copied to a temporary file in {tmp_path}, where 100 bytes are" in found
    both = np.concatenate([FEATURES, FEATURES])
    assert fidfast.fid(folder, FEATURES) == pytest.approx(fidfast.fid(both, FEATURES), rel=1e-12)  # needs no file


def test_a_shard_that_is_removed_or_cut_while_it_is_read(tmp_path):
    folder = write_shards(tmp_path / "x", "compressed .npz", [FEATURES, FEATURES])
    found = fidfast._inputs.open_input(folder, "samples")
    (folder / "part-01.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"part-01\.npz"):
        found.stats  # noqa: B018
