"""Files: this tool's, other tools', damaged ones, and what a failed write leaves behind."""

import builtins
import os
import pickle
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


@pytest.fixture
def rows(rng):
    return rng.standard_normal((200, 6))


@pytest.fixture
def stats(rows):
    moments = Moments(6, extractor="inception")
    moments.update(rows)
    return moments.stats()


def test_a_saved_file_reads_the_same_here_and_in_every_other_tool(tmp_path, stats):
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


def test_the_ending_is_added(tmp_path, stats):
    stats.save(tmp_path / "statistics.2024")
    assert [path.name for path in tmp_path.iterdir()] == ["statistics.2024.npz"]


def test_what_is_not_known_is_not_written(tmp_path):
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
    read = GaussianStats.load(tmp_path / name)
    np.testing.assert_array_equal(read.mu, stats.mu)
    np.testing.assert_array_equal(read.sigma, stats.sigma)
    assert fidfast.fid(tmp_path / name, stats) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_stylegan_feature_stats(tmp_path, rows, protocol):
    # FeatureStats.save pickles the object's dictionary.
    raw = {
        "capture_all": False, "capture_mean_cov": True, "max_items": None, "num_items": len(rows), "num_features": 6,
        "all_features": None, "raw_mean": rows.sum(axis=0), "raw_cov": rows.T @ rows,
    }  # fmt: skip
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(raw, protocol=protocol))
    read = GaussianStats.load(tmp_path / "a.pkl")
    assert (read.num_samples, read.ddof) == (200, 0)
    np.testing.assert_allclose(read.sigma, np.cov(rows, rowvar=False, ddof=0), atol=1e-13)


def test_an_easydict_is_a_dictionary(tmp_path, stats, monkeypatch):
    module = types.ModuleType("dnnlib.util")
    module.EasyDict = type("EasyDict", (dict,), {"__module__": "dnnlib.util", "__qualname__": "EasyDict"})
    monkeypatch.setitem(sys.modules, "dnnlib", types.ModuleType("dnnlib"))
    monkeypatch.setitem(sys.modules, "dnnlib.util", module)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(module.EasyDict(fid=module.EasyDict(mu=stats.mu, sigma=stats.sigma))))
    np.testing.assert_array_equal(GaussianStats.load(tmp_path / "a.pkl").sigma, stats.sigma)


def test_torch_fidelity_computes_and_caches_what_is_read(tmp_path, rows, stats):
    torch.save(torch_fidelity.metric_fid.fid_features_to_statistics(torch.from_numpy(rows)), tmp_path / "a.pt")
    np.testing.assert_allclose(GaussianStats.load(tmp_path / "a.pt").sigma, stats.sigma, atol=1e-13)


# Features -----------------------------------------------------------------------------------------------------------


def test_files_of_features(tmp_path, rows, stats):
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "one.npz", whatever=rows)
    np.savez(tmp_path / "named.npz", features=rows, labels=np.zeros(200), extractor="inception")
    torch.save(torch.from_numpy(rows), tmp_path / "a.pt")
    safetensors.numpy.save_file({"features": rows}, tmp_path / "a.safetensors")
    for name in ("a.npy", "one.npz", "named.npz", "a.pt", "a.safetensors"):
        assert fidfast.fid(tmp_path / name, rows + 1) == pytest.approx(fidfast.fid(rows, rows + 1), rel=1e-12), name


def test_a_checkpoint_is_a_side_of_the_distance(tmp_path, rows, stats):
    moments = Moments(6)
    moments.update(rows)
    moments.save(tmp_path / "run.npz")
    assert fidfast.fid(tmp_path / "run.npz", rows + 1) == fidfast.fid(rows, rows + 1)


def test_large_files_are_read_in_slices(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("fidfast._stats.slices.ROWS_PER_SLICE", 64)
    rows = rng.standard_normal((1000, 4))
    np.save(tmp_path / "a.npy", rows)
    seen = []
    update = Moments.update
    monkeypatch.setattr(Moments, "update", lambda self, batch: (seen.append(len(batch)), update(self, batch))[1])
    assert fidfast.fid(tmp_path / "a.npy", rows) == pytest.approx(0, abs=1e-12)
    assert max(seen) == 64


# Damaged and foreign files ------------------------------------------------------------------------------------------


def test_loading_the_wrong_kind(tmp_path, rows, stats):
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
    """Would write a file if it were ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("ending", [".npz", ".npy", ".pkl", ".pt"])
def test_no_file_executes_anything(tmp_path, ending):
    victim, path = tmp_path / "executed", tmp_path / f"bad{ending}"
    payload = Payload(victim)
    if ending == ".npz":
        np.savez(path, mu=np.array([payload], dtype=object), sigma=np.eye(1))
    elif ending == ".npy":
        np.save(path, np.array([payload], dtype=object), allow_pickle=True)
    elif ending == ".pkl":
        path.write_bytes(pickle.dumps({"mu": payload, "sigma": np.eye(1)}))
    else:
        torch.save({"mu": payload, "sigma": np.eye(1)}, path)
    with pytest.raises(ValueError, match=r"bad\.\w+ .*(pickled objects|arrays)"):
        fidfast.fid(path, np.eye(2))
    assert not victim.exists()


@pytest.mark.parametrize("ending", [".npz", ".npy", ".pkl", ".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_truncated_files_are_named(tmp_path, rows, stats, ending, share):
    path = tmp_path / f"cut{ending}"
    if ending == ".npz":
        stats.save(path)
    elif ending == ".npy":
        np.save(path, rows)
    elif ending == ".pkl":
        write_edm2(path, stats)
    elif ending == ".pt":
        write_torch_fidelity(path, stats)
    else:
        safetensors.numpy.save_file({"features": rows}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=f"features_a: .*cut{ending}"):
        fidfast.fid(path, rows)


def test_a_damaged_checkpoint_is_refused(tmp_path, rows):
    moments = Moments(6)
    moments.update(rows)
    moments.save(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz") as archive:
        entries = dict(archive)
    for key, value in [("narrow_rows", np.zeros((3, 5))), ("count", -1), ("dim", 0), ("precision", "float8")]:
        np.savez(tmp_path / "bad.npz", **{**entries, key: value})
        with pytest.raises(ValueError, match=r"bad\.npz"):
            Moments.load(tmp_path / "bad.npz")
    for key in ("wide_rows", "dim", "scatter"):
        folded = {**entries, "count": 7}
        np.savez(tmp_path / "bad.npz", **{name: value for name, value in folded.items() if name != key})
        with pytest.raises(ValueError, match=r"bad\.npz"):
            Moments.load(tmp_path / "bad.npz")


# Failed writes ------------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file(tmp_path, stats, monkeypatch):
    stats.save(tmp_path / "x.npz")
    before = (tmp_path / "x.npz").read_bytes()

    def full_disk(file, **entries):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        stats.save(tmp_path / "x.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    assert (tmp_path / "x.npz").read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_really_full_disk(stats, monkeypatch, tmp_path):
    """The same with the kernel's own error, through a temporary file on a device that is always full."""
    full = os.open("/dev/full", os.O_WRONLY)
    (tmp_path / "temporary").touch()
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (full, str(tmp_path / "temporary")))
    with pytest.raises(OSError, match="No space left on device"):
        stats.save(tmp_path / "x.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_leaves_the_old_file(tmp_path, stats):
    stats.save(tmp_path / "x.npz")
    before = (tmp_path / "x.npz").read_bytes()
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        stats.save(tmp_path / "x.npz")
    tmp_path.chmod(0o700)
    assert (tmp_path / "x.npz").read_bytes() == before


def test_a_missing_folder_is_named(tmp_path, stats):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        stats.save(tmp_path / "nowhere" / "x.npz")


def test_permissions_are_those_of_a_plain_write(tmp_path, stats):
    with builtins.open(tmp_path / "plain", "w"):
        pass
    stats.save(tmp_path / "new.npz")
    assert stat.S_IMODE((tmp_path / "new.npz").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    (tmp_path / "new.npz").chmod(0o600)
    stats.save(tmp_path / "new.npz")
    assert stat.S_IMODE((tmp_path / "new.npz").stat().st_mode) == 0o600
