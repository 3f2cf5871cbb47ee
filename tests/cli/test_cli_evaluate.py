"""``fidfast evaluate`` parses and prints; the numbers are those of `fidfast.torch.evaluate`."""

import json

import adm
import networks
import numpy as np
import pytest
import torch
from photographs import crops, write

import fidfast
import fidfast.torch as ft
from fidfast._cli import commands as cli
from fidfast._cli.arguments import parse
from fidfast.torch._images import extraction_pass

NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 5, stride=3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    network.input_size = 32
    return network
"""
SMALL = "evaluated_network:make"
#: Outputs of the Inception network.
OUTPUTS = ("inception", "inception-spatial", "inception-logits")
METRICS = f"fd-{SMALL},kid@{SMALL},is@{SMALL},precision@{SMALL}"
OPTIONS = ("--device", "cpu", "--no-cache")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Two folders of 12 images, and a small network in a module beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "evaluated_network.py").write_text(NETWORK)
    for seed, name in enumerate(("a", "b")):
        write(tmp_path / name, crops(seed, [(40, 40)] * 12))
    return tmp_path


def run(capsys, *arguments):
    code = cli.main(("evaluate", *arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_table_and_json(capsys):
    code, out, err = run(capsys, "a", "b", "--metrics", METRICS, "--estimate", *OPTIONS)
    assert (code, err) == (0, "")
    found = ft.evaluate("a", "b", metrics=METRICS, estimate=True, device="cpu")
    assert out == found.table() + "\n"
    code, out, _ = run(capsys, "a", "b", "--metrics", METRICS, "--estimate", "--json", *OPTIONS)
    numbers = json.loads(out)
    assert numbers.items() >= found.to_dict().items()
    assert (numbers["files"], numbers["fidfast_version"]) == (["a", "b"], fidfast.__version__)


def test_one_side(capsys):
    code, out, _ = run(capsys, "a", "--metrics", f"vendi@{SMALL}", *OPTIONS)
    assert code == 0
    assert (
        out.splitlines()[0]
        == f"vendi@{SMALL}  {ft.evaluate('a', None, metrics=f'vendi@{SMALL}').text(f'vendi@{SMALL}')}"
    )
    assert run(capsys, "a", "--metrics", f"kid@{SMALL}", *OPTIONS) == (
        1, "", f"fidfast: kid@{SMALL} needs images, or features of {SMALL}, as reference, which is not given: pass "
        "one of these\n",
    )  # fmt: skip


def test_broken_images(capsys, folders):
    (folders / "b" / "0004.png").write_bytes(b"not an image")
    code, out, err = run(capsys, "a", "b", "--metrics", f"fd-{SMALL}", *OPTIONS)
    assert (code, out) == (1, "")
    assert err.startswith("fidfast: b/0004.png: not an image")
    code, out, err = run(capsys, "a", "b", "--metrics", f"fd-{SMALL}", "--skip-broken", *OPTIONS)
    assert (code, err) == (0, "")
    assert "b: skipped 1 broken image" in out.splitlines()


def test_an_interrupted_run_is_resumed(capsys, monkeypatch, folders):
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)
    arguments = ("a", "b", "--metrics", METRICS, "--batch-size", "2", "--checkpoint", "run", *OPTIONS)
    expected = run(capsys, *arguments)
    calls = []
    original = extraction_pass.output_of

    def stop(extractor, images):
        calls.append(len(images))
        if len(calls) == 9:
            raise KeyboardInterrupt
        return original(extractor, images)

    monkeypatch.setattr(extraction_pass, "output_of", stop)
    code, _, err = run(capsys, *arguments)
    files = "run.samples.npz holds 12 images and run.reference.npz holds 4 images"
    assert (code, err) == (130, f"fidfast: interrupted; continue with the same command: {files}\n")
    code, out, err = run(capsys, *arguments)
    assert (code, out, err) == (0, expected[1], f"fidfast: continuing: {files}\n")
    assert len(calls) == 9 + 4
    assert not list(folders.glob("run.*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "b", "--metrics", "fdi"), "metrics: unknown metric 'fdi'; did you mean 'fid'?"),
        (("a", "gone"), "no such file or folder: gone"),
        (("a", "b", "--like", "fid"), "like must be one of 'torch-fidelity', "),
        (("a", "b", "--metrics", "fd-resnet"), "unknown extractor 'resnet'"),
        (("a", "b", "--resize", "nearest"), "unknown resize 'nearest'"),
        (("a", "b", "--metrics", ""), "metrics: got no name in ''; the metrics are is, fid, sfid, "),
        (("a", "b", "--metrics", " ,"), "metrics: got no name in ' ,'; the metrics are is, fid, sfid, "),
    ],
)
def test_errors_are_one_line(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert err.startswith("fidfast: ")
    assert err.count("\n") == 1


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_lines_of_the_documentation(capsys, folders):
    """With seeded weights, since those of 2015 are not part of a package."""
    weights = ("--weights", str(networks.seeded_inception_weights(folders / "torch")), *OPTIONS)
    for name in ("a", "b"):
        images = np.stack(list(crops(ord(name), [(40, 40)] * 10)))
        np.savez({"a": "samples.npz", "b": "reference.npz"}[name], images)
    code, out, err = run(capsys, "samples.npz", "reference.npz", *weights)
    assert code == 0
    assert "the distance is not an FID" in err
    names = [line.split("  ")[0] for line in out.splitlines()[:5]]
    assert names == ["Inception Score", "Fréchet distance", "spatial Fréchet distance", "Precision", "Recall"]
    code, out, _ = run(capsys, "samples.npz", "reference.npz", "--like", "adm", "--json", *weights)
    assert code == 0
    numbers = json.loads(out)
    with pytest.warns(UserWarning, match="is not an FID"):
        extractors = ft.load_extractors(list(OUTPUTS), weights=weights[1], like="adm")
    samples, reference = (
        {
            one.name.partition("-weights-")[0]: ft.features_of_images(file, one, device="cpu").features
            for one in extractors
        }
        for file in ("samples.npz", "reference.npz")
    )
    assert numbers["values"]["is"] == pytest.approx(adm.inception_score(samples["inception-logits"]), rel=1e-6)
    precision, recall = adm.precision_recall(samples["inception"], reference["inception"])
    assert (numbers["values"]["precision"], numbers["values"]["recall"]) == (precision, recall)
    for name, extractor in (("fid", "inception"), ("sfid", "inception-spatial")):
        expected = fidfast.fid(samples[extractor], reference[extractor])
        assert numbers["values"][name] == pytest.approx(expected, rel=1e-6), name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["w.pth"], "w.pth"),
        (["a=b.pth"], "a=b.pth"),  # a file of this name exists
        (["inception=w.pth"], {"inception": "w.pth"}),
        (["inception=w.pth", "vgg16=v=1.pth"], {"inception": "w.pth", "vgg16": "v=1.pth"}),
    ],
)
def test_weights_by_name(folders, given, expected):
    (folders / "a=b.pth").write_bytes(b"")
    options = [word for text in given for word in ("--weights", text)]
    for command in ("fid a b", "report a b", "evaluate a b", "stats a out.npz"):
        assert parse([*command.split(), *options]).weights == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["w.pth", "v.pth"], "--weights is given 2 times, but w.pth has no name: pass NAME=FILE for each network"),
        (["vgg16="], "--weights must be FILE or NAME=FILE, got 'vgg16='"),
        (["vgg16=a", "vgg16=b"], "--weights has two files for vgg16: a and b; pass one"),
    ],
)
def test_weights_that_cannot_be_assigned(capsys, given, message):
    with pytest.raises(SystemExit):
        run(capsys, "a", "b", *(word for text in given for word in ("--weights", text)))
    assert message in capsys.readouterr().err


def test_weights_of_other_networks(capsys):
    arguments = ("a", "b", "--metrics", "fd-vgg16,fd-swav", *OPTIONS)
    _, _, err = run(capsys, *arguments, "--weights", "w.pth")
    assert "vgg16, swav-resnet50: {name: file} (--weights NAME=FILE), got one file" in err
    _, _, err = run(capsys, *arguments, "--weights", "inception=w.pth")
    assert "weights has a file of 'inception'; the networks are vgg16, swav-resnet50" in err
    for command in (("fid", "a", "b", "--extractor"), ("stats", "a", "out.npz", "--extractors")):
        assert cli.main([*command, "vgg16", "--weights", "vgg16=gone.pth", *OPTIONS]) == 1
        assert "no such weights file: gone.pth" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fid", "evaluate"])
def test_options_of_images_need_images(capsys, folders, command):
    for name in ("one.npz", "two.npz"):
        np.savez(folders / name, mu=np.zeros(3), sigma=np.eye(3))
    arguments = [command, "one.npz", "two.npz", *(("--metrics", "fid") if command == "evaluate" else ())]
    assert cli.main(arguments) == 0
    assert cli.main([*arguments, "--resize", "pil-bicubic"]) == 1
    message = "fidfast: --resize applies to images, but there are none in one.npz or two.npz\n"
    assert capsys.readouterr().err == message
