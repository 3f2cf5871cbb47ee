"""Files that hold several things: what is used, and what is not read."""

import pickle
import re
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import torch

import fidfast
from fidfast import GaussianStats
from fidfast._files import catalog_of, read
from fidfast._images import note_of_images, uses_images
from fidfast._inputs import open_input


@pytest.fixture
def rows(rng):
    return rng.standard_normal((40, 6))


@pytest.fixture
def pair(rows):
    return {"mu": rows.mean(axis=0), "sigma": np.cov(rows, rowvar=False)}


IMAGES = np.zeros((12, 64, 64, 3), np.uint8)


@pytest.fixture
def reference_batch(tmp_path, pair):
    """A reference batch of ADM, whose statistics are those of more images than it holds."""
    spatial = {"mu_s": np.zeros(3), "sigma_s": np.eye(3)}
    np.savez(tmp_path / "adm.npz", arr_0=IMAGES, **pair, **spatial)
    return tmp_path / "adm.npz"


def damage(path, key):
    """Change a byte at the end of one array, so that all of it cannot be read."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{key}.npy")
    content = bytearray(path.read_bytes())
    content[member.header_offset + member.compress_size] ^= 1
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile), np.load(path) as archive:
        archive[key]


def write(path, content):
    """Write a dictionary of arrays in the format of the suffix."""
    if path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".pt":
        torch.save({key: torch.from_numpy(value) for key, value in content.items()}, path)
    elif path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    elif path.suffix == ".safetensors":
        safetensors.numpy.save_file(content, path)
    else:
        np.save(path, content)


# Statistics, features and images in one file -------------------------------------------------------------------------


@pytest.mark.parametrize("is_compressed", [False, True])
def test_images_are_not_read_to_find_the_statistics(reference_batch, pair, is_compressed):
    if is_compressed:
        with np.load(reference_batch) as archive:
            np.savez_compressed(reference_batch, **archive)
    damage(reference_batch, "arr_0")
    np.testing.assert_array_equal(GaussianStats.load(reference_batch).mu, pair["mu"])
    assert fidfast.fid(reference_batch, GaussianStats(**pair)) == pytest.approx(0, abs=1e-10)
    info = fidfast.file_info(reference_batch)
    assert info.entries["arr_0"] == "uint8 (12, 64, 64, 3)"
    assert list(info.parts) == ["mu,sigma", "mu_s,sigma_s", "arr_0"]


def test_features_are_not_read_to_find_the_statistics(tmp_path, rng, pair):
    np.savez_compressed(tmp_path / "x.npz", features=rng.standard_normal((4000, 6)), **pair)
    damage(tmp_path / "x.npz", "features")
    np.testing.assert_array_equal(GaussianStats.load(tmp_path / "x.npz").mu, pair["mu"])


def test_tensors_are_mapped(tmp_path, rows):
    """Tensors of a memory map are read when they are used."""
    for zipped in (True, False):  # the format of torch before 1.6 is not mapped
        torch.save({"features": torch.from_numpy(rows)}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        features = base = read(tmp_path / "x.pt").features
        np.testing.assert_array_equal(features, rows)
        while getattr(base, "base", None) is not None and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap) == zipped


def test_only_needed_safetensors_are_read(tmp_path, rows, pair, monkeypatch):
    safetensors.numpy.save_file({"features": rows, **pair}, tmp_path / "x.safetensors")
    sizes, memmap = [], np.memmap
    monkeypatch.setattr(np, "memmap", lambda *args: (sizes.append(args[-1]), memmap(*args))[1])
    GaussianStats.load(tmp_path / "x.safetensors")
    assert sizes == [(pair["mu"].nbytes,), (pair["sigma"].nbytes,)]


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".pkl", ".safetensors", ".npy"])
def test_statistics_for_distances_and_features_for_rows(tmp_path, rng, rows, suffix):
    """The statistics are those of other samples, so that the results show which were used."""
    path = tmp_path / f"x{suffix}"
    content = {"features": rows, "mu": np.full(6, 3.0), "sigma": np.eye(6)}
    write(path, content)
    assert fidfast.fid(path, rows) == fidfast.fid((content["mu"], content["sigma"]), rows)
    others = rng.standard_normal((20, 6))
    assert fidfast.kid(path, others).value == fidfast.kid(rows, others).value
    assert fidfast.estimate(path, others).value == fidfast.estimate(rows, others).value
    assert fidfast.compare(path, rows, others).difference == 0
    assert read(path).note == "statistics (the file also holds features of 40 samples)"
    assert read(path, rows=True).note == "features (the file also holds statistics)"
    info = fidfast.file_info(path)
    assert info.holds == "statistics and features"
    assert info.keys == ("mu,sigma", "features")
    assert info.entries == {"features": "float64 (40, 6)", "mu": "float64 (6,)", "sigma": "float64 (6, 6)"}


def test_images_are_used_where_rows_are_needed(reference_batch, tmp_path, rows, pair):
    assert not uses_images(reference_batch)
    assert uses_images(reference_batch, rows=True)
    note = "statistics 'mu,sigma' (the file also holds 'mu_s,sigma_s' and 12 images)"
    assert read(reference_batch).note == note
    assert note_of_images(reference_batch) == "images (the file also holds statistics)"
    with pytest.raises(ValueError, match=r"^samples: .*adm.npz holds images, not features: compute them with"):
        fidfast.kid(reference_batch, rows)
    np.savez(tmp_path / "both.npz", features=rows, images=IMAGES)
    assert not uses_images(tmp_path / "both.npz", rows=True)
    np.savez(tmp_path / "images.npz", IMAGES)
    assert uses_images(tmp_path / "images.npz")
    assert note_of_images(tmp_path / "images.npz") is None
    (tmp_path / "folder").mkdir()
    assert uses_images(tmp_path / "folder")
    assert note_of_images(tmp_path / "folder") is None
    GaussianStats(**pair).save(tmp_path / "stats.npz")
    assert not uses_images(tmp_path / "stats.npz", rows=True)
    assert not uses_images(tmp_path / "missing.npz")
    moments = fidfast.ClassMoments(6)
    moments.save(tmp_path / "state.npz")
    assert not uses_images(tmp_path / "state.npz", rows=True)


def test_images_alone_are_not_features(tmp_path, rows):
    np.savez(tmp_path / "x.npz", *IMAGES)
    message = r"x.npz holds images \('arr_0' uint8 \(64, 64, 3\), .*, \.\.\.\), not statistics or features"
    with pytest.raises(ValueError, match=message):
        GaussianStats.load(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"x.npz holds images, not features"):
        fidfast.kid(tmp_path / "x.npz", rows)
    assert catalog_of(tmp_path / "x.npz").note("statistics") == "statistics (the file also holds 12 images)"


# Keys ---------------------------------------------------------------------------------------------------------------


def test_key_of_entries(reference_batch, pair):
    spatial = GaussianStats.load(reference_batch, key="mu_s,sigma_s")
    assert (spatial.dim, spatial.extractor) == (3, "inception-spatial")
    assert GaussianStats.load(reference_batch, key="mu, sigma") == GaussianStats.load(reference_batch)
    assert fidfast.file_info(reference_batch).keys == ("mu,sigma", "mu_s,sigma_s", "arr_0")
    assert uses_images(reference_batch, key="arr_0")
    assert not uses_images(reference_batch, rows=True, key="mu_s,sigma_s")
    note = "statistics 'mu_s,sigma_s' (the file also holds 'mu,sigma' and 12 images)"
    assert read(reference_batch, key="mu_s,sigma_s").note == note


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("fid", "has no 'fid'; its keys are 'arr_0' uint8 (12, 64, 64, 3), 'mu' float64 (6,), "),
        ("mu", "'mu' is float64 (6,), not (n, dim) features; statistics need two keys, for example 'mu,sigma'"),
        ("sigma", "'sigma' is float64 (6, 6), not (n, dim) features; statistics need two keys"),
        ("arr_0", "'arr_0' is uint8 (12, 64, 64, 3), not (n, dim) features"),
        ("mu,sigma_t", "has no 'sigma_t'"),
        ("mu,sigma_s", "sigma has shape (3, 3), but mu has length 6"),
        ("mu,sigma,mu_s", "has no 'mu,sigma,mu_s'"),
        ("", "has no ''"),
    ],
)
def test_keys_that_fit_nothing(reference_batch, key, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        GaussianStats.load(reference_batch, key=key)


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".pkl", ".safetensors", ".npy"])
def test_any_two_entries_are_statistics_by_key(tmp_path, pair, suffix):
    path = tmp_path / f"x{suffix}"
    content = {"centre": pair["mu"], "spread": pair["sigma"]}
    write(path, content)
    np.testing.assert_array_equal(GaussianStats.load(path, key="centre,spread").sigma, pair["sigma"])
    with pytest.raises(ValueError, match="its keys are 'centre' "):
        GaussianStats.load(path)


def test_features_by_key(tmp_path, rows):
    np.savez(tmp_path / "x.npz", real=rows, fake=rows + 1, scores=np.zeros(40))
    with pytest.raises(ValueError, match=r"if 'real' holds the features, choose it with --key"):
        fidfast.fid(tmp_path / "x.npz", rows)
    np.testing.assert_array_equal(open_input(tmp_path / "x.npz", "a", key="fake").rows, rows + 1)
    with pytest.raises(ValueError, match=r"'scores' is float64 \(40,\), not \(n, dim\) features"):
        open_input(tmp_path / "x.npz", "a", key="scores")


# Arrays that are not what they seem ----------------------------------------------------------------------------------


def refused(path, rows, message):
    with pytest.raises(ValueError, match=message):
        fidfast.fid(path, rows)
    fidfast.file_info(path)


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".pkl", ".safetensors"])
@pytest.mark.parametrize("key", ["mu", "sigma", "whatever"])
def test_a_lone_array_under_another_key_is_not_features(tmp_path, rows, pair, suffix, key):
    path, array = tmp_path / f"x{suffix}", {**pair, "whatever": rows}[key]
    if suffix == ".npz":
        np.savez(path, **{key: array})
    elif suffix == ".pt":
        torch.save({key: torch.from_numpy(array)}, path)
    elif suffix == ".pkl":
        path.write_bytes(pickle.dumps({key: array}))
    else:
        safetensors.numpy.save_file({key: array}, path)
    shown = re.escape(f"its keys are '{key}' float64 ({', '.join(map(str, array.shape))}")
    refused(path, rows, rf"holds neither 'mu' and 'sigma' nor features under one of 'features', .*; {shown}")


def test_a_covariance_is_not_features(tmp_path, rows, pair):
    sigma = pair["sigma"]
    np.save(tmp_path / "a.npy", sigma)
    np.save(tmp_path / "b.npy", sigma.astype(np.float32))
    np.savez(tmp_path / "c.npz", sigma)
    torch.save(torch.from_numpy(sigma), tmp_path / "d.pt")
    (tmp_path / "e.pkl").write_bytes(pickle.dumps(sigma))
    for path in sorted(tmp_path.iterdir()):
        refused(path, rows, "is a symmetric matrix, like a covariance, not .* features; statistics need mu and sigma")
    np.savez(tmp_path / "named.npz", features=sigma)
    assert fidfast.fid(tmp_path / "named.npz", sigma) == pytest.approx(0, abs=1e-10)
    for square in (rows[:6], np.eye(6)):
        np.save(tmp_path / "square.npy", square)
        assert fidfast.fid(tmp_path / "square.npy", square) == pytest.approx(0, abs=1e-10)


def test_several_arrays_of_features_are_ambiguous(tmp_path, rows):
    np.savez(tmp_path / "a.npz", rows, rows[:20])
    np.savez(tmp_path / "b.npz", features=rows, feats=rows)
    np.savez(tmp_path / "c.npz", rows, features=rows)
    for path in sorted(tmp_path.iterdir()):
        refused(
            path, rows, r"holds several features: '\w+' float64 .*, '\w+' float64 .*; choose one with key= or --key"
        )
    np.savez(tmp_path / "labels.npz", rows, np.arange(40))
    assert fidfast.fid(tmp_path / "labels.npz", rows) == pytest.approx(0, abs=1e-10)
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([rows, rows]))
    refused(tmp_path / "list.pkl", rows, "holds neither .*; its keys are '0' float64 .*, '1' float64")


def test_labels_are_not_features(tmp_path, rows):
    for name, array in {"a": np.arange(10), "b": np.eye(6, dtype=np.int64), "c": np.zeros((9, 6), bool)}.items():
        np.save(tmp_path / f"{name}.npy", array)
        refused(tmp_path / f"{name}.npy", rows, rf"holds {array.dtype} .*, not \(n, dim\) features in floating point")
    np.savez(tmp_path / "x.npz", np.arange(10))
    refused(tmp_path / "x.npz", rows, r"its keys are 'arr_0' int64 \(10,\)")


def test_normalisation_constants_beside_features(tmp_path, rows):
    np.savez(tmp_path / "a.npz", features=rows, mean=np.zeros(3), sigma=np.ones(3))
    assert fidfast.fid(tmp_path / "a.npz", rows) == pytest.approx(0, abs=1e-10)


def test_features_with_positions_of_one_pixel(tmp_path, rows):
    np.save(tmp_path / "a.npy", rows[:, :, None, None])
    assert fidfast.fid(tmp_path / "a.npy", rows) == pytest.approx(0, abs=1e-10)
    assert not uses_images(tmp_path / "a.npy")
