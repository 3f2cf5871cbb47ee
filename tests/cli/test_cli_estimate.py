"""The command `fidfast fid --estimate`."""

import json

import numpy as np
import pytest
from photographs import crops, write

import fidfast
import fidfast.torch as ft
from fidfast._cli import commands as cli


@pytest.fixture(autouse=True)
def files(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", rng.standard_normal((300, 4)))
    np.save("b.npy", rng.standard_normal((200, 4)) + 1)
    return tmp_path


def run(capsys, *arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_two_files(capsys):
    code, out, err = run(capsys, "fid", "a.npy", "b.npy", "--estimate")
    assert (code, err) == (0, "")
    found = fidfast.estimate("a.npy", "b.npy")
    number, biased, facts = out.splitlines()
    assert number == f"Fréchet distance {found}"
    assert biased == f"with bias, as reported by other tools: {fidfast.fid('a.npy', 'b.npy'):.8g}"
    assert facts == f"extractor unknown, rounding error at most {found.rounding:.1g}"


def test_json(capsys):
    code, out, _ = run(capsys, "fid", "a.npy", "b.npy", "--estimate", "--json", "--extractor", "inception")
    numbers = json.loads(out)
    found = fidfast.estimate("a.npy", "b.npy")
    assert code == 0
    assert (numbers["label"], numbers["files"], numbers["skipped"]) == ("FID", ["a.npy", "b.npy"], {})
    assert (numbers["value"], numbers["stderr"], numbers["bias"]) == (found.value, found.stderr, found.bias)
    assert numbers["interval_95"] == list(found.interval())
    assert numbers["extractor"] == "inception"


def test_blocks_and_statistics(capsys):
    moments = fidfast.Moments(4, blocks=20, extractor="net")
    moments.update(np.load("a.npy"))
    moments.save("blocks.npz")
    moments.stats().save("stats.npz")
    code, out, err = run(capsys, "fid", "blocks.npz", "b.npy", "--estimate", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["degrees_of_freedom"] == fidfast.estimate(moments, "b.npy").degrees_of_freedom
    code, out, _ = run(capsys, "fid", "a.npy", "stats.npz", "--estimate", "--json")
    assert (code, json.loads(out)["num_samples"]) == (0, [300, None])
    code, _, err = run(capsys, "fid", "stats.npz", "stats.npz", "--estimate")
    assert code == 1
    assert err.startswith("fidfast: samples has no samples to estimate an error from: pass the (n, dim) features")


def test_too_few_samples(capsys):
    np.save("few.npy", np.load("a.npy")[:6])
    code, out, _ = run(capsys, "fid", "few.npy", "b.npy", "--estimate")
    assert code == 0
    assert (
        "without an error bar: samples has 6 samples; an error bar needs at least 9, 2 per direction with nonzero "
        "variance (4) plus 1" in out
    )
    assert "with bias" not in out
    _, out, _ = run(capsys, "fid", "few.npy", "b.npy", "--estimate", "--json")
    assert json.loads(out)["stderr"] is None


@pytest.mark.parametrize("tool", ["pytorch-fid", "torch-fidelity", "clean-fid", "torchmetrics", "stylegan3"])
def test_the_number_of_another_tool(capsys, tool):
    """The estimate is free of the tool's bias, and of its ddof; the number with bias is that of `fid --like`."""
    plain = run(capsys, "fid", "a.npy", "b.npy", "--estimate")[1].splitlines()
    code, out, err = run(capsys, "fid", "a.npy", "b.npy", "--estimate", "--like", tool)
    assert (code, err) == (0, "")
    expected = run(capsys, "fid", "a.npy", "b.npy", "--like", tool)[1].split()[2]
    assert out.split(", ")[0] == plain[0].split(", ")[0]
    assert out.splitlines()[1:] == [f"with bias, as reported by {tool}: {expected}", plain[2]]
    assert (expected == f"{fidfast.fid('a.npy', 'b.npy'):.8g}") == (tool != "stylegan3")
    _, out, _ = run(capsys, "fid", "a.npy", "b.npy", "--estimate", "--like", tool, "--json")
    numbers = json.loads(out)
    assert numbers["like"] == tool
    assert f"{numbers['value']:.8g}" == expected
    assert numbers["unbiased"] == pytest.approx(fidfast.estimate("a.npy", "b.npy").unbiased, rel=1e-12)  # a few ulps


def test_images(capsys, files):
    (files / "mean_colour.py").write_text("def make():\n    return lambda images: images.mean(dim=(2, 3))\n")
    for seed, name in enumerate(("a", "b")):
        write(files / name, crops(seed, [(40, 40)] * 9))
    (files / "a" / "broken.png").write_bytes(b"not an image")
    arguments = ("fid", "a", "b", "--estimate", "--json", "--skip-broken", "--extractor", "mean_colour:make")
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    numbers = json.loads(out)
    extractor = ft.load_extractor("mean_colour:make")
    samples, reference = (ft.features_of_images(name, extractor, skip_broken=True) for name in ("a", "b"))
    assert samples.names == [f"{i:04}.png" for i in range(9)]
    assert numbers["value"] == pytest.approx(fidfast.fid(samples.features, reference.features))
    assert numbers["stderr"] > 0
    assert numbers["num_samples"] == [9, 9]
    assert numbers["extractor"] == "mean_colour:make"
    assert len(numbers["skipped"]["a"]) == 1
