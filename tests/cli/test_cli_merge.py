"""`stats --shard` and `merge`: the statistics of a source from the moments of its shards."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from photographs import crops, write

import fidfast
from fidfast._cli import commands as cli

ROWS = np.random.default_rng(0).normal(size=(30, 4))
SMALL = ("--extractor", "colour_network:means", "--device", "cpu")

NETWORK = """
import os, signal

calls = []

def means():
    return lambda images: images.mean(dim=(2, 3))

def maxima():
    return lambda images: images.amax(dim=(2, 3))[:, :2]

def killed():
    def extract(images):
        calls.append(1)
        if len(calls) == 4 and "KILL" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return images.mean(dim=(2, 3))

    return extract
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Features, and a folder of 7 images with a network beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    np.save("rows.npy", ROWS)
    (tmp_path / "colour_network.py").write_text(NETWORK)
    write(tmp_path / "images", crops(0, [(20, 20)] * 7))
    return tmp_path


def run(capsys, *arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def done(capsys, *arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    return out


def refused(capsys, *arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(("source", "options"), [("rows.npy", ()), ("images", SMALL)], ids=["features", "images"])
def test_the_statistics_of_all_shards(capsys, source, options):
    for k in (3, 1, 2):
        out = done(capsys, "stats", source, f"{k}.moments.npz", "--shard", f"{k}/3", *options)
        assert out.startswith(f"{k}.moments.npz: moments, shard {k}/3 (")
    out = done(capsys, "merge", "3.moments.npz", "1.moments.npz", "2.moments.npz", "-o", "all.npz")
    expected = done(capsys, "stats", source, "one.npz", *options)
    assert out == expected.replace("one.npz", "all.npz")
    assert fidfast.GaussianStats.load("all.npz") == fidfast.GaussianStats.load("one.npz")
    # A folder, and moments.
    done(capsys, "merge", ".", "-o", "all.moments.npz")
    done(capsys, "stats", source, "one.moments.npz", *options)
    assert fidfast.Moments.load("all.moments.npz") == fidfast.Moments.load("one.moments.npz")
    described = json.loads(done(capsys, "info", "one.moments.npz", "--json"))
    assert described["shard"] == "1/1"
    assert described["source"] == json.loads(done(capsys, "info", "2.moments.npz", "--json"))["source"]


def test_the_divisor_of_another_tool(capsys):
    for k in (1, 2):
        done(capsys, "stats", "rows.npy", f"{k}.moments.npz", "--shard", f"{k}/2")
    done(capsys, "merge", ".", "--out", "all", "--like", "torch-fidelity")
    done(capsys, "stats", "rows.npy", "one.npz", "--like", "torch-fidelity")
    assert fidfast.GaussianStats.load("all.npz") == fidfast.GaussianStats.load("one.npz")
    found = json.loads(done(capsys, "merge", ".", "-o", "all.npz", "--json", "--quiet"))
    assert (found["file"], found["num_samples"], found["dim"], found["skipped"]) == ("all.npz", 30, 4, [])
    assert [part["shards"] for part in found["parts"]] == [1]


def test_several_extractors_and_broken_images(capsys, folder):
    (folder / "images" / "a.png").write_bytes(b"no image")
    options = ("--extractors", "colour_network:means,colour_network:maxima", "--device", "cpu", "--skip-broken")
    for k in range(1, 10):  # more shards than images
        done(capsys, "stats", "images", f"{k}.moments.npz", "--shard", f"{k}/9", *options)
    done(capsys, "stats", "images", "one.npz", *options)
    for name in ("means", "maxima"):
        files = sorted(path.name for path in folder.glob(f"*.colour_network-{name}.moments.npz"))
        assert len(files) == 9
        out = done(capsys, "merge", *files, "-o", f"{name}.npz")
        skipped = [line for line in out.splitlines() if "a.png" in line]
        assert "merged from 1 source: skipped 1 broken image" in out
        assert len(skipped) == 1
        found = fidfast.GaussianStats.load(f"{name}.npz")
        assert found == fidfast.GaussianStats.load("one.npz", key=f"colour_network:{name}")
        assert found.num_samples == 7
    err = refused(capsys, "merge", *(path.name for path in folder.glob("1.*.npz")), "-o", "x.npz")
    assert "has extractor colour_network:m" in err


def test_a_distance_to_one_shard_says_so(capsys):
    done(capsys, "stats", "rows.npy", "2.moments.npz", "--shard", "2/3")
    assert "2.moments.npz: shard 2/3 (10 to 19 of 30 samples)\n" in done(capsys, "fid", "2.moments.npz", "rows.npy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stats", "rows.npy", "x.npz", "--shard", "1/2"), "OUT must end in .moments.npz, got x.npz"),
        (
            ("stats", "s.npz", "x.moments.npz", "--shard", "1/2"),
            "holds statistics; statistics and moments cannot",
        ),
        (
            ("stats", "rows.npy", "1.moments.npz", "--shard", "2/4"),
            "1.moments.npz holds shard 1/4 (0 to 6 of 30 samples): pass another name for shard 2/4, or delete it",
        ),
        (("stats", "s.npz", "x.moments.npz"), "a file of moments needs the (n, dim) features themselves"),
        (("stats", "1.moments.npz", "x.moments.npz", "--shard", "1/2"), "which holds a checkpoint of Moments; stat"),
        (("merge", "1.moments.npz", "-o", "x.npz"), "missing 2/4 to 4/4 of the source of 1.moments.npz"),
        (("merge", "1.moments.npz", "-o", "1.moments.npz"), "1.moments.npz would replace the input"),
        (("merge", "s.npz", "-o", "x.npz"), "s.npz holds statistics; only moments can be merged"),
        (("merge", "gone.moments.npz", "-o", "x.npz"), "no such file: gone.moments.npz"),
        (("merge", "1.moments.npz", "-o", "gone/x.npz"), "no such folder to write to: gone"),
        (("merge", "c.npz", "-o", "x.npz"), "the files hold ClassMoments, which are merged as moments: OUT must end"),
        (("merge", "empty.npz", "-o", "x.npz"), "at least 2 samples"),
    ],
)
def test_what_is_refused(capsys, folder, arguments, message):
    done(capsys, "stats", "rows.npy", "1.moments.npz", "--shard", "1/4")
    done(capsys, "stats", "rows.npy", "s.npz")
    fidfast.ClassMoments(4).save("c.npz")
    fidfast.Moments(4).save("empty.npz")
    before = set(os.listdir())
    assert message in refused(capsys, *arguments)
    assert set(os.listdir()) == before


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b"])
def test_shards_that_do_not_exist(capsys, shard):
    with pytest.raises(SystemExit):
        cli.main(["stats", "rows.npy", "x.moments.npz", "--shard", shard])
    message = f"argument --shard: must be K/N with K from 1 to N, for example '3/64', got '{shard}'"
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_job_continues(capsys, folder):
    program = (
        "import sys; from fidfast.torch._images import extraction_pass; extraction_pass.CHECKPOINT_INTERVAL = 0.0\n"
        "from fidfast._cli.commands import main; sys.exit(main(sys.argv[1:]))"
    )
    options = ("--extractor", "colour_network:killed", "--device", "cpu", "--batch-size", "1", "--num-workers", "0")
    command = [sys.executable, "-c", program, "stats", "images", "2.moments.npz", "--shard", "2/2", *options]
    killed = subprocess.run(command, env={**os.environ, "KILL": "1"}, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / "2.moments.npz").exists()
    assert (folder / "2.moments.partial.npz").exists()
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "continuing: 2.moments.partial.npz holds" in again.stderr
    assert not (folder / "2.moments.partial.npz").exists()
    done(capsys, "stats", "images", "1.moments.npz", "--shard", "1/2", *options)
    done(capsys, "merge", ".", "-o", "all.npz")
    done(capsys, "stats", "images", "one.npz", *options)
    assert fidfast.GaussianStats.load("all.npz") == fidfast.GaussianStats.load("one.npz")
