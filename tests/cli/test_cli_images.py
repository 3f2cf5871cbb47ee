"""The command line on images."""

import json
import zipfile

import networks
import numpy as np
import pytest
from photographs import crops, write

import fidfast
import fidfast.torch as ft
from fidfast._cli import commands as cli
from fidfast._results import is_inception
from fidfast.torch._images import extraction_pass

EFFICIENTNET = ("--extractor", "efficientnet-lite0")
SMALL = ("--extractor", "small_network:make", "--device", "cpu")
SMALL_NAME = "small_network:make/pil-bicubic-32"

NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 5, stride=3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    network.input_size = 32
    return network

def pooled(images):
    return images.amax(dim=(2, 3))

def other():
    return pooled
"""


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Two folders of 10 images, and a small network in a module beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "small_network.py").write_text(NETWORK)
    for seed, name in enumerate(("a", "b")):
        write(tmp_path / name, crops(seed, [(40, 40)] * 10))
    return tmp_path


def run(capsys, *arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_two_folders(capsys, folders):
    for name in ("a", "b"):
        for path in sorted((folders / name).iterdir())[4:]:
            path.unlink()
    code, out, err = run(capsys, "fid", "a", "b", *EFFICIENTNET)
    assert (code, err) == (0, "")  # no progress bar, since standard error is not a terminal
    number, facts, note = out.splitlines()
    assert number == f"Fréchet distance {ft.fid_of_images('a', 'b', 'efficientnet-lite0'):.3g}"
    assert note.startswith("4 samples in dim 1280 are too few: ")
    assert facts.startswith("dim 1280, num_samples 4 and 4, extractor efficientnet-lite0/pil-bicubic-224, rounding")
    assert len(list((folders / "cache").iterdir())) == 2
    assert run(capsys, "fid", "a", "b", *EFFICIENTNET) == (code, out, err)


def test_a_folder_its_statistics_and_its_zip_have_distance_0(capsys, folders):
    code, out, _ = run(capsys, "stats", "a", "a.npz", *SMALL)
    assert (code, out) == (0, f"a.npz: dim 6, num_samples 10, extractor {SMALL_NAME}\n")
    with zipfile.ZipFile("a.zip", "w") as archive:
        for path in (folders / "a").iterdir():
            archive.write(path)
    for pair in (("a", "a.npz"), ("a.zip", "a")):
        code, out, err = run(capsys, "fid", *pair, *SMALL, "--json")
        assert (code, err) == (0, "")
        numbers = json.loads(out)
        assert numbers["distance"] <= 1e-9 * numbers["trace_samples"]
        assert numbers["num_samples"] == [10, 10]
        assert numbers["skipped"] == {}


def test_the_extractor_option_names_the_network_of_statistics_without_a_name(capsys):
    run(capsys, "stats", "b", "b.npz", *SMALL)
    stats = fidfast.GaussianStats.load("b.npz")
    np.savez("foreign.npz", mu=stats.mu, sigma=stats.sigma)
    code, out, err = run(capsys, "fid", "a", "foreign.npz", *SMALL)
    assert (code, err) == (0, "")
    assert f"extractor {SMALL_NAME} and small_network:make," in out
    _, _, err = run(capsys, "fid", "a", "b.npz", *SMALL, "--resize", "torch-bilinear")
    assert "part of the result is due to the different resize or arithmetic" in err


def test_an_extractor_from_a_module_in_the_current_folder(capsys, folders):
    (folders / "mean_colour.py").write_text("def make():\n    return lambda images: images.mean(dim=(2, 3))\n")
    code, out, err = run(capsys, "fid", "a", "b", "--extractor", "mean_colour:make")
    assert (code, err) == (0, "")
    assert "dim 3, num_samples 10 and 10, extractor mean_colour:make," in out
    code, _, err = run(capsys, "fid", "a", "b", "--extractor", "yournet:make")
    assert (code, err) == (1, "fidfast: extractor 'yournet:make': No module named 'yournet'\n")


def test_bfloat16_is_in_the_name_of_the_extractor(capsys):
    _, out, _ = run(capsys, "fid", "a", "b", *SMALL, "--bfloat16", "--json")
    approximate = json.loads(out)
    assert approximate["extractor"] == [f"{SMALL_NAME}/bfloat16"] * 2
    _, out, _ = run(capsys, "fid", "a", "b", *SMALL, "--json")
    exact = json.loads(out)
    assert approximate["distance"] != exact["distance"]
    assert approximate["distance"] == pytest.approx(exact["distance"], rel=0.1)


def test_inception_with_the_conventions_of_a_tool(capsys, folders):
    for name in ("a", "b"):
        for path in sorted((folders / name).iterdir())[4:]:
            path.unlink()
    weights = str(networks.seeded_inception_weights(folders / "torch"))
    code, out, err = run(capsys, "fid", "a", "b", "--weights", weights, "--like", "stylegan3", "--json")
    assert code == 0
    assert "warning: " in err
    assert "the distance is not an FID" in err
    numbers = json.loads(out)
    assert numbers["label"] == "Fréchet distance"  # these are not the weights of 2015-12-05
    assert numbers["extractor"][0].endswith("/tf1-bilinear-299")
    _, out, _ = run(capsys, "fid", "a", "b", "--weights", weights, "--json")
    # Divided by 4 instead of 3.
    assert numbers["trace_samples"] == pytest.approx(json.loads(out)["trace_samples"] * 0.75)


def test_the_label_is_fid_only_for_inception():
    assert all(map(is_inception, ("inception", "inception/tf1-bilinear-299", "inception-2015-12-05")))
    for name in (None, "inception-weights-1234/tf1-bilinear-299", "Inception3.avgpool", "efficientnet-lite0/x-224"):
        assert not is_inception(name)


def test_broken_images(capsys, folders):
    (folders / "b" / "0004.png").write_bytes(b"not an image")
    code, out, err = run(capsys, "fid", "a", "b", *SMALL)
    assert (code, out) == (1, "")
    assert err.startswith("fidfast: b/0004.png: not an image")
    assert err.count("\n") == 1
    code, out, err = run(capsys, "fid", "a", "b", *SMALL, "--skip-broken")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "num_samples 10 and 9" in lines[1]
    assert lines[2] == "b: skipped 1 broken image"
    assert lines[3].startswith("  b/0004.png: not an image")
    _, out, _ = run(capsys, "fid", "a", "b", *SMALL, "--skip-broken", "--json")
    assert list(json.loads(out)["skipped"]) == ["b"]


def test_statistics_of_several_extractors(capsys, monkeypatch, folders):
    names = ["small_network:make", "small_network:other"]
    code, out, err = run(capsys, "stats", "a", "several", "--extractors", ",".join(names), "--device", "cpu")
    assert (code, err) == (0, "")
    assert [line.split(", extractor ")[1].split("/")[0] for line in out.splitlines()] == names
    for name in names:
        assert run(capsys, "stats", "a", "one", "--extractor", name, "--device", "cpu")[0] == 0
        key = "mu,sigma" if name == names[0] else name
        assert fidfast.GaussianStats.load("several.npz", key=key) == fidfast.GaussianStats.load("one.npz")
        _, out, _ = run(capsys, "fid", "a", "several.npz", "--key", key, "--extractor", name, "--json")
        assert json.loads(out)["distance"] == 0
    for arguments, message in (
        (("--extractors", "inception", *SMALL), "--extractor and --extractors exclude each other"),
        (("--extractors", f"{names[0]},{names[0]}"), "have the same name 'small_network:make'"),
        (("--extractors", "small_network:gone"), "has no attribute 'gone'"),
        (("--extractors", f"{names[0]},small_network:other", "--like", "adm"), "like is an option of the extractor"),
    ):
        code, _, err = run(capsys, "stats", "a", "x.npz", *arguments)
        assert (code, message in err) == (1, True), err
    code, _, err = run(capsys, "stats", "one.npz", "x.npz", "--extractors", names[0])
    assert (code, "--extractors applies to images, but there are none in one.npz" in err) == (1, True)
    with pytest.raises(SystemExit):
        run(capsys, "stats", "a", "x.npz", "--extractors", "inception,")


def test_an_interrupted_run_is_resumed(capsys, monkeypatch, folders):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)
    arguments = ("stats", "a", "a.npz", *SMALL, "--batch-size", "2")
    run(capsys, *arguments)
    expected = fidfast.GaussianStats.load("a.npz")
    (folders / "a.npz").unlink()
    calls = []
    original = extraction_pass.output_of

    def stop(self, images):
        calls.append(len(images))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, images)

    monkeypatch.setattr(extraction_pass, "output_of", stop)
    code, _, err = run(capsys, *arguments)
    message = "fidfast: interrupted; continue with the same command: a.partial.npz holds 6 images\n"
    assert (code, err) == (130, message)
    assert (folders / "a.partial.npz").exists()
    assert not (folders / "a.npz").exists()
    code, _, err = run(capsys, "fid", "a.partial.npz", "b", *SMALL)
    assert code == 1
    assert "a.partial.npz holds a checkpoint of an unfinished run (6 images done), not statistics or features" in err
    _, out, _ = run(capsys, "info", "a.partial.npz", "--json")
    assert json.loads(out)["images_done"] == 6
    code, _, err = run(capsys, *arguments)
    assert (code, err) == (0, "fidfast: continuing: a.partial.npz holds 6 images\n")
    assert calls == [2] * 4 + [2, 2]  # the fourth batch was interrupted; two were left
    assert fidfast.GaussianStats.load("a.npz") == expected
    assert not (folders / "a.partial.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fid", "a", "gone", *SMALL), "no such file: gone"),
        (("fid", "a", "b", "--extractor", "resnet"), "unknown extractor 'resnet'; choose one of inception, "),
        (("fid", "a", "b", *SMALL, "--weights", "x"), "weights is an option of the extractor inception"),
        (("fid", "a", "b", "--like", "fid"), "like must be one of 'torch-fidelity', "),
        (("fid", "a", "b", *EFFICIENTNET, "--resize", "nearest"), "unknown resize 'nearest'"),
        (("fid", "empty", "b", *SMALL), "empty holds no images; supported extensions are"),
        (("fid", "a", "b", "--extractor", "small_network:make", "--device", "abacus"), "abacus"),
    ],
)
def test_errors_are_one_line(capsys, folders, arguments, message):
    (folders / "empty").mkdir()
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert err.startswith("fidfast: ")
    assert err.count("\n") == 1


def test_invalid_batch_size(capsys):
    with pytest.raises(SystemExit):
        cli.main(["fid", "a", "b", "--batch-size", "0"])
    assert "must be at least 1, got 0" in capsys.readouterr().err
