"""Files of this and of other tools, damaged files, failed writes."""

import builtins
import os
import pickle
import re
import stat
import sys
import types

import numpy as np
import pytest
import safetensors.numpy
import torch
import torch_fidelity.metric_fid

import fidfast
from fidfast import GaussianStats, Moments
from fidfast._files import Progress, State, read, write_state


@pytest.fixture
def rows(rng):
    return rng.standard_normal((200, 6))


@pytest.fixture
def stats(rows):
    moments = Moments(6, extractor="inception")
    moments.update(rows)
    return moments.stats()


def test_saved_statistics(tmp_path, stats):
    stats.save(tmp_path / "x.npz")
    assert GaussianStats.load(tmp_path / "x.npz") == stats
    assert GaussianStats.load(str(tmp_path / "x.npz")) == stats
    with np.load(tmp_path / "x.npz") as archive:
        np.testing.assert_array_equal(archive["mu"], stats.mu)
        np.testing.assert_array_equal(archive["sigma"], stats.sigma)
        assert archive["num_samples"] == 200
        assert archive["ddof"] == 1
        assert archive["extractor"] == "inception"
        assert archive["fidfast_version"] == fidfast.__version__


def test_suffix_is_appended(tmp_path, stats):
    stats.save(tmp_path / "statistics.2024")
    assert [path.name for path in tmp_path.iterdir()] == ["statistics.2024.npz"]


def test_unknown_metadata_is_not_written(tmp_path):
    GaussianStats(np.zeros(2), np.eye(2)).save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as archive:
        assert set(archive) == {"mu", "sigma", "fidfast_version"}
    assert GaussianStats.load(tmp_path / "x.npz").num_samples is None


# Other tools --------------------------------------------------------------------------------------------------------


def write_ttur(path, stats):
    np.savez(path, mu=stats.mu, sigma=stats.sigma)


def write_adm(path, stats):
    np.savez(path, mu=stats.mu, sigma=stats.sigma, mu_s=np.zeros(3), sigma_s=np.eye(3))


def write_edm2(path, stats):
    metrics = {"fid": {"mu": stats.mu, "sigma": stats.sigma}, "fd_dinov2": {"mu": np.zeros(3), "sigma": np.eye(3)}}
    path.write_bytes(pickle.dumps(metrics))


def write_torch_fidelity(path, stats):
    torch.save({"mu": stats.mu, "sigma": stats.sigma}, path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.npz", write_ttur), ("a.npz", write_adm), ("a.pkl", write_edm2), ("a.pt", write_torch_fidelity)],
)
def test_statistics_of_other_tools(tmp_path, stats, name, write):
    write(tmp_path / name, stats)
    loaded = GaussianStats.load(tmp_path / name)
    np.testing.assert_array_equal(loaded.mu, stats.mu)
    np.testing.assert_array_equal(loaded.sigma, stats.sigma)
    assert fidfast.fid(tmp_path / name, stats) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_stylegan_feature_stats(tmp_path, rows, protocol):
    # FeatureStats.save pickles the object's dictionary.
    raw = {
        "capture_all": False, "capture_mean_cov": True, "max_items": None, "num_items": len(rows), "num_features": 6,
        "all_features": None, "raw_mean": rows.sum(axis=0), "raw_cov": rows.T @ rows,
    }  # fmt: skip
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(raw, protocol=protocol))
    loaded = GaussianStats.load(tmp_path / "a.pkl")
    assert (loaded.num_samples, loaded.ddof) == (200, 0)
    np.testing.assert_allclose(loaded.sigma, np.cov(rows, rowvar=False, ddof=0), atol=1e-13)


def test_easydict_is_read_as_a_dictionary(tmp_path, stats, monkeypatch):
    module = types.ModuleType("dnnlib.util")
    module.EasyDict = type("EasyDict", (dict,), {"__module__": "dnnlib.util", "__qualname__": "EasyDict"})
    monkeypatch.setitem(sys.modules, "dnnlib", types.ModuleType("dnnlib"))
    monkeypatch.setitem(sys.modules, "dnnlib.util", module)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(module.EasyDict(fid=module.EasyDict(mu=stats.mu, sigma=stats.sigma))))
    np.testing.assert_array_equal(GaussianStats.load(tmp_path / "a.pkl").sigma, stats.sigma)


def test_statistics_computed_by_torch_fidelity(tmp_path, rows, stats):
    torch.save(torch_fidelity.metric_fid.fid_features_to_statistics(torch.from_numpy(rows)), tmp_path / "a.pt")
    np.testing.assert_allclose(GaussianStats.load(tmp_path / "a.pt").sigma, stats.sigma, atol=1e-13)


# Features -----------------------------------------------------------------------------------------------------------


def test_feature_files(tmp_path, rows, stats):
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "one.npz", rows)
    np.savez(tmp_path / "named.npz", features=rows, labels=np.zeros(200), extractor="inception")
    torch.save(torch.from_numpy(rows), tmp_path / "a.pt")
    safetensors.numpy.save_file({"features": rows}, tmp_path / "a.safetensors")
    for name in ("a.npy", "one.npz", "named.npz", "a.pt", "a.safetensors"):
        assert fidfast.fid(tmp_path / name, rows + 1) == pytest.approx(fidfast.fid(rows, rows + 1), rel=1e-12), name


def test_checkpoints_can_be_compared(tmp_path, rows):
    moments = Moments(6)
    moments.update(rows)
    moments.save(tmp_path / "run.npz")
    assert fidfast.fid(tmp_path / "run.npz", rows + 1) == fidfast.fid(rows, rows + 1)


def test_checkpoints_have_one_format(tmp_path, rows):
    collectors = (Moments(6), fidfast.ClassMoments(6), fidfast.InceptionScore(6), fidfast.NgramCounts(2))
    for collector in collectors:
        collector.save(tmp_path / "x.npz")
        with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
            entries = dict(archive)
        assert entries.pop("fidfast_state") == type(collector).__name__
        assert entries.pop("fidfast_version") == fidfast.__version__
        state = collector.state()
        assert entries.keys() == state.keys()
        assert all(np.array_equal(entries[key], state[key]) for key in state)
        record = read(tmp_path / "x.npz")
        assert (record.kind, record.progress) == (type(collector).__name__, None)
        assert record.what == f"a checkpoint of {type(collector).__name__}"


def test_checkpoints_of_unfinished_runs(tmp_path, rows):
    moments = Moments.from_features(rows)
    progress = Progress("job", 300, ["a.png: not an image"])
    write_state(tmp_path / "x.npz", State("Moments", moments.state(), progress))
    record = read(tmp_path / "x.npz")
    assert record.progress == progress
    assert record.what == "a checkpoint of an unfinished run (300 images done)"
    message = "x.npz holds a checkpoint of an unfinished run (300 images done), not statistics"
    for load in (GaussianStats.load, lambda path: fidfast.fid(path, rows)):
        with pytest.raises(ValueError, match=re.escape(message)):
            load(tmp_path / "x.npz")


def test_large_files_are_read_in_slices(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("fidfast._stats.slices.ROWS_PER_SLICE", 64)
    rows = rng.standard_normal((1000, 4))
    np.save(tmp_path / "a.npy", rows)
    seen = []
    update = Moments.update
    monkeypatch.setattr(Moments, "update", lambda self, batch: (seen.append(len(batch)), update(self, batch))[1])
    assert fidfast.fid(tmp_path / "a.npy", rows) == pytest.approx(0, abs=1e-12)
    assert max(seen) == 64


# Damaged files and files of other content ----------------------------------------------------------------------------


def test_files_of_other_content(tmp_path, rows, stats):
    stats.save(tmp_path / "stats.npz")
    np.save(tmp_path / "rows.npy", rows)
    moments = Moments(6)
    moments.save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"stats.npz holds statistics, not a checkpoint of Moments"):
        Moments.load(tmp_path / "stats.npz")
    with pytest.raises(ValueError, match=r"rows.npy holds features, not statistics"):
        GaussianStats.load(tmp_path / "rows.npy")
    with pytest.raises(ValueError, match=r"run.npz holds a checkpoint of Moments, not statistics"):
        GaussianStats.load(tmp_path / "run.npz")


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pkl", ".pt"])
def test_reading_executes_no_code(tmp_path, suffix):
    executed, path = tmp_path / "executed", tmp_path / f"bad{suffix}"
    payload = Payload(executed)
    if suffix == ".npz":
        np.savez(path, mu=np.array([payload], dtype=object), sigma=np.eye(1))
    elif suffix == ".npy":
        np.save(path, np.array([payload], dtype=object), allow_pickle=True)
    elif suffix == ".pkl":
        path.write_bytes(pickle.dumps({"mu": payload, "sigma": np.eye(1)}))
    else:
        torch.save({"mu": payload, "sigma": np.eye(1)}, path)
    with pytest.raises(ValueError, match=r"bad\.\w+ .*(pickled objects|arrays)"):
        fidfast.fid(path, np.eye(2))
    assert not executed.exists()


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pkl", ".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_truncated_files_are_named(tmp_path, rows, stats, suffix, share):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".npz":
        stats.save(path)
    elif suffix == ".npy":
        np.save(path, rows)
    elif suffix == ".pkl":
        write_edm2(path, stats)
    elif suffix == ".pt":
        write_torch_fidelity(path, stats)
    else:
        safetensors.numpy.save_file({"features": rows}, path)
    complete = path.read_bytes()
    path.write_bytes(complete[: int(share * len(complete))])
    with pytest.raises(ValueError, match=f"features_a: .*cut{suffix}"):
        fidfast.fid(path, rows)


@pytest.mark.parametrize("n", [7, 2000])
def test_damaged_checkpoints_are_rejected(tmp_path, rng, n):
    """With few rows the state has no mean and scatter, and these entries are not read."""
    rows, path = rng.standard_normal((n, 20)), tmp_path / "bad.npz"
    Moments.from_features(rows).save(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz") as archive:
        entries = dict(archive)
    damaged = {
        "0/narrow_rows": np.zeros((3, 5)),
        "0/wide_rows": np.array(3.0),
        "0/count": np.zeros(2),
        "dim": np.array(5),
        "precision": np.array("float8"),
        **({} if n < 20 else {"0/mean": np.zeros(3), "0/scatter": np.full((20, 20), "x")}),
    }
    for key, value in damaged.items():
        np.savez(path, **{**entries, key: value})
        for load in (Moments.load, lambda path: fidfast.fid(path, rows)):
            with pytest.raises(ValueError, match=r"bad\.npz: "):
                load(path)
    for key in {*damaged, "0/mean_low", "extractor"} - ({"0/mean_low"} if n < 20 else set()):
        np.savez(path, **{name: value for name, value in entries.items() if name != key})
        for load in (Moments.load, lambda path: fidfast.fid(path, rows)):
            with pytest.raises(ValueError, match=rf"bad\.npz: the state of Moments has no '{key}'$"):
                load(path)
    np.savez(path, **{key: value for key, value in entries.items() if not key.startswith("0/")})
    with pytest.raises(ValueError, match=r"bad\.npz: the state of Moments has no blocks$"):
        Moments.load(path)


# Failed writes ------------------------------------------------------------------------------------------------------


def test_full_disk_keeps_the_old_file(tmp_path, stats, monkeypatch):
    stats.save(tmp_path / "x.npz")
    before = (tmp_path / "x.npz").read_bytes()

    def full_disk(file, **entries):
        file.write(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        stats.save(tmp_path / "x.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    assert (tmp_path / "x.npz").read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root has all permissions")
def test_missing_permission_keeps_the_old_file(tmp_path, stats):
    stats.save(tmp_path / "x.npz")
    before = (tmp_path / "x.npz").read_bytes()
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        stats.save(tmp_path / "x.npz")
    tmp_path.chmod(0o700)
    assert (tmp_path / "x.npz").read_bytes() == before


def test_missing_folder(tmp_path, stats):
    with pytest.raises(FileNotFoundError, match="missing"):
        stats.save(tmp_path / "missing" / "x.npz")


def test_file_permissions_are_the_usual_ones(tmp_path, stats):
    with builtins.open(tmp_path / "plain", "w"):
        pass
    stats.save(tmp_path / "new.npz")
    assert stat.S_IMODE((tmp_path / "new.npz").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    (tmp_path / "new.npz").chmod(0o600)
    stats.save(tmp_path / "new.npz")
    assert stat.S_IMODE((tmp_path / "new.npz").stat().st_mode) == 0o600
