"""Features in several files on the command line."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fidfast
from fidfast._cli.commands import main


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Folders of the same rows, and statistics of others."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((4, 50, 6)).astype(np.float32)
    for folder in ("npy", "parquet"):
        (tmp_path / folder).mkdir()
    for i, rows in enumerate(features):
        np.save(f"npy/{i}.npy", rows)
        pq.write_table(pa.table({"features": list(rows), "clip": list(-rows)}), f"parquet/{i}.parquet")
    fidfast.Moments.from_features(rng.standard_normal((300, 6)) + 0.1).stats().save("reference.npz")
    return features.reshape(200, 6)


def output(capsys, *arguments):
    assert main([*arguments]) in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize("source", ["npy", "npy/*", "parquet", "parquet/*.parquet", "**/*.npy"])
def test_fid_of_shards(shards, capsys, source):
    found = json.loads(output(capsys, "fid", source, "reference.npz", "--json"))
    assert found["distance"] == pytest.approx(fidfast.fid(shards, "reference.npz"), rel=1e-12)
    found = json.loads(output(capsys, "fid", source, "npy", "--json"))
    # Equal rows in other slices: sums differ by rounding, whose effect is bounded.
    assert found["distance"] <= found["rounding"]


def test_other_commands(shards, capsys):
    output(capsys, "stats", "npy", "out.npz")
    assert fidfast.GaussianStats.load("out.npz").num_samples == 200
    assert json.loads(output(capsys, "info", "parquet", "--json"))["entries"] == {
        "features": "float32 (200, 6)", "clip": "float32 (200, 6)"
    }  # fmt: skip
    found = json.loads(output(capsys, "fid", "parquet", "reference.npz", "--key", "clip", "--json"))
    assert found["distance"] == pytest.approx(fidfast.fid(-shards, "reference.npz"), rel=1e-12)
    text = output(capsys, "evaluate", "parquet/*", "npy", "--metrics", "fid,kid")
    assert "num_samples 200 and 200" in text
    assert "images" not in text
    assert "200 of the 200 rows" in output(capsys, "fid", "npy", "parquet", "--estimate")
