"""Statistics and features as other projects write them: each file is written with the calls of that project."""

import os
import pickle
import re

import numpy as np
import pytest
from PIL import Image

import fidfast
from fidfast import GaussianStats
from fidfast._files import is_same_extractor, read
from fidfast._images import uses_images
from fidfast._inputs import open_input


@pytest.fixture
def rows(rng):
    return rng.standard_normal((60, 5))


@pytest.fixture
def pair(rows):
    return rows.mean(axis=0), np.cov(rows, rowvar=False)


@pytest.fixture
def other(rng):
    """Mean and covariance of another network."""
    rows = rng.standard_normal((40, 4))
    return rows.mean(axis=0), np.cov(rows, rowvar=False)


def check(path, pair, *, key=None, extractor=None, num_samples=None):
    """The file holds this mean and covariance under the key, for all functions."""
    found = GaussianStats.load(path, key=key)
    np.testing.assert_array_equal(found.mu, pair[0])
    np.testing.assert_array_equal(found.sigma, pair[1])
    assert (found.extractor, found.num_samples) == (extractor, num_samples)
    opened = open_input(path, "a", key=key)
    assert fidfast.fid(opened.stats, pair) == 0  # equal statistics
    if key is None:
        assert fidfast.fid(path, pair) == 0
        assert fidfast.file_info(path).properties["trace"] == pytest.approx(np.trace(pair[1]), rel=1e-12)


def ambiguous(path, *keys):
    """Without a key, one sentence names all statistics."""
    expected = f"{path} holds several statistics: {', '.join(map(repr, keys))}; choose one with key= or --key"
    for call in (GaussianStats.load, lambda path: fidfast.fid(path, path)):
        with pytest.raises(ValueError, match=re.escape(expected)):
            call(path)
    info = fidfast.file_info(path)
    assert info.keys == keys
    assert [part["dim"] for part in info.parts.values()] == [5, 4]


# Names ---------------------------------------------------------------------------------------------------------------


def test_reference_batches_of_adm_and_of_consistency_models(tmp_path, pair, other):
    """guided-diffusion's ``VIRTUAL_*.npz``; consistency models add CLIP."""
    path, images = tmp_path / "VIRTUAL.npz", np.zeros((10, 8, 8, 3), np.uint8)
    clip = (np.ones(3), np.diag([1.0, 2.0, 3.0]))
    parts = {"mu": pair[0], "sigma": pair[1], "mu_s": other[0], "sigma_s": other[1]}
    np.savez(path, images, **parts, mu_clip=clip[0], sigma_clip=clip[1])
    check(path, pair, extractor="inception")
    check(path, other, key="mu_s,sigma_s", extractor="inception-spatial")
    check(path, other, key="inception-spatial", extractor="inception-spatial")
    check(path, clip, key="mu_clip,sigma_clip", extractor="clip")
    for extractor, dim in (("inception", 5), ("inception-spatial", 4), ("clip", 3)):
        assert open_input(path, "a", extractor=extractor).dim == dim
    with pytest.raises(ValueError, match="but the extractor is dinov2-vitl14"):
        open_input(path, "a", extractor="dinov2-vitl14")
    parts = fidfast.file_info(path).parts
    assert [part["holds"] for part in parts.values()] == [*["statistics"] * 3, "images"]
    assert [part["trace"] for part in parts.values() if "trace" in part] == pytest.approx(
        [np.trace(sigma) for _, sigma in (pair, other, clip)], rel=1e-12
    )


def test_statistics_under_other_names(tmp_path, pair, other):
    np.savez(tmp_path / "r3gan2.npz", ref_mu=pair[0], ref_sigma=pair[1])
    check(tmp_path / "r3gan2.npz", pair)
    np.savez(tmp_path / "fd_loss.npz", mu=pair[0], sigma=pair[1], avg_mu=other[0], avg_sigma=other[1])
    check(tmp_path / "fd_loss.npz", pair)
    check(tmp_path / "fd_loss.npz", other, key="avg_mu,avg_sigma")
    np.savez(tmp_path / "ambiguous.npz", ref_mu=pair[0], ref_sigma=pair[1], avg_mu=other[0], avg_sigma=other[1])
    ambiguous(tmp_path / "ambiguous.npz", "ref_mu,ref_sigma", "avg_mu,avg_sigma")
    check(tmp_path / "ambiguous.npz", other, key="avg_mu,avg_sigma")
    np.savez(tmp_path / "counted.npz", mu=pair[0], sigma=pair[1], count=60)
    check(tmp_path / "counted.npz", pair, num_samples=60)


def test_packaged_statistics_of_fadtk(tmp_path, pair, other):
    path = tmp_path / "package.npz"
    models = {"encodec-emb": pair, "MERT-v1-95M-12": other}
    np.savez(path, **{f"{name}.{part}": value for name, found in models.items() for part, value in
                      zip(("mu", "cov"), found, strict=True)})  # fmt: skip
    ambiguous(path, *(f"{name}.mu,{name}.cov" for name in models))
    for name, found in models.items():
        check(path, found, key=f"{name}.mu,{name}.cov", extractor=name)
        check(path, found, key=name, extractor=name)
        assert open_input(path, "a", extractor=name).dim == len(found[0])


def test_references_of_edm2(tmp_path, pair, other):
    path = tmp_path / "img512.pkl"
    metrics = {"fid": dict(zip(("mu", "sigma"), pair, strict=True)), "fd_dinov2": {"mu": other[0], "sigma": other[1]}}
    path.write_bytes(pickle.dumps({"num_images": 50000, **metrics}))
    check(path, pair, extractor="inception", num_samples=50000)
    check(path, other, key="fd_dinov2", extractor="dinov2", num_samples=50000)
    assert open_input(path, "a", extractor="dinov2-vitl14/torch-bicubic-224").dim == 4


# Sums and features ---------------------------------------------------------------------------------------------------


def cdfvd_stats(rows, compute_feats):
    """The attributes of cd-fvd's FeatureStats after two batches, which its `save` pickles."""
    batches = np.array_split(np.asarray(rows, np.float32), 2)
    wide = [batch.astype(np.float64) for batch in batches]
    return {
        "capture_all": compute_feats,
        "capture_mean_cov": True,
        "max_items": None,
        "num_items": len(rows),
        "num_features": rows.shape[1],
        "all_features": batches if compute_feats else [],
        "raw_mean": sum(batch.sum(axis=0) for batch in wide),
        "raw_cov": sum(batch.T @ batch for batch in wide),
    }


@pytest.mark.parametrize("compute_feats", [False, True])
def test_pickles_of_cdfvd(tmp_path, rows, compute_feats):
    path = tmp_path / "i3d_ucf101_full_res128_len16_skip1_seed0.pkl"
    with open(path, "wb") as file:
        pickle.dump(cdfvd_stats(rows, compute_feats), file)
    stats, single = GaussianStats.load(path), rows.astype(np.float32).astype(np.float64)
    assert (stats.num_samples, stats.ddof) == (60, 0)
    # Sums of 60 products of about 1: a few roundings of 1e-16 times 60.
    np.testing.assert_allclose(stats.mu, single.mean(axis=0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(stats.sigma, np.cov(single, rowvar=False, ddof=0), rtol=0, atol=1e-13)
    assert (read(path, rows=True).what == "features") == compute_feats


def test_features_of_clean_fid_dgm_eval_and_score_sde(tmp_path, rows):
    """The tool pyiqa downloads and reads the files of clean-fid."""
    rows = rows.astype(np.float32)
    np.savez(tmp_path / "ffhq_clean_trainval70k_512_kid.npz", feats=rows)
    hparams = {"path": tmp_path, "nsample": 60, "seed": 13579}
    np.savez(tmp_path / "reps_cifar10_dinov2_nimage-60_train.npz", model="dinov2", reps=rows, hparams=hparams)
    np.savez_compressed(tmp_path / "statistics_0.npz", pool_3=rows, logits=np.zeros((60, 8), np.float32))
    extractors = [None, "dinov2", "inception"]
    for path, extractor in zip(sorted(tmp_path.iterdir()), extractors, strict=True):
        found = open_input(path, "a")
        np.testing.assert_array_equal(found.rows, rows)
        assert found.extractor == extractor
        assert fidfast.kid(path, rows[:20]).value == fidfast.kid(rows, rows[:20]).value


# Folders -------------------------------------------------------------------------------------------------------------


def save_pair(folder, pair, names=("mu", "cov")):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, pair, strict=True):
        np.save(folder / f"{name}.npy", array)


@pytest.mark.parametrize("names", [("mu", "cov"), ("mu", "sigma"), ("mean", "covariance"), ("m", "s")])
def test_a_folder_of_mean_and_covariance(tmp_path, pair, names):
    save_pair(tmp_path / "x", pair, names)
    check(tmp_path / "x", pair)
    check(tmp_path / "x", pair, key=",".join(names))
    np.save(tmp_path / "x" / "num_samples.npy", 60)
    check(tmp_path / "x", pair, num_samples=60)


def test_the_cache_of_fadtk(tmp_path, pair, other):
    """It is in the folder of the sounds, beside their embeddings."""
    (tmp_path / "a.wav").touch()
    (tmp_path / "embeddings" / "vggish").mkdir(parents=True)
    np.save(tmp_path / "embeddings" / "vggish" / "a.npy", np.zeros((3, 5)))
    save_pair(tmp_path / "stats" / "vggish", pair)
    check(tmp_path, pair, extractor="vggish")
    check(tmp_path / "stats" / "vggish", pair, extractor="vggish")
    save_pair(tmp_path / "stats" / "whisper-tiny", other)
    (tmp_path / "stats" / "empty").mkdir()
    ambiguous(tmp_path, "vggish", "whisper-tiny")
    check(tmp_path, other, key="whisper-tiny", extractor="whisper-tiny")
    note = "statistics 'vggish' (the folder also holds 'whisper-tiny')"
    assert read(tmp_path, extractor="vggish").note == note


def test_folders_of_images_are_not_statistics(tmp_path, pair):
    """Images have precedence, since the mean and covariance of a folder of images may be those of its pixels."""
    picture = tmp_path / "images" / "class" / "a.png"
    picture.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture)
    np.save(tmp_path / "images" / "mu.npy", np.zeros(3))
    assert uses_images(tmp_path / "images")
    assert fidfast.file_info(tmp_path / "images").holds == "images"  # there is no covariance
    save_pair(tmp_path / "images", pair)
    assert uses_images(tmp_path / "images")
    assert uses_images(tmp_path / "images", key="images")
    assert not uses_images(tmp_path / "images", key="mu,cov")
    check_key = GaussianStats.load(tmp_path / "images", key="mu,cov")
    np.testing.assert_array_equal(check_key.mu, pair[0])
    info = fidfast.file_info(tmp_path / "images")
    assert (info.holds, info.properties["images"], info.parts["mu,cov"]["dim"]) == ("statistics and images", 1, 5)
    picture.unlink()
    check(tmp_path / "images", pair)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_damaged_folders(tmp_path, pair):
    """Nothing is executed, and nothing but regular files is opened."""
    folder, executed = tmp_path / "x", tmp_path / "executed"
    save_pair(folder, pair)
    np.save(folder / "mu.npy", np.array({"payload": Payload(executed)}, dtype=object))
    with pytest.raises(ValueError, match=r"mu\.npy holds pickled objects, which are not loaded: it needs \w+\.mkdir"):
        GaussianStats.load(folder)
    assert not executed.exists()
    save_pair(folder, (pair[0][:4], pair[1]))
    with pytest.raises(ValueError, match=r"x.*sigma has shape \(5, 5\), but mu has length 4"):
        GaussianStats.load(folder)
    (folder / "mu.npy").write_bytes((folder / "cov.npy").read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"x.*incomplete"):
        GaussianStats.load(folder)
    (folder / "mu.npy").unlink()
    os.mkfifo(folder / "mu.npy")
    with pytest.raises(ValueError, match=r"mu\.npy is not a regular file"):
        fidfast.file_info(folder)


# Extractors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("dinov2", "dinov2-vitl14/torch-bicubic-224", True),
        ("inception-2015-12-05", "inception/tf1-bilinear-299", True),
        ("inception", "inception-spatial", False),
        ("inception", "inception-weights-01234567", False),
        ("net", "net-large", False),
        ("dinov2", "dinov2-vitb14", False),
        ("dinov2", "dinov2-vitl14-weights-01234567/torch-bicubic-224", True),
        ("net-weights-01234567", "net-weights-12345678", False),
        ("inception-weights-01234567", "inception-weights-01234567/tf1-bilinear-299", True),
    ],
)
def test_names_of_the_same_extractor(one, two, same):
    assert is_same_extractor(one, two) == is_same_extractor(two, one) == same
