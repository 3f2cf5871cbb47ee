"""The output of ``--json``, compared with the tables of docs/command_line.md."""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pytest

import fidfast
from fidfast._cli import arguments
from fidfast._cli import commands as cli
from fidfast._cli.output import SCHEMA

PAGE = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \|", re.MULTILINE)
_SECTIONS = re.split(
    r"^### `(.+) --json`$", re.split(r"^## (?!JSON)", PAGE.split("## JSON\n")[1], flags=re.M)[0], flags=re.M
)
#: Types by key, by command.
TABLES = {name: dict(_ROW.findall(text)) for name, text in zip(_SECTIONS[1::2], _SECTIONS[2::2], strict=True)}

_PLAIN = {"text": str, "integer": int, "number": (int, float), "true or false": bool, "object": dict}


def check(value, kind, table, path):
    """Assert that a value is of the documented kind, and its keys are documented."""
    kind = kind.removesuffix(", optional")
    if kind in ("result", "property"):
        assert kind == "property" or isinstance(value, dict), path
        return
    if kind.endswith(" or null"):
        if value is None:
            return
        kind = kind.removesuffix(" or null")
        of = f"{kind.partition(' of ')[2]} or null"
    else:
        of = kind.partition(" of ")[2]
    if kind.startswith(("list of ", "pair of ")):
        assert isinstance(value, list), path
        assert kind.startswith("list") or len(value) == 2, path
        for item in value:
            check(item, of, table, f"{path}[]")
        return
    assert isinstance(value, _PLAIN[kind]), (path, value, kind)
    assert kind == "true or false" or not isinstance(value, bool), path
    if kind == "object":
        check_object(value, table, f"{path}.")


def check_object(found, table, prefix=""):
    documented = {key.removeprefix(prefix): kind for key, kind in table.items() if key.startswith(prefix)}
    own = {key: kind for key, kind in documented.items() if not re.search(r"[.\[]", key)}
    required = {key for key, kind in own.items() if key != "*" and not kind.endswith(", optional")}
    assert required <= found.keys(), prefix
    for key, value in found.items():
        name = key if key in own else "*"
        assert name in own, f"{prefix}{key} is not documented"
        check(value, own[name], table, f"{prefix}{name}")


def output(capsys, *arguments_):
    assert cli.main([*map(str, arguments_), "--json"]) == 0
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert next(iter(json.loads(text).items())) == ("schema", SCHEMA)
    return json.loads(text)


@pytest.fixture
def files(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    np.save("a.npy", rng.standard_normal((300, 4)).astype(np.float32))
    np.save("b.npy", rng.standard_normal((200, 4)) + 1)
    np.save("few.npy", rng.standard_normal((4, 4)))
    np.savez("both.npz", features=rng.standard_normal((9, 4)), mu=np.zeros(4), sigma=np.eye(4))
    fidfast.moments_of_features("a.npy").save("part.moments.npz")
    return tmp_path


CASES = [
    ("fid", "fid a.npy b.npy"),
    ("fid", "fid few.npy b.npy --like pytorch-fid"),
    ("fid", "fid both.npz a.npy"),
    ("fid --estimate", "fid a.npy b.npy --estimate"),
    ("fid --estimate", "fid few.npy b.npy --estimate"),
    ("fid --estimate", "fid a.npy a.npy --estimate"),
    ("evaluate", "evaluate a.npy b.npy --metrics fid,kid,precision,recall,density,coverage,vendi,mind"),
    ("evaluate", "evaluate a.npy b.npy --metrics fid,kid,vendi --estimate"),
    ("evaluate", "evaluate a.npy --metrics vendi"),
    ("report", "report a.npy b.npy"),
    ("report", "report few.npy b.npy --no-pairs"),
    ("stats", "stats a.npy out.npz"),
    ("stats", "stats a.npy out.moments.npz --shard 1/2"),
    ("merge", "merge part.moments.npz -o merged.npz"),
    ("info", "info a.npy"),
    ("info", "info both.npz"),
    ("info", "info part.moments.npz"),
    ("cache", "cache"),
    ("doctor", "doctor"),
    ("demo --features", "demo --features"),
]


@pytest.mark.parametrize(("table", "command"), CASES, ids=[command for _, command in CASES])
@pytest.mark.filterwarnings("ignore")
def test_the_output_is_as_documented(table, command, files, capsys):
    check_object(output(capsys, *command.split()), TABLES[table])


def test_the_output_about_images_is_as_documented(files, capsys):
    image = pytest.importorskip("PIL.Image")
    folder = files / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "text.txt").write_text("text")
    (files / "net.py").write_text(
        "import torch\n\n\nclass Mean(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x.float().mean((2, 3))\n\n\ndef mean():\n    return Mean()\n"
    )
    options = ("--extractor", "net:mean", "--skip-broken", "--num-workers", "0", "--quiet")
    found = output(capsys, "fid", "images", "images", *options)
    assert found["skipped"]
    assert found["ignored"]
    check_object(found, TABLES["fid"])
    check_object(output(capsys, "stats", "images", "images.npz", *options), TABLES["stats"])
    check_object(output(capsys, "info", "images"), TABLES["info"])
    cached = output(capsys, "cache")
    check_object(cached, TABLES["cache"])


def test_the_output_of_the_demo_is_as_documented(files, capsys, monkeypatch):
    ft = pytest.importorskip("fidfast.torch")
    from fidfast.torch._demo import CORRUPTIONS

    estimates = [fidfast.estimate("a.npy", "b.npy")]
    growth = ft.GrowingSample(4, 4, 80, [300], estimates)
    result = ft.DemoResult(1000, "net", 75.08, {key: [1.5, 9.0, 48.18, 219.84] for key in CORRUPTIONS}, growth)
    monkeypatch.setattr(ft, "demo", lambda **_: result)
    found = output(capsys, "demo", "--out", "plot.png")
    check_object(found, TABLES["demo"])
    assert all(Path(file).is_file() for file in found["plots"])


def test_every_command_with_json_has_a_table():
    with_json = set()
    for name, add, *_ in arguments._COMMANDS:
        parser = argparse.ArgumentParser()
        add(parser)
        with_json |= {name} if "--json" in parser._option_string_actions else set()
    assert {table.split()[0] for table in TABLES} == with_json
    assert f"`{SCHEMA}`" in PAGE


@pytest.mark.parametrize(
    "wrong",
    [{}, {"schema": 1}, {"schema": "x", "other": 1}, {"schema": "x", "pair": [1]}, {"schema": "x", "o": {"k": "1"}}],
)
def test_the_check_finds_differences(wrong):
    table = {"schema": "text", "pair": "pair of integer, optional", "o": "object, optional", "o.*": "integer"}
    check_object({"schema": "x", "pair": [1, 2], "o": {"any": 1}}, table)
    with pytest.raises(AssertionError):
        check_object(wrong, table)
