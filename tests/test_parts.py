"""Moments of the parts of a source, from any number of files in any order, are those of the complete source."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fidfast
from fidfast import ClassMoments, Moments, merge_parts, moments_of_features
from fidfast._files import headers

ROWS = np.random.default_rng(0).normal(size=(40, 3)) * [1, 10, 100] + 5


def save(path, features, shard, **options):
    moments_of_features(features, shard=shard, **options).save(path)
    return str(path)


def parts(folder, features, number, **options):
    """The files of all parts."""
    return [save(folder / f"{k}.moments.npz", features, f"{k}/{number}", **options) for k in range(1, number + 1)]


def require_equal(moments, features):
    """Within the rounding of sums of float64: 1e-12 relative."""
    expected = Moments.from_features(features).stats()
    assert moments.num_samples == expected.num_samples
    np.testing.assert_allclose(moments.stats().mu, expected.mu, rtol=1e-12)
    np.testing.assert_allclose(moments.stats().sigma, expected.sigma, rtol=1e-12, atol=1e-12 * expected.sigma.max())


@pytest.mark.parametrize("number", [1, 2, 5, 9, 33])
def test_any_number_of_parts_in_any_order(number, tmp_path, rng):
    files = parts(tmp_path, ROWS, number)
    merged = merge_parts(files)
    require_equal(merged.moments, ROWS)
    assert [(part.shard, part.shards, part.num_samples) for part in merged.parts] == [(1, 1, 40)]
    assert merge_parts(rng.permutation(files)).moments == merged.moments  # in every bit
    assert merge_parts(tmp_path).moments == merged.moments


@pytest.mark.parametrize("fan_in", [2, 3])
def test_a_tree_of_sums(fan_in, tmp_path, monkeypatch):
    monkeypatch.setattr("fidfast._merging._FAN_IN", fan_in)
    for number in (1, 8, 9):
        features = np.repeat(ROWS, 300, axis=0)  # parts of fewer rows than a block would be added one after another
        (tmp_path / str(number)).mkdir()
        require_equal(merge_parts(parts(tmp_path / str(number), features, number)).moments, features)


@pytest.mark.parametrize("number", [3, 4, 7])  # of more rows than a block of 1,024, and of fewer
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_products_of_float32_are_those_of_one_process(number, precision, tmp_path, rng):
    features, reference = (
        (rng.standard_normal((5000, 600)) @ rng.standard_normal((600, 600))).astype(np.float32) for _ in range(2)
    )
    expected = Moments.from_features(features, precision=precision).stats()
    files = parts(tmp_path, features, number, precision=precision)
    merged = merge_parts(rng.permutation(files)).moments.stats()
    # The same blocks, whose products in float32 have errors of about 1e-7, added in float64 in another order.
    scale = np.sqrt(np.outer(np.diag(expected.sigma), np.diag(expected.sigma)))
    assert np.max(np.abs(merged.sigma - expected.sigma) / scale) < 1e-14
    assert fidfast.fid(merged, reference) == pytest.approx(fidfast.fid(expected, reference), rel=1e-12)


@given(st.one_of(st.integers(0, 30), st.integers(1000, 9999)), st.integers(1, 9))
def test_shards_cover_the_rows_once(total, number):
    rows = np.arange(float(total))[:, np.newaxis]
    found = [moments_of_features(rows, shard=f"{k}/{number}") for k in range(1, number + 1)]
    assert [i for one in found for i in one.parts[0].indices] == list(range(total))
    sizes = [one.moments.num_samples for one in found]
    assert sizes == [len(one.parts[0].indices) for one in found]
    if total // number < 1024:
        assert max(sizes) - min(sizes) <= 1
    else:
        assert all(one.parts[0].indices.start % 1024 == 0 for one in found)
        assert min(sizes) > 0


@pytest.mark.parametrize("kind", ["npy", "npz", "tensor", "float32", "float16", "pooled"])
def test_features_of_any_kind(kind, tmp_path):
    torch = pytest.importorskip("torch")
    rows = ROWS.astype(kind) if kind.startswith("float") else ROWS
    np.save(tmp_path / "rows.npy", ROWS)
    np.savez(tmp_path / "rows.npz", features=ROWS, mu=ROWS[0])
    features = {
        "npy": tmp_path / "rows.npy",
        "npz": tmp_path / "rows.npz",
        "tensor": torch.from_numpy(ROWS),
        "pooled": ROWS[:, :, np.newaxis, np.newaxis],
    }.get(kind, rows)
    (tmp_path / "parts").mkdir()
    merged = merge_parts(parts(tmp_path / "parts", features, 4))
    require_equal(merged.moments, rows)
    assert merged.parts[0].source == moments_of_features(rows).parts[0].source  # of equal numbers


def test_the_hash_of_a_source_depends_on_shape_and_content():
    def digest(features):
        return moments_of_features(features, shard="1/2").parts[0].source

    changed = ROWS.copy()
    changed[0, 0] += 1
    assert len({digest(ROWS), digest(ROWS[:-1]), digest(ROWS[:, :2]), digest(changed)}) == 4
    assert digest(ROWS) == digest(ROWS.copy())


def test_parts_of_different_sizes(tmp_path):
    files = [save(tmp_path / f"{k}.npz", ROWS, shard) for k, shard in enumerate(["3/4", "1/2", "8/8", "7/8"])]
    require_equal(merge_parts(files).moments, ROWS)
    with pytest.raises(ValueError, match=r"missing samples 20 to 29 of 40 of the source of .*1\.npz"):
        merge_parts(files[1:])


def test_several_sources_and_merged_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = parts(tmp_path / "a", ROWS[:30], 3)
    second = parts(tmp_path / "b", ROWS[30:], 2)
    expected = merge_parts([*first, *second])
    require_equal(expected.moments, ROWS)
    assert sorted(part.num_samples for part in expected.parts) == [10, 30]
    merge_parts(first).save(tmp_path / "first.moments.npz")
    assert merge_parts([*second, tmp_path / "first.moments.npz"]).parts == expected.parts
    with pytest.raises(ValueError, match=r"first\.moments\.npz.* of one source, which overlap"):
        merge_parts([*first, tmp_path / "first.moments.npz"])


def test_moments_without_shards(tmp_path):
    files = []
    for number, rows in enumerate(np.split(ROWS, 4)):
        files.append(tmp_path / f"{number}.npz")
        Moments.from_features(rows).save(files[-1])
    merged = merge_parts(files)
    require_equal(merged.moments, ROWS)
    assert merged.parts == ()
    assert merge_parts(files[::-1]).moments == merged.moments
    shutil.copy(files[0], tmp_path / "copy.npz")
    with pytest.raises(ValueError, match=r"0\.npz and .*copy\.npz hold the same moments: pass one of them"):
        merge_parts([*files, tmp_path / "copy.npz"])
    part = save(tmp_path / "part.npz", ROWS, "1/4")
    with pytest.raises(ValueError, match=r"0\.npz and .*part\.npz hold the same moments"):
        merge_parts([files[0], part])


def test_parts_of_equal_rows(tmp_path):
    assert merge_parts(parts(tmp_path, np.ones((6, 2)), 3)).moments.num_samples == 6


def test_moments_in_blocks_and_of_classes(tmp_path):
    for number, rows in enumerate(np.split(ROWS, 4)):
        moments = Moments(3, blocks=2)
        moments.update(rows)
        moments.save(tmp_path / f"{number}.moments.npz")
    merged = merge_parts(tmp_path).moments
    assert len(merged.blocks) == 2
    require_equal(merged, ROWS)
    labels = np.arange(40) % 3
    (tmp_path / "classes").mkdir()
    for number in range(4):
        classes = ClassMoments(3)
        classes.update(ROWS[number::4], labels[number::4])
        classes.save(tmp_path / "classes" / f"{number}.moments.npz")
    merged = merge_parts(tmp_path / "classes").moments
    assert list(merged) == [0, 1, 2]
    for label in range(3):
        require_equal(merged[label], ROWS[labels == label])


def test_files_of_parts_are_files_of_moments(tmp_path):
    files = parts(tmp_path, ROWS, 3, extractor="net/x")
    total = sum((Moments.load(file) for file in files), Moments(3))
    require_equal(total, ROWS)
    info = fidfast.file_info(files[1])
    assert info.holds == "a checkpoint of Moments"
    expected = {"shard": "2/3", "indices": [13, 26], "source_samples": 40, "num_samples": 13, "extractor": "net/x"}
    assert expected.items() <= info.properties.items()
    assert fidfast.fid(files[1], ROWS[13:26]) == 0
    json.dumps(moments_of_features(ROWS, shard="2/3").to_dict())


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    for k in range(1, 10):
        save(folder / f"{k}.npz", ROWS, f"{k}/9", extractor="net/pil-bicubic-299")
    return folder


@pytest.fixture
def files(saved, tmp_path, monkeypatch):
    """Files of the name of their shard, in the current folder; their matrices cannot be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(headers.StateHeader, "load", lambda self: pytest.fail("the matrices were read"))
    shutil.copytree(saved, ".", dirs_exist_ok=True)
    return [f"{k}.npz" for k in range(1, 10)]


def test_missing_shards(files):
    message = r"missing 1/9, 4/9 to 6/9, 9/9 of the source of 2\.npz: compute them, each with its --shard"
    with pytest.raises(ValueError, match=message):
        merge_parts([files[k - 1] for k in (8, 2, 3, 7)])
    save("3 of 100.npz", ROWS, "3/100")
    with pytest.raises(ValueError, match="missing 1/100 to 2/100, 4/100 to 100/100"):  # also of empty ones
        merge_parts("3 of 100.npz")


def test_a_shard_twice(files):
    shutil.copy(files[2], "copy.npz")
    message = r"(3|copy)\.npz and (3|copy)\.npz both hold shard 3/9 \(8 to 12 of 40 samples\) of one source: pass one"
    with pytest.raises(ValueError, match=message):
        merge_parts([*files, "copy.npz"])
    with pytest.raises(ValueError, match=r"1\.npz and 1\.npz both hold shard 1/9"):
        merge_parts([*files, files[0]])


def test_overlapping_shards(files):
    save("half.npz", ROWS, "2/2", extractor="net/pil-bicubic-299")
    message = r"5\.npz holds shard 5/9 \(17 to 21 of 40 samples\) and half\.npz shard 2/2 \(20 to 39 of 40 samples\)"
    with pytest.raises(ValueError, match=message):
        merge_parts([*files[:5], "half.npz"])


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (ROWS, {"extractor": "net/torch-bilinear-299"}, "has extractor net/pil-bicubic-299, but .* net/torch-bilinear"),
        (ROWS, {}, "extractor n"),
        (ROWS[:, :2], {"extractor": "net/pil-bicubic-299"}, "has dim [23], but"),
        (ROWS, {"extractor": "net/pil-bicubic-299", "precision": "float64"}, "has precision float"),
    ],
    ids=["resize", "extractor", "dim", "precision"],
)
def test_parts_of_other_settings(files, features, options, message):
    save("5.npz", features, "5/9", **options)
    with pytest.raises(ValueError, match=message) as caught:
        merge_parts(files)
    assert "5.npz" in str(caught.value)


def test_moments_of_other_blocks_and_kinds(files):
    Moments(3, blocks=2, extractor="net/pil-bicubic-299").save("blocks.npz")
    with pytest.raises(ValueError, match=r"blocks\.npz has blocks 2, but 1\.npz has blocks 1"):
        merge_parts([files[0], "blocks.npz"])
    ClassMoments(3).save("classes.npz")
    with pytest.raises(ValueError, match=r"classes\.npz holds ClassMoments, but 1\.npz holds Moments"):
        merge_parts([files[0], "classes.npz"])


def test_parts_of_different_sources(files):
    save("4.npz", ROWS[::-1], "4/9", extractor="net/pil-bicubic-299")
    with pytest.raises(ValueError, match=r"the files are of 2 sources, which differ in names, number or content") as c:
        merge_parts(files)
    for text in ("missing 4/9 of the source of 1.npz", "missing 1/9 to 3/9, 5/9 to 9/9 of the source of 4.npz"):
        assert text in str(c.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows.npy", r"rows\.npy holds features; only moments can be merged"),
        ("stats.npz", r"stats\.npz holds statistics; only moments can be merged: write them with fidfast stats"),
        ("ngrams.npz", "holds a checkpoint of NgramCounts; only moments"),
        ("unfinished.npz", "belongs to an unfinished run: finish it with the same command"),
        ("cut.npz", "cut.npz is damaged"),
        ("gone.npz", "no such file: gone.npz"),
        ("empty", "the folder empty holds no file whose name ends in .moments.npz"),
    ],
)
def test_other_files(files, name, message):
    np.save("rows.npy", ROWS)
    fidfast.Moments.from_features(ROWS).stats().save("stats.npz")
    fidfast.NgramCounts(2).save("ngrams.npz")
    Path("cut.npz").write_bytes(Path(files[0]).read_bytes()[:-30])
    os.mkdir("empty")
    with np.load(files[0]) as entries:
        np.savez("unfinished.npz", **entries, progress=json.dumps({"job": "x", "done": 3, "skipped": []}))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        merge_parts([*files, name])


def test_damaged_matrices(tmp_path):
    files = parts(tmp_path, np.repeat(ROWS, 100, axis=0), 2)
    with np.load(files[1]) as loaded:
        entries = dict(loaded)
    scatter = entries["0/scatter"]  # with a negative eigenvalue larger than those of the other file
    scatter[:] = 100 * np.sqrt(np.outer(scatter.diagonal(), scatter.diagonal())) * [[1, 1, 1], [1, 1, -1], [1, -1, 1]]
    np.savez(files[1], **entries)
    with pytest.raises(
        ValueError, match=r"one of 2 files, .* is damaged: of the merged moments, '0/scatter' must be posit"
    ):
        merge_parts(files)
    entries["0/scatter"] = np.full((3, 3), np.nan)
    np.savez(files[1], **entries)
    with pytest.raises(ValueError, match=r"2\.moments\.npz: '0/scatter' must be finite"):
        merge_parts(files)
    entries["parts"] = json.dumps([{"shard": 3, "shards": 2, "num_samples": 4000, "source": "x"}])
    np.savez(files[1], **entries)
    with pytest.raises(ValueError, match=r"2\.moments\.npz: a part must have a shard, a source and messages"):
        merge_parts(files)


def test_a_file_that_changes_while_it_is_merged(tmp_path):
    files = parts(tmp_path, ROWS, 2)
    header = headers.read_header(files[0], ["Moments"])
    shutil.copy(files[1], files[0])
    with pytest.raises(ValueError, match="has changed while the files were merged: merge them again"):
        header.load()


@pytest.mark.parametrize(
    ("shard", "error"),
    [*((text, ValueError) for text in ("0/3", "4/3", "1/0", "1", "", "1/3/5", "-1/3")), (3, TypeError)],
)
def test_shards_that_do_not_exist(shard, error):
    with pytest.raises(error, match="shard must be"):
        moments_of_features(ROWS, shard=shard)


def test_what_cannot_be_split():
    stats = Moments.from_features(ROWS).stats()
    for source in (stats, Moments(3)):
        with pytest.raises(TypeError, match=r"needs the .* features .*; statistics and moments cannot be split"):
            moments_of_features(source, shard="1/2")
    rows = ROWS.copy()
    rows[25, 1] = np.nan
    with pytest.raises(ValueError, match="features: features hold NaN or infinity; the first such row is 25"):
        moments_of_features(rows, shard="2/2")
    with pytest.raises(ValueError, match="at least 1 file, got 0"):
        merge_parts([])
