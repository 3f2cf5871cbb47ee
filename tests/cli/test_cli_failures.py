"""Errors of the user's own code show its lines, errors of this package ask for a report, signals end a command."""

import os
import re
import signal
import sys

import numpy as np
import pytest
import torch

import fidfast
import fidfast.torch as ft
from fidfast._cli import commands as cli
from fidfast.torch._images import extraction_pass

GOOD = "def make():\n    return lambda images: images.mean(dim=(2, 3))\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    np.savez("images.npz", images=rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8))
    return tmp_path


def run(capsys, *arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def stats(capsys, extractor, *options, out="out.npz"):
    return run(capsys, "stats", "images.npz", out, "--extractor", extractor, "--device", "cpu", "--quiet", *options)


#: Code of an extractor -> what is shown of it: the number of the line, its text, the error.
BROKEN = {
    "syntax": ("def make(:\n    pass\n", 1, "def make(:", "SyntaxError: "),
    "missing": ("\nimport not_installed_package\n", 2, "import not_installed_package", "ModuleNotFoundError: "),
    "module": ("value = {}['key']\n", 1, "value = {}['key']", "KeyError: 'key'"),
    "factory": ("def make():\n    return 1 / 0\n", 2, "return 1 / 0", "ZeroDivisionError: division by zero"),
    "exits": ("import sys\ndef make():\n    sys.exit(0)\n", 3, "sys.exit(0)", "SystemExit: 0"),
    "quits": (
        "def make():\n    def network(images):\n        raise SystemExit\n    return network\n",
        3, "raise SystemExit", "SystemExit",
    ),
    "network": (
        "def make():\n    return lambda images: images @ images.unknown\n", 2, "images.unknown", "AttributeError: "
    ),
    "shapes": (
        "import torch\ndef make():\n    return lambda images: images.flatten(1) @ torch.ones(3, 3)\n",
        3, "torch.ones(3, 3)", "RuntimeError: ",
    ),
    "decode": (
        "def make():\n    def network(images):\n        b'\\xff'.decode()\n    return network\n",
        3, "b'\\xff'.decode()", "UnicodeDecodeError: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_the_lines_of_a_broken_extractor(capsys, folder, kind):
    code, number, line, message = BROKEN[kind]
    path = folder / f"broken_{kind}.py"
    path.write_text(code)
    status, out, err = stats(capsys, f"broken_{kind}:make")
    assert (status, out) == (1, "")
    lines = err.splitlines()
    assert lines[0] == f"fidfast: the extractor broken_{kind}:make failed:"
    assert f'  File "{path}", line {number}' in err
    assert line in err
    assert lines[-1].startswith(message)
    files = re.findall(r'File "(.*?)"', err)
    assert set(files) == {str(path)}  # neither of this package nor of torch


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def make():\n    return 3\n", "an extractor must be callable, got int"),
        ("def make():\n    return lambda images: 3\n", "extractor"),
        ("def make():\n    return lambda images: images[:1].mean(dim=(2, 3))\n", "returned 1 rows for 8 images"),
        ("other = 3\n", "has no attribute 'make' (it is "),
    ],
)
def test_results_of_an_extractor_that_cannot_be_used(capsys, folder, code, message):
    name = f"useless_{len(code)}"
    (folder / f"{name}.py").write_text(code)
    status, out, err = stats(capsys, f"{name}:make")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_an_error_of_this_package_asks_for_a_report(capsys, monkeypatch):
    def broken(path):
        raise AttributeError("internal\x1b[31m")

    monkeypatch.setattr(cli, "file_info", broken)
    code, out, err = run(capsys, "info", "images.npz")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):")
    assert err.splitlines()[-2] == r"AttributeError: internal\x1b[31m"
    assert re.search(
        rf"error in fidfast {fidfast.__version__}: please report it, .*: fidfast info images.npz$", err.strip()
    )


def test_files_of_the_current_folder_replace_no_module(capsys, folder, monkeypatch):
    """An extractor there is found, after the modules that are installed."""
    assert str(folder) not in sys.path
    for name in ("email", "wave", "lone_network"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        (folder / f"{name}.py").write_text(GOOD)
    assert stats(capsys, "lone_network:make")[0] == 0
    code, _, err = stats(capsys, "wave:make")
    assert (code, "has no attribute 'make'" in err, str(folder) in err) == (1, True, False)
    assert sys.path[-1] == str(folder)
    monkeypatch.setattr(sys, "path", sys.path[:-1])
    monkeypatch.setattr(
        "fidfast.torch._extractors.named.efficientnet_lite0", lambda: ft.as_extractor(torch.nn.Flatten())
    )
    assert stats(capsys, "efficientnet-lite0")[0] == 0
    assert str(folder) not in sys.path


# Signals ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ordinary_handlers():
    """The handlers of a command in a terminal; those of a command in the background ignore some signals."""
    ordinary = {"SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL, "SIGINT": signal.default_int_handler}
    before = {name: signal.signal(getattr(signal, name), handler) for name, handler in ordinary.items()}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.mark.usefixtures("ordinary_handlers")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_saves_what_is_done(capsys, folder, monkeypatch, name, code):
    (folder / "plain_means.py").write_text(GOOD)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    call, calls = extraction_pass.output_of, []

    def signalled(self, images):
        calls.append(len(images))
        if len(calls) == 3:
            os.kill(os.getpid(), getattr(signal, name))
        return call(self, images)

    expected = tuple(stats(capsys, "plain_means:make", out="expected.npz"))
    monkeypatch.setattr(extraction_pass, "output_of", signalled)
    status, out, err = stats(capsys, "plain_means:make", "--batch-size", "4")
    reason = "interrupted" if name == "SIGINT" else f"ended by {name}"
    assert (status, out) == (code, "")
    assert err == f"fidfast: {reason}; continue with the same command: out.partial.npz holds 8 images\n"
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    status, out, _ = stats(capsys, "plain_means:make", "--batch-size", "4")
    assert (status, out.replace("out.npz", "expected.npz")) == expected[:2]
    assert calls == [4, 4, 4, 4]
    assert fidfast.GaussianStats.load("out.npz") == fidfast.GaussianStats.load("expected.npz")
    assert not (folder / "out.partial.npz").exists()


# Results that cannot be saved ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["nothing", "result"])
def test_a_result_that_cannot_be_saved(capsys, folder, monkeypatch, kept):
    """The output becomes a folder during the run."""
    (folder / "other_means.py").write_text(GOOD)
    monkeypatch.setattr(extraction_pass, "CHECKPOINT_INTERVAL", 0.0)
    save, calls = fidfast.GaussianStats.save, []

    def failing(self, path):
        calls.append(path)
        if len(calls) == 1:
            os.mkdir("out.npz")
        elif kept == "nothing":
            raise OSError(28, "No space left on device")
        save(self, path)

    with monkeypatch.context() as context:
        context.setattr(fidfast.GaussianStats, "save", failing)
        code, out, err = stats(capsys, "other_means:make")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("fidfast: cannot write out.npz (out.npz is a folder")
    assert ("the statistics are in " in err) == (kept == "result")
    assert ("continue with the same command: out.partial.npz holds 12 images" in err) == (kept == "nothing")
    os.rmdir("out.npz")
    passes = []
    call = extraction_pass.output_of
    monkeypatch.setattr(extraction_pass, "output_of", lambda *arguments: (passes.append(1), call(*arguments))[1])
    code, out, err = stats(capsys, "other_means:make")
    assert (code, passes) == (0, [])
    assert sorted(path.name for path in folder.glob("*.npz")) == ["images.npz", "out.npz"]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("folder/", "folder/ is the name of a folder"),
        ("new/", "new/ is the name of a folder"),
        ("", "the name of the file to write is empty"),
        ("-", "the output is a file, not standard output"),
        ("~/new", "no such folder to write to: ~"),
        ("same", "are the same file: pass another name"),
        ("images.partial", "images.partial.npz would replace the input images.npz"),
    ],
)
def test_outputs_that_cannot_be_written(capsys, folder, out, message):
    os.mkdir("folder")
    os.symlink("same.npz", "same.partial.npz")
    os.symlink("images.npz", "images.partial.npz")
    np.save("rows.npy", np.eye(5))
    source = "images.npz" if out == "images.partial" else "rows.npy"
    before = sorted(os.listdir())
    code, printed, err = run(capsys, "stats", source, out)
    assert (code, printed) == (1, "")
    assert message in err
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("out", "written"), [("a", "a.npz"), ("a.pt", "a.pt.npz"), (".npz", ".npz"), ("n" * 251, None)]
)
def test_the_path_that_is_printed_is_the_one_written(capsys, folder, out, written):
    np.save("rows.npy", np.eye(5))
    before = set(os.listdir())
    code, printed, _ = run(capsys, "stats", "rows.npy", out)
    written = written or f"{out}.npz"
    assert (code, set(os.listdir()) - before) == (0, {written})
    assert printed.startswith(f"{written}: dim 5")
