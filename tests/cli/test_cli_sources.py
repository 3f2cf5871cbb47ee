"""The command line says which files are images and which are not, and manages the cache."""

import json
from dataclasses import replace

import numpy as np
import pytest
from image_files import flat, png, write_files

import fidfast.torch as ft
from fidfast._cli import commands as cli

NETWORK = ("--extractor", "means:make", "--device", "cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, rng):
    """A WebDataset with masks and a folder with other files, and a network in a module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "means.py").write_text("def make():\n    return lambda images: images.mean(dim=(2, 3))\n")

    def noise():
        return png(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))

    shard = {f"{i:04}.{suffix}": noise() for i in range(5) for suffix in ("jpg", "mask.png")}
    write_files("tar", tmp_path / "a", {**shard, "0000.cls": b"3"})
    write_files("folder", tmp_path / "b", {f"{i}.png": noise() for i in range(6)} | {"x.gif": noise()})
    return tmp_path


def run(capsys, *arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


IGNORED = {
    "a.tar": {".cls (0000.cls)": 1, "further image of a sample .mask.png (0000.mask.png)": 5},
    "b": {".gif (x.gif)": 1},
}


def test_what_is_not_read_is_in_every_output(capsys):
    code, out, err = run(capsys, "fid", "a.tar", "b", *NETWORK)
    assert (code, err) == (0, "")
    assert "num_samples 5 and 6" in out
    assert out.endswith(
        "a.tar: not read: 1 .cls (0000.cls), 5 further image of a sample .mask.png (0000.mask.png)\n"
        "b: not read: 1 .gif (x.gif)\n"
    )
    for options in ((), ("--estimate",)):
        _, out, _ = run(capsys, "fid", "a.tar", "b", *NETWORK, "--json", *options)
        assert json.loads(out)["ignored"] == IGNORED
    _, out, _ = run(capsys, "report", "a.tar", "b", *NETWORK, "--json", "--no-pairs")
    assert json.loads(out)["ignored"] == IGNORED
    _, out, _ = run(capsys, "report", "a.tar", "b", *NETWORK, "--no-pairs")
    assert "b: not read: 1 .gif (x.gif)" in out
    _, out, _ = run(capsys, "stats", "b", "b.npz", *NETWORK)
    assert out.splitlines()[1:] == ["b: not read: 1 .gif (x.gif)"]


def test_the_suffix(capsys):
    _, out, _ = run(capsys, "fid", "a.tar", "b", *NETWORK, "--suffix", "mask.png,png,gif", "--json")
    numbers = json.loads(out)
    assert numbers["num_samples"] == [5, 7]
    assert list(numbers["ignored"]) == ["a.tar"]
    code, _, err = run(capsys, "fid", "a.tar", "b", *NETWORK, "--suffix", "tif")
    assert (code, err) == (
        1, "fidfast: a.tar has no file with the suffix .tif; its suffixes are .jpg (5), .mask.png (5), .cls (1)\n"
    )  # fmt: skip


def test_options_of_pixels(capsys, folder, rng):
    wide = {f"{i}.png": png(rng.integers(0, 4096, (6, 7), dtype=np.uint16)) for i in range(4)}
    write_files("folder", folder / "wide", wide)
    _, _, err = run(capsys, "stats", "wide", "wide.npz", *NETWORK)
    assert "fidfast: warning: wide: the largest value of 16-bit grey is" in err
    assert "--max-value 4095" in err
    code, _, err = run(capsys, "stats", "wide", "wide.npz", *NETWORK, "--max-value", "4095")
    assert (code, err) == (0, "")
    code, _, err = run(capsys, "stats", "b", "out.npz", *NETWORK, "--max-pixels", "41")
    assert code == 1
    assert err.startswith("fidfast: b/0.png: has 42 pixels (7 x 6), max_pixels is 41; pass a larger max_pixels")
    for option in ("--max-value", "--max-pixels"):
        with pytest.raises(SystemExit):
            cli.main(["stats", "b", "out.npz", option, "0"])
        capsys.readouterr()


def test_info_of_a_folder_and_an_archive(capsys):
    _, out, _ = run(capsys, "info", "b")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["holds"] == "images"
    assert (lines["images"], lines["sizes"], lines["modes"]) == ("6", "7 x 6: 6", "RGB: 6")
    assert lines["ignored"] == ".gif (x.gif): 1"
    _, out, _ = run(capsys, "info", "a.tar", "--json")
    assert json.loads(out)["suffixes"] == {".jpg": 5}


def test_the_cache(capsys, folder, monkeypatch):
    means = replace(ft.as_extractor(lambda images: images.mean(dim=(2, 3)), name="means"), reproducible=True)
    monkeypatch.setattr(ft, "load_extractors", lambda *_, **__: [means])
    arguments = ("fid", "b", "b", "--device", "cpu", "--json")
    _, first, _ = run(capsys, *arguments)
    _, second, _ = run(capsys, *arguments)
    assert json.loads(first)["from_cache"] == ["b"]  # the reference is the samples
    assert json.loads(second)["from_cache"] == ["b", "b"]
    code, out, _ = run(capsys, "cache")
    assert code == 0
    total, entry = out.splitlines()
    assert total.startswith(f"{folder}/cache: 1 set of images, ")
    assert f"6 images, {folder}/b, " in entry
    _, out, _ = run(capsys, "cache", "--older-than", "1", "--max-size", "1GB", "--json")
    assert len(json.loads(out)["entries"]) == 1
    for option in (("--max-size", "1kB"), ("--clear",)):
        run(capsys, *arguments)
        _, out, _ = run(capsys, "cache", *option)
        assert out == f"{folder}/cache: 0 sets of images, 0 bytes, 1 files removed\n"


@pytest.mark.parametrize("option", [("--max-size", "2 apples"), ("--max-size", "-1"), ("--older-than", "nan")])
def test_invalid_options_of_the_cache(capsys, option):
    with pytest.raises(SystemExit):
        cli.main(["cache", *option])
    assert "must be a" in capsys.readouterr().err


def test_masks_of_a_folder_warn(capsys, folder):
    files = {f"{i}.{suffix}": flat(i) for i in range(3) for suffix in ("jpg", "mask.png")}
    write_files("folder", folder / "c", files)
    _, out, err = run(capsys, "stats", "c", "c.npz", *NETWORK)
    assert "num_samples 6" in out
    assert "c holds several images of the same sample, by suffix: .jpg (3), .mask.png (3); all are counted" in err
