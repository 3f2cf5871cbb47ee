"""The command `fidfast report`."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import fidfast
from fidfast._cli import commands as cli


@pytest.fixture(autouse=True)
def files(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", rng.standard_normal((60, 4)).astype(np.float32))
    np.save("b.npy", rng.standard_normal((50, 4)) + 1)
    return tmp_path


@pytest.fixture
def folders(files, rng):
    """A custom network, and two folders of images, one of which is much brighter than the others."""
    (files / "mynet.py").write_text("def make():\n    return lambda images: images.mean(dim=(2, 3))\n")
    for name in ("x", "y"):
        (files / name).mkdir()
        for i in range(12):
            image = rng.integers(0, 60, (8, 8, 3)) + (180 if (name, i) == ("x", 7) else 0)
            Image.fromarray(image.astype(np.uint8)).save(files / name / f"{i:02}.png")
    (files / "x" / "07.png").rename(files / "x" / "<img src=x>.png")
    return files


def run(capsys, *arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_table(capsys):
    code, out, err = run(capsys, "report", "a.npy", "b.npy")
    assert (code, err) == (0, "")
    assert out == fidfast.report("a.npy", "b.npy").table() + "\n"


def test_json_and_page(capsys, files):
    code, out, err = run(capsys, "report", "a.npy", "b.npy", "--json", "--html", "page.html", "--no-pairs")
    assert (code, err) == (0, "")
    numbers = json.loads(out)
    expected = fidfast.report("a.npy", "b.npy", all_pairs=False).to_dict()
    envelope = {
        "schema": "fidfast/1",
        "files": ["a.npy", "b.npy"],
        "skipped": {},
        "fidfast_version": fidfast.__version__,
    }
    command = "fidfast report a.npy b.npy --json --html page.html --no-pairs"
    assert numbers == {**expected, **envelope, "command": command, "created": numbers["created"]}
    page = (files / "page.html").read_text(encoding="utf-8")
    again = fidfast.report("a.npy", "b.npy", all_pairs=False, command=command).html()
    assert [line for line in page.splitlines() if "UTC" not in line] == [
        line for line in again.splitlines() if "UTC" not in line
    ]
    _, out, _ = run(capsys, "report", "a.npy", "b.npy", "--html", "other.html", "--extractor", "dino")
    assert out.endswith("\n\npage: other.html\n")
    assert "a.npy; extractor dino; rank 4" in " ".join(out.split())


def test_the_number_of_another_tool(capsys):
    for tool in ("stylegan3", "clean-fid"):
        code, out, err = run(capsys, "report", "a.npy", "b.npy", "--like", tool, "--json")
        assert (code, err) == (0, "")
        numbers = json.loads(out)
        expected = json.loads(run(capsys, "fid", "a.npy", "b.npy", "--like", tool, "--json")[1])
        assert (numbers["like"], numbers["value"]) == (tool, expected["distance"])
        plain = fidfast.report("a.npy", "b.npy").to_dict()
        assert (numbers["value"] == plain["value"]) == (tool != "stylegan3")
        assert numbers["unbiased"] == pytest.approx(plain["unbiased"], rel=1e-12)  # a few ulps
        assert (numbers["stderr"], numbers["trimmed"]) == (plain["stderr"], plain["trimmed"])


def test_statistics_and_blocks(capsys):
    run(capsys, "stats", "b.npy", "b.npz")
    _, out, _ = run(capsys, "report", "a.npy", "b.npz")
    assert "coverage: reference: needs the (n, dim) features themselves, got " in " ".join(out.split())
    moments = fidfast.Moments(4, blocks=20)
    moments.update(np.load("a.npy"))
    moments.save("run.npz")
    _, out, _ = run(capsys, "report", "run.npz", "b.npz", "--json")
    numbers = json.loads(out)
    assert numbers["stderr"] > 0
    assert numbers["degrees_of_freedom"] == pytest.approx(19)
    assert numbers["reasons"]["most_harmful"] == (
        "samples: influence needs the (n, dim) features themselves, got run.npz, which holds a checkpoint of Moments"
    )


def test_folders_of_images(capsys, folders):
    code, out, err = run(capsys, "report", "x", "y", "--extractor", "mynet:make", "--html", "page.html")
    assert (code, err) == (0, "")
    assert "x; extractor mynet:make; rank 3" in " ".join(out.split())
    assert out.count(".png") == 5
    worst = next(line for line in out.splitlines() if line.startswith("most harmful"))
    assert worst.endswith(" <img src=x>.png")
    page = (folders / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 24  # each of 12 samples beside its nearest reference image
    assert "<img src=x>" not in page
    assert "&lt;img src=x&gt;.png" in page


def test_skipped_images_do_not_shift_the_images_of_rows(capsys, folders):
    (folders / "x" / "03.png").write_bytes(b"not an image")
    arguments = ("report", "x", "y", "--extractor", "mynet:make", "--skip-broken")
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert "x: skipped 1 broken image\n  x/03.png: not an image" in out
    _, out, _ = run(capsys, *arguments, "--json", "--html", "page.html")
    numbers = json.loads(out)
    assert numbers["num_samples"] == [11, 12]
    assert list(numbers["skipped"]) == ["x"]
    assert [numbers["most_harmful"][0][key] for key in ("name", "row")] == ["<img src=x>.png", 10]  # sorted by name
    page = (folders / "page.html").read_text(encoding="utf-8")
    data = re.search(r'alt="&lt;img src=x&gt;.png" src="data:image/png;base64,([^"]*)"', page).group(1)
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        np.testing.assert_array_equal(image, Image.open("x/<img src=x>.png"))


def test_images_of_features(capsys, folders):
    np.save("x.npy", np.load("a.npy")[:12])
    code, out, err = run(capsys, "report", "x.npy", "b.npy", "--images", "x", "--html", "page.html")
    assert (code, err) == (0, "")
    assert ".png" in out
    assert "data:image/png;base64," in (folders / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.npy", "b.npy"), "no such file: gone.npy"),
        (("a.npy", "b.npy", "--html", "nowhere/page.html"), "no such folder to write to: nowhere"),
        (("a.npy", "b.npy", "--resize", "x"), "--resize applies to images, but there are none in a.npy or b.npy"),
        (("a.npy", "b.npy", "--images", "x"), "samples has 60 rows, but there are 12 images"),
        (("x", "y", "--images", "x"), "--images applies to a file of features, but x holds images"),
        (
            ("b.npz", "a.npy", "--images", "x"),
            "--images applies to a file of features, but b.npz holds statistics or moments",
        ),
    ],
)
def test_errors_are_one_line(capsys, folders, arguments, message):
    run(capsys, "stats", "b.npy", "b.npz")
    code, out, err = run(capsys, "report", *arguments)
    assert (code, out, err) == (1, "", f"fidfast: {message}\n")
    assert not (folders / "page.html").exists()
