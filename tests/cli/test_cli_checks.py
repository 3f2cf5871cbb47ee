"""Mistakes are found before a network runs."""

import itertools
import json
import os
import shutil

import numpy as np
import pytest
import torch
from photographs import crops, write

import fidfast
import fidfast.torch as ft
from fidfast._cli import commands as cli
from fidfast.torch._extractors import named as named_extractors
from fidfast.torch._images.extraction_pass import ExtractionPass

PLAIN = ("--extractor", "plain_network:make")

NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 5, stride=3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    network.input_size = 32
    print("the network is loaded")
    return network
"""


@pytest.fixture(autouse=True)
def files(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "plain_network.py").write_text(NETWORK)
    write(tmp_path / "a", crops(0, [(40, 40)] * 4))
    write(tmp_path / "one", crops(0, [(40, 40)]))
    (tmp_path / "empty").mkdir()
    np.save("four.npy", rng.standard_normal((20, 4)))
    np.save("row.npy", rng.standard_normal((1, 6)))
    np.save("nan.npy", np.full((20, 6), np.nan))
    np.save("six.npy", rng.standard_normal((20, 6)))
    (tmp_path / "damaged.zip").write_bytes(b"not a zip")
    (tmp_path / "damaged.npz").write_bytes(b"not a zip")
    return tmp_path


@pytest.fixture
def passes(monkeypatch):
    """The extraction passes that have begun."""
    begun = []
    run = ExtractionPass.run
    monkeypatch.setattr(ExtractionPass, "run", lambda self, *args: (begun.append(self), run(self, *args))[1])
    return begun


def run(capsys, *arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err.replace("the network is loaded\n", "")


def fails(capsys, passes, *arguments):
    """The message of a command that must fail without a pass."""
    code, out, err = run(capsys, *arguments)
    assert (code, out, passes) == (1, "", [])
    assert err.startswith("fidfast: ")
    assert err.count("\n") == 1
    return err


MISTAKES = {
    "gone": "no such file: gone",
    "gone.zip": "no such file: gone.zip",
    "four.npy": "reference has dim 4, but the extractor plain_network:make has dim 6: pass the extractor",
    "row.npy": "reference: a covariance needs at least 2 samples, got 1",
    "nan.npy": "reference: features hold NaN or infinity",
    "empty": "empty holds no images",
    "one": "reference: a covariance needs at least 2 images, got 1",
    "damaged.zip": "damaged.zip is damaged",
    "damaged.npz": "damaged.npz is damaged",
}


@pytest.mark.parametrize("command", [("fid",), ("fid", "--estimate"), ("report",)], ids=" ".join)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_other_source(capsys, passes, command, mistake):
    assert MISTAKES[mistake] in fails(capsys, passes, *command, "a", mistake, *PLAIN)
    assert "fidfast: " in fails(capsys, passes, *command, mistake, "a", *PLAIN)


OPTIONS = {
    ("--resize", "nearest"): "unknown resize 'nearest'; choose one of",
    ("--device", "cuda:99"): "device 'cuda:99' cannot be used: ",
    ("--device", "0"): "device '0' cannot be used: Invalid device string: '0'; did you mean 'cuda:0'?",
    ("--device", "gpu:1"): "did you mean 'cuda:1'?",
    ("--device", "meta"): "device 'meta' cannot be used: ",
    ("--device", "abacus"): "device 'abacus' cannot be used: Expected one of cpu, cuda, ",
    ("--weights", "gone.pth"): "weights is an option of the extractor inception",
    ("--extractor", "inception", "--weights", "gone.pth"): "no such weights file: gone.pth",
    ("--like", "fid"): "like must be one of",
    ("--extractor", "resnet"): "unknown extractor 'resnet'",
    ("--extractor", "gone:make"): "No module named 'gone'",
    ("--extractor", "plain_network:gone"): "has no attribute 'gone'",
}


@pytest.mark.parametrize("command", ["fid a a", "fid a a --estimate", "report a a", "stats a out"])
@pytest.mark.parametrize("option", OPTIONS, ids=" ".join)
def test_a_mistake_in_an_option(capsys, passes, command, option):
    assert OPTIONS[option] in fails(capsys, passes, *command.split(), *PLAIN, *option)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("stats a nowhere/out", "no such folder to write to: nowhere"),
        ("stats a empty", "empty is a folder: pass the name of a file to write"),
        ("stats a .", ". is a folder"),
        ("stats a six.npy/out", "no such folder to write to: six.npy"),
        ("stats six.npz six", "six.npz would replace the input six.npz: pass another name"),
        ("stats link.npz six.npz", "six.npz would replace the input link.npz"),
        ("report a a --html nowhere/page.html", "no such folder to write to: nowhere"),
        ("report a a --html empty", "empty is a folder"),
        ("report a six.npy --html six.npy", "six.npy would replace the input six.npy"),
        ("report six.npy a --images pictures.npy --html pictures.npy", "would replace the input pictures.npy"),
        ("report six.npy a --images a", "samples has 20 rows, but there are 4 images"),
        ("report six.npy a --images gone", "no such file or folder: gone"),
        ("demo --out nowhere/plot.png", "no such folder to write to: nowhere"),
        ("demo --out new/", "new/ is the name of a folder"),
        ("demo --out -", "the output is a file, not standard output"),
        ("report a a --html -", "the output is a file, not standard output"),
        ("demo --out plot.docx", "plot.docx: unknown format of plots '.docx'"),
    ],
)
def test_a_mistake_in_an_output(capsys, passes, files, command, message):
    np.savez("six.npz", features=np.load("six.npy"))
    np.save("pictures.npy", np.zeros((20, 8, 8, 3), dtype=np.uint8))
    os.link("six.npz", "link.npz")
    before = sorted(files.iterdir())
    plain = () if command.startswith("demo") else PLAIN
    assert message in fails(capsys, passes, *command.split(), *plain)
    assert sorted(files.iterdir()) == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a folder that cannot be written to")
def test_a_read_only_folder(capsys, passes, files):
    (files / "empty").chmod(0o500)
    assert "cannot write empty/out: " in fails(capsys, passes, "stats", "a", "empty/out", *PLAIN)


def test_a_name_that_is_too_long(capsys, passes):
    assert "File name too long" in fails(capsys, passes, "stats", "a", "x" * 300, *PLAIN)


class Four(torch.nn.Module):
    """Stands for a network that `load_extractor` loads by name."""

    input_size = (8, 8)

    def forward(self, images):
        return torch.cat([images.mean(dim=(2, 3)), images[:, :1, 0, 0]], dim=1)


@pytest.fixture
def named(monkeypatch):
    extractor = ft.Extractor(Four(), name="efficientnet-lite0", input_size=(8, 8), reproducible=True)
    monkeypatch.setattr(named_extractors, "efficientnet_lite0", lambda: extractor)
    monkeypatch.setattr("fidfast.torch._extractors.prepare.has_bfloat16", lambda: True)  # else a warning


@pytest.mark.parametrize("options", [(), ("--resize", "torch-bilinear"), ("--resize", "pil-bicubic", "--bfloat16")])
def test_statistics_name_the_extractor_of_the_other_side(capsys, named, options):
    assert run(capsys, "stats", "a", "a.npz", "--extractor", "efficientnet-lite0", *options)[0] == 0
    full_name = fidfast.GaussianStats.load("a.npz").extractor
    shutil.copytree("a", "copy")
    for pair in itertools.permutations(("copy", "a.npz")):
        code, out, err = run(capsys, "fid", *pair, "--json", "--no-cache")
        assert (code, err) == (0, "")
        numbers = json.loads(out)
        assert numbers["extractor"] == [full_name] * 2
        assert numbers["distance"] <= 1e-9 * numbers["trace_samples"]  # equal features, rounding of two roots
    _, out, err = run(capsys, "report", "copy", "a.npz", "--no-pairs", "--json")
    assert (json.loads(out)["extractor"], err) == ([full_name] * 2, "")


def test_weights_of_statistics(capsys, monkeypatch):
    """Weights from a file, with the resize of the statistics."""

    def inception(weights, convention):
        name = "inception" if weights is None else f"inception-weights-{weights}"
        return {"inception": ft.Extractor(Four(), name=name, input_size=(8, 8), resize=convention.resize)}

    monkeypatch.setattr(named_extractors, "inception_extractors", inception)
    assert run(capsys, "stats", "a", "a.npz", "--weights", "1234", "--like", "clean-fid")[0] == 0
    _, out, err = run(capsys, "fid", "a", "a.npz", "--weights", "1234", "--json")
    assert (json.loads(out)["extractor"], err) == (["inception-weights-1234/pil-bicubic-8"] * 2, "")
    code, _, err = run(capsys, "fid", "a", "a.npz")
    assert (code, "but the one that is loaded by name is" in err) == (1, True)
    code, _, err = run(capsys, "fid", "a", "a.npz", "--weights", "5678")
    assert (code, "different extractors" in err) == (0, True)


def test_an_option_overrides_the_resize_of_statistics(capsys, named):
    assert run(capsys, "stats", "a", "a.npz", "--extractor", "efficientnet-lite0")[0] == 0
    _, out, err = run(capsys, "fid", "a", "a.npz", "--json", "--resize", "torch-bilinear")
    assert json.loads(out)["extractor"] == ["efficientnet-lite0/torch-bilinear-8", "efficientnet-lite0/pil-bicubic-8"]
    assert err.count("part of the result is due to the different resize or arithmetic") == 1


@pytest.mark.parametrize("name", ["dino", "timm-resnet50/pil-bicubic-224", "os:getcwd", "plain_network:make"])
def test_statistics_of_an_extractor_that_cannot_be_loaded(capsys, passes, name):
    """A file does not choose modules to import."""
    fidfast.GaussianStats(np.zeros(6), np.eye(6), num_samples=50, extractor=name).save("b.npz")
    err = fails(capsys, passes, "fid", "a", "b.npz")
    assert f"b.npz were computed with the extractor {name!r}, which cannot be loaded by name: pass the extractor" in err
    assert err.endswith(f"(--extractor {name if ':' in name else 'package.module:factory'})\n")


def test_different_extractors_warn_once_and_first(capsys, monkeypatch):
    fidfast.GaussianStats(np.zeros(6), np.eye(6), num_samples=50, extractor="dino").save("b.npz")
    original = ExtractionPass.run
    seen = []
    monkeypatch.setattr(ExtractionPass, "run", lambda *args: (seen.append(capsys.readouterr().err), original(*args))[1])
    code, _, err = run(capsys, "fid", "a", "b.npz", *PLAIN)
    assert (code, err) == (0, "")
    assert seen[0].count("the two inputs have different extractors") == 1


def test_statistics_that_cannot_be_saved_after_all_are_saved_elsewhere(capsys, files, monkeypatch):
    """The folder is removed during the extraction."""
    run(capsys, "stats", "a", "a.npz", *PLAIN)
    (files / "out").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(files / "empty"))
    original = ExtractionPass.run
    monkeypatch.setattr(ExtractionPass, "run", lambda *args: (original(*args), shutil.rmtree("out"))[0])
    code, out, err = run(capsys, "stats", "a", "out/a.npz", *PLAIN)
    assert (code, out) == (1, "")
    assert err.startswith("fidfast: cannot write out/a.npz (")
    rescued = err.split("the statistics are in ")[1].strip()
    assert fidfast.GaussianStats.load(rescued) == fidfast.GaussianStats.load("a.npz")
