"""The command line on covariances that are indefinite, and on few samples."""

import json

import numpy as np
import pytest

import fidfast
from fidfast._cli import commands as cli


@pytest.fixture(autouse=True)
def files(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = rng.standard_normal((6, 20))
    np.savez("half.npz", mu=few.mean(0), sigma=np.cov(few, rowvar=False).astype(np.float16))
    np.save("few.npy", few)
    np.save("many.npy", rng.standard_normal((200, 20)))


def run(capsys, *arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_indefinite_covariances_need_the_option(capsys):
    for command in (("fid", "half.npz", "many.npy"), ("report", "half.npz", "many.npy"), ("stats", "half.npz", "out")):
        code, _, err = run(capsys, *command)
        assert code == 1
        assert "negative_tolerance=9.9e-05 accepts it" in err
        code, out, _ = run(capsys, *command, "--negative-tolerance", "0.01")
        assert code == 0
        assert (
            "report" in command or "covariance is not positive semidefinite (eigenvalues from -0.000634 to 6.46" in out
        )


def test_what_was_dropped_is_in_the_json(capsys):
    _, out, _ = run(capsys, "fid", "half.npz", "many.npy", "--negative-tolerance", "0.01", "--json")
    numbers = json.loads(out)
    stats = fidfast.GaussianStats.load("half.npz", negative_tolerance=0.01)
    assert numbers["least_eigenvalues"] == [stats.least_eigenvalue, 0]
    assert numbers["dropped_traces"] == [stats.dropped_trace, 0]
    assert numbers["caution"].startswith("samples: its covariance")
    _, out, _ = run(capsys, "info", "half.npz")
    assert "least_eigenvalue" in out


def test_few_samples(capsys):
    code, out, _ = run(capsys, "fid", "few.npy", "many.npy")
    number, _, note = out.splitlines()
    terms = fidfast.frechet_terms("few.npy", "many.npy")
    assert (code, number, note) == (0, f"Fréchet distance {terms.distance_text}", terms.note)
    assert note.startswith("6 samples in dim 20 are too few")
    _, out, _ = run(capsys, "fid", "few.npy", "many.npy", "--json")
    assert json.loads(out)["note"] == note
    assert json.loads(out)["distance"] == terms.distance
    _, out, _ = run(capsys, "report", "few.npy", "many.npy")
    assert f"  {terms.distance_text} " in out
    assert "6 samples in dim 20 are too few" in out
