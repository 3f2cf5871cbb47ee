"""The command line on files of features and statistics."""

import json
import subprocess
import sys

import numpy as np
import pytest

import fidfast
from fidfast._cli import commands as cli


@pytest.fixture
def files(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", rng.standard_normal((300, 4)).astype(np.float32))
    np.save("b.npy", rng.standard_normal((200, 4)) + 1)
    return tmp_path


def run(capsys, *arguments):
    """Exit code, standard output and standard error."""
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_fid_of_two_files(files, capsys):
    code, out, err = run(capsys, "fid", "a.npy", "b.npy")
    assert (code, err) == (0, "")
    number, facts = out.splitlines()
    assert number == f"Fréchet distance {fidfast.fid('a.npy', 'b.npy'):.8g}"
    assert facts.startswith("dim 4, num_samples 300 and 200, extractor unknown, rounding error at most ")


def test_fid_as_json(files, capsys):
    code, out, _ = run(capsys, "fid", "a.npy", "b.npy", "--json")
    numbers = json.loads(out)
    assert code == 0
    assert numbers["distance"] == fidfast.fid("a.npy", "b.npy")
    assert numbers["num_samples"] == [300, 200]
    assert numbers["extractor"] == [None, None]
    assert numbers["label"] == "Fréchet distance"
    terms = numbers["mean_term"] + numbers["trace_samples"] + numbers["trace_reference"] - 2 * numbers["trace_root"]
    assert numbers["distance"] == pytest.approx(terms)


def test_stats_then_fid_then_info(files, capsys):
    for name in ("a", "b"):
        code, out, err = run(capsys, "stats", f"{name}.npy", f"{name}.npz", "--extractor", "inception")
        assert (code, err) == (0, "")
    code, out, _ = run(capsys, "fid", "a.npz", "b.npz")
    assert code == 0
    assert out.startswith("FID ")  # only for features of the 2015 Inception network
    assert "extractor inception" in out
    code, out, _ = run(capsys, "info", "a.npz")
    assert code == 0
    assert {line.split()[0]: line.split(maxsplit=1)[1] for line in out.splitlines()}.items() >= {
        "holds": "statistics", "dim": "4", "num_samples": "300", "extractor": "inception", "ddof": "1",
        "dead_units": "0",
    }.items()  # fmt: skip


def test_info_of_features_and_checkpoints(files, capsys):
    moments = fidfast.Moments(4)
    moments.update(np.load("a.npy"))
    moments.save("run.npz")
    _, out, _ = run(capsys, "info", "a.npy", "--json")
    assert json.loads(out)["shape"] == [300, 4]
    _, out, _ = run(capsys, "info", "run.npz", "--json")
    assert json.loads(out).items() >= {"holds": "a checkpoint of Moments", "num_samples": 300, "dim": 4}.items()


def test_image_options_need_images(files, capsys):
    for option in (("--resize", "tf1-bilinear"), ("--bfloat16",), ("--skip-broken",), ("--weights", "w.pth")):
        code, out, err = run(capsys, "fid", "a.npy", "b.npy", *option)
        assert (code, out) == (1, "")
        assert err == f"fidfast: {option[0]} applies to images, but there are none in a.npy or b.npy\n"


def test_like_sets_ddof_of_features(files, capsys):
    _, out, _ = run(capsys, "fid", "a.npy", "b.npy", "--json", "--like", "stylegan3")
    like = json.loads(out)
    _, out, _ = run(capsys, "fid", "a.npy", "b.npy", "--json")
    assert like["trace_samples"] == pytest.approx(json.loads(out)["trace_samples"] * 299 / 300)
    run(capsys, "stats", "b.npy", "b.npz")
    _, _, err = run(capsys, "fid", "a.npy", "b.npz", "--like", "stylegan3")
    assert err == "fidfast: warning: the covariance of samples has ddof 0, that of reference has ddof 1\n"
    code, _, err = run(capsys, "fid", "a.npy", "b.npy", "--like", "fid")
    assert code == 1
    assert "like must be one of 'torch-fidelity', " in err


def test_different_extractors_warn_and_show_both_names(files, capsys):
    run(capsys, "stats", "a.npy", "a.npz", "--extractor", "dino")
    run(capsys, "stats", "b.npy", "b.npz", "--extractor", "inception")
    code, out, err = run(capsys, "fid", "a.npz", "b.npz")
    assert code == 0
    assert err.startswith("fidfast: warning: the two inputs have different extractors, 'dino' and 'inception'")
    assert out.startswith("Fréchet distance ")
    assert "extractor dino and inception" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fid", "gone.npz", "a.npy"), "no such file: gone.npz"),
        (("fid", "a.npy", "c.npy"), "samples has dim 4, but reference has dim 2"),
        (("stats", "nan.npy", "out.npz"), "source: features hold NaN or infinity; the first such row is 1"),
        (("stats", "a.npy", "nowhere/out.npz"), "no such folder to write to: nowhere"),
    ],
)
def test_errors_are_one_line(files, capsys, arguments, message):
    np.save("c.npy", np.eye(2))
    np.save("nan.npy", np.array([[1.0], [np.nan]]))
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert err.startswith("fidfast: ")
    assert err.count("\n") == 1


def test_python_m_fidfast(files):
    command = [sys.executable, "-m", "fidfast", "fid", "a.npy", "b.npy"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, cwd=files)
    assert done.stdout.startswith("Fréchet distance ")
    done = subprocess.run([sys.executable, "-m", "fidfast", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fidfast {fidfast.__version__}\n"
    done = subprocess.run([sys.executable, "-m", "fidfast"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: fidfast" in done.stderr


def test_a_closed_pipe_is_not_an_error(files):
    command = f"{sys.executable} -m fidfast info a.npy | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
