"""`file_info` describes every kind of file."""

import json

import numpy as np
import pytest

import fidfast
from fidfast._files import Progress, State, write_state


@pytest.fixture
def moments(rng):
    moments = fidfast.Moments(4, extractor="net", blocks=3)
    moments.update(rng.standard_normal((30, 4)))
    return moments


def test_features(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4), np.float32))
    info = fidfast.file_info(tmp_path / "a.npy")
    assert (info.file, info.holds) == (str(tmp_path / "a.npy"), "features")
    assert info.properties == {"shape": [3, 4], "dtype": "float32", "extractor": None}
    assert str(info) == f"{info.file}: features, shape [3, 4], dtype float32, extractor unknown"


def test_statistics(tmp_path, moments):
    moments.stats().save(tmp_path / "a.npz")
    info = fidfast.file_info(tmp_path / "a.npz")
    trace = np.trace(moments.stats().sigma)
    assert info.holds == "statistics"
    assert info.properties == {
        "dim": 4, "num_samples": 30, "ddof": 1, "extractor": "net", "trace": pytest.approx(trace), "dead_units": 0,
    }  # fmt: skip
    np.savez(tmp_path / "b.npz", mu=np.zeros(2), sigma=np.diag([0.0, 1.0]))
    properties = fidfast.file_info(tmp_path / "b.npz").properties
    assert (properties["num_samples"], properties["dead_units"]) == (None, 1)


def test_checkpoints(tmp_path, moments):
    moments.save(tmp_path / "a.npz")
    info = fidfast.file_info(tmp_path / "a.npz")
    assert info.holds == "a checkpoint of Moments"
    assert info.properties == {"dim": 4, "num_samples": 30, "precision": "float32", "extractor": "net"}
    write_state(tmp_path / "b.npz", State("Moments", moments.state(), Progress("job", 30, [])))
    info = fidfast.file_info(tmp_path / "b.npz")
    assert info.holds == "a checkpoint of an unfinished run (30 images done)"
    assert info.properties["images_done"] == 30
    fidfast.NgramCounts(2).save(tmp_path / "c.npz")
    info = fidfast.file_info(tmp_path / "c.npz")
    assert info.holds == "a checkpoint of NgramCounts"
    assert info.properties["n"] == 2
    json.dumps(info.to_dict())


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        fidfast.file_info(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"a\.npz is damaged or not a \.npz file"):
        fidfast.file_info(tmp_path / "a.npz")


def test_the_parts_of_a_file(tmp_path, moments):
    path, stats, images = tmp_path / "a.npz", moments.stats(), np.zeros((12, 4, 4, 3), np.uint8)
    np.savez(path, images, mu=stats.mu, sigma=stats.sigma, mu_s=np.zeros(2), sigma_s=np.diag([1.0, 0.0]))
    info = fidfast.file_info(path)
    assert (info.holds, info.properties["dim"]) == ("statistics and images", 4)
    common = {"holds": "statistics", "num_samples": None, "ddof": None}
    assert info.parts == {
        "mu,sigma": {
            **common, "dim": 4, "extractor": "inception", "trace": pytest.approx(np.trace(stats.sigma)), "dead_units": 0
        },
        "mu_s,sigma_s": {**common, "dim": 2, "extractor": "inception-spatial", "trace": 1, "dead_units": 1},
        "arr_0": {"holds": "images", "shape": [12, 4, 4, 3], "dtype": "uint8"},
    }  # fmt: skip
    assert json.loads(json.dumps(info.to_dict()))["parts"].keys() == info.parts.keys()
    np.savez(path, features=np.zeros((3, 4)), mu=stats.mu, sigma=stats.sigma)
    assert fidfast.file_info(path).parts["features"]["shape"] == [3, 4]
    moments.stats().save(path)
    assert fidfast.file_info(path).parts == {}


def test_damaged_parts(tmp_path, moments):
    """A damaged part does not hide the others, unless it is the one that `fid` uses."""
    path, stats = tmp_path / "a.npz", moments.stats()
    np.savez(path, mu=stats.mu, sigma=stats.sigma, mu_s=np.zeros(2), sigma_s=np.full((2, 2), np.nan))
    info = fidfast.file_info(path)
    assert info.properties["dim"] == 4
    assert info.parts["mu_s,sigma_s"] == {
        "holds": "statistics", "problem": "sigma holds NaN or infinity; the first such row is 0"
    }  # fmt: skip
    np.savez(path, mu=np.zeros(2), sigma=np.full((2, 2), np.nan), mu_s=stats.mu, sigma_s=stats.sigma)
    with pytest.raises(ValueError, match=r"a\.npz: sigma holds NaN or infinity"):
        fidfast.file_info(path)
